"""The vault of a device: one SQLite file and its keystore."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from facekeep.audit import AuditEvent, TrailReport, verify_trail
from facekeep.clock import Clock
from facekeep.errors import VaultError
from facekeep.keys import Keystore
from facekeep.keys.files import typed_os_errors
from facekeep.ports import KeyProvider
from facekeep.randomness import Randomness, SystemRandomness
from facekeep.retention import Inclusion
from facekeep.signing import DeviceKey
from facekeep.vault.creation import KEYSTORE_FILE, VAULT_FILE, build_vault
from facekeep.vault.head import VaultHead, read_head_bytes, read_trail_base, read_trail_head
from facekeep.vault.inspection import Inspection
from facekeep.vault.shredding import TRAIL_BASE, ErasedCounts
from facekeep.vault.state import Snapshot, read_head
from facekeep.vault.store import Store, blob, damaged, require_regular_files
from facekeep.vault.subjects import SubjectHandle
from facekeep.vault.transaction import VaultTransaction
from facekeep.vault.upgrading import upgrade_if_older

_SYSTEM_RANDOMNESS = SystemRandomness()
_TRAIL_BATCH = 512


class SQLiteVault:
    """Subjects, sealed templates, consents, settings and audit trail. Safe for threads and for several processes.

    Made by `create` or `open`; a context manager that closes.
    """

    def __init__(self, home: Path, store: Store, keystore: Keystore, clock: Clock, randomness: Randomness) -> None:
        self._home = home
        self._store = store
        self._keystore = keystore
        self._clock = clock
        self._randomness = randomness
        self._key = DeviceKey(keystore.secrets.device_seed)
        self._lock = threading.RLock()
        self._snapshot: Snapshot | None = None
        self._in_transaction = False
        self._is_closed = False

    def __repr__(self) -> str:
        return f"SQLiteVault({self.vault_id[:8]}{', closed' if self._is_closed else ''})"

    def __enter__(self) -> SQLiteVault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @staticmethod
    def exists(home: Path) -> bool:
        """Return whether a vault lies in `home`."""
        return (home / VAULT_FILE).exists()

    @classmethod
    def create(
        cls,
        home: Path,
        provider: KeyProvider,
        *,
        clock: Clock,
        randomness: Randomness = _SYSTEM_RANDOMNESS,
        busy_timeout_seconds: float = 5.0,
        page_size: int = 4096,
    ) -> SQLiteVault:
        """Make a vault in `home`, which is created with access for its owner only, and return it open.

        Raises:
            VaultError: "vault.already_exists", why the provider has no key, or why the files cannot be written.
        """
        keystore = build_vault(
            home, provider, randomness=randomness, busy_timeout_seconds=busy_timeout_seconds, page_size=page_size
        )
        vault = cls(home, Store(home / VAULT_FILE, busy_timeout_seconds), keystore, clock, randomness)
        try:
            vault._load()
        except BaseException:
            vault.close()
            raise
        return vault

    @classmethod
    def open(
        cls,
        home: Path,
        provider: KeyProvider,
        *,
        clock: Clock,
        randomness: Randomness = _SYSTEM_RANDOMNESS,
        busy_timeout_seconds: float = 5.0,
    ) -> SQLiteVault:
        """Open the vault in `home`, verify every row against its head, and finish a rotation that a crash cut short.

        A vault of version 1 is brought up to this version first.

        Raises:
            VaultError: "vault.not_found", "vault.wrong_key", "vault.corrupt", "vault.rolled_back", "vault.newer_version",
                "vault.busy", "vault.read_only" and the key provider's.
            AuditError: "audit.truncated", "audit.broken_chain", "audit.bad_signature".
        """
        if not cls.exists(home):
            raise VaultError("vault.not_found", "There is no vault in the directory given. Create one, or check the path.")
        keystore = Keystore.open(home / KEYSTORE_FILE, provider, randomness=randomness, busy_timeout_seconds=busy_timeout_seconds)
        require_regular_files(home / VAULT_FILE)
        vault = cls(home, store := Store(home / VAULT_FILE, busy_timeout_seconds), keystore, clock, randomness)
        try:
            upgrade_if_older(store, keystore, vault._key, clock, randomness)
            store.require_schema()
            vault._load()
        except BaseException:
            vault.close()
            raise
        return vault

    @property
    def device_key(self) -> DeviceKey:
        """The key that signs for this device."""
        return self._key

    @property
    def home(self) -> Path:
        """The directory it lies in."""
        return self._home

    @property
    def vault_id(self) -> str:
        """Random identifier of this vault, 32 hexadecimal digits."""
        return self._keystore.secrets.vault_id

    @property
    def revision(self) -> int:
        """A number that changes when any process changes subjects, templates, consents or settings; the trail alone leaves it."""
        with self._lock:
            body = read_head_bytes(self._store, self._keystore.secrets.head_key)
            if self._snapshot is not None and self._snapshot.head_bytes == body:
                return self._snapshot.head.revision
            return VaultHead.parse(body).revision

    @property
    def is_anchored(self) -> bool:
        """Whether the keystore remembers the last durable commit; the next one makes up for it where a full disk forbade."""
        with self._lock:
            if self._snapshot is None:
                return False
            head = self._snapshot.head
            if not self._keystore.is_settled(head.epoch, head.anchor):
                # Another process may have seen to it.
                self._keystore.refresh()
            return self._keystore.is_settled(head.epoch, head.anchor)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[VaultTransaction]:
        """Hold the vault alone, for reading or writing; commit at the end, or undo everything if an exception leaves the block.

        Args:
            durable: whether the commit outlives a loss of power. Without it only the trail may be written, and a loss of power,
                not the death of the process, may take the last entries.

        Raises:
            VaultError: "vault.busy" (also for a transaction inside another), "vault.disk_full", "vault.read_only", "vault.closed".
        """
        with self._lock:
            with self._begin(durable=durable) as transaction:
                yield transaction
            if durable:
                # The commit stands; the anchor is a lower bound, and one that lags is made up for by the next commit.
                self._settle_if_possible()

    def erase(
        self,
        subject: str,
        event: Callable[[int, int], AuditEvent],
        *,
        before: Callable[[VaultTransaction, SubjectHandle], None] | None = None,
    ) -> ErasedCounts | None:
        """Destroy a subject: its key, its templates, its salt. Return None if there is no such subject.

        1. add a wrap key for the next epoch
        2. in one transaction: delete the rows, put every other data key under the new wrap key, append the event
        3. destroy the wrap keys of earlier epochs, so that copies of the old rows stay shut
        4. empty the write-ahead log
        Returns after 4. A crash before 2 is done leaves everything as it was; one after it is made up for by `open`.

        Args:
            subject: whom.
            event: makes the audit event of the number of templates and the new epoch.
            before: called first in the same transaction, to record a withdrawal for instance.

        Raises:
            VaultError: also after 2, if 3 failed: the subject is gone, and the next durable commit or `open` completes it.
        """
        found: list[int] = []

        def drop(transaction: VaultTransaction) -> None:
            handle = transaction.find_subject(subject)
            if handle is not None:
                if before is not None:
                    before(transaction, handle)
                found.append(transaction.drop_subject(handle))

        transaction, epoch = self.shred(drop, lambda epoch: [event(found[0], epoch)] if found else [])
        if not found:
            return None
        if transaction.last_entry is None:
            raise AssertionError("an erasure is recorded")
        inclusion = Inclusion(transaction.last_entry, transaction.before_last.edge, transaction.note)
        return ErasedCounts(found[0], epoch, tuple(transaction.shredded), inclusion)

    def shred(
        self, drop: Callable[[VaultTransaction], None], events: Callable[[int], Iterable[AuditEvent]]
    ) -> tuple[VaultTransaction, int]:
        """Destroy what `drop` drops, all of it or nothing, so that no earlier copy of the vault opens it.

        The steps are those of `erase`; the wrap key is rotated once for everything, and not at all if nothing sealed was dropped.

        Args:
            drop: called in the transaction with `drop_subject`, `drop_templates`, `drop_consents` or `prune_trail` to call.
            events: makes the audit events, in order, of the epoch of the wrap key.

        Returns:
            The transaction, which has ended, for what it remembers of itself; and the epoch.

        Raises:
            VaultError: as `erase`.
        """
        with self._lock:
            with self._begin(durable=True) as transaction:
                drop(transaction)
                epoch = self._rotate(transaction) if transaction.shredded else self._require_snapshot().head.epoch
                for event in events(epoch):
                    transaction.append_event(event)
            self._settle()
            self._store.checkpoint()
            return transaction, epoch

    def rotate_keys(self, event: Callable[[int], AuditEvent] | None = None) -> int:
        """Put every data key under a fresh wrap key, destroy the old one, and return the new epoch.

        Args:
            event: makes the audit event of the new epoch; by default "key.rotated".
        """
        with self._lock:
            with self._begin(durable=True) as transaction:
                epoch = self._rotate(transaction)
                transaction.append_event(event(epoch) if event else AuditEvent("key.rotated", details={"epoch": epoch}))
            self._settle()
            self._store.checkpoint()
            return epoch

    def trail_entries(self) -> Iterator[bytes]:
        """Yield the entries of the trail as they stood at the first one asked for, in order, a batch at a time."""
        with self._lock:
            first, size = self._store.row("SELECT coalesce(min(seq), 0), coalesce(max(seq) + 1, 0) FROM trail")
        for start in range(first, size, _TRAIL_BATCH):
            with self._lock:
                rows = self._store.rows(
                    "SELECT body FROM trail WHERE seq >= ? AND seq < ? ORDER BY seq", start, min(start + _TRAIL_BATCH, size)
                )
            for (body,) in rows:
                yield blob(body)

    def trail_note(self) -> str:
        """Return the signed head of the trail, a C2SP signed note."""
        with self._lock:
            return read_trail_head(self._store, self._keystore.secrets.head_key)[1].decode("utf-8")

    def verify_trail(self) -> TrailReport:
        """Return a report if the trail, as it stands now, is the one its signed head was made over.

        Raises:
            AuditError: "audit.bad_signature", "audit.broken_chain", "audit.truncated".
        """
        with self._reading():
            kept = self._store.rows("SELECT value FROM settings WHERE name = ?", TRAIL_BASE.encode("ascii"))
            base = read_trail_base(blob(kept[0][0]) if kept else None, self._keystore.secrets.head_key)
            return verify_trail(self.trail_entries(), self.trail_note(), self._key.public_bytes, base)

    def verify(self) -> None:
        """Return if all of the vault verifies, held meanwhile: SQLite's structures, every row and envelope, the whole trail.

        Raises:
            VaultError: "vault.corrupt", "vault.sealed", "vault.rolled_back".
            AuditError: as `verify_trail`.
        """
        with self._lock:
            # Read afresh, not from memory: the question is what the disk holds.
            self._snapshot = None
            with self._begin(durable=False) as transaction:
                self._store.require_schema()
                if self._store.rows("PRAGMA integrity_check") != [(b"ok",)]:
                    raise damaged()
                for _ in transaction.sealed_values():
                    pass
            self.verify_trail()

    def inspection(self) -> Inspection:
        """Return what a scan of the files has to know of this vault."""
        return Inspection(self._home, self._store, self._keystore, self._lock)

    def size_on_disk(self) -> int:
        """Return the bytes of all files of the vault."""
        names = (VAULT_FILE, f"{VAULT_FILE}-wal", f"{VAULT_FILE}-shm", KEYSTORE_FILE)
        with typed_os_errors("measure the vault"):
            return sum(path.stat().st_size for path in (self._home / name for name in names) if path.exists())

    def close(self) -> None:
        """Close the vault. Closing twice is no error."""
        with self._lock:
            self._is_closed = True
            self._snapshot = None
            self._store.close()

    def _load(self) -> None:
        # Under the write lock, so that no other process is in the middle of a rotation.
        with self._lock:
            self._store.begin(durable=True)
            try:
                snapshot = read_head(self._store, self._keystore, self._key, None)
                if not self._keystore.is_settled(snapshot.head.epoch, snapshot.head.anchor):
                    self._keystore.settle(snapshot.head.epoch, snapshot.head.anchor, discard_later=True)
            finally:
                self._store.rollback()
            self._snapshot = snapshot

    @contextmanager
    def _begin(self, *, durable: bool) -> Iterator[VaultTransaction]:
        if self._in_transaction:
            raise _inside()
        self._store.begin(durable=durable)
        self._in_transaction = True
        transaction: VaultTransaction | None = None
        try:
            before = self._snapshot = read_head(self._store, self._keystore, self._key, self._snapshot)
            transaction = self._transaction_over(before, durable=durable)
            yield transaction
            self._snapshot = transaction.finish()
        except BaseException:
            self._store.rollback()
            if transaction is not None and transaction.tables_changed:
                # The outline in memory is ahead of the file: read it again when it is next needed.
                self._snapshot = None
            raise
        finally:
            self._in_transaction = False
            if transaction is not None:
                transaction.end()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            if self._in_transaction:
                raise _inside()
            self._store.begin_reading()
            try:
                yield
            finally:
                self._store.rollback()

    def _transaction_over(self, snapshot: Snapshot, *, durable: bool) -> VaultTransaction:
        return VaultTransaction(
            self._store, self._keystore, self._key, snapshot, clock=self._clock, randomness=self._randomness, durable=durable
        )

    def _rotate(self, transaction: VaultTransaction) -> int:
        epoch = self._require_snapshot().head.epoch + 1
        self._keystore.add_wrap_key(epoch)
        transaction.rewrap_all(epoch)
        return epoch

    def _settle(self) -> None:
        head = self._require_snapshot().head
        if not self._keystore.is_settled(head.epoch, head.anchor):
            self._keystore.settle(head.epoch, head.anchor)

    def _settle_if_possible(self) -> None:
        try:
            self._settle()
        except VaultError as error:
            if error.code not in ("vault.disk_full", "vault.read_only", "vault.io", "vault.busy"):
                raise

    def _require_snapshot(self) -> Snapshot:
        if self._snapshot is None:
            raise VaultError("vault.closed", "The vault is closed. Open it again.")
        return self._snapshot


def _inside() -> VaultError:
    return VaultError("vault.busy", "This thread is inside a transaction already. End it before you begin another.")
