"""Showing how far a demo is: a bar on a terminal, lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from facekeep.demo.run import Progress

_EVERY = 10


@contextmanager
def shown_progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """Give a callable for `run_demo(progress=...)` that shows a bar where `stream` is a terminal and Rich is installed.

    Args:
        stream: where to; standard error if left out, so that the answer on standard output stays clean.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar
        except ImportError:
            pass
        else:
            columns = (
                BarColumn(bar_width=32),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
            )
            with Bar(*columns, console=Console(file=stream), transient=True) as bar:
                task = bar.add_task("starting", total=None)
                yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)
            return
    yield _lines(stream)


def _lines(stream: TextIO) -> Progress:
    last = ""

    def show(done: int, total: int, what: str) -> None:
        nonlocal last
        # One line for each new kind of step, and one every so often within a kind.
        kind = what.split(" ", 1)[0]
        if kind != last or done % _EVERY == 0:
            stream.write(f"[{done}/{total}] {what}\n")
            stream.flush()
        last = kind

    return show
