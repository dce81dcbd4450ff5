"""What every part of a transaction shares: the file, the keys, the outline of the tables, and the end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head
from facekeep.clock import Clock
from facekeep.consent import SignedConsent
from facekeep.errors import EnrolmentError, VaultError
from facekeep.keys import Keystore
from facekeep.merkle import Frontier
from facekeep.randomness import Randomness
from facekeep.retention import ErasureMark
from facekeep.signing import DeviceKey
from facekeep.vault.head import VaultHead, write_head, write_trail_head
from facekeep.vault.state import Snapshot, next_head
from facekeep.vault.store import Row, Store, blob
from facekeep.vault.subjects import COLUMNS, OpenedSubject, SubjectHandle, index_tag, open_subject
from facekeep.vault.tables import Tables, record_leaf

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


class WorkingState:
    """The state of a vault inside a transaction, and what it was when that began.

    Attributes:
        tables_changed: whether anything but the trail was written.
        shredded: what was destroyed so far; if anything, the wrap key has to be rotated before the commit.
        last_entry: the entry of the trail appended last, or None.
        before_last: right edge of the trail before that.
        note: signed head of the trail, once the transaction has committed one.
    """

    def __init__(
        self,
        store: Store,
        keystore: Keystore,
        key: DeviceKey,
        snapshot: Snapshot,
        *,
        clock: Clock,
        randomness: Randomness,
        durable: bool,
    ) -> None:
        self._store = store
        self._keystore = keystore
        self._key = key
        self._snapshot = snapshot
        self._tables: Tables = snapshot.tables
        self._trail: TrailHead = snapshot.trail
        self._epoch = snapshot.head.epoch
        self._clock = clock
        self._randomness = randomness
        self._durable = durable
        self._opened: dict[int, OpenedSubject] = {}
        self._is_open = True
        self.tables_changed = False
        self.shredded: list[ErasureMark] = []
        self.last_entry: bytes | None = None
        self.before_last = Frontier()
        self.note = ""

    def __repr__(self) -> str:
        return f"VaultTransaction(durable={self._durable})"

    @property
    def revision(self) -> int:
        """The vault's revision when this transaction began."""
        return self._snapshot.head.revision

    @property
    def last_event_time(self) -> datetime | None:
        """Time of the last entry of the trail, or None before the first: the high-water mark of the device's clock."""
        return self._trail.last_time

    @property
    def trail_size(self) -> int:
        """Number of entries ever written to the trail, with those of this transaction."""
        return self._trail.size

    @property
    def trail_hash(self) -> str | None:
        """Hexadecimal leaf hash of the last entry of the trail, or None before the first."""
        return self._trail.last_hash.hex() if self._trail.last_hash else None

    def append_event(self, event: AuditEvent) -> None:
        """Add an entry to the trail, dated by the vault's clock; it is there when the transaction is."""
        self._require_open()
        self.before_last = self._trail.frontier
        self.last_entry, self._trail = append_event(self._trail, event, self._clock.now())
        self._store.change("INSERT INTO trail(seq, body) VALUES (?, ?)", self._trail.size - 1, self.last_entry)

    def read_setting(self, name: str) -> bytes | None:
        """Return a setting, or None. Settings are authenticated, not sealed: no secret and no name belongs there."""
        self._require_open()
        slot = self._tables.setting_slots.get(name.encode("utf-8"))
        return None if slot is None else blob(self._store.value("SELECT value FROM settings WHERE slot = ?", slot))

    def write_setting(self, name: str, value: bytes) -> None:
        """Set a setting."""
        self._require_durable()
        key = name.encode("utf-8")
        slot = self._tables.setting_slots.get(key)
        if slot is None:
            slot = self._tables.slots["settings"].take()
            self._insert("settings", (slot, key, value))
            self._tables.setting_slots[key] = slot
        else:
            self.tables_changed = True
            self._store.change("UPDATE settings SET value = ? WHERE slot = ?", value, slot)
            self._tables.slots["settings"].put(slot, record_leaf("settings", slot, key, value))

    def finish(self) -> Snapshot:
        """Write the heads, commit, and return the state after it. `SQLiteVault.transaction` calls it."""
        before = self._snapshot
        changed = self.tables_changed or self._trail is not before.trail
        if not changed:
            self._store.rollback()
            return before
        trail_bytes, head, head_bytes = before.trail_bytes, before.head, before.head_bytes
        secret = self._keystore.secrets.head_key
        if self._trail is not before.trail:
            self.note = sign_head(self._trail, self._key)
            trail_bytes = write_trail_head(self._store, secret, self._trail, self.note)
        if self._durable:
            head = self._next_head()
            head_bytes = write_head(self._store, secret, head)
        self._store.commit()
        return Snapshot(head, head_bytes, self._tables, self._trail, trail_bytes)

    def end(self) -> None:
        """Let go of everything opened."""
        self._is_open = False
        self._opened.clear()

    def _next_head(self) -> VaultHead:
        return next_head(self._snapshot.head, self._tables, self._trail, self._epoch, tables_changed=self.tables_changed)

    def _require_open(self) -> None:
        if not self._is_open:
            raise VaultError("vault.closed", "The transaction has ended. Begin another.")

    def _require_durable(self) -> None:
        self._require_open()
        if not self._durable:
            raise ValueError("only the trail may be written in a transaction that is not durable")

    def _insert(self, table: str, row: Row) -> None:
        self._store.change(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)  # noqa: S608 - constants only
        self._note(table, row)

    def _note(self, table: str, row: Row) -> None:
        """Take in that a row of a table has these columns now."""
        self.tables_changed = True
        self._tables.slots[table].put(row[0], record_leaf(table, *row))

    def _open(self, slot: int) -> OpenedSubject:
        if slot not in self._opened:
            row = self._store.row(f"SELECT {COLUMNS} FROM subjects WHERE slot = ?", slot)  # noqa: S608 - constants only
            self._opened[slot] = open_subject(self._keystore.secrets, row)
        return self._opened[slot]

    def _subject(self, handle: SubjectHandle) -> OpenedSubject:
        self._require_open()
        # The slot of an erased subject is used again: a handle kept from before must not reach its new owner.
        slot = self._tables.subject_slots.get(index_tag(self._keystore.secrets, handle.name))
        if slot is None or slot != handle.slot or self._open(slot).handle != handle:
            raise gone()
        return self._open(slot)

    def _consent(self, slot: int) -> SignedConsent:
        body, signature = self._store.row("SELECT body, signature FROM consents WHERE slot = ?", slot)
        return SignedConsent.from_columns(blob(body), blob(signature))


def gone() -> EnrolmentError:
    """Return the error for a subject that was erased."""
    return EnrolmentError("enrolment.not_enrolled", "The subject is not in the vault any more.")
