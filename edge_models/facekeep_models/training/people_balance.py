"""How balanced the synthetic people look: apparent gender, apparent age and skin tone, beside the pictures they were learnt from.

    python -m facekeep_models.training.people_balance --estimator DIR --packs STORE [--images LFW] [--json FILE]

Apparent gender and age are guesses of an estimator that others made, of people who do not exist: `people_estimator` says which,
where its files come from and how often it is said to err. They are no labels: nothing is trained, chosen or claimed by them. Steps:
    1 pictures: the screened ones of each person; of each folder of --images as many
    2 faces: the one nearest to the middle, by the detector's box for the estimator, by its landmarks for the tone; that of people
      who were drawn is known in even light, their pictures are up to a fifth darker
    3 people: the median over the pictures of each, so that nobody counts twice
    4 shares, each with the exact interval of so many people
Needs torch and yunet-s; three minutes on one core with LFW.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.assembly.loading import Inference, Loader
from facekeep.biometric import Frame
from facekeep.errors import AcquisitionError, FacekeepError
from facekeep.packs import LoadPolicy, PackStore
from facekeep.ports import Detector
from facekeep_models.evaluation.embedding import central_face
from facekeep_models.evaluation.intervals import clopper_pearson
from facekeep_models.evaluation.pictures import Picture, pictures_of_directory, some_of
from facekeep_models.evaluation.progress import Progress, ShownProgress
from facekeep_models.people import draw_person, screened_people, shipped_model, synthetic_person
from facekeep_models.people.drawing import canvas_of
from facekeep_models.training.people_estimator import PINNED, Estimator, face_crop, read_estimator
from facekeep_models.training.people_fit import cheek_tone as canvas_tone
from facekeep_models.training.people_fit import typology_angle
from facekeep_models.training.people_screen import PICTURES_EACH

BALANCE_VERSION: Final = 1
DETECTOR: Final = "yunet-s/onnx-dynamic"
# Less sure than this of either gender is "uncertain".
LEAST_PROBABILITY: Final = 0.7
# The first band ends where the second begins; the last has no end.
_GENDERS: Final = ((1 - LEAST_PROBABILITY, LEAST_PROBABILITY), ("female", "uncertain", "male"))
_AGES: Final = ((18.0, 30.0, 45.0, 60.0), ("under 18", "18 to 29", "30 to 44", "45 to 59", "60 and over"))
# Degrees of the individual typology angle: A. Chardon et al. 1991, the darkest divided by S. Del Bino and F. Bernerd 2013.
_TONES: Final = ((-30.0, 10.0, 28.0, 41.0, 55.0), ("dark", "brown", "tan", "intermediate", "light", "very light"))
# Top, bottom, left and right of the image-left cheek in the ArcFace crop, where `people_fit` has it on the canvas.
_CHEEK: Final = (75, 87, 29, 41)
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Share:
    """How many people fall into one band, and the exact 95 % interval of their share if people were drawn by lot."""

    kind: str
    band: str
    people: int
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Balance:
    """One set of people.

    Attributes:
        name: of the set.
        people: with a face that was found; what the shares are of.
        pictures: with such a face.
        pictures_without_face: left out.
        of_several: people with two pictures or more.
        contradicted: of these, people of whom one picture looks male and another female: there the estimator contradicts itself.
        median_age: of the people.
        shares: of all bands.
    """

    name: str
    people: int
    pictures: int
    pictures_without_face: int
    of_several: int
    contradicted: int
    median_age: float
    shares: tuple[Share, ...]


def balance_of(
    name: str,
    pictures: Sequence[Picture],
    detector: Detector,
    estimator: Estimator,
    progress: Progress,
    known_tone: Callable[[int], float] | None = None,
) -> Balance:
    """Look at every picture once and return the shares.

    Args:
        name: of the set.
        pictures: of it.
        detector: finds the faces.
        estimator: guesses.
        progress: is shown how far it is.
        known_tone: the tone of a person in even light, where it is known; else it is measured on the pictures, light included.

    Raises:
        ModelError: "model.invalid_model".
        ValueError: if no picture has a face.
    """
    rows: list[tuple[int, float, float, float]] = []
    for number, picture in enumerate(pictures):
        progress(number, len(pictures), f"pictures of {name}")
        # 2
        try:
            frame = picture.load()
            face = central_face(detector.detect(frame), frame)
            tone = known_tone(picture.person) if known_tone else cheek_tone(align(frame, face))
        except (AcquisitionError, ValueError):
            continue
        left, top, width, height = face.box_px
        crop = face_crop(frame.pixels, (left, top, width, height))
        if crop is not None:
            guess = estimator.guess(crop[None])
            rows.append((picture.person, float(guess.male[0]), float(guess.ages[0]), tone))
    progress(len(pictures), len(pictures), f"pictures of {name}")
    if not rows:
        raise ValueError(f"no face was found on any of {len(pictures)} pictures of {name}")
    return summary(name, np.array([row[0] for row in rows]), np.array([row[1:] for row in rows]), len(pictures) - len(rows))


def summary(name: str, person: NDArray[np.integer], values: NDArray[np.float64], without_face: int) -> Balance:
    """Return the shares of people, each at the median of their pictures.

    Args:
        name: of the set.
        person: (N,) whom each picture is of.
        values: (N, 3) probability of male, age in years, tone in degrees of each picture.
        without_face: pictures left out.
    """
    # 3
    everybody = np.unique(person)
    each = np.stack([np.median(values[person == one], axis=0) for one in everybody])
    several = [male for one in everybody if len(male := values[person == one, 0]) > 1]
    contradicted = sum(bool(male.min() < 0.5 < male.max()) for male in several)
    # 4
    shares = [
        Share(kind, band, int(count), clopper_pearson(int(count), len(everybody)))
        for (kind, (edges, bands)), column in zip(
            (("gender", _GENDERS), ("age", _AGES), ("skin tone", _TONES)), each.T, strict=True
        )
        for band, count in zip(bands, np.bincount(np.digitize(column, edges), minlength=len(bands)), strict=True)
    ]
    median_age = round(float(np.median(each[:, 1])), 1)
    return Balance(name, len(everybody), len(person), without_face, len(several), contradicted, median_age, tuple(shares))


def cheek_tone(crop: NDArray[np.uint8]) -> float:
    """Return the individual typology angle of both cheeks of an ArcFace crop, in degrees. Light counts as skin."""
    top, bottom, left, right = _CHEEK
    patches = np.concatenate((crop[top:bottom, left:right], crop[:, ::-1][top:bottom, left:right]))
    return typology_angle(np.median(patches.reshape(-1, 3), axis=0))


def table(balances: Sequence[Balance]) -> str:
    """Return the shares as a table in Markdown, a column for each set."""
    lines = [
        "| Share of people, % | "
        + " | ".join(f"{each.name}: {each.people} people, {each.pictures} pictures" for each in balances)
        + " |",
        "|---" * (len(balances) + 1) + "|",
    ]
    for of_band in zip(*(each.shares for each in balances), strict=True):
        found = [
            f"{share.people / whole.people:.1%} ({share.interval[0]:.1%} to {share.interval[1]:.1%})".replace("%", "")
            for share, whole in zip(of_band, balances, strict=True)
        ]
        lines.append(f"| apparent {of_band[0].kind}: {of_band[0].band} | " + " | ".join(found) + " |")
    lines.append("| median apparent age, years | " + " | ".join(f"{each.median_age}" for each in balances) + " |")
    lines.append(
        "| one picture male, another female | "
        + " | ".join(f"{each.contradicted} of {each.of_several}" for each in balances)
        + " |"
    )
    lines.append(
        "| pictures without a face, not counted | " + " | ".join(f"{each.pictures_without_face}" for each in balances) + " |"
    )
    return "\n".join(lines)


def screened_pictures(people: int | None, each: int) -> list[Picture]:
    """Return the first pictures of so many screened people, evenly over all of them."""

    def of(index: int, number: int) -> Picture:
        return Picture(f"{index}/{number}", index, lambda: Frame(draw_person(synthetic_person(index), number).pixels, _NOW))

    everybody = screened_people()
    count = min(people or everybody, everybody)
    return [of(index * everybody // count, number) for index in range(count) for number in range(each)]


def tone_of_look(person: int) -> float:
    """Return the tone of a screened person in even light, as `model_facts().tone_degrees` has it."""
    return canvas_tone(canvas_of(shipped_model(), synthetic_person(person).look.astype(np.float32)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.people_balance")
    parser.add_argument("--estimator", type=Path, required=True, help="package/model of @vladmandic/face-api 1.7.15")
    parser.add_argument("--packs", type=Path, default=Path("~/.facekeep/packs"), help="store with the detector")
    parser.add_argument("--detector", default=DETECTOR, help="what finds the faces")
    parser.add_argument("--images", type=Path, help="a directory for each person: what the people were learnt from")
    parser.add_argument("--people", type=int, help="of each set at most so many, evenly; all unless told")
    parser.add_argument("--pictures", type=int, default=PICTURES_EACH, choices=range(1, PICTURES_EACH + 1), help="of each person")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        estimator = read_estimator(options.estimator)
        loader = Loader(PackStore(options.packs.expanduser()), LoadPolicy(), Inference(threads=1))
        detector, _ = loader.detector(options.detector)
        progress = ShownProgress(sys.stderr)
        # 1
        pictures = screened_pictures(options.people, options.pictures)
        balances = [balance_of("synthetic people", pictures, detector, estimator, progress, tone_of_look)]
        if options.images:
            pictures = some_of(pictures_of_directory(options.images), most_of_each=options.pictures, people=options.people)
            balances.append(balance_of("training pictures", pictures, detector, estimator, progress))
    except FacekeepError as error:
        sys.exit(f"{error.code}: {error.args[0]}")
    if options.json:
        figures = {"balance_version": BALANCE_VERSION, "estimator_sha256": dict(PINNED), "detector": options.detector}
        figures |= {"pictures_each": options.pictures, "sets": [asdict(each) for each in balances]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    sys.stdout.write(table(balances) + "\n")


if __name__ == "__main__":
    main()
