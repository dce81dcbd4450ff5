"""The server has its checkpoints cosigned: what it publishes was seen by the quorum, never shrinks, and convinces an auditor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from facekeep.auditor import AuditPolicy
from facekeep.clock import ManualClock
from facekeep.errors import LogError
from facekeep.logfiles import LogDirectory, audit_log
from facekeep.signing import DeviceKey
from facekeep.tlog import TrustPolicy
from facekeep.tlog.proof import verify_proof
from facekeep.tlog.witness import witness_vkey
from facekeep_server.assembly import Server
from facekeep_server.cli.app import app as commands
from facekeep_server.errors import ServerError
from facekeep_server.evidence.entries import prove_entry
from facekeep_server.evidence.logstate import checkpoint_facts, witnesses_table
from facekeep_server.evidence.sources import Evidence
from facekeep_server.log.finding import find_incidents
from facekeep_server.log.witnessing import Cosigning
from facekeep_server.witness import Witness, WitnessStore, create_witness_app, logs_of
from tests.flows.log_servers import Liar, free_port, http, listening
from tests.server.conftest import ORIGIN, served
from tests.server.devices import TestDevice

HOUR = timedelta(hours=1)
NAMES = ("w1.example", "w2.example", "w3.example")
KEYS = {name: DeviceKey(bytes([number]) * 32) for number, name in enumerate(NAMES, 40)}


@dataclass
class Fleet:
    """A server with three witnesses of its own, two of whom have to cosign."""

    server: Server
    client: httpx.Client
    device: TestDevice
    clock: ManualClock
    folder: Path
    ports: dict[str, int]

    @contextlib.contextmanager
    def witness(self, name: str) -> Iterator[None]:
        """One of them, at its address, with the memory it had before."""
        vkeys = "".join(f"log {row.key.to_vkey()}\n" for row in self.server.keys.list())
        store = WitnessStore(self.folder / name)
        followed = logs_of(TrustPolicy.parse(vkeys + "quorum none\n"))
        try:
            with listening(create_witness_app(Witness(name, KEYS[name], followed, store, self.clock)), self.ports[name]):
                yield
        finally:
            store.close()

    def trust(self) -> TrustPolicy:
        """The policy of somebody outside: the log's keys and the quorum."""
        vkeys = "".join(f"log {row.key.to_vkey()}\n" for row in self.server.keys.list())
        return TrustPolicy.parse(vkeys + witness_lines(self.ports))

    def round(self) -> None:
        """Let the server ask, now."""
        assert self.server.cosigning is not None
        self.server.cosigning.run_once()

    def write(self, count: int = 3) -> None:
        assert self.device.submit(self.client, self.device.write(count)).status_code == 200

    def note(self) -> str:
        return self.client.get("/log/checkpoint").text

    def size(self) -> int:
        return int(self.note().split("\n")[1])

    def outcomes(self) -> dict[str, str]:
        return {name: row.outcome for name, row in self.server.heads.witnesses().items()}


def witness_lines(ports: dict[str, int]) -> str:
    lines = [f"witness {name} {witness_vkey(name, KEYS[name].public_bytes)} http://127.0.0.1:{ports[name]}" for name in NAMES]
    return "\n".join([*lines, f"group two 2 {' '.join(NAMES)}", "quorum two", ""])


@pytest.fixture
def fleet(make_server: Callable[..., Server], clock: ManualClock, tmp_path: Path) -> Iterator[Fleet]:
    ports = {name: free_port() for name in NAMES}
    (tmp_path / "witnesses.policy").write_text(witness_lines(ports))
    # An hour between rounds: the tests say when.
    server = make_server(witnesses={"policy": str(tmp_path / "witnesses.policy"), "every_seconds": 3600, "timeout_seconds": 5})
    with served(server) as client:
        device = TestDevice(bytes([7]) * 32, clock=clock)
        device.enrol(client, server.codes.create("gate", HOUR)[0])
        yield Fleet(server, client, device, clock, tmp_path, ports)


