"""The pictures of a selftest: drawn people, or a folder of real pictures, each marked with noise that exists nowhere else.

The noise is what is searched for. It covers the whole picture, so that the aligned crop of the face carries it as well; it is
drawn anew for every run, so that nothing on the machine can hold it already.
"""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facekeep.capture import as_frame
from facekeep.clock import SystemClock
from facekeep.errors import AcquisitionError, SelftestError

# Grey levels that each value of a picture may move by: invisible to a model, and 59 bits of chance in every 16 bytes.
_NOISE: Final = 6
_BLOCK_PX: Final = 32
# People drawn before giving up; the quality floors are meant for faces and refuse some drawings.
_TRIES: Final = 200
_MAX_PIXELS: Final = 50_000_000
_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# Who is in which picture. "nobody" has no face in it.
NAMES: Final = ("alice-1", "alice-2", "alice-probe", "bob-1", "bob-probe", "nobody")


Embed: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The marked pictures.

    Attributes:
        arrays: name -> (H, W, 3) uint8 RGB, one for each of `NAMES`.
        origin: where they come from, for the report.
    """

    arrays: dict[str, NDArray[np.uint8]] = field(repr=False)
    origin: str


def drawn_pictures(embed: Embed, apart: float) -> Pictures:
    """Return marked pictures of two drawn people whom the models see, and tell apart.

    Args:
        embed: returns the embedding of a picture, or None where the device would refuse it.
        apart: cosine below which two people are certainly not taken for one another.

    Raises:
        SelftestError: "selftest.failed" if the drawings do not come with this installation, or suit no device.
    """
    try:
        # By name: the device never needs the recipes, and an installation without them still runs.
        simulation = importlib.import_module("facekeep_models.simulation")
    except ImportError:
        raise SelftestError(
            "selftest.failed", "The drawn people are not installed. Name packs and a folder of pictures instead."
        ) from None
    mark = _Marker()
    arrays: dict[str, NDArray[np.uint8]] = {}
    known: list[NDArray[np.float32]] = []
    for person in ("alice", "bob"):
        names = [name for name in NAMES if name.startswith(person)]
        for _ in range(_TRIES):
            drawn = simulation.DrawnPerson(secrets.randbits(31))
            pictures = {name: mark(simulation.draw_frame(drawn, number).pixels) for number, name in enumerate(names)}
            vectors = [embed(pixels) for pixels in pictures.values()]
            usable = [vector for vector in vectors if vector is not None]
            # Chance must not fail a sound device: of a thousand pairs of strangers one may match, by definition of the rate.
            if len(usable) == len(names) and all(float(one @ other) < apart for one in usable for other in known):
                arrays |= pictures
                known += usable
                break
        else:
            raise SelftestError("selftest.failed", f"The device refused the pictures of {_TRIES} drawn people.")
    return Pictures({**arrays, NAMES[-1]: mark(_blank())}, "drawn people")


def pictures_from(folder: Path, embed: Embed) -> Pictures:
    """Return marked pictures of two people out of a folder with a subfolder for each.

    Args:
        folder: its first subfolder with three pictures that can be used gives the first person, the next with two the second.
        embed: returns the embedding of a picture, or None where the device would refuse it.

    Raises:
        SelftestError: "selftest.failed" if the folder does not hold that.
    """
    try:
        people = [_files(each) for each in sorted(folder.iterdir()) if each.is_dir()]
    except OSError as error:
        raise SelftestError("selftest.failed", f"{folder} cannot be read: {error.strerror}.") from None
    mark = _Marker()
    arrays: dict[str, NDArray[np.uint8]] = {}
    left = iter(people)
    for person in ("alice", "bob"):
        names = [name for name in NAMES if name.startswith(person)]
        found: list[NDArray[np.uint8]] = []
        for files in left:
            found = _usable(files, len(names), mark, embed)
            if len(found) == len(names):
                break
        if len(found) < len(names):
            raise SelftestError(
                "selftest.failed",
                "The folder of pictures needs a subfolder for each of two people, the first with three pictures that the device "
                "accepts, the second with two: one face in each.",
            )
        arrays |= dict(zip(names, found, strict=True))
    return Pictures({**arrays, NAMES[-1]: mark(_blank())}, "a folder of pictures")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)[:_TRIES]


def _usable(files: list[Path], count: int, mark: _Marker, embed: Embed) -> list[NDArray[np.uint8]]:
    """Return up to `count` marked pictures that the device accepts."""
    found: list[NDArray[np.uint8]] = []
    for file in files:
        if len(found) == count:
            break
        try:
            marked = mark(as_frame(file, SystemClock(), max_pixels=_MAX_PIXELS).pixels)
        except AcquisitionError:
            continue
        if embed(marked) is not None:
            found.append(marked)
    return found


def captured_now() -> datetime:
    """Return the capture time that a selftest gives its pictures."""
    return datetime.now(UTC)


def _blank() -> NDArray[np.uint8]:
    return np.full((240, 320, 3), 128, np.uint8)


class _Marker:
    """Marks pictures. Seeded by the operating system: a mark that could be guessed could be there by chance."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(secrets.randbits(128))

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        noise = self._random.integers(-_NOISE, _NOISE + 1, size=pixels.shape, dtype=np.int16)
        marked: NDArray[np.uint8] = np.clip(pixels.astype(np.int16) + noise, 0, 255).astype(np.uint8)
        # A corner of pure noise as well, in the muted middle of the range, where no detector sees a face.
        corner = marked[:_BLOCK_PX, :_BLOCK_PX]
        corner[...] = self._random.integers(80, 176, size=corner.shape, dtype=np.uint8)
        return marked
