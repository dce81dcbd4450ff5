"""The watched process. Its first act is to install the watch; its last is to violate every rule, to prove the watch awake.

It speaks with its parent in lines of JSON: one on standard input with the settings, followed by the raw pictures; one on
standard output after each step, after which it waits until the parent has searched the sandbox. Nothing it says derives from
a picture except SHA-256 digests, and what it says is searched like everything else.
"""

# ruff: noqa: BLE001
from __future__ import annotations

import json
import sys
from typing import Any

# Before anything of Facekeep or NumPy is loaded: what is imported runs under the watch as well.
from facekeep.selftest.hooks import AuditWatch


def main() -> int:
    """Run the scenario that standard input describes."""
    settings = json.loads(sys.stdin.buffer.readline())
    watch = AuditWatch(settings["home"])
    if settings["audit_hook"]:
        watch.install()

    import os
    import time
    from pathlib import Path

    import numpy as np

    from facekeep.errors import FacekeepError
    from facekeep.selftest.scenario import Sabotage, Scenario, UnexpectedOutcomeError

    pictures = {}
    for name, shape in settings["pictures"]:
        raw = sys.stdin.buffer.read(int(np.prod(shape)))
        pictures[name] = np.frombuffer(raw, np.uint8).reshape(shape)
    sabotage: Sabotage | None = None
    if settings["sabotage"]:
        import runpy

        sabotage = runpy.run_path(settings["sabotage"])["sabotage"]
    scenario = Scenario(
        home=Path(settings["home"]),
        packs=Path(settings["packs"]),
        detector=settings["detector"],
        embedder=settings["embedder"],
        pads=tuple(settings["pads"]),
        pictures=pictures,
        threads=settings["threads"],
        sabotage=sabotage,
    )
    for name, run in scenario.steps():
        start, passed = time.perf_counter(), False
        try:
            detail, passed = run(), True
        except UnexpectedOutcomeError as error:
            detail = str(error)
        except FacekeepError as error:
            detail = f"{error.args[0]} [{error.code}]"
        except Exception as error:
            # The type only: a message of somebody else's may quote anything.
            detail = f"an error of type {type(error).__name__}"
        _say({"event": "step", "name": name, "passed": passed, "detail": detail, "seconds": time.perf_counter() - start})
        if not sys.stdin.buffer.readline():
            return 3  # The parent is gone.
    held = scenario.held
    _say({"event": "held", "crops": held.crops, "vectors": held.vectors, "templates": held.templates})
    refused = [list(each) for each in watch.refused]
    _say({"event": "watch", "refused": refused, "events": watch.events, "network_namespace": _namespace(os.stat)})
    sys.stdin.buffer.readline()

    from facekeep.selftest.violations import violate

    _say({"event": "control", "mark": f"begin-{settings['mark']}"})
    outcome = violate(Path(settings["home"]), settings["mark"], native=settings["native"])
    _say(
        {
            "event": "violations",
            "mark": f"end-{settings['mark']}",
            "refused": [list(each) for each in watch.refused[len(refused) :]],
            **outcome,
        }
    )
    return 0


def _namespace(stat: Any) -> int | None:
    try:
        return int(stat("/proc/self/ns/net").st_ino)
    except OSError:
        return None


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
