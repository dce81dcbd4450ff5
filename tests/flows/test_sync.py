"""From a withdrawal that the controller published to the refusal on another device: one sync of that device."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from facekeep import Device
from facekeep.audit.trail import parse_entry
from facekeep.clock import ManualClock, SystemClock
from facekeep.consent import ConsentPolicy
from facekeep.errors import FacekeepError
from facekeep.submission import Patience
from facekeep_server.assembly import assemble
from facekeep_server.store.tables import StoredRevocationList
from tests.flows.conftest import CountedModels, enrol, picture
from tests.flows.log_servers import RealServer
from tests.flows.test_withdrawal_at_the_next_call import DEPENDENT, refused
from tests.sdk.consent_setting import ISSUER, revocation_note
from tests.sdk.shell_in_process import InProcess

ONCE = Patience(attempts=1, timeout_seconds=5)


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Iterator[RealServer]:
    with RealServer(tmp_path / "server", clock, revocations={"issuers": [str(ISSUER.verifier)]}).running() as running:
        yield running


def publish(server: RealServer, note: bytes) -> None:
    other = assemble(server.configuration(), clock=server.clock)
    other.revocations.publish(note)
    other.store.close()


def joined(device: Device, server: RealServer) -> str:
    """A device that is enrolled, with one person; return how lists name that person."""
    device.consents.set_policy(DEPENDENT)
    device.log.enrol(server.url, server.code(), trust=server.trust())
    enrol(device, "alice", 1)
    assert device.verify("alice", picture(1, 2)).is_match
    return device.consents.records("alice")[0].principal_id


def test_one_sync_and_the_next_call_refuses(device: Device, models: CountedModels, server: RealServer, clock: ManualClock) -> None:
    principal = joined(device, server)
    before = device.log.sync(patience=ONCE)
    assert (before.revocations, before.log.waiting) == (None, 0)
    assert device.verify("alice", picture(1, 2)).is_match
    # Withdrawn at a counter far away: the controller signs, the server passes it on.
    publish(server, revocation_note(1, {principal: clock.now()}, issued_at=clock.now()))
    done = device.log.sync(patience=ONCE)
    assert done.revocations is not None
    assert (done.revocations.withdrawn, len(done.revocations.erasures)) == (1, 1)
    assert refused(device, models) == {"consent.none"}
    codes = [parse_entry(entry)["event"] for entry in device.trail_entries()]
    assert codes.index("revocation.imported") < codes.index("template.erased") < done.log.submitted, "in the log with the same sync"
    again = device.log.sync(patience=ONCE)
    assert again.revocations is None, "the newest is here already"


def test_fresh_lists_keep_a_consent_alive_and_none_end_it(
    device: Device, models: CountedModels, server: RealServer, clock: ManualClock
) -> None:
    joined(device, server)
    for epoch in range(1, 4):
        clock.advance(timedelta(days=6))
        publish(server, revocation_note(epoch, issued_at=clock.now()))
        device.log.sync(patience=ONCE)
        assert device.verify("alice", picture(1, 2)).is_match
    clock.advance(timedelta(days=7))
    device.log.sync(patience=ONCE)
    assert refused(device, models) == {"consent.revocation_stale"}, "a server that withholds lists stops what depends on them"


def hand_out(server: RealServer, note: bytes) -> None:
    """What an operator can do who writes into the database."""
    values = {"epoch": 99, "head": b"", "note": note, "received_at": ""}
    other = assemble(server.configuration(), clock=server.clock)
    with other.store.writing() as connection:
        connection.execute(delete(StoredRevocationList))
        connection.execute(insert(StoredRevocationList).values(issuer=ISSUER.verifier.name, **values))
    other.store.close()


def test_a_list_that_cannot_be_used_does_not_keep_the_trail_from_the_log(
    device: Device, server: RealServer, clock: ManualClock
) -> None:
    joined(device, server)
    device.revocations.import_list(revocation_note(4, issued_at=clock.now()))
    older, other = revocation_note(3, issued_at=clock.now()), revocation_note(4, issued_at=clock.now(), days=3)
    for answer, code in ((older, "consent.revocation_older"), (other, "consent.revocation_fork"), (b"x", "trust.malformed")):
        hand_out(server, answer)
        with pytest.raises(FacekeepError) as caught:
            device.log.sync(patience=ONCE)
        assert caught.value.code == code
        assert device.log.status().waiting == 0, "all of the trail is in the log, nothing of the list is here"
    assert device.verify("alice", picture(1, 2)).is_match


def test_without_an_issuer_it_only_submits(device: Device, tmp_path: Path, clock: ManualClock) -> None:
    with RealServer(tmp_path / "plain", clock).running() as plain:
        device.log.enrol(plain.url, plain.code(), trust=plain.trust())
        done = device.log.sync(patience=ONCE)
        assert (done.revocations, done.log.waiting) == (None, 0)
        device.consents.set_policy(ConsentPolicy(revocation_issuer=ISSUER.verifier, revocation_max_age="P7D"))
        assert device.log.sync(patience=ONCE).revocations is None, "a server that knows no list of this issuer"
    with pytest.raises(FacekeepError) as caught:
        device.log.sync(patience=ONCE)
    assert caught.value.code == "log.unreachable"


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shell = InProcess(tmp_path, monkeypatch, capsys)
    shell.run("init")
    assert shell.json("log", "sync", code=10)["error"]["code"] == "log.not_enrolled"
    policy = f'[revocation]\nissuer = "{ISSUER.verifier}"\nmax_age = "P7D"\n'
    server = RealServer(tmp_path / "now", SystemClock(), revocations={"issuers": [str(ISSUER.verifier)]})
    for name, text in (("policy.toml", policy), ("trust.txt", server.trust()), ("code.txt", server.code())):
        (tmp_path / name).write_text(text)
    publish(server, revocation_note(2, issued_at=SystemClock().now()))
    with server.running():
        shell.run("consent", "policy", "set", "policy.toml")
        shell.run("log", "enrol", server.url, "--policy", "trust.txt", "--code-file", "code.txt")
        assert shell.json("log", "sync") == {"epoch": 2, "withdrawn": 0, "erased": 0, "submitted": 4, "waiting": 0}
        assert "No newer revocation list" in shell.run("log", "sync")
