"""The auditors' console: who gets in, what is shown, what cannot be smuggled through it, and how it looks in a browser."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import String, cast, update

from facekeep.audit.entry import device_id
from facekeep.clock import ManualClock
from facekeep.merkle import leaf_hash
from facekeep.tlog import LogProof, TrustPolicy, verify_proof
from facekeep_server.access.roles import Role
from facekeep_server.assembly import Server, assemble, prepare
from facekeep_server.errors import ServerError
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Kind, Table
from facekeep_server.pages import style
from facekeep_server.reports.catalogue import REPORTS, make_report
from facekeep_server.reports.names import ReportName
from facekeep_server.store.tables import Device, Entry, Incident
from tests.server.browser import browser, reason_to_skip
from tests.server.conftest import START, MakeServer, configuration, served
from tests.server.demo_store import fill, write_policies

DAY = timedelta(days=1)
PAGES = (
    "",
    "/consent",
    "/retention",
    "/erasures",
    "/identifications",
    "/log",
    "/entries",
    "/entries/12",
    "/incidents",
    "/federated",
    "/search",
    "/reports",
)
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
SAID = {"controller": "Example Ltd", "controller_contact": "dpo@example.org", "legal_bases": {"enrolment": "explicit consent"}}


class Outline(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The fleet of the demo log in a database; one server for the tests that only read."""
    folder = tmp_path_factory.mktemp("demo")
    server = _demo_server(folder)
    fill(server, START)
    yield server
    server.stop()


def _demo_server(folder: Path, **sections: dict[str, object]) -> Server:
    database, clock = f"sqlite:///{folder}/log.sqlite3", ManualClock(START)
    first = assemble(configuration(database, folder), clock=clock)
    prepare(first)
    policies = write_policies(folder, [row.key.to_vkey() for row in first.keys.list()])
    first.store.close()
    sections["compliance"] = {**policies, **SAID, **sections.get("compliance", {})}
    return assemble(configuration(database, folder, **sections), clock=clock)


@pytest.fixture(scope="module")
def visitor(demo: Server) -> Iterator[httpx.Client]:
    """A client of the demo server that nobody signed in."""
    with served(demo) as client:
        yield client


@pytest.fixture
def console(demo: Server, visitor: httpx.Client) -> Iterator[httpx.Client]:
    """The same, signed in."""
    answer = visitor.post("/console/login", data={"token": token(demo)})
    assert answer.status_code == 303
    yield visitor
    visitor.cookies.clear()


def token(server: Server, role: Role = Role.AUDITOR, days: float = 1) -> str:
    return server.tokens.create(role, str(role), timedelta(days=days))[0]


def test_every_page_is_there_and_says_what_it_is(console: httpx.Client) -> None:
    for page in PAGES:
        answer = console.get(f"/console{page}")
        assert answer.status_code == 200, page
        outline = Outline(answer.text)
        assert len(outline.of("h1")) == len(outline.of("main")) == len(outline.of("nav")) == 1
        assert outline.of("html") == [{"lang": "en"}]
        assert {"class": "skip", "href": "#main"} in outline.of("a")
        # Every field has its label, every table its caption and headings with a scope, every region a name and the keyboard.
        labels = {label["for"] for label in outline.of("label")}
        assert all(field["id"] in labels for field in (*outline.of("input"), *outline.of("select")))
        assert len(outline.of("caption")) == len(outline.of("table"))
        assert all(heading.get("scope") in ("col", "row") for heading in outline.of("th"))
        regions = [item for item in outline.of("div") if item.get("role") == "region"]
        names = [caption["id"] for caption in outline.of("caption")]
        assert [item["aria-labelledby"] for item in regions] == names
        assert all(item["tabindex"] == "0" for item in regions)
        assert len(names) == len(set(names))
    current = [link for link in Outline(console.get("/console/retention").text).of("a") if link.get("aria-current")]
    assert [link["href"] for link in current] == ["/console/retention"]


