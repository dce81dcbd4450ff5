"""Signatures collected, a bundle written, the release recorded. A release with canaries is theirs first: see `rollout`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from facekeep.audit import AuditEvent
from facekeep.errors import LogError, ReleaseError, TrustError
from facekeep.protocol.release import ModelRelease, ReleaseBundle
from facekeep.protocol.values import require_signed, to_decimal
from facekeep.tlog import LogProof, TrustPolicy, verify_proof
from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import Candidate, newest_release
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.files import make_directory, read_file, replace_file
from facekeep_server.federation.state import FederationState
from facekeep_server.releases.chaining import OPTIMISER_FILE
from facekeep_server.releases.making import TEXT_FILE, Record
from facekeep_server.releases.privacy import spelled_epsilon, spelled_rounds
from facekeep_server.releases.rollout import CANARY_NOTE, NOTE, Rollout, offered, stage_of, write_rollout
from facekeep_server.releases.signing import join_signatures


def publish_release(
    state: FederationState,
    candidate: Candidate,
    signatures: list[str],
    now: datetime,
    record: Record,
    *,
    proof: bytes = b"",
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
        proof: tlog-proof of the note's text, where the policy names a log.
        canaries: roster indices of the devices that are offered it first; nobody: the whole fleet at once.
        needed: how many of them have to have adopted it; 0 for all.
        soak_seconds: how long after that they have to say so again.

    Raises:
        ReleaseError: "release.not_signed", "release.malformed", "release.wrong_parent", "release.expired", "release.not_logged".
        ServerError: "server.invalid_request".
    """
    path = candidate.folder / TEXT_FILE
    if not path.is_file():
        raise ServerError("server.invalid_request", "There is no text to sign: run `federate release make`.")
    note, policy, newest = join_signatures(read_file(path), signatures), load_policy(state), newest_release(state)
    try:
        release = ModelRelease.parse(require_signed(note, policy.release_keys, policy.release_quorum))
    except TrustError as error:
        raise ReleaseError("release.not_signed", f"Not enough of the release keys signed: {error.args[0]}") from None
    if release.parent != (None if newest is None else newest[0].digest) or release.federation != state.settings.name:
        raise ReleaseError("release.wrong_parent", "The release does not continue the one in use.")
    if now >= release.expires:
        raise ReleaseError("release.expired", "The release's term is over. Make it again.")
    if policy.log_policy is not None:
        _require_logged(release, proof, policy.log_policy)
    vectors = read_file(candidate.folder / "vectors.f32") if release.vectors_sha256 else b""
    folder = state.folder("releases") / f"{release.version:05d}"
    if folder.is_dir() and stage_of(folder) is not None:
        raise ServerError("server.invalid_request", f"Release {release.version} was published already.")
    make_directory(folder)
    replace_file(folder / "model", candidate.model)
    bundle = ReleaseBundle(note, candidate.parameters, vectors, proof)
    replace_file(folder / "bundle", bundle.to_bytes(), mode=0o644)
    steering = candidate.folder / OPTIMISER_FILE
    if steering.is_file():
        replace_file(folder / OPTIMISER_FILE, read_file(steering))
    evaluation = candidate.folder / "evaluation.json"
    if evaluation.is_file():
        replace_file(folder / "evaluation.json", read_file(evaluation))
    write_rollout(folder, Rollout(tuple(sorted(set(canaries))), needed or len(set(canaries)), soak_seconds))
    signed = len(note.rpartition("\n\n")[2].splitlines())
    # Recorded before it can be offered: nobody adopts what the trail does not know.
    record(published(release, signed))
    if not canaries:
        record(offered(release, Rollout(), {}))
    replace_file(folder / (CANARY_NOTE if canaries else NOTE), note.encode(), mode=0o644)
    return folder


def published(release: ModelRelease, signatures: int) -> AuditEvent:
    """Return the entry that says that a release was published."""
    details: dict[str, str | int | bool] = {
        "federation": release.federation,
        "release": release.digest,
        "version": release.version,
        "parent": release.parent or "",
        "level": release.level.value,
        "contract": release.contract,
        "rounds": spelled_rounds(release.rounds),
        "epsilon": spelled_epsilon(release.privacy.epsilon),
        "delta": to_decimal(release.privacy.delta),
        "signatures": signatures,
    }
    return AuditEvent("release.published", details=details)


def _require_logged(release: ModelRelease, proof: bytes, policy: str) -> None:
    try:
        verify_proof(LogProof.parse(proof), release.to_text().encode(), TrustPolicy.parse(policy))
    except LogError as error:
        raise ReleaseError("release.not_logged", f"The policy wants a proof that the release is logged: {error.args[0]}") from None
