"""A process of its own that works on a vault, for the tests that kill it, starve it or run several at once."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError
from facekeep.keys import KeyFile
from facekeep.vault import SQLiteVault
from tests.sdk.vault_scenes import START, content, enrol, erased, log_use, unit_vector


def say(*words: object) -> None:
    """Acknowledge on standard output, at once."""
    print(*words, flush=True)


def open_vault(home: Path) -> SQLiteVault:
    key = KeyFile(home.parent / "key")
    if SQLiteVault.exists(home):
        return SQLiteVault.open(home, key, clock=ManualClock(START), busy_timeout_seconds=60)
    return SQLiteVault.create(home, key, clock=ManualClock(START), busy_timeout_seconds=60)


def work(home: Path, prefix: str, limit: int) -> None:
    """Enrol, erase every third, rotate now and then; acknowledge each when it has returned."""
    with open_vault(home) as vault:
        say("ready")
        for number in range(limit):
            name = f"{prefix}-{number}"
            enrol(vault, name, number)
            say("enrolled", name)
            log_use(vault, number)
            if number % 3 == 2:
                vault.erase(f"{prefix}-{number - 1}", erased)
                say("erased", f"{prefix}-{number - 1}")
            if number % 10 == 9:
                vault.rotate_keys()


def codes(home: Path) -> None:
    """Try what a user would try, and say what came of each."""

    def attempt(label: str, act: object) -> None:
        try:
            act()  # type: ignore[operator]
        except FacekeepError as error:
            say(label, error.code)
        else:
            say(label, "ok")

    def use() -> None:
        with open_vault(home) as vault:
            content(vault)
            enrol(vault, "dave", 9)

    attempt("use", use)
    attempt("create", lambda: SQLiteVault.create(home / "sub", KeyFile(home.parent / "key"), clock=ManualClock(START)))


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1] == "open":
        say("opening")
        open_vault(Path(sys.argv[2])).close()
    else:
        # Given up only now, when all is imported: another user may not be able to read this interpreter.
        unit_vector(1)
        for late in ("calendar", "facekeep.consent.forms"):
            importlib.import_module(late)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(int(sys.argv[3]))
            os.setuid(int(sys.argv[3]))
        codes(Path(sys.argv[2]))
