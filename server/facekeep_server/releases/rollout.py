"""Whom a release is offered to: first to canary devices, to the rest when enough of them use it, to nobody once one went back.

    releases/NNNNN/note.canary     signed note while only canaries are offered it
                   note            once the whole fleet is: what `newest_release` finds, plans are based on and releases continue
                   note.withheld   once it is withheld
                   offer.json      whom it is offered to, and what each answered (`facekeep_server.federation.offers`)
                   rollout.json    who the canaries are, and when enough had adopted it
A device's answer to an offer is its word after its own self-test. Asked again after the soak time, one that went back says
"release.older": it refuses the version for good. The server never makes a device go back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from facekeep.audit import AuditEvent
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import CODES, ReleaseError
from facekeep.note import unsafe_note_text
from facekeep.protocol.release import ModelRelease
from facekeep_server.errors import ServerError
from facekeep_server.federation.files import read_file, replace_file
from facekeep_server.federation.offers import ADOPTED, answers_of, forget_answers
from facekeep_server.federation.state import FederationState

NOTE: Final = "note"
CANARY_NOTE: Final = "note.canary"
WITHHELD_NOTE: Final = "note.withheld"
_ROLLOUT: Final = "rollout.json"
# What a device says that tried the model and found it broken, or used it and went back.
_ALARMS: Final = frozenset({"release.failed_selftest", "release.older"})


@dataclass(frozen=True, slots=True)
class Rollout:
    """How a release is brought to the fleet.

    Attributes:
        canaries: roster indices that are offered it first.
        needed: how many of them have to use it before anybody else is offered it.
        soak_seconds: for how long, before they are asked once more.
        since: when enough of them used it, or "".
        asked_again: whether those answers are the ones after the soak.
    """

    canaries: tuple[int, ...] = ()
    needed: int = 0
    soak_seconds: int = 0
    since: str = ""
    asked_again: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.needed <= len(self.canaries) or (self.canaries and not self.needed) or self.soak_seconds < 0:
            raise ServerError("server.invalid_request", "As many canaries are needed as there are, at most, and one at least.")


@dataclass(frozen=True, slots=True)
class Judged:
    """What is to be done now.

    Attributes:
        verdict: "wait", "ask again", "fleet" or "withhold".
        code: why it is withheld, or "".
        rollout: as it stands now.
    """

    verdict: str
    code: str
    rollout: Rollout


def judge(rollout: Rollout, answers: Mapping[int, str], now: datetime) -> Judged:
    """Judge a canary stage by what the canaries answered. Pure.

    Args:
        rollout: how it stands.
        answers: roster index -> "adopted" or a code.
        now: the present instant.
    """
    given = [answers[index] for index in rollout.canaries if index in answers]
    alarms = [answer for answer in given if answer in _ALARMS]
    if alarms:
        return Judged("withhold", alarms[0], rollout)
    if sum(answer == ADOPTED for answer in given) < rollout.needed:
        return Judged("wait", "", rollout)
    if not rollout.soak_seconds or rollout.asked_again:
        return Judged("fleet", "", rollout)
    if not rollout.since:
        return Judged("wait", "", replace(rollout, since=to_rfc3339(now)))
    if now - parse_rfc3339(rollout.since) < timedelta(seconds=rollout.soak_seconds):
        return Judged("wait", "", rollout)
    return Judged("ask again", "", replace(rollout, asked_again=True))


def stage_of(folder: Path) -> str | None:
    """Return "canary", "fleet" or "withheld"; None for a directory in which no release is whole."""
    stages = {WITHHELD_NOTE: "withheld", NOTE: "fleet", CANARY_NOTE: "canary"}
    return next((stage for name, stage in stages.items() if (folder / name).is_file()), None)


def release_folders(state: FederationState) -> list[Path]:
    """Return the directories of all published releases, withheld ones too, in order of their versions."""
    folder = state.root / "releases"
    found = sorted(path for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []
    return [path for path in found if stage_of(path) is not None]


def read_release(folder: Path) -> ModelRelease:
    """Return the release of a directory, whatever its stage."""
    name = next(name for name in (WITHHELD_NOTE, NOTE, CANARY_NOTE) if (folder / name).is_file())
    return ModelRelease.parse(unsafe_note_text(read_file(folder / name).decode("utf-8", "replace")))


def read_rollout(folder: Path) -> Rollout:
    """Return how a release is brought to the fleet.

    Raises:
        ServerError: "server.invalid_configuration" if it cannot be read.
    """
    path = folder / _ROLLOUT
    if not path.is_file():
        return Rollout()
    try:
        fields = json.loads(read_file(path))
        return Rollout(**(fields | {"canaries": tuple(fields["canaries"])}))
    except (ValueError, KeyError, TypeError):
        raise ServerError("server.invalid_configuration", f"{path} is not of its form.") from None


def write_rollout(folder: Path, rollout: Rollout) -> None:
    """Keep how a release is brought to the fleet."""
    replace_file(folder / _ROLLOUT, (json.dumps(asdict(rollout), indent=1) + "\n").encode())


def canary_folder(state: FederationState) -> Path | None:
    """Return the directory of the release that is with its canaries, or None."""
    return next((folder for folder in reversed(release_folders(state)) if stage_of(folder) == "canary"), None)


def open_canary_offer(state: FederationState) -> tuple[Path, str, list[int]] | None:
    """Return directory and digest of the release that is with its canaries and those who are still to be asked; or None."""
    folder = canary_folder(state)
    if folder is None:
        return None
    answers = answers_of(folder)
    waiting = [index for index in read_rollout(folder).canaries if index not in answers]
    return (folder, read_release(folder).digest, waiting) if waiting else None


def advance(state: FederationState, now: datetime, record: Callable[[AuditEvent], None]) -> str:
    """Take a release on as far as its canaries' answers allow; return "", or what was decided.

    Called before and after offers are made: "ask again" leaves them open anew.
    """
    folder = canary_folder(state)
    if folder is None:
        return ""
    found = judge(read_rollout(folder), answers_of(folder), now)
    write_rollout(folder, found.rollout)
    if found.verdict == "withhold":
        error = ReleaseError(found.code, f"A canary device refused it: {found.code}.")
        withhold(state, folder, error, record)
    elif found.verdict == "ask again":
        forget_answers(folder, found.rollout.canaries)
    elif found.verdict == "fleet":
        record(offered(read_release(folder), found.rollout, answers_of(folder)))
        (folder / CANARY_NOTE).replace(folder / NOTE)
    return "" if found.verdict == "wait" else found.verdict


def withhold(state: FederationState, folder: Path, error: ReleaseError, record: Callable[[AuditEvent], None]) -> None:
    """Offer a release to nobody any more. Devices that use it go on until their operator rolls them back.

    Raises:
        ServerError: "server.invalid_request" if it is withheld already, or a later release continues it.
    """
    release, stage = read_release(folder), stage_of(folder)
    later = [path for path in release_folders(state) if path.name > folder.name and stage_of(path) != "withheld"]
    if stage == "withheld" or any(read_release(path).parent == release.digest for path in later):
        raise ServerError("server.invalid_request", "The release is withheld already, or a later one continues it.")
    record(withheld(state, release.version, release.parent, release.digest, error))
    (folder / (NOTE if stage == "fleet" else CANARY_NOTE)).replace(folder / WITHHELD_NOTE)


def require_code(code: str) -> str:
    """Return a code that a release can be withheld with.

    Raises:
        ServerError: "server.invalid_request".
    """
    if code not in CODES or not code.startswith("release."):
        raise ServerError("server.invalid_request", "A release is withheld with a code such as release.gate.")
    return code


def offered(release: ModelRelease, rollout: Rollout, answers: Mapping[int, str]) -> AuditEvent:
    """Return the entry that says that a release is for the whole fleet from now on, and how many canaries used it."""
    adopted = sum(answers.get(index) == ADOPTED for index in rollout.canaries)
    details: dict[str, str | int | bool] = {
        "federation": release.federation,
        "release": release.digest,
        "version": release.version,
        "canaries": len(rollout.canaries),
        "adopted": adopted,
    }
    return AuditEvent("release.offered", details=details)


def withheld(state: FederationState, version: int, parent: str | None, digest: str, error: ReleaseError) -> AuditEvent:
    """Return the entry that says that a candidate or a release was withheld, and why."""
    reason = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._:/+,- ") else " " for letter in error.args[0])
    details: dict[str, str | int | bool] = {
        "federation": state.settings.name,
        "release": digest,
        "version": version,
        "parent": parent or "",
        "reason": " ".join(reason.split())[:128],
    }
    return AuditEvent("release.withheld", error.code, details=details)
