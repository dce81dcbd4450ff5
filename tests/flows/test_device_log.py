"""A device and the real server: enrol, submit, follow; and servers that die, lie, cut, flood and show two histories."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from facekeep import Device, FacekeepError
from facekeep.audit import AuditEvent
from facekeep.audit.entry import make_batch
from facekeep.audit.following import ForkError, ForkEvidence
from facekeep.audit.trail import parse_entry
from facekeep.clock import ManualClock, SystemClock
from facekeep.flows.log import EVIDENCE_DIRECTORY, _read_standing
from facekeep.randomness import SystemRandomness
from facekeep.signing import DeviceKey
from facekeep.submission import LogRefusal, LogServer, Patience
from facekeep.tlog import TrustPolicy
from tests.flows.conftest import enrol, picture
from tests.flows.log_servers import Liar, RealServer, free_port, http, make_certificate, running_witness, witness_line
from tests.sdk.shell_in_process import InProcess
from tests.server.load import ServerProcess

ONCE = Patience(attempts=1, timeout_seconds=5)


@pytest.fixture
def server(tmp_path: Path, clock: ManualClock) -> Iterator[RealServer]:
    with RealServer(tmp_path / "server", clock).running() as running:
        yield running


def write(device: Device, count: int) -> None:
    """Entries of the trail, without a camera."""
    with device._vault.transaction() as transaction:
        for _ in range(count):
            transaction.append_event(AuditEvent("verification", details={"match": False, "references": 1}))


def last(device: Device) -> dict[str, object]:
    return parse_entry(device.trail_entries()[-1])


def refusal(action: Callable[[], object]) -> FacekeepError:
    with pytest.raises(FacekeepError) as caught:
        action()
    return caught.value


def test_enrol_submit_erase_submit(device: Device, server: RealServer, tmp_path: Path) -> None:
    enrol(device, "alice", 1)
    assert device.log.status().url is None
    assert refusal(device.log.submit).code == "log.not_enrolled"
    first = device.log.enrol(server.url, server.code(), trust=server.trust())
    assert (first.url, first.submitted) == (server.url, 0)
    assert last(device)["event"] == "log.enrolled"
    write(device, 2100)
    done = device.log.submit(patience=ONCE)
    assert (done.submitted, done.waiting) == (len(device.trail_entries()), 0)
    receipt = device.withdraw("alice")
    assert device.log.status().waiting == len(device.trail_entries()) - done.submitted > 0
    after = device.log.submit(patience=ONCE)
    assert (after.submitted, after.waiting) == (len(device.trail_entries()), 0)
    assert device.log.submit(patience=ONCE) == after, "nothing to do, nothing changed"
    # What the server has is what the device wrote, the erasure among it.
    verified = TrustPolicy.parse(server.trust()).verify(after.checkpoint or "").checkpoint
    assert verified.size == 1 + after.submitted + 4, "the enrolment, every entry, and a head for each of four batches"
    assert receipt.references == 1
    device.verify_vault()


def test_an_older_part_of_the_trail_may_go_once_it_is_submitted(device: Device, server: RealServer) -> None:
    device.log.enrol(server.url, server.code(), trust=server.trust())
    write(device, 20)
    submitted = device.log.submit(patience=ONCE).submitted

    def prune(transaction: object) -> None:
        transaction.prune_trail(submitted - 3)  # type: ignore[attr-defined]

    device._vault.shred(prune, lambda epoch: [])  # type: ignore[arg-type]
    write(device, 5)
    assert device.log.submit(patience=ONCE).waiting == 0
    device.verify_trail()


def test_the_server_is_away_and_comes_back(device: Device, tmp_path: Path, clock: ManualClock) -> None:
    server = RealServer(tmp_path / "server", clock)
    with server.running():
        device.log.enrol(server.url, server.code(), trust=server.trust())
    write(device, 10)
    pauses: list[float] = []
    patience = Patience(attempts=4, first_seconds=1, longest_seconds=3, sleep=pauses.append)
    before = device.log.status()
    assert refusal(lambda: device.log.submit(patience=patience)).code == "log.unreachable"
    assert device.log.status() == before
    assert len(pauses) == 3
    assert all(low <= pause <= 3 for pause, low in zip(pauses, (0.5, 1, 1.5), strict=True))
    with server.running():
        # The batch arrived, the answer was lost: sent again with more behind it, nothing is doubled.
        key, entries = device._vault.device_key, device.trail_entries()
        lost = LogServer(server.url, key, clock, SystemRandomness(), ONCE)
        lost.submit(make_batch(key.public_bytes, entries, device.trail_note()))
        write(device, 3)
        done = device.log.submit(patience=ONCE)
        assert (done.submitted, done.waiting) == (len(entries) + 3, 0)


def test_enrolment_is_once_and_again(device: Device, server: RealServer, open_device: Callable[..., Device]) -> None:
    code = server.code()
    device.log.enrol(server.url, code, trust=server.trust())
    assert device.log.enrol(server.url, code, trust=server.trust()).url == server.url, "an answer that was lost"
    found = refusal(lambda: device.log.enrol(server.url, "fkc-wrong", trust=server.trust(), patience=ONCE))
    assert isinstance(found, LogRefusal)
    assert found.reason == "device.invalid_code"
    # Another policy, without a code: only if the log it names is the one that is there.
    device.log.enrol(server.url, None, trust=server.trust("# changed\nquorum none\n"))
    stranger = "log " + witness_line("other.example", DeviceKey(b"\1" * 32), 1).split()[2]
    assert refusal(lambda: device.log.enrol(server.url, None, trust=f"{stranger}\nquorum none\n")).code == "log.malformed"
    for trust in ("", "nonsense", server.trust(""), server.trust("quorum nobody\n")):
        assert refusal(lambda t=trust: device.log.enrol(server.url, code, trust=t)).code == "log.malformed"  # type: ignore[misc]
    for url in ("http://log.example.org", "ftp://127.0.0.1", "https://u:p@log.example", "", f"{server.url}?x=1", "file:///etc"):
        found = refusal(lambda u=url: device.log.enrol(u, code, trust=server.trust()))  # type: ignore[misc]
        assert found.code == "log.unreachable"


def test_witnesses_are_asked_and_their_quorum_is_required(device: Device, server: RealServer, tmp_path: Path) -> None:
    names = ["w1.example", "w2.example", "w3.example"]
    keys = {name: DeviceKey(bytes([number]) * 32) for number, name in enumerate(names, 20)}
    ports = {name: free_port() for name in names}
    lines = "".join(witness_line(name, keys[name], ports[name]) for name in names)
    trust = server.trust(f"{lines}group most 2 {' '.join(names)}\nquorum most\n")
    code = server.code()
    assert refusal(lambda: device.log.enrol(server.url, code, trust=trust, patience=ONCE)).code == "log.no_quorum"
    with running_witness(tmp_path / "w1", names[0], keys[names[0]], server.trust(), ports[names[0]]):
        assert refusal(lambda: device.log.enrol(server.url, code, trust=trust, patience=ONCE)).code == "log.no_quorum"
        with running_witness(tmp_path / "w2", names[1], keys[names[1]], server.trust(), ports[names[1]]):
            device.log.enrol(server.url, code, trust=trust, patience=ONCE)
            write(device, 7)
            done = device.log.submit(patience=ONCE)
            assert len(TrustPolicy.parse(trust).verify(done.checkpoint or "").cosignatures) == 2
        write(device, 7)
        # In the server's log, but not witnessed: not to be relied on, so nothing may be deleted for it.
        assert refusal(lambda: device.log.submit(patience=ONCE)).code == "log.no_quorum"
        assert device.log.status().submitted == done.submitted
        with running_witness(tmp_path / "w2", names[1], keys[names[1]], server.trust(), ports[names[1]]):
            assert device.log.submit(patience=ONCE).waiting == 0


def test_a_device_follows_what_the_server_has_had_witnessed(device: Device, tmp_path: Path, clock: ManualClock) -> None:
    names = ["w1.example", "w2.example"]
    keys = {name: DeviceKey(bytes([number]) * 32) for number, name in enumerate(names, 20)}
    ports = {name: free_port() for name in names}
    lines = [witness_line(name, keys[name], ports[name]) for name in names]
    quorum = f"group both all {' '.join(names)}\nquorum both\n"
    (tmp_path / "witnesses.policy").write_text("".join(lines) + quorum)
    asking = {"policy": str(tmp_path / "witnesses.policy"), "every_seconds": 0.1}
    server = RealServer(tmp_path / "server", clock, witnesses=asking)
    # The device knows who the witnesses are and not where: only the server asks them.
    trust = server.trust("".join(line.rpartition(" ")[0] + "\n" for line in lines) + quorum)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        # A witness that did not answer in time is due again later, and this clock stands still.
        clock.advance(timedelta(seconds=1))
        time.sleep(0.2)

    patient = Patience(attempts=50, sleep=sleep)
    with contextlib.ExitStack() as witnesses:
        for name in names:
            witnesses.enter_context(running_witness(tmp_path / name, name, keys[name], server.trust(), ports[name]))
        with server.running():
            device.log.enrol(server.url, server.code(), trust=trust, patience=patient)
            for stranger in range(3):
                write(device, 5)
                _another_device_joins(server, clock, 50 + stranger)
                done = device.log.submit(patience=patient)
                found = TrustPolicy.parse(trust).verify(done.checkpoint or "")
                assert (done.waiting, set(found.cosignatures)) == (0, set(names))
    assert waits, "the server asks after it answers"
    with server.running():
        # Nobody is there to witness: what is published lies behind what the log is, and that is no reason for distrust.
        write(device, 1)
        assert refusal(lambda: device.log.submit(patience=ONCE)).code == "log.no_quorum"
        _another_device_joins(server, clock, 60)
        alone = server.trust()
        device.log.enrol(server.url, None, trust=alone, patience=ONCE)
        ahead = device.log.submit(patience=ONCE)
        kept = device.log.enrol(server.url, None, trust=trust, patience=ONCE)
    assert kept.checkpoint == ahead.checkpoint
    assert kept.url == server.url


def test_a_server_that_publishes_a_fork_is_caught(device: Device, tmp_path: Path, clock: ManualClock) -> None:
    real = RealServer(tmp_path / "server", clock)
    with real.running():
        device.log.enrol(real.url, real.code(), trust=real.trust())
    other = real.copy(tmp_path / "other")
    with real.running():
        _another_device_joins(real, clock, 41)
        write(device, 8)
        kept = device.log.submit(patience=ONCE)
    with other.running():
        for seed in (42, 43):
            _another_device_joins(other, clock, seed)
        shorter = LogServer(other.url, DeviceKey(bytes(32)), clock, SystemRandomness(), ONCE).checkpoint()
    proof = http(200, b'{"path": []}')
    with Liar(http(200, shorter), proof) as liar:
        found = refusal(lambda: device.log.enrol(liar.url, None, trust=real.trust(), patience=ONCE))
    assert isinstance(found, ForkError)
    assert (found.evidence.kept, found.evidence.shown) == (shorter.decode(), kept.checkpoint)
    assert (last(device)["event"], last(device)["outcome"]) == ("log.distrusted", "log.fork")


def test_a_server_that_shows_two_histories_is_caught_with_evidence(device: Device, tmp_path: Path, clock: ManualClock) -> None:
    real = RealServer(tmp_path / "server", clock)
    with real.running():
        device.log.enrol(real.url, real.code(), trust=real.trust())
        device.log.submit(patience=ONCE)
    other = real.copy(tmp_path / "other")
    with real.running():
        _another_device_joins(real, clock, 41)
        write(device, 4)
        begin = device.log.status().submitted
        kept = device.log.submit(patience=ONCE)
    with other.running():
        # The second history has all that this device wrote, and another stranger in front of it.
        _another_device_joins(other, clock, 42)
        key, entries = device._vault.device_key, device.trail_entries()
        batch = make_batch(key.public_bytes, entries[begin:], device.trail_note())
        LogServer(other.url, key, clock, SystemRandomness(), ONCE).submit(batch)
        write(device, 1)
        found = refusal(lambda: device.log.submit(patience=ONCE))
        assert isinstance(found, ForkError)
        again = refusal(lambda: device.log.submit(patience=ONCE))
    assert again.code == "log.fork"
    assert device.log.status().checkpoint == kept.checkpoint, "the device goes on from what it believed"
    assert device.log.status().submitted == kept.submitted
    written = sorted((tmp_path / "home" / EVIDENCE_DIRECTORY).iterdir())
    assert len(written) == 2
    (evidence,) = (item for item in (ForkEvidence.parse(path.read_bytes()) for path in written) if item == found.evidence)
    assert evidence.kept == kept.checkpoint
    trust = TrustPolicy.parse(real.trust())
    assert trust.verify(evidence.kept).checkpoint.size < trust.verify(evidence.shown).checkpoint.size
    assert written[0].stat().st_mode & 0o777 == 0o600
    assert (last(device)["event"], last(device)["outcome"]) == ("log.distrusted", "log.fork")
    assert {"kept", "shown", "evidence"} == set(last(device)["details"])  # type: ignore[call-overload]
    with real.running():
        assert device.log.submit(patience=ONCE).waiting == 0, "the log that was kept goes on"


def _another_device_joins(server: RealServer, clock: ManualClock, seed: int) -> None:
    other = LogServer(server.url, DeviceKey(bytes([seed]) * 32), clock, SystemRandomness(), ONCE)
    other.enrol(server.code())


def test_a_log_that_shrinks_is_refused(device: Device, tmp_path: Path, clock: ManualClock) -> None:
    real = RealServer(tmp_path / "server", clock)
    with real.running():
        device.log.enrol(real.url, real.code(), trust=real.trust())
    older = real.copy(tmp_path / "older")
    with real.running():
        write(device, 30)
        kept = device.log.submit(patience=ONCE)
    with older.running():
        write(device, 1)
        found = refusal(lambda: device.log.submit(patience=ONCE))
        assert isinstance(found, LogRefusal)
        assert found.reason == "audit.wrong_sequence"
        assert found.expected == 0
        assert refusal(lambda: device.log.enrol(older.url, None, trust=real.trust(), patience=ONCE)).code == "log.stale"
    assert device.log.status().checkpoint == kept.checkpoint
    assert (last(device)["event"], last(device)["outcome"]) == ("log.distrusted", "log.stale")


@pytest.fixture
def honest(device: Device, tmp_path: Path, clock: ManualClock) -> tuple[RealServer, dict[str, object]]:
    """A device that is enrolled, and the true answer to its next batch."""
    server = RealServer(tmp_path / "server", clock)
    with server.running():
        device.log.enrol(server.url, server.code(), trust=server.trust())
        key = device._vault.device_key
        write(device, 3)
        client = LogServer(server.url, key, clock, SystemRandomness(), ONCE)
        batch = make_batch(key.public_bytes, device.trail_entries(), device.trail_note())
        body = client._ask("POST", "/v1/trail", batch.to_bytes(), "application/x-ndjson", 1 << 20).body
    answer = json.loads(body)
    assert isinstance(answer, dict)
    return server, answer


def _through(device: Device, server: RealServer, liar: Liar) -> None:
    # The address of the liar in place of the server's; the rest stands.
    with device._vault.transaction() as transaction:
        stored = transaction.read_setting("log.server") or b""
        transaction.write_setting("log.server", stored.replace(server.url.encode(), liar.url.encode()))


FORGERIES: list[tuple[str, Callable[[dict[str, object]], object]]] = [
    ("log.malformed", lambda a: []),
    ("log.malformed", lambda a: {}),
    ("log.malformed", lambda a: {**a, "proofs": []}),
    ("log.malformed", lambda a: {**a, "first": True}),
    ("log.malformed", lambda a: {**a, "expected": -1}),
    ("log.malformed", lambda a: {**a, "expected": 2**60}),
    ("log.malformed", lambda a: {**a, "numbers": a["numbers"][::-1]}),  # type: ignore[index]
    ("log.malformed", lambda a: {**a, "proofs": [{**p, "path": ["x"]} for p in a["proofs"]]}),  # type: ignore[attr-defined]
    ("log.malformed", lambda a: {**a, "proofs": [{**p, "path": p["path"] * 64} for p in a["proofs"]]}),  # type: ignore[attr-defined]
    ("log.malformed", lambda a: {**a, "checkpoint": "nonsense"}),
    ("log.malformed", lambda a: {**a, "checkpoint": 7}),
    ("log.bad_signature", lambda a: {**a, "checkpoint": str(a["checkpoint"]).replace("\n", "\n1", 1)}),
    ("log.bad_proof", lambda a: {**a, "first": 1}),
    ("log.bad_proof", lambda a: {**a, "proofs": a["proofs"][:-1], "numbers": a["numbers"][:-1]}),  # type: ignore[index]
    ("log.bad_proof", lambda a: {**a, "proofs": [{**p, "path": p["path"][:-1]} for p in a["proofs"]]}),  # type: ignore[attr-defined]
]


def test_forged_answers_are_not_believed(device: Device, honest: tuple[RealServer, dict[str, object]]) -> None:
    server, true = honest
    before = device.log.status()
    goes_on, says_nothing = _consistency(server, device, true), http(200, json.dumps({"path": []}).encode())
    with Liar() as liar:
        _through(device, server, liar)
        with device._vault.transaction(durable=False) as transaction:
            standing, batch = _read_standing(transaction), device.log._next_batch(transaction)
        assert batch is not None

        def submit() -> object:
            return device.log._submit(standing, batch, ONCE)

        for code, forge in FORGERIES:
            liar.asked, liar.answers = 0, [http(200, json.dumps(forge(true)).encode()), goes_on]
            assert refusal(submit).code == code, forge(true)
        # A true answer, but the log does not show that it goes on from what the device keeps.
        liar.asked, liar.answers = 0, [http(200, json.dumps(true).encode()), says_nothing]
        assert refusal(submit).code == "log.fork"
        # The test forges well: what was not changed is believed.
        liar.asked, liar.answers = 0, [http(200, json.dumps(true).encode()), goes_on]
        submit()
        liar.asked, liar.answers = 0, [http(200, b"{}")]
        assert refusal(lambda: device.log.submit(patience=ONCE)).code == "log.malformed"
    assert (last(device)["event"], last(device)["outcome"]) == ("log.distrusted", "log.malformed")
    assert (device.log.status().submitted, device.log.status().checkpoint) == (before.submitted, before.checkpoint)


def _consistency(server: RealServer, device: Device, true: dict[str, object]) -> bytes:
    trust = TrustPolicy.parse(server.trust())
    kept = trust.verify(device.log.status().checkpoint or "").checkpoint.size
    shown = trust.verify(str(true["checkpoint"])).checkpoint.size
    with server.running():
        client = LogServer(server.url, DeviceKey(b"\5" * 32), SystemClock(), SystemRandomness(), ONCE)
        return http(200, client._ask("GET", f"/v1/log/consistency?old={kept}&new={shown}", b"", None, 65536).body)


def _drip(connection: socket.socket) -> None:
    for _ in range(200):
        connection.sendall(b"HTTP/1.1 200 OK\r\n"[:1])
        time.sleep(0.05)


def _endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def _drip_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
    for _ in range(100):
        connection.sendall(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("log.unreachable", b""),
        ("log.unreachable", b"\x00\xff" * 100),
        ("log.unreachable", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000),
        ("log.unreachable", http(200, b'{"path": []', length=4000)),
        ("log.unreachable", _drip),
        ("log.unreachable", _drip_body),
        ("log.malformed", _endless),
        ("log.malformed", http(200, b"[" * 100_000)),
        ("log.malformed", http(200, b'{"first":' + b"9" * 10_000 + b"}")),
        ("log.refused", http(302, b"", "Location: http://127.0.0.1:1/")),
        ("log.refused", http(403, b"<html>\x1b[31mno")),
        ("log.refused", http(500, b"")),
    ],
)
def test_answers_cut_flooded_and_slow_end(device: Device, code: str, answer: bytes | Callable[[socket.socket], None]) -> None:
    with Liar(answer) as liar:
        patience = Patience(attempts=1, timeout_seconds=1.5)
        started = time.monotonic()
        found = refusal(lambda: device.log.enrol(liar.url, "fkc-x", trust=_any_trust(), patience=patience))
        assert found.code == code
        # A server that sends a byte now and then holds nobody: 1.5 s were given, 5 s and more would be taken.
        assert time.monotonic() - started < 4.5
        assert "\x1b" not in str(found)
        assert liar.asked == 1
    assert device.log.status().url is None


def _any_trust() -> str:
    from facekeep.note import verifier_key

    return f"log {verifier_key('log.example.org/fleet', DeviceKey(bytes(32)).public_bytes)}\nquorum none\n"


def test_a_busy_server_is_asked_again_when_it_says(device: Device) -> None:
    pauses: list[float] = []
    busy = http(429, b'{"code": "request.too_many"}', "Retry-After: 7")
    down = http(503, b"", "Retry-After: 99999999")
    no = http(403, b'{"code": "device.invalid_code"}')
    with Liar(busy, down, no) as liar:
        patience = Patience(attempts=5, first_seconds=0.1, longest_seconds=20, sleep=pauses.append)
        found = refusal(lambda: device.log.enrol(liar.url, "fkc-x", trust=_any_trust(), patience=patience))
        assert isinstance(found, LogRefusal)
        assert (found.reason, liar.asked) == ("device.invalid_code", 3)
    assert pauses[0] == 7
    assert pauses[1] < 1


def test_a_certificate_that_does_not_verify_is_refused(
    device: Device, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = RealServer(tmp_path / "server", clock)
    server.url = server.url.replace("http:", "https:")
    with server.running(tls=make_certificate(tmp_path / "good", "127.0.0.1")):
        found = refusal(lambda: device.log.enrol(server.url, server.code(), trust=server.trust(), patience=ONCE))
        assert found.code == "log.unreachable"
        assert "certificate" in str(found)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "good" / "certificate.pem"))
        device.log.enrol(server.url, server.code(), trust=server.trust(), patience=ONCE)
        assert device.log.submit(patience=ONCE).waiting == 0
    other = make_certificate(tmp_path / "other", "log.example.org")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other" / "certificate.pem"))
    write(device, 1)
    with server.running(tls=other):
        assert "certificate" in str(refusal(lambda: device.log.submit(patience=ONCE)))


def test_nothing_but_enrol_and_submit_uses_the_network(
    device: Device, server: RealServer, monkeypatch: pytest.MonkeyPatch, open_device: Callable[..., Device]
) -> None:
    device.log.enrol(server.url, server.code(), trust=server.trust())
    device.close()

    connections = []

    def refuse(*_: object) -> None:
        connections.append(1)
        raise OSError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    again = open_device()
    enrol(again, "alice", 1)
    assert again.verify("alice", picture(1, 2)).is_match
    again.identify(picture(1, 2))
    again.withdraw("alice")
    assert again.log.status().waiting > 0
    again.close()
    assert connections == []
    assert refusal(lambda: open_device().log.submit(patience=ONCE)).code == "log.unreachable"
    assert connections == [1]


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shell, server = InProcess(tmp_path, monkeypatch, capsys), RealServer(tmp_path / "server", SystemClock())
    shell.run("init")
    assert shell.json("log", "status") == {"url": None, "submitted": 0, "waiting": 1, "checkpoint": None}
    assert shell.json("log", "submit", code=10)["error"]["code"] == "log.not_enrolled"
    (tmp_path / "trust.txt").write_text(server.trust())
    (tmp_path / "code.txt").write_text(server.code() + "\n")
    missing = shell.json("log", "enrol", server.url, "--policy", "trust.txt", "--code-file", "nothing", code=10)
    assert missing["error"]["code"] == "log.io"
    with server.running():
        shell.run("log", "enrol", server.url, "--policy", "trust.txt", "--code-file", "code.txt")
        done = shell.json("log", "submit")
        assert (done["url"], done["submitted"], done["waiting"]) == (server.url, 2, 0)
        assert "2 entries proved to be in the log, 0 waiting" in shell.run("log", "submit")
        (tmp_path / "trust2.txt").write_text(server.trust("# the same log\nquorum none\n"))
        shell.run("log", "enrol", server.url, "--policy", "trust2.txt")
    assert shell.json("log", "status")["waiting"] == 1


@pytest.mark.slow
def test_the_server_is_killed_while_a_device_submits(open_device: Callable[..., Device], tmp_path: Path) -> None:
    process = ServerProcess(f"sqlite:///{tmp_path}/log.sqlite3", tmp_path / "killed")
    device = open_device(clock=SystemClock())
    process.prepare([])
    from facekeep_server.assembly import assemble

    server = assemble(process.configuration())
    code, trust = (
        server.codes.create("a device", timedelta(hours=1))[0],
        f"log {server.keys.list()[0].key.to_vkey()}\nquorum none\n",
    )
    server.store.close()
    process.start()

    def kill() -> None:
        process.end(signal.SIGKILL)
        process.start()

    try:
        device.log.enrol(process.url, code, trust=trust, patience=ONCE)
        write(device, 4500)
        killer = threading.Timer(0.3, kill)
        killer.start()
        done = device.log.submit(patience=Patience(attempts=60, first_seconds=0.2, longest_seconds=1, timeout_seconds=10))
        killer.join()
        assert done.waiting == 0
        write(device, 1)
        after = device.log.submit(patience=Patience(attempts=60, first_seconds=0.2, longest_seconds=1))
        log = TrustPolicy.parse(trust).verify(after.checkpoint or "").checkpoint
        # The enrolment, every entry once, a head for each of six batches; a batch sent twice adds nothing.
        assert (after.waiting, log.size) == (0, 1 + len(device.trail_entries()) + 6)
    finally:
        process.end(signal.SIGKILL)
