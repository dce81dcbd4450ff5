"""The people who were kept back from training, and the operating points that their pictures give.

There are few of them, so every picture is compared with those of all other people, not one picture of each person: 844 pictures
of 400 people make 350,000 non-mated comparisons. They are not independent, and the intervals know: they leave out one person at a
time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.biometric import OperatingPoint
from facekeep.errors import AcquisitionError
from facekeep.ports import Detector, Embedder
from facekeep.rates import (
    FEWEST_ERRORS,
    PairCounts,
    allowed_errors,
    conservative_threshold,
    mated_non_matches,
)
from facekeep_models.evaluation.comparisons import Comparisons, compare_all, has_embedding, mated_scores
from facekeep_models.evaluation.embedding import central_face
from facekeep_models.evaluation.pictures import Picture, pictures_of_directory, some_of
from facekeep_models.training.export.errors import ExportError

IMAGES: Final = Path("lfw-devtrain", "images")
TARGETS: Final = (1e-2, 1e-3, 1e-4)
# Pictures of one person that take part, as in `evaluation.operating_points`.
MOST_PICTURES: Final = 10


def held_out_people(data: Path, work: Path) -> frozenset[str]:
    """Return the names of the people whom the recipe of the embedder kept back.

    The recipe notes numbers; here they become names again, and both must agree on every person.

    Args:
        data: folder with `lfw-devtrain`, the one of the training.
        work: folder of `training.embedder`.

    Raises:
        ExportError: "export.no_pictures", "export.unknown_people".
    """
    try:
        recipe = json.loads((work / "crops.json").read_text())
        person, held = np.load(work / "person.npy"), np.load(work / "held_out.npy")
        names = sorted({path.parent.name for path in (data / IMAGES).rglob("*.jpg")})
        count, seed = int(recipe["held_out_people"]), int(recipe["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            "export.no_pictures", f"{work} does not hold the crops of the recipe ({type(error).__name__})."
        ) from error
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    # A person none of whose pictures gave a crop would shift every number after theirs: the training set would be measured on.
    if int(person.max(initial=-1)) + 1 != len(names) or set(np.unique(person[held]).tolist()) != set(chosen.tolist()):
        raise ExportError(
            "export.unknown_people", f"{work} was not made from {data / IMAGES}: who was held out cannot be told. Name both again."
        )
    return frozenset(names[index] for index in chosen)


def held_out_pictures(data: Path, people: frozenset[str]) -> list[Picture]:
    """Return the pictures of held-out people, of nobody who stands in the training set under another name.

    Raises:
        EvaluationError: "evaluation.no_pictures", "evaluation.io".
    """
    everything = pictures_of_directory(data / IMAGES)
    trained = {picture.person for picture in everything if picture.name.split("/")[0] not in people}
    kept = [one for one in everything if one.name.split("/")[0] in people and one.person not in trained]
    return some_of(kept, most_of_each=len(kept), people=None)


def aligned_faces(detector: Detector, pictures: Sequence[Picture]) -> list[NDArray[np.uint8] | None]:
    """Return the (112, 112, 3) uint8 RGB crop of each picture as a device makes it: the face nearest to the middle, or None.

    Raises:
        ModelError: as the detector.
    """
    crops: list[NDArray[np.uint8] | None] = []
    for picture in pictures:
        try:
            frame = picture.load()
            faces = detector.detect(frame)
            crops.append(align(frame, central_face(faces, frame)) if faces else None)
        except AcquisitionError:
            # Counted as a picture without a face, and part of no comparison.
            crops.append(None)
    return crops


def embedded_faces(embedder: Embedder, crops: Sequence[NDArray[np.uint8] | None]) -> NDArray[np.float32]:
    """Return (P, D) float32 unit vectors, rows of NaN where there is no crop."""
    vectors = np.full((len(crops), embedder.dimension), np.nan, np.float32)
    for place, crop in enumerate(crops):
        if crop is not None:
            vectors[place] = embedder.embed(crop)
    return vectors


def measure(
    vectors: NDArray[np.float32], pictures: Sequence[Picture], targets: Sequence[float], dataset: str
) -> tuple[OperatingPoint, ...]:
    """Return an operating point for each target that the comparisons support, the most permissive first.

    Non-mated: all pairs of pictures of two people. Mated: all pairs among up to ten pictures of one person, so that those with
    dozens do not speak for everyone.

    Args:
        vectors: (P, D) float32 unit vectors, rows of NaN where no face was found.
        pictures: whom they are of.
        targets: false match rates.
        dataset: what it was measured on, with which detector.

    Raises:
        EvaluationError: "evaluation.too_few_comparisons".
    """
    usable = has_embedding(vectors)
    people = np.array([picture.person for picture in pictures])[usable]
    found = vectors[usable]
    made = compare_all(found, found, people)
    few = np.concatenate([np.flatnonzero(people == person)[:MOST_PICTURES] for person in np.unique(people)])
    mated = mated_scores(found, found, people, few)
    trials = len(made.non_mated)
    supported = sorted((target for target in targets if target * trials >= FEWEST_ERRORS), reverse=True)
    return tuple(_point(made, mated, target, dataset) for target in supported)


def _point(made: Comparisons, mated: tuple[NDArray[np.float32], NDArray[np.int64]], target: float, dataset: str) -> OperatingPoint:
    trials = len(made.non_mated)
    highest = made.non_mated[-(allowed_errors(trials, target) + 1) :][::-1].astype(np.float32)
    threshold = conservative_threshold(highest, trials, target)
    # In float64, as a decision compares.
    wrong = made.non_mated >= np.float64(threshold)
    part = np.bincount(made.non_mated_people.ravel(), minlength=made.people)
    wrong_part = np.bincount(made.non_mated_people[wrong].ravel(), minlength=made.people)
    false_matches = PairCounts(int(wrong.sum()), trials, wrong_part, part)
    non_matches = mated_non_matches(*mated, threshold)
    low, high = false_matches.interval()
    fnmr_low, fnmr_high = non_matches.interval()
    return OperatingPoint(
        threshold=threshold,
        fmr=target,
        fmr_interval=(float(f"{low:.3g}"), float(f"{high:.3g}")),
        fnmr=float(f"{non_matches.rate:.4g}"),
        fnmr_interval=(float(f"{fnmr_low:.3g}"), float(f"{fnmr_high:.3g}")),
        dataset=dataset,
        mated=non_matches.trials,
        non_mated=trials,
    )
