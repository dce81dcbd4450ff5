"""A round from its plan to its report: the IO-free `Round`, carried over a Grid, with a checkpoint after every step.

Steps:
    1 meet: wait until every invited device is there, or the time for it is over; too few of them end the round
    2 send what the round wants said, to those who are there; who comes later in PREPARE is sent it then
    3 hand each reply to the round, which judges it before anything else
    4 close the step when it is complete or its time is over
    5 write the checkpoint, before anything of the next step is sent
    6 keep the report; only then tell the devices that it is over
Killed between any two of these and started again, the same questions are asked and the same answers come: the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from facekeep.clock import Clock
from facekeep.protocol import Action
from facekeep_server.federation.patience import Patience
from facekeep_server.flower.carrier import Carrier, Letter
from facekeep_server.flower.meeting import Meeting
from facekeep_server.rounds import Phase, Round, RoundReport

_FAREWELL_SECONDS = 30


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What a step took.

    Attributes:
        step: its name.
        asked: devices asked.
        answered: valid replies.
        refused: replies refused, and refusals.
        seconds: how long it took.
        sent: bytes to devices.
        received: bytes from devices.
        resent: letters sent again.
    """

    step: str
    asked: int
    answered: int
    refused: int
    seconds: float
    sent: int
    received: int
    resent: int


class RoundFolder(Protocol):
    """Where a round is kept."""

    def keep_checkpoint(self, running: Round) -> None:
        """Write the checkpoint durably."""
        ...

    def keep_step(self, figures: StepFigures) -> None:
        """Write what a step took; also while it runs."""
        ...

    def keep_report(self, report: RoundReport) -> None:
        """Write the report durably; the checkpoint is of no use from then on."""
        ...


class Conductor:
    """Conducts rounds over one Grid.

    Args:
        carrier: to the nodes.
        meeting: who is which device.
        clock: tells the time.
        patience: how long for what.
        say: shows a line of progress.
    """

    def __init__(
        self, carrier: Carrier, meeting: Meeting, clock: Clock, patience: Patience, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._carrier, self._meeting, self._clock, self._patience, self._say = carrier, meeting, clock, patience, say

    def conduct(self, running: Round, folder: RoundFolder) -> RoundReport:
        """Return the report of a round that has just begun or was restored."""
        number = running.signed.plan.round
        folder.keep_checkpoint(running)
        if not running.has_ended and not self._meet(running):
            running.abort("federation.cohort_too_small")
        while not running.has_ended:
            step = self._step(running, folder)
            # 4 close
            running.close_step(self._clock.now())
            told = f"{step.step} took {step.seconds:.1f} s, {step.answered} of {step.asked} answered"
            self._say(f"round {number}: {told}, then {running.phase}")
            if not running.has_ended:
                # 5 checkpoint
                folder.keep_checkpoint(running)
        report = running.report
        if report is None:
            raise AssertionError("a round that ended has a report")
        # 6 report, then farewell
        folder.keep_report(report)
        self._take_leave(running)
        return report

    def _meet(self, running: Round) -> bool:
        """1: return whether enough of the invited devices are there."""
        plan = running.signed.plan
        until = min(self._clock.now() + timedelta(seconds=self._patience.meeting_seconds), plan.deadline)
        invited = set(running.cohort.indices)
        shown = -1

        def look(there: int) -> None:
            nonlocal shown
            if there != shown:
                shown = there
                asked = f"{there} of {len(invited)} invited devices are there"
                self._say(f"round {plan.round}: {asked}, at least {plan.minimum} have to be")

        return self._meeting.gather(invited, until, look) or shown >= plan.minimum

    def _step(self, running: Round, folder: RoundFolder) -> StepFigures:
        plan, phase = running.signed.plan, running.phase
        began, traffic = self._clock.now(), self._carrier.traffic
        before = (traffic.sent, traffic.received, traffic.resent)
        until = min(began + timedelta(seconds=self._patience.step_seconds), plan.deadline)
        index_of: dict[int, int] = {}
        refused = 0
        letters = list(self._letters(running, index_of))
        asked = running.asked

        def figures() -> StepFigures:
            passed = (self._clock.now() - began).total_seconds()
            sent, received, resent = traffic.sent - before[0], traffic.received - before[1], traffic.resent - before[2]
            return StepFigures(phase.value, asked, running.answered, refused, passed, sent, received, resent)

        def newcomers() -> list[Letter]:
            if phase is not Phase.PREPARE:
                return []
            # Asked who they are in the same breath: nobody waits for a node that takes its time.
            return [*self._meeting.ask(), *self._letters(running, index_of)]

        shown = began
        if phase is Phase.PREPARE:
            self._meeting.forget_silent()
        # 2 send
        for letter, body in self._carrier.carry(letters, until, is_enough=lambda: running.is_step_complete, more=newcomers):
            if letter.action == Action.HELLO.value:
                self._meeting.hear(letter, body)
                continue
            # 3 judge
            verdict = running.receive(index_of[letter.node], letter.action, body)
            refused += not verdict.is_accepted
            if self._clock.now() - shown >= timedelta(seconds=self._patience.shown_seconds):
                shown = self._clock.now()
                self._show(running, figures(), until)
                folder.keep_step(figures())
            if running.is_step_complete:
                break
        folder.keep_step(figures())
        return figures()

    def _letters(self, running: Round, index_of: dict[int, int]) -> Iterator[Letter]:
        """Yield what the step wants said to those who are there, and were not sent it yet."""
        node_of = self._meeting.node_of
        for outgoing in running.outbox():
            node = node_of.get(outgoing.index)
            if node is not None and node not in index_of:
                index_of[node] = outgoing.index
                yield Letter(node, outgoing.action.value, outgoing.body)

    def _take_leave(self, running: Round) -> None:
        letters = list(self._letters(running, {}))
        until: datetime = self._clock.now() + timedelta(seconds=_FAREWELL_SECONDS)
        for _ in self._carrier.carry(letters, until):
            pass

    def _show(self, running: Round, step: StepFigures, until: datetime) -> None:
        left = max(0.0, (until - self._clock.now()).total_seconds())
        self._say(
            f"round {running.signed.plan.round}: {step.step}, {step.answered} of {step.asked} answered, {step.refused} refused, "
            f"{left:.0f} s left"
        )
