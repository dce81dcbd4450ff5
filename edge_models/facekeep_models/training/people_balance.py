"""How balanced the synthetic people look: apparent gender, apparent age and skin tone, beside the pictures they were learnt from.

    python -m facekeep_models.training.people_balance --estimator DIR --packs STORE [--images LFW] [--json FILE]

Apparent gender and age are guesses of an estimator that others made, of people who do not exist: `people_estimator` says which,
where its files come from and how often it is said to err. They are no labels: nothing is trained, chosen or claimed by them. Steps:
    1 pictures: the screened ones of each person; of each folder of --images as many
    2 faces: the one nearest to the middle, by the detector's box for the estimator, by its landmarks for the tone; that of people
      who were drawn is known in even light, their pictures are up to a fifth darker
    3 people and their shares: `people_balance_shares`
Needs torch and yunet-s; three minutes on one core with LFW.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
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
from facekeep_models.evaluation.pictures import Picture, pictures_of_directory, some_of
from facekeep_models.evaluation.progress import Progress, ShownProgress
from facekeep_models.people import draw_person, screened_people, shipped_model, synthetic_person
from facekeep_models.people.drawing import canvas_of
from facekeep_models.training.people_balance_shares import Balance, summary, table
from facekeep_models.training.people_estimator import Estimator, face_crop
from facekeep_models.training.people_estimator_files import PINNED, read_estimator
from facekeep_models.training.people_fit import cheek_tone as canvas_tone
from facekeep_models.training.people_fit import typology_angle
from facekeep_models.training.people_screen import PICTURES_EACH

BALANCE_VERSION: Final = 1
DETECTOR: Final = "yunet-s/onnx-dynamic"
# Top, bottom, left and right of the image-left cheek in the ArcFace crop, where `people_fit` has it on the canvas.
_CHEEK: Final = (75, 87, 29, 41)
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


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


def cheek_tone(crop: NDArray[np.uint8]) -> float:
    """Return the individual typology angle of both cheeks of an ArcFace crop, in degrees. Light counts as skin."""
    top, bottom, left, right = _CHEEK
    patches = np.concatenate((crop[top:bottom, left:right], crop[:, ::-1][top:bottom, left:right]))
    return typology_angle(np.median(patches.reshape(-1, 3), axis=0))


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
        figures = {
            "balance_version": BALANCE_VERSION,
            "estimator_sha256": {file.name: file.sha256 for file in PINNED},
            "detector": options.detector,
        }
        figures |= {"pictures_each": options.pictures, "sets": [asdict(each) for each in balances]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    sys.stdout.write(table(balances) + "\n")


if __name__ == "__main__":
    main()
