"""Reports about one person, by pseudonym: what the log holds, and the certificate of an erasure."""

from __future__ import annotations

from facekeep.clock import to_rfc3339
from facekeep_server.errors import ServerError
from facekeep_server.evidence.consent import subject_facts
from facekeep_server.evidence.entries import entries_table, prove_entry
from facekeep_server.evidence.people import Person
from facekeep_server.evidence.retention import due_items
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Fact, Kind
from facekeep_server.pages import Section
from facekeep_server.reports.schedules import MOST_ROWS
from facekeep_server.reports.stating import stated

_HELD_ELSEWHERE = (
    "This server holds no picture, no template and no name. What else is held of the person is on the device: "
    "facekeep consent export NAME there gives the consent records, facekeep consent show NAME a page to read.",
    "The pseudonym belongs to one enrolment on one device. The same person enrolled elsewhere, or again after an "
    "erasure, has another.",
)


def access_sections(evidence: Evidence, subject: str) -> tuple[Section, ...]:
    """Return everything the log holds under a pseudonym.

    Raises:
        ServerError: "request.not_found".
    """
    people = _require(evidence, subject)
    said = evidence.server.configuration.compliance
    due = {item.person.device: item for item in due_items(evidence) if item.person.pseudonym == subject}
    sections = [Section("The person", _HELD_ELSEWHERE, (Fact("pseudonym", "Pseudonym", subject, Kind.SUBJECT),))]
    for person in people:
        item = due.get(person.device)
        end = to_rfc3339(item.due) if item and item.due else None
        facts = (*subject_facts(evidence, person), Fact("due", "Templates held at the longest until", end, Kind.TIME))
        sections.append(Section(f"On device {person.device[:12]}", facts=facts))
    table = entries_table(evidence, caption="Every entry that names the pseudonym", subject=subject, count=MOST_ROWS)
    return (
        *sections,
        Section("Entries", table=table),
        Section(
            "Purposes, recipients and rights",
            (
                "The person can withdraw at any time and is then erased; can ask the controller for rectification, restriction "
                "and a "
                "copy; and can complain to a supervisory authority. No decision is made by this server.",
            ),
            (
                stated("controller", "Controller", said.controller, "controller"),
                stated("contact", "Contact", said.controller_contact, "controller_contact"),
                stated("recipients", "Recipients", said.recipients, "recipients"),
                stated("third_countries", "Third countries", said.third_countries, "third_countries"),
            ),
        ),
    )


def erasure_sections(evidence: Evidence, subject: str) -> tuple[Section, ...]:
    """Return the certificate of the erasure of a pseudonym, with its proof.

    Raises:
        ServerError: "request.not_found" where the log does not say that it was erased.
    """
    erased = [person for person in _require(evidence, subject) if person.erased_entry is not None]
    if not erased:
        raise ServerError("request.not_found", "The log does not say that this pseudonym was erased.")
    sections: list[Section] = []
    for person in erased:
        if person.erased_entry is None:
            continue
        proved = prove_entry(evidence, person.erased_entry)
        details = proved.line.details or {}
        why = "withdrawal" if person.erased_by == "template.erased" else f"end of term: {details.get('reason', 'not said')}"
        gone = details.get("references")
        epoch = details.get("epoch")
        facts = (
            Fact("pseudonym", "Pseudonym", subject, Kind.SUBJECT),
            Fact("erased", "Erased", person.erased, Kind.TIME),
            Fact("why", "Why", why),
            Fact("references", "Templates destroyed", gone if isinstance(gone, int) else None, Kind.NUMBER),
            Fact("epoch", "Wrap key epoch since", epoch if isinstance(epoch, int) else None, Kind.NUMBER),
            Fact("device", "Device", person.device, Kind.DEVICE),
            Fact("entry", "Entry of the log", person.erased_entry, Kind.ENTRY),
            Fact("leaf", "Leaf hash", proved.leaf, Kind.HASH),
        )
        sections += [
            Section(
                "Erased",
                (
                    "The device destroyed the templates, the key that could open them and the salt behind the pseudonym, and "
                    "recorded it in "
                    "an entry that its signature covers. That entry is in the transparency log; the proof below was verified when "
                    "this "
                    "certificate was made.",
                ),
                facts,
            ),
            Section("The entry", verbatim=proved.line.line.decode("utf-8", "replace")),
            Section(
                "The proof",
                (
                    "C2SP tlog-proof. Save it as erasure.tlog-proof; facekeep audit verify LOG --policy FILE --proof "
                    "erasure.tlog-proof checks it.",
                ),
                verbatim=proved.proof.to_text(),
            ),
        ]
    limits = (
        "The log proves what the device recorded and that nobody changed it since. That the storage of the device "
        "holds no residue is "
        "shown there: facekeep erasure verify with the receipt of the erasure.",
    )
    return (*sections, Section("What it does not prove", limits))


def _require(evidence: Evidence, subject: str) -> list[Person]:
    people = evidence.follower.follow().subject(subject)
    if not people:
        raise ServerError("request.not_found", "The log does not name this pseudonym.")
    return people
