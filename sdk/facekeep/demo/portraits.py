"""Two portraits in the public domain that come with other packages: strangers for the demo where those are installed.

matplotlib ships a portrait of Grace Hopper, scikit-image one of Eileen Collins. Neither package is imported, nothing is fetched:
the file is looked for where the package lies, and used only if it is the very file that is known.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame
from facekeep.demo.album import Person, Picture, Role

_LARGEST_BYTES: Final = 4 * 1024 * 1024
# What the second take keeps of the light.
_DARKER: Final = 0.55


@dataclass(frozen=True, slots=True)
class Portrait:
    """A file that comes with a package.

    Attributes:
        name: who is on it.
        source: where it is from, in words.
        package: name by which Python finds the package.
        path: the file below the package.
        sha256: its hash; another file says nothing about who is on it.
    """

    name: str
    source: str
    package: str
    path: tuple[str, ...]
    sha256: str


# matplotlib 3.9 to 3.11: photograph of the United States Navy. scikit-image 0.24 to 0.26: photograph of NASA,
# https://flic.kr/p/r9qvLn, hash as in skimage/data/_registry.py.
PORTRAITS: Final = (
    Portrait(
        "Grace Hopper",
        "photograph of the United States Navy, public domain, shipped with matplotlib",
        "matplotlib",
        ("mpl-data", "sample_data", "grace_hopper.jpg"),
        "a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
    ),
    Portrait(
        "Eileen Collins",
        "photograph of NASA, public domain, shipped with scikit-image",
        "skimage",
        ("data", "astronaut.png"),
        "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    ),
)


def find_portrait(portrait: Portrait) -> Path | None:
    """Return where the file of a portrait is, or None where its package is absent or ships another file."""
    try:
        # Of a top-level package this reads the path only: nothing of it runs.
        spec = importlib.util.find_spec(portrait.package)
        for location in (spec.submodule_search_locations or ()) if spec else ():
            path = Path(location, *portrait.path)
            if path.is_file() and path.stat().st_size <= _LARGEST_BYTES:
                return path if hashlib.sha256(path.read_bytes()).hexdigest() == portrait.sha256 else None
    except (ImportError, ValueError, OSError):
        return None
    return None


def portrait_people(read: Callable[[Path], Frame]) -> tuple[Person, ...]:
    """Return a stranger for each portrait that is on this machine, with two pictures: as it is, and altered by the demo.

    Args:
        read: reads a picture file as the device does.
    """
    people = []
    for portrait in PORTRAITS:
        path = find_portrait(portrait)
        if path is not None:
            pictures = (
                Picture(f"{portrait.name}, portrait", _loader(read, path), person=portrait.name, faces=1),
                Picture(
                    f"{portrait.name}, altered by the demo: mirrored, darker",
                    _loader(read, path, is_altered=True),
                    person=portrait.name,
                    faces=1,
                ),
            )
            people.append(Person(portrait.name, pictures, Role.STRANGER))
    return tuple(people)


def sources_of(people: tuple[Person, ...]) -> tuple[str, ...]:
    """Return where the portraits of these people come from, in words."""
    labels = {person.label for person in people}
    return tuple(f"{portrait.name} ({portrait.source})" for portrait in PORTRAITS if portrait.name in labels)


def altered(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8, mirrored and darker."""
    return np.ascontiguousarray(np.rint(pixels[:, ::-1] * np.float32(_DARKER)).astype(np.uint8))


def _loader(read: Callable[[Path], Frame], path: Path, *, is_altered: bool = False) -> Callable[[], Frame]:
    def load() -> Frame:
        frame = read(path)
        return Frame(altered(frame.pixels), frame.captured_at) if is_altered else frame

    return load
