"""Steps 2 to 5 of the recipe of the synthetic people joined: from what was read of pictures to a model without its list."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_models.people.geometry import CANVAS_PX
from facekeep_models.people.model import COARSE_PX, FINE_WINDOW, PeopleModel, model_to_bytes, parse_model
from facekeep_models.training.people_bases import Basis, Floats, halved, layers, principal
from facekeep_models.training.people_faces import Faces
from facekeep_models.training.people_fit import landmark_offsets, with_factors
from facekeep_models.training.people_textures import Shapes, canvas_textures, fit_shapes, mirrored, similarity

# Heads turned further show too little of one cheek to say what it looks like from the front.
_MOST_YAW_DEGREES: Final = 28.0
_MOST_PITCH_DEGREES: Final = 20.0
_FRONTAL_DEGREES: Final = 6.0
_FOR_LANDMARKS: Final = 3000


@dataclass(frozen=True, slots=True)
class Counts:
    """How many directions of each kind, and how long the screen goes on."""

    shape: tuple[int, int] = (30, 14)
    coarse: tuple[int, int] = (130, 60)
    fine: tuple[int, int] = (160, 60)
    candidates: int = 100_000
    wanted: int = 520
    most_examined: int = 8000


SMOKE: Final = Counts((4, 2), (6, 4), (6, 4), candidates=30, wanted=2, most_examined=3)


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A model, packed and unpacked as it will ship, and what was seen on the way.

    Attributes:
        model: without accepted seeds.
        used: (N,) which pictures it was learnt from.
        tones: (N,) skin tone of each in degrees.
        explained: share of variance that each basis carries, by name.
        spectrum: variances of people and of pictures along their directions, descending.
    """

    model: PeopleModel
    used: NDArray[np.intp]
    tones: NDArray[np.float64]
    explained: dict[str, float]
    spectrum: tuple[NDArray[np.float64], NDArray[np.float64]]


