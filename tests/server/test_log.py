"""The log as others see it: checkpoints, tiles, bundles and proofs that other code verifies; the sequencer under stress."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from facekeep.audit.entry import HeadEntry
from facekeep.clock import ManualClock
from facekeep.errors import LogError
from facekeep.merkle import leaf_hash, root_of
from facekeep.tlog import NoteKey, Tile, TrustPolicy, tiles_of, unpack_bundle, verify_consistency, verify_inclusion
from facekeep_server.assembly import Server
from facekeep_server.errors import ServerError
from facekeep_server.log.finding import find_entries
from facekeep_server.log.sequencer import Sequencer
from facekeep_server.log.transaction import LogTransaction, begin_log, count_entries
from facekeep_server.store import Store, migrate
from facekeep_server.store.tables import LogHead, StoredTile
from tests.server.conftest import ORIGIN, served
from tests.server.devices import Follower, TestDevice, log_keys

HOUR = timedelta(hours=1)


class Filler:
    """A job of nothing but lines: for the shape of trees, not for what is in them."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.lines = name, count

    def apply(self, log: LogTransaction) -> list[int]:
        return [log._append(HeadEntry("0" * 32, ""), f"{self.name} {number}".encode(), log.size) for number in range(self.lines)]


@pytest.fixture
def store(database: str) -> Store:
    store = Store(database)
    migrate(store)
    with store.writing() as connection:
        begin_log(connection, ORIGIN)
    return store


def grown(server: Server, sizes: list[int]) -> None:
    server.sequencer.start()
    for size in sizes:
        server.sequencer.submit(Filler(f"f{size}", size)).result(60)


def leaves_of(server: Server) -> list[bytes]:
    return [leaf_hash(row.line) for row in find_entries(server.store, -1, 100_000)]


def test_tiles_bundles_and_proofs_are_those_of_the_entries(server: Server) -> None:
    draw = random.Random(5)
    sizes = [1, 2, 254, 1, 300, *(draw.randrange(1, 40) for _ in range(5))]
    grown(server, sizes)
    leaves = leaves_of(server)
    size = sum(sizes)
    head, note = server.reader.checkpoint()
    assert (head.size, head.root) == (size, root_of(leaves))
    policy = TrustPolicy.parse(f"log {server.keys.list()[0].key.to_vkey()}\nquorum none\n")
    assert policy.verify(note).checkpoint == head
    assert b"".join(server.reader.tile(tile) for tile in tiles_of(size) if tile.level == 0) == b"".join(leaves)
    assert server.reader.tile(Tile(0, 0, 7)) == b"".join(leaves[:7])
    assert len([server.reader.tile(tile) for tile in tiles_of(size)]) == 4
    lines = unpack_bundle(server.reader.bundle(Tile(-1, 1, 40)), 40)
    assert [leaf_hash(line) for line in lines] == leaves[256:296]
    for _ in range(60):
        new = draw.randrange(1, size + 1)
        number, old = draw.randrange(new), draw.randrange(new + 1)
        root = root_of(leaves[:new])
        verify_inclusion(leaves[number], number, new, server.reader.inclusion(number, new), root)
        verify_consistency(old, new, server.reader.consistency(old, new), root_of(leaves[:old]), root)
    for number, new in ((size, size), (0, size + 1), (-1, 1), (0, 0)):
        with pytest.raises(ServerError, match=r"proof\.beyond_size"):
            server.reader.inclusion(number, new)
    for old, new in ((2, 1), (0, size + 1), (-1, 2)):
        with pytest.raises(ServerError, match=r"proof\.beyond_size"):
            server.reader.consistency(old, new)
    for tile in (Tile(0, 2, 256), Tile(1, 0, 256), Tile(5, 0, 1), Tile(-1, 2, 256)):
        with pytest.raises(ServerError, match=r"proof\.no_such_entry"):
            (server.reader.bundle if tile.level < 0 else server.reader.tile)(tile)


