"""A folder of photographs as an album: who is on a picture is read from folder and file names, never from the picture."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from facekeep.biometric import Frame
from facekeep.capture import SUFFIXES
from facekeep.demo.album import Album, Limits, Person, Picture, cast_roles
from facekeep.errors import AcquisitionError, DemoError, VaultError
from facekeep.identifiers import require_subject_id

_OF_PERSON = re.compile(r".*_([A-Z]+)", re.DOTALL)
# The running number in front is required: DSC_0007.jpg does not promise seven faces.
_OF_COUNT = re.compile(r".*_\d+_(0|[1-9]\d?)", re.DOTALL | re.ASCII)

LAYOUTS: Final = (
    "Make one sub-folder per person (alice/1.jpg, alice/2.jpg, bob/1.jpg), or put the files into one folder with names "
    "that end in _CAPITALS for a person (holiday_001_A.jpg, holiday_002_ALICE.jpg; small letters name nobody) and in "
    "_number_count for a number of faces (party_002_5.jpg)."
)


def read_album(directory: Path, load: Callable[[Path], Frame], limits: Limits) -> Album:
    """Return the album of a folder; no picture is read yet.

    Args:
        directory: one sub-folder per person, or a flat folder whose file names tell (`LAYOUTS`), or both.
        load: reads one picture file.
        limits: how much of it to use.

    Raises:
        AcquisitionError: "acquisition.unreadable" if it is not a folder that can be read.
        DemoError: "demo.no_people" if nobody in it has a name.
    """
    try:
        inside = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
        folders = [path for path in inside if path.is_dir()]
        files = [path for path in inside if _is_picture(path)]
        in_folders = {folder: sorted(path for path in folder.iterdir() if _is_picture(path)) for folder in folders}
    except OSError as error:
        raise AcquisitionError(
            "acquisition.unreadable", f"{shown(str(directory))} is not a folder that can be read: {error.strerror}."
        ) from None

    remarks: list[str] = []
    named: dict[str, list[Picture]] = {}
    others: list[Picture] = []
    for folder, paths in in_folders.items():
        if not paths:
            continue
        label = _label(folder.name, len(named) + 1, remarks)
        for path in paths:
            is_told = path.name.startswith(folder.name)
            name = shown(path.name) if is_told else f"{shown(folder.name)}/{shown(path.name)}"
            named.setdefault(label, []).append(Picture(name, _loader(load, path), person=label))
    for path in files:
        name, person, count = shown(path.name), _OF_PERSON.fullmatch(path.stem), _OF_COUNT.fullmatch(path.stem)
        if person is not None:
            named.setdefault(person[1], []).append(Picture(name, _loader(load, path), person=person[1]))
        else:
            others.append(Picture(name, _loader(load, path), faces=int(count[1]) if count else None))
    if not named:
        raise DemoError("demo.no_people", f"No picture in {shown(str(directory))} says who is on it. {LAYOUTS}")
    return Album(
        "photos", shown(str(directory)), _cut_people(named, limits, remarks), _cut(others, limits, remarks), tuple(remarks)
    )


def shown(name: str) -> str:
    """Return a file name as text that can be written: bytes that are not UTF-8 and control characters are replaced."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "�" for character in text)


def _cut_people(named: dict[str, list[Picture]], limits: Limits, remarks: list[str]) -> tuple[Person, ...]:
    # Those with most pictures have most to show.
    labels = sorted(sorted(named), key=lambda label: -len(named[label]))[: limits.people]
    if len(labels) < len(named):
        remarks.append(f"{len(labels)} of {len(named)} people were used: those with the most pictures.")
    if any(len(named[label]) > limits.pictures for label in labels):
        remarks.append(f"Of each person the first {limits.pictures} pictures were used.")
    return cast_roles(tuple(Person(label, tuple(named[label][: limits.pictures])) for label in sorted(labels)))


def _cut(others: list[Picture], limits: Limits, remarks: list[str]) -> tuple[Picture, ...]:
    if len(others) > limits.others:
        remarks.append(f"{limits.others} of {len(others)} pictures without a person's name were used.")
    # Those whose number of faces is known come first: they can be checked.
    return tuple(sorted(others, key=lambda picture: picture.faces is None)[: limits.others])


def _label(name: str, number: int, remarks: list[str]) -> str:
    try:
        return require_subject_id(name)
    except VaultError:
        label = f"person {number}"
        remarks.append(f"The folder {shown(name)!r} cannot name a subject; the person in it is called {label}.")
        return label


def _loader(load: Callable[[Path], Frame], path: Path) -> Callable[[], Frame]:
    return lambda: load(path)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
