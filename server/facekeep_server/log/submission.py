"""A batch of a device's trail, on its way into the log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from facekeep.audit.entry import HeadEntry, TrailBatch, TrailEntry, first_sequence, verify_batch
from facekeep.audit.trail import TrailHead, open_head
from facekeep.errors import AuditError
from facekeep.merkle import leaf_hash
from facekeep_server.errors import OutOfSequenceError, ServerError
from facekeep_server.log.transaction import HEAD_LINE, TRAIL_LINE, LogTransaction


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a batch.

    Attributes:
        first: number in the device's trail of the first line.
        numbers: number in the log of each trail line, and of the head last.
        expected: number in the trail that the device submits next.
        fresh: how many lines were not in the log before.
    """

    first: int
    numbers: tuple[int, ...]
    expected: int
    fresh: int


class Submission:
    """The job of one batch. Sent again it gives the same answer: what is in the log already is found there.

    Args:
        batch: as parsed; nothing of it is believed yet.
        clock_window: how much later than the server's clock an entry may be dated.
    """

    def __init__(self, batch: TrailBatch, clock_window: timedelta) -> None:
        self._batch, self._window = batch, clock_window
        self._first = first_sequence(batch)
        self._head = HeadEntry(batch.device, batch.note)
        self._entries = [TrailEntry(batch.device, body) for body in batch.bodies]
        self._lines = [entry.to_bytes() for entry in self._entries]
        # Worked out by the thread of the request, before the log is held: the state it was verified against and what it led to.
        self._verified: tuple[TrailHead, TrailHead] | None = None

    @property
    def lines(self) -> int:
        """Number of entries, the head included."""
        return len(self._lines) + 1

    def verify_ahead(self, public_key: bytes, trail: TrailHead) -> None:
        """Verify against where the trail stood a moment ago, if the batch begins there: the log need not be held for that."""
        if self._first == trail.size:
            self._verified = (trail, verify_batch(trail, self._batch, public_key))

    def apply(self, log: LogTransaction) -> Submitted:
        """Check the batch against what is in the log and append what is not.

        Raises:
            AuditError: what `verify_batch` finds.
            ServerError: "device.revoked", "submission.equivocation".
        """
        device = log.device(self._batch.device)
        if device is None or device.revoked:
            raise ServerError("device.revoked", "The device is not, or no longer, enrolled.")
        trail = device.trail
        if self._first > trail.size:
            raise OutOfSequenceError("Entries are missing before the first one of the batch. Send them first.", trail.size)
        known = min(trail.size - self._first, len(self._lines))
        if known:
            # Before anything is compared: whoever is accused of two histories must have signed both.
            open_head(self._batch.note, device.public_key)
            numbers = self._require_same(log, known)
            if known == len(self._lines):
                return self._found_whole(log, numbers, trail.size)
        else:
            numbers = []
        after = self._verify(device.public_key, trail, known, log)
        fresh = log.append_trail(self._entries[known:], self._lines[known:], self._head, after)
        return Submitted(self._first, (*numbers, *fresh), after.size, len(fresh))

    def _verify(self, public_key: bytes, trail: TrailHead, known: int, log: LogTransaction) -> TrailHead:
        latest = log.now + self._window
        if self._verified is not None and not known and self._verified[0] == trail:
            after = self._verified[1]
            if after.last_time is not None and after.last_time > latest:
                raise AuditError("audit.from_the_future", "An entry is dated later than the server's clock allows; check both.")
            return after
        rest = TrailBatch(self._batch.device, self._batch.bodies[known:], self._batch.note)
        return verify_batch(trail, rest, public_key, latest=latest)

    def _require_same(self, log: LogTransaction, known: int) -> list[int]:
        logged = log.logged(self._batch.device, TRAIL_LINE, self._first, known)
        leaves = [leaf_hash(line) for line in self._lines[:known]]
        if len(logged) != known:
            raise ServerError("server.corrupt", "The log lacks entries of this device that it counts.")
        for at, ((_, leaf), sent) in enumerate(zip(logged, leaves, strict=True)):
            if leaf != sent:
                self._accuse(log, self._first + at)
        return [number for number, _ in logged]

    def _found_whole(self, log: LogTransaction, numbers: list[int], expected: int) -> Submitted:
        end = self._first + len(self._lines)
        heads = log.logged(self._batch.device, HEAD_LINE, end, 1)
        if not heads:
            raise OutOfSequenceError("These entries are in the log, under a later head. Send what comes after.", expected)
        if heads[0][1] != leaf_hash(self._head.to_bytes()):
            self._accuse(log, end)
        return Submitted(self._first, (*numbers, heads[0][0]), expected, 0)

    def _accuse(self, log: LogTransaction, place: int) -> None:
        # Two signed histories of one device: both are kept, the second as evidence beside the log.
        log.record("submission.equivocation", self._batch.device, place, self._batch.to_bytes())
        raise ServerError(
            "submission.equivocation", "The log holds another entry of this device with the same number.", expected=place
        )
