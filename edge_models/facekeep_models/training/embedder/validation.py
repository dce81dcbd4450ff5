"""Figures on people who were never trained on, with pairs drawn once with a fixed seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from facekeep_models.training.embedder.augmentation import centre_crop
from facekeep_models.training.embedder.crops import NOBODY, Crops
from facekeep_models.training.embedder.network import Student

_PAIR_SEED: Final = 2026
PAIRS: Final = 500


@dataclass(frozen=True, slots=True)
class Figures:
    """How the student does on the held-out people.

    Attributes:
        accuracy: share of right answers at the best threshold, 500 mated and 500 non-mated pairs.
        tar_at_1e_2: true accept rate where all non-mated pairs of held-out people give a false match rate of 1e-2.
        cross_accuracy: as `accuracy`, references by the teacher, probes by the student.
        cosine: mean cosine of the student's and the teacher's answer.
    """

    accuracy: float
    tar_at_1e_2: float
    cross_accuracy: float
    cosine: float


@torch.no_grad()
def embed(student: Student, pixels: NDArray[np.uint8], device: torch.device) -> NDArray[np.float32]:
    """Return (N, 256) unit vectors of (N, 136, 136, 3) crops: the mean over the crop and its mirror image is not taken."""
    student.eval()
    parts = []
    for at in range(0, len(pixels), 256):
        batch = centre_crop(torch.from_numpy(np.ascontiguousarray(pixels[at : at + 256])).to(device))
        parts.append(torch.nn.functional.normalize(student(batch).float(), dim=1).cpu().numpy())
    return np.concatenate(parts)


def validate(student: Student, crops: Crops, device: torch.device) -> Figures:
    """Return the figures of `student` on the held-out people."""
    rows = np.flatnonzero(crops.held_out)
    vectors = embed(student, crops.pixels[rows], device)
    teacher, person = crops.teacher[rows], crops.person[rows]
    first, second, mated = draw_pairs(person)
    accuracy = _best_accuracy(np.einsum("ij,ij->i", vectors[first], vectors[second]), mated)
    cross = _best_accuracy(np.einsum("ij,ij->i", teacher[first], vectors[second]), mated)
    scores = vectors @ vectors.T
    upper = np.triu_indices(len(rows), 1)
    same = person[upper[0]] == person[upper[1]]
    every = scores[upper]
    threshold = np.quantile(every[~same], 0.99)
    tar = float((every[same] >= threshold).mean()) if same.any() else 0.0
    return Figures(accuracy, tar, cross, float((vectors * teacher).sum(axis=1).mean()))


def draw_pairs(person: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Return 500 mated and 500 non-mated pairs of places, as many as there are if there are fewer."""
    random = np.random.default_rng(_PAIR_SEED)
    first, second = np.triu_indices(len(person), 1)
    known = (person[first] != NOBODY) & (person[second] != NOBODY)
    mated = person[first] == person[second]
    chosen = [random.permutation(np.flatnonzero(which))[:PAIRS] for which in (known & mated, known & ~mated)]
    places = np.concatenate(chosen)
    return first[places], second[places], mated[places]


def _best_accuracy(scores: NDArray[np.float32], mated: NDArray[np.bool_]) -> float:
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(mated[order]) + (~mated).sum() - np.cumsum(~mated[order])
    return float(right.max() / len(scores))
