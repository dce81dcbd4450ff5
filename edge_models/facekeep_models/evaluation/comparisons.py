"""Comparisons: scores, whether they are mated, and which people they are between. Pure.

A comparison that could not be made, since a picture gave no embedding, is no comparison: it is counted apart, because a false
non-match rate counts comparisons and a failure-to-acquire rate counts attempts to acquire (ISO/IEC 19795-1, ISO/IEC 2382-37).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.evaluation.errors import EvaluationError

# 12 bytes each, three times that while they are sorted.
MOST_COMPARISONS: Final = 40_000_000
_BLOCK_ROWS: Final = 512

FloatArray = NDArray[np.float32] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pair:
    """One comparison to make.

    Attributes:
        reference: index of the picture on the reference side.
        probe: index of the other picture.
        is_mated: whether both are of one person.
        fold: which set of a cross-validation it belongs to.
    """

    reference: int
    probe: int
    is_mated: bool
    fold: int = 0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparisons:
    """Scores of mated and non-mated comparisons, each kind in rising order. Scores leak faces: they stay on this machine.

    Attributes:
        mated: (M,) float scores.
        mated_people: (M,) int32 who it is.
        non_mated: (N,) float scores.
        non_mated_people: (N, 2) int32 who was compared with whom.
        people: number of people; every index of a person is below it.
        mated_folds: (M,) int32 set of each comparison, or None.
        non_mated_folds: (N,) int32, or None.
        pictures_of: (people,) pictures of each person, where the non-mated comparisons are all pairs of them; else None.
        not_made_mated: mated comparisons for lack of an embedding not made.
        not_made_non_mated: the same of non-mated ones.
    """

    mated: FloatArray
    mated_people: NDArray[np.int32]
    non_mated: FloatArray
    non_mated_people: NDArray[np.int32]
    people: int
    mated_folds: NDArray[np.int32] | None = None
    non_mated_folds: NDArray[np.int32] | None = None
    pictures_of: NDArray[np.int64] | None = None
    not_made_mated: int = 0
    not_made_non_mated: int = 0

    def __post_init__(self) -> None:
        if self.mated.shape != self.mated_people.shape or (len(self.non_mated), 2) != self.non_mated_people.shape:
            raise ValueError("every comparison says who was compared")
        if not len(self.mated) or not len(self.non_mated):
            raise EvaluationError(
                "evaluation.too_few_comparisons",
                f"An evaluation needs mated and non-mated comparisons; found {len(self.mated)} and {len(self.non_mated)}. "
                f"{self.not_made_mated} and {self.not_made_non_mated} could not be made for want of a face.",
            )
        for scores in (self.mated, self.non_mated):
            if not bool(np.all(scores[1:] >= scores[:-1])):
                raise ValueError("scores are finite and in rising order")

    def __repr__(self) -> str:
        return f"Comparisons(mated={len(self.mated)}, non_mated={len(self.non_mated)}, people={self.people})"


def sorted_comparisons(
    mated: tuple[FloatArray, NDArray[np.integer]],
    non_mated: tuple[FloatArray, NDArray[np.integer]],
    people: int,
    *,
    folds: tuple[NDArray[np.integer], NDArray[np.integer]] | None = None,
    pictures_of: NDArray[np.int64] | None = None,
    not_made: tuple[int, int] = (0, 0),
) -> Comparisons:
    """Return comparisons out of (scores, people) of either kind in any order."""
    first, second = np.argsort(mated[0], kind="stable"), np.argsort(non_mated[0], kind="stable")
    return Comparisons(
        mated[0][first],
        mated[1][first].astype(np.int32),
        non_mated[0][second],
        non_mated[1][second].astype(np.int32),
        people,
        folds[0][first].astype(np.int32) if folds else None,
        folds[1][second].astype(np.int32) if folds else None,
        pictures_of,
        *not_made,
    )


def compare_listed(
    references: NDArray[np.float32], probes: NDArray[np.float32], people: NDArray[np.integer], pairs: Sequence[Pair]
) -> Comparisons:
    """Return the comparisons of a list of pairs.

    Args:
        references: (P, D) float32 unit vectors of the pictures on the reference side, rows of NaN where there is none.
        probes: (P, D) the same on the probe side: the same array, or that of another model of the same space.
        people: (P,) person of each picture, from 0.
        pairs: which to compare.

    Raises:
        EvaluationError: "evaluation.different_spaces", "evaluation.too_few_comparisons".
    """
    require_one_space(references, probes)
    left = np.array([pair.reference for pair in pairs], dtype=np.int64)
    right = np.array([pair.probe for pair in pairs], dtype=np.int64)
    is_mated = np.array([pair.is_mated for pair in pairs], dtype=bool)
    folds = np.array([pair.fold for pair in pairs], dtype=np.int32)
    if bool(np.any((people[left] == people[right]) != is_mated)):
        raise ValueError("a pair is mated exactly if both pictures are of one person")
    made = has_embedding(references)[left] & has_embedding(probes)[right]
    scores = np.einsum("nd,nd->n", references[left[made]], probes[right[made]])
    kind, who = is_mated[made], np.stack([people[left[made]], people[right[made]]], axis=1)
    return sorted_comparisons(
        (scores[kind], who[kind, 0]),
        (scores[~kind], who[~kind]),
        int(people.max(initial=-1)) + 1,
        folds=(folds[made][kind], folds[made][~kind]),
        not_made=(int(np.sum(is_mated & ~made)), int(np.sum(~is_mated & ~made))),
    )


def compare_all(
    references: NDArray[np.float32],
    probes: NDArray[np.float32],
    people: NDArray[np.integer],
    *,
    one_each: bool = False,
) -> Comparisons:
    """Return the comparisons of every picture with every other.

    Args:
        references: as `compare_listed`.
        probes: as `compare_listed`; if it is not the same array, each pair counts twice, once in either direction.
        people: as `compare_listed`.
        one_each: non-mated comparisons among the first usable picture of each person only.

    Raises:
        EvaluationError: "evaluation.different_spaces", "evaluation.too_few_comparisons", "evaluation.too_many_comparisons".
    """
    require_one_space(references, probes)
    both = references is not probes
    usable = np.flatnonzero(has_embedding(references) & has_embedding(probes))
    mated, mated_people = mated_scores(references, probes, people, usable)
    chosen = usable[np.unique(people[usable], return_index=True)[1]] if one_each else usable
    pictures_of = np.bincount(people[chosen], minlength=int(people.max(initial=-1)) + 1)
    total = (int(pictures_of.sum()) ** 2 - int(np.sum(pictures_of**2))) // (1 if both else 2)
    if total + len(mated) > MOST_COMPARISONS:
        raise EvaluationError(
            "evaluation.too_many_comparisons",
            f"{total} non-mated comparisons are more than the {MOST_COMPARISONS} that are kept in memory. Take one picture of "
            "each person for them (--one-each), or fewer people (--limit).",
        )
    scores = np.empty(total, dtype=np.float32)
    who = np.empty((total, 2), dtype=np.int32)
    owners, filled = people[chosen].astype(np.int32), 0
    for start in range(0, len(chosen), _BLOCK_ROWS):
        rows = np.arange(start, min(start + _BLOCK_ROWS, len(chosen)))
        wanted = owners[rows, None] != owners[None, :]
        if not both:
            wanted &= np.arange(len(chosen))[None, :] > rows[:, None]
        left, right = np.nonzero(wanted)
        block = references[chosen[rows]] @ probes[chosen].T
        stop = filled + len(left)
        scores[filled:stop] = block[left, right]
        who[filled:stop, 0], who[filled:stop, 1] = owners[rows[left]], owners[right]
        filled = stop
    return sorted_comparisons(
        (mated, mated_people), (scores, who), len(pictures_of), pictures_of=pictures_of, not_made=_not_made(people, usable, both)
    )


def mated_scores(
    references: NDArray[np.float32], probes: NDArray[np.float32], people: NDArray[np.integer], usable: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return score and person of all mated pairs among the pictures `usable` (indices), person by person."""
    both = references is not probes
    scores: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)]
    owners: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    order = usable[np.argsort(people[usable], kind="stable")]
    for rows in np.split(order, np.flatnonzero(np.diff(people[order])) + 1) if len(order) else []:
        upper = ~np.eye(len(rows), dtype=bool) if both else np.triu(np.ones((len(rows), len(rows)), dtype=bool), 1)
        scores.append((references[rows] @ probes[rows].T)[upper])
        owners.append(np.full(len(scores[-1]), people[rows[0]], dtype=np.int64))
    return np.concatenate(scores), np.concatenate(owners)


