"""Step 5 of the recipe of the synthetic people: how people differ, how pictures of one person differ, and axes with a name.

Every number that ships is a second moment over thousands of people or a direction made of all of them: no picture, no vector
and no mean of one person.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.people.drawing import LANDMARK_POINTS, canvas_of
from facekeep_models.people.model import PeopleModel
from facekeep_models.training.people_bases import upright

Array = NDArray[np.float64]

# Pictures of one person that count: in LFW one man has 530.
_MOST_PICTURES: Final = 10
_WITHIN_DIRECTIONS: Final = 260
# Directions of the difference between people are kept while their variance stands out of the noise of the estimate, which the
# most negative eigenvalue (impossible for a covariance) shows the size of.
_NOISE_FACTOR: Final = 0.5
_MOST_BETWEEN: Final = 220
_RIDGE: Final = 30.0
# Points of the mesh: corners of the mouth, middle of the inner lips, outer corners of the eyes.
_MOUTH: Final = (61, 291)
_LIPS: Final = (13, 14)
# Cheeks on the canvas: top, bottom, left and right of the left one; the right one mirrors it.
_CHEEK: Final = (86, 96, 58, 68)


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Covariances of the vectors z, in two blocks: what is even and what is odd vary independently.

    Attributes:
        between: (D, D) of people.
        within: (D, D) of pictures of one person.
    """

    between: Array
    within: Array


def moments(vectors: Array, people: NDArray[np.int64], odd: NDArray[np.bool_]) -> Moments:
    """Return both covariances by the method of moments, every person with the same weight.

    Args:
        vectors: (N, D) centred.
        people: (N,) who is on each picture, 0 to P - 1.
        odd: (D,) which numbers belong to odd directions.
    """
    counts = np.bincount(people)
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, people, vectors)
    means /= counts[:, None]
    share = np.minimum(counts, _MOST_PICTURES) / counts
    several = counts >= 2
    weight = np.where(several, share, 0.0)[people]
    apart = vectors - means[people]
    within = (apart * weight[:, None]).T @ apart / max(1.0, float(weight.sum() - share[several].sum()))
    once = (1.0 / counts)[people]
    total = (vectors * once[:, None]).T @ vectors / once.sum()
    for each in (within, total):
        each[np.ix_(odd, ~odd)] = 0.0
        each[np.ix_(~odd, odd)] = 0.0
    return Moments(total - within, within)


def factors(found: Moments) -> tuple[Array, Array]:
    """Return the matrices that turn standard normal numbers into people and into pictures of one person."""
    values, directions = np.linalg.eigh((found.between + found.between.T) / 2)
    floor = _NOISE_FACTOR * max(0.0, -float(values[0]))
    kept = np.flatnonzero(values > floor)[::-1][:_MOST_BETWEEN]
    between = directions[:, kept] * np.sqrt(values[kept])
    values, directions = np.linalg.eigh(found.within)
    within = directions[:, ::-1][:, :_WITHIN_DIRECTIONS] * np.sqrt(np.maximum(values[::-1][:_WITHIN_DIRECTIONS], 0.0))
    return between * upright(between.T), within * upright(within.T)


def expression_axes(model: PeopleModel, within: Array) -> Array:
    """Return (2, D): what one standard deviation of a wider and of an opener mouth does to one person's picture.

    The measure is linear in the shape, a'z; of all changes that raise it by one deviation, the likeliest is S a / sqrt(a'S a).
    """
    shapes = model.shape.astype(np.float64)
    axes = []
    for first, second, along in ((_MOUTH[0], _MOUTH[1], 0), (_LIPS[0], _LIPS[1], 1)):
        measure = np.zeros(len(within))
        measure[: len(shapes)] = shapes[:, second, along] - shapes[:, first, along]
        axes.append(within @ measure / np.sqrt(measure @ within @ measure))
    return np.stack(axes)


def tone_axis(model: PeopleModel, vectors: Array, between: Array) -> tuple[Array, Array]:
    """Return what one degree of skin tone adds to a person, and the tone of every picture learnt from.

    The tone is the individual typology angle of both cheeks, from a camera that nobody calibrated: light counts as skin.
    """
    tones = np.array([cheek_tone(canvas_of(model, vector.astype(np.float32))) for vector in vectors])
    usual = np.isfinite(tones) & (np.abs(tones) < 85)
    gram = vectors[usual].T @ vectors[usual] + _RIDGE * np.eye(vectors.shape[1])
    measure = np.linalg.solve(gram, vectors[usual].T @ (tones[usual] - tones[usual].mean()))
    # Both cheeks alike: only what is even can carry it.
    return between @ measure / (measure @ between @ measure), tones


def cheek_tone(canvas: NDArray[np.float32]) -> float:
    """Return the individual typology angle of the cheeks of a canvas, in degrees: about 55 very light, under -30 dark.

    A. Chardon, I. Cretois, C. Hourseau, "Skin colour typology and suntanning pathways", 1991: atan2(L* - 50, b*) in CIELAB.
    """
    top, bottom, left, right = _CHEEK
    patches = np.concatenate((canvas[top:bottom, left:right], canvas[:, ::-1][top:bottom, left:right]))
    return typology_angle(np.median(patches.reshape(-1, 3), axis=0))


def typology_angle(rgb: NDArray[np.floating]) -> float:
    """Return the individual typology angle of an sRGB colour, 0 to 255, in degrees."""
    value = np.clip(np.asarray(rgb, np.float64) / 255, 0, 1)
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    # IEC 61966-2-1 to XYZ; only Y and Z are needed, over the white of D65.
    y, z = linear @ [0.2126, 0.7152, 0.0722], linear @ [0.0193, 0.1192, 0.9505] / 1.08906
    of_y, of_z = (np.cbrt(each) if each > 0.008856 else 7.787 * each + 16 / 116 for each in (float(y), float(z)))
    return float(np.degrees(np.arctan2(116 * of_y - 66, 200 * (of_y - of_z))))


def landmark_offsets(frontal: Array, landmarks: Array) -> Array:
    """Return the (5, 2) median way from points of the mesh to the landmarks, both on the canvas, made symmetric."""
    near = np.stack([frontal[:, list(points), :2].mean(axis=1) for points in LANDMARK_POINTS], axis=1)
    offsets = np.median(landmarks - near, axis=0)
    flipped = offsets[[1, 0, 2, 4, 3]] * (-1.0, 1.0)
    return np.asarray((offsets + flipped) / 2)


def with_factors(
    model: PeopleModel, vectors: Array, people: NDArray[np.int64], odd: NDArray[np.bool_]
) -> tuple[PeopleModel, Array, Moments]:
    """Return a model with everything that step 5 learns, the tones of the pictures, and the covariances."""
    found = moments(vectors, people, odd)
    between, within = factors(found)
    kept_between, kept_within = between @ between.T, within @ within.T
    axis, tones = tone_axis(model, vectors, kept_between)
    axes = expression_axes(model, kept_within)
    learnt = replace(
        model,
        between=between.astype(np.float32),
        within=within.astype(np.float32),
        expressions=axes.astype(np.float32),
        tone=axis.astype(np.float32),
    )
    return learnt, tones, found
