"""Local optimisers: from gradients to steps. A fresh one for each training: nothing of one round is carried into the next."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.training.settings import TrainingSettings

_FIRST, _SECOND, _NEVER_ZERO = 0.9, 0.999, 1e-8


def rate_at(settings: TrainingSettings, step: int) -> float:
    """Return the step size at `step`, counted from 0."""
    if step < settings.warm_up:
        return settings.rate * (step + 1) / settings.warm_up
    after, left = step - settings.warm_up, max(settings.steps - settings.warm_up, 1)
    if settings.schedule == "cosine":
        return settings.rate * 0.5 * (1 + math.cos(math.pi * after / left))
    return settings.rate * (1 - after / left) if settings.schedule == "linear" else settings.rate


class LocalOptimiser:
    """SGD with momentum, or Adam, in float64.

    Args:
        settings: which one, and its numbers.
        length: of a gradient.
    """

    def __init__(self, settings: TrainingSettings, length: int) -> None:
        self._settings = settings
        self._mean, self._square = np.zeros(length), np.zeros(length)
        self._step = 0

    def change(self, gradient: NDArray[Any]) -> NDArray[np.float64]:
        """Return what to add to the numbers being trained, and count the step."""
        wide, rate = gradient.astype(np.float64), rate_at(self._settings, self._step)
        self._step += 1
        if self._settings.optimiser == "sgd":
            self._mean = self._settings.momentum * self._mean + wide
            return -rate * self._mean
        self._mean = _FIRST * self._mean + (1 - _FIRST) * wide
        self._square = _SECOND * self._square + (1 - _SECOND) * wide * wide
        mean, square = self._mean / (1 - _FIRST**self._step), self._square / (1 - _SECOND**self._step)
        return -rate * mean / (np.sqrt(square) + _NEVER_ZERO)
