"""What a scan of the files has to know of an open vault. Hands out prefixes and answers, no key and no row."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from facekeep.errors import VaultError
from facekeep.identifiers import require_subject_id
from facekeep.keys import Keystore
from facekeep.sealing import PREFIX_BYTES
from facekeep.vault.store import Store, blob
from facekeep.vault.subjects import index_tag

_QUERY: Final = (
    "SELECT wrapped_key FROM subjects UNION ALL SELECT profile FROM subjects UNION ALL SELECT envelope FROM templates "
    "UNION ALL SELECT envelope FROM features UNION ALL SELECT substr(envelope, 1, 20) FROM samples "
    "UNION ALL SELECT value FROM settings WHERE substr(name, 1, 7) = x'7365616c65642f' AND length(value) > 0"  # sealed/
)


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """An open vault, seen by a scan of its files.

    Attributes:
        home: where it lies.
    """

    home: Path
    _store: Store
    _keystore: Keystore
    _lock: AbstractContextManager[object]

    def empty_log(self) -> None:
        """Move all content into the main file and empty the write-ahead log; a reader elsewhere may put it off."""
        with self._lock:
            self._store.checkpoint()

    def index_tag(self, subject: str) -> bytes:
        """Return the 32-byte tag under which this vault would find a name.

        Raises:
            VaultError: "vault.invalid_identifier".
        """
        return index_tag(self._keystore.secrets, require_subject_id(subject))

    def envelopes(self) -> frozenset[bytes]:
        """Return the first 20 bytes, header and nonce, of every envelope of every row."""
        with self._lock:
            return frozenset(blob(row[0])[:PREFIX_BYTES] for row in self._store.rows(_QUERY))

    def is_current_keystore(self, data: bytes) -> bool:
        """Return whether a keystore file opens with this vault's master key and holds no wrap key but the one in use."""
        with contextlib.suppress(VaultError), self._lock:
            self._keystore.refresh()
            return self._keystore.holds_no_more_than(data)
        return False
