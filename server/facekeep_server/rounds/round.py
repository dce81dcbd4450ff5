"""A round on the server: a state machine without IO. Bytes of replies in, bytes of messages out, a report at the end.

    PREPARE -> TRAIN -> CONFIRM -> UNMASK -> DONE, or ABORTED from any of them

The driver sends what `outbox` holds, hands every reply to `receive`, and calls `close_step` when the step is complete or its time
is up. It writes `to_bytes` durably after `begin` and after every `close_step`, before it sends anything of the next step: a round
that is restored then asks the same questions, and devices give the same answers (docs/formats/round.md).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.audit import AuditEvent
from facekeep.errors import FacekeepError, FederationError
from facekeep.privacy.accounting import spelled
from facekeep.protocol import AbandonRequest, Action, Cohort, Refusal, Roster, SignedPlan, topology_of
from facekeep.protocol.values import to_decimal
from facekeep.signing import key_fingerprint
from facekeep.tlog import NoteKey
from facekeep_server.rounds import asking, checking
from facekeep_server.rounds.closing import CLOSE
from facekeep_server.rounds.members import Member
from facekeep_server.rounds.report import GroupOutcome, RoundReport, name_fields
from facekeep_server.rounds.updates import MaskedUpdates, UpdatesInMemory


class Phase(StrEnum):
    """Where a round stands."""

    PREPARE = "prepare"
    TRAIN = "train"
    CONFIRM = "confirm"
    UNMASK = "unmask"
    DONE = "done"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to a device.

    Attributes:
        index: roster index of the device.
        action: what it is asked.
        body: the message.
    """

    index: int
    action: Action
    body: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a reply.

    Attributes:
        is_accepted: whether it counts.
        code: why not, or None.
    """

    is_accepted: bool
    code: str | None = None


_AFTER = {
    Phase.PREPARE: Phase.TRAIN,
    Phase.TRAIN: Phase.CONFIRM,
    Phase.CONFIRM: Phase.UNMASK,
    Phase.UNMASK: Phase.DONE,
}
Details = dict[str, str | int | bool]
EventSink = Callable[[AuditEvent], None]


class Round:
    """One round. Made by `begin`, or by `checkpoint.restore_round` from what `checkpoint.save_round` wrote.

    Attributes:
        phase: where it stands.
        report: the outcome, once it is done or aborted.
    """

    def __init__(
        self,
        signed: SignedPlan,
        roster_note: str,
        roster: Roster,
        cohort: Cohort,
        *,
        start: bytes = b"",
        updates: MaskedUpdates | None = None,
        record: EventSink = lambda event: None,
        threads: int = 1,
    ) -> None:
        plan, head = signed.plan, roster.head
        if (head.size, head.root.hex(), len(cohort), cohort.digest) != (
            plan.roster_size,
            plan.roster_root,
            plan.cohort_size,
            plan.cohort_digest,
        ):
            raise FederationError("federation.not_a_member", "The plan was made over another roster or another cohort.")
        if (hashlib.sha256(start).hexdigest() if start else None) != plan.start or len(start) not in (0, 4 * plan.length):
            raise FederationError("federation.malformed", "The numbers to begin with are not those that the plan names.")
        # Kept by whoever keeps the checkpoint: it names them by the plan that is in it.
        self.start = start
        self.signed, self.roster_note, self.roster, self.cohort = signed, roster_note, roster, cohort
        self.topology = topology_of(plan, signed.digest)
        self.updates: MaskedUpdates = UpdatesInMemory() if updates is None else updates
        self.record, self.threads = record, threads
        self.report: RoundReport | None = None
        self.members = [Member() for _ in range(len(cohort))]
        self.mask_keys: set[bytes] = set()
        # Who goes on after PREPARE, and after TRAIN: fixed when the step closes.
        self.takes_part: NDArray[np.bool_] = np.ones(len(cohort), dtype=bool)
        self.survivors: NDArray[np.bool_] = np.zeros(len(cohort), dtype=bool)
        self.sums = np.zeros((plan.groups, plan.size), dtype=np.uint32)
        self.suspects: set[int] = set()
        self.doubtful: set[int] = set()
        self.refusals: Counter[str] = Counter()
        self.groups: tuple[GroupOutcome, ...] = ()
        self.contributors = 0
        self.update: NDArray[np.float32] | None = None
        self.extras: Mapping[str, float] = {}
        self.enter(Phase.PREPARE)

    @classmethod
    def begin(cls, signed: SignedPlan, roster_note: str, roster: Roster, cohort: Cohort, **options: Any) -> Round:
        """Return a round at its beginning, and record that it was planned.

        Args:
            signed: the plan, signed by a planner.
            roster_note: head of the roster, signed by the authority.
            roster: all entries.
            cohort: who is invited.
            options: start (bytes, the numbers that the plan names by its setting `start`), updates, record, threads.

        Raises:
            FederationError: "federation.not_a_member" if they do not belong together; "federation.malformed" for another start.
        """
        found = cls(signed, roster_note, roster, cohort, **options)
        plan = signed.plan
        details: Details = {"kind": plan.kind.value, "level": plan.level.value, "cohort": plan.cohort_size, "minimum": plan.minimum}
        privacy: Details = {"epsilon": spelled(plan.epsilon), "delta": to_decimal(plan.delta)}
        found._event("round.planned", details | privacy)
        return found

    # What goes out

    def outbox(self) -> Iterator[Outgoing]:
        """Yield the messages of this step to everybody who has not answered, each made when it is asked for.

        After the end: word to everybody who prepared that the round is over.
        """
        indices = self.cohort.indices
        if self.phase in (Phase.PREPARE, Phase.TRAIN):
            make = asking.prepare_request if self.phase is Phase.PREPARE else asking.train_request
            for place in sorted(self._waiting):
                yield Outgoing(indices[place], Action(self.phase.value), make(self, place))
            return
        if self.phase is Phase.CONFIRM:
            body = asking.confirm_request(self)
            for place in sorted(self._waiting):
                yield Outgoing(indices[place], Action.CONFIRM, body)
            return
        if self.phase is Phase.UNMASK:
            for place, body in asking.unmask_requests(self, sorted(self._waiting)):
                yield Outgoing(indices[place], Action.UNMASK, body)
            return
        reason = "ok" if self.report is None or self.report.aborted is None else self.report.aborted
        body = AbandonRequest(self.signed.digest, reason).to_bytes()
        for place, member in enumerate(self.members):
            if member.announced is not None:
                yield Outgoing(indices[place], Action.ABANDON, body)

    @property
    def asked(self) -> int:
        """Number of devices that this step asks."""
        return len(self._asked)

    @property
    def answered(self) -> int:
        """Number of valid replies to this step."""
        return len(self._answered)

    @property
    def is_step_complete(self) -> bool:
        """Whether nothing more is worth waiting for: everybody answered or refused, or the quorum is there."""
        if self.phase is Phase.CONFIRM and self.answered >= self.signed.plan.quorum:
            return True
        return not self._waiting

    # What comes in

    def receive(self, index: int, action: str, body: bytes) -> Verdict:
        """Judge one reply before anything else is done with it; keep it if it is right. Never raises for what a device sent.

        Args:
            index: roster index of the device, as its introduction proved.
            action: what it was asked.
            body: the reply, or a refusal.
        """
        if action == Action.ABANDON:
            return Verdict(is_accepted=True)
        place, is_offence = self.cohort.place_of.get(index), False
        try:
            if Refusal.is_refusal(body):
                code = Refusal.parse(body).code
            elif place is None:
                raise FederationError("federation.not_a_member", "The reply comes from a device that was not invited.")
            elif action != self.phase or place not in self._asked or place in self._answered:
                # Late, stale, or sent twice: what the first reply settled stays.
                raise FederationError("federation.wrong_step", "Nobody asked for this, or it was answered.")
            else:
                checking.take_reply(self, place, Action(action), body)
                self._answered.add(place)
                self._waiting.discard(place)
                return Verdict(is_accepted=True)
        except OSError:
            # A full disk here is no fault of the device: its reply does not count, and the round goes on without.
            code = "federation.aborted"
        except FacekeepError as error:
            code, is_offence = error.code, error.code != "federation.wrong_step"
        self._note_refusal(index, place, action, code, is_offence=is_offence)
        return Verdict(is_accepted=False, code=code)

    def _note_refusal(self, index: int, place: int | None, action: str, code: str, *, is_offence: bool) -> None:
        self.refusals[code] += 1
        if place is not None and action == self.phase and place in self._waiting:
            self._waiting.discard(place)
            if is_offence:
                self.suspects.add(place)
        known = 0 <= index < len(self.roster)
        device = key_fingerprint(self.roster.entries[index].device_key) if known else "unknown"
        step = action if action in set(Action) else "unknown"
        details: Details = {
            "federation": self.signed.plan.federation,
            "round": self.signed.plan.round,
            "step": step,
            "device": device,
        }
        self.record(AuditEvent("reply.refused", code, details=details))

    # Steps

    def close_step(self, now: datetime) -> Phase:
        """Go on to the next step with those who answered, or abort, and return where the round stands then.

        Args:
            now: the present instant.
        """
        if self.has_ended:
            return self.phase
        code = "federation.expired" if now >= self.signed.plan.deadline else CLOSE[Action(self.phase.value)](self)
        if code is not None:
            return self.abort(code)
        self.enter(_AFTER[self.phase])
        if self.phase is Phase.DONE:
            self._finish(Phase.UNMASK, None)
        return self.phase

    @property
    def has_ended(self) -> bool:
        """Whether there is a report."""
        return self.phase in (Phase.DONE, Phase.ABORTED)

    def abort(self, code: str) -> Phase:
        """End the round; nothing more of it is opened.

        Args:
            code: one of the known codes: why.
        """
        if not self.has_ended:
            step = self.phase
            self.update = None
            self.enter(Phase.ABORTED)
            self._finish(step, code)
        return self.phase

    def enter(self, phase: Phase) -> None:
        """Begin a step: who is asked, who has answered already. For a round that is restored, too."""
        self.phase = phase
        members, everybody = self.members, range(len(self.members))
        self.mask_keys = {member.announced.mask_key for member in members if member.announced is not None}
        asked: Iterable[int] = ()
        if phase is Phase.PREPARE:
            asked = everybody
        elif phase is Phase.TRAIN:
            asked = np.flatnonzero(self.takes_part).tolist()
        elif phase is Phase.CONFIRM:
            asked = [place for place in self.topology.committee if self.takes_part[place]]
        elif phase is Phase.UNMASK:
            # Not before: until the checkpoint of CONFIRM is written, TRAIN may have to be closed again.
            self.updates.clear()
            asked = np.flatnonzero(self.survivors).tolist()
        self._asked = frozenset(asked)
        self._answered = {place for place in self._asked if members[place].has_answered(phase.value)}
        self._waiting = set(self._asked - self._answered)

    def _finish(self, step: Phase, code: str | None) -> None:
        self.updates.clear()
        begun = sum(member.announced is not None for member in self.members)
        prepared = begun if step is Phase.PREPARE else int(self.takes_part.sum())
        survivors = int(self.survivors.sum())
        self.report = RoundReport(
            **name_fields(self.signed.plan, self.signed.digest),
            prepared=prepared,
            survivors=survivors,
            contributors=self.contributors if code is None else 0,
            groups=self.groups,
            update=self.update,
            extras=self.extras,
            suspects=tuple(sorted(self.cohort.indices[place] for place in self.suspects)),
            doubtful=tuple(sorted(self.cohort.indices[place] for place in self.doubtful)),
            refusals=dict(sorted(self.refusals.items())),
            aborted=code,
        )
        counts: Details = {"prepared": prepared, "survivors": survivors}
        if code is None:
            result = hashlib.sha256(b"" if self.update is None else self.update.astype("<f4").tobytes()).hexdigest()
            ended: Details = {"cohort": len(self.members), "suspects": len(self.suspects), "result": result}
            self._event("round.completed", ended | counts)
        else:
            self._event("round.aborted", counts | {"step": step.value}, code)

    def _event(self, code: str, details: Details, outcome: str = "ok") -> None:
        plan = self.signed.plan
        named: Details = {"federation": plan.federation, "round": plan.round, "plan": self.signed.digest.hex()}
        self.record(AuditEvent(code, outcome, details=named | details))

    # Between two processes

    def to_bytes(self) -> bytes:
        """Return the checkpoint of a round that runs (`checkpoint.save_round`)."""
        from facekeep_server.rounds.checkpoint import save_round

        return save_round(self)

    @classmethod
    def parse(cls, data: bytes, roster: Roster, planners: Sequence[NoteKey], **options: Any) -> Round:
        """Return the round of a checkpoint (`checkpoint.restore_round`)."""
        from facekeep_server.rounds.checkpoint import restore_round

        return restore_round(data, roster, planners, **options)
