"""Reports: what they say is what the log and the configuration say, and what is missing is named."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from facekeep.auditor import AuditPolicy
from facekeep.clock import ManualClock
from facekeep.logfiles import LogDirectory, audit_log
from facekeep.tlog import LogProof, TrustPolicy, verify_proof
from facekeep_server.assembly import Server, assemble, prepare
from facekeep_server.cli.app import app
from facekeep_server.errors import ServerError
from facekeep_server.evidence.people import Person
from facekeep_server.evidence.sources import Evidence
from facekeep_server.reports.catalogue import REPORTS, make_report
from facekeep_server.reports.names import ReportName
from tests.server.conftest import START, configuration
from tests.server.demo_store import POLICY, fill, write_policies

SAID = {"controller": "Example Ltd", "controller_contact": "privacy@example.org", "legal_bases": {"enrolment": "explicit consent"}}


def build(folder: Path, **compliance: object) -> Server:
    database, clock = f"sqlite:///{folder}/log.sqlite3", ManualClock(START)
    first = assemble(configuration(database, folder), clock=clock)
    prepare(first)
    policies = write_policies(folder, [row.key.to_vkey() for row in first.keys.list()])
    first.store.close()
    return assemble(configuration(database, folder, compliance={**policies, **SAID, **compliance}), clock=clock)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    server = build(tmp_path_factory.mktemp("reports"))
    fill(server, START)
    yield Evidence.of(server)
    server.store.close()


def people(evidence: Evidence) -> tuple[Person, ...]:
    return evidence.follower.follow().everyone()


def section(report: dict[str, object], title: str) -> dict[str, object]:
    (found,) = (item for item in report["sections"] if item["title"] == title)  # type: ignore[union-attr, attr-defined]
    return dict(found)


def test_every_report_is_one_page_and_the_same_values(evidence: Evidence) -> None:
    erased = next(person for person in people(evidence) if person.erased)
    for name, stated in REPORTS.items():
        report = make_report(evidence, name, subject=erased.pseudonym if stated.needs_subject else None)
        values = json.loads(report.to_text())
        assert values["schema_version"] == "urn:facekeep:report:1"
        page = report.to_html()
        assert page.startswith("<!doctype html>")
        # Nothing is loaded, nothing leads anywhere, and the one style is the one the page's policy names.
        assert not re.search(r"<(script|img|iframe|link|a|form)\b", page)
        assert f'content="{report.content_security_policy.split(";")[0]}' in page
        assert page.count("<style>") == 1
        for item in values["sections"]:
            assert item["title"] in page
        assert (values["checkpoint"] is None) == stated.is_public


def test_the_record_of_processing_states_what_is_configured_and_names_what_is_not(evidence: Evidence, tmp_path: Path) -> None:
    report = make_report(evidence, ReportName.RECORDS_OF_PROCESSING).to_json()
    assert section(report, "(a) Controller")["facts"]["controller"]["value"] == "Example Ltd"
    assert "set compliance.protection_officer" in section(report, "(a) Controller")["facts"]["protection_officer"]["value"]
    purposes = {row["purpose"]: row for row in section(report, "(b) Purposes")["table"]["rows"]}
    consenting = sum(person.state(START) == "in force" for person in people(evidence))
    assert purposes["enrolment"]["basis"] == "explicit consent"
    assert purposes["enrolment"]["people"] == consenting > 0
    assert purposes["redaction"]["people"] == 0
    assert "not stated" in purposes["redaction"]["basis"]
    terms = section(report, "(f) Time limits for erasure")["table"]["rows"]
    assert {row["term"] for row in terms} >= {"P90D", "P1Y", "P3Y", "P5Y"}
    # The address of the database may hold a password: no report does.
    text = make_report(evidence, ReportName.RECORDS_OF_PROCESSING).to_text()
    assert "sqlite:///" not in text
    assert "SQLite" in text
    bare = build(tmp_path, retention_policy=None, audit_policy=None, controller="")
    report = make_report(Evidence.of(bare), ReportName.RECORDS_OF_PROCESSING).to_json()
    assert "not stated" in section(report, "(a) Controller")["facts"]["controller"]["value"]
    assert section(report, "(f) Time limits for erasure")["table"]["rows"] == []
    bare.store.close()


def test_every_document_named_as_a_measure_is_there(evidence: Evidence) -> None:
    table = section(make_report(evidence, ReportName.RECORDS_OF_PROCESSING).to_json(), "(g) Security measures")["table"]
    assert all((Path(__file__).parents[2] / row["shown"]).is_file() for row in table["rows"])


def test_subject_access_gives_everything_of_one_and_nothing_of_others(evidence: Evidence) -> None:
    wanted, *others = [person for person in people(evidence) if not person.erased and person.templates]
    text = make_report(evidence, ReportName.SUBJECT_ACCESS, subject=wanted.pseudonym).to_text()
    rows = section(json.loads(text), "Entries")["table"]["rows"]
    assert len(rows) == wanted.entries > 2
    assert {row["subject"] for row in rows} == {wanted.pseudonym}
    assert not any(other.pseudonym in text for other in others)


def test_an_erasure_certificate_holds_a_proof_that_verifies(evidence: Evidence) -> None:
    policy = TrustPolicy.parse("".join(f"log {row.key.to_vkey()}\n" for row in evidence.server.keys.list()) + "quorum none\n")
    by = {person.erased_by: person for person in people(evidence) if person.erased}
    assert set(by) == {"template.erased", "template.expired"}
    for person in by.values():
        report = make_report(evidence, ReportName.ERASURE_CERTIFICATE, subject=person.pseudonym).to_json()
        line = section(report, "The entry")["verbatim"].encode()
        verify_proof(LogProof.parse(section(report, "The proof")["verbatim"]), line, policy)
        assert person.pseudonym.encode() in line
        assert section(report, "Erased")["facts"]["erased"]["value"] == person.erased
    kept = next(person for person in people(evidence) if not person.erased)
    for pseudonym in (kept.pseudonym, "0" * 64):
        with pytest.raises(ServerError) as caught:
            make_report(evidence, ReportName.ERASURE_CERTIFICATE, subject=pseudonym)
        assert caught.value.code == "request.not_found"


def test_the_identification_log_has_the_four_fields_and_says_what_is_missing(evidence: Evidence) -> None:
    report = make_report(evidence, ReportName.IDENTIFICATION_LOG, since="2026-11-01", until="2026-11-08").to_json()
    rows = section(report, "Identifications")["table"]["rows"]
    assert rows
    for row in rows:
        assert "2026-11-01" <= row["ended"][:10] < "2026-11-08"
        assert row["started"] < row["ended"]
        assert row["database"].startswith("vault:")
        assert row["input"] == "not retained"
        assert row["verified_by"] is None
        assert (row["subject"] is not None) == (row["result"] == "identified")
    assert any("(d)" in text for text in section(report, "What is not in it")["text"])
    whole = make_report(evidence, ReportName.IDENTIFICATION_LOG).to_json()
    events = evidence.follower.follow().devices
    assert len(section(whole, "Identifications")["table"]["rows"]) == sum(item.events["identification"] for item in events.values())


def test_impact_figures_are_those_of_the_log(evidence: Evidence) -> None:
    report = make_report(evidence, ReportName.DPIA_INPUTS).to_json()
    outcomes = section(report, "Outcomes")["table"]["rows"]
    assert sum(row["count"] for row in outcomes) == sum(item.entries for item in evidence.follower.devices.values())
    assert {row["outcome"] for row in outcomes} > {"ok", "consent.none"}
    facts = section(report, "Withdrawal and erasure")["facts"]
    withdrawn = [person for person in people(evidence) if person.erased_by == "template.erased"]
    assert facts["timed"]["value"] == len(withdrawn) > 0
    assert facts["waiting"]["value"] == 0
    assert section(report, "Integrity of these figures")["facts"]["verdict"]["value"] == "verified"


def test_the_public_schedule_says_nothing_about_anybody_and_obeys_the_statute(evidence: Evidence, tmp_path: Path) -> None:
    text = make_report(evidence, ReportName.BIPA_SCHEDULE).to_text()
    assert "P90D" in text
    assert not re.search(r"[0-9a-f]{32}", text.replace(json.loads(text)["sections"][1]["table"]["note"], ""))
    (tmp_path / "long.toml").write_text(POLICY.replace("P90D", "P4Y", 1).replace("P1Y", "P4Y").replace("P5Y", "P9Y"), "utf-8")
    for policy in (None, str(tmp_path / "long.toml")):
        server = build(tmp_path, retention_policy=policy)
        with pytest.raises(ServerError) as caught:
            make_report(Evidence.of(server), ReportName.BIPA_SCHEDULE)
        assert caught.value.code == "server.invalid_configuration"
        server.store.close()


def test_options_that_do_not_go_together_are_refused(evidence: Evidence) -> None:
    for name, options in (
        (ReportName.SUBJECT_ACCESS, {}),
        (ReportName.DPIA_INPUTS, {"subject": "0" * 64}),
        (ReportName.RETENTION_STATUS, {"since": "2026"}),
    ):
        with pytest.raises(ServerError) as caught:
            make_report(evidence, name, **options)
        assert caught.value.code == "server.invalid_request"


def test_the_command_writes_private_files_and_a_copy_of_the_log_that_verifies(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = evidence.server.configuration.store
    config = tmp_path / "server.toml"
    config.write_text(
        f'[store]\ndatabase = "{store.database}"\nkeys = "{store.keys}"\n[http]\npublic_url = "http://testserver"\n'
        f'[log]\norigin = "{evidence.server.configuration.log.origin}"\n[compliance]\ncontroller = "Example Ltd"\n',
        encoding="utf-8",
    )

    def run(*words: str) -> object:
        return CliRunner().invoke(app, ["--config", str(config), *words], catch_exceptions=True)

    out = tmp_path / "report.json"
    done = run("report", "records-of-processing", "--format", "json", "--out", str(out), "--json")
    assert done.exit_code == 0, done.output  # type: ignore[attr-defined]
    assert json.loads(done.output)["report"] == "records-of-processing"  # type: ignore[attr-defined]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "Example Ltd" in out.read_text()
    before = out.read_bytes()
    assert run("report", "subject-access", "--subject", "x", "--out", str(out)).exit_code != 0  # type: ignore[attr-defined]
    assert run("report", "nothing", "--out", str(out)).exit_code != 0  # type: ignore[attr-defined]
    assert run("report", "dpia-inputs", "--out", str(tmp_path / "no" / "where")).exit_code != 0  # type: ignore[attr-defined]
    assert out.read_bytes() == before
    done = run("export-log", str(tmp_path / "copy"))
    assert done.exit_code == 0, done.output  # type: ignore[attr-defined]
    policy = AuditPolicy.parse(evidence.server.configuration.compliance.audit_policy.read_bytes())  # type: ignore[union-attr]
    verdict = audit_log(LogDirectory(tmp_path / "copy"), policy, START)
    assert verdict.is_verified, verdict.render_text()
    assert verdict.size == evidence.server.reader.head().size
    assert run("export-log", str(tmp_path / "copy")).exit_code != 0  # type: ignore[attr-defined]
