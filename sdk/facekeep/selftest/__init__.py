"""The selftest: enrol, verify, identify and withdraw on marked pictures, in a process that is watched.

Steps:
    0 prepare: a private temporary directory, models, pictures marked with fresh noise that no other bytes contain
    1 compute in this process what the watched one will hold: crops, embeddings, templates
    2 run the flows in a subprocess, refused the network and watched: audit hook, network namespace, strace
    3 search the files of the sandbox after each flow, while the vault is open, and again at the end
    4 search everything that was written for pictures, crops, embeddings and templates, plain or encoded
    5 require that both processes held the same values, and that the watch saw the deliberate violations at the end of the
      run: a search for the wrong bytes and a watch that sleeps prove nothing
    6 report and remove everything

What it can and cannot prove: docs/operations/selftest.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from facekeep.selftest.report import Check, CheckState, Finding, SelftestReport, Watched

if TYPE_CHECKING:
    from facekeep.selftest.run import run_selftest

__all__ = ["Check", "CheckState", "Finding", "SelftestReport", "Watched", "run_selftest"]


def __getattr__(name: str) -> Any:
    # Loaded late: the watched process imports this package before its watch stands, and nothing else may run by then.
    if name != "run_selftest":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from facekeep.selftest.run import run_selftest

    return run_selftest
