"""A release logged before it is offered: devices whose policy names a log adopt no other.

Steps:
    1 a proof that is kept already and holds is enough
    2 the coordinator's trail says that the release is published; from here on its version is used up
    3 the trail is submitted to the log
    4 the log's checkpoint is witnessed as the devices' policy demands
    5 the line is proved under that checkpoint
    6 the proof is verified as a device will, and kept beside the release
Each step finds what the ones before it left on the disk and in the log: killed at any point, the next call goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from facekeep.audit.entry import TrailEntry, device_id
from facekeep.audit.following import FollowedLog
from facekeep.audit.reading import read_entry
from facekeep.clock import Clock
from facekeep.errors import LogError, ReleaseError
from facekeep.protocol.release import ReleaseBundle
from facekeep.signing import DeviceKey
from facekeep.submission import LogRefusal, Patience
from facekeep.submission.witnessing import have_witnessed
from facekeep.tlog import LogProof, TrustPolicy
from facekeep.trust import published, require_logged_release
from facekeep.trust.logged import PUBLISHED
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.files import make_directory, read_file, replace_file
from facekeep_server.federation.rounds import recorder
from facekeep_server.federation.state import FederationState
from facekeep_server.federation.submitting import Standing, connect, find_standing, follow, submit_trail
from facekeep_server.federation.trail import CoordinatorTrail
from facekeep_server.releases.ready import PROOF_FILE, ReadyRelease
from facekeep_server.releases.rollout import read_release

_T = TypeVar("_T")
_AGAIN: Final = "Nothing was offered. Give the same command again: it goes on where it stopped."
_PAUSES: Final = (5.0, 10.0, 20.0, 30.0)
# What passes by itself: a log or its witnesses that are away, or have too much to do.
_PASSING: Final = frozenset({"log.unreachable", "log.no_quorum"})
_BUSY: Final = frozenset({"server.unavailable", "request.too_many"})


def log_release(
    state: FederationState,
    ready: ReadyRelease,
    trail: CoordinatorTrail,
    key: DeviceKey,
    clock: Clock,
    patience: Patience | None = None,
) -> None:
    """Have the log say that a release is published, and keep the proof; without a log policy there is nothing to do.

    Args:
        state: of the federation; the caller holds its lock.
        ready: the release.
        trail: the coordinator's.
        key: the coordinator's.
        clock: dates entries and requests.
        patience: how long each request is tried.

    Raises:
        ReleaseError: "release.not_logged" if the coordinator is not enrolled with a log, or what came of it is not what devices
            accept. LogError: what `submit_trail` raises.
    """
    policy = ready.policy
    if policy.log_policy is None or _holds(ready):  # 1
        return
    if find_standing(state) is None:
        advice = "First: facekeep-server federate log --enrol ADDRESS --code-file FILE --policy FILE, then this command again."
        raise ReleaseError("release.not_logged", f"The policy wants releases logged, and this coordinator has no log. {advice}")
    make_directory(ready.folder)
    # 2 trail
    recorder(trail)(published(ready.release, ready.signatures))
    # 3 submitted
    standing = submit_trail(state, trail, key, clock, patience)
    # 4 witnessed, 5 proved
    proof = _prove(standing, ready, _line_of(trail, ready, key), key, clock, patience or Patience())
    # 6 as a device will
    require_logged_release(proof, ready.release, policy)
    replace_file(ready.folder / PROOF_FILE, proof, mode=0o644)


def log_published(
    state: FederationState,
    folder: Path,
    trail: CoordinatorTrail,
    key: DeviceKey,
    clock: Clock,
    patience: Patience | None = None,
) -> None:
    """Put a proof that the devices' policy accepts into the bundle of a release that is published already.

    For a policy that names a log, other witnesses or another key of the log than it did then: a device that joins by it goes
    through the releases from the first on.

    Args:
        state: of the federation; the caller holds its lock.
        folder: the release's.
        trail: the coordinator's.
        key: the coordinator's.
        clock: dates requests.
        patience: how long each request is tried.

    Raises:
        ReleaseError: what `log_release` raises; "release.not_logged" without a log policy too. LogError: likewise.
    """
    policy, bundle = load_policy(state), ReleaseBundle.parse(read_file(folder / "bundle"))
    if policy.log_policy is None:
        raise ReleaseError("release.not_logged", "The policy names no log: facekeep-server federate log-policy FILE.")
    ready = ReadyRelease(read_release(folder), bundle.note, policy, folder)
    log_release(state, ready, trail, key, clock, patience)
    replace_file(folder / "bundle", replace(bundle, proof=ready.proof).to_bytes(), mode=0o644)


def until_logged(
    attempt: Callable[[], _T],
    seconds: float,
    *,
    say: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> _T:
    """Return what `attempt` returns, tried again while the log or its witnesses are away. Locks are taken by each attempt anew.

    Raises:
        ReleaseError: "release.not_logged" when the time is over. LogError: what does not pass by itself, such as a fork.
    """
    end, tried = now() + seconds, 0
    while True:
        try:
            return attempt()
        except LogError as error:
            if error.code not in _PASSING and not (isinstance(error, LogRefusal) and error.reason in _BUSY):
                raise
            if now() >= end:
                raise ReleaseError("release.not_logged", f"The release is not in the log yet. {error.args[0]} {_AGAIN}") from None
            say(f"{error.code}: waiting for the log and its witnesses")
        pause(min(_PAUSES[min(tried, len(_PAUSES) - 1)], max(end - now(), 0.0)))
        tried += 1


def _holds(ready: ReadyRelease) -> bool:
    try:
        require_logged_release(ready.proof, ready.release, ready.policy)
    except ReleaseError:
        return False
    return True


def _line_of(trail: CoordinatorTrail, ready: ReadyRelease, key: DeviceKey) -> bytes:
    for body in reversed(trail.entries):
        entry = read_entry(body)
        if entry.event == PUBLISHED and entry.details.get("release") == ready.release.digest:
            return TrailEntry(device_id(key.public_bytes), body).to_bytes()
    raise AssertionError("it was recorded a moment ago")


def _prove(standing: Standing, ready: ReadyRelease, line: bytes, key: DeviceKey, clock: Clock, patience: Patience) -> bytes:
    number = standing.places.get(ready.release.digest)
    if number is None or standing.kept is None or ready.policy.log_policy is None:
        raise ReleaseError(
            "release.not_logged", "Where the log has this release was not kept. Make the candidate again: it gets the next version."
        )
    server, policy = connect(standing, key, clock, patience), TrustPolicy.parse(ready.policy.log_policy)
    shown, newest = FollowedLog.parse(standing.kept), server.checkpoint().decode("utf-8", "replace")
    # A witness that has seen the log longer than it was then cosigns only the log as it is now.
    if FollowedLog.parse(newest).checkpoint.size > shown.checkpoint.size:
        shown = follow(server, policy, standing.kept, newest)
    # The policy of devices may ask for more than the one the coordinator believes the log by.
    followed = have_witnessed(server, policy, shown, patience)
    path = server.inclusion(number, followed.checkpoint.size)
    return LogProof(number, path, followed.note, line).to_text().encode()
