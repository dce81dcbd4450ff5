"""The SQLite file: its schema, its settings, and typed refusals in place of SQLite's own."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from facekeep.errors import VaultError
from facekeep.keys.files import PRIVATE_FILE, sync_directory, typed_os_errors

SCHEMA_VERSION: Final = 2
APPLICATION_ID: Final = 0x464B5654  # "FKVT"
# Tables under the head's Merkle roots. No index and no text column: what SQLite could misread or lose, it does not keep.
TABLES: Final = ("subjects", "templates", "consents", "settings", "features", "samples")
# What version 2 added: a vault of version 1 is brought up to it when it is opened.
ADDED_TABLES: Final = ("features", "samples")
SCHEMA: Final[dict[str, str]] = {
    "head": "id INTEGER PRIMARY KEY, body BLOB NOT NULL, mac BLOB NOT NULL",
    "subjects": "slot INTEGER PRIMARY KEY, index_tag BLOB NOT NULL, epoch INTEGER NOT NULL, wrapped_key BLOB NOT NULL, "
    "profile BLOB NOT NULL",
    "templates": "slot INTEGER PRIMARY KEY, subject_slot INTEGER NOT NULL REFERENCES subjects(slot), reference_id BLOB NOT NULL, "
    "contract_id BLOB NOT NULL, purpose BLOB NOT NULL, consent_id BLOB NOT NULL, dtype BLOB NOT NULL, dimension INTEGER NOT NULL, "
    "enrolled_at_us INTEGER NOT NULL, envelope BLOB NOT NULL",
    "consents": "slot INTEGER PRIMARY KEY, principal_id BLOB NOT NULL, body BLOB NOT NULL, signature BLOB NOT NULL",
    "settings": "slot INTEGER PRIMARY KEY, name BLOB NOT NULL, value BLOB NOT NULL",
    "features": "slot INTEGER PRIMARY KEY REFERENCES templates(slot), base BLOB NOT NULL, row_count INTEGER NOT NULL, "
    "dimension INTEGER NOT NULL, envelope BLOB NOT NULL",
    "samples": "slot INTEGER PRIMARY KEY, subject_slot INTEGER NOT NULL REFERENCES subjects(slot), sample_id BLOB NOT NULL, "
    "base BLOB NOT NULL, purpose BLOB NOT NULL, consent_id BLOB NOT NULL, kind BLOB NOT NULL, dimension INTEGER NOT NULL, "
    "kept_at_us INTEGER NOT NULL, envelope BLOB NOT NULL",
    "trail": "seq INTEGER PRIMARY KEY, body BLOB NOT NULL",
    "trail_head": "id INTEGER PRIMARY KEY, body BLOB NOT NULL, mac BLOB NOT NULL, note BLOB NOT NULL",
}
# The vault and the files SQLite keeps beside it.
SIDE_FILES: Final = ("", "-wal", "-shm", "-journal")
_STATEMENTS: Final = {name: f"CREATE TABLE {name}({columns})" for name, columns in SCHEMA.items()}

Row = tuple[Any, ...]
_POLL_SECONDS = 0.001
_LEAST_FREE_BYTES = 64 * 1024

_BY_PRIMARY_CODE: Final[dict[int, tuple[str, str]]] = {
    sqlite3.SQLITE_BUSY: ("vault.busy", "Another process holds the vault. Try again when it is done."),
    sqlite3.SQLITE_LOCKED: ("vault.busy", "Another process holds the vault. Try again when it is done."),
    sqlite3.SQLITE_PROTOCOL: ("vault.busy", "Another process holds the vault. Try again when it is done."),
    sqlite3.SQLITE_READONLY: (
        "vault.read_only",
        "The vault cannot be written. Give its owner write permission, or remount the disk.",
    ),
    sqlite3.SQLITE_PERM: ("vault.read_only", "The vault cannot be written. Give its owner write permission, or remount the disk."),
    sqlite3.SQLITE_FULL: ("vault.disk_full", "The disk is full. Free some space and try again; nothing was lost."),
    sqlite3.SQLITE_IOERR: ("vault.io", "The operating system refused a read or a write. Check the disk."),
    sqlite3.SQLITE_NOMEM: ("vault.io", "The device is out of memory."),
}


def damaged(what: str = "The vault is damaged or was changed") -> VaultError:
    """Return the error for a vault that does not verify."""
    return VaultError("vault.corrupt", f"{what}. Restore it from a backup made after the last erasure.")


def blob(value: object) -> bytes:
    """Return a column that has to be bytes.

    Raises:
        VaultError: "vault.corrupt".
    """
    if not isinstance(value, bytes):
        raise damaged()
    return value


def integer(value: object) -> int:
    """Return a column that has to be a whole number.

    Raises:
        VaultError: "vault.corrupt".
    """
    if not isinstance(value, int):
        raise damaged()
    return value


class Store:
    """One connection to a vault file. Every failure is a `VaultError`; callers bring their own lock.

    Args:
        path: an existing file; SQLite is told not to make one.
        busy_timeout_seconds: how long to wait for another process.
    """

    def __init__(self, path: Path, busy_timeout_seconds: float) -> None:
        self._path = path
        self._synchronous = ""
        self._busy_timeout_seconds = busy_timeout_seconds
        with self._typed():
            self._connection: sqlite3.Connection | None = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=_POLL_SECONDS,
            )
        # Bytes, never text: a flipped bit must not become a decoding error.
        self._connection.text_factory = bytes
        try:
            self.run("PRAGMA temp_store=MEMORY")  # No plain copy of a row in a temporary file.
            self.run("PRAGMA secure_delete=ON")  # Deleted rows are overwritten, not only unlinked.
            self.run("PRAGMA foreign_keys=ON")
            self.run("PRAGMA trusted_schema=OFF")
            self.run("PRAGMA cell_size_check=ON")
            self._set_synchronous("FULL")
        except VaultError:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, page_size: int) -> None:
        """Write an empty vault file with its tables, closed and complete on the disk."""
        with typed_os_errors("create the vault"):
            cls.remove(path)
            # Made before SQLite opens it, so that it is never readable by others; SQLite gives its side files the same mode.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))
        with contextlib.closing(cls(path, 5.0)) as store:
            store.run(f"PRAGMA page_size={page_size:d}")
            store.run("PRAGMA journal_mode=WAL")
            store.begin(durable=True)
            store.run(f"PRAGMA application_id={APPLICATION_ID}")
            store.run(f"PRAGMA user_version={SCHEMA_VERSION}")
            store.create_tables(SCHEMA)
            store.commit()
        with typed_os_errors("create the vault"):
            sync_directory(path.parent)

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a vault file that never served, and SQLite's side files.

        Raises:
            OSError: whatever the operating system refuses.
        """
        for suffix in SIDE_FILES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    def create_tables(self, names: Iterable[str]) -> None:
        """Create some of our tables, inside the caller's transaction."""
        for name in names:
            self.run(_STATEMENTS[name])

    def require_schema(self, wanted: int = SCHEMA_VERSION) -> None:
        """Return if the file is a vault of one version, this one if left out, with exactly its tables.

        Raises:
            VaultError: "vault.corrupt" or "vault.newer_version".
        """
        if self.value("PRAGMA application_id") != APPLICATION_ID:
            raise damaged("The file is not a Facekeep vault")
        version = self.version
        if version > SCHEMA_VERSION:
            raise VaultError(
                "vault.newer_version", f"The vault has format {version}; this Facekeep reads up to {SCHEMA_VERSION}. Update it."
            )
        # A trigger or a view laid into the file would run inside our transactions.
        found = {(kind, name): sql for kind, name, sql in self.rows("SELECT type, name, sql FROM sqlite_master")}
        names = [name for name in SCHEMA if wanted == SCHEMA_VERSION or name not in ADDED_TABLES]
        expected = {(b"table", name.encode()): _STATEMENTS[name].encode() for name in names}
        if version != wanted or found != expected or self.value("PRAGMA journal_mode") != b"wal":
            raise damaged()

    @property
    def version(self) -> int:
        """The format that the file says it has, before anything else of it is believed."""
        return integer(self.value("PRAGMA user_version"))

    def rows(self, sql: str, *parameters: object) -> list[Row]:
        """Return every row of a query."""
        with self._typed():
            return self._execute(sql, parameters).fetchall()

    def batches(self, sql: str, *parameters: object, size: int = 64) -> Iterator[list[Row]]:
        """Yield the rows of a query, a few at a time."""
        with self._typed():
            cursor = self._execute(sql, parameters)
        while True:
            with self._typed():
                rows = cursor.fetchmany(size)
            if not rows:
                return
            yield rows

    def row(self, sql: str, *parameters: object) -> Row:
        """Return the only row of a query.

        Raises:
            VaultError: "vault.corrupt" if there is none, or more than one.
        """
        found = self.rows(sql, *parameters)
        if len(found) != 1:
            raise damaged()
        return found[0]

    def value(self, sql: str, *parameters: object) -> Any:
        """Return the only column of the only row."""
        return self.row(sql, *parameters)[0]

    def run(self, sql: str, *parameters: object) -> int:
        """Run a statement and return how many rows it changed."""
        with self._typed():
            return self._execute(sql, parameters).rowcount

    def change(self, sql: str, *parameters: object) -> None:
        """Run a statement that has to change exactly one row.

        Raises:
            VaultError: "vault.corrupt".
        """
        if self.run(sql, *parameters) != 1:
            raise damaged()

    def change_each(self, sql: str, rows: Iterable[Row], count: int) -> None:
        """Run a statement for each of `count` rows, changing exactly one each time."""
        with self._typed():
            changed = self._open().executemany(sql, rows).rowcount
        if changed != count:
            raise damaged()

    def begin(self, *, durable: bool) -> None:
        """Begin a transaction and hold the right to write.

        Args:
            durable: whether the commit outlives a loss of power; without it, it outlives the death of the process only.
        """
        self._set_synchronous("FULL" if durable else "NORMAL")
        self.run("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        """Begin a transaction that sees one state of the vault and holds nobody up."""
        self.run("BEGIN DEFERRED")

    def commit(self) -> None:
        """Commit."""
        self.run("COMMIT")

    def rollback(self) -> None:
        """End the transaction, if there is one, without a trace. Raises nothing: it runs while an error is on its way."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Move all content into the main file and empty the write-ahead log; a reader elsewhere may put it off."""
        with contextlib.suppress(VaultError):
            self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _set_synchronous(self, level: str) -> None:
        if self._synchronous != level:
            self.run(f"PRAGMA synchronous={level}")
            self._synchronous = level

    def _execute(self, sql: str, parameters: tuple[object, ...]) -> sqlite3.Cursor:
        # SQLite's own waiting backs off to a tenth of a second, and starves whoever shares a vault with a busy process.
        connection, deadline = self._open(), time.monotonic() + self._busy_timeout_seconds
        while True:
            try:
                return connection.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                is_busy = _primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)
                if not is_busy or connection.in_transaction or time.monotonic() >= deadline:
                    raise
            time.sleep(_POLL_SECONDS)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise VaultError("vault.closed", "The vault is closed. Open it again.")
        return self._connection

    @contextlib.contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._refusal(error) from None
        except MemoryError:
            raise VaultError("vault.io", "The device is out of memory.") from None
        except UnicodeDecodeError:
            # SQLite's message quotes what it found in a damaged schema.
            raise damaged() from None

    def _disk_is_full(self) -> bool:
        try:
            # Imported here: it brings three compressors along, and this is asked only when a write has failed.
            import shutil

            return shutil.disk_usage(self._path.parent).free < _LEAST_FREE_BYTES
        except OSError:
            return False

    def _refusal(self, error: sqlite3.Error) -> VaultError:
        name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
        primary = _primary_code(error)
        if primary == sqlite3.SQLITE_CANTOPEN:
            # SQLite says the same when it may not make its side files.
            if not os.access(self._path.parent, os.W_OK | os.X_OK) or not os.access(self._path, os.R_OK | os.W_OK):
                primary = sqlite3.SQLITE_READONLY
            else:
                primary = sqlite3.SQLITE_IOERR
        if primary == sqlite3.SQLITE_IOERR and self._disk_is_full():
            # What SQLite says when its shared-memory file cannot grow.
            primary = sqlite3.SQLITE_FULL
        code, message = _BY_PRIMARY_CODE.get(primary, ("vault.corrupt", ""))
        # Our statements are constant: any other refusal (no such column, not a database) is the file's doing.
        return VaultError(code, f"{message} ({name})") if message else damaged(f"SQLite cannot read the vault ({name})")


def _primary_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def require_regular_files(path: Path) -> None:
    """Return if a vault file and what lies beside it under SQLite's names are regular files.

    Raises:
        VaultError: "vault.corrupt".
    """
    # SQLite opens what has the name of its journal, and a pipe of that name would hold it for ever.
    for suffix in SIDE_FILES:
        file = path.with_name(f"{path.name}{suffix}")
        with typed_os_errors("look at the vault"):
            if file.is_symlink() or (file.exists() and not file.is_file()):
                raise damaged(f"{file.name} is not a regular file")
