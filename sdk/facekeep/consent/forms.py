"""The two spellings of a consent record in canonical JSON (RFC 8785): version 2 with sections, version 1 flat."""

from __future__ import annotations

import json
from typing import Any, Final

from facekeep.canonical import to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent.purposes import PURPOSE_TERMS, Purpose
from facekeep.consent.record import ConsentRecord, Lifecycle
from facekeep.consent.terms import Actor, Dependence, Party, Processing, WrittenRelease
from facekeep.errors import ConsentError

VERSION_1: Final = "urn:facekeep:consent-record:1"
VERSION_2: Final = "urn:facekeep:consent-record:2"
# GDPR 6(1)(a) and 9(2)(a): explicit consent; a record of this format knows no other basis.
_LAWFUL_BASIS: Final = ("eu-gdpr:A6-1-a", "eu-gdpr:A9-2-a")
_RELEASE_LAW: Final = "us-il-bipa:15-b-3"
# More than any record needs; a longer one is hostile.
_LARGEST_BYTES: Final = 128 * 1024


def write_record(record: ConsentRecord) -> bytes:
    """Return the canonical bytes of a record, in the spelling of its version."""
    return to_canonical(_flat(record) if record.version == 1 else _sectioned(record))


def read_record(body: bytes) -> ConsentRecord:
    """Return the record of canonical bytes.

    Raises:
        ConsentError: "consent.corrupt".
    """
    try:
        if len(body) > _LARGEST_BYTES:
            raise ValueError("too long")
        fields = json.loads(body)
        version = fields["schema_version"]
        if version not in (VERSION_1, VERSION_2):
            raise ValueError("unknown version")
        record = _of_flat(fields) if version == VERSION_1 else _of_sections(fields)
        # One comparison finds unknown fields, another order, white space and double keys alike.
        if write_record(record) != body:
            raise ValueError("not canonical")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConsentError):
        raise ConsentError("consent.corrupt", "A consent record is not of the form expected; nothing is allowed by it.") from None
    return record


def processing_fields(processing: Processing) -> dict[str, Any]:
    """Return a description of processing as JSON, the same in records and in policies."""
    return {
        "parties": [
            {"role": party.role, "name": party.name, "address": party.address, "contact": party.contact, "country": party.country}
            for party in processing.parties
        ],
        "jurisdictions": list(processing.jurisdictions),
        "recipients": list(processing.recipients),
        "device_country": processing.device_country,
        "withdrawal": processing.withdrawal,
        "rights": list(processing.rights),
        "inactivity": processing.inactivity,
        "maximum": processing.maximum,
        "automated_decision": processing.automated_decision,
    }


def processing_of(fields: dict[str, Any]) -> Processing:
    """Return the description of `processing_fields`; a field left out has its default.

    Raises:
        ConsentError: "consent.invalid_request".
    """
    try:
        values = dict(fields)
        if "parties" in values:
            values["parties"] = tuple(Party(**party) for party in values["parties"])
        for name in ("jurisdictions", "recipients", "rights"):
            if name in values:
                values[name] = tuple(_list(values[name]))
        return Processing(**values)
    except (TypeError, ValueError, AttributeError):
        raise ConsentError(
            "consent.invalid_request", "The description of the processing has an unknown or a wrong field."
        ) from None