def test_pages_hold_no_script_and_ask_for_nothing_elsewhere(console: httpx.Client) -> None:
    for page in PAGES:
        answer = console.get(f"/console{page}")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        for tag, attributes in Outline(answer.text).tags:
            assert tag not in ("script", "iframe", "object", "embed", "base", "style"), page
            assert not [name for name in attributes if name.startswith("on") or name == "style"], page
            for name in ("src", "href", "action"):
                assert (attributes.get(name) or "/").startswith(("/console", "/log/checkpoint", "#", "data:,", "/")), attributes
                assert "//" not in (attributes.get(name) or "")


def test_figures_are_those_of_the_log(demo: Server, console: httpx.Client) -> None:
    facts = console.get("/console").text
    events = console.get("/console?format=json&table=events").json()
    counted = {row["event"]: row["entries"] for row in events["rows"]}
    with demo.store.reading() as connection:
        bodies = [bytes(row) for row in connection.exec_driver_sql("SELECT body FROM entries WHERE kind = 1").scalars()]
    real = [json.loads(body)["entry"] for body in bodies]
    for event, number in counted.items():
        assert number == sum(entry["event"] == event for entry in real)
    assert sum(counted.values()) == len(real)
    gone = {entry["subject"] for entry in real if entry["event"] in ("template.erased", "template.expired")}
    given = {entry["subject"] for entry in real if entry["event"] == "consent.given"}
    assert re.search(rf"People erased</dt><dd>\s*{len(gone)}\s*</dd>", facts)
    assert re.search(rf"consent in force</dt><dd>\s*{len(given - gone)}\s*</dd>", facts)
    ledger = console.get("/console/consent?format=json").json()["rows"]
    assert {row["subject"] for row in ledger if row["state"] == "erased"} == gone
    assert {row["subject"] for row in ledger if row["state"] == "in force"} == given - gone
    assert all(row["templates"] == 0 for row in ledger if row["state"] == "erased")
    assert [row["subject"] for row in console.get("/console/consent?format=json&state=in+force").json()["rows"]] == [
        row["subject"] for row in ledger if row["state"] == "in force"
    ]


def test_new_entries_are_followed_and_old_ones_not_read_again(tmp_path: Path) -> None:
    server = _demo_server(tmp_path)
    evidence = Evidence.of(server)
    fill(server, START - timedelta(days=40), devices=2, days=5, incidents=False)
    size, people = evidence.follower.follow().size, len(evidence.follower.everyone())
    with server.store.writing() as connection:
        connection.exec_driver_sql("UPDATE entries SET event = 'consent.refused', outcome = 'ok' WHERE kind = 1")
    assert evidence.follower.follow().size == size == evidence.follower.follow().size
    assert len(evidence.follower.everyone()) == people > 0
    assert evidence.follower.devices.popitem()[1].events["consent.refused"] < 5
    server.store.close()


def test_retention_knows_due_overdue_and_unheard(tmp_path: Path) -> None:
    server = _demo_server(tmp_path)
    names = fill(server, START)
    clock = server.clock
    assert isinstance(clock, ManualClock)
    evidence = Evidence.of(server)

    def states() -> dict[str, int]:
        report = make_report(evidence, ReportName.RETENTION_STATUS).to_json()
        rows = report["sections"][1]["table"]["rows"]
        return {state: sum(row["state"] == state for row in rows) for state in {row["state"] for row in rows}}

    assert set(states()) == {"held"}
    clock.advance(timedelta(days=70))
    assert set(states()) == {"due soon"}
    # Silent devices may have erased in time: nobody is accused before they are heard.
    clock.advance(timedelta(days=60))
    assert set(states()) == {"not heard"}
    with server.store.writing() as connection:
        connection.execute(update(Device).where(Device.id == names[0]).values(trail_time="2027-03-01T00:00:00.000Z"))
    found = states()
    assert found["overdue"] == 3
    assert found["not heard"] == 12
    with served(server) as client:
        client.post("/console/login", data={"token": token(server)})
        assert re.search(r"Templates overdue</dt><dd>\s*3\s*<span class=\"mark\">", client.get("/console").text)
        assert len(client.get("/console/retention?state=overdue&format=json").json()["rows"]) == 3


