"""Who stands where: people of the fleet, of validation and of evaluation, the devices of the fleet and what they have captured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.training.embedder.loop import Schedule
from facekeep_models.training.federated.cameras import Kind, capture
from facekeep_models.training.federated.pictures import Album

# One to five people on a device, most often one.
PEOPLE_ON_A_DEVICE: Final = (0.78, 0.12, 0.05, 0.03, 0.02)
CAPTURES_EACH: Final = 3
MASK_DEVICES: Final = 0.4
HELD_OUT: Final = 400
VALIDATION: Final = 150
_STREAM: Final = 0xF1EE7
# Cameras of people who are evaluated, so many after those of the fleet: none of them is in both.
_OTHER_CAMERAS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Split:
    """Places in `Album.names`.

    Attributes:
        fleet: whose devices train.
        validation: whom settings were chosen on; the embedder was trained on them, as on the fleet.
        evaluation: whom figures are of; neither the embedder nor the fleet was trained on them.
    """

    fleet: tuple[int, ...]
    validation: tuple[int, ...]
    evaluation: tuple[int, ...]


def split_people(
    album: Album, folders: Sequence[str], *, held_out: int = HELD_OUT, validation: int = VALIDATION, seed: int
) -> Split:
    """Return who is of the fleet and who is not.

    Args:
        album: the people.
        folders: names of all folders of the data set, some of which are the same person under two names.
        held_out: people whom the recipe of the embedder kept back.
        validation: people with two pictures or more for choosing settings.
        seed: chooses those for validation.
    """
    ordered = sorted(set(folders))
    # The draw of training.embedder.crops, with its usual seed.
    chosen = np.random.default_rng(Schedule().seed).permutation(len(ordered))[:held_out]
    held = {_key(ordered[place]) for place in chosen}
    trained = {_key(name) for place, name in enumerate(ordered) if place not in set(chosen.tolist())}
    keys = [_key(name) for name in album.names]
    evaluation = [place for place, key in enumerate(keys) if key in held - trained]
    # Whoever is in both under two names is in neither.
    others = np.array([place for place, key in enumerate(keys) if key not in held], np.int64)
    several = others[np.bincount(album.person, minlength=len(keys))[others] > 1]
    validated = np.random.default_rng([_STREAM, seed]).permutation(several)[:validation]
    fleet = sorted(set(others.tolist()) - set(validated.tolist()))
    return Split(tuple(fleet), tuple(sorted(validated.tolist())), tuple(evaluation))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Samples:
    """What the devices of a fleet keep for training.

    Attributes:
        crops: (N, 112, 112, 3) uint8 RGB captures.
        device: (N,) int64 whose it is, in rising order.
        centre: (N,) int64 place in `enrolled` of the person.
        is_day: (N,) bool, the enrolment picture itself, on which the model must stay what it is.
        enrolled: (K, 112, 112, 3) uint8 RGB, the enrolment picture of each person.
        owner: (K,) int64 device of each person.
        devices: number of devices.
    """

    crops: NDArray[np.uint8]
    device: NDArray[np.int64]
    centre: NDArray[np.int64]
    is_day: NDArray[np.bool_]
    enrolled: NDArray[np.uint8]
    owner: NDArray[np.int64]
    devices: int

    def __repr__(self) -> str:
        return f"Samples({len(self.crops)} captures, {len(self.owner)} people, {self.devices} devices)"


def build_fleet(album: Album, people: Sequence[int], *, seed: int, single: bool = False) -> Samples:
    """Return the devices of some people and what each has captured.

    The first picture of a person is the enrolment by day. Captures are of the other pictures; where there is none, of the enrolment
    picture, mirrored every second time: a second sitting that is made up, moved, turned and sized as every capture.

    Args:
        album: pictures.
        people: places in `album.names`.
        seed: of who shares a device, of cameras and of captures.
        single: one person on each device.
    """
    random = np.random.default_rng([_STREAM, seed, 1])
    order = random.permutation(np.array(people, np.int64))
    owner = np.arange(len(order))
    if not single:
        sizes = random.choice(np.arange(1, 6), size=len(order), p=PEOPLE_ON_A_DEVICE)
        owner = np.repeat(np.arange(len(order)), sizes)[: len(order)]
    pictures = {int(person): np.flatnonzero(album.person == person) for person in order}
    enrolled = album.crops(np.array([pictures[int(person)][0] for person in order]))
    source: list[int] = []
    mirrored: list[bool] = []
    kinds: list[Kind] = []
    device: list[int] = []
    centre: list[int] = []
    for place, (person, home) in enumerate(zip(order.tolist(), owner.tolist(), strict=True)):
        kind: Kind = "mask" if np.random.default_rng([_STREAM, seed, 2, home]).random() < MASK_DEVICES else "night"
        others = pictures[person][1:]
        for number in range(CAPTURES_EACH):
            source.append(int(others[number % len(others)]) if len(others) else int(pictures[person][0]))
            mirrored.append(not len(others) and number % 2 == 1)
            kinds.append(kind)
        source.append(int(pictures[person][0]))
        mirrored.append(False)
        kinds.append("day")
        device += [home] * (CAPTURES_EACH + 1)
        centre += [place] * (CAPTURES_EACH + 1)
    crops = album.crops(np.array(source))
    crops[mirrored] = crops[mirrored][:, :, ::-1]
    crops = capture(crops, kinds, device, list(range(len(device))), seed=seed)
    return Samples(
        crops,
        np.array(device),
        np.array(centre),
        np.array([kind == "day" for kind in kinds]),
        enrolled,
        owner,
        int(owner[-1]) + 1,
    )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scenes:
    """Pictures of people who were not trained on, through the cameras of devices of their own.

    Attributes:
        person: (N,) int64, numbered from 0.
        views: "day", "night", "night again", "mask": each (N, 112, 112, 3) uint8 RGB of the same pictures.
    """

    person: NDArray[np.int64]
    views: dict[str, NDArray[np.uint8]]


def build_scenes(album: Album, people: Sequence[int], *, seed: int) -> Scenes:
    """Return the views of all pictures of some people."""
    places = np.flatnonzero(np.isin(album.person, people))
    _, person = np.unique(album.person[places], return_inverse=True)
    day, homes = album.crops(places), (_OTHER_CAMERAS + person).tolist()
    views = {"day": day}
    others: tuple[tuple[str, Kind], ...] = (("night", "night"), ("night again", "night"), ("mask", "mask"))
    for number, (name, kind) in enumerate(others):
        numbers = list(range(number * len(day), (number + 1) * len(day)))
        views[name] = capture(day, [kind] * len(day), homes, numbers, seed=seed)
    return Scenes(person.astype(np.int64), views)


def _key(name: str) -> tuple[str, ...]:
    # As evaluation.pictures: names of the same words in another order are one person.
    return tuple(sorted(re.split("[_-]", name.lower())))
