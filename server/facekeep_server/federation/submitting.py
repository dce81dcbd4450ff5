"""The coordinator's trail in the transparency log: submitted like a device's, believed as little as by a device.

The log server may be another machine, or this one: what it answers is kept only if it continues what was kept before, and every
line of a batch has to be proved to be in the log. `trail/log.json` says where that stands, and where in the log the releases are:
devices may want that proved (`facekeep_server.releases.proving`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from facekeep.audit.entry import LARGEST_BATCH, DeviceEntry, device_id, make_batch
from facekeep.audit.following import FollowedLog, follow_log, require_logged
from facekeep.audit.reading import read_entry
from facekeep.clock import Clock
from facekeep.errors import LogError
from facekeep.randomness import SystemRandomness
from facekeep.signing import DeviceKey
from facekeep.submission import LineProof, LogServer, Patience
from facekeep.submission.witnessing import have_witnessed
from facekeep.tlog import TrustPolicy
from facekeep.trust.logged import PUBLISHED
from facekeep_server.errors import ServerError
from facekeep_server.federation.files import read_file, replace_file
from facekeep_server.federation.state import FederationState
from facekeep_server.federation.trail import CoordinatorTrail

_STANDING: Final = "trail/log.json"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the coordinator stands with its log.

    Attributes:
        url: address of the log server.
        trust: tlog-policy, from the operator.
        submitted: entries of the trail that are proved to be in the log.
        kept: signed checkpoint, or None before the first.
        places: digest of a release -> number in the log of the line that says it was published.
    """

    url: str
    trust: str
    submitted: int
    kept: str | None
    places: Mapping[str, int] = field(default_factory=dict)


def find_standing(state: FederationState) -> Standing | None:
    """Return where the coordinator stands with its log, or None if it has none."""
    path = state.root / _STANDING
    if not path.is_file():
        return None
    try:
        return Standing(**json.loads(read_file(path)))
    except (ValueError, TypeError):
        raise ServerError("server.invalid_configuration", f"{path} is not of its form.") from None


def enrol_coordinator(
    state: FederationState, key: DeviceKey, clock: Clock, url: str, code: str, trust: str, patience: Patience | None = None
) -> Standing:
    """Enrol the coordinator at a log server as one more device, by a one-time code.

    Raises:
        LogError: "log.unreachable", "log.refused", "log.malformed", "log.bad_signature", "log.bad_proof", "log.no_quorum".
    """
    policy = TrustPolicy.parse(trust)
    server = LogServer(url.rstrip("/"), key, clock, SystemRandomness(), patience)
    device, line, note = server.enrol(code)
    if device != device_id(key.public_bytes):
        raise LogError("log.malformed", "The log server enrolled another device than this one.")
    shown = follow_log(None, note, (), replace(policy, quorum="none"))
    require_logged(shown, DeviceEntry(device, key.public_bytes).to_bytes(), line.number, line.path)
    standing = Standing(url.rstrip("/"), trust, 0, have_witnessed(server, policy, shown, patience or Patience()).note)
    _keep(state, standing)
    return standing


def submit_trail(
    state: FederationState, trail: CoordinatorTrail, key: DeviceKey, clock: Clock, patience: Patience | None = None
) -> Standing:
    """Submit every entry that the log does not have yet; stopped at any point, the next call goes on.

    Raises:
        LogError: "log.not_enrolled", and what `enrol_coordinator` raises; "log.fork" and "log.stale" if the log shows another
        history.
    """
    standing = find_standing(state)
    if standing is None:
        raise LogError("log.not_enrolled", "The coordinator is not enrolled with a log server: federate log --enrol.")
    policy = TrustPolicy.parse(standing.trust)
    server = connect(standing, key, clock, patience)
    while standing.submitted < len(trail):
        end = min(len(trail), standing.submitted + LARGEST_BATCH)
        batch = make_batch(key.public_bytes, trail.entries[standing.submitted : end], trail.note_at(end))
        answer = server.submit(batch)
        if answer.first != standing.submitted or len(answer.proofs) != end - standing.submitted + 1:
            raise LogError("log.bad_proof", "The log server's answer is not about the entries submitted.")
        shown = follow(server, policy, standing.kept, answer.checkpoint)
        for line, proof in zip(batch.to_lines(), answer.proofs, strict=True):
            require_logged(shown, line, proof.number, proof.path)
        kept = have_witnessed(server, policy, shown, patience or Patience()).note
        places = {**standing.places, **_places(batch.bodies, answer.proofs)}
        standing = replace(standing, submitted=end, kept=kept, places=places)
        _keep(state, standing)
    return standing


def connect(standing: Standing, key: DeviceKey, clock: Clock, patience: Patience | None = None) -> LogServer:
    """Return the log server that the coordinator is enrolled at."""
    return LogServer(standing.url, key, clock, SystemRandomness(), patience)


def _places(bodies: Iterable[bytes], proofs: Iterable[LineProof]) -> dict[str, int]:
    # The head's proof comes after those of the entries.
    told = ((read_entry(body), proof.number) for body, proof in zip(bodies, proofs, strict=False))
    return {str(entry.details["release"]): number for entry, number in told if entry.event == PUBLISHED}


def follow(server: LogServer, policy: TrustPolicy, kept: str | None, note: str) -> FollowedLog:
    """Return the checkpoint that the log shows, if it is signed by a log of the policy and continues the one kept; witnesses apart.

    Raises:
        LogError: what `follow_log` finds.
    """
    # A fork is one whether it was witnessed or not, so continuity comes first.
    alone = replace(policy, quorum="none")
    followed = None if kept is None else FollowedLog.parse(kept)
    shown = alone.verify(note).checkpoint
    proof: tuple[bytes, ...] = ()
    if followed is not None and 0 < followed.checkpoint.size < shown.size:
        proof = server.consistency(followed.checkpoint.size, shown.size)
    return follow_log(followed, note, proof, alone)


def _keep(state: FederationState, standing: Standing) -> None:
    state.folder("trail")
    replace_file(state.root / _STANDING, (json.dumps(asdict(standing), indent=1) + "\n").encode())