def has_embedding(vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return (P,) whether each row is an embedding; rows of NaN stand for pictures that gave none."""
    return np.isfinite(vectors[:, 0]) if vectors.shape[1] else np.zeros(len(vectors), dtype=np.bool_)


def require_one_space(references: NDArray[np.float32], probes: NDArray[np.float32]) -> None:
    """Return if the two can be compared as far as numbers tell; whether they share a space only their makers know.

    Raises:
        EvaluationError: "evaluation.different_spaces".
    """
    if references.shape != probes.shape:
        raise EvaluationError(
            "evaluation.different_spaces",
            f"The references are {references.shape} and the probes {probes.shape}: the same pictures in vectors of one length "
            "are expected, from models made for one space.",
        )


def _not_made(people: NDArray[np.integer], usable: NDArray[np.integer], both: bool) -> tuple[int, int]:
    """Return how many mated and non-mated comparisons all pictures would have made more than the usable ones."""

    def possible(owners: NDArray[np.integer]) -> tuple[int, int]:
        counts = np.bincount(owners)
        same, pairs = int(np.sum(counts * (counts - 1))) // 2, len(owners) * (len(owners) - 1) // 2
        return (2 if both else 1) * same, (2 if both else 1) * (pairs - same)

    everyone, some = possible(people), possible(people[usable])
    return everyone[0] - some[0], everyone[1] - some[1]
