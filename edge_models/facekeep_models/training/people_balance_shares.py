"""The shares of people by how they look: each person at the median of their pictures, each share with its exact interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.evaluation.intervals import clopper_pearson

# Less sure than this of either gender is "uncertain".
LEAST_PROBABILITY: Final = 0.7
# The first band ends where the second begins; the last has no end.
_GENDERS: Final = ((1 - LEAST_PROBABILITY, LEAST_PROBABILITY), ("female", "uncertain", "male"))
_AGES: Final = ((18.0, 30.0, 45.0, 60.0), ("under 18", "18 to 29", "30 to 44", "45 to 59", "60 and over"))
# Degrees of the individual typology angle: A. Chardon et al. 1991, the darkest divided by S. Del Bino and F. Bernerd 2013.
_TONES: Final = ((-30.0, 10.0, 28.0, 41.0, 55.0), ("dark", "brown", "tan", "intermediate", "light", "very light"))


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


def summary(name: str, person: NDArray[np.integer], values: NDArray[np.float64], without_face: int) -> Balance:
    """Return the shares of people, each at the median of their pictures.

    Args:
        name: of the set.
        person: (N,) whom each picture is of.
        values: (N, 3) probability of male, age in years, tone in degrees of each picture.
        without_face: pictures left out.
    """
    # Nobody counts twice.
    everybody = np.unique(person)
    each = np.stack([np.median(values[person == one], axis=0) for one in everybody])
    several = [male for one in everybody if len(male := values[person == one, 0]) > 1]
    contradicted = sum(bool(male.min() < 0.5 < male.max()) for male in several)
    shares = [
        Share(kind, band, int(count), clopper_pearson(int(count), len(everybody)))
        for (kind, (edges, bands)), column in zip(
            (("gender", _GENDERS), ("age", _AGES), ("skin tone", _TONES)), each.T, strict=True
        )
        for band, count in zip(bands, np.bincount(np.digitize(column, edges), minlength=len(bands)), strict=True)
    ]
    median_age = round(float(np.median(each[:, 1])), 1)
    return Balance(name, len(everybody), len(person), without_face, len(several), contradicted, median_age, tuple(shares))


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
