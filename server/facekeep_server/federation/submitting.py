"""The coordinator's trail in the transparency log: submitted like a device's, believed as little as by a device.

The log server may be another machine, or this one: what it answers is kept only if it continues what was kept before, and every
line of a batch has to be proved to be in the log. `trail/log.json` says where that stands.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Final

from facekeep.audit.entry import LARGEST_BATCH, DeviceEntry, device_id, make_batch
from facekeep.audit.following import FollowedLog, follow_log, require_logged
from facekeep.clock import Clock
from facekeep.errors import LogError
from facekeep.randomness import SystemRandomness
from facekeep.signing import DeviceKey
from facekeep.submission import LogServer, Patience
from facekeep.tlog import SignedNote, TrustPolicy
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
    """

    url: str
    trust: str
    submitted: int
    kept: str | None


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
    standing = Standing(url.rstrip("/"), trust, 0, _witnessed(server, policy, shown).note)
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
    server = LogServer(standing.url, key, clock, SystemRandomness(), patience)
    while standing.submitted < len(trail):
        end = min(len(trail), standing.submitted + LARGEST_BATCH)
        batch = make_batch(key.public_bytes, trail.entries[standing.submitted : end], trail.note_at(end))
        answer = server.submit(batch)
        if answer.first != standing.submitted or len(answer.proofs) != end - standing.submitted + 1:
            raise LogError("log.bad_proof", "The log server's answer is not about the entries submitted.")
        shown = _follow(server, policy, standing.kept, answer.checkpoint)
        for line, proof in zip(batch.to_lines(), answer.proofs, strict=True):
            require_logged(shown, line, proof.number, proof.path)
        standing = replace(standing, submitted=end, kept=_witnessed(server, policy, shown).note)
        _keep(state, standing)
    return standing


def _follow(server: LogServer, policy: TrustPolicy, kept: str | None, note: str) -> FollowedLog:
    # A fork is one whether it was witnessed or not, so continuity comes first.
    alone = replace(policy, quorum="none")
    followed = None if kept is None else FollowedLog.parse(kept)
    shown = alone.verify(note).checkpoint
    proof: tuple[bytes, ...] = ()
    if followed is not None and 0 < followed.checkpoint.size < shown.size:
        proof = server.consistency(followed.checkpoint.size, shown.size)
    return follow_log(followed, note, proof, alone)


def _witnessed(server: LogServer, policy: TrustPolicy, shown: FollowedLog) -> FollowedLog:
    """Have a checkpoint cosigned by as many witnesses as the policy demands.

    Raises:
        LogError: "log.no_quorum".
    """
    signed = SignedNote.parse(shown.note)
    for name, url in policy.urls.items():
        line = server.ask_witness(url, policy.witnesses[name], shown.note, shown.checkpoint.size, signed.text)
        if line is not None:
            signed = signed.with_signatures(line)
    policy.verify(signed.to_text())
    return replace(shown, note=signed.to_text())


def _keep(state: FederationState, standing: Standing) -> None:
    replace_file(state.root / _STANDING, (json.dumps(asdict(standing), indent=1) + "\n").encode())
