"""Reports over time: the identification log, retention status, and the public retention schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from facekeep.durations import add_duration
from facekeep.retention import RetentionPolicy
from facekeep_server.errors import ServerError
from facekeep_server.evidence.identifications import MISSING, identifications_table
from facekeep_server.evidence.retention import due_table, retention_facts, runs_table
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Table
from facekeep_server.pages import Section
from facekeep_server.reports.stating import stated

MOST_ROWS: Final = 100_000
_STATUTE: Final = "P3Y"  # 740 ILCS 14/15(a): within 3 years of the individual's last interaction
_ANY_DAY: Final = datetime(2001, 1, 1, tzinfo=UTC)


def identification_sections(evidence: Evidence, since: str | None, until: str | None) -> tuple[Section, ...]:
    """Return the identifications of a period, and what the entries do not carry."""
    table = identifications_table(evidence, None, MOST_ROWS, since, until)
    period = f"From {since or 'the beginning'} to {until or 'now'} (before it)." if since or until else "Of the whole log."
    cut = ("There are more than this report holds: name a period.",) if table.following else ()
    return (Section("Identifications", (period, *cut), table=table), Section("What is not in it", MISSING))


def retention_sections(evidence: Evidence) -> tuple[Section, ...]:
    """Return what is held, due and overdue, and what the runs did."""
    return (
        Section("Where it stands", facts=tuple(retention_facts(evidence))),
        Section("People with templates", table=due_table(evidence, None, 0, MOST_ROWS)),
        Section("Retention runs", table=runs_table(evidence, None, MOST_ROWS)),
    )


def bipa_sections(evidence: Evidence) -> tuple[Section, ...]:
    """Return the public schedule. It holds the policy and the controller, and nothing about anybody.

    Raises:
        ServerError: "server.invalid_configuration" where no retention policy is stated, or one that keeps templates longer than
            three years after the last use.
    """
    said = evidence.server.configuration.compliance
    policy = said.load_retention_policy()
    if policy is None:
        raise ServerError("server.invalid_configuration", "A schedule needs a policy: set compliance.retention_policy.")
    if add_duration(_ANY_DAY, policy.templates_inactivity) > add_duration(_ANY_DAY, _STATUTE):
        raise ServerError(
            "server.invalid_configuration",
            f"compliance.retention_policy keeps templates for {policy.templates_inactivity} after the last use; the statute allows "
            "three years. A schedule that says so is not published.",
        )
    return (
        Section(
            "Who keeps biometric identifiers",
            facts=(
                stated("controller", "Private entity", said.controller, "controller"),
                stated("contact", "Contact", said.controller_contact, "controller_contact"),
            ),
        ),
        Section(
            "Schedule",
            (
                "A face template is destroyed at the first of these: the purpose for which it was collected is satisfied or "
                "the consent "
                f"ends; {policy.templates_inactivity} have passed since it was last used; {policy.templates_maximum} have "
                f"passed since "
                "it was made. A person who withdraws is erased at once.",
            ),
            table=terms_table(policy),
        ),
        Section(
            "How it is destroyed",
            (
                "The key that opens the template is destroyed first, so that no copy can be opened; then the stored rows are "
                "overwritten. "
                "The device writes a signed entry to a public transparency log, and the person can have a receipt with proof "
                "of it.",
                "Durations are ISO 8601: P90D is ninety days, P1Y one year.",
            ),
        ),
    )


def terms_table(policy: RetentionPolicy | None) -> Table:
    """Return the terms of a policy, or that there is none."""
    rows = []
    if policy is not None:
        rows = [
            ("Templates", "end of the consent", "at once"),
            ("Templates", "last use", policy.templates_inactivity),
            ("Templates", "enrolment", policy.templates_maximum),
            ("Training samples", "last use", policy.samples_inactivity),
            ("Training samples", "collection", policy.samples_maximum),
            ("Consent records", "end of the consent", policy.receipts_after_end),
            ("Audit trail on the device", "entry", policy.log_keep),
        ]
    columns = (Column("what", "What"), Column("after", "Counted from"), Column("term", "Destroyed after"))
    note = f"Policy {policy.sha256}." if policy else ""
    return Table("terms", "Terms", columns, rows, "Not stated: set compliance.retention_policy.", note)
