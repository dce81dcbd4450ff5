"""What each page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from facekeep_server.errors import ServerError
from facekeep_server.evidence import consent as ledger
from facekeep_server.evidence import erasures as erased
from facekeep_server.evidence import federated as together
from facekeep_server.evidence import fleet, logstate
from facekeep_server.evidence import identifications as identified
from facekeep_server.evidence import retention as kept
from facekeep_server.evidence.entries import entries_table, prove_entry
from facekeep_server.evidence.searching import found_table
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table
from facekeep_server.pages import Field, Section, View
from facekeep_server.reports.catalogue import Stated
from facekeep_server.reports.names import ReportName

PAGE_ROWS = 50
_LARGEST_VERIFIED = 20_000
Asked = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries to show; None for all."""

    device: str | None = None
    event: str | None = None
    subject: str | None = None
    failed: bool = False
    since: str | None = None
    until: str | None = None


def overview(evidence: Evidence) -> View:
    """The fleet at a glance."""
    return View(
        "Overview",
        "What the devices of this fleet have written to the log, and what asks for attention.",
        (
            Section(facts=tuple(fleet.fleet_facts(evidence))),
            Section("Devices", table=fleet.devices_table(evidence)),
            Section("Activity", table=fleet.activity_table(evidence)),
            Section("Events", table=fleet.events_table(evidence)),
        ),
    )


def consent(evidence: Evidence, state: str | None, device: str | None, start: int, count: int, asked: Asked) -> View:
    """The consent ledger."""
    fields = (
        Field("state", "Consent", state or "", ledger.STATES),
        Field("device", "Device", device or "", hint="32 hexadecimal digits"),
    )
    table = ledger.consent_table(evidence, state or None, device or None, start, count)
    lead = "Everyone the log names, by pseudonym: what they consented to, until when, and what is held of them."
    return View("Consent ledger", lead, (Section(table=table),), fields, asked)


def subject(evidence: Evidence, pseudonym: str, before: int | None, count: int) -> View:
    """One person."""
    people = evidence.follower.follow().subject(pseudonym)
    if not people:
        raise ServerError("request.not_found", "The log does not name this pseudonym.")
    sections = [Section(facts=tuple(ledger.subject_facts(evidence, person))) for person in people]
    base = f"/console/reports/{ReportName.SUBJECT_ACCESS.value}?subject={pseudonym}"
    links = {"Subject access report (HTML)": base, "Subject access report (JSON)": f"{base}&format=json"}
    links["Participation in federated rounds"] = f"/console/reports/{ReportName.PARTICIPATION.value}?subject={pseudonym}"
    if any(person.erased for person in people):
        links["Erasure certificate"] = f"/console/reports/{ReportName.ERASURE_CERTIFICATE.value}?subject={pseudonym}"
    table = entries_table(evidence, caption="Entries that name this pseudonym", subject=pseudonym, before=before, count=count)
    return View(
        f"Pseudonym {pseudonym[:12]}…",
        f"{pseudonym}. Who this is only the device can tell, and nobody once the salt behind it is destroyed.",
        (*sections, Section("Reports", links=links), Section("Entries", table=table)),
    )


def retention(evidence: Evidence, state: str | None, start: int, before: int | None, count: int, asked: Asked) -> View:
    """What is due and overdue."""
    return View(
        "Retention",
        "Until when templates may be held by the stated policy, what should be gone, and what the runs of the devices destroyed.",
        (
            Section(facts=tuple(kept.retention_facts(evidence))),
            Section("Due", table=kept.due_table(evidence, state or None, start, count)),
            Section("Runs", table=kept.runs_table(evidence, before, min(count, 30) if count <= PAGE_ROWS else count)),
        ),
        (Field("state", "State", state or "", kept.STATES),),
        asked,
    )


def erasures(evidence: Evidence, before: int | None, count: int) -> View:
    """What was destroyed."""
    lead = "Every withdrawal and every end of a term that destroyed something, with the proof that the log says so."
    return View("Erasures", lead, (Section(table=erased.erasures_table(evidence, before, count)),))


def identifications(evidence: Evidence, since: str | None, until: str | None, before: int | None, count: int, asked: Asked) -> View:
    """The identification log."""
    fields = (
        Field("since", "From (UTC)", since or "", hint="2026-11-21"),
        Field("until", "Before (UTC)", until or "", hint="2026-11-22"),
    )
    table = identified.identifications_table(evidence, before, count, since or None, until or None)
    lead = "Every search among all who consented to it (1:N), with the fields of article 12(3) of the AI Act."
    missing = Section("What is not in it", identified.MISSING)
    return View("Identifications", lead, (Section(table=table), missing), fields, asked)


def log(evidence: Evidence, verification: logstate.Verification, before: int | None, count: int) -> View:
    """Checkpoints, witnesses and verification."""
    facts, note = logstate.checkpoint_facts(evidence)
    found = verification.of(evidence, largest=_LARGEST_VERIFIED)
    if found is None:
        text = (
            f"The log has more than {_LARGEST_VERIFIED:,} entries, too many to verify while a page waits. Verify a copy, which "
            "proves more anyway:",
        )
        verified = Section("Verification", text, verbatim=_audit_command(evidence))
    else:
        at, verdict = found
        whole = (
            Fact("verdict", "All entries, tiles and signatures", "verified" if verdict.is_verified else "not verified", Kind.STATE),
            Fact("when", "Verified", at, Kind.TIME),
            Fact("heads", "Signatures of devices", verdict.signed_heads, Kind.NUMBER),
            Fact("found", "Findings", sum(verdict.counts.values()), Kind.NUMBER, "good" if verdict.is_verified else "bad"),
        )
        text = ("This machine verified its own database. To rely on nobody here, verify from outside:",)
        verified = Section("Verification", text, whole, logstate.verdict_table(verdict), _audit_command(evidence))
    heads = logstate.heads_table(evidence, before, min(count, 20) if count <= PAGE_ROWS else count)
    return View(
        "Transparency log",
        "The newest checkpoint, who vouches for it, and whether everything in the log leads to it.",
        (
            Section(facts=tuple(facts)),
            Section("Checkpoint", verbatim=note, links={"As devices and witnesses get it": "/log/checkpoint"}),
            verified,
            Section("Witnesses", table=logstate.witnesses_table(evidence)),
            Section("Keys", table=logstate.keys_table(evidence)),
            Section("History", table=heads),
        ),
    )


