"""From what a caller hands over to frames."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame
from facekeep.capture.pictures import DEFAULT_MAX_PIXELS, SMALLEST_SIDE_PX, read_picture
from facekeep.clock import Clock
from facekeep.errors import AcquisitionError

SUFFIXES: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_CAMERA: Final = re.compile(r"camera:[0-9]{1,3}")


def frame_from_array(
    array: NDArray[Any],
    captured_at: datetime,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    min_side: int = SMALLEST_SIDE_PX,
) -> Frame:
    """Return a frame of an (H, W, 3) uint8 RGB array.

    Nothing is guessed: a float array, a grey one, one with alpha are refused (OpenCV's arrays are BGR: turn them first).

    Raises:
        AcquisitionError: "acquisition.invalid_frame", "acquisition.too_large" or "acquisition.too_small".
    """
    if isinstance(array, np.ndarray) and array.ndim == 3:
        height, width = array.shape[:2]
        # Before the copy that a frame makes.
        if height * width > max_pixels:
            raise AcquisitionError("acquisition.too_large", f"The frame has {width}x{height} pixels, more than {max_pixels}.")
    frame = Frame(array, captured_at)
    if min(frame.width, frame.height) < min_side:
        message = f"The frame has {frame.width}x{frame.height} pixels; a side needs {min_side}."
        raise AcquisitionError("acquisition.too_small", message)
    return frame


def as_frame(
    source: Frame | NDArray[Any] | str | os.PathLike[str] | bytes, clock: Clock, *, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Frame:
    """Return a frame of a frame, an array, a picture file or its content; stamped with the present, save for a frame.

    Raises:
        AcquisitionError: if it is none of these, or no usable picture.
    """
    if isinstance(source, Frame):
        return source
    if isinstance(source, np.ndarray):
        return frame_from_array(source, clock.now(), max_pixels=max_pixels)
    if isinstance(source, str | bytes | os.PathLike):
        return Frame(read_picture(source, max_pixels=max_pixels), clock.now())
    raise AcquisitionError(
        "acquisition.invalid_frame",
        f"A source is a frame, an array, a path or the bytes of a picture; found {type(source).__name__}.",
    )


def expand_sources(argument: str | os.PathLike[str]) -> list[str | Path]:
    """Return what an argument of the command line stands for.

    Args:
        argument: "camera:N", a picture file (of any suffix), or a directory, whose pictures are told by `SUFFIXES`.

    Returns:
        "camera:N" itself, or paths; those of a directory sorted by name, without sub-directories and hidden files.

    Raises:
        AcquisitionError: "acquisition.unreadable" if there is nothing.
    """
    text = os.fspath(argument)
    if _CAMERA.fullmatch(text):
        return [text]
    path = Path(text)
    try:
        if path.is_file():
            return [path]
        if path.is_dir():
            entries = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES and entry.name[0] != ".")
            found: list[str | Path] = [entry for entry in entries if entry.is_file()]
            if found:
                return found
            raise AcquisitionError("acquisition.unreadable", f"The directory holds no picture ({', '.join(SUFFIXES)}).")
    except (OSError, ValueError) as error:
        raise AcquisitionError("acquisition.unreadable", f"The source cannot be read ({type(error).__name__}).") from None
    raise AcquisitionError("acquisition.unreadable", f"{text!r} is no file, directory or camera (camera:0 is the first).")
