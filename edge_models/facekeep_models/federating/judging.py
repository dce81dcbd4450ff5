"""Judging a candidate: what contract it makes, what thresholds it needs, and whether it is better than the model in use.

Measured on synthetic people whom no device of the demo holds. Two questions: is a poor picture still recognised against a day
template, which the rounds are for; and is a day picture, which must not suffer for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.assembly import LoadedModels, ModelChoice, load_models
from facekeep.assembly.loading import ReleasedModel
from facekeep.biometric import OperatingPoint
from facekeep.calibration import measure_operating_points
from facekeep.packs import LoadPolicy, PackStore
from facekeep.protocol.release import ReleasedPoint
from facekeep.trust.vectors import reference_crops, vectors_to_bytes
from facekeep_models.federating.people import DETECTOR, EMBEDDER, POOR
from facekeep_models.training.export.pictures import drawn_crop

PEOPLE: Final = 110
FIRST_PERSON: Final = 300
DAY_PICTURES: Final = 2
POOR_PICTURES: Final = 2
TARGETS: Final = (1e-2, 1e-3)
# So much of the true matches at a false match rate of 1e-2 may be lost; sampling alone moves them by about as much.
MOST_LOSS: Final = 0.02
_FIRST_POOR: Final = 500


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found.

    Attributes:
        passed: whether the candidate may become a release.
        reason: why, or why not.
        before: share of true matches at a false match rate of 1e-2 with the model in use, by capture.
        after: likewise with the candidate.
    """

    passed: bool
    reason: str
    before: dict[str, float]
    after: dict[str, float]


def judge(candidate: Path, in_use: Path | None, cache: Path, *, say: Callable[[str], None]) -> Judgement:
    """Judge the candidate in a folder (`model` in it) and write `evaluation.json` and `vectors.f32` beside it.

    Args:
        candidate: folder that `facekeep-server federate candidate` made.
        in_use: model file in use; None for the one that ships.
        cache: file for the pictures, so that the next candidate is judged on the same ones without drawing them again.
        say: progress.

    Raises:
        ModelError: if the candidate is no model that the runtime takes.
    """
    crops, people, poor = _pictures(cache, say)
    before_models = load_models(PackStore(Path()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
    points = before_models.operating_points
    content = (candidate / "model").read_bytes()
    after_models = _released(content, points)
    if in_use is not None:
        before_models = _released(in_use.read_bytes(), points)
    before, _ = _measure(before_models, crops, people, poor)
    after, measured = _measure(after_models, crops, people, poor)
    say(f"day {before['day']:.3f} -> {after['day']:.3f}, poor {before['poor']:.3f} -> {after['poor']:.3f}")
    if after["day"] < before["day"] - MOST_LOSS:
        found = Judgement(False, f"day pictures fall from {before['day']:.3f} to {after['day']:.3f}", before, after)
    elif after["poor"] < before["poor"] - MOST_LOSS:
        found = Judgement(False, f"poor pictures fall from {before['poor']:.3f} to {after['poor']:.3f}", before, after)
    else:
        found = Judgement(True, "no worse by day, no worse with the poor camera", before, after)
    vectors = vectors_to_bytes(np.stack([after_models.embedder.embed(crop) for crop in reference_crops()]))
    value: dict[str, Any] = {
        "v": 1,
        "model": hashlib.sha256(content).hexdigest(),
        "contract": after_models.contract_id,
        "operating_points": [_travelling(point).to_value() for point in measured],
        "passed": found.passed,
        "reason": found.reason,
        "before": found.before,
        "after": found.after,
        "measured_on": f"{PEOPLE} synthetic people, {DAY_PICTURES} day and {POOR_PICTURES} poor pictures each",
    }
    (candidate / "vectors.f32").write_bytes(vectors)
    (candidate / "evaluation.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    return found


def _released(content: bytes, points: tuple[OperatingPoint, ...]) -> LoadedModels:
    released = ReleasedModel("0" * 64, content, hashlib.sha256(content).hexdigest(), points)
    return load_models(PackStore(Path()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy(), released=released)


def _pictures(cache: Path, say: Callable[[str], None]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    if not cache.is_file():
        crops: list[NDArray[np.uint8]] = []
        people: list[int] = []
        poor: list[bool] = []
        for person in range(FIRST_PERSON, FIRST_PERSON + PEOPLE):
            crops += [drawn_crop(person, number) for number in range(DAY_PICTURES)]
            crops += [drawn_crop(person, _FIRST_POOR + number, POOR) for number in range(POOR_PICTURES)]
            people += [person] * (DAY_PICTURES + POOR_PICTURES)
            poor += [False] * DAY_PICTURES + [True] * POOR_PICTURES
            if (person - FIRST_PERSON + 1) % 20 == 0:
                say(f"{person - FIRST_PERSON + 1} of {PEOPLE} people drawn")
        np.savez_compressed(cache, crops=np.stack(crops), people=np.array(people), poor=np.array(poor))
    with np.load(cache) as kept:
        return kept["crops"], kept["people"], kept["poor"]


def _measure(
    models: LoadedModels, crops: NDArray[np.uint8], people: NDArray[np.int64], poor: NDArray[np.bool_]
) -> tuple[dict[str, float], tuple[OperatingPoint, ...]]:
    vectors = np.stack([models.embedder.embed(crop) for crop in crops])
    scores = vectors @ vectors.T
    is_reference = np.zeros(len(people), dtype=bool)
    is_reference[np.unique(people, return_index=True)[1]] = True
    same = people[:, None] == people[None, :]
    found = {}
    for name, probes in (("day", ~poor & ~is_reference), ("poor", poor)):
        block, mates = scores[np.ix_(is_reference, probes)], same[np.ix_(is_reference, probes)]
        threshold = float(np.quantile(block[~mates], 1 - 1e-2))
        found[name] = float(np.mean(block[mates] > threshold))
    first = np.flatnonzero(is_reference)
    mated = np.triu(same, 1) & ~poor[:, None] & ~poor[None, :]
    rows, columns = np.nonzero(mated)
    named = f"{PEOPLE} synthetic people of facekeep_models.people"
    points = measure_operating_points(
        vectors[first], scores[rows, columns].astype(np.float32), people[rows], targets=TARGETS, dataset=named
    )
    return found, points


def _travelling(point: OperatingPoint) -> ReleasedPoint:
    return ReleasedPoint(**asdict(point))
