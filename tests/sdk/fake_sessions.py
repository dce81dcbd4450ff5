"""Sessions that answer with what a test gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class FakeSession:
    """Answers every run by `answer(tensor)` and remembers the tensors."""

    def __init__(
        self,
        outputs: Sequence[str],
        answer: Callable[[NDArray[Any]], Mapping[str, NDArray[Any]]],
        shape: tuple[int | str | None, ...] = (1, 3, "height", "width"),
    ) -> None:
        self.inputs: Mapping[str, tuple[int | str | None, ...]] = {"input": shape}
        self.outputs = tuple(outputs)
        self.seen: list[NDArray[Any]] = []
        self._answer = answer

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        (tensor,) = feeds.values()
        self.seen.append(tensor)
        answer = self._answer(tensor)
        return [answer[name] for name in self.outputs]


def blank_frame(width: int, height: int, grey: int = 127) -> Frame:
    return Frame(np.full((height, width, 3), grey, np.uint8), NOW)


def noise_frame(width: int, height: int, seed: int = 0) -> Frame:
    return Frame(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8), NOW)
