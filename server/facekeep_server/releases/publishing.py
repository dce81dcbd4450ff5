"""A bundle written, the release recorded. A release with canaries is theirs first: see `rollout`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from facekeep.errors import ReleaseError
from facekeep.protocol.release import ReleaseBundle
from facekeep.trust import published, require_logged_release
from facekeep_server.federation.candidates import Candidate
from facekeep_server.federation.files import make_directory, read_file, replace_file
from facekeep_server.federation.state import FederationState
from facekeep_server.releases.chaining import OPTIMISER_FILE
from facekeep_server.releases.making import Record
from facekeep_server.releases.ready import ReadyRelease, require_ready
from facekeep_server.releases.rollout import CANARY_NOTE, NOTE, Rollout, offered, write_rollout


def publish_release(
    state: FederationState,
    candidate: Candidate,
    signatures: list[str],
    now: datetime,
    record: Record,
    *,
    canaries: Sequence[int] = (),
    needed: int = 0,
    soak_seconds: int = 0,
) -> Path:
    """Return the directory of a release that enough keys signed; devices can adopt the bundle in it.

    Args:
        state: of the federation.
        candidate: whose text was signed.
        signatures: contents of the files that `federate release sign` wrote.
        now: the present instant.
        record: writes to the coordinator's trail.
        canaries: roster indices of the devices that are offered it first; nobody: the whole fleet at once.
        needed: how many of them have to have adopted it; 0 for all.
        soak_seconds: how long after that they have to say so again.

    Raises:
        ReleaseError: what `require_ready` raises; "release.not_logged" where the policy names a log and `log_release` did not
            leave a proof that devices accept.
        ServerError: "server.invalid_request".
    """
    ready = require_ready(state, candidate, signatures, now)
    proof = _require_proof(ready)
    vectors = read_file(candidate.folder / "vectors.f32") if ready.release.vectors_sha256 else b""
    folder = ready.folder
    make_directory(folder)
    replace_file(folder / "model", candidate.model)
    bundle = ReleaseBundle(ready.note, candidate.parameters, vectors, proof)
    replace_file(folder / "bundle", bundle.to_bytes(), mode=0o644)
    for name in (OPTIMISER_FILE, "evaluation.json"):
        if (candidate.folder / name).is_file():
            replace_file(folder / name, read_file(candidate.folder / name))
    write_rollout(folder, Rollout(tuple(sorted(set(canaries))), needed or len(set(canaries)), soak_seconds))
    # Recorded before it can be offered: nobody adopts what the trail does not know.
    record(published(ready.release, ready.signatures))
    if not canaries:
        record(offered(ready.release, Rollout(), {}))
    replace_file(folder / (CANARY_NOTE if canaries else NOTE), ready.note.encode(), mode=0o644)
    return folder


def _require_proof(ready: ReadyRelease) -> bytes:
    if ready.policy.log_policy is None:
        return b""
    try:
        require_logged_release(ready.proof, ready.release, ready.policy)
    except ReleaseError as error:
        advice = "Devices would refuse it. `facekeep-server federate release publish` logs it first; see `federate log --enrol`."
        raise ReleaseError("release.not_logged", f"{error.args[0]} {advice}") from None
    return ready.proof
