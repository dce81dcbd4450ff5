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
from facekeep.resampling import LARGEST_FACTOR, box_reduce, resize_into

# Grey levels that each value of a picture may move by: invisible to a model, and 59 bits of chance in every 16 bytes.
_NOISE: Final = 6
_BLOCK_PX: Final = 32
# People drawn before giving up; the quality floors are meant for faces and refuse some drawings.
_TRIES: Final = 200
_MAX_PIXELS: Final = 50_000_000
# A picture is reduced to this before it is marked. Every byte of it is searched for in ten forms: a photograph of twelve
# megapixels would make fifty million windows.
_LONGEST_SIDE_PX: Final = 640
# People and pictures that a refusal names.
_MOST_NAMED: Final = 4
_SUFFIXES: Final = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
# Who is in which picture. "nobody" has no face in it.
NAMES: Final = ("alice-1", "alice-2", "alice-probe", "bob-1", "bob-probe", "nobody")


# Raises AcquisitionError where the device would refuse the picture.
Embed: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Say: TypeAlias = Callable[[str], None]


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
        embed: returns the embedding of a picture; raises AcquisitionError where the device would refuse it.
        apart: cosine below which two people are certainly not taken for one another.

    Raises:
        SelftestError: "selftest.failed" if the drawings do not come with this installation, or suit no device.
    """
    try:
        # By name: the device never needs the recipes, and an installation without them still runs.
        simulation = importlib.import_module("facekeep_models.simulation")
    except ImportError:
        raise SelftestError(
            "selftest.failed",
            "The drawn people are not installed. Name a folder of pictures instead (--pictures); packs are chosen if you do not "
            "name them.",
        ) from None
    mark = _Marker()
    arrays: dict[str, NDArray[np.uint8]] = {}
    known: list[NDArray[np.float32]] = []
    for person in ("alice", "bob"):
        names = [name for name in NAMES if name.startswith(person)]
        for _ in range(_TRIES):
            drawn = simulation.DrawnPerson(secrets.randbits(31))
            pictures = {name: mark(simulation.draw_frame(drawn, number).pixels) for number, name in enumerate(names)}
            usable = [vector for pixels in pictures.values() if (vector := _embedding(pixels, embed)) is not None]
            # Chance must not fail a sound device: of a thousand pairs of strangers one may match, by definition of the rate.
            if len(usable) == len(names) and all(float(one @ other) < apart for one in usable for other in known):
                arrays |= pictures
                known += usable
                break
        else:
            raise SelftestError("selftest.failed", f"The device refused the pictures of {_TRIES} drawn people.")
    return Pictures({**arrays, NAMES[-1]: mark(_blank())}, "drawn people")


def pictures_from(folder: Path, embed: Embed, say: Say) -> Pictures:
    """Return marked pictures of two people out of a folder with a subfolder for each.

    Args:
        folder: its first subfolder with three pictures that can be used gives the first person, the next with two the second.
        embed: returns the embedding of a picture; raises AcquisitionError where the device would refuse it.
        say: is told how far it is.

    Raises:
        SelftestError: "selftest.failed" if the folder does not hold that, with the person and the pictures that failed.
    """
    try:
        people = [(_shown(each.name), _files(each)) for each in sorted(folder.iterdir()) if each.is_dir()]
    except OSError as error:
        raise SelftestError("selftest.failed", f"{folder} cannot be read: {error.strerror}.") from None
    search = _FolderSearch(embed, say)
    arrays: dict[str, NDArray[np.uint8]] = {}
    used: list[str] = []
    left = iter(people)
    for person in ("alice", "bob"):
        names = [name for name in NAMES if name.startswith(person)]
        for label, files in left:
            found = search.usable(label, files, len(names))
            if len(found) == len(names):
                arrays |= dict(zip(names, found.values(), strict=True))
                used.append(f"{label} ({', '.join(found)})")
                break
        else:
            have = f"{used[0]} is the first; for the second nobody is left. " if used else ""
            raise SelftestError(
                "selftest.failed",
                "The folder of pictures needs a subfolder for each of two people, the first with three pictures that the device "
                f"accepts, the second with two: one face in each. {have}{search.refusals(folder)}",
            )
    return Pictures({**arrays, NAMES[-1]: search.mark(_blank())}, f"pictures of {' and '.join(used)}")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)[:_TRIES]


def _shown(name: str) -> str:
    """Return a file name as text that can be written; different names stay different."""
    return name if name.isprintable() else ascii(name)


class _FolderSearch:
    """Looks for pictures that the device accepts, and remembers why it did not accept the others."""

    def __init__(self, embed: Embed, say: Say) -> None:
        self.mark = _Marker()
        self._embed, self._say = embed, say
        self._accepted = 0
        self._refusals: list[str] = []

    def usable(self, label: str, files: list[Path], count: int) -> dict[str, NDArray[np.uint8]]:
        """Return up to `count` marked pictures of one person that the device accepts, by file name."""
        found: dict[str, NDArray[np.uint8]] = {}
        refused: list[str] = []
        for file in files:
            if len(found) == count:
                break
            self._say(
                f"preparing the pictures and what to search for ({self._accepted + len(found) + 1} of {len(NAMES) - 1}): "
                f"{label}/{_shown(file.name)}"
            )
            try:
                marked = self.mark(reduced(as_frame(file, SystemClock(), max_pixels=_MAX_PIXELS).pixels))
                self._embed(marked)
            except AcquisitionError as refusal:
                refused.append(f"{_shown(file.name)}: {refusal.code}")
                continue
            found[_shown(file.name)] = marked
        if len(found) == count:
            self._accepted += count
        else:
            more = f", and {len(refused) - _MOST_NAMED} more" if len(refused) > _MOST_NAMED else ""
            why = f" ({', '.join(refused[:_MOST_NAMED])}{more})" if refused else ""
            self._refusals.append(f"{label} has {len(found)} of {count}{why}")
        return found

    def refusals(self, folder: Path) -> str:
        """Return who had too few pictures, and what was the matter with the others."""
        if not self._refusals:
            return f"{folder} has no other subfolder." if self._accepted else f"{folder} has no subfolder."
        more = f"; and {len(self._refusals) - _MOST_NAMED} more people" if len(self._refusals) > _MOST_NAMED else ""
        return f"Looked at: {'; '.join(self._refusals[:_MOST_NAMED])}{more}."


def reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 with its longest side at most 640 px: first by a whole factor, then bilinear."""
    longest = max(pixels.shape[:2])
    if longest <= _LONGEST_SIDE_PX:
        return pixels
    pixels = box_reduce(pixels, max(1, min(longest // _LONGEST_SIDE_PX, *pixels.shape[:2], LARGEST_FACTOR)))
    scale = min(1.0, _LONGEST_SIDE_PX / max(pixels.shape[:2]))
    planes = np.empty((3, *(max(1, round(side * scale)) for side in pixels.shape[:2])), np.float32)
    resize_into(pixels, planes)
    return np.ascontiguousarray(np.rint(planes).astype(np.uint8).transpose(1, 2, 0))


def _embedding(pixels: NDArray[np.uint8], embed: Embed) -> NDArray[np.float32] | None:
    try:
        return embed(pixels)
    except AcquisitionError:
        return None


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
