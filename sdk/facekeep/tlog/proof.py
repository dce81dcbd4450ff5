"""Proofs that travel alone: an entry is in a log that witnesses have seen. Source: https://c2sp.org/tlog-proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from facekeep.errors import LogError
from facekeep.merkle import leaf_hash
from facekeep.tlog.notes import LARGEST_NOTE_BYTES
from facekeep.tlog.numbers import malformed, parse_base64, parse_decimal, parse_hash, to_base64
from facekeep.tlog.policy import TrustPolicy, VerifiedCheckpoint
from facekeep.tlog.proofs import verify_inclusion

_FIRST_LINE = "c2sp.org/tlog-proof@v1"
_LARGEST: Final = 2 * LARGEST_NOTE_BYTES
_MOST_HASHES: Final = 63


@dataclass(frozen=True, slots=True)
class LogProof:
    """A proof, not yet verified.

    Attributes:
        index: place of the entry in the log.
        path: inclusion proof, the leaf's sibling first.
        checkpoint: the signed note, verbatim.
        extra: bytes that nothing authenticates, or None.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: str
    extra: bytes | None = None

    def to_text(self) -> str:
        """Return the text of the proof (file extension .tlog-proof)."""
        extra = [f"extra {to_base64(self.extra)}"] if self.extra is not None else []
        lines = [_FIRST_LINE, *extra, f"index {self.index}", *map(to_base64, self.path), "", ""]
        return "\n".join(lines) + self.checkpoint

    @classmethod
    def parse(cls, data: bytes | str) -> LogProof:
        """Return the proof of its text.

        Raises:
            LogError: "log.malformed".
        """
        try:
            text = data.decode("utf-8") if isinstance(data, bytes) else data
        except UnicodeDecodeError:
            raise malformed("A proof is UTF-8") from None
        head, separator, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        if len(text) > _LARGEST or not separator or lines.pop(0) != _FIRST_LINE:
            raise malformed(f"A proof begins with {_FIRST_LINE} and ends in a checkpoint")
        extra = parse_base64(lines.pop(0)[6:], "Extra data") if lines and lines[0].startswith("extra ") else None
        if not lines or not lines[0].startswith("index ") or len(lines) > 1 + _MOST_HASHES:
            raise malformed("A proof has an index line and at most 63 hashes")
        index = parse_decimal(lines.pop(0)[6:], "An index")
        return cls(index, tuple(parse_hash(line) for line in lines), checkpoint, extra)


def verify_proof(proof: LogProof, entry: bytes, policy: TrustPolicy) -> VerifiedCheckpoint:
    """Return the checkpoint under which `entry` is proved to be in the log.

    Raises:
        LogError: "log.malformed", "log.bad_signature", "log.no_quorum" or "log.bad_proof".
    """
    verified = policy.verify(proof.checkpoint)
    checkpoint = verified.checkpoint
    try:
        verify_inclusion(leaf_hash(entry), proof.index, checkpoint.size, proof.path, checkpoint.root)
    except LogError as error:
        raise LogError(error.code, f"Entry {proof.index} of {checkpoint.size}: {error.args[0]}") from None
    return verified
