"""The witness over HTTP: its memory survives it, two requests are never answered from one memory, and nothing else is served."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from facekeep.clock import ManualClock
from facekeep.errors import LogError
from facekeep.merkle import leaf_hash, root_of
from facekeep.note import Checkpoint, sign_note, verifier_key
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind, TrustPolicy, make_consistency
from facekeep.tlog.witness import WitnessRefusal, format_request, parse_answer
from facekeep_server.cli.witnessing import load_witness_key
from facekeep_server.errors import ServerError
from facekeep_server.witness import Witness, WitnessStore, create_witness_app, logs_of

ORIGIN = "log.example/one"
LOG, KEY = DeviceKey(b"\x01" * 32), DeviceKey(b"\x02" * 32)
LEAVES = [leaf_hash(bytes([number])) for number in range(100)]
POLICY = TrustPolicy.parse(f"log {verifier_key(ORIGIN, LOG.public_bytes)}\nquorum none\n")
COSIGNER = NoteKey("w.example", NoteKind.COSIGNATURE, KEY.public_bytes)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Direct:
    def read(self, level: int, index: int) -> bytes:
        return root_of(LEAVES[index << level : index + 1 << level])


def note(size: int, root: bytes | None = None) -> str:
    return sign_note(Checkpoint(ORIGIN, size, root or root_of(LEAVES[:size])).to_text(), ORIGIN, LOG)


def body(old: int, size: int, root: bytes | None = None) -> bytes:
    return format_request(old, make_consistency(Direct(), old, size), note(size, root))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WitnessStore]:
    made = WitnessStore(tmp_path / "state")
    yield made
    made.close()


def witness_of(store: WitnessStore) -> Witness:
    return Witness("w.example", KEY, logs_of(POLICY), store, ManualClock(NOW))


def post(witness: Witness, content: bytes, method: str = "POST", path: str = "/add-checkpoint") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_witness_app(witness))
        async with httpx.AsyncClient(transport=transport, base_url="http://witness") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(ask())


def test_a_log_is_cosigned_step_by_step_and_remembered(tmp_path: Path) -> None:
    for old, new in ((0, 10), (10, 10), (10, 64), (64, 100)):
        # A witness that was stopped and started between any two requests.
        store = WitnessStore(tmp_path / "state")
        answered = post(witness_of(store), body(old, new))
        store.close()
        assert (answered.status_code, answered.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        parse_answer(answered.content, note(new).split("\n\n")[0] + "\n", COSIGNER)
    with pytest.raises(LogError):
        parse_answer(answered.content, "another\n1\ntext\n", COSIGNER)


def test_every_refusal_has_the_status_of_the_specification(store: WitnessStore) -> None:
    witness = witness_of(store)
    assert post(witness, body(0, 10)).status_code == 200
    conflict = post(witness, body(0, 20))
    assert (conflict.status_code, conflict.text, conflict.headers["content-type"]) == (409, "10\n", "text/x.tlog.size")
    assert post(witness, body(10, 20, LEAVES[0])).status_code == 422
    assert post(witness, b"nonsense").status_code == 400
    assert post(witness, b"x" * 1_000_000).status_code == 413
    assert post(witness, body(10, 20).replace(ORIGIN.encode(), b"log.example/two")).status_code == 404
    # The first line of text names the log, the signature line its key: the key hash no longer fits.
    assert post(witness, body(10, 20).replace(b"\n20\n", b"\n21\n")).status_code == 403
    assert post(witness, b"", "GET").status_code == 405
    assert post(witness, b"", "GET", "/docs").status_code == 404
    assert post(witness, b"", "GET", "/health").json()["cosigned"] == {ORIGIN: 10}


def test_a_fork_is_not_cosigned_and_both_notes_are_kept(
    store: WitnessStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="facekeep_server.witness")
    witness = witness_of(store)
    assert post(witness, body(0, 10)).status_code == 200
    assert post(witness, body(10, 10, LEAVES[3])).status_code == 409
    assert post(witness, body(10, 10, LEAVES[4])).status_code == 409
    (kept,) = (tmp_path / "state").glob("*.fork.json")
    assert json.loads(kept.read_text())["notes"] == [note(10), note(10, LEAVES[3])]
    said = [(record.levelname, record.msg) for record in caplog.records if record.name == "facekeep_server.witness"]
    assert said == [("INFO", "checkpoint.cosigned"), ("ERROR", "checkpoint.refused"), ("ERROR", "checkpoint.refused")]


def test_racing_requests_end_in_one_history(store: WitnessStore) -> None:
    witness = witness_of(store)
    witness.add_checkpoint(body(0, 5))
    outcomes: list[int] = []

    def ask(size: int) -> None:
        try:
            witness.add_checkpoint(body(5, size))
            outcomes.append(size)
        except WitnessRefusal as refusal:
            outcomes.append(-refusal.status)

    threads = [threading.Thread(target=ask, args=(size,)) for size in range(20, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [size for size in outcomes if size > 0]
    assert len(won) == 1
    assert outcomes.count(-409) == 19
    assert store.get(ORIGIN).size == won[0]


def test_a_witness_that_lost_its_memory_does_not_cosign(store: WitnessStore, tmp_path: Path) -> None:
    witness = witness_of(store)
    witness.add_checkpoint(body(0, 10))
    (record,) = (tmp_path / "state").glob("*.json")
    for damage in (b"", b"{}", record.read_bytes()[:-9], record.read_bytes().replace(b'"size": 10', b'"size": 11')):
        good = record.read_bytes()
        record.write_bytes(damage)
        assert post(witness, body(0, 20)).status_code == 503
        assert post(witness, b"", "GET", "/health").status_code == 503
        record.write_bytes(good)
    assert post(witness, body(10, 20)).status_code == 200


def test_what_cannot_be_stored_is_not_cosigned(store: WitnessStore, tmp_path: Path) -> None:
    witness = witness_of(store)
    witness.add_checkpoint(body(0, 10))
    (record,) = (tmp_path / "state").glob("*.json")
    # A folder where the draft should be: the write fails as on a full disk.
    record.with_suffix(".new").mkdir()
    answered = post(witness, body(10, 20))
    assert (answered.status_code, answered.text) == (503, "log.io\n")
    record.with_suffix(".new").rmdir()
    assert store.get(ORIGIN).size == 10


def test_two_witnesses_on_one_memory_are_refused(store: WitnessStore, tmp_path: Path) -> None:
    with pytest.raises(LogError) as caught:
        WitnessStore(tmp_path / "state")
    assert caught.value.code == "log.io"


def test_the_key_file_is_made_once_and_kept_private(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    key = load_witness_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_witness_key(path).public_bytes == key.public_bytes
    path.chmod(0o644)
    with pytest.raises(ServerError):
        load_witness_key(path)
    path.chmod(0o600)
    path.write_text("no key")
    with pytest.raises(ServerError):
        load_witness_key(path)


def converse(process: subprocess.Popen[str], port: int, size: int) -> int:
    """Have a witness just started cosign five checkpoints, and return the size of the last."""
    assert process.stderr is not None
    vkey = process.stderr.readline().strip()
    assert process.stderr.readline() == f"Following {ORIGIN}\n"
    with httpx.Client(transport=httpx.HTTPTransport(retries=0), base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        for _ in range(200):
            try:
                client.get("/health")
                break
            except httpx.ConnectError:
                threading.Event().wait(0.1)
        for _ in range(5):
            answered = client.post("/add-checkpoint", content=body(size, size + 3))
            assert answered.status_code == 200
            parse_answer(answered.content, note(size + 3).split("\n\n")[0] + "\n", NoteKey.parse(vkey))
            size += 3
    return size


@pytest.mark.slow
def test_the_command_serves_and_a_killed_witness_forgets_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text(f"log {verifier_key(ORIGIN, LOG.public_bytes)}\nquorum none\n")
    size = 0
    for turn in range(2):
        port = 20_000 + os.getpid() % 20_000 + turn
        code = "from facekeep_server.cli import main; main()"
        options = [
            "witness",
            "--name",
            "w.example",
            "--port",
            str(port),
            "--key-file",
            "key.pem",
            "--logs",
            "logs",
            "--state",
            "state",
        ]
        process = subprocess.Popen([sys.executable, "-c", code, *options], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        try:
            size = converse(process, port, size)
        finally:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()
