"""The consent record: what was agreed, on which notice, for how long, signed by the device.

Version 2 has the sections of ISO/IEC TS 27560; version 1, flat, is read for ever and written no more. The spelling of both
is in `facekeep.consent.forms`; see docs/formats/consent-record.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from facekeep.canonical import HEX_DIGEST
from facekeep.consent.purposes import Purpose
from facekeep.consent.terms import Actor, Dependence, Notice, Processing, WrittenRelease, require_texts
from facekeep.durations import add_duration
from facekeep.errors import ConsentError
from facekeep.signing import SIGNATURE_BYTES, DeviceKey

RECORD_DOMAIN: Final = "consent record v1"
VERSIONS: Final = (1, 2)
_RECORD_ID = re.compile(r"urn:uuid:[0-9a-f-]{36}")


class Lifecycle(StrEnum):
    """What a record says happened."""

    REQUESTED = "requested"
    GIVEN = "given"
    RENEWED = "renewed"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class ConsentRecord:
    """One signed step in the life of a consent. Travels; holds a pseudonym, never a name.

    Attributes:
        record_id: `urn:uuid:` of this record.
        principal_id: 64 hexadecimal digits, a pseudonym whose key is shredded on erasure.
        previous: SHA-256 of the record before in the chain of this principal, or None.
        state: what happened.
        purposes: the purposes given, or those asked for, withdrawn, refused, expired or erased.
        valid_from: first instant of validity.
        valid_until: first instant after it.
        notice_sha256: hash of the notice shown.
        notice_language: its language.
        notice_version: its version.
        recorded_at: when the record was made.
        notice_url: where the notice is published, or None.
        actor: who brought it about.
        processing: the controller's description of the processing.
        release: the written release, where one was given.
        dependence: on whose revocation lists this consent depends, or None.
        version: 2, or 1 for a record of an older Facekeep, which has none of the five before.
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
    notice_url: str | None = None
    actor: Actor = field(default_factory=Actor)
    processing: Processing = field(default_factory=Processing)
    release: WrittenRelease | None = None
    dependence: Dependence | None = None
    version: int = 2

    def __post_init__(self) -> None:
        if not self.purposes:
            raise ConsentError("consent.invalid_request", "A consent is for at least one purpose; none was named.")
        if self.valid_until <= self.valid_from:
            raise ConsentError("consent.invalid_request", "A consent ends after it begins.")
        if not HEX_DIGEST.fullmatch(self.principal_id) or not HEX_DIGEST.fullmatch(self.notice_sha256):
            raise ConsentError("consent.invalid_request", "Pseudonym and notice hash are 64 hexadecimal digits.")
        if self.previous is not None and not HEX_DIGEST.fullmatch(self.previous):
            raise ConsentError("consent.invalid_request", "The record before is named by 64 hexadecimal digits.")
        if self.version not in VERSIONS or not _RECORD_ID.fullmatch(self.record_id):
            raise ConsentError("consent.invalid_request", "A record has a known version and a urn:uuid: of its own.")
        if not isinstance(self.notice_language, str) or not isinstance(self.notice_version, str):
            raise ConsentError("consent.invalid_request", "Language and version of a notice are text.")
        if self.version == 2:
            require_texts("a notice", (self.notice_language, self.notice_version, self.notice_url or "-"))
        if self.release is not None and self.valid_until > add_duration(self.valid_from, self.release.term):
            raise ConsentError("consent.invalid_request", "A consent ends no later than the written release it rests on.")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are signed and stored (RFC 8785)."""
        from facekeep.consent.forms import write_record

        return write_record(self)

    @classmethod
    def parse(cls, body: bytes) -> ConsentRecord:
        """Return the record of canonical bytes, of either version.

        Raises:
            ConsentError: "consent.corrupt".
        """
        from facekeep.consent.forms import read_record

        return read_record(body)


@dataclass(frozen=True, slots=True)
class SignedConsent:
    """The bytes of a record, the device's signature of them, and what the controller signed.

    Attributes:
        body: the record.
        signature: 64 bytes, Ed25519 by the device key.
        proofs: the controller's signatures, each as `facekeep.consent.controller` spells them; empty until there is one.
    """

    body: bytes
    signature: bytes
    proofs: bytes = field(default=b"", repr=False)

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the body: what the next record of the chain points back to."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def column(self) -> bytes:
        """The signature and, behind it, the proofs: how a vault keeps them."""
        return self.signature + self.proofs

    @classmethod
    def from_columns(cls, body: bytes, column: bytes) -> SignedConsent:
        """Return what `body` and `column` were made from. Nothing is verified here."""
        return cls(body, column[:SIGNATURE_BYTES], column[SIGNATURE_BYTES:])


def sign_record(record: ConsentRecord, key: DeviceKey) -> SignedConsent:
    """Return `record` as signed bytes."""
    body = record.to_bytes()
    return SignedConsent(body, key.sign(RECORD_DOMAIN, body))


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
    actor: Actor | None = None,
    processing: Processing | None = None,
    release: WrittenRelease | None = None,
    dependence: Dependence | None = None,
) -> ConsentRecord:
    """Return the next record of `chain`, pointing back at its last one.

    Args:
        notice: the notice shown, or the record whose notice and terms still hold (a withdrawal shows none).
    """
    if isinstance(notice, Notice):
        of_notice = (notice.sha256, notice.language, notice.version)
        url = notice.url
    else:
        of_notice = (notice.notice_sha256, notice.notice_language, notice.notice_version)
        url, processing = notice.notice_url, processing or notice.processing
        release, dependence = release or notice.release, dependence or notice.dependence
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
        url,
        actor or Actor(),
        processing or Processing(),
        release,
        dependence,
    )