def test_the_interface_of_tlog_tiles(
    client: httpx.Client, server: Server, device: TestDevice, auditor: dict[str, str], follower: Follower
) -> None:
    batch = device.write(299)
    device.submit(client, batch)
    answer = client.get("/log/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    checkpoint = follower.take(client, answer.text)
    assert checkpoint.size == 301
    full, rest, top = (client.get(f"/log/tile/{path}") for path in ("0/000", "0/001.p/45", "1/000.p/1"))
    assert {item.status_code for item in (full, rest, top)} == {200}
    assert "immutable" in full.headers["cache-control"]
    hashes = full.content + rest.content
    assert root_of([hashes[at : at + 32] for at in range(0, len(hashes), 32)]) == checkpoint.root
    assert top.content == root_of([full.content[at : at + 32] for at in range(0, 8192, 32)])
    bundle = client.get("/log/tile/entries/001.p/45", headers=auditor)
    assert unpack_bundle(bundle.content, 45) == list(batch.to_lines())[255:]
    assert "private" in bundle.headers["cache-control"]
    for path in (
        "0/000.p/0",
        "0/00",
        "0/001",
        "0/x000/000",
        "64/000",
        "0/000.p/256",
        "entries/../000",
        "9/x999/x999/x999/x999/x999/999",
        "'",
        "%00",
        "",
    ):
        assert client.get(f"/log/tile/{path}", headers=auditor).status_code == 404, path
    for query in (
        "number=0&size=302",
        "number=301&size=301",
        "number=-1&size=1",
        "number=a&size=1",
        "size=1",
        f"number=0&size={2**63}",
    ):
        assert client.get(f"/v1/log/inclusion?{query}").status_code == 400, query
    keys = client.get("/v1/log/keys").json()
    assert NoteKey.parse(keys[0]["vkey"]).name == ORIGIN


def test_entries_can_be_public(make_server: Callable[..., Server], clock: ManualClock) -> None:
    server = make_server(log={"public_entries": True})
    with served(server) as client:
        device = TestDevice(bytes([1]) * 32, clock=clock)
        device.enrol(client, server.codes.create("gate", HOUR)[0])
        assert client.get("/log/tile/entries/000.p/1").status_code == 200


def test_both_keys_sign_while_they_overlap(client: httpx.Client, server: Server, clock: ManualClock, device: TestDevice) -> None:
    old = server.keys.list()[0].key
    clock.advance(timedelta(minutes=1))
    new = server.keys.rotate(HOUR).key
    device.submit(client, device.write(1))
    note = client.get("/log/checkpoint").text
    assert log_keys(note, [old, new]) == [old, new]
    for key in (old, new):
        TrustPolicy.parse(f"log {key.to_vkey()}\nquorum none\n").verify(note)
    clock.advance(HOUR)
    note = client.get("/log/checkpoint").text
    assert log_keys(note, [old, new]) == [new]
    with pytest.raises(LogError):
        TrustPolicy.parse(f"log {old.to_vkey()}\nquorum none\n").verify(note)
    assert [row.retires_at is None for row in server.keys.list()] == [True, False]


def test_a_lost_or_open_key_file_stops_signing(server: Server, tmp_path: Path) -> None:
    (path,) = (tmp_path / "keys").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ServerError, match=r"server\.no_key"):
        server.reader.checkpoint()
    path.chmod(0o600)
    server.reader.checkpoint()
    path.unlink()
    server.keys._opened.clear()
    with pytest.raises(ServerError, match=r"server\.no_key"):
        server.check()


def test_many_threads_and_two_sequencers_on_one_store(store: Store, clock: ManualClock) -> None:
    sequencers = [Sequencer(store, clock, interval_seconds=0.002, group_lines=50) for _ in range(2)]
    for sequencer in sequencers:
        sequencer.start()

    def fill(worker: int) -> list[int]:
        numbers = []
        for turn in range(6):
            numbers += sequencers[(worker + turn) % 2].submit(Filler(f"w{worker}t{turn}", 1 + turn)).result(60)
        return numbers

    with ThreadPoolExecutor(6) as pool:
        numbers = [number for found in pool.map(fill, range(6)) for number in found]
    for sequencer in sequencers:
        sequencer.stop()
    assert sorted(numbers) == list(range(6 * 21))
    with store.writing() as connection:
        log = LogTransaction(connection, None, clock.now())
        assert log.size == count_entries(connection) == 126
    leaves = [leaf_hash(row.line) for row in find_entries(store, -1, 1000)]
    assert log._tree.root() == root_of(leaves)
    store.close()


