"""Putting it together: each part examined behind a guard, so that a broken one costs its own section only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import facekeep
from facekeep.assembly import ModelChoice
from facekeep.doctor.machine import examine_decoders, examine_machine, examine_packages, examine_runtimes
from facekeep.doctor.report import Decoder, DoctorReport, Machine, Package, PackState, Problem, Runtime
from facekeep.doctor.stages import measure_stages
from facekeep.doctor.stores import examine_home, examine_packs
from facekeep.errors import FacekeepError
from facekeep.packs import PackStore

_T = TypeVar("_T")
_UNKNOWN: Final = Machine("unknown", "unknown", 0, 0, 0, False, "unknown", facekeep.__version__, ())


def examine(
    home: Path | None = None,
    packs: PackStore | None = None,
    *,
    detector: str | None = None,
    embedder: str | None = None,
    pads: Sequence[str] = (),
    threads: int = 1,
    runs: int = 9,
) -> DoctorReport:
    """Return what is installed, what works, how fast it is and what to do about the rest. Raises for no environment.

    Args:
        home: directory of a device, which need not exist; nothing is opened or written there.
        packs: where packs lie; "packs" under `home`, or only what ships, if left out.
        detector: detection pack, or "pack/build", to measure; the best installed if left out.
        embedder: embedding pack, likewise.
        pads: packs for presentation attack detection to measure; none if left out.
        threads: of each inference session.
        runs: how often each stage is measured; at least five.
    """
    problems: list[Problem] = []
    place = home.expanduser() if home is not None else None
    store = packs or PackStore(place / "packs" if place is not None else Path("/nonexistent") / "facekeep")
    asked = ModelChoice(detector, embedder, tuple(pads))
    # Measured first: runtimes and decoders that are only looked at would count as memory of the models.
    measurement = _guarded(
        "The stages", lambda: measure_stages(store, asked, problems, threads=max(threads, 1), runs=runs), None, problems
    )
    machine = _guarded("The machine", lambda: examine_machine(problems), _UNKNOWN, problems)
    packages = _guarded("The packages", lambda: examine_packages(problems), tuple[Package, ...](), problems)
    runtimes = _guarded("The runtimes", lambda: examine_runtimes(problems), tuple[Runtime, ...](), problems)
    decoders = _guarded("The picture decoders", lambda: examine_decoders(problems), tuple[Decoder, ...](), problems)
    states = _guarded("The model packs", lambda: examine_packs(store, problems), tuple[PackState, ...](), problems)
    found = _guarded("The home", lambda: examine_home(place, problems), None, problems) if place is not None else None
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: problem.severity != "problem")
    healthy = all(problem.severity != "problem" for problem in ordered)
    return DoctorReport(machine, packages, runtimes, decoders, states, found, measurement, tuple(ordered), healthy)


def _guarded(what: str, examine_it: Callable[[], _T], otherwise: _T, problems: list[Problem]) -> _T:
    """Return what an examination found; whatever stops it becomes a problem on the list."""
    try:
        return examine_it()
    except FacekeepError as error:
        problems.append(Problem("problem", f"{what} could not be examined: {error.args[0]}", ""))
    except OSError as error:
        problems.append(Problem("problem", f"{what} could not be examined: {error.strerror or type(error).__name__}.", ""))
    except Exception as error:  # noqa: BLE001 - a doctor that falls ill at the sight of an illness is of no use
        problems.append(Problem("problem", f"{what} could not be examined ({type(error).__name__}).", "Please report this."))
    return otherwise
