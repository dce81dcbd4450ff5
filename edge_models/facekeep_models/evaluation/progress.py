"""Showing how far an evaluation is: a bar on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TextIO

_BAR_CELLS: Final = 32
_REDRAW_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 10.0

# Called with how many are done, how many there are, and of what.
Progress = Callable[[int, int, str], None]


class ShownProgress:
    """Shows progress on a stream.

    Args:
        stream: where to.
        clock: seconds that only grow.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._bar = stream.isatty()
        self._what, self._begun, self._shown, self._first = "", 0.0, 0.0, 0

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` are done."""
        now = self._clock()
        if what != self._what:
            # The first report of a kind says where it goes on from, so that the rate is of this run.
            self._what, self._begun, self._shown, self._first = what, now, now, done
            if done < total:
                return
        if done < total and now - self._shown < (_REDRAW_SECONDS if self._bar else _LINE_SECONDS):
            return
        self._shown = now
        rate = (done - self._first) / max(now - self._begun, 1e-9)
        left = f", {rate:.1f} a second, {(total - done) / rate:.0f} s to go" if done < total and rate > 0 else ""
        if self._bar:
            full = _BAR_CELLS * done // max(total, 1)
            text = f"\r[{'#' * full}{'.' * (_BAR_CELLS - full)}] {done} of {total} {what}{left}\x1b[K"
            self._stream.write(text + ("\n" if done >= total else ""))
        else:
            self._stream.write(f"{done} of {total} {what}{left}\n")
        self._stream.flush()

    def say(self, line: str) -> None:
        """Show a line of its own."""
        self._stream.write(f"\r{line}\x1b[K\n" if self._bar else f"{line}\n")
        self._stream.flush()
