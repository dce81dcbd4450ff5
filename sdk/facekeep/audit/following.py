"""A device follows the log it submits to: each checkpoint has to continue the one it kept.

Steps:
    1 the new checkpoint is one the trust policy accepts
    2 it is of the log followed, and no older than the checkpoint kept
    3 a proof shows that it continues the checkpoint kept
    4 an entry submitted is proved to be under it
The device keeps the new checkpoint only after all of these. A checkpoint that is signed and does not continue the one kept is a
fork: the device keeps both notes, which anyone can check, and goes on from the one it had.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import LogError, TrustError
from facekeep.merkle import leaf_hash
from facekeep.note import Checkpoint
from facekeep.tlog import SignedNote, TrustPolicy, verify_consistency, verify_inclusion

_EVIDENCE_VERSION = "urn:facekeep:fork-evidence:1"


@dataclass(frozen=True, slots=True)
class FollowedLog:
    """The last checkpoint a device believed. Store its `note`; it is as trustworthy as the store.

    Attributes:
        note: signed note, verbatim.
        checkpoint: what it says.
    """

    note: str
    checkpoint: Checkpoint

    @classmethod
    def parse(cls, note: str) -> FollowedLog:
        """Return what was kept, signatures unchecked: keys may have rotated since.

        Raises:
            LogError: "log.malformed".
        """
        try:
            return cls(note, Checkpoint.parse(SignedNote.parse(note).text))
        except TrustError as error:
            raise LogError("log.malformed", str(error.args[0])) from None


@dataclass(frozen=True, slots=True)
class ForkEvidence:
    """Two signed checkpoints of one log that cannot both be true, or that the log could not show to be.

    Attributes:
        kept: the signed note the device believed first.
        shown: the signed note it was shown later.
        proof: the consistency proof that came with it and does not verify.
    """

    kept: str
    shown: str
    proof: tuple[bytes, ...] = ()

    def to_bytes(self) -> bytes:
        """Return canonical JSON: to hand to the operator, the witnesses, an auditor."""
        proof = [item.hex() for item in self.proof]
        return to_canonical({"schema_version": _EVIDENCE_VERSION, "kept": self.kept, "shown": self.shown, "proof": proof})

    @classmethod
    def parse(cls, data: bytes) -> ForkEvidence:
        """Return the evidence of its bytes.

        Raises:
            LogError: "log.malformed".
        """
        try:
            fields = parse_canonical(data)
            found = cls(fields["kept"], fields["shown"], tuple(bytes.fromhex(item) for item in fields["proof"]))
            if fields["schema_version"] != _EVIDENCE_VERSION or found.to_bytes() != data:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise LogError("log.malformed", "The evidence of a fork is not in its canonical form.") from None
        return found

    def is_conclusive(self, trust: TrustPolicy) -> bool:
        """Return whether the notes alone convict the log: both accepted by `trust`, one origin and size, two roots.

        Otherwise they show a log that could not prove its later checkpoint to continue the earlier one: whoever has the
        entries, or asks the log for a proof again, decides.

        Raises:
            LogError: if a note is not one that `trust` accepts: then it convicts nobody.
        """
        kept, shown = trust.verify(self.kept).checkpoint, trust.verify(self.shown).checkpoint
        return kept.origin == shown.origin and kept.size == shown.size and not hmac.compare_digest(kept.root, shown.root)


class ForkError(LogError):
    """The log showed two histories.

    Attributes:
        evidence: both signed notes.
    """

    def __init__(self, evidence: ForkEvidence, message: str) -> None:
        super().__init__("log.fork", message)
        self.evidence = evidence

    def __reduce__(self) -> tuple[type[ForkError], tuple[ForkEvidence, str]]:  # type: ignore[override]
        return type(self), (self.evidence, self.args[0])


def follow_log(followed: FollowedLog | None, note: str, proof: Sequence[bytes], trust: TrustPolicy) -> FollowedLog:
    """Return what to keep after the log showed `note` with a consistency proof from the checkpoint kept (steps 1 to 3).

    Args:
        followed: what was kept, or None the first time.
        note: the signed checkpoint shown now.
        proof: from the size kept to the size shown; empty if they are the same or nothing was kept.
        trust: keys and quorum.

    Raises:
        LogError: "log.malformed", "log.bad_signature" (also another log), "log.no_quorum", "log.stale" (smaller than before).
        ForkError: "log.fork", with the evidence; keep `followed` and hand the evidence on.
    """
    # 1
    shown = trust.verify(note).checkpoint
    if followed is None:
        return FollowedLog(note, shown)
    kept = followed.checkpoint
    # 2
    if shown.origin != kept.origin:
        raise LogError("log.bad_signature", "The checkpoint is of another log than the one this device follows.")
    if shown.size < kept.size:
        raise LogError("log.stale", f"The log shows {shown.size} entries; it showed {kept.size} before.")
    # 3
    try:
        verify_consistency(kept.size, shown.size, proof, kept.root, shown.root)
    except LogError:
        evidence = ForkEvidence(followed.note, note, tuple(proof))
        raise ForkError(
            evidence,
            f"The log's checkpoint of {shown.size} entries does not continue the one of {kept.size} that this device keeps. "
            "Hand the evidence to the operator and an auditor.",
        ) from None
    return FollowedLog(note, shown)


def require_logged(followed: FollowedLog, entry: bytes, index: int, path: Sequence[bytes]) -> None:
    """Return if `entry` is proved to be entry `index` of the log under the checkpoint kept (step 4).

    Raises:
        LogError: "log.bad_proof".
    """
    verify_inclusion(leaf_hash(entry), index, followed.checkpoint.size, path, followed.checkpoint.root)
