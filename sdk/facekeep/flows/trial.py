"""The self-test of a staged model: does it compute here what it should, and does it still know the people of this device?"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric.arrays import wipe
from facekeep.calibration import loosest_point
from facekeep.errors import ComparisonError, FederationError, ModelError, ReleaseError
from facekeep.flows.context import Models
from facekeep.ports import FeatureEmbedder
from facekeep.rates import all_pairs_false_matches
from facekeep.training.head import embed_features
from facekeep.trust.vectors import LEAST_COSINE, parse_vectors, reference_crops

# Migration computes the last map in another place than the runtime does; further apart, one of the two is wrong.
_LEAST_AGREEMENT: Final = 1.0 - 1e-6
_MOST_PEOPLE: Final = 256


def require_computes(models: Models, head: NDArray[np.float32], vectors: bytes) -> None:
    """Return if the model gives on the reference crops what the release states, and what its last map makes of its features.

    Args:
        models: of the staged release.
        head: (D, F) last linear map, as the release's numbers say.
        vectors: the release's embeddings of the reference crops; empty where it states none.

    Raises:
        ReleaseError: "release.failed_selftest", "release.malformed".
    """
    embedder = models.embedder
    if not isinstance(embedder, FeatureEmbedder) or not embedder.has_features:
        raise ReleaseError("release.wrong_model", "The embedder offers no features, so no template could follow the release.")
    try:
        found = [embedder.embed_with_features(crop) for crop in reference_crops()]
        made = np.stack([vector for vector, _ in found])
        again = embed_features(head, np.stack([features for _, features in found]))
    except (ComparisonError, ModelError, FederationError, ValueError) as error:
        code = getattr(error, "code", "model.invalid_model")
        raise ReleaseError("release.failed_selftest", f"The model gives nothing usable for the reference crops ({code}).") from None
    if vectors and not _agree(made, parse_vectors(vectors, made.shape[1]), LEAST_COSINE):
        raise ReleaseError("release.failed_selftest", "The model gives other embeddings here than where it was made.")
    if not _agree(made, again, _LEAST_AGREEMENT):
        raise ReleaseError("release.failed_selftest", "The model's embeddings are not what its last map makes of its features.")


class PeopleTrial:
    """Looks on while templates move to a staged model, and says whether it still tells these people apart.

    A guard against a release that is broken, not a measurement: a device knows a few people, and thresholds come from many.

    Args:
        before: the models in use.
        after: the staged models.
    """

    def __init__(self, before: Models, after: Models) -> None:
        self._before = loosest_point(before.operating_points)
        self._after = loosest_point(after.operating_points)
        self._pairs: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def take(self, owner: int, old: NDArray[np.float32], frames: NDArray[np.float32], new: NDArray[np.float32]) -> None:
        """Take in one template.

        Args:
            owner: number of the subject.
            old: (D,) the template as it is.
            frames: (N, D) what the staged model makes of each of its frames.
            new: (D,) the template as it would be.

        Raises:
            ReleaseError: "release.failed_selftest" if the subject would not be recognised as themselves any more.
        """
        threshold = self._after.threshold
        # The spaces of a release and of its parent are held together in training, so that this may be asked across them.
        if not (float((frames @ new).min()) >= threshold and float(old @ new) >= threshold):
            raise ReleaseError("release.failed_selftest", "A template of this device would no longer match what it was made of.")
        if len(self._pairs) < _MOST_PEOPLE:
            # Copies: what the caller was handed it wipes itself.
            self._pairs.setdefault(owner, (old.copy(), new.copy()))

    def require_apart(self) -> None:
        """Return if different people match no oftener than before, and than the operating point says, by far.

        Raises:
            ReleaseError: "release.failed_selftest".
        """
        if len(self._pairs) < 2:
            return
        old, new = (np.stack(rows) for rows in zip(*self._pairs.values(), strict=True))
        before, after = (
            all_pairs_false_matches(rows, point.threshold) for rows, point in ((old, self._before), (new, self._after))
        )
        if after.errors > 3 + 5 * max(before.errors, self._after.fmr * after.trials):
            raise ReleaseError(
                "release.failed_selftest",
                f"{after.errors} of {after.trials} pairs of different people would match under the release; "
                f"{before.errors} do now.",
            )

    def forget(self) -> None:
        """Overwrite what was taken in."""
        for old, new in self._pairs.values():
            wipe(old)
            wipe(new)
        self._pairs.clear()


def _agree(one: NDArray[np.float32], other: NDArray[np.float32], least: float) -> bool:
    return bool((np.einsum("ij,ij->i", one.astype(np.float64), other.astype(np.float64)) >= least).all())
