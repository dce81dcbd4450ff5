"""Comparing embeddings: one to one, and one to a whole gallery. Pure.

Similarity is the cosine of two unit vectors, which is their inner product. The search is exact: no index, no candidate lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import ComparisonScore, Decision, Embedding, OperatingPoint, Template
from facekeep.biometric.arrays import wipe
from facekeep.errors import ComparisonError

# Rows of an int8 gallery that are widened at a time: at 256 dimensions 512 KiB, which stays in the second-level cache.
_CHUNK_ROWS: Final = 512
_UNIT_TOLERANCE: Final = 1e-3
_INT8_LARGEST: Final = 127.0


def compare(probe: Embedding, template: Template) -> ComparisonScore:
    """Return the similarity of a probe and a reference.

    Raises:
        ComparisonError: "comparison.contract_mismatch" when other models made the template.
    """
    if probe.contract_id != template.contract_id or probe.dimension != template.dimension:
        # Two spaces: the number would look like a score and mean nothing.
        raise ComparisonError(
            "comparison.contract_mismatch",
            "The probe and the template were made by different models or preprocessing. Enrol again, or use the models that "
            "made the template.",
        )
    return ComparisonScore(float(probe.vector @ template.vector))


def best_of(probe: Embedding, templates: Sequence[Template]) -> ComparisonScore:
    """Return the highest score over the references of one subject.

    Raises:
        ComparisonError: "comparison.empty_gallery", "comparison.contract_mismatch".
    """
    if not templates:
        raise ComparisonError("comparison.empty_gallery", "There is no template to compare the probe with.")
    return max((compare(probe, template) for template in templates), key=lambda score: score.value)


def decide(subject: str, score: ComparisonScore, point: OperatingPoint) -> Decision:
    """Return the decision on the claim to be `subject`: a match at and above the threshold of `point`."""
    return Decision(subject, score.value >= point.threshold, score, point)


class Gallery:
    """Templates in memory for exact 1:N search.

    Args:
        vectors: (N, D) float32 unit vectors, all of one contract.
        labels: (N,) integers; a subject with several references has its label on several rows.
        precision: "float32", or "int8" with a scale per row, a quarter of the memory.

    The gallery keeps a copy of its own; the caller wipes what it handed in. Searching is safe from several threads, wiping
    while a search runs is not.

    Raises:
        ComparisonError: "comparison.invalid_embedding" if a row is not a finite unit vector.
    """

    def __init__(
        self, vectors: NDArray[np.float32], labels: NDArray[np.integer], *, precision: Literal["float32", "int8"] = "float32"
    ) -> None:
        if vectors.ndim != 2 or vectors.dtype != np.float32 or vectors.shape[1] == 0:
            raise ValueError("the vectors of a gallery are (N, D) float32")
        if labels.shape != (vectors.shape[0],) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError("a gallery has one integer label for each row")
        if precision not in {"float32", "int8"}:
            raise ValueError("the precision of a gallery is float32 or int8")
        lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
        # Written so that a NaN is refused as well.
        if not bool(np.all(np.abs(lengths - 1.0) <= _UNIT_TOLERANCE)):
            raise ComparisonError("comparison.invalid_embedding", "A template of the gallery is not a finite unit vector.")
        self._dimension = int(vectors.shape[1])
        # Rows of one subject stand together, so that its best score is one reduction away.
        order = None if bool(np.all(labels[1:] >= labels[:-1])) else np.argsort(labels, kind="stable")
        ordered = labels if order is None else labels[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, dtype=np.intp)
        self._labels: NDArray[np.int64] = ordered[first].astype(np.int64)
        self._first = None if len(first) == len(ordered) else first
        self._scales: NDArray[np.float32] | None = None
        self._rows: NDArray[np.float32] | NDArray[np.int8]
        if precision == "float32":
            self._rows = np.array(vectors, order="C") if order is None else vectors[order]
        else:
            self._rows, self._scales = _quantised(vectors, order)
        self._wiped = False

    def __repr__(self) -> str:
        return f"Gallery(subjects={len(self)}, dimension={self._dimension}, precision={self._rows.dtype})"

    def __len__(self) -> int:
        return 0 if self._wiped else len(self._labels)

    @property
    def nbytes(self) -> int:
        """Bytes that the vectors take in memory."""
        return int(self._rows.nbytes + (self._scales.nbytes if self._scales is not None else 0))

    def search(self, probe: NDArray[np.float32], *, top: int = 2) -> tuple[tuple[int, float], ...]:
        """Return the best subjects as (label, score), best first; of equal scores the lower label first.

        Args:
            probe: (D,) float32 unit vector of the contract of the gallery.
            top: how many subjects at most.

        Raises:
            ComparisonError: "comparison.empty_gallery"; "comparison.contract_mismatch" for another dimension.
        """
        if top < 1:
            raise ValueError("a search returns at least one subject")
        if len(self) == 0:
            raise ComparisonError("comparison.empty_gallery", "There is no template to search.")
        if probe.shape != (self._dimension,) or probe.dtype != np.float32:
            raise ComparisonError(
                "comparison.contract_mismatch",
                f"The gallery holds float32 vectors of {self._dimension} dimensions; the probe is of another kind.",
            )
        scores = self._scores(probe)
        if self._first is not None:
            scores = np.maximum.reduceat(scores, self._first)
        if not bool(np.isfinite(scores[scores.argmax()])):
            raise ComparisonError("comparison.invalid_embedding", "The probe is not a finite vector.")
        best = _best(scores, min(top, len(scores)))
        return tuple((int(self._labels[index]), float(scores[index])) for index in best)

    def wipe(self) -> None:
        """Overwrite the vectors with zeros; every later search is refused."""
        self._wiped = True
        wipe(self._rows)
        if self._scales is not None:
            wipe(self._scales)

    def _scores(self, probe: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._scales is None:
            product: NDArray[np.float32] = self._rows @ probe
            return product
        scores = np.empty(len(self._rows), dtype=np.float32)
        # One small buffer for the widened rows: widening all of them would cost the memory that int8 saves.
        buffer = np.empty((min(_CHUNK_ROWS, len(self._rows)), self._dimension), dtype=np.float32)
        for start in range(0, len(self._rows), _CHUNK_ROWS):
            chunk = self._rows[start : start + _CHUNK_ROWS]
            widened = buffer[: len(chunk)]
            widened[...] = chunk
            np.dot(widened, probe, out=scores[start : start + len(chunk)])
        scores *= self._scales
        buffer.fill(0)
        return scores


def identify_among(
    ranked: Sequence[tuple[int, float]], threshold: float, margin: float
) -> tuple[Literal["identified", "ambiguous", "unknown"], tuple[tuple[int, float], ...]]:
    """Decide an open-set search.

    Args:
        ranked: (label, score), best first, one entry for each subject.
        threshold: of the operating point for the size of the gallery.
        margin: cosine by which the best must lead everyone else.

    Returns:
        The outcome and who it is about: "unknown" nobody, since nobody reaches the threshold; "ambiguous" the best and all
        within the margin of it, even those below the threshold; "identified" the best alone.

    Raises:
        ComparisonError: "comparison.invalid_margin".
    """
    # Compared with NaN nobody would be close, and everyone would be identified.
    if not 0.0 <= margin <= 2.0:
        raise ComparisonError("comparison.invalid_margin", f"A margin is a difference of cosines, 0 to 2; found {margin:g}.")
    if not ranked or not ranked[0][1] >= threshold:
        return "unknown", ()
    # A twin, or one person enrolled twice: whoever scores nearly as high is as likely, and a machine must not pick.
    close = tuple(entry for entry in ranked if entry[1] >= ranked[0][1] - margin)
    if len(close) > 1:
        return "ambiguous", close
    return "identified", (ranked[0],)


def _best(scores: NDArray[np.float32], top: int) -> NDArray[np.intp]:
    """Return the indices of the `top` highest scores, best first; of equal scores the lower index first."""
    floor = scores.max() if top == 1 else scores[np.argpartition(scores, len(scores) - top)[-top:]].min()
    # Ties at the floor make more than `top` of them; a stable sort settles those by index.
    candidates = np.flatnonzero(scores >= floor)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:top]


def _quantised(vectors: NDArray[np.float32], order: NDArray[np.intp] | None) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return rows as int8 and the scale of each row, chunk by chunk so that no second float32 gallery exists."""
    rows = np.empty(vectors.shape, dtype=np.int8)
    scales = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _CHUNK_ROWS):
        stop = min(start + _CHUNK_ROWS, len(vectors))
        chunk = vectors[start:stop] if order is None else vectors[order[start:stop]]
        scale = np.abs(chunk).max(axis=1) / np.float32(_INT8_LARGEST)
        scales[start:stop] = scale
        rows[start:stop] = np.rint(chunk / scale[:, None])
    return rows, scales
