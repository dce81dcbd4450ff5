"""Synthetic people in front of a synthetic camera: people who do not exist, real enough for models of real faces.

With the portraits of `facekeep.demo.portraits` as strangers, where those are on the machine.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame
from facekeep.clock import Clock
from facekeep.demo.album import Album, Person, Picture, Role
from facekeep.demo.portraits import portrait_people, sources_of
from facekeep.demo.room import FRAME_PX, Floats, Place, empty_room, side_by_side, standing
from facekeep.errors import ModelError
from facekeep.packs import LoadPolicy

# Found at run time: the device package stands below the recipes and never imports them.
_PEOPLE: Final = "facekeep_models.people"
_CAMERA: Final = "facekeep_models.people.camera"
_SCREENED_SIDE_PX: Final = 256
_NOISE_STREAM: Final = 0xCA3E
# What any frame of this camera has.
_USUAL_NOISE: Final = 2.0
_ABOVE_EYES_PX: Final = 12
# The first pictures of a person are the ones that the privacy screen passed.
_PLAIN: Final = ("at the door", "next day", "in the evening", "another day")
_PLACES: Final = (Place(320, 1.75), Place(300, 1.55), Place(345, 1.65), Place(315, 1.45))


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture that differs from the usual ones.

    Attributes:
        words: what it is called.
        number: which picture of the person it is made from.
        scene: what is changed about the person's picture.
        place: where they stand.
        darkness: of the whole frame, 0 to 1.
        blur_px: of the whole frame.
        is_cut_off: whether the camera looks too low, so that the frame begins just above the eyes.
    """

    words: str
    number: int
    scene: dict[str, Any] = field(default_factory=dict)
    place: Place = _PLACES[0]
    darkness: float = 0.0
    blur_px: float = 0.0
    is_cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """One of the cast.

    Attributes:
        name: invented; says nothing about anybody.
        index: which of the screened people.
        role: what they agree to.
        plain: how many usual pictures.
        shots: the others.
    """

    name: str
    index: int
    role: Role
    plain: int
    shots: tuple[Shot, ...] = ()


# Chosen by eye and by yunet-s and reid-retail-0095 to be unlike each other: synthetic people resemble each other more than
# real ones do (docs/models/people.md), and a cast of look-alikes would show that and nothing else. Said on the page.
CAST: Final = (
    Member("Alex", 12, Role.EVERYTHING, 4, (Shot("head cut off", 1, is_cut_off=True), Shot("almost dark", 0, darkness=0.85))),
    Member("Jo", 17, Role.EVERYTHING, 4, (Shot("with a mask", 2, {"masked": True}), Shot("out of focus", 0, blur_px=7.0))),
    Member(
        "Kim",
        64,
        Role.EVERYTHING,
        4,
        (Shot("head turned", 1, {"yaw_degrees": 22.0}), Shot("far from the camera", 3, place=Place(420, 0.6))),
    ),
    Member("Robin", 52, Role.VERIFICATION_ONLY, 4),
    Member("Sam", 22, Role.NOT_ENROLLED, 2),
)
# Two in one frame: places of the cast.
_PAIRS: Final = ((0, 1), (2, 3))
_PAIR_PLACES: Final = (Place(185, 1.35), Place(455, 1.35))


def synthetic_album(clock: Clock, read: Callable[[Path], Frame], policy: LoadPolicy) -> Album:
    """Return an album of synthetic people, the same on every machine but for the portraits that are there.

    Args:
        clock: gives frames their time.
        read: reads a picture file as the device does.
        policy: which training data are acceptable: the people are made from a model, too.

    Raises:
        ModelError: "model.not_installed" where the distribution was stripped of the people; "model.not_permitted".
    """
    people_module = load_people()
    require_permitted(people_module, policy)
    studio = _Studio(people_module, importlib.import_module(_CAMERA), clock)
    cast = tuple(studio.person(member) for member in CAST)
    strangers = portrait_people(read)
    others = [studio.pair(CAST[one], CAST[other]) for one, other in _PAIRS]
    others.append(Picture("empty room", studio.room, faces=0))
    with_portraits = f" and {len(strangers)} portrait{'s' if len(strangers) > 1 else ''} of real people" if strangers else ""
    return Album(
        "synthetic",
        f"{len(cast)} synthetic people in front of a synthetic camera{with_portraits}",
        (*cast, *strangers),
        tuple(others),
        portraits=sources_of(strangers),
    )


