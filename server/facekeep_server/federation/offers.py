"""Offers in the state directory: `releases/NNNNN/offer.json` says whom a release is offered to, and what each answered."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import newest_release
from facekeep_server.federation.files import read_file, replace_file
from facekeep_server.federation.state import FederationState

ADOPTED: Final = "adopted"
_FILE: Final = "offer.json"


def request_offer(state: FederationState, to: Collection[int]) -> Path:
    """Have the newest release offered to these roster indices in the next run; those asked before stay asked.

    Raises:
        ServerError: "server.invalid_request" if there is no release.
    """
    newest = newest_release(state)
    if newest is None:
        raise ServerError("server.invalid_request", "There is no release to offer.")
    before = _read(newest[1])
    return _write(newest[1], {"to": sorted({*before["to"], *to}), "answers": before["answers"]})


def answers_of(folder: Path) -> dict[int, str]:
    """Return what each device answered to the release of a directory: roster index -> "adopted" or a code."""
    return {int(index): str(answer) for index, answer in _read(folder)["answers"].items()}


def open_offer(state: FederationState) -> tuple[Path, str, list[int]] | None:
    """Return directory and digest of the newest release and who is still to be asked, or None if nobody is."""
    newest = newest_release(state)
    if newest is None:
        return None
    found = _read(newest[1])
    waiting = [index for index in found["to"] if str(index) not in found["answers"]]
    return (newest[1], newest[0].digest, waiting) if waiting else None


def keep_answer(folder: Path, index: int, answer: str) -> None:
    """Write what a device answered."""
    found = _read(folder)
    found["answers"][str(index)] = answer
    _write(folder, found)


def forget_answers(folder: Path, of: Collection[int]) -> None:
    """Have these devices asked anew."""
    if (folder / _FILE).is_file():
        found = _read(folder)
        _write(folder, found | {"answers": {index: answer for index, answer in found["answers"].items() if int(index) not in of}})


def _read(folder: Path) -> dict[str, Any]:
    """Return an offer: `to`, a list of roster indices, and `answers`, index as text -> "adopted" or a code."""
    path = folder / _FILE
    return dict(json.loads(read_file(path))) if path.is_file() else {"to": [], "answers": {}}


def _write(folder: Path, offer: dict[str, Any]) -> Path:
    path = folder / _FILE
    replace_file(path, (json.dumps(offer, indent=1) + "\n").encode())
    return path
