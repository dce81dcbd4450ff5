"""Which reports there are, and how each is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from facekeep.clock import to_rfc3339
from facekeep_server.errors import ServerError
from facekeep_server.evidence.sources import Evidence
from facekeep_server.pages import Section
from facekeep_server.reports import impact, participation, people, processing, schedules
from facekeep_server.reports.names import ReportName
from facekeep_server.reports.report import Report


@dataclass(frozen=True, slots=True)
class Stated:
    """A report that can be made.

    Attributes:
        title: heading.
        law: what it is meant to help with.
        make: returns the sections.
        needs_subject: whether it is about one person.
        is_public: whether it is meant for everyone: it then says nothing about the log.
    """

    title: str
    law: str
    make: Callable[[Evidence, str, str | None, str | None], tuple[Section, ...]]
    needs_subject: bool = False
    is_public: bool = False


REPORTS: Final[dict[ReportName, Stated]] = {
    ReportName.RECORDS_OF_PROCESSING: Stated(
        "Record of processing activities", "GDPR article 30(1).", lambda evidence, *_: processing.sections(evidence)
    ),
    ReportName.SUBJECT_ACCESS: Stated(
        "What the log holds about one person",
        "GDPR articles 15 (access) and 20 (portability), for one pseudonym.",
        lambda evidence, subject, *_: people.access_sections(evidence, subject),
        needs_subject=True,
    ),
    ReportName.ERASURE_CERTIFICATE: Stated(
        "Certificate of erasure",
        "GDPR article 17, for one pseudonym, with the proof that the log records it.",
        lambda evidence, subject, *_: people.erasure_sections(evidence, subject),
        needs_subject=True,
    ),
    ReportName.IDENTIFICATION_LOG: Stated(
        "Identification log",
        "AI Act (EU) 2024/1689, article 12(3): logs of remote biometric identification.",
        lambda evidence, _, since, until: schedules.identification_sections(evidence, since, until),
    ),
    ReportName.DPIA_INPUTS: Stated(
        "Inputs to a data protection impact assessment",
        "GDPR article 35(7): figures for the description and the risks; the assessment itself is yours.",
        lambda evidence, *_: impact.sections(evidence),
    ),
    ReportName.RETENTION_STATUS: Stated(
        "Retention status", "GDPR article 5(1)(e); BIPA section 15(a).", lambda evidence, *_: schedules.retention_sections(evidence)
    ),
    ReportName.BIPA_SCHEDULE: Stated(
        "Retention schedule and guidelines for destroying biometric identifiers",
        "740 ILCS 14/15(a): a written policy, made available to the public.",
        lambda evidence, *_: schedules.bipa_sections(evidence),
        is_public=True,
    ),
    ReportName.PARTICIPATION: Stated(
        "Participation in federated rounds",
        "GDPR articles 7(3) and 15(1): what withdrawn consent was used for before, for one pseudonym, with the privacy bound.",
        lambda evidence, subject, *_: participation.sections(evidence, subject),
        needs_subject=True,
    ),
}


def make_report(
    evidence: Evidence, name: ReportName, *, subject: str | None = None, since: str | None = None, until: str | None = None
) -> Report:
    """Return a report as things stand now.

    Args:
        evidence: where from.
        name: which.
        subject: pseudonym, 64 hexadecimal digits; for reports about one person, and only for those.
        since: for the identification log: RFC 3339 time or its beginning, or None.
        until: likewise: before.

    Raises:
        ServerError: "server.invalid_request" for a subject missing or out of place; "request.not_found" for one the log does not
            name, or did not erase; "server.invalid_configuration" where a policy file cannot be used, or one is needed.
    """
    stated = REPORTS[name]
    if stated.needs_subject != (subject is not None):
        needs = "is about one person: name the pseudonym" if stated.needs_subject else "is not about one person"
        raise ServerError("server.invalid_request", f"The report {name.value} {needs}.")
    if (since or until) and name is not ReportName.IDENTIFICATION_LOG:
        raise ServerError("server.invalid_request", f"The report {name.value} is not about a period.")
    checkpoint, note = evidence.server.reader.checkpoint()
    sections = stated.make(evidence, subject or "", since, until)
    about = f"Made from the log {checkpoint.origin} as it stood at {checkpoint.size:,} entries, root {checkpoint.root.hex()}."
    return Report(
        name=name.value,
        title=stated.title,
        law=stated.law,
        about="Made from the policy in force." if stated.is_public else about,
        generated_at=to_rfc3339(evidence.now()),
        checkpoint=None if stated.is_public else note,
        sections=sections,
    )