def load_people() -> Any:
    """Return `facekeep_models.people`.

    Raises:
        ModelError: "model.not_installed".
    """
    try:
        return importlib.import_module(_PEOPLE)
    except ImportError:
        raise ModelError(
            "model.not_installed", "The synthetic people are not in this installation. Show the demo photographs: --photos DIR."
        ) from None


def require_permitted(people: Any, policy: LoadPolicy) -> None:
    """Return if the model that the people are made from may be used.

    Raises:
        ModelError: "model.not_permitted" with the reason.
    """
    facts = people.model_facts()
    use = " and ".join(facts.permitted_uses)
    if policy.commercial_only and "commercial" not in facts.permitted_uses:
        raise ModelError(
            "model.not_permitted",
            f"The synthetic people are for {use} only; the policy wants commercial use. Show the demo photographs: --photos DIR.",
        )
    if policy.consented_only and not facts.consented:
        raise ModelError(
            "model.not_permitted",
            f"The synthetic people were not learnt on documented consent, which the policy wants: {facts.trained_on}. "
            "Show the demo drawn figures (--people drawn) or photographs (--photos DIR).",
        )


class _Studio:
    """Makes frames of the cast when the device asks for them."""

    def __init__(self, people: Any, camera: Any, clock: Clock) -> None:
        self._people, self._camera, self._clock = people, camera, clock

    def person(self, member: Member) -> Person:
        """Return one of the cast with their pictures, none drawn yet."""
        shots = [Shot(_PLAIN[number], number, place=_PLACES[number]) for number in range(member.plain)]
        pictures = [
            Picture(f"{member.name}, {shot.words}", self._loader(member, shot), person=member.name, faces=1)
            for shot in (*shots, *member.shots)
        ]
        return Person(member.name, tuple(pictures), member.role)

    def pair(self, one: Member, other: Member) -> Picture:
        """Return a picture of two of the cast."""

        def load() -> Frame:
            left, right = (
                standing(self._draw(each, Shot("", 2)).pixels, place)
                for each, place in zip((one, other), _PAIR_PLACES, strict=True)
            )
            return self._frame(side_by_side(left, right), (one.index, other.index))

        return Picture(f"{one.name} and {other.name} together", load, faces=2)

    def room(self) -> Frame:
        """Return a frame with nobody in it."""
        return self._frame(empty_room(), (0,))

    def _loader(self, member: Member, shot: Shot) -> Callable[[], Frame]:
        def load() -> Frame:
            drawn = self._draw(member, shot)
            pixels = standing(drawn.pixels, shot.place)
            if shot.is_cut_off:
                eyes_px = shot.place.in_frame(drawn.landmarks_px[:2], _SCREENED_SIDE_PX)[:, 1]
                pixels = pixels[max(0, int(eyes_px.min()) - _ABOVE_EYES_PX) :]
            seed = (member.index, shot.number, int(100 * shot.darkness))
            return self._frame(pixels, seed, darkness=shot.darkness, blur_px=shot.blur_px)

        return load

    def _draw(self, member: Member, shot: Shot) -> Any:
        person = self._people.synthetic_person(member.index)
        drawn = self._people.draw_person(person, shot.number)
        return self._people.draw_person(person, shot.number, scene=replace(drawn.scene, **shot.scene)) if shot.scene else drawn

    def _frame(self, pixels: Floats, seed: tuple[int, ...], *, darkness: float = 0.0, blur_px: float = 0.0) -> Frame:
        """Return what the camera makes of a room: too little light, blur and noise concern the whole frame."""
        random = np.random.default_rng([_NOISE_STREAM, *seed])
        seen = self._camera.blurred(self._camera.darkened(pixels, darkness), blur_px)
        seen = self._camera.noisy(np.clip(seen, 0, 255), _USUAL_NOISE, darkness, random)
        frame: NDArray[np.uint8] = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
        return Frame(frame, self._clock.now())


__all__ = ["CAST", "FRAME_PX", "Member", "Shot", "load_people", "require_permitted", "synthetic_album"]
