"""Revocation lists at the server: only what a configured issuer signed, never an older one, handed out as it was signed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from facekeep.clock import ManualClock
from facekeep.consent import ControllerKey
from facekeep_server.access.roles import Role
from facekeep_server.assembly import Server
from facekeep_server.cli.app import app as commands
from facekeep_server.errors import ServerError
from facekeep_server.log.finding import find_incidents, read_evidence
from tests.sdk.consent_setting import ISSUER, revocation_note
from tests.server.conftest import served
from tests.server.devices import TestDevice

HOUR = timedelta(hours=1)
STRANGER = ControllerKey("stranger.example/revocations", bytes([9]) * 32)


@pytest.fixture
def issuing(make_server: Callable[..., Server]) -> Server:
    return make_server(revocations={"issuers": [str(ISSUER.verifier)]})


@pytest.fixture
def caller(issuing: Server) -> Iterator[httpx.Client]:
    with served(issuing) as client:
        yield client


def test_a_list_goes_in_once_and_out_as_it_was_signed(issuing: Server, caller: httpx.Client, clock: ManualClock) -> None:
    token = issuing.tokens.create(Role.ADMINISTRATOR, "admin", HOUR)[0]
    bearer = {"Authorization": f"Bearer {token}"}
    device = TestDevice(bytes([7]) * 32, clock=clock)
    device.enrol(caller, issuing.codes.create("gate", HOUR)[0])
    name = ISSUER.verifier.name
    none = device.request(caller, "GET", f"/v1/revocations?issuer={name}")
    assert (none.status_code, none.json()["code"]) == (404, "revocation.none")
    first, second = (revocation_note(epoch, {"ab" * 32: clock.now()}, issued_at=clock.now()) for epoch in (1, 2))
    for note, is_new in ((first, True), (first, False), (second, True), (second, False)):
        answer = caller.post("/v1/admin/revocations", content=note, headers=bearer)
        assert (answer.status_code, answer.json()["is_new"]) == (201, is_new)
    assert device.request(caller, "GET", f"/v1/revocations?issuer={name}").content == second
    assert device.request(caller, "GET", f"/v1/revocations?issuer={name}&after=1").content == second
    newest = device.request(caller, "GET", f"/v1/revocations?issuer={name}&after=2")
    assert (newest.status_code, newest.content) == (204, b"")
    # Who may not: a device by its own word, an administrator, an auditor, nobody.
    assert caller.get(f"/v1/revocations?issuer={name}").status_code == 401
    assert caller.get(f"/v1/revocations?issuer={name}", headers=bearer).status_code == 401
    auditor = {"Authorization": f"Bearer {issuing.tokens.create(Role.AUDITOR, 'auditor', HOUR)[0]}"}
    assert caller.post("/v1/admin/revocations", content=second, headers=auditor).json()["code"] == "request.forbidden"
    assert caller.post("/v1/admin/revocations", content=second).status_code == 401
    issuing.devices.revoke(device.id)
    assert device.request(caller, "GET", f"/v1/revocations?issuer={name}").json()["code"] == "device.revoked"


def test_what_is_older_forked_foreign_or_broken_is_refused(issuing: Server, clock: ManualClock) -> None:
    now = clock.now()
    good = revocation_note(5, {"ab" * 32: now}, issued_at=now)
    issuing.revocations.publish(good)
    changed = good.replace(b"epoch 5", b"epoch 6")
    foreign = revocation_note(6, issued_at=now, issuer=STRANGER)
    bad = {
        "revocation.older": [revocation_note(4, issued_at=now)],
        "revocation.fork": [revocation_note(5, issued_at=now), revocation_note(5, issued_at=now, days=3)],
        "revocation.invalid": [b"", b"nonsense", good[:-3], good + b"x", changed, foreign, b"'; DROP TABLE entries;--", bytes(9)],
    }
    for code, notes in bad.items():
        for note in notes:
            with pytest.raises(ServerError) as caught:
                issuing.revocations.publish(note)
            assert caught.value.code == code
    assert issuing.revocations.newest(ISSUER.verifier.name, 0) == good
    incidents = find_incidents(issuing.store, -1, 100)
    assert [(row.code, row.number, row.evidence) for row in incidents] == [
        ("revocation.fork", 5, True),
        ("revocation.fork", 5, False),
    ]
    assert read_evidence(issuing.store, incidents[0].id) == bad["revocation.fork"][0]
    for issuer in (STRANGER.verifier.name, "", "' OR 1=1", "é" * 200):
        with pytest.raises(ServerError, match=r"revocation\.none"):
            issuing.revocations.newest(issuer, 0)


def test_racing_publications_end_with_the_newest(issuing: Server, clock: ManualClock) -> None:
    notes = [revocation_note(epoch, issued_at=clock.now()) for epoch in range(1, 13)]
    refused: list[str] = []

    def publish(note: bytes) -> None:
        try:
            issuing.revocations.publish(note)
        except ServerError as error:
            refused.append(error.code)

    issuing.revocations.publish(notes[0])
    threads = [threading.Thread(target=publish, args=(note,)) for note in reversed(notes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(refused) <= {"revocation.older"}
    assert issuing.revocations.newest(ISSUER.verifier.name, 0) == notes[-1]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_commands(issuing: Server, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekeep_server.cli.opening.Options.configuration", lambda _: issuing.configuration)
    (tmp_path / "list").write_bytes(revocation_note(3, {"ab" * 32: clock.now()}, issued_at=clock.now()))
    runner = CliRunner()
    assert "No revocation list" in runner.invoke(commands, ["revocations", "list"]).output
    done = json.loads(runner.invoke(commands, ["revocations", "publish", str(tmp_path / "list"), "--json"]).output)
    assert done == {"issuer": ISSUER.verifier.name, "epoch": 3, "entries": 1, "is_new": True}
    assert "published before" in runner.invoke(commands, ["revocations", "publish", str(tmp_path / "list")]).output
    assert "epoch 3  1 entries" in runner.invoke(commands, ["revocations", "list"]).output
    failed = runner.invoke(commands, ["revocations", "publish", str(tmp_path / "absent")])
    assert isinstance(failed.exception, ServerError)
    assert failed.exception.code == "server.invalid_request"


def test_issuers_that_are_none_are_refused_at_once(make_server: Callable[..., Server]) -> None:
    for text in ("", "name", "name+00000000+AAAA"):
        with pytest.raises(ServerError) as caught:
            make_server(revocations={"issuers": [text]})
        assert caught.value.code == "server.invalid_configuration"
