"""LFW View 1 (pairsDevTrain): pairs of pictures, and accuracy at the best threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_pairs(directory: Path) -> list[tuple[Path, Path, bool]]:
    """Return (picture, picture, whether mated) of pairsDevTrain.txt."""
    rows = (directory / "pairsDevTrain.txt").read_text().splitlines()[1:]
    pairs = []
    for row in rows:
        fields = row.split("\t")
        if len(fields) == 3:
            name, first, second = fields
            pairs.append((picture(directory, name, first), picture(directory, name, second), True))
        elif len(fields) == 4:
            name, first, other, second = fields
            pairs.append((picture(directory, name, first), picture(directory, other, second), False))
    return pairs


def picture(directory: Path, name: str, number: str) -> Path:
    return directory / "images" / name / f"{name}_{int(number):04}.jpg"


def best_accuracy(scores: NDArray[np.float64], mated: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the greatest share of right answers over all thresholds, and that threshold."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(mated[order])
    misses = np.cumsum(~mated[order])
    right = hits + (~mated).sum() - misses
    best = int(np.argmax(right))
    return float(right[best] / len(scores)), float(scores[order][best])