def test_what_is_published_was_seen_by_the_quorum_and_never_shrinks(fleet: Fleet) -> None:
    fleet.write()
    with pytest.raises(LogError, match=r"log\.no_quorum"):
        fleet.trust().verify(fleet.note())
    with fleet.witness(NAMES[0]):
        fleet.round()
        assert fleet.server.heads.find() is None, "one of three is no quorum of two"
        with fleet.witness(NAMES[1]):
            fleet.clock.advance(HOUR)
            fleet.round()
            first = fleet.size()
            assert set(fleet.trust().verify(fleet.note()).cosignatures) == set(NAMES[:2])
            assert fleet.outcomes() == {NAMES[0]: "ok", NAMES[1]: "ok", NAMES[2]: "log.unreachable"}
    fleet.write()
    fleet.round()
    assert fleet.size() == first < fleet.server.reader.head().size, "what nobody witnessed is not published"
    answer = fleet.device.submit(fleet.client, fleet.device.write(1)).json()
    assert int(answer["checkpoint"].split("\n")[1]) == fleet.server.reader.head().size, "a device gets the proof of its own at once"
    with fleet.witness(NAMES[1]), fleet.witness(NAMES[2]):
        fleet.clock.advance(HOUR)
        fleet.round()
        assert fleet.size() == fleet.server.reader.head().size
        assert set(fleet.trust().verify(fleet.note()).cosignatures) == set(NAMES[1:])
        with fleet.witness(NAMES[0]):
            fleet.clock.advance(HOUR)
            fleet.round()
            assert set(fleet.trust().verify(fleet.note()).cosignatures) == set(NAMES), "one that was late is added"
    assert fleet.server.heads.publish(first, "an older note", fleet.clock.now()) is False
    figures = fleet.client.get("/metrics").text
    assert f"facekeep_log_size_published {float(fleet.size())}" in figures
    assert 'facekeep_witness_answers_total{outcome="ok",witness="w2.example"}' in figures


