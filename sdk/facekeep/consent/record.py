"""The consent record: what was agreed, on which notice, for how long, signed by the device.

The fields are a subset of ISO/IEC TS 27560; see docs/formats/consent-record.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from facekeep.canonical import to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import ConsentError, TrustError
from facekeep.signing import DeviceKey, verify_signature

RECORD_VERSION = "urn:facekeep:consent-record:1"
_DOMAIN = "consent record v1"


class Purpose(StrEnum):
    """What a consent can be for. Each is asked for and withdrawn on its own."""

    ENROLMENT = "enrolment"
    VERIFICATION = "verification"
    IDENTIFICATION = "identification"
    FEDERATED_TRAINING = "federated-training"
    CALIBRATION_STATISTICS = "calibration-statistics"
    REDACTION = "redaction"


class Lifecycle(StrEnum):
    """What a record says happened."""

    GIVEN = "given"
    RENEWED = "renewed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Notice:
    """The text that the subject was shown before agreeing.

    Attributes:
        text: the whole notice, as shown.
        language: BCP 47 tag of it.
        version: the controller's own version mark.
    """

    text: str
    language: str = "en"
    version: str = "1"

    def __post_init__(self) -> None:
        if not all(isinstance(part, str) for part in (self.text, self.language, self.version)):
            raise ConsentError("consent.invalid_request", "A notice is text: what was shown, its language, its version.")
        try:
            self.text.encode("utf-8")
        except UnicodeEncodeError:
            raise ConsentError("consent.invalid_request", "The notice holds half of a character; read it as UTF-8.") from None
        if not self.text.strip() or not self.language.strip() or not self.version.strip():
            raise ConsentError("consent.invalid_request", "A notice has a text, a language and a version.")

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the text in UTF-8: what the record keeps."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """One signed step in the life of a consent. Travels; holds a pseudonym, never a name.

    Attributes:
        record_id: `urn:uuid:` of this record.
        principal_id: 64 hexadecimal digits, a pseudonym whose key is shredded on erasure.
        previous: SHA-256 of the record before in the chain of this principal, or None.
        state: what happened.
        purposes: the purposes given, or those withdrawn or refused.
        valid_from: first instant of validity.
        valid_until: first instant after it.
        notice_sha256: hash of the notice shown.
        notice_language: its language.
        notice_version: its version.
        recorded_at: when the record was made.
    """

    record_id: str
    principal_id: str
    previous: str | None
    state: Lifecycle
    purposes: frozenset[Purpose]
    valid_from: datetime
    valid_until: datetime
    notice_sha256: str
    notice_language: str
    notice_version: str
    recorded_at: datetime

    def __post_init__(self) -> None:
        if not self.purposes:
            raise ConsentError("consent.invalid_request", "A consent is for at least one purpose; none was named.")
        if self.valid_until <= self.valid_from:
            raise ConsentError("consent.invalid_request", "A consent ends after it begins.")
        if len(self.principal_id) != 64 or len(self.notice_sha256) != 64:
            raise ConsentError("consent.invalid_request", "Pseudonym and notice hash are 64 hexadecimal digits.")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are signed and stored."""
        return to_canonical(
            {
                "schema_version": RECORD_VERSION,
                "record_id": self.record_id,
                "principal_id": self.principal_id,
                "previous": self.previous,
                "state": self.state.value,
                "purposes": sorted(purpose.value for purpose in self.purposes),
                "valid_from": to_rfc3339(self.valid_from),
                "valid_until": to_rfc3339(self.valid_until),
                "notice": {"sha256": self.notice_sha256, "language": self.notice_language, "version": self.notice_version},
                "recorded_at": to_rfc3339(self.recorded_at),
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> ConsentRecord:
        """Return the record of canonical bytes.

        Raises:
            ConsentError: "consent.corrupt".
        """
        try:
            fields = json.loads(body)
            if fields.pop("schema_version") != RECORD_VERSION:
                raise ValueError("unknown version")
            notice = fields.pop("notice")
            record = cls(
                record_id=fields["record_id"],
                principal_id=fields["principal_id"],
                previous=fields["previous"],
                state=Lifecycle(fields["state"]),
                purposes=frozenset(Purpose(item) for item in fields["purposes"]),
                valid_from=parse_rfc3339(fields["valid_from"]),
                valid_until=parse_rfc3339(fields["valid_until"]),
                notice_sha256=notice["sha256"],
                notice_language=notice["language"],
                notice_version=notice["version"],
                recorded_at=parse_rfc3339(fields["recorded_at"]),
            )
            # One comparison finds unknown fields, another order, white space and double keys alike.
            if record.to_bytes() != body:
                raise ValueError("not canonical")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConsentError):
            raise ConsentError(
                "consent.corrupt", "A consent record is not of the form expected; nothing is allowed by it."
            ) from None
        return record


@dataclass(frozen=True, slots=True)
class SignedConsent:
    """The bytes of a record and the device's signature of them."""

    body: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the body: what the next record of the chain points back to."""
        return hashlib.sha256(self.body).hexdigest()


def sign_record(record: ConsentRecord, key: DeviceKey) -> SignedConsent:
    """Return `record` as signed bytes."""
    body = record.to_bytes()
    return SignedConsent(body, key.sign(_DOMAIN, body))


def new_record(
    *,
    record_id: str,
    principal_id: str,
    chain: Sequence[SignedConsent],
    state: Lifecycle,
    purposes: Iterable[Purpose],
    valid_from: datetime,
    valid_until: datetime,
    notice: Notice | ConsentRecord,
    recorded_at: datetime,
) -> ConsentRecord:
    """Return the next record of `chain`, pointing back at its last one.

    Args:
        notice: the notice shown, or the record whose notice still holds (a withdrawal shows none).
    """
    of_notice = (
        (notice.sha256, notice.language, notice.version)
        if isinstance(notice, Notice)
        else (notice.notice_sha256, notice.notice_language, notice.notice_version)
    )
    return ConsentRecord(
        record_id,
        principal_id,
        chain[-1].digest if chain else None,
        state,
        frozenset(purposes),
        valid_from,
        valid_until,
        *of_notice,
        recorded_at,
    )


def verify_chain(chain: Sequence[SignedConsent], principal_id: str, public_key: bytes) -> tuple[ConsentRecord, ...]:
    """Return the records of a chain after checking every signature and every link.

    Raises:
        ConsentError: "consent.corrupt" if one was changed, dropped, reordered or belongs to another principal.
    """
    records = []
    previous: str | None = None
    for signed in chain:
        try:
            verify_signature(public_key, _DOMAIN, signed.body, signed.signature)
        except TrustError:
            raise ConsentError(
                "consent.corrupt", "A consent record is not signed by this device; nothing is allowed by it."
            ) from None
        record = ConsentRecord.parse(signed.body)
        if record.principal_id != principal_id or record.previous != previous:
            raise ConsentError("consent.corrupt", "The chain of consent records is broken; nothing is allowed by it.")
        previous = signed.digest
        records.append(record)
    return tuple(records)
