"""The set of releases a device trusts: takes bytes in a fixed order, and refuses any other order and anything it cannot trust.

Steps:
    1 note: enough of the policy's keys signed it, it is of this federation, newer than what is in use and than what was refused for
      good, continues what is in use, is of a level that is allowed, was made of the model that is installed, and has not expired
    2 log: a proof under the policy's log policy, if there is one
    3 parameters: the length and the hash stated
    4 vectors: the hash stated, if the release has any
    5 model: the hash stated for what the parameters make of the model in use; and the contract that it then has
IO-free like the trusted set of python-tuf: whoever fetches, stages and activates brings bytes, never a verdict.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from facekeep.errors import FederationError, ReleaseError, TrustError
from facekeep.protocol.policy import FederationPolicy
from facekeep.protocol.release import ModelRelease
from facekeep.protocol.values import require_signed
from facekeep.trust.logged import require_logged_release

# A release dated later than this was made by a clock that is wrong, or the device's is.
_TOLERANCE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ReleaseStanding:
    """Where a device stands: what the next release is judged against.

    Attributes:
        adopted: version of the release in use; 0 for the model that shipped.
        parent: digest of the release in use; None for the model that shipped.
        refused: highest version that was refused for good, by a self-test that failed or by going back; 0 if none was.
        base: hexadecimal SHA-256 of the model file that shipped.
    """

    adopted: int
    parent: str | None
    refused: int
    base: str


@dataclass(frozen=True, slots=True)
class AcceptedRelease:
    """A release that passed every step.

    Attributes:
        release: what it says.
        note: the signed note it came in.
    """

    release: ModelRelease
    note: str


class TrustedReleases:
    """One release on its way through the five steps.

    Args:
        policy: what the device's operator allows.
        standing: where the device stands.
        now: the present instant, or the last one recorded if the clock stands before it: a clock set back renews nothing.
    """

    def __init__(self, policy: FederationPolicy, standing: ReleaseStanding, now: datetime) -> None:
        self._policy, self._standing, self._now = policy, standing, now
        self._step = 1
        self._note = ""
        self._release: ModelRelease | None = None

    def __repr__(self) -> str:
        return f"TrustedReleases(next step={self._step})"

    def take_note(self, note: str) -> ModelRelease:
        """Return the release of a signed note: step 1. What it states of its other parts is for the later steps to check.

        Raises:
            ReleaseError: "release.not_signed", "release.malformed", "release.wrong_model", "release.older",
                "release.wrong_parent", "release.expired".
            FederationError: "federation.plan_refused" for a level the policy does not allow, "federation.clock".
        """
        self._begin(1)
        policy, standing = self._policy, self._standing
        try:
            text = require_signed(note, policy.release_keys, policy.release_quorum)
        except TrustError as error:
            code = "release.malformed" if error.code == "trust.malformed" else "release.not_signed"
            raise ReleaseError(code, str(error.args[0])) from None
        release = ModelRelease.parse(text)
        # Keys that serve two federations must not let one's release into the other.
        if release.federation != policy.name:
            raise ReleaseError("release.wrong_model", "The release belongs to another federation.")
        # Rollback: an older release would bring back a withdrawn model, with whatever was wrong with it.
        if release.version <= max(standing.adopted, standing.refused):
            raise ReleaseError(
                "release.older",
                f"The release has version {release.version}; {standing.adopted} is in use and {standing.refused} was refused.",
            )
        if release.base != standing.base:
            raise ReleaseError("release.wrong_model", "The release was made of another model than the one installed here.")
        if release.parent != standing.parent:
            raise ReleaseError("release.wrong_parent", "The release does not continue the one in use. Adopt those between first.")
        if release.level not in policy.levels:
            raise FederationError("federation.plan_refused", f"The policy does not allow releases of the level {release.level}.")
        if release.created > self._now + _TOLERANCE:
            raise FederationError("federation.clock", "The release is dated in the future. Set the clock of the device.")
        if self._now >= release.expires:
            raise ReleaseError("release.expired", "The release's term is over. Ask for a newer one.")
        self._release, self._note, self._step = release, note, 2
        return release

    def take_proof(self, proof: bytes) -> None:
        """Return if the log that the policy names says that it was published: step 2. Without a log policy, any proof is ignored.

        Raises:
            ReleaseError: "release.not_logged".
        """
        release = self._continue(2)
        require_logged_release(proof, release, self._policy)
        self._step = 3

    def take_parameters(self, parameters: bytes) -> None:
        """Return if these are the numbers of the release: step 3.

        Raises:
            ReleaseError: "release.malformed".
        """
        release = self._continue(3)
        if len(parameters) != 4 * release.parameters_length or not _is(parameters, release.parameters_sha256):
            raise ReleaseError("release.malformed", "The numbers are not those that the release states.")
        self._step = 4

    def take_vectors(self, vectors: bytes) -> None:
        """Return if these are the embeddings the release is to be tested with: step 4.

        Raises:
            ReleaseError: "release.malformed".
        """
        release = self._continue(4)
        if release.vectors_sha256 is None:
            if vectors:
                raise ReleaseError("release.malformed", "The bundle holds vectors that the release does not state.")
        elif not _is(vectors, release.vectors_sha256):
            raise ReleaseError("release.malformed", "The vectors are not those that the release states.")
        self._step = 5

    def take_model(self, model: bytes, contract_id: str) -> AcceptedRelease:
        """Return the accepted release: step 5.

        Args:
            model: the file that the parameters make of the model in use.
            contract_id: contract of embeddings made with it and with this device's detector and preprocessing.

        Raises:
            ReleaseError: "release.wrong_model".
        """
        release = self._continue(5)
        if not _is(model, release.model):
            raise ReleaseError("release.wrong_model", "The numbers make another model than the release states.")
        # Operating points are measured for one contract; under another detector they promise nothing.
        if contract_id != release.contract:
            raise ReleaseError(
                "release.wrong_model",
                "The release is of another contract: it was measured with another detector or other preprocessing than here.",
            )
        self._step = 0
        return AcceptedRelease(release, self._note)

    def _begin(self, step: int) -> None:
        found, self._step = self._step, 0
        # One way through: a step left out would be a check left out. A set that refused once is of no more use.
        if found != step:
            raise ReleaseError(
                "release.malformed", f"Step {step} of a release came where {found or 'no further one'} was expected."
            )

    def _continue(self, step: int) -> ModelRelease:
        self._begin(step)
        if self._release is None:
            raise AssertionError("the first step sets the release")
        return self._release


def _is(data: bytes, sha256: str) -> bool:
    return hashlib.sha256(data).hexdigest() == sha256