def test_an_auditor_with_a_quorum_is_convinced(fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    fleet.write(300)
    with fleet.witness(NAMES[0]), fleet.witness(NAMES[2]):
        fleet.round()
    fleet.write(5)
    text = fleet.trust().verify(fleet.note())
    vkeys = "".join(f"log {row.key.to_vkey()}\n" for row in fleet.server.keys.list())
    policy = AuditPolicy.parse(f"facekeep_audit_policy = 1\ntrust = '''\n{vkeys}{witness_lines(fleet.ports)}'''\n")
    proved = prove_entry(Evidence.of(fleet.server), 5)
    verify_proof(proved.proof, proved.line.line, policy.trust)
    beyond = prove_entry(Evidence.of(fleet.server), fleet.server.reader.head().size - 1)
    assert beyond.size == fleet.server.reader.head().size, "what is not witnessed yet is proved by the log alone"
    # The command, as an operator would give it.
    monkeypatch.setattr("facekeep_server.cli.opening.Options.configuration", lambda _: fleet.server.configuration)
    done = CliRunner().invoke(commands, ["export-log", str(tmp_path / "copy")])
    assert done.exit_code == 0, done.output
    verdict = audit_log(LogDirectory(tmp_path / "copy"), policy, fleet.clock.now() + HOUR)
    assert {code for code in verdict.counts if code.startswith("log.")} == set(), verdict.render_text()
    assert (verdict.size, len(verdict.witnesses)) == (text.checkpoint.size, 2)


def test_the_console_says_who_cosigned_and_who_did_not(fleet: Fleet) -> None:
    fleet.write()
    with fleet.witness(NAMES[0]), fleet.witness(NAMES[2]):
        fleet.round()
    fleet.write()
    evidence = Evidence.of(fleet.server)
    rows = {row[0]: row for row in witnesses_table(evidence).rows}
    assert [rows[name][1] for name in NAMES] == ["cosigned", "not cosigned", "cosigned"]
    assert rows[NAMES[1]][3] == "log.unreachable"
    facts, note = checkpoint_facts(evidence)
    assert note == fleet.note()
    values = {fact.key: fact.value for fact in facts}
    assert (values["published"], values["size"]) == (fleet.size(), fleet.server.reader.head().size)


def test_a_log_that_was_put_back_or_forked_is_told_by_its_witnesses(fleet: Fleet, tmp_path: Path) -> None:
    fleet.write()
    with fleet.witness(NAMES[0]):
        fleet.round()
        seen = fleet.server.reader.head().size
    # Another copy of this log went on: the witness has cosigned more than this one has.
    fleet.write(9)
    fleet.clock.advance(HOUR)
    with fleet.witness(NAMES[0]):
        fleet.round()
    store = WitnessStore(tmp_path / NAMES[0])
    head = store.get(ORIGIN)
    ahead = type(head)(head.size + 50, bytes(32), head.seconds, head.note)
    store.put(ORIGIN, ahead)
    store.close()
    for _ in range(2):
        fleet.write(1)
        fleet.clock.advance(HOUR)
        with fleet.witness(NAMES[0]):
            fleet.round()
    assert fleet.outcomes()[NAMES[0]] == "log.stale"
    assert seen < head.size
    store = WitnessStore(tmp_path / NAMES[0])
    store.put(ORIGIN, type(head)(fleet.server.reader.head().size, bytes(32), head.seconds, head.note))
    store.close()
    fleet.clock.advance(HOUR)
    with fleet.witness(NAMES[0]):
        fleet.round()
    assert fleet.outcomes()[NAMES[0]] == "log.fork"
    codes = [row.code for row in find_incidents(fleet.server.store, -1, 100)]
    assert codes == ["log.stale", "log.fork"], "once each, however often it is said"


def test_both_keys_of_a_rotation_are_in_what_is_published(fleet: Fleet) -> None:
    fleet.write()
    with fleet.witness(NAMES[0]), fleet.witness(NAMES[1]):
        fleet.round()
        before, old = fleet.note(), fleet.trust()
        new = fleet.server.keys.rotate(timedelta(days=30))
        fleet.round()
    note = fleet.note()
    assert note.split("\n\n")[0] == before.split("\n\n")[0], "the log did not grow"
    assert len(fleet.trust().verify(note).cosignatures) == 2
    assert new.key.name in note
    assert len(old.verify(note).cosignatures) == 2, "who knows the old key only is not left behind"
    only_new = TrustPolicy.parse(f"log {new.key.to_vkey()}\n{witness_lines(fleet.ports)}")
    assert only_new.verify(note).unknown == 1


def test_a_log_that_stands_still_is_cosigned_again(fleet: Fleet) -> None:
    fleet.write()
    with fleet.witness(NAMES[0]), fleet.witness(NAMES[1]):
        fleet.round()
        earliest = fleet.trust().verify(fleet.note()).earliest
        note = fleet.note()
        fleet.clock.advance(HOUR)
        fleet.round()
        assert fleet.note() == note
        fleet.clock.advance(6 * HOUR)
        fleet.round()
    again = fleet.trust().verify(fleet.note())
    assert earliest is not None
    assert again.earliest is not None
    assert again.earliest - earliest == 7 * HOUR
    assert len(fleet.note().split("\n")) == len(note.split("\n")), "in place of the older ones"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_witness_that_lies_or_is_away_counts_for_nothing_and_holds_up_nobody(fleet: Fleet) -> None:
    fleet.write()
    answers = (http(200, b"nonsense\n"), http(200, "— w3.example AAAAAAA=\n".encode()), http(500, b""), http(409, b"7\n"))
    assert fleet.server.cosigning is not None
    with Liar(*answers, http(409, b"x\n", "Content-Type: text/x.tlog.size")) as liar:
        for _ in range(5):
            _point_at(fleet.server.cosigning, NAMES[2], liar.url)
            with fleet.witness(NAMES[0]), fleet.witness(NAMES[1]):
                fleet.round()
            assert len(fleet.trust().verify(fleet.note()).cosignatures) == 2
            asked = liar.asked
            fleet.round()
            assert liar.asked == asked, "it is not asked again every round"
            fleet.clock.advance(HOUR)
        assert asked == 5
    assert fleet.outcomes()[NAMES[2]] in {"log.refused", "log.malformed", "log.bad_signature"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_it_happens_by_itself(make_server: Callable[..., Server], clock: ManualClock, tmp_path: Path) -> None:
    ports = {name: free_port() for name in NAMES}
    (tmp_path / "witnesses.policy").write_text(witness_lines(ports))
    server = make_server(witnesses={"policy": str(tmp_path / "witnesses.policy"), "every_seconds": 0.1})
    with served(server) as client:
        device = TestDevice(bytes([7]) * 32, clock=clock)
        fleet = Fleet(server, client, device, clock, tmp_path, ports)
        device.enrol(client, server.codes.create("gate", HOUR)[0])
        with fleet.witness(NAMES[0]), fleet.witness(NAMES[1]):
            for _ in range(3):
                fleet.write()
                wanted, deadline = server.reader.head().size, time.monotonic() + 60
                # Before the first quorum the head is published as it is.
                while server.heads.find() is None or fleet.size() < wanted:
                    assert time.monotonic() < deadline
                    # A witness that did not answer in time is due again later, and this clock stands still.
                    clock.advance(timedelta(seconds=1))
                    time.sleep(0.02)
                fleet.trust().verify(fleet.note())


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_policy_that_cannot_be_used_is_refused_at_once(make_server: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "witnesses.policy"
    for text in (None, "nonsense\n", "quorum none\n", witness_lines(dict.fromkeys(NAMES, 1)).replace(" http://127.0.0.1:1", "")):
        if text is not None:
            path.write_text(text)
        with pytest.raises(ServerError) as caught:
            make_server(witnesses={"policy": str(path)})
        assert caught.value.code == "server.invalid_configuration"


def _point_at(cosigning: Cosigning, name: str, url: str) -> None:
    urls = cosigning._policy.urls
    assert isinstance(urls, dict)
    urls[name] = url