def test_an_erasure_comes_with_a_proof_that_others_can_verify(demo: Server, console: httpx.Client) -> None:
    rows = console.get("/console/erasures?format=json").json()["rows"]
    assert rows
    policy = TrustPolicy.parse("".join(f"log {row.key.to_vkey()}\n" for row in demo.keys.list()) + "quorum none\n")
    for row in rows[:3]:
        proof = console.get(f"/console/entries/{row['entry']}/proof").text
        line = console.get(f"/console/entries/{row['entry']}/line").content
        assert verify_proof(LogProof.parse(proof), line, policy).checkpoint.size == demo.reader.head().size
        assert row["subject"].encode() in line
        page = console.get(f"/console/entries/{row['entry']}").text
        assert leaf_hash(line).hex() in page
        assert html.escape(line.decode()).replace("&quot;", "&#34;") in page


def test_an_entry_that_was_changed_in_the_database_is_not_proved(tmp_path: Path) -> None:
    server = _demo_server(tmp_path)
    fill(server, START, devices=1, days=4)
    with served(server) as client:
        client.post("/console/login", data={"token": token(server)})
        with server.store.writing() as connection:
            connection.execute(update(Entry).where(Entry.number == 3).values(body=b"{}"))
        answer = client.get("/console/entries/3")
        assert answer.status_code == 500
        assert "log.bad_proof" in answer.text
        page = client.get("/console/log").text
        assert "not verified" in page
        assert "audit.invalid_entry" in page or "log.bad_proof" in page


def test_pages_go_on_where_the_last_ended(console: httpx.Client) -> None:
    seen, address = [], "/console/entries?event=verification"
    while address:
        page = console.get(address).text
        seen += [int(number) for number in re.findall(r'<th scope="row" class="entry"><a href="/console/entries/(\d+)">', page)]
        following = re.search(r'rel="next" href="([^"]+)"', page)
        address = html.unescape(following[1]) if following else ""
    everything = console.get("/console/entries?event=verification&format=json").json()["rows"]
    assert seen == [row["entry"] for row in everything]
    assert len(seen) > 100
    assert seen == sorted(set(seen), reverse=True)


def test_search_finds_people_devices_entries_and_events_and_never_fails(demo: Server, console: httpx.Client) -> None:
    subject = console.get("/console/erasures?format=json").json()["rows"][0]["subject"]
    device = Evidence.of(demo).devices()[0]

    def find(text: str) -> list[dict[str, object]]:
        return list(console.get("/console/search", params={"q": text, "format": "json"}).json()["rows"])

    assert [row["subject"] for row in find(subject[:16])] == [subject]
    assert device.id in {row["device"] for row in find(device.id[:10])}
    assert device.id in {row["device"] for row in find(device.label.upper())}
    assert find("#12")[0]["entry"] == 12
    assert {row["sort"] for row in find("template")} == {"event"}
    assert find("%") == find("no such thing") == find("") == find("' OR 1=1 --") == []
    line = console.get("/console/entries/12/line").content
    assert [row["entry"] for row in find(leaf_hash(line).hex())] == [12]
    assert console.get("/console/search", params={"q": "x" * 129}).status_code == 400


def test_addresses_that_are_not_of_the_form_are_refused_as_pages(console: httpx.Client) -> None:
    for path, status in (
        ("/nothing", 404),
        ("/entries/999999", 404),
        ("/entries/-1", 400),
        ("/entries/abc", 400),
        ("/subjects/" + "0" * 64, 404),
        ("/subjects/xyz", 400),
        ("/entries?device=' OR 1=1 --", 400),
        ("/entries?event=<script>", 400),
        ("/entries?before=99999999999999999999", 400),
        ("/retention?format=xml", 400),
        ("/retention?format=csv&table=nothing", 404),
        ("/reports/nothing", 400),
        ("/reports/subject-access", 400),
        ("/reports/dpia-inputs?subject=" + "0" * 64, 400),
        ("/reports/erasure-certificate?subject=" + "0" * 64, 404),
    ):
        answer = console.get(f"/console{path}")
        assert answer.status_code == status, path
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "<script" not in answer.text