def entries(evidence: Evidence, wanted: Wanted, before: int | None, count: int, asked: Asked) -> View:
    """Lines of the log."""
    fields = (
        Field("event", "Event", wanted.event or "", hint="consent.given"),
        Field("subject", "Pseudonym", wanted.subject or "", hint="64 hexadecimal digits"),
        Field("device", "Device", wanted.device or "", hint="32 hexadecimal digits"),
        Field("since", "From (UTC)", wanted.since or "", hint="2026-11-21"),
        Field("until", "Before (UTC)", wanted.until or "", hint="2026-11-22"),
        Field("only", "Outcome", "failed" if wanted.failed else "", ("failed",)),
    )
    table = entries_table(
        evidence,
        device=wanted.device,
        events=(wanted.event,) if wanted.event else (),
        subject=wanted.subject,
        failed=wanted.failed,
        since=wanted.since,
        until=wanted.until,
        before=before,
        count=count,
    )
    lead = "The log line by line: codes, numbers and pseudonyms as the devices signed them."
    return View("Entries", lead, (Section(table=table),), fields, asked)


def entry(evidence: Evidence, number: int) -> View:
    """One line of the log and its proof."""
    proved = prove_entry(evidence, number)
    line = proved.line
    facts = (
        Fact("event", "Event", line.event or f"({line.kind} line)", Kind.CODE),
        Fact("outcome", "Outcome", line.outcome, Kind.STATE),
        Fact("at", "Time on the device", line.at, Kind.TIME),
        Fact("subject", "Pseudonym", line.subject, Kind.SUBJECT),
        Fact("device", "Device", line.device, Kind.DEVICE),
        Fact("leaf", "Leaf hash", proved.leaf, Kind.HASH),
        Fact("proved", "In the log of this many entries", proved.size, Kind.NUMBER, "good"),
    )
    columns = (Column("name", "Name", Kind.CODE), Column("value", "Value"))
    rows = [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in (line.details or {}).items()]
    details = Table("details", "What the entry says", columns, rows, "This line carries no details.")
    links = {
        "Proof (tlog-proof)": f"/console/entries/{number}/proof",
        "The line itself, byte for byte": f"/console/entries/{number}/line",
    }
    return View(
        f"Entry {number:,}",
        "A line of the log with the proof that it is in it, verified just now against the checkpoint in the proof.",
        (
            Section(facts=facts, links=links),
            Section("Details", table=details),
            Section("Line", verbatim=line.line.decode("utf-8", "replace")),
            Section("Inclusion proof", verbatim=proved.proof.to_text()),
        ),
    )


def incidents(evidence: Evidence, before: int | None, count: int) -> View:
    """What was refused or changed."""
    lead = "Refusals and changes that an auditor has to see: histories signed twice, codes guessed, devices revoked, keys changed."
    return View("Incidents", lead, (Section(table=fleet.incidents_table(evidence, before, count)),))


def federated(evidence: Evidence, start: int, count: int) -> View:
    """Federated rounds and releases."""
    record = together.record_of(evidence)
    if not record.rounds and not record.releases:
        lead = "The log tells of no federated round and no release."
    else:
        lead = "What the coordinator wrote to the log, and beside it what the devices wrote themselves."
    return View(
        "Federated rounds and releases",
        lead,
        (
            Section(facts=tuple(together.federated_facts(record))),
            Section("Rounds", table=together.rounds_table(record, start, count)),
            Section("Releases", table=together.releases_table(record)),
            Section("Privacy", chart=together.privacy_chart(record), table=together.privacy_table(record)),
            Section("Refusals", table=together.refusals_table(record)),
        ),
    )


def search(evidence: Evidence, text: str) -> View:
    """What a text may mean."""
    lead = f"For “{text}”." if text else "Type the beginning of a pseudonym or device, an entry's number, an event or a label."
    return View("Search", lead, (Section(table=found_table(evidence, text)),), asked={"q": text})


def reports(known: Mapping[ReportName, Stated]) -> View:
    """The reports that can be made."""
    sections = []
    for name, stated in known.items():
        address = f"/console/reports/{name.value}"
        links = {} if stated.needs_subject else {"HTML": address, "JSON": f"{address}?format=json"}
        text = (
            stated.law,
            *(("Made for one pseudonym: open a person and follow the link there.",) if stated.needs_subject else ()),
        )
        sections.append(Section(stated.title, text, links=links))
    lead = "The same documents as facekeep-server report NAME makes on the command line."
    return View("Reports", lead, tuple(sections))


def _audit_command(evidence: Evidence) -> str:
    configuration = evidence.server.configuration
    if configuration.log.public_entries:
        return f"facekeep audit verify {configuration.http.public_url}/log --policy policy.toml"
    return "facekeep-server export-log DIR\nfacekeep audit verify DIR --policy policy.toml"
