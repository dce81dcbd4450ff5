"""From scores to what a device contributes to federated statistics. Pure; scores stay, only their noised, masked counts travel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.participation.contribution import Contribution
from facekeep.protocol import RoundPlan
from facekeep.protocol.statistics import GROUP_FIELDS, CalibrationSettings, DemographicSettings


@dataclass(frozen=True, slots=True, eq=False)
class SubjectCounts:
    """Comparisons of one subject at the operating threshold in use.

    Attributes:
        group: as the subject declared it.
        mated: comparisons of the subject with itself, counted.
        non_matches: those of them that do not match.
        non_mated: comparisons with others, counted.
        false_matches: those of them that match.
    """

    group: str
    mated: int
    non_matches: int
    non_mated: int
    false_matches: int


def calibration_contribution(scores: NDArray[np.floating], plan: RoundPlan) -> Contribution:
    """Return the histogram of one device.

    Args:
        scores: (N,) non-mated scores of this device; each device counts once however many there are.
        plan: of a calibration.

    Raises:
        FederationError: "federation.nothing_to_contribute" without a score; "federation.plan_refused".
    """
    settings = CalibrationSettings.parse(plan.settings)
    if plan.length != settings.bins:
        raise FederationError("federation.plan_refused", "The plan is refused: its length is not the number of its bins.")
    if not len(scores):
        raise FederationError("federation.nothing_to_contribute", "There is nobody here to be told apart from anybody.")
    found = np.asarray(scores, dtype=np.float64)
    told = found[found >= settings.low]
    # By the edges that the server will read thresholds from: a score on an edge belongs above it, as a decision compares.
    places = np.clip(np.searchsorted(settings.edges, told, side="right") - 1, 0, settings.bins - 1)
    shares = np.bincount(places, minlength=settings.bins) / len(found) * settings.gain
    clipped = float(np.linalg.norm(shares)) > plan.update_clip
    return Contribution(shares.astype(np.float32), {"clipped": float(clipped), "pairs": float(len(found))})


def demographic_contribution(subjects: Sequence[SubjectCounts], plan: RoundPlan) -> Contribution:
    """Return the counts of one device for each group of the plan.

    Raises:
        FederationError: "federation.nothing_to_contribute" if nobody here declared one of the groups; "federation.plan_refused".
    """
    settings = DemographicSettings.parse(plan.settings)
    if plan.length != settings.length:
        raise FederationError("federation.plan_refused", "The plan is refused: its length is not that of its groups.")
    counts: Mapping[str, NDArray[np.float64]] = {name: np.zeros(len(GROUP_FIELDS)) for name in settings.groups}
    for item in subjects:
        if item.group in counts:
            # Both of a pair or neither: dividing only one would change the rate.
            mated = min(1.0, settings.comparisons / max(1, item.mated))
            non_mated = min(1.0, settings.comparisons * settings.ratio / max(1, item.non_mated))
            counts[item.group] += (
                1.0,
                item.mated * mated,
                item.non_matches * mated,
                item.non_mated * non_mated / settings.ratio,
                item.false_matches * non_mated,
            )
    vector = np.concatenate(list(counts.values()))
    if not vector.any():
        raise FederationError("federation.nothing_to_contribute", "Nobody here declared one of the groups that are asked about.")
    return Contribution(vector.astype(np.float32))
