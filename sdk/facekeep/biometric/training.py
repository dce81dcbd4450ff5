"""What a device learns from and migrates by: features in front of an embedder's last linear map, and training samples."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric.arrays import frozen_copy
from facekeep.canonical import HEX_DIGEST

_KIND: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,31}")
_CROP_SHAPE: Final = (112, 112, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What lay in front of the last linear map of an embedder, one row for each frame that made a template. Stays.

    A new last map applied to it gives what the same frames would give: so a template follows a `head` release without a camera.
    It is as biometric as the template, and sealed like one.

    Attributes:
        rows: (N, F) float32, finite, N at least one.
        base: 64 hexadecimal digits, what everything in front of the last map is known by.
    """

    rows: NDArray[np.float32] = field(repr=False)
    base: str

    def __post_init__(self) -> None:
        rows = self.rows
        if rows.ndim != 2 or rows.dtype != np.float32 or rows.size == 0 or not bool(np.isfinite(rows).all()):
            raise ValueError("features are (N, F) float32, finite, of at least one frame")
        _require_base(self.base)
        object.__setattr__(self, "rows", frozen_copy(rows))

    def __repr__(self) -> str:
        return f"Features(frames={self.frames}, base={self.base[:12]})"

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.rows.shape[0])

    @property
    def dimension(self) -> int:
        """Numbers a frame."""
        return int(self.rows.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class TrainingSample:
    """An aligned crop kept to learn from, under the purpose of federated training alone. Stays.

    Attributes:
        pixels: (112, 112, 3) uint8 RGB, aligned to the ArcFace template.
        features: (F,) float32, finite, what `base` makes of the crop; empty where the embedder offers none.
        base: 64 hexadecimal digits, what everything in front of the last map is known by.
        kind: of which capture, such as "enrolment" or "night": lower-case letters, digits, hyphens and dots, at most 32.
        sample_id: identifier, random.
        kept_at: timezone-aware instant it was kept.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    features: NDArray[np.float32] = field(repr=False)
    base: str
    kind: str
    sample_id: str
    kept_at: datetime

    def __post_init__(self) -> None:
        if self.pixels.shape != _CROP_SHAPE or self.pixels.dtype != np.uint8:
            raise ValueError("a training sample is (112, 112, 3) uint8")
        if self.features.ndim != 1 or self.features.dtype != np.float32 or not bool(np.isfinite(self.features).all()):
            raise ValueError("the features of a sample are (F,) float32 and finite")
        _require_base(self.base)
        if not _KIND.fullmatch(self.kind):
            raise ValueError("a kind of capture is lower-case letters, digits, hyphens and dots, at most 32")
        object.__setattr__(self, "pixels", frozen_copy(self.pixels))
        object.__setattr__(self, "features", frozen_copy(self.features))

    def __repr__(self) -> str:
        return f"TrainingSample({self.kind}, base={self.base[:12]})"


def _require_base(base: str) -> None:
    if not HEX_DIGEST.fullmatch(base):
        raise ValueError("a base is 64 hexadecimal digits")