def _sectioned(record: ConsentRecord) -> dict[str, Any]:
    terms = processing_fields(record.processing)
    release, dependence, actor = record.release, record.dependence, record.actor
    return {
        "schema_version": VERSION_2,
        "record_id": record.record_id,
        "principal_id": record.principal_id,
        "previous": record.previous,
        "processing": {
            "notice": {
                "sha256": record.notice_sha256,
                "language": record.notice_language,
                "version": record.notice_version,
                "url": record.notice_url,
            },
            "purposes": [
                {
                    "id": purpose.value,
                    "dpv": PURPOSE_TERMS[purpose].dpv,
                    "data": list(PURPOSE_TERMS[purpose].data),
                    "leaves_device": PURPOSE_TERMS[purpose].leaves_device,
                }
                for purpose in sorted(record.purposes)
            ],
            "lawful_basis": list(_LAWFUL_BASIS),
            "written_release": None
            if release is None
            else {"law": _RELEASE_LAW, "statement_sha256": release.statement_sha256, "term": release.term},
            "special_category": True,
            "storage": [{"where": "device", "country": terms["device_country"]}],
            "retention": {
                "delete_after": to_rfc3339(record.valid_until),
                "inactivity": terms["inactivity"],
                "maximum": terms["maximum"],
                "on_purpose_satisfied": "destroy",
            },
            "jurisdictions": terms["jurisdictions"],
            "recipients": terms["recipients"],
            "withdrawal": terms["withdrawal"],
            "rights": terms["rights"],
            "automated_decision": terms["automated_decision"],
        },
        "parties": terms["parties"],
        "event": {
            "state": record.state.value,
            "time": to_rfc3339(record.recorded_at),
            "valid_from": to_rfc3339(record.valid_from),
            "valid_until": to_rfc3339(record.valid_until),
            "actor": {"kind": actor.kind, "pseudonym": actor.pseudonym, "issuer": actor.issuer, "epoch": actor.epoch},
        },
        "revocation": None if dependence is None else {"issuer": dependence.issuer, "max_age": dependence.max_age},
    }


def _of_sections(fields: dict[str, Any]) -> ConsentRecord:
    processing, event, notice = fields["processing"], fields["event"], fields["processing"]["notice"]
    retention, release, dependence = processing["retention"], processing["written_release"], fields["revocation"]
    return ConsentRecord(
        record_id=fields["record_id"],
        principal_id=fields["principal_id"],
        previous=fields["previous"],
        state=Lifecycle(event["state"]),
        purposes=frozenset(Purpose(item["id"]) for item in processing["purposes"]),
        valid_from=parse_rfc3339(event["valid_from"]),
        valid_until=parse_rfc3339(event["valid_until"]),
        notice_sha256=notice["sha256"],
        notice_language=notice["language"],
        notice_version=notice["version"],
        recorded_at=parse_rfc3339(event["time"]),
        notice_url=notice["url"],
        actor=Actor(**event["actor"]),
        processing=processing_of(
            {
                "parties": fields["parties"],
                "device_country": processing["storage"][0]["country"],
                "inactivity": retention["inactivity"],
                "maximum": retention["maximum"],
                **{
                    name: processing[name] for name in ("jurisdictions", "recipients", "withdrawal", "rights", "automated_decision")
                },
            }
        ),
        release=None if release is None else WrittenRelease(release["statement_sha256"], release["term"]),
        dependence=None if dependence is None else Dependence(dependence["issuer"], dependence["max_age"]),
    )


def _flat(record: ConsentRecord) -> dict[str, Any]:
    return {
        "schema_version": VERSION_1,
        "record_id": record.record_id,
        "principal_id": record.principal_id,
        "previous": record.previous,
        "state": record.state.value,
        "purposes": sorted(purpose.value for purpose in record.purposes),
        "valid_from": to_rfc3339(record.valid_from),
        "valid_until": to_rfc3339(record.valid_until),
        "notice": {"sha256": record.notice_sha256, "language": record.notice_language, "version": record.notice_version},
        "recorded_at": to_rfc3339(record.recorded_at),
    }


def _of_flat(fields: dict[str, Any]) -> ConsentRecord:
    notice, state = fields["notice"], Lifecycle(fields["state"])
    if state not in (Lifecycle.GIVEN, Lifecycle.RENEWED, Lifecycle.REFUSED, Lifecycle.WITHDRAWN):
        raise ValueError("a state that version 1 does not have")
    return ConsentRecord(
        record_id=fields["record_id"],
        principal_id=fields["principal_id"],
        previous=fields["previous"],
        state=state,
        purposes=frozenset(Purpose(item) for item in fields["purposes"]),
        valid_from=parse_rfc3339(fields["valid_from"]),
        valid_until=parse_rfc3339(fields["valid_until"]),
        notice_sha256=notice["sha256"],
        notice_language=notice["language"],
        notice_version=notice["version"],
        recorded_at=parse_rfc3339(fields["recorded_at"]),
        version=1,
    )


def _list(value: object) -> list[Any]:
    # A text is a sequence too, and would be taken apart into letters.
    if not isinstance(value, list):
        raise TypeError("a list was expected")
    return value