def test_only_an_auditor_gets_in(demo: Server, visitor: httpx.Client) -> None:
    for page in (*PAGES, "/nothing", "/entries/12/proof", "/reports/dpia-inputs", "/retention?format=csv"):
        answer = visitor.get(f"/console{page}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/login"), page
        assert answer.text == ""
    assert visitor.get("/console", headers={"Authorization": f"Bearer {token(demo)}"}).status_code == 303
    assert visitor.get("/console/login").status_code == 200
    for wrong, status in ((token(demo, Role.ADMINISTRATOR), 403), ("fkt-AAAAAAAA-" + "A" * 24, 401), (EVIL, 401), ("", 401)):
        answer = visitor.post("/console/login", data={"token": wrong})
        assert answer.status_code == status
        assert "set-cookie" not in answer.headers
        assert "<script" not in answer.text
        assert not wrong or wrong not in answer.text
    assert visitor.post("/console/login", content=b"x" * 5000).status_code == 400
    assert visitor.post("/console/login", json={"token": token(demo)}).status_code == 400
    many = {"content-type": "application/x-www-form-urlencoded"}
    assert visitor.post("/console/login", content=b"token=" + b"x" * 5000, headers=many).status_code == 413
    assert visitor.post("/console/login", content=b"\xff\xfe", headers=many).status_code == 401


def test_a_session_is_held_by_a_strict_cookie_and_ends(tmp_path: Path) -> None:
    server = _demo_server(tmp_path)
    clock = server.clock
    assert isinstance(clock, ManualClock)
    with served(server) as client:

        def sign_in() -> str:
            answer = client.post("/console/login", data={"token": token(server)})
            return str(answer.headers["set-cookie"])

        def is_in() -> bool:
            return client.get("/console").status_code == 200

        cookie = sign_in()
        assert re.fullmatch(r"facekeep-console=[0-9a-f]{64}; HttpOnly; Max-Age=28800; Path=/; SameSite=strict", cookie)
        assert is_in()
        stolen = client.cookies["facekeep-console"]
        assert client.post("/console/logout").status_code == 303
        assert not is_in()
        # Signing out ends the session itself, not only the browser's memory of it.
        assert client.get("/console", headers={"Cookie": f"facekeep-console={stolen}"}).status_code == 303
        client.cookies.clear()
        sign_in()
        clock.advance(timedelta(minutes=29))
        assert is_in()
        clock.advance(timedelta(minutes=31))
        assert not is_in()
        sign_in()
        for _ in range(20):
            clock.advance(timedelta(minutes=25))
        assert not is_in()
        sign_in()
        for row in server.tokens.list():
            if row.revoked_at is None:
                server.tokens.revoke(row.id)
        assert not is_in()


def test_over_https_the_cookie_is_bound_to_it(tmp_path: Path) -> None:
    server = _demo_server(tmp_path, http={"public_url": "https://log.example.org"})
    with served(server) as client:
        answer = client.post("/console/login", data={"token": token(server)}, headers={"Origin": "https://log.example.org"})
        name, _, rest = answer.headers["set-cookie"].partition("=")
        assert name == "__Host-facekeep"
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=strict"} <= set(rest.split("; "))
        assert "Domain" not in rest


def test_no_other_site_signs_anybody_in_or_out(demo: Server, console: httpx.Client) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        for path in ("login", "logout"):
            answer = console.post(f"/console/{path}", data={"token": token(demo)}, headers=headers)
            assert answer.status_code == 403, headers
            assert "set-cookie" not in answer.headers
    assert console.get("/console").status_code == 200
    # Nothing but signing in and out is anything else than a read.
    for page in PAGES:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert console.request(method, f"/console{page}").status_code == 405, (method, page)


