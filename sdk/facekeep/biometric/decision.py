"""Scores, thresholds and what was decided."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from facekeep.errors import ComparisonError, NonMatchError


@dataclass(frozen=True, slots=True)
class ComparisonScore:
    """Similarity of a probe and a reference: cosine, -1 to 1. Stays on the device: scores leak templates."""

    value: float = field(repr=False)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or abs(self.value) > 1.0 + 1e-3:
            raise ComparisonError("comparison.invalid_embedding", "A comparison gave no finite cosine.")


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold with the error rates measured at it. A threshold without them does not exist here.

    Attributes:
        threshold: cosine at and above which a comparison matches.
        fmr: false match rate at the threshold (the target it was chosen for).
        fmr_interval: 95 % interval of the measured false match rate.
        fnmr: false non-match rate measured at the threshold.
        fnmr_interval: 95 % interval of it.
        dataset: what it was measured on.
        mated: number of mated comparisons.
        non_mated: number of non-mated comparisons.
    """

    threshold: float
    fmr: float
    fmr_interval: tuple[float, float]
    fnmr: float
    fnmr_interval: tuple[float, float]
    dataset: str
    mated: int
    non_mated: int

    def __post_init__(self) -> None:
        rates = (self.fmr, *self.fmr_interval, self.fnmr, *self.fnmr_interval)
        if not all(0.0 <= rate <= 1.0 for rate in rates) or not -1.0 <= self.threshold <= 1.0:
            raise ValueError("rates lie in 0 to 1, thresholds in -1 to 1")
        if not 0.0 < self.fmr < 1.0 or self.mated < 1 or self.non_mated < 1:
            raise ValueError("an operating point was measured, at a false match rate between 0 and 1")


@dataclass(frozen=True, slots=True)
class Decision:
    """Outcome of a 1:1 verification.

    Truth testing raises: `if device.verify(...)` would always be true. Use `is_match` or `require_match`.

    Attributes:
        subject: the identity that was claimed.
        is_match: whether the probe matched at the operating point.
        score: the best score over the subject's references.
        operating_point: the threshold and the rates it was measured at.
    """

    subject: str = field(repr=False)
    is_match: bool
    score: ComparisonScore = field(repr=False)
    operating_point: OperatingPoint

    def __bool__(self) -> bool:
        raise TypeError("a Decision is not a truth value: use decision.is_match or decision.require_match()")

    def __repr__(self) -> str:
        return f"Decision({'match' if self.is_match else 'non-match'} at FMR {self.operating_point.fmr:g})"

    def require_match(self) -> Decision:
        """Return this decision if it is a match.

        Raises:
            NonMatchError: "comparison.non_match".
        """
        if not self.is_match:
            raise NonMatchError(
                "comparison.non_match",
                f"The probe does not match the claimed identity at a false match rate of {self.operating_point.fmr:g}.",
            )
        return self


@dataclass(frozen=True, slots=True)
class Candidate:
    """One subject of an identification and the best score over the subject's references."""

    subject: str = field(repr=False)
    score: ComparisonScore = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identification:
    """Outcome of an open-set 1:N identification.

    Attributes:
        outcome: "identified" (one candidate, clear of the runner-up), "ambiguous" (two candidates too close to tell
            apart) or "unknown" (nobody reaches the threshold).
        candidates: identified: the one; ambiguous: those within the margin, best first; unknown: none.
        operating_point: the threshold used, chosen for the gallery size.
        target_fpir: false positive identification rate asked for.
        gallery_size: number of subjects searched.
        waiting: number of subjects who might have been meant and were not searched: their templates wait to follow the model.
    """

    outcome: Literal["identified", "ambiguous", "unknown"]
    candidates: tuple[Candidate, ...] = field(repr=False)
    operating_point: OperatingPoint
    target_fpir: float
    gallery_size: int
    waiting: int = 0

    def __post_init__(self) -> None:
        enough = {"identified": len(self.candidates) == 1, "ambiguous": len(self.candidates) >= 2, "unknown": not self.candidates}
        if not enough[self.outcome]:
            raise ValueError("the candidates do not fit the outcome")

    def __bool__(self) -> bool:
        raise TypeError("an Identification is not a truth value: use identification.outcome or require_identified()")

    def __repr__(self) -> str:
        return f"Identification({self.outcome}, gallery={self.gallery_size}, FPIR {self.target_fpir:g})"

    def require_identified(self) -> str:
        """Return the subject if exactly one was identified.

        Raises:
            NonMatchError: "comparison.non_match".
        """
        if self.outcome != "identified":
            raise NonMatchError("comparison.non_match", f"Nobody was identified: the outcome is {self.outcome}.")
        return self.candidates[0].subject
