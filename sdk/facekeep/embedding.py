"""Turning an aligned crop into a unit vector. Pure; the vectors stay on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.contract import InputContract
from facekeep.errors import ComparisonError, ModelError
from facekeep.ports import Session
from facekeep.resampling import to_tensor

FEATURES: Final = "features"
_CROP_SHAPE = (112, 112, 3)
# Lengths outside this are no direction but a fault: a dead layer, or an overflow on its way to infinity.
_LEAST_LENGTH, _GREATEST_LENGTH = 1e-6, 1e18


class CosineEmbedder:
    """Embedder of models that are compared by cosine: implements `facekeep.ports.Embedder`.

    Args:
        session: the model; one input, one output of `dimension` numbers per picture, of any shape; beside it perhaps a second
            output, "features": what the last linear map of the model is applied to.
        input: its contract: crop "arcface-112", resized to its size without rounding to grey levels.
        dimension: length D of a vector.

    Raises:
        ModelError: "model.invalid_manifest" or "model.invalid_model" if contract and model do not fit an embedder.
    """

    def __init__(self, session: Session, input: InputContract, dimension: int) -> None:  # noqa: A002
        if input.crop != "arcface-112" or input.size_px is None or dimension < 1:
            raise ModelError("model.invalid_manifest", 'An embedder takes the crop "arcface-112" at a fixed size.')
        places = [place for place, name in enumerate(session.outputs) if name != FEATURES]
        if len(session.inputs) != 1 or len(places) != 1 or len(session.outputs) > 2:
            raise ModelError(
                "model.invalid_model",
                f'An embedder has one input and one output, and perhaps "{FEATURES}"; found {len(session.inputs)} and '
                f"{len(session.outputs)}.",
            )
        self._session = session
        self._input = input
        self._dimension = dimension
        self._name, shape = next(iter(session.inputs.items()))
        self._place = places[0]
        self._takes_batches = bool(shape) and not isinstance(shape[0], int)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return self._dimension

    @property
    def has_features(self) -> bool:
        """Whether the model says what its last linear map is applied to."""
        return len(self._session.outputs) == 2

    def embed_with_features(self, crop: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the (D,) float32 unit vector of a crop, and the (F,) float32 features in front of the last linear map.

        Features are biometric data like the vector: whoever has them and the model has the vector.

        Raises:
            ComparisonError: "comparison.invalid_embedding" when the model gives no finite direction, or features not finite.
            ModelError: "model.invalid_model" when the model has no features, or its outputs have other lengths.
        """
        outputs = self._outputs(self._tensor(crop))
        return self._vectors(outputs, 1)[0], self._features(outputs)

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the (D,) float32 unit vector of a (112, 112, 3) uint8 RGB crop.

        Raises:
            ComparisonError: "comparison.invalid_embedding" when the model gives no finite direction.
            ModelError: "model.invalid_model" when its output has another length.
        """
        vector: NDArray[np.float32] = self._run(self._tensor(crop), 1)[0]
        return vector

    def embed_batch(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the (N, D) float32 unit vectors of N crops; in one run where the model takes batches.

        Raises:
            ComparisonError: "comparison.invalid_embedding" when the model gives no finite direction for any of them.
            ModelError: "model.invalid_model" when its output has another length.
        """
        if not crops:
            return np.empty((0, self._dimension), np.float32)
        tensors = [self._tensor(crop) for crop in crops]
        if self._takes_batches:
            return self._run(np.concatenate(tensors), len(tensors))
        return np.concatenate([self._run(tensor, 1) for tensor in tensors])

    def _tensor(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        if crop.shape != _CROP_SHAPE or crop.dtype != np.uint8:
            raise ValueError(f"a crop is (112, 112, 3) uint8; found {crop.dtype} of shape {crop.shape}")
        return to_tensor(crop, self._input)

    def _run(self, tensor: NDArray[np.float32], count: int) -> NDArray[np.float32]:
        return self._vectors(self._outputs(tensor), count)

    def _outputs(self, tensor: NDArray[np.float32]) -> Sequence[NDArray[Any]]:
        return self._session.run({self._name: tensor})

    def _vectors(self, outputs: Sequence[NDArray[Any]], count: int) -> NDArray[np.float32]:
        output = np.asarray(outputs[self._place])
        if output.size != count * self._dimension or output.shape[:1] != (count,):
            raise ModelError(
                "model.invalid_model",
                f"The embedder gives {self._dimension} numbers a face; found an output of shape {output.shape}.",
            )
        return _unit_rows(output.reshape(count, self._dimension).astype(np.float64))

    def _features(self, outputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        if not self.has_features:
            raise ModelError("model.invalid_model", f'The model has no output "{FEATURES}".')
        output = np.asarray(outputs[1 - self._place], np.float32)
        if output.shape[:1] != (1,) or output.size == 0:
            raise ModelError(
                "model.invalid_model", f"The features of one face were expected; found an output of shape {output.shape}."
            )
        if not np.isfinite(output).all():
            raise ComparisonError("comparison.invalid_embedding", "The embedder gave features that are not finite.")
        return output.reshape(-1)


def mean_direction(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the (D,) float32 unit vector in the middle of unit vectors: the reference made from several samples.

    Raises:
        ComparisonError: "comparison.invalid_embedding" if they cancel out or are not finite.
    """
    if not vectors:
        raise ValueError("a mean needs at least one vector")
    mean: NDArray[np.float32] = _unit_rows(np.stack(vectors).astype(np.float64).mean(axis=0, keepdims=True))[0]
    return mean


def _unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(all="ignore"):  # what is not finite is refused on the next line
        lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
    # A NaN compares false, so it lands here as well.
    if not ((lengths >= _LEAST_LENGTH) & (lengths <= _GREATEST_LENGTH)).all():
        raise ComparisonError("comparison.invalid_embedding", "The embedder gave a vector that is not finite or has no length.")
    unit: NDArray[np.float32] = (rows / lengths).astype(np.float32)
    return unit
