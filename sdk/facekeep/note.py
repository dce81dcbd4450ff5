"""Signed notes and checkpoints in the formats of C2SP, so that verifiers written by others can check ours.

Sources: https://c2sp.org/signed-note and https://c2sp.org/tlog-checkpoint.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from facekeep.errors import TrustError
from facekeep.signing import SIGNATURE_BYTES, DeviceKey, verify_raw

_ED25519 = b"\x01"  # https://c2sp.org/signed-note#signature-types
_DASH = "— "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The body of a checkpoint: which log, how long, and the head of its tree.

    Attributes:
        origin: unique name of the log, no white space.
        size: number of entries.
        root: 32-byte RFC 6962 tree head over them.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or any(c.isspace() or c == "+" for c in self.origin) or self.size < 0 or len(self.root) != 32:
            raise ValueError("a checkpoint has an origin without white space, a size and a 32-byte root")

    def to_text(self) -> str:
        """Return the three lines of the note body."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Return the checkpoint of a note body; extension lines are allowed and ignored.

        Raises:
            TrustError: "trust.malformed".
        """
        lines = text.split("\n")
        try:
            origin, size, root = lines[0], lines[1], base64.b64decode(lines[2], validate=True)
            if not size.isascii() or not size.isdigit() or str(int(size)) != size:
                raise ValueError
            return cls(origin, int(size), root)
        except (IndexError, ValueError, binascii.Error):
            raise TrustError("trust.malformed", "The checkpoint is not origin, size and root on three lines.") from None


def key_id(name: str, public_key: bytes) -> bytes:
    """Return the 4-byte key hash of an Ed25519 note key."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def verifier_key(name: str, public_key: bytes) -> str:
    """Return the `vkey` text that hands a note's public key to any verifier."""
    return f"{name}+{key_id(name, public_key).hex()}+{base64.b64encode(_ED25519 + public_key).decode()}"


def sign_note(text: str, name: str, key: DeviceKey) -> str:
    """Return `text`, an empty line and one signature line.

    Raises:
        ValueError: if `text` does not end in a newline or the name has white space or a plus sign.
    """
    if not text.endswith("\n") or not name or any(c.isspace() or c == "+" for c in name):
        raise ValueError("a note ends in a newline, and the name of its key has no white space and no plus sign")
    signature = key_id(name, key.public_bytes) + key.sign_note(text.encode())
    return f"{text}\n{_DASH}{name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, name: str, public_key: bytes) -> str:
    """Return the text of `note` after finding a valid signature by this name and key; others are ignored.

    Raises:
        TrustError: "trust.malformed" or "trust.bad_signature".
    """
    text, separator, signatures = note.rpartition("\n\n")
    if not separator or not signatures.endswith("\n"):
        raise TrustError("trust.malformed", "A signed note is a text, an empty line and signature lines.")
    text += "\n"
    # Every line is read before any counts: a note that some verifiers reject must not pass here.
    blobs = [_read_signature_line(line) for line in signatures[:-1].split("\n")]
    for signer, blob in blobs:
        if signer == name and blob[:4] == key_id(name, public_key):
            if len(blob) != 4 + SIGNATURE_BYTES:
                raise TrustError("trust.malformed", "An Ed25519 note signature has 64 bytes.")
            verify_raw(public_key, text.encode(), blob[4:])
            return text
    raise TrustError("trust.bad_signature", "The note carries no signature by the key expected.")


def unsafe_note_text(note: str) -> str:
    """Return the text of `note` without looking at its signatures: for notes that were verified before they were kept."""
    return note.rpartition("\n\n")[0] + "\n"


def _read_signature_line(line: str) -> tuple[str, bytes]:
    words = line.split(" ")
    try:
        if len(words) != 3 or words[0] != _DASH.strip() or not words[1]:
            raise ValueError
        blob = base64.b64decode(words[2], validate=True)
        if len(blob) < 5:
            raise ValueError
    except (ValueError, binascii.Error):
        raise TrustError("trust.malformed", "A signature line is a dash, a name and base64.") from None
    return words[1], blob
