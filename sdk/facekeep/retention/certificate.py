"""The certificate of a retention run: what was due and is gone, by pseudonym, signed by the device.

Every field follows from the entries that the run left in the audit trail, so a certificate can be made again, byte for byte, for
as long as those are kept; the entry of the run names its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import RetentionError, TrustError
from facekeep.retention.plan import Kind, Reason
from facekeep.signing import DeviceKey, verify_signature

CERTIFICATE_VERSION: Final = "urn:facekeep:retention-certificate:1"
_DOMAIN: Final = "retention certificate v1"
# Event of the trail -> kind of what is gone, and where its entry says how many.
GONE_EVENTS: Final[Mapping[str, tuple[Kind, str]]] = {
    "template.expired": (Kind.TEMPLATE, "references"),
    "sample.erased": (Kind.TRAINING_SAMPLE, "count"),
    "group.declared": (Kind.DECLARED_GROUP, "count"),
    "receipt.expired": (Kind.RECEIPT, "records"),
    "trail.pruned": (Kind.LOG_ENTRIES, "entries"),
}
# A sample also goes with its consent or to make room, a group when another is declared: only what a term ended names the instant.
_ALSO_OTHERWISE: Final = frozenset({"sample.erased", "group.declared"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What was destroyed together.

    Attributes:
        kind: what it was.
        pseudonym: 64 hexadecimal digits of whom, in the trail or in the consent records; empty for log entries.
        count: how many templates, records or entries.
        reason: the term that had ended.
        due: since when.
        seq: number of the entry of the trail that records it.
        entry_hash: hexadecimal leaf hash of that entry.
    """

    kind: Kind
    pseudonym: str
    count: int
    reason: Reason
    due: datetime
    seq: int
    entry_hash: str

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {
            "kind": self.kind.value,
            "pseudonym": self.pseudonym or None,
            "count": self.count,
            "reason": self.reason.value,
            "due": to_rfc3339(self.due),
            "seq": self.seq,
            "entry": self.entry_hash,
        }

    @classmethod
    def of_entry(
        cls, event: str, subject: str | None, details: Mapping[str, str | int | bool], seq: int, entry_hash: str
    ) -> Gone | None:
        """Return what an entry of the trail says was destroyed because its term was over; None if another reason ended it.

        Args:
            event: one of `GONE_EVENTS`.
            subject: commitment, or None.
            details: of the entry.
            seq: its number.
            entry_hash: its hexadecimal leaf hash.

        Raises:
            KeyError, TypeError, ValueError: if it does not say what is gone and why.
        """
        if "due" not in details and event in _ALSO_OTHERWISE:
            return None
        kind, count = GONE_EVENTS[event]
        return cls(
            kind=kind,
            pseudonym=subject or str(details.get("principal", "")),
            count=int(details[count]),
            reason=Reason(str(details.get("reason", Reason.TERM.value))),
            due=parse_rfc3339(str(details["due"])),
            seq=seq,
            entry_hash=entry_hash,
        )

    @classmethod
    def of_json(cls, fields: dict[str, Any]) -> Gone:
        """Return what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it did not.
        """
        return cls(
            kind=Kind(fields["kind"]),
            pseudonym=fields["pseudonym"] or "",
            count=fields["count"],
            reason=Reason(fields["reason"]),
            due=parse_rfc3339(fields["due"]),
            seq=fields["seq"],
            entry_hash=fields["entry"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionCertificate:
    """What a run did.

    Attributes:
        public_key: hexadecimal Ed25519 key of the device.
        policy_sha256: the policy it followed.
        trigger: "start", "daily" or "demand".
        first: number of the first entry of the trail that the run accounts for: the one after the last run.
        seq: number of the entry that records the run itself.
        previous: hexadecimal leaf hash of the entry before that, or None; it leads to every other.
        as_of: the instant it was judged by; never earlier than the last event recorded before.
        gone: what was destroyed since the last run.
    """

    public_key: str
    policy_sha256: str
    trigger: str
    first: int
    seq: int
    previous: str | None
    as_of: datetime
    gone: tuple[Gone, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind are gone. Declared groups are named only where there are some: certificates are older than they."""
        totals = Counter[str]()
        for item in self.gone:
            totals[item.kind.value] += item.count
        return {kind.value: totals[kind.value] for kind in Kind if kind is not Kind.DECLARED_GROUP or totals[kind.value]}

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the bytes: what the entry of the run names."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is hashed and signed."""
        return to_canonical(
            {
                "schema_version": CERTIFICATE_VERSION,
                "device": self.public_key,
                "policy": self.policy_sha256,
                "trigger": self.trigger,
                "trail": {"first": self.first, "seq": self.seq, "previous": self.previous},
                "as_of": to_rfc3339(self.as_of),
                "counts": self.counts,
                "gone": [item.to_json() for item in self.gone],
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> RetentionCertificate:
        """Return the certificate of canonical JSON.

        Raises:
            RetentionError: "retention.invalid_certificate".
        """
        try:
            fields = parse_canonical(body)
            certificate = cls(
                public_key=fields["device"],
                policy_sha256=fields["policy"],
                trigger=fields["trigger"],
                first=fields["trail"]["first"],
                seq=fields["trail"]["seq"],
                previous=fields["trail"]["previous"],
                as_of=parse_rfc3339(fields["as_of"]),
                gone=tuple(Gone.of_json(item) for item in fields["gone"]),
            )
            # Counts, order and unknown fields alike: what is not what we would write is not one of ours.
            if certificate.to_bytes() != body:
                raise ValueError("not canonical")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _invalid("it is not of the form expected") from None
        return certificate


@dataclass(frozen=True, slots=True)
class SignedCertificate:
    """The bytes of a certificate and the device's signature of them."""

    body: bytes
    signature: bytes

    @classmethod
    def sign(cls, certificate: RetentionCertificate, key: DeviceKey) -> SignedCertificate:
        """Return `certificate` signed. Ed25519 is deterministic: the same certificate has the same signature."""
        body = certificate.to_bytes()
        return cls(body, key.sign(_DOMAIN, body))

    def to_bytes(self) -> bytes:
        """Return the file: canonical JSON of the certificate as text and its signature."""
        signature = base64.b64encode(self.signature).decode("ascii")
        return to_canonical({"certificate": self.body.decode("utf-8"), "signature": signature}) + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> SignedCertificate:
        """Return what a file holds, its signature not verified yet.

        Raises:
            RetentionError: "retention.invalid_certificate".
        """
        try:
            fields = parse_canonical(data.removesuffix(b"\n"))
            signed = cls(fields["certificate"].encode("utf-8"), base64.b64decode(fields["signature"], validate=True))
            if signed.to_bytes() != data:
                raise ValueError("not canonical")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _invalid("the file is not of the form expected") from None
        return signed


def verify_certificate(signed: SignedCertificate, public_key: bytes) -> RetentionCertificate:
    """Return the certificate if the device with this key signed it.

    Raises:
        RetentionError: "retention.invalid_certificate".
    """
    try:
        verify_signature(public_key, _DOMAIN, signed.body, signed.signature)
    except TrustError:
        raise _invalid("it is not signed by the device expected") from None
    certificate = RetentionCertificate.parse(signed.body)
    if certificate.public_key != public_key.hex():
        raise _invalid("it names another device")
    return certificate


def _invalid(reason: str) -> RetentionError:
    return RetentionError("retention.invalid_certificate", f"The retention certificate cannot be trusted: {reason}.")
