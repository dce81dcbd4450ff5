"""What `federate init` and its sisters leave on the disk."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

pytest.importorskip("flwr")

from facekeep.clock import SystemClock
from facekeep.errors import FederationError, TrustError
from facekeep.flower.node import supernode_launch
from facekeep.participation import DeviceKeys
from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import create_federation, create_kit, load_policy, renew_certificate
from facekeep_server.federation.files import replace_file
from facekeep_server.federation.fleet import admit, read_roster
from facekeep_server.federation.services import NAMES, render
from facekeep_server.federation.state import FederationState, Settings
from facekeep_server.federation.superlink import superlink_launch
from tests.server.federation_setting import NOW, Keys, admit_fleet, make_state


@pytest.fixture
def state(tmp_path: Path) -> FederationState:
    return make_state(tmp_path / "fleet")


def test_private_files_are_their_owners_only_and_offline_keys_lie_apart(state: FederationState) -> None:
    public = {".pem", ".pub", ".toml", ".yaml", ".service", ".conf"}
    for path in state.root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700, path
        elif path.suffix not in public or path.name == "federation.toml":
            assert mode == 0o600, path
    assert {path.name for path in (state.root / "offline").iterdir()} == {
        "authority.key",
        "app.key",
        "ca.key",
        *(f"release-{n}.key" for n in (1, 2, 3)),
    }
    assert {path.name for path in (state.root / "keys").iterdir()} == {"planner.key", "coordinator.key"}


def test_nothing_made_before_is_made_again(state: FederationState) -> None:
    with pytest.raises(ServerError) as caught:
        create_federation(state.root, state.settings, NOW, minimum_cohort=3, epsilon=1.0)
    assert caught.value.code == "server.invalid_request"
    create_kit(state, "gate-1")
    with pytest.raises(ServerError):
        create_kit(state, "gate-1")


def test_the_policy_of_the_devices_names_every_key(state: FederationState) -> None:
    policy = load_policy(state)
    assert (policy.name, policy.minimum_cohort, policy.release_quorum, len(policy.release_keys)) == ("fleet.example.org", 3, 2, 3)
    assert {key.name for key in (*policy.authority_keys, *policy.planner_keys)} == {
        "fleet.example.org/authority",
        "fleet.example.org/planner",
    }


def test_a_client_that_believes_the_authority_believes_the_superlink(tmp_path: Path) -> None:
    now = SystemClock().now()
    state = make_state(tmp_path / "fleet", now)
    certificate = x509.load_pem_x509_certificate((state.root / "tls" / "superlink.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert certificate.not_valid_after_utc > now + timedelta(days=390)
    _handshake(state)
    before = certificate.serial_number
    renew_certificate(state, ["198.51.100.7"], now)
    after = x509.load_pem_x509_certificate((state.root / "tls" / "superlink.pem").read_bytes())
    assert after.serial_number != before
    _handshake(state)


def _handshake(state: FederationState) -> None:
    import socket

    tls = state.root / "tls"
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(tls / "superlink.pem", tls / "superlink.key")
    here = ssl.create_default_context(cafile=str(tls / "ca.pem"))
    # As Python 3.13 does by default: a certificate that only older verifiers take is of no use.
    here.verify_flags |= ssl.VERIFY_X509_STRICT
    one, other = socket.socketpair()
    thread = threading.Thread(target=lambda: there.wrap_socket(other, server_side=True).close())
    thread.start()
    try:
        here.wrap_socket(one, server_hostname="127.0.0.1").close()
    finally:
        thread.join()


def test_a_kit_has_what_flowers_own_tools_read(state: FederationState, tmp_path: Path) -> None:
    kit = create_kit(state, "gate-1", port=9200)
    load_ssh_private_key((kit / "node.key").read_bytes(), password=None)
    load_ssh_public_key((kit / "node.key.pub").read_bytes())
    launch = supernode_launch(kit, tmp_path / "home")
    assert launch.environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert launch.environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert "--trusted-entities" in launch.arguments
    assert "--insecure" not in launch.arguments
    assert launch.arguments[-1] == "9200"


@pytest.mark.parametrize("name", ["node.key", "ca.pem", "trusted-entities.yaml", "node.toml"])
def test_a_kit_that_lacks_something_starts_nothing(state: FederationState, tmp_path: Path, name: str) -> None:
    kit = create_kit(state, "gate-1")
    (kit / name).unlink()
    with pytest.raises(FederationError) as caught:
        supernode_launch(kit, tmp_path)
    assert caught.value.code == "federation.invalid_policy"


def test_an_empty_list_of_trusted_entities_is_not_trust_in_everybody(state: FederationState, tmp_path: Path) -> None:
    kit = create_kit(state, "gate-1")
    (kit / "trusted-entities.yaml").write_text("\n")
    with pytest.raises(FederationError, match="any code"):
        supernode_launch(kit, tmp_path)


def test_the_superlink_is_started_with_every_flag_that_matters(state: FederationState) -> None:
    launch = superlink_launch(state)
    for flag in ("--enable-supernode-auth", "--disable-runtime-dependency-installation", "--database", "--ssl-certfile"):
        assert flag in launch.arguments
    assert launch.environment["FLWR_SUPERGRID_API_URL"] == "http://127.0.0.1:8419/v1"
    assert "--insecure" not in launch.arguments


@pytest.mark.parametrize(
    "change",
    [
        {"name": "Fleet"},
        {"control": "nowhere"},
        {"hub": "http://hub.example.org:80"},
        {"release_quorum": 4},
        {"release_quorum": 0},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(change: dict[str, object]) -> None:
    good = {
        "name": "fleet",
        "superlink": "fleet.example.org:443",
        "control": "127.0.0.1:8000",
        "hub": "http://127.0.0.1:8419",
        "release_keys": 3,
        "release_quorum": 2,
    }
    assert Settings.parse(Settings(**good).to_toml()) == Settings(**good)  # type: ignore[arg-type]
    with pytest.raises(ServerError):
        Settings(**{**good, **change})  # type: ignore[arg-type]


def test_others_may_not_look_in_and_two_may_not_work_at_once(state: FederationState) -> None:
    with state.locked(), pytest.raises(ServerError) as caught, FederationState.open(state.root).locked():
        pass
    assert caught.value.code == "server.unavailable"
    state.root.chmod(0o755)
    with pytest.raises(ServerError, match="others may look"):
        FederationState.open(state.root)


def test_devices_are_admitted_once_and_the_roster_is_signed(state: FederationState) -> None:
    signed, fleet = admit_fleet(state, 4)
    assert len(read_roster(state).roster) == 4
    again = admit(state, [fleet[0].introduction(state), Keys().introduction(state)])
    assert len(again.roster) == 5
    assert again.roster.entries[:4] == signed.roster.entries
    # The same device with another exchange key is not the same device.
    swapped = Keys(DeviceKeys(fleet[0].keys.device, os.urandom(32)))
    with pytest.raises(FederationError):
        admit(state, [swapped.introduction(state)])


def test_an_introduction_that_was_changed_admits_nobody(state: FederationState) -> None:
    import base64

    raw = bytearray(base64.b64decode(Keys().introduction(state)))
    raw[40] ^= 1  # in the exchange key: whoever swaps it would read the shares meant for this device
    with pytest.raises(TrustError):
        admit(state, [base64.b64encode(bytes(raw))])
    for bad in (b"", b"nonsense", b"\xff" * 100, base64.b64encode(b"x" * 4000)):
        with pytest.raises(FederationError):
            admit(state, [bad])


def test_a_roster_that_the_authority_did_not_sign_is_not_used(state: FederationState) -> None:
    admit_fleet(state, 3)
    before = (state.root / "roster" / "roster").read_bytes()
    admit_fleet(state, 1)
    replace_file(state.root / "roster" / "roster", before)
    with pytest.raises(ServerError, match="authority"):
        read_roster(state)


def test_offline_keys_are_found_where_they_were_moved(state: FederationState, tmp_path: Path) -> None:
    away = tmp_path / "stick"
    (state.root / "offline").rename(away)
    with pytest.raises(ServerError) as caught:
        admit(state, [Keys().introduction(state)])
    assert caught.value.code == "server.no_key"
    assert len(admit(state, [Keys().introduction(state)], away).roster) == 1
    (away / "authority.key").chmod(0o644)
    with pytest.raises(ServerError, match="only its owner"):
        admit(state, [Keys().introduction(state)], away)


def test_a_file_is_whole_after_a_failed_write(state: FederationState, monkeypatch: pytest.MonkeyPatch) -> None:
    path = state.root / "something"
    replace_file(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ServerError, match="No space left"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in state.root.iterdir() if item.name.startswith(".something")] == []


def test_the_service_files_name_this_federation(state: FederationState) -> None:
    for name in NAMES:
        text = render(state, name)
        assert "{" not in text.replace("server {", "").replace("location /v1/fleet/ {", "").replace("location / {", ""), name
    assert "location /v1/fleet/" in render(state, "nginx.conf")
    assert f"FACEKEEP_FEDERATION={state.root}" in render(state, "facekeep-superlink.service")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(".service")])
def test_systemd_takes_the_units_and_finds_them_well_enclosed(state: FederationState, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    # A program that is there: which one does not matter here.
    path.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", render(state, name), flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if name in line]
    assert said == [], said
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=35", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_the_command_line_makes_a_federation(tmp_path: Path) -> None:
    import sys

    program = str(Path(sys.executable).with_name("facekeep-server"))
    arguments = ["federate", "init", "--state", str(tmp_path / "f"), "--name", "demo", "--superlink", "localhost:8443", "--json"]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=True)
    made = json.loads(done.stdout)
    assert Path(made["offline"]).is_dir()
    done = subprocess.run(
        [program, "federate", "kit", "gate-1", "gate-2", "--state", str(tmp_path / "f"), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(json.loads(done.stdout)["kits"]) == {"gate-1", "gate-2"}
