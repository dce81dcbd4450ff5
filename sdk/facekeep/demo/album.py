"""The pictures of a demo: who is on them as far as it is known, and in which part each person appears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from facekeep.biometric import Frame

Kind = Literal["photos", "synthetic", "drawn"]


class Role(StrEnum):
    """What a person agrees to in the demo, so that the difference a consent makes can be seen.

    Who is not enrolled was asked and said no; a stranger was never asked, and is only seen by the camera.
    """

    EVERYTHING = "everything"
    VERIFICATION_ONLY = "verification only"
    NOT_ENROLLED = "not enrolled"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a large folder is used. What was left out is said on the page.

    Attributes:
        people: most people.
        pictures: most pictures of each.
        others: most pictures without a person's name.
    """

    people: int = 12
    pictures: int = 6
    others: int = 24

    def __post_init__(self) -> None:
        if min(self.people, self.pictures, self.others) < 1:
            raise ValueError("a limit is at least one")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture, not yet read. Pictures are told apart by identity.

    Attributes:
        name: what it is called on the page.
        load: reads it; raises AcquisitionError.
        person: who is on it, or None where nobody said.
        faces: how many faces are on it, or None where nobody said.
    """

    name: str
    load: Callable[[], Frame] = field(repr=False)
    person: str | None = None
    faces: int | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """Everyone of one label.

    Attributes:
        label: subject identifier in the demo's vault.
        pictures: at least one, in order.
        role: what this person agrees to.
    """

    label: str
    pictures: tuple[Picture, ...]
    role: Role = Role.EVERYTHING


@dataclass(frozen=True, slots=True)
class Album:
    """Everything that is shown to the device.

    Attributes:
        kind: "photos" of a folder, "synthetic" people who do not exist, or "drawn" figures.
        origin: where the pictures come from, in words.
        people: by label.
        others: pictures without a person's name.
        remarks: what was left out or renamed, one sentence each.
        portraits: real people among synthetic ones, and where their pictures come from, one line each.
    """

    kind: Kind
    origin: str
    people: tuple[Person, ...]
    others: tuple[Picture, ...] = ()
    remarks: tuple[str, ...] = ()
    portraits: tuple[str, ...] = ()


def cast_roles(people: tuple[Person, ...]) -> tuple[Person, ...]:
    """Return the same people with roles: the fewer pictures somebody has, the less is lost by leaving them out of a part.

    From three people on, one agrees to verification only: a search must not find them. From five on, one is not enrolled.
    """
    by_pictures = sorted(people, key=lambda person: (len(person.pictures), person.label))
    roles: dict[str, Role] = {}
    if len(people) >= 3:
        roles[by_pictures[0].label] = Role.VERIFICATION_ONLY
    if len(people) >= 5:
        roles[by_pictures[1].label] = Role.NOT_ENROLLED
    return tuple(Person(person.label, person.pictures, roles.get(person.label, Role.EVERYTHING)) for person in people)
