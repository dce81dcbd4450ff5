"""Keys of notes, by kind: the log's own signatures and a witness's timestamped ones.

Sources: https://c2sp.org/signed-note#verifier-keys and https://c2sp.org/tlog-cosignature.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

from facekeep.tlog.numbers import malformed, parse_base64, to_base64


class NoteKind(IntEnum):
    """Signature type of a note key. Ed25519 only; ML-DSA-44 cosignatures (0x06) are not read yet."""

    ED25519 = 0x01
    COSIGNATURE = 0x04


def is_key_name(name: str) -> bool:
    """Return whether `name` may stand in a signature line: not empty, no white space, no plus sign, no control character."""
    return bool(name) and all(not c.isspace() and c != "+" and ord(c) >= 0x20 and not 0xD800 <= ord(c) < 0xE000 for c in name)


@dataclass(frozen=True, slots=True)
class NoteKey:
    """The public half of a key that signs notes.

    Attributes:
        name: key name; for a log, its origin.
        kind: what its signatures are over.
        public_key: 32 bytes, Ed25519.

    Raises:
        LogError: "log.malformed".
    """

    name: str
    kind: NoteKind
    public_key: bytes

    def __post_init__(self) -> None:
        if not is_key_name(self.name) or len(self.public_key) != 32:
            raise malformed("A note key has a name without white space or plus sign and 32 bytes")

    @property
    def key_id(self) -> bytes:
        """The 4-byte hash that a signature line begins with."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public_key).digest()[:4]

    def to_vkey(self) -> str:
        """Return the `vkey` text."""
        return f"{self.name}+{self.key_id.hex()}+{to_base64(bytes([self.kind]) + self.public_key)}"

    @classmethod
    def parse(cls, vkey: str) -> NoteKey:
        """Return the key of a `vkey`.

        Raises:
            LogError: "log.malformed", also where the hash in the middle is not the key's.
        """
        parts = vkey.split("+", 2)
        if len(parts) != 3:
            raise malformed("A vkey is a name, a hash and a key, joined by plus signs")
        blob = parse_base64(parts[2], "The key of a vkey")
        if blob[0] not in set(NoteKind):
            raise malformed(f"A vkey of signature type {blob[0]:#04x} is not one of Ed25519 or cosignature/v1")
        key = cls(parts[0], NoteKind(blob[0]), blob[1:])
        if key.key_id.hex() != parts[1]:
            raise malformed("The hash of a vkey does not belong to its key")
        return key
