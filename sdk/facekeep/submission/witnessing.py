"""A checkpoint that the policy accepts: as the server shows it, as it publishes it, or cosigned because the device asked.

Steps:
    1 accepted as it is
    2 the server publishes what witnesses have seen: of the same tree take the cosignatures, a larger one is followed
    3 a server that does so reaches this one soon: wait and look again, for a fleet that asks by itself would flood the witnesses
    4 ask the witnesses
A larger checkpoint serves as well, for it is proved to continue this one: whatever is in this one is in that.
"""

from __future__ import annotations

from dataclasses import replace

from facekeep.audit.following import FollowedLog, ForkError, ForkEvidence, follow_log
from facekeep.errors import LogError
from facekeep.submission.client import LogServer
from facekeep.submission.exchange import Patience
from facekeep.tlog import SignedNote, TrustPolicy, verify_consistency


def have_witnessed(server: LogServer, policy: TrustPolicy, shown: FollowedLog, patience: Patience) -> FollowedLog:
    """Return a checkpoint that the policy accepts and that continues `shown`, or is it.

    Raises:
        LogError: "log.no_quorum", and what `follow_log` finds of a checkpoint that the server publishes.
    """
    # 1 as it is
    if is_accepted(policy, shown.note):
        return shown
    signed, pause = SignedNote.parse(shown.note), patience.first_seconds
    for left in reversed(range(patience.attempts)):
        # 2 published
        offered, published = _published(server, policy)
        if offered is not None and offered.text == signed.text:
            signed = signed.with_signatures(*offered.signatures)
        elif published is not None and published.checkpoint.size > shown.checkpoint.size:
            proof = server.consistency(shown.checkpoint.size, published.checkpoint.size)
            return follow_log(shown, published.note, proof, policy)
        # 3 wait, where there is something to wait for: it published such a one before, or nobody else could be asked
        hopeful = published is not None or not policy.urls
        if is_accepted(policy, signed.to_text()) or not hopeful or not left:
            break
        patience.sleep(pause)
        pause = min(2 * pause, patience.longest_seconds)
    # 4 asked
    witnessed = _ask(server, policy, signed, shown).to_text()
    policy.verify(witnessed)
    return replace(shown, note=witnessed)


def require_continued(server: LogServer, followed: FollowedLog, note: str, policy: TrustPolicy) -> None:
    """Return if the checkpoint kept continues one that the server publishes, which may lie a moment behind.

    Raises:
        LogError: "log.stale" if the server cannot show it: then the log shrank. ForkError: if it is shown to be false.
    """
    published, kept = policy.verify(note).checkpoint, followed.checkpoint
    stale = LogError("log.stale", f"The log shows {published.size} entries; it showed {kept.size} before.")
    try:
        proof = server.consistency(published.size, kept.size)
    except LogError as error:
        if error.code != "log.refused":
            raise
        raise stale from None
    try:
        verify_consistency(published.size, kept.size, proof, published.root, kept.root)
    except LogError:
        evidence = ForkEvidence(note, followed.note, tuple(proof))
        raise ForkError(evidence, "The log publishes a checkpoint that the one this device keeps does not continue.") from None


def is_accepted(policy: TrustPolicy, note: str) -> bool:
    """Return whether enough witnesses signed a note.

    Raises:
        LogError: what else is wrong with it.
    """
    try:
        policy.verify(note)
    except LogError as error:
        if error.code != "log.no_quorum":
            raise
        return False
    return True


def _published(server: LogServer, policy: TrustPolicy) -> tuple[SignedNote | None, FollowedLog | None]:
    """What the server publishes, and the same if the policy accepts it. What cannot be used is as good as nothing."""
    try:
        data = server.checkpoint()
        note = SignedNote.parse(data)
        if not is_accepted(policy, note.to_text()):
            return note, None
        return note, FollowedLog.parse(note.to_text())
    except LogError:
        return None, None


def _ask(server: LogServer, policy: TrustPolicy, signed: SignedNote, shown: FollowedLog) -> SignedNote:
    for name, url in policy.urls.items():
        if is_accepted(policy, signed.to_text()):
            break
        line = server.ask_witness(url, policy.witnesses[name], shown.note, shown.checkpoint.size, signed.text)
        if line is not None:
            signed = signed.with_signatures(line)
    return signed
