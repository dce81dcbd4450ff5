"""Drawn figures in front of the camera, with stand-in models: fast, nobody's faces, and none that a real model would see."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame
from facekeep.clock import Clock
from facekeep.demo.album import Album, Person, Picture, Role
from facekeep.errors import ModelError

DETECTOR: Final = "drawn-detector"
EMBEDDER: Final = "drawn-embedder"
# Found at run time: the device package stands below the recipes and never imports them.
_SIMULATION: Final = "facekeep_models.simulation"
_SIZE_PX: Final = (400, 360)
_PICTURES: Final = 6
_PICTURES_OF_A_STRANGER: Final = 3
_ABOVE_EYES_PX: Final = 10
# Seeds of figures that pass for an upright face with the quality floors, which were measured on photographs.
_CAST: Final = (
    ("Ada", 61, Role.EVERYTHING),
    ("Ben", 80, Role.EVERYTHING),
    ("Cem", 273, Role.EVERYTHING),
    ("Dara", 57, Role.VERIFICATION_ONLY),
    ("Eve", 294, Role.NOT_ENROLLED),
)


def drawn_album(clock: Clock) -> Album:
    """Return an album of drawn people, the same on every machine.

    Raises:
        ModelError: "model.not_installed" where the distribution was stripped of the simulation.
    """
    try:
        simulation = importlib.import_module(_SIMULATION)
    except ImportError:
        raise ModelError(
            "model.not_installed", "The drawn people are not part of this installation. Show the demo photographs: --photos DIR."
        ) from None
    people = []
    for name, seed, role in _CAST:
        drawn = simulation.DrawnPerson(seed)
        count = _PICTURES_OF_A_STRANGER if role is Role.NOT_ENROLLED else _PICTURES
        pictures = [
            Picture(f"{name}, picture {number}", _loader(simulation, drawn, number, clock), person=name, faces=1)
            for number in range(1, count + 1)
        ]
        if name == _CAST[0][0]:
            cut_off = _loader(simulation, drawn, count + 1, clock, is_cut_off=True)
            pictures.append(Picture(f"{name}, head cut off", cut_off, person=name, faces=1))
        people.append(Person(name, tuple(pictures), role))
    empty = Picture("empty room", lambda: Frame(_empty_room(), clock.now()), faces=0)
    return Album("drawn", "drawn figures, made as they are needed", tuple(people), (empty,))


def _loader(simulation: Any, person: Any, variation: int, clock: Clock, *, is_cut_off: bool = False) -> Callable[[], Frame]:
    def load() -> Frame:
        drawing = simulation.draw_frame(person, variation, _SIZE_PX)
        # Just above the eyes: the detector still sees all landmarks, and the quality floor has something to refuse.
        top = int(drawing.landmarks_px[:2, 1].min()) - _ABOVE_EYES_PX if is_cut_off else 0
        return Frame(drawing.pixels[top:], clock.now())

    return load


def _empty_room() -> NDArray[np.uint8]:
    """Return a grey wall above a darker floor."""
    height, width = _SIZE_PX
    room = np.full((height, width, 3), (168, 166, 160), np.float64)
    room[height * 3 // 4 :] = (96, 88, 80)
    room *= np.linspace(1.06, 0.9, width)[None, :, None]
    return np.clip(room, 0, 255).astype(np.uint8)