def learn(
    paths: Sequence[Path], people: NDArray[np.int64], faces: Faces, counts: Counts, cache: Path, say: Callable[[str], None]
) -> Learnt:
    """Learn a model.

    Args:
        paths: the pictures.
        people: (N,) who is on each.
        faces: what was read of them.
        counts: how many directions.
        cache: where the textures are kept, so that an interrupted run goes on.
        say: shows progress.
    """
    usable = np.flatnonzero(faces.usable)
    # 2
    shapes = fit_shapes(faces.mesh_px[usable])
    yaw = np.degrees(np.arcsin(np.clip(shapes.turns[:, 0, 2], -1, 1)))
    pitch = np.degrees(np.arcsin(np.clip(shapes.turns[:, 1, 2], -1, 1)))
    kept = np.flatnonzero((np.abs(yaw) < _MOST_YAW_DEGREES) & (np.abs(pitch) < _MOST_PITCH_DEGREES))
    used, frontal = usable[kept], shapes.frontal[kept]
    say(f"2 shapes: {len(usable)} faces, {len(used)} of them turned little enough")
    # 3
    digest = hashlib.sha256(faces.mesh_px[usable].tobytes()).hexdigest()
    stored = cache / f"textures-{digest[:16]}.npy"
    if stored.is_file():
        textures = np.load(stored, allow_pickle=False)[kept]
        say("3 textures: taken from the cache")
    else:
        made = canvas_textures([paths[index] for index in usable.tolist()], faces.mesh_px[usable], shapes.mean, say)
        unfinished = stored.with_suffix(".new")
        with unfinished.open("wb") as stream:
            np.save(stream, made)
        unfinished.replace(stored)
        textures = made[kept]
    # 4
    coarse, fine = layers(textures, FINE_WINDOW, say)
    bases = _shape_bases(shapes, frontal, counts)
    coarse_mean, fine_mean = _symmetric_mean(coarse), _symmetric_mean(fine)
    coarse -= coarse_mean
    fine -= fine_mean
    weight = np.broadcast_to(_coarse_weight()[:, : COARSE_PX // 2, None], (COARSE_PX, COARSE_PX // 2, 3)).astype(np.float32)
    even, odd = halved(coarse)
    bases["coarse even"] = principal(even, weight, counts.coarse[0], 1)
    bases["coarse odd"] = principal(odd, weight, counts.coarse[1], 2)
    del even, odd, coarse
    mask = _fine_mask()
    fine *= mask
    even, odd = halved(fine)
    one = np.ones(even.shape[1:], np.float32)
    bases["fine even"] = principal(even, one, counts.fine[0], 3)
    bases["fine odd"] = principal(odd, one, counts.fine[1], 4)
    say("4 bases: " + ", ".join(f"{name} {basis.explained:.0%}" for name, basis in bases.items()))
    # 5
    near_front = np.flatnonzero((np.abs(yaw[kept]) < _FRONTAL_DEGREES) & (np.abs(pitch[kept]) < _FRONTAL_DEGREES))[:_FOR_LANDMARKS]
    vectors = np.concatenate([basis.coefficients for basis in bases.values()], axis=1).astype(np.float64)
    odd_numbers = np.concatenate([np.full(len(basis.directions), name.endswith("odd")) for name, basis in bases.items()])
    size = vectors.shape[1]
    empty = PeopleModel(
        mean_shape=shapes.mean.astype(np.float32),
        shape=np.concatenate((bases["shape even"].directions, bases["shape odd"].directions)),
        coarse_mean=coarse_mean,
        coarse_even=bases["coarse even"].directions,
        coarse_odd=bases["coarse odd"].directions,
        fine_mean=fine_mean * mask,
        fine_even=bases["fine even"].directions,
        fine_odd=bases["fine odd"].directions,
        between=np.zeros((size, 1), np.float32),
        within=np.zeros((size, 1), np.float32),
        expressions=np.zeros((2, size), np.float32),
        tone=np.zeros(size, np.float32),
        landmark_offsets=_offsets(faces, used[near_front], frontal[near_front]),
        accepted=np.zeros(0, np.int64),
        takes=np.zeros((0, 1), np.int64),
    )
    model, tones, _ = with_factors(empty, vectors, np.unique(people[used], return_inverse=True)[1], odd_numbers)
    spectrum = ((model.between**2).sum(axis=0).astype(np.float64), (model.within**2).sum(axis=0).astype(np.float64))
    say(f"5 people: {model.between.shape[1]} directions between people, {model.within.shape[1]} within")
    explained = {name: basis.explained for name, basis in bases.items()}
    return Learnt(parse_model(model_to_bytes(model)), used, tones, explained, spectrum)


def _shape_bases(shapes: Shapes, frontal: NDArray[np.float64], counts: Counts) -> dict[str, Basis]:
    away, flipped = frontal - shapes.mean, mirrored(frontal, shapes.mirror) - shapes.mean
    one = np.ones(away.shape[1:], np.float32)
    # Vectors begin with the shape: these two come first.
    return {
        "shape even": principal(((away + flipped) / 2).astype(np.float32), one, counts.shape[0], 5),
        "shape odd": principal(((away - flipped) / 2).astype(np.float32), one, counts.shape[1], 6),
    }


def _symmetric_mean(values: Floats) -> Floats:
    mean = values.mean(axis=0, dtype=np.float64)
    return np.asarray((mean + mean[:, ::-1]) / 2, np.float32)


def _coarse_weight() -> NDArray[np.float64]:
    """Return (COARSE_PX, COARSE_PX): faces matter most, then hair, then what is behind."""
    steps = np.arange(COARSE_PX) * 2 + 0.5
    across, down = steps[None, :] - (CANVAS_PX - 1) / 2, steps[:, None]

    def oval(middle: float, half_width: float, half_height: float) -> NDArray[np.float64]:
        radius = np.hypot(across / half_width, (down - middle) / half_height)
        return np.asarray(1 / (1 + np.exp(np.minimum((radius - 1) * 8, 60))))

    return 0.25 + 0.75 * oval(82, 38, 48) + 0.5 * oval(75, 52, 66)


def _fine_mask() -> Floats:
    """Return what of the fine layer is face, 0 to 1: hair and background average into noise there."""
    top, bottom, left, right = FINE_WINDOW
    rows, columns = np.mgrid[top:bottom, left:right]
    radius = np.hypot((columns - (CANVAS_PX - 1) / 2) / 40, (rows - 86) / 48)
    return np.asarray(1 / (1 + np.exp((radius - 1) * 14)), np.float32)


def _offsets(faces: Faces, indices: NDArray[np.intp], frontal: NDArray[np.float64]) -> Floats:
    """Return where the detector's landmarks lie beside points of the mesh, on the canvas."""
    placed = np.empty((len(indices), 5, 2))
    for row, index in enumerate(indices.tolist()):
        linear, shift = similarity(faces.mesh_px[index, :, :2].astype(np.float64), frontal[row, :, :2])
        placed[row] = faces.landmarks_px[index] @ linear.T + shift
    return landmark_offsets(frontal, placed).astype(np.float32)
