"""What an evaluation found: one value, written as JSON for programs and as text for people. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from facekeep_models.evaluation.accuracy import BestThreshold, FoldedAccuracy
from facekeep_models.evaluation.intervals import clopper_pearson
from facekeep_models.evaluation.rates import DETPoint, EqualErrorRate

REPORT_VERSION: Final = 1
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """A rate, what it was counted from, and how sure it is.

    Attributes:
        errors: wrong comparisons.
        trials: comparisons.
        exact: 95 % Clopper-Pearson interval, which takes the comparisons for independent.
        people: 95 % interval by bootstrap over identities: the one to believe where people stand in several comparisons.
    """

    errors: int
    trials: int
    exact: Interval
    people: Interval

    @property
    def rate(self) -> float:
        """The rate."""
        return self.errors / self.trials


@dataclass(frozen=True, slots=True)
class RatePoint:
    """FMR and FNMR at one threshold.

    Attributes:
        origin: "target" (the lowest threshold that keeps an FMR on these data), "manifest" (an operating point of the build)
            or "asked".
        target_fmr: the false match rate asked for, or None.
        threshold: a comparison matches at and above it.
        fmr: false match rate.
        fnmr: false non-match rate.
        tar_at_target: for "target", 95 % interval of 1 - FNMR with the threshold chosen anew in every resample.
    """

    origin: Literal["target", "manifest", "asked"]
    target_fmr: float | None
    threshold: float
    fmr: ErrorRate
    fnmr: ErrorRate
    tar_at_target: Interval | None = None


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What never became a comparison, kept apart from false non-matches (ISO/IEC 2382-37; the rate of enrolment is 37.09.07).

    Attributes:
        attempts: pictures.
        failures: pictures that gave no embedding, by error code.
        people: people pictured.
        people_without: people none of whose pictures gave one: they could not have been enrolled.
        not_made_mated: mated comparisons left out for it.
        not_made_non_mated: non-mated comparisons left out for it.
    """

    attempts: int
    failures: tuple[tuple[str, int], ...]
    people: int
    people_without: int
    not_made_mated: int
    not_made_non_mated: int

    @property
    def failed(self) -> int:
        """Pictures that gave no embedding."""
        return sum(count for _, count in self.failures)

    @property
    def fta(self) -> float:
        """Failure-to-acquire rate: pictures that gave no embedding."""
        return self.failed / self.attempts

    @property
    def fte(self) -> float:
        """Failure-to-enrol rate: people none of whose pictures gave an embedding."""
        return self.people_without / self.people


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy on a list of pairs.

    Attributes:
        best: at the threshold that is best on the same pairs.
        folds: each set at the threshold that is best on the others, or None.
        sets: where the sets come from: "file" (LFW View 2: people stand in one set only), "dealt" or "none".
        elsewhere: at the threshold that is best on other pairs (LFW View 1: development pairs), or None.
    """

    best: BestThreshold
    folds: FoldedAccuracy | None
    sets: Literal["file", "dealt", "none"]
    elsewhere: BestThreshold | None = None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was found.

    Attributes:
        embedder: "pack/build" of the references.
        probe_embedder: "pack/build" of the probes.
        detector: "pack/build".
        contract_ids: of the references and of the probes.
        dataset: what it was measured on.
        protocol: which comparisons were made.
        ignored: pictures left out since they stand under two names.
        seed: of everything drawn by lot.
        resamples: of the bootstrap.
        acquisition: what never became a comparison.
        mated: number of mated comparisons.
        non_mated: number of non-mated comparisons.
        eer: equal error rate.
        eer_interval: 95 % by bootstrap over identities.
        points: FMR and FNMR at thresholds.
        unsupported: targets for which the comparisons are too few.
        accuracy: on lists of pairs, else None.
        det: points of the DET curve.
    """

    embedder: str
    probe_embedder: str
    detector: str
    contract_ids: tuple[str, str]
    dataset: str
    protocol: str
    ignored: int
    seed: int
    resamples: int
    acquisition: Acquisition
    mated: int
    non_mated: int
    eer: EqualErrorRate
    eer_interval: Interval
    points: tuple[RatePoint, ...]
    unsupported: tuple[float, ...]
    accuracy: Accuracy | None
    det: tuple[DETPoint, ...]

    @property
    def is_cross_model(self) -> bool:
        """Whether references and probes come from different models."""
        return self.contract_ids[0] != self.contract_ids[1]

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold: no vector, no score of a single comparison, no name."""
        found = self.acquisition
        return {
            "version": REPORT_VERSION,
            "embedder": self.embedder,
            "probe_embedder": self.probe_embedder,
            "cross_model": self.is_cross_model,
            "detector": self.detector,
            "contract_ids": list(self.contract_ids),
            "dataset": self.dataset,
            "protocol": self.protocol,
            "ignored_pictures": self.ignored,
            "seed": self.seed,
            "resamples": self.resamples,
            "fta": _counted(found.failed, found.attempts) | {"by_code": dict(found.failures)},
            "fte": _counted(found.people_without, found.people),
            "comparisons": {
                "mated": self.mated,
                "non_mated": self.non_mated,
                "not_made_mated": found.not_made_mated,
                "not_made_non_mated": found.not_made_non_mated,
            },
            "eer": {"rate": self.eer.rate, "threshold": _finite(self.eer.threshold), "interval_people": list(self.eer_interval)},
            "points": [self._point(point) for point in self.points],
            "unsupported_fmr": list(self.unsupported),
            "accuracy": None if self.accuracy is None else _accuracy(self.accuracy),
            "det": [[_finite(point.threshold), point.fmr, point.fnmr] for point in self.det],
        }

    def _point(self, point: RatePoint) -> dict[str, Any]:
        # A transaction of one attempt: it fails by failing to acquire, or by a false non-match after that.
        fta = self.acquisition.fta
        value: dict[str, Any] = {
            "origin": point.origin,
            "target_fmr": point.target_fmr,
            "threshold": _finite(point.threshold),
            "fmr": _rate(point.fmr),
            "fnmr": _rate(point.fnmr),
            "tar": 1.0 - point.fnmr.rate,
            "single_attempt": {"far": point.fmr.rate * (1.0 - fta), "frr": fta + point.fnmr.rate * (1.0 - fta)},
        }
        if point.tar_at_target is not None:
            value["tar_interval_people"] = list(point.tar_at_target)
        return value

    def to_text(self) -> str:
        """Return the report for people."""
        found = self.acquisition
        between = f", probes by {self.probe_embedder}" if self.is_cross_model else ""
        lines = [
            f"{self.embedder}{between}; detector {self.detector}",
            f"{self.dataset}; {self.protocol}",
            f"FTA {_percent(found.fta)} ({found.failed} of {found.attempts} pictures{_by_code(found.failures)}), "
            f"FTE {_percent(found.fte)} ({found.people_without} of {found.people} people)",
            f"{self.mated} mated and {self.non_mated} non-mated comparisons; "
            f"{found.not_made_mated} and {found.not_made_non_mated} not made for want of a face",
            f"EER {_percent(self.eer.rate)} {_span(self.eer_interval)}",
        ]
        if self.accuracy is not None:
            lines += _accuracy_lines(self.accuracy)
        lines += [_point_line(point) for point in self.points]
        if self.unsupported:
            rates = ", ".join(f"{rate:g}" for rate in self.unsupported)
            lines.append(f"too few non-mated comparisons for an FMR of {rates}")
        lines.append(f"[..] 95 % intervals by {self.resamples} draws of people, seed {self.seed}")
        return "\n".join(lines)


def _rate(rate: ErrorRate) -> dict[str, Any]:
    return {
        "rate": rate.rate,
        "errors": rate.errors,
        "trials": rate.trials,
        "interval_exact": list(rate.exact),
        "interval_people": list(rate.people),
    }


def _counted(errors: int, trials: int) -> dict[str, Any]:
    interval = list(clopper_pearson(errors, trials))
    return {"rate": errors / trials, "errors": errors, "trials": trials, "interval_exact": interval}


def _accuracy(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "best_threshold": asdict(accuracy.best),
        "folds": None if accuracy.folds is None else asdict(accuracy.folds) | {"sets": accuracy.sets},
        "threshold_from_other_pairs": None if accuracy.elsewhere is None else asdict(accuracy.elsewhere),
    }


def _accuracy_lines(accuracy: Accuracy) -> list[str]:
    best = accuracy.best
    lines = [f"accuracy {_percent(best.accuracy)} at the best threshold of the same pairs, {best.threshold:.4f}"]
    if accuracy.elsewhere is not None:
        other = accuracy.elsewhere
        lines.append(f"accuracy {_percent(other.accuracy)} at the best threshold of the other pairs, {other.threshold:.4f}")
    if accuracy.folds is not None:
        folds = accuracy.folds
        origin = "of the file" if accuracy.sets == "file" else "dealt out, people in several of them"
        lines.append(
            f"accuracy {_percent(folds.mean)} +- {_percent(folds.standard_error)} over {len(folds.accuracies)} sets {origin}, "
            "each at the best threshold of the others"
        )
    return lines


def _point_line(point: RatePoint) -> str:
    name = {"target": "FMR {:g}", "manifest": "manifest, FMR {:g}", "asked": "asked"}[point.origin].format(point.target_fmr)
    tar = f", TAR {_percent(1 - point.fnmr.rate)} {_span(point.tar_at_target)}" if point.tar_at_target else ""
    return (
        f"{name}: threshold {point.threshold:.4f}, FMR {_percent(point.fmr.rate)} {_span(point.fmr.people)}, "
        f"FNMR {_percent(point.fnmr.rate)} {_span(point.fnmr.people)}{tar}"
    )


def _by_code(failures: Sequence[tuple[str, int]]) -> str:
    return "".join(f", {code} {count}" for code, count in failures)


def _percent(rate: float) -> str:
    return f"{100 * rate:.4g} %"


def _span(interval: Interval) -> str:
    return f"[{100 * interval[0]:.4g}, {100 * interval[1]:.4g}]"


def _finite(value: float) -> float | None:
    # JSON has no infinity.
    return value if math.isfinite(value) else None
