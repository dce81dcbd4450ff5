"""Cosignatures: a witness's dated statement that a checkpoint continues what it saw before.

Source: https://c2sp.org/tlog-cosignature, Ed25519 (cosignature/v1).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from facekeep.errors import LogError, TrustError
from facekeep.signing import SIGNATURE_BYTES, DeviceKey, verify_raw
from facekeep.tlog.keys import NoteKey, NoteKind
from facekeep.tlog.notes import SignatureLine
from facekeep.tlog.numbers import LARGEST_SIZE, malformed


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature.

    Attributes:
        key: whose it is.
        time: when the witness says it made it, UTC, whole seconds.
    """

    key: NoteKey
    time: datetime


def cosign(text: str, name: str, key: DeviceKey, seconds: int) -> SignatureLine:
    """Return the cosignature of the checkpoint body `text`, dated `seconds` after the epoch (POSIX).

    Raises:
        ValueError: if the time is not between the epoch and 2^63 - 1.
    """
    if not 0 <= seconds <= LARGEST_SIZE:
        raise ValueError("a cosignature is dated in seconds since 1970")
    signature = key.sign_note(_message(text, seconds))
    key_id = NoteKey(name, NoteKind.COSIGNATURE, key.public_bytes).key_id
    return SignatureLine(name, key_id, seconds.to_bytes(8, "big") + signature)


def verify_cosignature(text: str, line: SignatureLine, key: NoteKey) -> Cosignature:
    """Return the cosignature if `line` is one by `key` over the checkpoint body `text`.

    Raises:
        LogError: "log.malformed" or "log.bad_signature".
    """
    if len(line.signature) != 8 + SIGNATURE_BYTES:
        raise malformed("A cosignature is a time of 8 bytes and a signature of 64")
    seconds = int.from_bytes(line.signature[:8], "big")
    try:
        verify_raw(key.public_key, _message(text, seconds), line.signature[8:])
        return Cosignature(key, datetime.fromtimestamp(seconds, UTC))
    except (TrustError, ValueError, OverflowError, OSError):
        raise LogError("log.bad_signature", "A cosignature on the checkpoint does not verify.") from None


def verify_signature_line(text: str, line: SignatureLine, key: NoteKey) -> None:
    """Return if `line` is a plain Ed25519 signature of `text` by `key`.

    Raises:
        LogError: "log.malformed" or "log.bad_signature".
    """
    if len(line.signature) != SIGNATURE_BYTES:
        raise malformed("An Ed25519 note signature has 64 bytes")
    try:
        verify_raw(key.public_key, text.encode(), line.signature)
    except TrustError:
        raise LogError("log.bad_signature", "A signature of the log on the checkpoint does not verify.") from None


def _message(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()
