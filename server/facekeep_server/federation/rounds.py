"""Rounds in the state directory: planned here, driven from here, finished here.

rounds/NNNNN/plan         signed plan
            cohort        who is invited
            roster, head  the roster it was planned over: later admissions change nothing of it
            start.f32     numbers that training begins with, where the plan names them; start.json: the rounds behind them
            checkpoint    while it runs
            updates/      masked updates, until it is settled who is in the sum
            steps.json    what each step took
            update.f32    mean update, float32 little-endian, of a completed round
            report.json   the outcome; a round that has one is over
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from facekeep.audit import AuditEvent
from facekeep.canonical import parse_canonical
from facekeep.note import unsafe_note_text
from facekeep.protocol import Cohort, Roster, RoundPlan, SignedPlan
from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import PLANNER, key_name, load_policy
from facekeep_server.federation.files import make_directory, read_file, replace_file
from facekeep_server.federation.fleet import SignedRoster
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.state import FederationState
from facekeep_server.federation.trail import CoordinatorTrail
from facekeep_server.federation.updates import UpdatesOnDisk
from facekeep_server.rounds import Round, RoundReport, restore_round, save_round

if TYPE_CHECKING:
    # Not at run time: a machine that signs releases, or only looks at the state directory, needs no Flower.
    from facekeep_server.flower.conducting import StepFigures

START_FILE: Final = "start.f32"
_ONCE: Final = frozenset({"round.planned", "round.completed", "round.aborted"})
_ONCE_A_RELEASE: Final = frozenset({"release.published", "release.offered"})


@dataclass(frozen=True, slots=True)
class RoundDirectory:
    """The directory of one round.

    Attributes:
        path: where it is.
    """

    path: Path

    @property
    def is_planned(self) -> bool:
        """Whether the plan is whole: it is written last."""
        return (self.path / "plan").is_file()

    @property
    def is_over(self) -> bool:
        """Whether there is an outcome."""
        return (self.path / "report.json").is_file()

    def plan(self) -> RoundPlan:
        """Return the plan.

        Raises:
            TrustError: "trust.malformed". ServerError: "server.invalid_configuration" if there is none.
        """
        note = read_file(self.path / "plan").decode("utf-8", "replace")
        return RoundPlan.parse(unsafe_note_text(note))

    def keep_checkpoint(self, running: Round) -> None:
        """Write the checkpoint durably."""
        replace_file(self.path / "checkpoint", save_round(running))

    def keep_step(self, figures: StepFigures) -> None:
        """Write what a step took, in the place of what was written while it ran; a step taken up again counts from there."""
        steps = [step for step in self.steps() if step["step"] != figures.step]
        replace_file(self.path / "steps.json", (json.dumps([*steps, asdict(figures)], indent=1) + "\n").encode())

    def steps(self) -> list[dict[str, Any]]:
        """Return what each step took so far."""
        path = self.path / "steps.json"
        return list(json.loads(read_file(path))) if path.is_file() else []

    def keep_report(self, report: RoundReport) -> None:
        """Write the outcome durably, the update before the word that it is there; then destroy what is of no more use."""
        if report.update is not None:
            replace_file(self.path / "update.f32", report.update.astype("<f4").tobytes())
        replace_file(self.path / "report.json", (json.dumps(report.to_json(), indent=1) + "\n").encode())
        (self.path / "checkpoint").unlink(missing_ok=True)
        shutil.rmtree(self.path / "updates", ignore_errors=True)

    def report(self) -> dict[str, Any]:
        """Return the outcome.

        Raises:
            ServerError: "server.invalid_configuration" if there is none yet.
        """
        return dict(json.loads(read_file(self.path / "report.json")))

    def after(self) -> tuple[int, ...]:
        """Return the numbers of the rounds behind the numbers that it began with; none if it began at the model in use."""
        path = self.path / "start.json"
        return tuple(json.loads(read_file(path))["after"]) if path.is_file() else ()

    def update(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Return the mean update of a completed round, (P,) float32.

        Raises:
            ServerError: "server.invalid_configuration" if it was not completed.
        """
        return np.frombuffer(read_file(self.path / "update.f32"), "<f4").astype(np.float32)


