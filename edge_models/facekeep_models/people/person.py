"""Who: a person who does not exist, as numbers drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.people.model import PeopleModel, shipped_model

_PERSON_STREAM: Final = 0x9E07
# Normal draws of a person stop here: what lies beyond looks like nobody.
_REACH: Final = 2.2
# How far people are apart, as a share of how far real people are.
_SPREAD: Final = 1.0
LARGEST_TONE_SHIFT_DEGREES: Final = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticPerson:
    """A person who does not exist: the same for the same index, on every machine.

    Attributes:
        index: which of the people who passed the privacy screen, from 0; of a person made by `unsafe_unscreened_person`
            the seed, as -1 - seed.
        seed: what the face is drawn from.
        tone_shift_degrees: how much lighter the skin is than drawn, in degrees of the individual typology angle; negative is
            darker. Hair follows as it does among the people learnt from.
        takes: which of the person's pictures passed the privacy screen, the first ones that are given out; none of a shifted or
            unscreened person.
        look: (D,) float64, the person's place in the model.
    """

    index: int
    seed: int
    tone_shift_degrees: float
    takes: tuple[int, ...]
    look: NDArray[np.float64] = field(repr=False)


def screened_people(model: PeopleModel | None = None) -> int:
    """Return how many people passed the privacy screen: indices of `synthetic_person` end before it."""
    return len((model or shipped_model()).accepted)


def synthetic_person(index: int, *, tone_shift_degrees: float = 0.0, model: PeopleModel | None = None) -> SyntheticPerson:
    """Return one of the people who passed the privacy screen.

    Args:
        index: from 0, below `screened_people()`.
        tone_shift_degrees: see `SyntheticPerson`; from -60 to 60.
        model: the one that ships unless told.

    Raises:
        ValueError: if there is no such person, or the shift is too large.
        ModelError: if the model that ships cannot be read.
    """
    used = model or shipped_model()
    if not 0 <= index < len(used.accepted):
        raise ValueError(
            f"the privacy screen has passed {len(used.accepted)} people, indices from 0; found {index}. "
            "unsafe_unscreened_person makes any number, of whom the screen knows nothing."
        )
    return _person(
        used, index, int(used.accepted[index]), tone_shift_degrees, () if tone_shift_degrees else tuple(used.takes[index].tolist())
    )


def unsafe_unscreened_person(seed: int, *, tone_shift_degrees: float = 0.0, model: PeopleModel | None = None) -> SyntheticPerson:
    """Return the person of any seed, of whom the privacy screen knows nothing.

    Such a person resembles the nearest of the training people as much as a stranger does: docs/models/people.md has the
    figures. For volume, not where a resemblance would matter.

    Args:
        seed: 0 or more.
        tone_shift_degrees: see `SyntheticPerson`.
        model: the one that ships unless told.
    """
    if seed < 0:
        raise ValueError("a seed is not negative")
    return _person(model or shipped_model(), -1 - seed, seed, tone_shift_degrees, ())


def _person(model: PeopleModel, index: int, seed: int, shift: float, takes: tuple[int, ...]) -> SyntheticPerson:
    if not -LARGEST_TONE_SHIFT_DEGREES <= shift <= LARGEST_TONE_SHIFT_DEGREES:
        raise ValueError(f"a tone shift is from -60 to 60 degrees; found {shift}")
    look = looks(model, np.array([seed]))[0] + shift * model.tone.astype(np.float64)
    look.flags.writeable = False
    return SyntheticPerson(index, seed, float(shift), takes, look)


def looks(model: PeopleModel, seeds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return (N, D) float64, the places of the people of some seeds in the model."""
    count = model.between.shape[1]
    draws = [np.random.default_rng([_PERSON_STREAM, seed]).standard_normal(count) for seed in seeds.tolist()]
    return np.asarray(_SPREAD * np.clip(np.stack(draws), -_REACH, _REACH) @ model.between.T.astype(np.float64))
