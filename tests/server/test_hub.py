"""The signed app and the hub that hands it out."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from datetime import UTC, datetime

import httpx
import pytest

pytest.importorskip("flwr")

from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from facekeep.errors import TrustError
from facekeep.signing import DeviceKey
from facekeep_server.hub.bundle import APP_ID, APP_VERSION, SignedApp, build_app, sign_app, trusted_entities
from facekeep_server.hub.service import create_hub
from tests.flows.log_servers import free_port, listening

# Raised inside Flower, by a package it pins.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture(scope="module")
def key() -> DeviceKey:
    return DeviceKey(os.urandom(32))


@pytest.fixture(scope="module")
def app(key: DeviceKey) -> SignedApp:
    return sign_app(build_app(), key, NOW)


def test_the_bundle_is_the_same_each_time_and_holds_shims_only(app: SignedApp) -> None:
    assert build_app() == app.fab
    names = zipfile.ZipFile(io.BytesIO(app.fab)).namelist()
    assert sorted(names) == [
        ".info/CONTENT",
        "LICENSE",
        "facekeep_rounds/__init__.py",
        "facekeep_rounds/client.py",
        "facekeep_rounds/server.py",
        "pyproject.toml",
    ]


def test_flowers_own_verifier_takes_the_signature(app: SignedApp, key: DeviceKey) -> None:
    import json

    import yaml  # type: ignore[import-untyped]
    from flwr.supercore.fab import Fab
    from flwr.supernode.start_client_internal import _verify_fab

    trusted = yaml.safe_load(trusted_entities(key.public_bytes))
    assert load_ssh_public_key(trusted["fpk_facekeep"].encode())
    entry = app.to_verification()
    verifications = {entry.pop("public_key_id"): json.dumps(entry), "valid_license": "Valid"}
    assert _verify_fab(Fab(app.sha256, app.fab, verifications), trusted)
    assert not _verify_fab(Fab(app.sha256, app.fab + b"x", verifications), trusted)
    other = yaml.safe_load(trusted_entities(DeviceKey(os.urandom(32)).public_bytes))
    assert not _verify_fab(Fab(app.sha256, app.fab, verifications), other)


def test_a_signed_app_survives_its_file_and_a_changed_one_does_not(app: SignedApp, key: DeviceKey) -> None:
    app.verify(key.public_bytes)
    assert SignedApp.parse(app.to_bytes(), app.fab) == app
    with pytest.raises(TrustError):
        SignedApp.parse(app.to_bytes(), app.fab + b"x")
    for bad in (b"", b"{}", b"[]", app.to_bytes().replace(b'"signature": "', b'"signature": "AAAA')):
        with pytest.raises(TrustError):
            SignedApp.parse(bad, app.fab)
    with pytest.raises(TrustError):
        app.verify(os.urandom(32))


def test_the_hub_answers_as_the_superlink_asks(app: SignedApp) -> None:
    port = free_port()
    with listening(create_hub(app), port), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        asked = {"app_id": APP_ID, "app_version": None, "flwr_version": "1.41.0"}
        found = client.post("/v1/hub/fetch-fab", json=asked).json()
        fab = client.get(found["fab_url"]).content
        assert hashlib.sha256(fab).hexdigest() == app.sha256
        assert found["verifications"] == [app.to_verification()]
        assert client.post("/v1/hub/fetch-fab", json={**asked, "app_version": APP_VERSION}).status_code == 200
        old = client.post("/v1/hub/fetch-fab", json={**asked, "app_version": "0.9.0"})
        assert (old.status_code, old.json()) == (404, {"detail": {"available_app_versions": [APP_VERSION]}})
        assert client.post("/v1/hub/fetch-fab", json={**asked, "app_id": "@other/app"}).status_code == 404
        assert client.post("/v1/hub/fetch-fab", json={"app_id": 7}).status_code == 422
        assert client.get("/v1/hub/fabs/" + "0" * 64).status_code == 404
        for path in ("/docs", "/openapi.json", "/v1/update-check/flwr"):
            assert client.get(path).status_code == 404