def write_round(
    state: FederationState,
    plan: RoundPlan,
    cohort: Cohort,
    signed: SignedRoster,
    *,
    start: bytes = b"",
    after: Sequence[int] = (),
) -> RoundDirectory:
    """Sign a plan with the planner's key and keep it with its cohort and its roster.

    Args:
        state: of the federation.
        plan: what to sign.
        cohort: who is invited.
        signed: the roster it was planned over.
        start: numbers that the plan names by its setting `start`.
        after: numbers of the rounds that they come from.

    Raises:
        ServerError: "server.invalid_request" if there is a round of this number; "server.no_key".
    """
    found = round_directory(state, plan.round)
    if found.is_planned:
        raise ServerError("server.invalid_request", f"Round {plan.round} was planned already; numbers are never used again.")
    note = plan.sign(key_name(state.settings, PLANNER), load_signing_key(state.key_path(PLANNER)))
    make_directory(found.path)
    replace_file(found.path / "roster", signed.roster.to_bytes())
    replace_file(found.path / "head", signed.note.encode())
    replace_file(found.path / "cohort", cohort.to_bytes())
    if start:
        replace_file(found.path / START_FILE, start)
        replace_file(found.path / "start.json", (json.dumps({"after": sorted(after)}) + "\n").encode())
    replace_file(found.path / "plan", note.encode())
    return found


def round_directory(state: FederationState, number: int) -> RoundDirectory:
    """Return the directory of a round, there or not."""
    return RoundDirectory(state.round_folder(number))


def open_rounds(state: FederationState) -> list[int]:
    """Return the numbers of the rounds that were planned and are not over, in order."""
    found = ((number, round_directory(state, number)) for number in state.round_numbers)
    return [number for number, directory in found if directory.is_planned and not directory.is_over]


def load_round(state: FederationState, number: int, record: Callable[[AuditEvent], None], *, threads: int = 1) -> Round:
    """Return a planned round, as its checkpoint left it or at its beginning.

    Raises:
        TrustError, FederationError: if what is kept of it does not verify.
    """
    found = round_directory(state, number)
    planners = load_policy(state).planner_keys
    roster = Roster.parse(read_file(found.path / "roster"))
    options: dict[str, Any] = {"updates": UpdatesOnDisk(found.path / "updates"), "record": record, "threads": threads}
    if (found.path / START_FILE).is_file():
        options["start"] = read_file(found.path / START_FILE)
    if (found.path / "checkpoint").is_file():
        return restore_round(read_file(found.path / "checkpoint"), roster, planners, **options)
    signed = SignedPlan.open(read_file(found.path / "plan").decode("utf-8", "replace"), planners)
    note = read_file(found.path / "head").decode("utf-8", "replace")
    return Round.begin(signed, note, roster, Cohort.parse(read_file(found.path / "cohort")), **options)


def recorder(trail: CoordinatorTrail) -> Callable[[AuditEvent], None]:
    """Return what records events, those that happen once only once: a round or release taken up again tells them again."""
    told = {_once(parse_canonical(body)) for body in trail.entries}

    def record(event: AuditEvent) -> None:
        key = _once({"event": event.code, "details": dict(event.details)})
        if key is not None and key in told:
            return
        trail.record(event)
        told.add(key)

    return record


def _once(fields: dict[str, Any]) -> tuple[str, int, str] | None:
    if fields["event"] in _ONCE_A_RELEASE:
        return str(fields["event"]), int(fields["details"]["version"]), str(fields["details"]["release"])
    if fields["event"] not in _ONCE:
        return None
    return str(fields["event"]), int(fields["details"]["round"]), str(fields["details"]["plan"])
