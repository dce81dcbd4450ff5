"""A release in the transparency log: the line of the log that says it was published, and the proof that the log holds that line.

Steps:
    1 the proof is a tlog-proof (https://c2sp.org/tlog-proof) whose extra data is a line of the log
    2 the line is an entry of the trail of the coordinator whom the policy names
    3 the entry is "release.published", and everything it says is what the release says
    4 the log that the policy names, witnessed as it demands, holds that line
The line is the coordinator's own (docs/formats/log-entry.md): what devices ask for is what auditors read, nothing is logged twice.
Needs no network. Format: docs/formats/release.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from facekeep.audit import AuditEvent
from facekeep.audit.entry import TrailEntry, parse_log_entry
from facekeep.audit.event import OK
from facekeep.audit.trail import parse_entry
from facekeep.canonical import to_canonical
from facekeep.errors import AuditError, LogError, ReleaseError
from facekeep.privacy.accounting import spelled
from facekeep.protocol.policy import FederationPolicy
from facekeep.protocol.release import ModelRelease
from facekeep.protocol.values import to_decimal
from facekeep.tlog import LogProof, TrustPolicy, verify_proof

PUBLISHED: Final = "release.published"
_MOST_TEXT: Final = 128
_MOST_SIGNATURES: Final = 64


def published(release: ModelRelease, signatures: int) -> AuditEvent:
    """Return the entry that says that a release was published.

    Args:
        release: which.
        signatures: how many keys had signed it when it was logged; the one thing the release itself does not say.

    Raises:
        ReleaseError: "release.malformed" if its rounds are more than an entry can carry.
    """
    details: dict[str, str | int | bool] = {
        **release.for_trail(),
        "rounds": spelled_rounds(release.rounds),
        "epsilon": spelled(release.privacy.epsilon),
        "delta": to_decimal(release.privacy.delta),
        "signatures": signatures,
    }
    return AuditEvent(PUBLISHED, details=details)


def require_logged_release(proof: bytes, release: ModelRelease, policy: FederationPolicy) -> None:
    """Return if the proof shows that the release is in the log that the policy names; without a log policy, always.

    Raises:
        ReleaseError: "release.not_logged".
    """
    if policy.log_policy is None:
        return
    try:
        # 1 proof
        found = LogProof.parse(proof)
        line = found.extra
        if line is None:
            raise _not_logged("the proof does not bring the line of the log")
        # 2 coordinator, 3 release: of bytes that step 4 has still to show to be the log's
        entry = parse_log_entry(line)
        if not isinstance(entry, TrailEntry) or entry.device != policy.coordinator:
            raise _not_logged("the line is none of the federation's coordinator")
        _require_says(parse_entry(entry.body), release)
        # 4 log
        verify_proof(found, line, TrustPolicy.parse(policy.log_policy))
    except (LogError, AuditError) as error:
        # Unlogged, a release could be made for this one device, and nobody would ever see it.
        raise _not_logged(str(error.args[0])) from None


def spelled_rounds(numbers: Iterable[int]) -> str:
    """Return the numbers of rounds as text for the trail: "1-3,5".

    Raises:
        ReleaseError: "release.malformed" if that takes more than an entry can carry.
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    if len(text) > _MOST_TEXT:
        raise ReleaseError("release.malformed", "These are too many rounds with gaps between them for one release.")
    return text


def _require_says(fields: dict[str, Any], release: ModelRelease) -> None:
    signatures = fields["details"].get("signatures")
    if not isinstance(signatures, int) or isinstance(signatures, bool) or not 1 <= signatures <= _MOST_SIGNATURES:
        raise _not_logged("the line does not say how many keys signed")
    try:
        expected = published(release, signatures)
    except ReleaseError as error:
        # No line can say it, so none does.
        raise _not_logged(str(error.args[0])) from None
    # Byte for byte: an auditor judges privacy and order by the line, so it must not say other things than the release.
    same = to_canonical(fields["details"]) == to_canonical(dict(expected.details))
    if (fields["event"], fields["outcome"], fields["subject"]) != (PUBLISHED, OK, None) or not same:
        raise _not_logged("the line says something else than that this release was published")


def _not_logged(why: str) -> ReleaseError:
    return ReleaseError("release.not_logged", f"The release is not proved to be in the log: {why.rstrip('.')}.")
