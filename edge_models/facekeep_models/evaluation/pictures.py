"""Pictures of people on a disk: one folder for each person, or those that a file of pairs names; and drawn ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from facekeep.biometric import Frame
from facekeep.capture import SUFFIXES, as_frame
from facekeep.clock import SystemClock
from facekeep_models.evaluation.comparisons import Pair
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.pairing import ListedPair, ListedPicture
from facekeep_models.simulation import DrawnPerson, draw_frame

# Takes no part: the same file stands under another name already, so one of the two names is wrong.
NOBODY: Final = -1
_DRAWINGS_EACH: Final = 3
_DRAWING_SIZE: Final = (240, 320)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a data set.

    Attributes:
        name: stable within the set.
        person: whom it is of, or `NOBODY`.
        load: how to get it.
        fingerprint: changes when its content does; may be empty where it cannot change.
    """

    name: str
    person: int
    load: Callable[[], Frame]
    fingerprint: str = ""


def pictures_of_directory(directory: Path) -> list[Picture]:
    """Return the pictures of DIR/<person>/<file>, by name.

    Errors that the names alone give away are mended, since at the strictest thresholds they are most of what is left: names of
    the same words in another order ("Nan_Wang", "Wang_Nan") are one person, a file that stands under two names counts once.

    Raises:
        EvaluationError: "evaluation.no_pictures", "evaluation.io".
    """
    pictures: list[Picture] = []
    known: dict[tuple[str, ...], int] = {}
    seen: set[str] = set()
    try:
        for home in sorted(path for path in directory.iterdir() if path.is_dir() and path.name[0] != "."):
            person = known.setdefault(tuple(sorted(re.split("[_-]", home.name.lower()))), len(known))
            for path in _pictures_in(home):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                owner = NOBODY if digest in seen else person
                pictures.append(Picture(f"{home.name}/{path.name}", owner, _reader(path), digest))
                seen.add(digest)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_pictures() from None
    except OSError as error:
        raise _refused("the directory of pictures", error) from None
    if not pictures:
        raise _no_pictures()
    return pictures


def pictures_of_pairs(directory: Path, listed: Sequence[ListedPair]) -> tuple[list[Picture], tuple[Pair, ...]]:
    """Return the pictures that listed pairs name, each once, and the pairs of them.

    Every name is taken as it stands: a protocol is followed, not mended. "Ann_Lee" 2 is the file Ann_Lee_0002 of any suffix in
    the folder Ann_Lee.

    Raises:
        EvaluationError: "evaluation.missing_picture" with the number of the line; "evaluation.no_pictures", "evaluation.io".
    """
    if not directory.is_dir():
        raise _no_pictures()
    homes: dict[str, dict[str, Path]] = {}
    people: dict[str, int] = {}
    indices: dict[ListedPicture, int] = {}
    pictures: list[Picture] = []

    def index_of(picture: ListedPicture, line: int) -> int:
        if picture not in indices:
            home = directory / picture.person
            if picture.person not in homes:
                homes[picture.person] = {path.stem: path for path in _pictures_in(home)} if home.is_dir() else {}
            path = homes[picture.person].get(f"{picture.person}_{picture.number:04d}")
            if path is None:
                raise EvaluationError(
                    "evaluation.missing_picture",
                    f"Line {line} of the file of pairs names a picture that is not in the directory. "
                    "Expected is <name>/<name>_<number, four digits>.jpg.",
                )
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            indices[picture] = len(pictures)
            person = people.setdefault(picture.person, len(people))
            pictures.append(Picture(f"{home.name}/{path.name}", person, _reader(path), digest))
        return indices[picture]

    try:
        pairs = tuple(
            Pair(index_of(one.reference, one.line), index_of(one.probe, one.line), one.is_mated, one.fold) for one in listed
        )
    except OSError as error:
        raise _refused("a picture", error) from None
    return pictures, pairs


def drawn_pictures(people: int) -> list[Picture]:
    """Return drawings of people who do not exist."""
    return [
        Picture(f"drawn/{seed}/{variation}", seed, _drawer(seed, variation))
        for seed in range(people)
        for variation in range(_DRAWINGS_EACH)
    ]


def some_of(pictures: Sequence[Picture], *, most_of_each: int, people: int | None) -> list[Picture]:
    """Return the pictures of at most so many people, evenly over the list, and of each at most so many; none of `NOBODY`.

    People are numbered anew from 0.
    """
    owners = sorted({picture.person for picture in pictures} - {NOBODY})
    if people is not None and len(owners) > people:
        owners = [owners[index * len(owners) // people] for index in range(people)]
    number = {owner: index for index, owner in enumerate(owners)}
    counts = dict.fromkeys(owners, 0)
    kept: list[Picture] = []
    for picture in pictures:
        if picture.person in number and counts[picture.person] < most_of_each:
            counts[picture.person] += 1
            kept.append(Picture(picture.name, number[picture.person], picture.load, picture.fingerprint))
    return kept


def _pictures_in(home: Path) -> list[Path]:
    return sorted(path for path in home.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")


def _reader(path: Path) -> Callable[[], Frame]:
    return lambda: as_frame(path, SystemClock())


def _drawer(seed: int, variation: int) -> Callable[[], Frame]:
    return lambda: Frame(draw_frame(DrawnPerson(seed), variation, _DRAWING_SIZE).pixels, datetime(2026, 1, 1, tzinfo=UTC))


def _no_pictures() -> EvaluationError:
    return EvaluationError(
        "evaluation.no_pictures", f"A directory with one folder of pictures ({', '.join(SUFFIXES)}) for each person is expected."
    )


def _refused(what: str, error: OSError) -> EvaluationError:
    return EvaluationError("evaluation.io", f"{what.capitalize()} cannot be read: {error.strerror or type(error).__name__}.")