def test_nothing_in_the_database_or_configuration_becomes_markup(tmp_path: Path) -> None:
    server = _demo_server(tmp_path, compliance={"controller": EVIL, "recipients": [EVIL], "legal_bases": {"enrolment": EVIL}})
    fill(server, START, devices=2, days=8)
    subject = next(person for person in Evidence.of(server).follower.follow().everyone() if person.erased)
    detail = json.dumps({"purposes": EVIL, "record": EVIL, "until": EVIL, "result": EVIL, "operators": EVIL, "database": EVIL})
    body = '{"device":"' + "0" * 32 + '","entry":{"details":' + detail + "}}"
    with server.store.writing() as connection:
        connection.execute(update(Device).values(label=EVIL, trail_time=EVIL))
        connection.execute(update(Entry).where(Entry.number % 3 == 0).values(event=EVIL, outcome=EVIL, at=EVIL))
        connection.execute(update(Entry).where(Entry.number % 5 == 0).values(body=body.encode()))
        connection.execute(update(Entry).where(Entry.number % 7 == 0).values(device=EVIL + "n" + cast(Entry.number, String)))
        connection.execute(update(Incident).values(code=EVIL, at=EVIL, device=EVIL))
    with served(server) as client:
        client.post("/console/login", data={"token": token(server)})
        reports = [f"/reports/{name.value}" for name, stated in REPORTS.items() if not stated.needs_subject]
        about = [f"/subjects/{subject.pseudonym}", f"/reports/subject-access?subject={subject.pseudonym}"]
        shown = 0
        for page in (*PAGES, *reports, *about, "/search?q=" + EVIL.replace("#", ""), "/entries?only=failed"):
            answer = client.get(f"/console{page}", params=None)
            assert answer.status_code in (200, 500), page
            if answer.status_code == 500:  # an entry whose proof no longer holds
                assert page == "/entries/12", page
            assert "<script" not in answer.text, page
            assert "<img" not in answer.text, page
            assert "onerror=alert" not in re.sub(r"&lt;img src=x onerror=alert\(2\)&gt;", "", answer.text), page
            assert "}49" not in answer.text
            shown += "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
        assert shown >= 10
        for page in ("", "/entries", "/incidents"):
            rows = list(csv.reader(io.StringIO(client.get(f"/console{page}?format=csv").text)))
            assert any(EVIL in cell for row in rows for cell in row)


@given(st.text(max_size=20) | st.sampled_from(["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", '"=1"']))
def test_no_cell_of_an_export_is_a_formula(text: str) -> None:
    table = Table("t", "t", (Column("a", "A"), Column("n", "N", Kind.NUMBER)), [(text, -3)], "")
    (_, row) = list(csv.reader(io.StringIO(table.to_csv(), newline="")))
    assert not row[0].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert row[0].removeprefix("'") == text.removeprefix("'") or row[0] == text
    assert row[1] == "-3"
    assert table.to_json()["rows"] == [{"a": text, "n": -3}]


def test_exports_are_files_of_what_the_page_shows(console: httpx.Client) -> None:
    for page, key in (("", "devices"), ("", "activity"), ("/consent", "consent"), ("/erasures", "erasures"), ("/log", "heads")):
        as_json = console.get(f"/console{page}?format=json&table={key}")
        as_csv = console.get(f"/console{page}?format=csv&table={key}")
        assert as_json.headers["content-disposition"] == f'attachment; filename="facekeep-{key}.json"'
        assert as_csv.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(as_csv.text)))
        assert len(rows) == len(as_json.json()["rows"]) > 0
        assert list(rows[0]) == [column["key"] for column in as_json.json()["columns"]]


def test_the_server_does_not_start_reports_on_policies_it_cannot_read(tmp_path: Path) -> None:
    server = _demo_server(tmp_path, compliance={"retention_policy": str(tmp_path / "missing.toml")})
    fill(server, START, devices=1, days=4)
    with served(server) as client:
        client.post("/console/login", data={"token": token(server)})
        answer = client.get("/console/retention")
        assert answer.status_code == 500
        assert "server.invalid_configuration" in answer.text
    with pytest.raises(ServerError, match=r"missing\.toml"):
        make_report(Evidence.of(server), ReportName.RETENTION_STATUS)


