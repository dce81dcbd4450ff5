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

_FILE: Final = "offer.json"


def request_offer(state: FederationState, to: Collection[int]) -> Path:
    """Have the newest release offered to these roster indices in the next run; those asked before stay asked.

    Raises:
        ServerError: "server.invalid_request" if there is no release.
    """
    newest = newest_release(state)
    if newest is None:
        raise ServerError("server.invalid_request", "There is no release to offer.")
    path = newest[1] / _FILE
    before = read_offer(path)
    value = {"to": sorted({*before["to"], *to}), "answers": before["answers"]}
    replace_file(path, (json.dumps(value, indent=1) + "\n").encode())
    return path


def read_offer(path: Path) -> dict[str, Any]:
    """Return an offer: `to`, a list of roster indices, and `answers`, index as text -> "adopted" or a code."""
    return dict(json.loads(read_file(path))) if path.is_file() else {"to": [], "answers": {}}


def open_offer(state: FederationState) -> tuple[Path, str, list[int]] | None:
    """Return directory and digest of the newest release and who is still to be asked, or None if nobody is."""
    newest = newest_release(state)
    if newest is None:
        return None
    found = read_offer(newest[1] / _FILE)
    waiting = [index for index in found["to"] if str(index) not in found["answers"]]
    return (newest[1], newest[0].digest, waiting) if waiting else None


def keep_answer(folder: Path, index: int, answer: str) -> None:
    """Write what a device answered."""
    found = read_offer(folder / _FILE)
    found["answers"][str(index)] = answer
    replace_file(folder / _FILE, (json.dumps(found, indent=1) + "\n").encode())
