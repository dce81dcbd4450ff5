"""The record of processing activities, GDPR article 30(1), from the running configuration and what the log shows."""

from __future__ import annotations

from collections import Counter
from typing import Final

from facekeep.consent.purposes import PURPOSE_TERMS, Purpose
from facekeep_server.configuration import Configuration
from facekeep_server.evidence.logstate import keys_table, witnesses_table
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table
from facekeep_server.pages import Section
from facekeep_server.reports.schedules import terms_table
from facekeep_server.reports.stating import NOT_STATED, stated

# Held by construction, each with the document or test that shows it; the operator adds its own in the configuration.
_MEASURES: Final = (
    (
        "Faces and templates stay on the device",
        "templates are sealed there; the server has no code that could read one",
        "docs/threat-model.md",
    ),
    ("Pseudonyms", "the log names people by commitments under a salt that erasure destroys", "docs/formats/log-entry.md"),
    ("Erasure", "keys and salt destroyed, rows overwritten, receipt signed", "docs/compliance/erasure.md"),
    ("Integrity", "Merkle tree with signed checkpoints; nothing can be changed unseen", "docs/formats/log.md"),
    ("Devices", "each request is signed by the device's own key (RFC 9421); a nonce counts once", "docs/formats/server-api.md"),
    (
        "People",
        "tokens kept as scrypt hashes, expiring, one role each; auditors read, administrators enrol",
        "docs/operations/server.md",
    ),
    ("Server's own records", "no address, name, pseudonym or sent text in its log lines and figures", "docs/operations/server.md"),
)


def sections(evidence: Evidence) -> tuple[Section, ...]:
    """Return points (a) to (g) of article 30(1)."""
    configuration = evidence.server.configuration
    said = configuration.compliance
    return (
        Section(
            "(a) Controller",
            facts=(
                stated("controller", "Controller", said.controller, "controller"),
                stated("contact", "Contact", said.controller_contact, "controller_contact"),
                stated("representative", "Representative", said.representative, "representative"),
                stated("protection_officer", "Data protection officer", said.protection_officer, "protection_officer"),
            ),
        ),
        Section("(b) Purposes", table=_purposes(evidence)),
        Section(
            "(c) Categories of data subjects and of personal data",
            facts=(stated("subjects", "Data subjects", said.subjects, "subjects"),),
            table=_data(configuration),
        ),
        Section(
            "(d) Recipients",
            ("Whoever has a token of the role auditor reads entries; whoever reaches the server reads hashes.",)
            + (
                ("log.public_entries is on: everybody who reaches the server reads the entries.",)
                if configuration.log.public_entries
                else ()
            ),
            facts=(stated("recipients", "Recipients", said.recipients, "recipients"),),
        ),
        Section(
            "(e) Transfers to third countries",
            facts=(stated("third_countries", "Transfers and safeguards", said.third_countries, "third_countries"),),
        ),
        Section("(f) Time limits for erasure", table=terms_table(said.load_retention_policy())),
        Section(
            "(g) Security measures",
            facts=(stated("measures", "Measures of the operator", said.security_measures, "security_measures"),),
            table=_measures(),
        ),
        Section("The server as configured", facts=_running(evidence)),
        Section("Keys", table=keys_table(evidence)),
        Section("Witnesses", table=witnesses_table(evidence)),
    )


def _purposes(evidence: Evidence) -> Table:
    follower, now = evidence.follower.follow(), evidence.now()
    holding: Counter[str] = Counter()
    for person in follower.everyone():
        if person.state(now) == "in force":
            holding.update(person.purposes)
    bases = evidence.server.configuration.compliance.legal_bases
    rows = [
        (
            purpose.value,
            PURPOSE_TERMS[purpose].dpv,
            ", ".join(PURPOSE_TERMS[purpose].data),
            PURPOSE_TERMS[purpose].leaves_device,
            bases.get(purpose) or f"{NOT_STATED}: set compliance.legal_bases",
            holding[purpose.value],
        )
        for purpose in Purpose
    ]
    return Table(
        "purposes",
        "Purposes, each consented to on its own",
        (
            Column("purpose", "Purpose", Kind.CODE),
            Column("dpv", "Data Privacy Vocabulary"),
            Column("data", "Data on the device"),
            Column("leaves", "Leaves the device"),
            Column("basis", "Legal basis stated"),
            Column("people", "People with consent in force", Kind.NUMBER),
        ),
        rows,
        "",
        "Special categories of data (GDPR article 9): the devices ask for explicit consent and refuse without it.",
    )


def _data(configuration: Configuration) -> Table:
    readers = "everybody" if configuration.log.public_entries else "auditors"
    rows = [
        ("Face images", "device, in memory", "while a call runs", "nobody"),
        ("Templates", "device, sealed", "see (f)", "nobody"),
        ("Names of data subjects", "device, sealed", "until erasure", "the device's operator"),
        ("Consent records", "device", "see (f)", "the data subject, the device's operator"),
        (
            "Log entries: pseudonym, event, time, result codes",
            "device and this server",
            "see (f); on this server as long as the log",
            readers,
        ),
        ("Device keys and labels", "this server", "as long as the log", "auditors, administrators"),
        ("Tokens and enrolment codes, as hashes", "this server", "kept after they end", "nobody"),
    ]
    columns = (Column("what", "Data"), Column("where", "Where"), Column("how_long", "How long"), Column("who", "Who can read it"))
    return Table("data", "Personal data and where it is", columns, rows, "")


def _measures() -> Table:
    columns = (Column("measure", "Measure"), Column("what", "What"), Column("shown", "Described in", Kind.CODE))
    return Table("measures", "Measures built in", columns, _MEASURES, "")


def _running(evidence: Evidence) -> tuple[Fact, ...]:
    server = evidence.server
    configuration = server.configuration
    access = configuration.access
    # Never the address of the database: it may hold a password.
    return (
        Fact("address", "Public address", configuration.http.public_url),
        Fact("origin", "Log", configuration.log.origin),
        Fact("database", "Database", "SQLite" if server.store.is_sqlite else "PostgreSQL"),
        Fact("public_entries", "Entries without a token", "yes" if configuration.log.public_entries else "no"),
        Fact("devices", "Devices enrolled", sum(device.revoked_at is None for device in evidence.devices()), Kind.NUMBER),
        Fact("token_days", "Tokens expire after", f"{access.token_days:g} days"),
        Fact("code_hours", "Enrolment codes expire after", f"{access.enrolment_code_hours:g} hours"),
        Fact("clock", "Clocks of devices may be off by", f"{access.clock_window_seconds} s"),
    )
