"""The log has its checkpoints cosigned, and publishes those that enough witnesses have seen.

Steps of a round:
1 take the committed head and sign it; a head that was published already and is fresh needs nothing
2 ask every witness that is due, all at once: each says where it stands and gets the proof from there
3 write down what each said; a witness that has seen another log, or a longer one, is an incident
4 publish as soon as the quorum is reached; cosignatures that come later are added
What is published never gets shorter. A log that stands still is cosigned again from time to time, so that its age can be judged.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from facekeep.clock import Clock
from facekeep.errors import FacekeepError, LogError
from facekeep.note import Checkpoint
from facekeep.submission import WitnessAnswer, ask_witness
from facekeep.tlog import SignedNote, TrustPolicy
from facekeep.tlog.notes import SignatureLine
from facekeep_server.log.keys import LogKeys
from facekeep_server.log.published import PublishedHeads, Witnessed
from facekeep_server.log.reading import LogReader
from facekeep_server.metrics import Metrics

_LOG = logging.getLogger("facekeep_server.log")
_MOST_AT_ONCE: Final = 16
_LONGEST_PAUSE: Final = timedelta(minutes=5)
_CONTRADICTIONS: Final = frozenset({"log.fork", "log.stale"})


@dataclass(slots=True)
class _Standing:
    """What this process remembers of a witness."""

    size: int = 0
    failures: int = 0
    due: datetime | None = None


class Cosigning:
    """A thread that asks witnesses.

    Args:
        heads: what is published.
        reader: the log.
        keys: the log's own.
        clock: now.
        policy: witnesses with their addresses, and the quorum.
        metrics: counts answers.
        every_seconds: pause between two rounds.
        refresh: how old a cosignature may be before an unchanged head is cosigned again.
        timeout_seconds: for each request.
    """

    def __init__(
        self,
        heads: PublishedHeads,
        reader: LogReader,
        keys: LogKeys,
        clock: Clock,
        policy: TrustPolicy,
        metrics: Metrics,
        *,
        every_seconds: float,
        refresh: timedelta,
        timeout_seconds: float,
    ) -> None:
        self._heads, self._reader, self._keys, self._clock = heads, reader, keys, clock
        self._policy, self._metrics = policy, metrics
        self._every, self._refresh, self._timeout = every_seconds, refresh, timeout_seconds
        self._standings = {name: _Standing() for name in policy.urls}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cosigning", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask nobody any more. A request under way is left to its timeout: nothing depends on it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(self._every + 1)

    def run_once(self) -> None:
        """Make one round.

        Raises:
            FacekeepError: where store or keys fail; the next round tries again.
        """
        # 1 the head
        now = self._clock.now()
        checkpoint, text = self._reader.checkpoint()
        if checkpoint.size == 0:
            return
        note = SignedNote.parse(text)
        published = self._heads.find()
        if published is not None:
            self._metrics.published.set(published.size)
        if published is not None and SignedNote.parse(published.note).text == note.text:
            # Kept: a witness that is away for this round still counts for this head.
            note = note.with_signatures(*self._cosignatures(published.note))
            if set(note.signatures) == set(SignedNote.parse(published.note).signatures) and not self._missing(note, now):
                return
        # 2 ask
        with ThreadPoolExecutor(_MOST_AT_ONCE, "witness") as pool:
            asked: dict[Future[WitnessAnswer], str] = {
                pool.submit(self._ask, name, note, checkpoint): name for name in self._missing(note, now) if self._is_due(name, now)
            }
            self._publish(note, checkpoint)
            for future in as_completed(asked):
                answer = future.result()
                # 3 write down
                self._note(asked[future], answer)
                # 4 publish
                if answer.line is not None:
                    note = _with_newest(note, answer)
                    self._publish(note, checkpoint)

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            try:
                self.run_once()
            except FacekeepError as error:
                _LOG.warning("witnesses.round_failed", extra={"code": error.code})
            except Exception as error:  # noqa: BLE001 - the thread must live on
                _LOG.error("witnesses.round_failed", extra={"code": "server.internal", "error": type(error).__name__})

    def _ask(self, name: str, note: SignedNote, checkpoint: Checkpoint) -> WitnessAnswer:
        old = min(self._standings[name].size, checkpoint.size)
        try:
            return ask_witness(
                self._policy.urls[name],
                self._policy.witnesses[name],
                note.to_text(),
                checkpoint.size,
                note.text,
                self._reader.consistency,
                old=old,
                timeout_seconds=self._timeout,
            )
        except FacekeepError as error:
            return WitnessAnswer(None, error.code, old)

    def _missing(self, note: SignedNote, now: datetime) -> list[str]:
        """The witnesses whose cosignature the note lacks, or has from too long ago."""
        found = self._alone().verify(note.to_text()).cosignatures
        return [name for name in self._policy.urls if name not in found or now - found[name].time >= self._refresh]

    def _is_due(self, name: str, now: datetime) -> bool:
        due = self._standings[name].due
        # A clock set back must not silence a witness for long.
        return due is None or now >= due or due - now > _LONGEST_PAUSE

    def _note(self, name: str, answer: WitnessAnswer) -> None:
        standing, now = self._standings[name], self._clock.now()
        # Another process of this log asked meanwhile, with a longer head: nothing is wrong.
        if answer.outcome == "log.stale" and self._reader.head().size >= answer.size:
            standing.size, standing.due = answer.size, None
            return
        self._metrics.witnesses.labels(name, answer.outcome).inc()
        if answer.outcome == "ok":
            standing.size, standing.failures, standing.due = answer.size, 0, None
        else:
            standing.size = answer.size
            standing.failures += 1
            # One that is away must not hold up the others every round.
            standing.due = now + min(timedelta(seconds=self._every * 2 ** min(standing.failures, 10)), _LONGEST_PAUSE)
        incident = answer.outcome if answer.outcome in _CONTRADICTIONS else None
        if self._heads.note_witness(name, Witnessed(answer.size, answer.outcome, now), incident) and incident:
            _LOG.error("witness.contradicts", extra={"code": incident})

    def _publish(self, note: SignedNote, checkpoint: Checkpoint) -> None:
        try:
            self._accepting().verify(note.to_text())
        except LogError:
            return
        if self._heads.publish(checkpoint.size, note.to_text(), self._clock.now()):
            self._metrics.published.set(checkpoint.size)

    def _cosignatures(self, note: str) -> list[SignatureLine]:
        keys = self._policy.witnesses.values()
        return [line for line in SignedNote.parse(note).signatures if any(line.is_by(key) for key in keys)]

    def _accepting(self) -> TrustPolicy:
        # The log's own keys are those of the store: a policy file that lags behind a rotation must not stop publication.
        return replace(self._policy, logs=tuple(row.key for row in self._keys.list()))

    def _alone(self) -> TrustPolicy:
        return replace(self._accepting(), quorum="none")


def _with_newest(note: SignedNote, answer: WitnessAnswer) -> SignedNote:
    """The note with this cosignature in place of an older one by the same witness."""
    line = answer.line
    if line is None:
        return note
    others = tuple(item for item in note.signatures if (item.name, item.key_id) != (line.name, line.key_id))
    return SignedNote(note.text, (*others, line))
