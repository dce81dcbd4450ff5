"""What may be published: a candidate that enough keys signed, that continues the release in use, within its term."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from facekeep.errors import ReleaseError, TrustError
from facekeep.protocol.policy import FederationPolicy
from facekeep.protocol.release import ModelRelease
from facekeep.protocol.values import require_signed
from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import Candidate, newest_release
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.files import read_file
from facekeep_server.federation.state import FederationState
from facekeep_server.releases.making import TEXT_FILE
from facekeep_server.releases.rollout import stage_of
from facekeep_server.releases.signing import join_signatures

PROOF_FILE: Final = "release.proof"


@dataclass(frozen=True, slots=True)
class ReadyRelease:
    """A release that wants nothing but to be logged, where the policy says so, and offered.

    Attributes:
        release: what it says.
        note: the signed note.
        policy: that devices have.
        folder: the release's, made or not; `release.proof` in it is the proof that it is logged.
    """

    release: ModelRelease
    note: str
    policy: FederationPolicy
    folder: Path

    @property
    def signatures(self) -> int:
        """How many signature lines the note has."""
        return len(self.note.rpartition("\n\n")[2].splitlines())

    @property
    def proof(self) -> bytes:
        """What is kept of a proof, unverified; empty if nothing is."""
        path = self.folder / PROOF_FILE
        return read_file(path) if path.is_file() else b""


def require_ready(state: FederationState, candidate: Candidate, signatures: list[str], now: datetime) -> ReadyRelease:
    """Return a candidate as the release it may become.

    Args:
        state: of the federation.
        candidate: whose text was signed.
        signatures: contents of the files that `federate release sign` wrote.
        now: the present instant.

    Raises:
        ReleaseError: "release.not_signed", "release.malformed", "release.wrong_parent", "release.expired".
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
    folder = state.root / "releases" / f"{release.version:05d}"
    if folder.is_dir() and stage_of(folder) is not None:
        raise ServerError("server.invalid_request", f"Release {release.version} was published already.")
    return ReadyRelease(release, note, policy, folder)
