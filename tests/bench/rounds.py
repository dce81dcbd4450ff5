"""What a round costs a server as the cohort grows: a fleet in one process answers, a server in another is measured on its answers.

Every message is real: plans are checked, shares dealt, sealed and revealed, sums opened. Beyond 1,000 devices a crowd answers that
no server can tell from devices (`tests.simulators.crowd`). 5 % of the devices drop out before TRAIN.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.setting import report, temporary_folder

# What a plan bears: share of drop-outs, and of colluders in per cent. The number of neighbours follows from it and hardly grows.
LIGHT, FULL = (0.1, 1), (0.3, 5)
SIZES = (100, 300, 1_000, 3_000, 10_000)
FULL_SIZES = (100, 300, 1_000)
SHORT, LONG = 1_000, 54_560
_DROP, _REAL = 20, 1_000


def rounds(_: Path) -> None:
    """Server seconds, memory and bytes for each device against the size of the cohort; slopes; what they come to at a million."""
    found = []
    for size in SIZES:
        found.append(_measure(size, SHORT, LIGHT))
        _say(found[-1])
    _extrapolate(found)
    for size in FULL_SIZES:
        _say(_measure(size, SHORT, FULL))
    _say(_measure(300, LONG, FULL))


def _say(item: dict[str, Any]) -> None:
    size, length = item["size"], item["length"]
    steps = ", ".join(f"{name} {seconds:.2f}" for name, seconds in item["steps"].items())
    report(f"server, {size} devices, {length} parameters, k = {item['neighbours']}", f"{item['server']:.2f} s CPU", steps)
    report(
        "   memory beyond the roster; largest checkpoint", f"{item['memory_mib']:.0f} MiB", f"{item['checkpoint'] / 2**20:.1f} MiB"
    )
    if item["device"] is not None:
        report("   a device: CPU of a whole round", f"{1000 * item['device']:.0f} ms")
    report(
        "   a device receives; sends", f"{item['down'] / 1000:.1f} kB", f"{item['up'] / 1000:.1f} kB, {item['ratio']:.2f} x float32"
    )


def _extrapolate(found: list[dict[str, Any]]) -> None:
    large = [item for item in found if item["size"] >= 1000]
    sizes = np.array([item["size"] for item in large], dtype=np.float64)
    for name, unit in (("server", "s CPU"), ("memory_mib", "MiB"), ("down", "bytes down"), ("up", "bytes up")):
        values = np.array([item[name] for item in large], dtype=np.float64)
        slope, base = np.polyfit(sizes, values, 1)
        exponent = np.polyfit(np.log(sizes), np.log(values), 1)[0]
        at_million = base + slope * 1e6
        report(
            f"   {name}: slope a device, exponent; on the line at 1 M",
            f"{slope:.3g} {unit}",
            f"n^{exponent:.2f}; {at_million:,.0f}",
        )


def _measure(size: int, length: int, bears: tuple[float, int]) -> dict[str, Any]:
    folder = temporary_folder()
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for part in ("answer", "serve"):
        command = [sys.executable, "-m", "tests.bench.rounds", part, str(folder), str(size), str(length), *map(str, bears)]
        subprocess.run(command, check=True, env=environment)
    answered = json.loads((folder / "answer.json").read_text())
    return answered | json.loads((folder / "serve.json").read_text())


def _answer(folder: Path, size: int, length: int, dropout: float, colluding: int) -> None:
    """Run a round and keep every answer, and the plan. Beyond `_REAL` devices a crowd answers: real devices would take hours."""
    from facekeep.protocol import Roster
    from tests.simulators.crowd import Crowd
    from tests.simulators.federation import NAME, Fleet

    fleet, crowd = Fleet(1), Crowd(size if size > _REAL else 0, 1)
    fleet.allow(colluding_percent=colluding)
    if size > _REAL:
        fleet.devices, fleet.roster = crowd.keys, Roster(NAME, [keys.entry for keys in crowd.keys])
        fleet.roster_note = fleet.roster.head.sign(f"{NAME}/authority", fleet.authority)
    else:
        fleet.add_light(size)
    wished = {"dropout": dropout, "colluding_percent": colluding}
    signed, cohort = fleet.plan(length=length, noise_multiplier=1.0, extras=(), **wished)
    running = fleet.begin(signed, cohort)
    kept: list[tuple[str, int, bytes]] = []
    spent, down, up = 0.0, 0, 0
    while not running.has_ended:
        for out in running.outbox():
            if out.action == "train" and out.index % _DROP == 7:
                continue
            start = time.process_time()
            crowded = size > _REAL
            answer = crowd.answer(running, out.action, out.index) if crowded else fleet.ask(out.index, out.action, out.body)
            spent += time.process_time() - start
            down, up = down + len(out.body), up + len(answer)
            assert running.receive(out.index, out.action, answer).is_accepted
            kept.append((out.action.value, out.index, answer))
        running.close_step(fleet.clock.now())
    assert running.report is not None and running.report.aborted is None, running.report  # noqa: PT018
    with (folder / "answers").open("wb") as file:
        pickle.dump((signed.note, fleet.roster_note, fleet.roster.to_bytes(), cohort.to_bytes(), kept), file)
    found = {"size": size, "length": length, "neighbours": signed.plan.neighbours}
    found |= {"device": spent / size if size <= _REAL else None}
    found |= {"down": down / size, "up": up / size, "ratio": up / size / (4 * length)}
    (folder / "answer.json").write_text(json.dumps(found))


def _serve(folder: Path) -> None:
    """The server alone: the same round from the answers kept."""
    from facekeep.protocol import Cohort, Roster, RoundPlan, SignedPlan
    from facekeep_server.federation.updates import UpdatesOnDisk
    from facekeep_server.rounds import Phase, Round

    with (folder / "answers").open("rb") as file:
        note, roster_note, roster_bytes, cohort_bytes, kept = pickle.load(file)
    roster, cohort = Roster.parse(roster_bytes), Cohort.parse(cohort_bytes)
    _ = roster.head, roster.index_of
    signed = SignedPlan(note, RoundPlan.parse(note.rpartition("\n\n")[0] + "\n"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    running = Round.begin(signed, roster_note, roster, cohort, updates=UpdatesOnDisk(folder / "updates"))
    steps: dict[str, float] = {}
    largest = 0
    while not running.has_ended:
        phase, start = running.phase, time.process_time()
        for _out in running.outbox():
            pass
        for action, index, answer in kept:
            if action == phase:
                running.receive(index, action, answer)
        running.close_step(signed.plan.issued)
        steps[phase.value] = time.process_time() - start
        if running.phase not in (Phase.DONE, Phase.ABORTED):
            largest = max(largest, len(running.to_bytes()))
    assert running.report is not None and running.report.aborted is None  # noqa: PT018
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found = {"server": sum(steps.values()), "steps": steps, "memory_mib": memory, "checkpoint": largest}
    (folder / "serve.json").write_text(json.dumps(found))


if __name__ == "__main__":
    part, folder = sys.argv[1], Path(sys.argv[2])
    if part == "answer":
        _answer(folder, int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]))
    else:
        _serve(folder)
