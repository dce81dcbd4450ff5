"""What one transaction appends to the log: jobs see this; the sequencer commits it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from facekeep.audit import TrailHead
from facekeep.audit.entry import DeviceEntry, HeadEntry, LogEntry, TrailEntry
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import LogError
from facekeep.merkle import EMPTY_ROOT, Frontier, leaf_hash
from facekeep.tlog import Tile, TileTree
from facekeep_server.errors import ServerError
from facekeep_server.store.tables import Device, Entry, Incident, LogHead, StoredTile, TreeHead

DEVICE_LINE: Final = 0
TRAIL_LINE: Final = 1
HEAD_LINE: Final = 2
_Result = TypeVar("_Result", covariant=True)


class Job(Protocol[_Result]):
    """Something that appends to the log, whole or not at all: it checks first, and writes when nothing can fail any more."""

    @property
    def lines(self) -> int:
        """Number of entries it appends at most."""
        ...

    def apply(self, log: LogTransaction) -> _Result:
        """Check and append.

        Raises:
            FacekeepError: what was refused; nothing was appended.
        """
        ...


@dataclass(slots=True)
class DeviceState:
    """A device as the transaction knows it."""

    public_key: bytes
    revoked: bool
    trail: TrailHead


class LogTransaction:
    """The log, held by one writer.

    Args:
        connection: in a transaction that may write.
        tree: what the writer remembers of the tree; read again where another writer has appended since.
        now: time of the commit.
    """

    def __init__(self, connection: Connection, tree: TileTree | None, now: datetime) -> None:
        self.connection, self.now = connection, now
        # FOR UPDATE: on PostgreSQL this is what makes writers take turns. SQLite has one writer anyway and ignores it.
        row = connection.execute(select(LogHead.size, LogHead.root).where(LogHead.id == 1).with_for_update()).one_or_none()
        if row is None:
            raise ServerError("server.schema", "The log was never begun. Run: facekeep-server migrate")
        self._tree = tree if tree is not None and tree.size == row.size else load_tree(connection, row.size)
        if self._tree.root() != row.root:
            raise ServerError("server.corrupt", "The stored tiles do not lead to the stored head of the log.")
        self._rows: list[dict[str, Any]] = []
        self._leaves: list[bytes] = []
        self._devices: dict[str, DeviceState | None] = {}
        self._moved: set[str] = set()

    @property
    def size(self) -> int:
        """Number of entries, those of this transaction included."""
        return self._tree.size + len(self._rows)

    def device(self, device: str) -> DeviceState | None:
        """Return a device, with all that this transaction has appended of it, or None if it is not enrolled."""
        if device not in self._devices:
            self._devices[device] = read_device(self.connection, device)
        return self._devices[device]

    def add_device(self, public_key: bytes, entry: DeviceEntry, label: str) -> int:
        """Enrol a device and return the number of its first line."""
        values = {"id": entry.device, "public_key": public_key, "label": label, "enrolled_at": to_rfc3339(self.now)}
        self.connection.execute(insert(Device).values(**values, trail_size=0, trail_edge=b""))
        self._devices[entry.device] = DeviceState(public_key, False, TrailHead())
        return self._append(entry, entry.to_bytes(), 0)

    def append_trail(self, entries: Sequence[TrailEntry], lines: Sequence[bytes], head: HeadEntry, trail: TrailHead) -> list[int]:
        """Append verified trail lines and the head after them; return their numbers."""
        state = self.device(head.device)
        assert state is not None  # noqa: S101 - the job verified against it
        first = trail.size - len(entries)
        numbers = [self._append(entry, line, first + at) for at, (entry, line) in enumerate(zip(entries, lines, strict=True))]
        numbers.append(self._append(head, head.to_bytes(), trail.size))
        state.trail = trail
        self._moved.add(head.device)
        return numbers

    def logged(self, device: str, kind: int, first: int, count: int) -> list[tuple[int, bytes]]:
        """Return number and leaf hash of a device's lines `first` to `first + count`, in order, those of this commit too."""
        found = self.connection.execute(
            select(Entry.number, Entry.leaf_hash)
            .where(Entry.device == device, Entry.kind == kind, Entry.seq >= first, Entry.seq < first + count)
            .order_by(Entry.seq)
        )
        fresh = (
            (row["number"], row["leaf_hash"])
            for row in self._rows
            if row["device"] == device and row["kind"] == kind and first <= row["seq"] < first + count
        )
        return [*((number, bytes(leaf)) for number, leaf in found), *fresh]

    def record(self, code: str, device: str | None, number: int | None = None, evidence: bytes | None = None) -> None:
        """Write down an incident, in this transaction; of what a device signed only the first evidence is kept."""
        if evidence is not None:
            # One is proof enough, and a device must not fill the disk by accusing itself again and again.
            known = select(Incident.id).where(Incident.code == code, Incident.device == device, Incident.evidence.isnot(None))
            evidence = None if self.connection.execute(known.limit(1)).first() else evidence
        record_incident(self.connection, self.now, code, device, number, evidence)

    def flush(self) -> TileTree:
        """Write what was appended; return the tree, which holds once the transaction is committed."""
        tree = self._tree
        if not self._rows:
            return tree
        before = dict(tree.partial_tiles())
        # Where tiles of one level were filled and one is left over, both are new; an edge that did not move is not written.
        tiles = [*tree.extend(self._leaves), *((tile, data) for tile, data in tree.partial_tiles() if before.get(tile) != data)]
        root = tree.root()
        self.connection.execute(insert(Entry), self._rows)
        dialect = sqlite if self.connection.dialect.name == "sqlite" else postgresql
        upsert = dialect.insert(StoredTile)
        upsert = upsert.on_conflict_do_update(index_elements=["level", "number"], set_={"hashes": upsert.excluded.hashes})
        self.connection.execute(upsert, [{"level": tile.level, "number": tile.index, "hashes": data} for tile, data in tiles])
        self._write_trails()
        self.connection.execute(update(LogHead).where(LogHead.id == 1).values(size=tree.size, root=root))
        self.connection.execute(insert(TreeHead).values(size=tree.size, root=root, committed_at=to_rfc3339(self.now)))
        return tree

    def _append(self, entry: LogEntry, line: bytes, seq: int) -> int:
        number, leaf = self.size, leaf_hash(line)
        row: dict[str, Any] = {"event": None, "outcome": None, "subject": None, "at": None}
        kind = DEVICE_LINE
        if isinstance(entry, TrailEntry):
            kind, fields = TRAIL_LINE, json.loads(entry.body)
            subject = fields["subject"]
            row = {
                "event": fields["event"],
                "outcome": fields["outcome"],
                "subject": bytes.fromhex(subject) if subject else None,
                "at": fields["time"],
            }
        elif isinstance(entry, HeadEntry):
            kind = HEAD_LINE
        row.update(number=number, leaf_hash=leaf, device=entry.device, kind=kind, seq=seq, body=line)
        self._rows.append(row)
        self._leaves.append(leaf)
        return number

    def _write_trails(self) -> None:
        rows = []
        for device in self._moved:
            state = self._devices[device]
            if state is not None:
                trail = state.trail
                rows.append(
                    {
                        "device": device,
                        "trail_size": trail.size,
                        "trail_edge": b"".join(trail.frontier.edge),
                        "trail_last": trail.last_hash,
                        "trail_time": to_rfc3339(trail.last_time) if trail.last_time else None,
                    }
                )
        if rows:
            columns: dict[str, Any] = {name: bindparam(name) for name in ("trail_size", "trail_edge", "trail_last", "trail_time")}
            table = Device.__table__
            self.connection.execute(update(table).where(table.c.id == bindparam("device")).values(columns), rows)  # type: ignore[arg-type]


