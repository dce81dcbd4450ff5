"""The keys that sign checkpoints: made, rotated, retired. While two are in force both sign, so that no verifier is left behind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import insert, select, update

from facekeep.clock import Clock, parse_rfc3339, to_rfc3339
from facekeep.errors import VaultError
from facekeep.keys import KeyFile
from facekeep.keys.files import create_private, make_private_directory, read_regular
from facekeep.note import Checkpoint
from facekeep.randomness import Randomness
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind, SignedNote
from facekeep.tlog.notes import SignatureLine
from facekeep_server.errors import ServerError
from facekeep_server.log.transaction import record_incident
from facekeep_server.store import Store
from facekeep_server.store.tables import LogKey

_LARGEST_KEY_FILE = 4096


@dataclass(frozen=True, slots=True)
class LogKeyRow:
    """The public half of a log key.

    Attributes:
        key: as a note key.
        created_at: when.
        retires_at: when it stops signing, or None.
    """

    key: NoteKey
    created_at: datetime
    retires_at: datetime | None


class LogKeys:
    """The key files and their register in the store.

    Args:
        store: which keys are in force.
        directory: where the private halves are, a file each, readable by their owner only.
        origin: name of the log, and of its keys.
        clock: now.
        randomness: for new keys.
    """

    def __init__(self, store: Store, directory: Path, origin: str, clock: Clock, randomness: Randomness) -> None:
        self._store, self._directory, self._origin = store, directory, origin
        self._clock, self._randomness = clock, randomness
        self._opened: dict[str, DeviceKey] = {}

    def require_first(self) -> None:
        """Make a key if the log has none."""
        if not self.list():
            self._create()

    def rotate(self, overlap: timedelta) -> LogKeyRow:
        """Make a new key and let every older one sign for `overlap` longer; return the new one.

        Raises:
            ServerError: "server.invalid_request" for an overlap that is negative.
        """
        if overlap < timedelta(0):
            raise ServerError("server.invalid_request", "The overlap is the time for which the old key still signs.")
        retires = to_rfc3339(self._clock.now() + overlap)
        new = self._create()
        with self._store.writing() as connection:
            connection.execute(
                update(LogKey).where(LogKey.id != new.key.key_id.hex(), LogKey.retires_at.is_(None)).values(retires_at=retires)
            )
            record_incident(connection, self._clock.now(), "log.key_rotated", None)
        return new

    def list(self) -> list[LogKeyRow]:
        """Return every key, the newest first."""
        columns = (LogKey.public_key, LogKey.created_at, LogKey.retires_at)
        with self._store.reading() as connection:
            rows = connection.execute(select(*columns).order_by(LogKey.retires_at.isnot(None), LogKey.created_at.desc())).all()
        return [
            LogKeyRow(
                NoteKey(self._origin, NoteKind.ED25519, bytes(row.public_key)),
                parse_rfc3339(row.created_at),
                parse_rfc3339(row.retires_at) if row.retires_at else None,
            )
            for row in rows
        ]

    def sign(self, checkpoint: Checkpoint) -> str:
        """Return the checkpoint signed by every key in force, the newest first.

        Raises:
            ServerError: "server.no_key".
        """
        now = self._clock.now()
        active = [row.key for row in self.list() if row.retires_at is None or row.retires_at > now]
        if not active:
            raise ServerError("server.no_key", "No log key is in force. Run: facekeep-server rotate-log-key")
        text = checkpoint.to_text()
        lines = (SignatureLine(key.name, key.key_id, self._open(key).sign_note(text.encode())) for key in active)
        return SignedNote(text, tuple(lines)).to_text()

    def _create(self) -> LogKeyRow:
        seed = self._randomness.token(32)
        key = NoteKey(self._origin, NoteKind.ED25519, DeviceKey(seed).public_bytes)
        now = self._clock.now()
        try:
            make_private_directory(self._directory)
            # The file first: a key that is registered but lost would stop the server.
            create_private(self._path(key), KeyFile.encode(seed))
        except (VaultError, OSError) as error:
            raise ServerError("server.no_key", f"The key file could not be written: {_reason(error)}") from None
        with self._store.writing() as connection:
            connection.execute(insert(LogKey).values(id=key.key_id.hex(), public_key=key.public_key, created_at=to_rfc3339(now)))
        return LogKeyRow(key, now, None)

    def _open(self, key: NoteKey) -> DeviceKey:
        name = key.key_id.hex()
        if name not in self._opened:
            try:
                opened = DeviceKey(KeyFile.parse(read_regular(self._path(key), _LARGEST_KEY_FILE, owner_only=True)))
            except (VaultError, OSError) as error:
                raise ServerError("server.no_key", f"The key file of log key {name} cannot be used: {_reason(error)}") from None
            if opened.public_bytes != key.public_key:
                raise ServerError("server.no_key", f"The key file of log key {name} holds another key.")
            self._opened[name] = opened
        return self._opened[name]

    def _path(self, key: NoteKey) -> Path:
        return self._directory / f"log-{key.key_id.hex()}.key"


def _reason(error: Exception) -> str:
    return error.args[0] if isinstance(error, VaultError) else str(getattr(error, "strerror", "") or "unknown")
