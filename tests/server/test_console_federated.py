"""The federated page, its files and the report by pseudonym, over a log that a coordinator and three devices wrote."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from facekeep.clock import ManualClock
from facekeep_server.access.roles import Role
from facekeep_server.assembly import Server, assemble, prepare
from facekeep_server.console.views import federated
from facekeep_server.errors import ServerError
from facekeep_server.evidence.chart import Chart, Series
from facekeep_server.evidence.federated import privacy_chart, record_of, releases_table, rounds_table
from facekeep_server.evidence.reading import LogFollower
from facekeep_server.evidence.rounds import numbers_of
from facekeep_server.evidence.sources import Evidence
from facekeep_server.reports.catalogue import make_report
from facekeep_server.reports.names import ReportName
from tests.server.browser import browser, reason_to_skip
from tests.server.conftest import START, configuration, served
from tests.server.federated_store import OTHER, PERSON, RELEASES, fill_federated


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("federated")
    made = assemble(configuration(f"sqlite:///{folder}/log.sqlite3", folder), clock=ManualClock(START))
    prepare(made)
    fill_federated(made, START)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def console(server: Server) -> Iterator[httpx.Client]:
    with served(server) as client:
        token = server.tokens.create(Role.AUDITOR, "auditor", timedelta(days=1))[0]
        assert client.post("/console/login", data={"token": token}).status_code == 303
        yield client


def rows(table: Any) -> list[dict[str, Any]]:
    return list(table.to_json()["rows"])


def test_rounds_and_releases_are_put_together_from_the_log(server: Server) -> None:
    record = record_of(Evidence.of(server))
    rounds = {row["round"]: row for row in rows(rounds_table(record))}
    assert list(rounds) == [5, 4, 3, 2, 1]
    assert {number: row["state"] for number, row in rounds.items()} == {
        5: "completed",
        4: "completed",
        3: "aborted",
        2: "completed",
        1: "completed",
    }
    assert (rounds[3]["step"], rounds[3]["reason"], rounds[3]["survivors"]) == ("train", "federation.cohort_too_small", 61)
    assert (rounds[1]["cohort"], rounds[1]["survivors"], rounds[1]["joined"], rounds[1]["refused"]) == (120, 108, 2, 1)
    assert (rounds[2]["suspects"], rounds[5]["kind"]) == (1, "calibration")
    assert (rounds[1]["epsilon"], rounds[1]["delta"]) == ("0.910", "1e-05")
    releases = {(row["version"], row["release"]): row for row in rows(releases_table(record))}
    third = releases[3, RELEASES[3]]
    assert (third["state"], third["adopted"], third["rolled_back"], third["refused"]) == ("withheld", 2, 1, 1)
    assert third["reason"].startswith("release.older: ")
    assert releases[4, None]["state"] == "withheld"
    assert (releases[1, RELEASES[1]]["state"], releases[1, RELEASES[1]]["signatures"], releases[2, RELEASES[2]]["parent"]) == (
        "fleet",
        2,
        RELEASES[1],
    )


def test_the_page_and_its_files(console: httpx.Client) -> None:
    page = console.get("/console/federated")
    assert page.status_code == 200
    for text in ("federation.cohort_too_small", "2.011", "release.gate", 'class="line line-1"', "Rolled back"):
        assert text in page.text, text
    assert "<script" not in page.text
    assert " style=" not in page.text
    found = console.get("/console/federated", params={"format": "csv", "table": "releases"})
    lines = list(csv.DictReader(io.StringIO(found.text)))
    assert [line["version"] for line in lines] == ["4", "3", "2", "1"]
    found = console.get("/console/federated", params={"format": "json", "table": "privacy"}).json()
    assert json.dumps(found).count("release") > 2
    assert console.get("/console/federated", params={"format": "csv", "table": "refusals"}).text.count("federation.") == 2


class Counting(LogFollower):
    """How often the log is followed."""

    calls = 0

    def follow(self) -> LogFollower:
        self.calls += 1
        return super().follow()


def test_a_page_follows_the_log_once(server: Server) -> None:
    follower = Counting(server.store)
    view = federated(Evidence(server, follower), 0, 50)
    assert len([section for section in view.sections if section.table or section.chart]) == 4
    assert follower.calls == 1


def test_what_a_request_reads_stays_as_it_is_while_another_follows_the_log(server: Server) -> None:
    follower = LogFollower(server.store).follow()
    record = follower.federated()
    assert follower.follow().federated() is record, "nothing new: not copied again"
    before = [line.joined.copy() for line in record.rounds.values()], list(record.rounds), list(record.releases)
    walk = iter(record.rounds.values())
    first = next(walk)
    # As `follow` does, in the thread of another request.
    named = {"federation": first.federation, "round": first.number, "plan": first.plan, "spent": "9.0"}
    follower._federated.take(10**6, "device", "round.joined", "ok", first.planned, named)
    follower._federated.take(10**6 + 1, "device", "round.joined", "ok", first.planned, named | {"round": 99, "plan": "ff" * 32})
    follower.size += 2
    assert len(list(walk)) == len(record.rounds) - 1
    assert before == ([line.joined for line in record.rounds.values()], list(record.rounds), list(record.releases))
    newer = follower.federated()
    assert len(newer.rounds) == len(record.rounds) + 1
    assert newer.rounds[next(iter(newer.rounds))].joined - before[0][0] == {"device"}


def test_an_empty_log_says_so(tmp_path: Path) -> None:
    made = assemble(configuration(f"sqlite:///{tmp_path}/log.sqlite3", tmp_path), clock=ManualClock(START))
    prepare(made)
    record = record_of(Evidence.of(made))
    assert privacy_chart(record).is_empty
    assert not record.rounds
    made.stop()


def test_participation_of_one_pseudonym(server: Server, console: httpx.Client) -> None:
    report = make_report(Evidence.of(server), ReportName.PARTICIPATION, subject=PERSON)
    facts = report.to_json()["sections"][0]["facts"]
    assert (facts["rounds"]["value"], facts["releases"]["value"], facts["spent"]["value"]) == (4, 3, "2.011")
    table = report.to_json()["sections"][1]["table"]["rows"]
    assert [(row["round"], row["releases"]) for row in table] == [(5, None), (4, "3"), (2, "2"), (1, "1")]
    assert "differential privacy" in report.to_html()
    assert OTHER not in report.to_html()
    page = console.get(f"/console/reports/participation?subject={PERSON}&format=json")
    assert page.json()["report"] == "participation"
    for subject, code in (("ab" * 32, "request.not_found"), (None, "server.invalid_request")):
        with pytest.raises(ServerError) as caught:
            make_report(Evidence.of(server), ReportName.PARTICIPATION, subject=subject)
        assert caught.value.code == code


def test_rounds_are_read_back() -> None:
    assert numbers_of("1-3,5") == {1, 2, 3, 5}
    assert numbers_of("") == numbers_of("x,3-1,1-99999999") == frozenset()


def test_a_chart_draws_steps() -> None:
    chart = Chart("c", "caption", "epsilon", (Series("one", [(START, 1.0), (START + timedelta(days=1), 1.7)]), Series("none", [])))
    assert (chart.top, [label for label, _ in chart.ticks()]) == (2.0, ["0", "0.5", "1", "1.5", "2"])
    (line,) = chart.lines()
    assert line["path"].startswith("M56.0 ")
    assert "H708.0V" in line["path"]


@pytest.mark.skipif(bool(reason_to_skip()), reason=reason_to_skip() or "there is a browser")
def test_how_it_looks(server: Server, console: httpx.Client, tmp_path: Path) -> None:
    """Pictures go to $FACEKEEP_SCREENSHOTS, or nowhere that stays."""
    folder = Path(os.environ.get("FACEKEEP_SCREENSHOTS", str(tmp_path)))
    folder.mkdir(parents=True, exist_ok=True)
    base = str(console.base_url).rstrip("/")
    with browser(tmp_path) as page:
        page.look(1280)
        page.open(f"{base}/console")
        before = page.loaded
        page.call("Input.insertText", text=server.tokens.create(Role.AUDITOR, "looks", timedelta(days=1))[0])
        page.press("Enter", 13, "\r")
        page.wait(before)
        for look, width, dark in (("wide", 1280, False), ("narrow", 390, False), ("dark", 1280, True)):
            page.look(width, dark=dark)
            page.open(f"{base}/console/federated")
            assert len(page.screenshot(folder / f"federated-{look}.png")) > 5_000
            # Only tables scroll sideways, the page never does; the chart has a line for each series.
            assert page.evaluate("document.documentElement.scrollWidth") <= width, look
            assert page.evaluate("document.querySelectorAll('figure.chart > svg path.line').length") == 2
        page.look(1280)
        page.open(f"{base}/console/reports/participation?subject={PERSON}")
        page.screenshot(folder / "participation.png")
        assert page.complaints == []
