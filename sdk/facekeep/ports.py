"""The page to read to port Facekeep: what a device needs from the outside, one small protocol each.

An adapter MUST raise Facekeep's typed errors and no others, MUST NOT keep what it was handed longer than the call, and MUST
NOT write any of it anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame, PADReport
from facekeep.consent import ConsentGrant


class Camera(Protocol):
    """Takes pictures, and only under a grant."""

    def capture(self, grant: ConsentGrant) -> Frame:
        """Return one frame.

        MUST NOT open the camera before a grant is in hand: there is no picture without one.

        Raises:
            AcquisitionError: "acquisition.camera", "acquisition.unreadable" and their kind.
        """
        ...


class Session(Protocol):
    """A loaded model in some runtime. MUST be safe to call from several threads."""

    @property
    def inputs(self) -> Mapping[str, tuple[int | str | None, ...]]:
        """Name and shape of each input; a string or None marks a free dimension."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the order `run` returns them."""
        ...

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Return every output for these inputs.

        Raises:
            ModelError: "model.invalid_model" if the runtime refuses.
        """
        ...


class Detector(Protocol):
    """Finds faces."""

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        """Return every face of `frame`, most confident first, in pixels of that frame."""
        ...


class Embedder(Protocol):
    """Turns aligned crops into unit vectors."""

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        ...

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the (D,) float32 unit vector of a (112, 112, 3) uint8 RGB crop.

        Raises:
            ComparisonError: "comparison.invalid_embedding" when the model gives no finite direction.
        """
        ...


@runtime_checkable
class FeatureEmbedder(Embedder, Protocol):
    """An embedder that can also say what its last linear map is applied to: what a template needs to follow a new map."""

    @property
    def has_features(self) -> bool:
        """Whether this model really can."""
        ...

    def embed_with_features(self, crop: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what `embed` gives, and the (F,) float32 features in front of the last linear map.

        Raises:
            ComparisonError: as `embed`.
        """
        ...


class PADetector(Protocol):
    """Tells a bona fide presentation from an attack (ISO/IEC 30107-3)."""

    def examine(self, frame: Frame, detection: Detection) -> PADReport:
        """Return what the detector thinks of the face at `detection`; MUST answer "undetermined" rather than guess."""
        ...


class KeyProvider(Protocol):
    """Guards the master key: a passphrase, a key file, the keyring of the operating system, a TPM."""

    @property
    def kind(self) -> str:
        """Short name that the keystore records, such as "passphrase"."""
        ...

    def create(self) -> Mapping[str, str | int]:
        """Return the public parameters for a new keystore (a salt, a cost), making the secret where there is none.

        Raises:
            VaultError: "vault.no_key" or "vault.insecure_key". MUST NOT fall back to anything weaker.
        """
        ...

    def master_key(self, parameters: Mapping[str, str | int]) -> bytes:
        """Return the 32-byte master key that these parameters lead to.

        Raises:
            VaultError: "vault.no_key", "vault.insecure_key" or "vault.corrupt" (parameters out of range).
        """
        ...