def load_tree(connection: Connection, size: int) -> TileTree:
    """Return the tree as stored.

    Raises:
        ServerError: "server.corrupt".
    """

    def read_tile(tile: Tile) -> bytes:
        where = (StoredTile.level == tile.level, StoredTile.number == tile.index)
        held = connection.execute(select(StoredTile.hashes).where(*where)).scalar_one_or_none()
        return bytes(held or b"")[: 32 * tile.width]

    try:
        return TileTree.load(size, read_tile)
    except LogError:
        raise ServerError("server.corrupt", "A stored tile is missing or cut.") from None


def record_incident(
    connection: Connection, now: datetime, code: str, device: str | None, number: int | None = None, evidence: bytes | None = None
) -> None:
    """Write down an incident."""
    connection.execute(insert(Incident).values(at=to_rfc3339(now), code=code, device=device, number=number, evidence=evidence))


def stored_size(connection: Connection) -> tuple[int, bytes]:
    """Return size and root of the log as committed."""
    row = connection.execute(select(LogHead.size, LogHead.root).where(LogHead.id == 1)).one_or_none()
    if row is None:
        raise ServerError("server.schema", "The log was never begun. Run: facekeep-server migrate")
    return row.size, bytes(row.root)


def begin_log(connection: Connection, origin: str) -> None:
    """Create the empty log where there is none.

    Raises:
        ServerError: "server.invalid_configuration" if the database holds a log of another origin.
    """
    found = connection.execute(select(LogHead.origin).where(LogHead.id == 1)).scalar_one_or_none()
    if found is None:
        connection.execute(insert(LogHead).values(id=1, origin=origin, size=0, root=EMPTY_ROOT))
    elif found != origin:
        raise ServerError("server.invalid_configuration", "log.origin is not the origin of the log in this database.")


def count_entries(connection: Connection) -> int:
    """Return how many entries are stored, by counting: for checks, not for serving."""
    return connection.execute(select(func.count()).select_from(Entry)).scalar_one()


def read_device(connection: Connection, device: str) -> DeviceState | None:
    """Return a device as committed, or None."""
    columns = (
        Device.public_key,
        Device.revoked_at,
        Device.trail_size,
        Device.trail_edge,
        Device.trail_last,
        Device.trail_time,
    )
    row = connection.execute(select(*columns).where(Device.id == device)).one_or_none()
    if row is None:
        return None
    edge = bytes(row.trail_edge)
    frontier = Frontier(row.trail_size, tuple(edge[at : at + 32] for at in range(0, len(edge), 32)))
    last = bytes(row.trail_last) if row.trail_last is not None else None
    time = parse_rfc3339(row.trail_time) if row.trail_time else None
    return DeviceState(bytes(row.public_key), row.revoked_at is not None, TrailHead(frontier, last, time))