@pytest.mark.slow
def test_in_a_browser_without_script_every_page_opens_and_fits(demo: Server, visitor: httpx.Client, tmp_path: Path) -> None:
    """Screenshots of every page, wide, narrow and dark, in the test's folder, or where FACEKEEP_SCREENSHOTS says."""
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    folder = Path(os.environ.get("FACEKEEP_SCREENSHOTS") or tmp_path)
    folder.mkdir(exist_ok=True)
    base = str(visitor.base_url)
    erased = next(person for person in Evidence.of(demo).follower.follow().everyone() if person.erased)
    pages = {page.strip("/").replace("/", "-") or "overview": page for page in PAGES}
    pages |= {"subject": f"/subjects/{erased.pseudonym}", "missing": "/missing"}
    pages["certificate"] = f"/reports/erasure-certificate?subject={erased.pseudonym}"
    pages["processing"] = "/reports/records-of-processing"
    with browser(tmp_path) as page:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
        page.look(1280)
        page.open(f"{base}/console")
        page.screenshot(folder / "login.png")
        # Signed in by keyboard alone: the field has the focus, Enter sends it.
        before = page.loaded
        page.call("Input.insertText", text=token(demo))
        page.press("Enter", 13, "\r")
        page.wait(before)
        assert page.evaluate("location.pathname + ' ' + document.title") == "/console Overview · Facekeep"
        # The first key press leads to the link that skips the navigation, which is then seen.
        page.press("Tab", 9)
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        for name, address in pages.items():
            for look, width, dark in (("wide", 1280, False), ("narrow", 390, False), ("dark", 1280, True)):
                if dark and name not in ("overview", "retention", "log"):
                    continue  # one set of colours for all
                page.look(width, dark=dark)
                page.open(f"{base}/console{address}")
                assert len(page.screenshot(folder / f"{name}-{look}.png")) > 5_000
                # Only tables scroll sideways, the page never does.
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, look)
                assert page.evaluate(_LOWEST_CONTRAST) >= 4.5, (name, look)
        assert [text for text in page.complaints if "404" not in text] == []
        assert {address.split("/console")[0] for address in page.requests} <= {base, "data:,", "about:blank"}


def test_the_style_sheet_is_served_under_its_hash(visitor: httpx.Client) -> None:
    text, digest = style()
    (link,) = (item for item in Outline(visitor.get("/console/login").text).of("link") if item["rel"] == "stylesheet")
    assert link["href"] == f"/console/static/console.css?v={digest}"
    answer = visitor.get(link["href"])
    assert answer.text == text
    assert "immutable" in answer.headers["cache-control"]
    assert "url(" not in text
    assert "@import" not in text


def test_both_databases_give_the_same_pages(make_server: MakeServer, demo: Server) -> None:
    server = make_server()
    fill(server, START)
    ours, theirs = Evidence.of(server), Evidence.of(demo)
    with served(server) as client:
        client.post("/console/login", data={"token": token(server)})
        for page in PAGES:
            assert client.get(f"/console{page}").status_code == 200, page
        subject = next(person.pseudonym for person in ours.follower.follow().everyone() if person.erased)
        assert client.get("/console/search", params={"q": subject[:12], "format": "json"}).json()["rows"][0]["subject"] == subject
        assert client.get(f"/console/subjects/{subject}").status_code == 200
        entries = client.get(f"/console/entries?subject={subject}&since=2026-10-01&format=json").json()["rows"]
        assert {row["subject"] for row in entries} == {subject}
    assert ours.follower.everyone() == theirs.follower.follow().everyone()
    for name in (ReportName.IDENTIFICATION_LOG, ReportName.DPIA_INPUTS):
        pair = [json.loads(make_report(evidence, name).to_text())["sections"] for evidence in (ours, theirs)]
        tables = [[section.get("table") for section in sections] for sections in pair]
        assert tables[0] == tables[1]


def test_the_demo_devices_are_those_of_the_log(demo: Server) -> None:
    evidence = Evidence.of(demo)
    for device in evidence.devices():
        key, _ = demo.devices.find(device.id) or (b"", True)
        assert device_id(key) == device.id
        assert evidence.follower.follow().devices[device.id].entries == device.trail_size


# Contrast of every text with what is behind it (WCAG 2.2, 1.4.3), the lowest of the page.
_LOWEST_CONTRAST = """(() => {
  const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  let lowest = 21;
  for (const element of document.body.querySelectorAll('*')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
    lowest = Math.min(lowest, (a + .05) / (b + .05));
  }
  return lowest;
})()"""
