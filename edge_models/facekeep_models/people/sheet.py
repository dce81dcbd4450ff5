"""A sheet of synthetic people, for the eye: `python -m facekeep_models.people.sheet FILE`. Needs Pillow.

Rows of people, three pictures of each at the default variation, then one person in single circumstances.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.people.drawing import draw_person
from facekeep_models.people.person import synthetic_person
from facekeep_models.people.scene import Scene, Variation

_COLUMNS: Final = 8
_ROWS_OF_PEOPLE: Final = 2
_PICTURES: Final = 3
_CIRCUMSTANCES: Final = (
    Scene(),
    Scene(smile=2.0),
    Scene(mouth_open=2.0),
    Scene(yaw_degrees=18.0),
    Scene(light_strength=1.5, light_degrees=180.0),
    Scene(masked=True),
    Scene(darkness=0.6),
    Scene(blur_px=2.5, noise=10.0),
)
_TONES: Final = (-45.0, -30.0, -15.0, 0.0, 15.0, 30.0, 45.0, 60.0)


def sheet() -> NDArray[np.uint8]:
    """Return (8 * 256, 8 * 256, 3) uint8: people, pictures of each below one another; circumstances; shifts of skin tone."""
    rows = [
        [draw_person(synthetic_person(block * _COLUMNS + column), number) for column in range(_COLUMNS)]
        for block in range(_ROWS_OF_PEOPLE)
        for number in range(_PICTURES)
    ]
    rows.append([draw_person(synthetic_person(1), 0, scene=scene) for scene in _CIRCUMSTANCES])
    rows.append([draw_person(synthetic_person(2, tone_shift_degrees=tone), 0, Variation.none()) for tone in _TONES])
    return np.concatenate([np.concatenate([picture.pixels for picture in row], axis=1) for row in rows])


def main(path: Path) -> None:
    """Write the sheet, at five eighths of its size."""
    from PIL import Image

    picture = Image.fromarray(sheet())
    picture = picture.resize((picture.width * 5 // 8, picture.height * 5 // 8), Image.Resampling.LANCZOS)
    picture.save(path, optimize=True, quality=88)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m facekeep_models.people.sheet FILE")
    main(Path(sys.argv[1]))
