"""The demo as a whole is run by hand; here, its page, and what it says when one of its processes fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from facekeep_server.errors import ServerError
from facekeep_server.federation.demo import Demo, DemoRound, run_part
from facekeep_server.federation.demo_page import describe_rounds, write_page
from facekeep_server.releases.evaluating import Accuracy
from facekeep_server.releases.gate import GateLimits, judge_accuracy


def failing(code: str) -> str:
    with pytest.raises(ServerError) as caught:
        run_part([sys.executable, "-c", code])
    assert caught.value.code == "server.unavailable"
    return str(caught.value.args[0])


def test_a_part_that_fails_is_quoted_whichever_way_it_spoke() -> None:
    by_json = failing('print(\'{"error": {"code": "model.not_installed"}}\'); raise SystemExit(7)')
    assert "model.not_installed" in by_json
    assert "Traceback" not in by_json
    both = failing("print('{\"error\": 1}'); raise RuntimeError('broke')")
    assert '{"error": 1}' in both
    assert "RuntimeError: broke" in both
    assert failing("raise SystemExit(7)").endswith("exit status 7")


def test_a_part_that_works_is_its_last_line() -> None:
    assert run_part([sys.executable, "-c", "print('on the way'); print('{\"visits\": 3}')"]) == {"visits": 3}


def judged(day: float, poor: float) -> dict[str, Any]:
    """An evaluation as the gate writes it."""

    def at(tar: float) -> Accuracy:
        return Accuracy({1e-2: tar}, {1e-2: (tar - 0.01, tar + 0.01)})

    verdict = judge_accuracy(
        {"day": at(0.9), "poor": at(0.5)}, {"day": at(day), "poor": at(poor)}, GateLimits(most_fall={1e-2: 0.02})
    )
    sets = [{"name": "day", "crops": 220, "sha256": "00"}, {"name": "poor", "crops": 330, "sha256": "01"}]
    return {"passed": verdict.passed, "figures": verdict.figures, "measured_on": sets}


def test_the_page_shows_what_the_gate_measured(tmp_path: Path) -> None:
    steps = [{"step": "train", "seconds": 2.0, "sent": 1000, "received": 2000}]
    report = {"aborted": None, "contributors": 3, "cohort": 3, "prepared": 3, "epsilon": 9.0, "delta": 1e-5, "steps": steps}
    rounds = [
        DemoRound(report, judged(0.91, 0.62), "released", adopted=3, spent=9.0),
        DemoRound(report, judged(0.82, 0.73), "withheld: day"),
        # Withheld for its numbers alone: nothing was measured, and the page is written all the same.
        DemoRound(report, None, "withheld: a number of the candidate is not finite"),
    ]
    demo = Demo(tmp_path / "page.html", 3, rounds)
    write_page(demo)
    page = demo.page.read_text()
    for shown in ("0.500", "0.620", "0.730", "0.900", "0.820", "220 crops (day) and 330 crops (poor)", "not finite"):
        assert shown in page, shown
    assert "<script" not in page
    assert [item["outcome"].partition(":")[0] for item in describe_rounds(demo)] == ["released", "withheld", "withheld"]