def test_a_database_that_fails_in_the_middle_loses_and_doubles_nothing(
    server: Server, client: httpx.Client, device: TestDevice
) -> None:
    broken = {"before": 2, "after": 2}
    writing = server.store.writing

    @contextlib.contextmanager
    def failing(*, durable: bool = True) -> Iterator[object]:
        if not durable or threading.current_thread().name != "sequencer":
            with writing(durable=durable) as connection:
                yield connection
            return
        with writing() as connection:
            yield connection
            if broken["before"]:
                broken["before"] -= 1
                raise ServerError("server.unavailable", "cut off before the commit")
        if broken["after"]:
            broken["after"] -= 1
            raise ServerError("server.unavailable", "cut off after the commit, before anyone was told")

    server.store.writing = failing  # type: ignore[method-assign, assignment]
    batch = device.write(5)
    body = device.submit(client, batch).json()
    assert broken == {"before": 0, "after": 0}
    assert body["numbers"] == [1, 2, 3, 4, 5, 6]
    assert [row.line for row in find_entries(server.store, 0, 100)] == list(batch.to_lines())
    assert server.reader.head().size == 7


def test_a_database_that_stays_away_is_said_so(store: Store, clock: ManualClock) -> None:
    def away(**_: object) -> object:
        raise ServerError("server.unavailable", "gone")

    store.writing = away  # type: ignore[method-assign, assignment]
    sequencer = Sequencer(store, clock, interval_seconds=0.001, patience_seconds=0.2)
    sequencer.start()
    with pytest.raises(ServerError, match=r"server\.unavailable"):
        sequencer.submit(Filler("x", 1)).result(30)
    assert sequencer.is_alive
    sequencer.stop()
    with pytest.raises(ServerError, match=r"server\.unavailable"):
        sequencer.submit(Filler("x", 1))
    store.close()


def test_no_more_waits_than_is_allowed(store: Store, clock: ManualClock) -> None:
    sequencer = Sequencer(store, clock, pending_lines=10)
    sequencer.submit(Filler("a", 8))
    with pytest.raises(ServerError, match=r"server\.unavailable"):
        sequencer.submit(Filler("b", 3))
    waiting = sequencer.submit(Filler("c", 2))
    assert sequencer.pending == 10
    sequencer.start()
    sequencer.stop()
    assert waiting.result(30) == [8, 9]
    store.close()


def test_a_job_that_breaks_takes_nobody_with_it_for_good(store: Store, clock: ManualClock) -> None:
    class Broken(Filler):
        def apply(self, log: LogTransaction) -> list[int]:
            super().apply(log)
            raise RuntimeError("secret text")

    sequencer = Sequencer(store, clock, interval_seconds=0.001)
    sequencer.start()
    with pytest.raises(ServerError, match=r"server\.internal") as caught:
        sequencer.submit(Broken("x", 1)).result(30)
    assert "secret" not in str(caught.value)
    assert sequencer.submit(Filler("y", 2)).result(30) == [0, 1]
    sequencer.stop()
    store.close()


def test_what_is_stored_is_checked_at_the_start(server: Server) -> None:
    grown(server, [300])
    server.check()
    with server.store.writing() as connection:
        connection.execute(update(StoredTile).where(StoredTile.level == 0, StoredTile.number == 1).values(hashes=bytes(32 * 44)))
    with pytest.raises(ServerError, match=r"server\.corrupt"):
        server.check()
    with server.store.writing() as connection:
        connection.execute(update(LogHead).values(size=299))
    with pytest.raises(ServerError, match=r"server\.corrupt"):
        server.check()
    with server.store.writing() as connection:
        connection.execute(update(LogHead).values(origin="other"))
    with pytest.raises(ServerError, match=r"server\.invalid_configuration"):
        server.check()


def test_the_same_device_from_two_connections_at_once(server: Server, client: httpx.Client, device: TestDevice) -> None:
    first, second = device.write(40), device.write(40)
    barrier = threading.Barrier(4)

    def send(turn: int) -> int:
        barrier.wait(20)
        return device.submit(client, (first, second)[turn % 2]).status_code

    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(send, range(4)))
    assert set(statuses) <= {200, 409}
    assert device.submit(client, first).status_code == 200
    assert device.submit(client, second).status_code == 200
    assert server.reader.head().size == 1 + 82
    lines = [row.line for row in find_entries(server.store, 0, 1000)]
    assert lines == [*first.to_lines(), *second.to_lines()]
    assert len(set(lines)) == len(lines)
