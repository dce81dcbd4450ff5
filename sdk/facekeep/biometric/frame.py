"""A frame: what a camera saw at one instant."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric.arrays import frozen_copy
from facekeep.errors import AcquisitionError


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A colour picture and when it was taken. Stays on the device and is never stored.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright (orientation tags already applied).
        captured_at: timezone-aware instant of capture.

    Raises:
        AcquisitionError: "acquisition.invalid_frame" for any other array.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    captured_at: datetime

    def __post_init__(self) -> None:
        pixels = self.pixels
        if not isinstance(pixels, np.ndarray) or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            found = f"{pixels.dtype} of shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise AcquisitionError(
                "acquisition.invalid_frame",
                f"A frame is an (H, W, 3) uint8 RGB array; found {found}. Convert it before handing it over.",
            )
        if min(pixels.shape[:2]) < 1:
            raise AcquisitionError("acquisition.invalid_frame", f"A frame has pixels; found shape {pixels.shape}.")
        if self.captured_at.tzinfo is None:
            raise AcquisitionError("acquisition.invalid_frame", "The capture time of a frame needs a timezone.")
        object.__setattr__(self, "pixels", frozen_copy(pixels))

    def __repr__(self) -> str:
        return f"Frame({self.width}x{self.height})"

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])
