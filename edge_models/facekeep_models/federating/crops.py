"""Crops that the demo's candidates are evaluated on: of synthetic people whom no device of the demo holds.

Two folders, for two questions of the gate: is a poor picture still recognised against a day template, which the rounds are for; and
is a day picture, which must not suffer for it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.federating.people import POOR
from facekeep_models.training.export.pictures import drawn_crop

PEOPLE: Final = 110
FIRST_PERSON: Final = 300
DAY_PICTURES: Final = 2
POOR_PICTURES: Final = 2
_FIRST_POOR: Final = 500


def write_crops(folder: Path, *, people: int = PEOPLE, say: Callable[[str], None]) -> tuple[Path, Path]:
    """Write `day/crops.npz` and `poor/crops.npz`, as `federate release make --crops` reads them; return both folders.

    In `poor` each person has one day picture, which a template is of, and the poor ones.

    Args:
        folder: made if it is not there.
        people: how many.
        say: progress.
    """
    day: list[list[NDArray[np.uint8]]] = []
    poor: list[list[NDArray[np.uint8]]] = []
    for count, person in enumerate(range(FIRST_PERSON, FIRST_PERSON + people), 1):
        day.append([drawn_crop(person, number) for number in range(DAY_PICTURES)])
        poor.append([day[-1][0], *(drawn_crop(person, _FIRST_POOR + number, POOR) for number in range(POOR_PICTURES))])
        if count % 20 == 0:
            say(f"{count} of {people} people drawn")
    return _write(folder / "day", day), _write(folder / "poor", poor)


def _write(folder: Path, crops: list[list[NDArray[np.uint8]]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    people = np.repeat(np.arange(len(crops)), [len(each) for each in crops])
    np.savez_compressed(folder / "crops.npz", crops=np.stack([crop for each in crops for crop in each]), people=people)
    return folder
