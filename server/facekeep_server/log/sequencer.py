"""The sequencer: many submissions, one transaction every few dozen milliseconds, since waiting for the disk is what costs.

Steps of a commit:
1 take what has arrived, in order; 2 open one transaction and hold the log; 3 apply each job, whole or not at all;
4 write entries, tiles and head; 5 commit; 6 only then answer.
A database that fails anywhere before the answer leaves nothing acknowledged. Whether the commit went through is then unknown,
so the same jobs are applied again to what is really stored, and find their lines there or append them.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from facekeep.clock import Clock
from facekeep.errors import FacekeepError
from facekeep.tlog import TileTree
from facekeep_server.errors import ServerError
from facekeep_server.log.transaction import Job, LogTransaction
from facekeep_server.store import Store

_LOG = logging.getLogger("facekeep_server.log")
_Result = TypeVar("_Result")
_FIRST_PAUSE_SECONDS = 0.05


@dataclass(slots=True)
class _Waiting:
    job: Job[Any]
    future: Future[Any]


class Sequencer:
    """A thread that appends.

    Args:
        store: where.
        clock: dates the commits.
        interval_seconds: how long the first submission of a group waits for others.
        group_lines: entries of one transaction at most, so that memory and locks stay bounded.
        pending_lines: entries that may wait; beyond that submissions are refused.
        patience_seconds: how long a database that does not answer is tried again before the submissions are refused.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        interval_seconds: float = 0.05,
        group_lines: int = 5_000,
        pending_lines: int = 50_000,
        patience_seconds: float = 10.0,
    ) -> None:
        self._store, self._clock = store, clock
        self._interval, self._group_lines = interval_seconds, group_lines
        self._pending_lines, self._patience = pending_lines, patience_seconds
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._tree: TileTree | None = None
        self._lock = threading.Lock()
        self._pending = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="sequencer", daemon=True)

    def start(self) -> None:
        """Begin to append."""
        self._thread.start()

    def stop(self) -> None:
        """Commit what is waiting, refuse what comes later, and end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether submissions are being appended."""
        return self._thread.is_alive() and not self._closed

    @property
    def pending(self) -> int:
        """Number of entries that wait."""
        return self._pending

    def submit(self, job: Job[_Result]) -> Future[_Result]:
        """Return what will hold the job's result once it is committed, or the refusal.

        Raises:
            ServerError: "server.unavailable" when too much waits already, or when the server is stopping.
        """
        future: Future[_Result] = Future()
        with self._lock:
            if self._closed or self._pending + job.lines > self._pending_lines:
                raise ServerError("server.unavailable", "The log takes no more at the moment. Try again.", retry_after=1)
            self._pending += job.lines
            # Inside the lock: nothing may be queued behind the mark that ends the thread.
            self._queue.put(_Waiting(job, future))
        return future

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            group, ended = self._gather(first)
            self._commit(group)
            with self._lock:
                self._pending -= sum(waiting.job.lines for waiting in group)
            if ended:
                return

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        # 1 what has arrived, in order
        group, lines = [first], first.job.lines
        deadline = time.monotonic() + self._interval
        while lines < self._group_lines:
            try:
                waiting = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if waiting is None:
                return group, True
            group.append(waiting)
            lines += waiting.job.lines
        return group, False

    def _commit(self, group: list[_Waiting]) -> None:
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                outcomes = self._apply(group)
                break
            except ServerError as error:
                if error.code != "server.unavailable" or time.monotonic() + pause > deadline:
                    _LOG.error("commit.refused", extra={"code": error.code, "jobs": len(group)})
                    outcomes = [error] * len(group)
                    break
                _LOG.warning("commit.retried", extra={"code": error.code, "jobs": len(group)})
                time.sleep(pause)
                pause = min(1.0, 2 * pause)
            except Exception as error:  # noqa: BLE001 - the thread must live on, and the submitters must hear of it
                # The type only: a message may quote what was submitted.
                _LOG.error("commit.failed", extra={"code": "server.internal", "error": type(error).__name__})
                outcomes = [ServerError("server.internal", "The server failed. Nothing was acknowledged.")] * len(group)
                break
        # 6 only now is anything acknowledged
        for waiting, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, FacekeepError):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)

    def _apply(self, group: list[_Waiting]) -> list[Any]:
        outcomes: list[Any] = []
        with self._store.writing() as connection:
            # 2 hold the log
            # Forgotten until committed: after a failure the tree is read from what is really stored.
            tree, self._tree = self._tree, None
            log = LogTransaction(connection, tree, self._clock.now())
            for waiting in group:
                # 3 whole or not at all: a job that refuses has appended nothing
                try:
                    outcomes.append(waiting.job.apply(log))
                except ServerError as error:
                    if error.code == "server.unavailable":
                        raise
                    outcomes.append(error)
                except FacekeepError as error:
                    outcomes.append(error)
            # 4 entries, tiles and head
            tree = log.flush()
        # 5 committed
        self._tree = tree
        return outcomes
