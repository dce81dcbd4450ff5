"""Decoding pictures: Pillow if it is installed, else OpenCV, else a typed error that says what to install."""

from __future__ import annotations

import importlib
import io
import os
import stat
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.capture.headers import orientation_applied, picture_size
from facekeep.errors import AcquisitionError

DEFAULT_MAX_PIXELS: Final = 50_000_000
# Under this no face can be recognised; the detectors refuse such a frame too.
SMALLEST_SIDE_PX: Final = 16
# What cameras and phones write. Pillow opens far more, some of it (EPS) by running other programs: not from a stranger's file.
# More than any picture of the largest size accepted needs.
_LARGEST_FILE_BYTES: Final = 512 << 20
_WARNINGS: Final = threading.Lock()
_PILLOW_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_EXIF_ORIENTATION: Final = 0x0112


def read_picture(
    source: str | os.PathLike[str] | bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS, min_side: int = SMALLEST_SIDE_PX
) -> NDArray[np.uint8]:
    """Return the pixels of a picture, upright, in 8-bit RGB.

    The EXIF orientation is applied; grey becomes three equal channels; what is transparent shows white; 16 bits keep their upper
    eight; CMYK and palettes are converted; of an animation the first picture counts.

    Args:
        source: path of a file, or its content.
        max_pixels: pictures with more are refused from their header, before anything is decoded.
        min_side: pictures with a shorter side are refused.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        AcquisitionError: "acquisition.unreadable", "acquisition.too_large", "acquisition.too_small" or
            "acquisition.no_decoder".
    """
    content = source if isinstance(source, bytes) else _read_file(Path(source))
    if not content:
        raise AcquisitionError("acquisition.unreadable", "The picture is empty.")
    if pillow := _import("PIL.Image"):
        pixels = _decode_with_pillow(pillow, content, max_pixels, min_side)
    elif cv2 := _import("cv2"):
        pixels = _decode_with_opencv(cv2, content, max_pixels, min_side)
    else:
        raise AcquisitionError("acquisition.no_decoder", "No picture decoder is installed. Run: pip install pillow")
    return pixels


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _read_file(path: Path) -> bytes:
    try:
        # Opened without waiting and looked at when open: a pipe would block, a device never end, a path may change.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with os.fdopen(handle, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise AcquisitionError("acquisition.unreadable", "What lies at this path is no picture file.")
            if found.st_size > _LARGEST_FILE_BYTES:
                raise AcquisitionError("acquisition.too_large", f"The picture file has over {_LARGEST_FILE_BYTES >> 20} MiB.")
            return stream.read(_LARGEST_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise AcquisitionError("acquisition.unreadable", f"The picture file cannot be read ({type(error).__name__}).") from None


def _require_size(width: int, height: int, max_pixels: int, min_side: int) -> None:
    if width * height > max_pixels:
        raise AcquisitionError(
            "acquisition.too_large",
            f"The picture has {width}x{height} pixels, more than {max_pixels}. Reduce it before handing it over.",
        )
    if min(width, height) < min_side:
        raise AcquisitionError("acquisition.too_small", f"The picture has {width}x{height} pixels; a side needs {min_side}.")


def _unreadable(error: Exception) -> AcquisitionError:
    return AcquisitionError(
        "acquisition.unreadable",
        f"The picture is damaged or in no known format ({type(error).__name__}). Formats: {', '.join(_PILLOW_FORMATS)}.",
    )


def _decode_with_pillow(pillow: Any, content: bytes, max_pixels: int, min_side: int) -> NDArray[np.uint8]:
    try:
        # The list of warning filters is the whole process's: two threads that change it at once can leave it changed.
        with _WARNINGS, warnings.catch_warnings():
            # Pillow warns about sizes (checked here, and stricter) and about odd metadata (not used).
            warnings.simplefilter("ignore")
            with pillow.open(io.BytesIO(content), formats=_PILLOW_FORMATS) as picture:
                width, height = picture.size
                _require_size(width, height, max_pixels, min_side)
                picture.load()
                pixels = _pillow_rgb(pillow, picture)
                orientation = _orientation(picture)
    except AcquisitionError:
        raise
    except pillow.DecompressionBombError:
        raise AcquisitionError("acquisition.too_large", f"The picture has more than {max_pixels} pixels.") from None
    except Exception as error:  # noqa: BLE001 - decoders of hostile files raise anything
        raise _unreadable(error) from None
    return np.ascontiguousarray(orientation_applied(pixels, orientation))


def _pillow_rgb(pillow: Any, picture: Any) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):
        # 16-bit grey: convert("RGB") would clip it at 255.
        grey = np.clip(np.asarray(picture).astype(np.int64), 0, 65535) >> 8
        return np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("a picture of floating-point numbers has no scale of grey")
    if "A" in picture.mode or "a" in picture.mode or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = pillow.new("RGBA", layered.size, (255, 255, 255, 255))
        return np.asarray(pillow.alpha_composite(white, layered).convert("RGB"))
    return np.asarray(picture.convert("RGB"))


def _orientation(picture: Any) -> int:
    try:
        return int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - a broken tag is no reason to refuse the picture
        return 1


def _decode_with_opencv(cv2: Any, content: bytes, max_pixels: int, min_side: int) -> NDArray[np.uint8]:
    """Decode JPEG, PNG, BMP and WebP, whose headers say their size; the orientation tag of JPEG only."""
    found = picture_size(content)
    if found is None:
        message = "The picture is damaged, or in a format that needs Pillow. Run: pip install pillow"
        raise AcquisitionError("acquisition.unreadable", message)
    _require_size(found[0], found[1], max_pixels, min_side)
    is_jpeg = content[:2] == b"\xff\xd8"
    try:
        # Only the colour mode applies the orientation of a JPEG, only the unchanged mode keeps an alpha channel.
        array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR if is_jpeg else cv2.IMREAD_UNCHANGED)
    except Exception as error:  # noqa: BLE001 - decoders of hostile files raise anything
        raise _unreadable(error) from None
    if array is None:
        raise AcquisitionError("acquisition.unreadable", "The picture is damaged.")
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    if array.ndim == 2:
        array = array[:, :, None].repeat(3, axis=2)
    if array.shape[2] == 4:
        alpha = array[:, :, 3:].astype(np.uint16)
        array = ((array[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(array[:, :, ::-1])
