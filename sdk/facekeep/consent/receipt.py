"""The consent receipt: a subject's whole chain of records in one file that anybody can check with two public keys.

Canonical JSON (RFC 8785), signed as a whole by the device so that nobody can leave the last records out. Format and a
worked example: docs/formats/consent-receipt.md; JSON schema: `facekeep/consent/schema/`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent.chain import verify_chain
from facekeep.consent.controller import ControllerProof, proofs_of, with_proofs
from facekeep.consent.lifecycle import ConsentState, fold_chain
from facekeep.consent.record import ConsentRecord, SignedConsent
from facekeep.consent.terms import Notice
from facekeep.consent.verifier import VerifierKey
from facekeep.errors import ConsentError, TrustError
from facekeep.signing import DeviceKey, verify_signature

RECEIPT_VERSION: Final = "urn:facekeep:consent-receipt:1"
LARGEST_RECEIPT_BYTES: Final = 4 * 1024 * 1024
_DOMAIN = "consent receipt v1"
_FIELDS = {"schema_version", "receipt_id", "issued_at", "device_key", "principal_id", "status", "notices", "records", "signature"}


@dataclass(frozen=True, slots=True)
class ConsentReceipt:
    """A receipt that verified under the device's key.

    Attributes:
        receipt_id: `urn:uuid:` of it.
        issued_at: when it was made; what happened later is not in it.
        device_key: the key that verified it.
        principal_id: the subject's pseudonym.
        chain: the records as signed, oldest first.
        records: the same, read.
        state: what they amount to.
        notices: the texts that were enclosed, by the hash that a record names.
    """

    receipt_id: str
    issued_at: datetime
    device_key: VerifierKey
    principal_id: str
    chain: tuple[SignedConsent, ...]
    records: tuple[ConsentRecord, ...]
    state: ConsentState
    notices: dict[str, str]

    @property
    def in_force(self) -> SignedConsent | None:
        """The record that gave consent last, as signed, or None."""
        pairs = zip(self.chain, self.records, strict=True)
        return next((signed for signed, record in pairs if record == self.state.in_force), None)


def new_receipt(
    chain: Sequence[SignedConsent],
    *,
    receipt_id: str,
    issued_at: datetime,
    key: DeviceKey,
    notices: Iterable[Notice] = (),
) -> bytes:
    """Return the receipt of a chain, signed by the device that made it.

    Args:
        chain: the records, oldest first; at least one.
        receipt_id: a fresh `urn:uuid:`.
        issued_at: now.
        key: the device key.
        notices: texts to enclose; each has to be one that a record names.

    Raises:
        ConsentError: "consent.none" for an empty chain, "consent.invalid_request" for a notice that no record names.
    """
    if not chain:
        raise ConsentError("consent.none", "Nothing is on record, so there is nothing to give a receipt of.")
    records = [ConsentRecord.parse(signed.body) for signed in chain]
    shown = {record.notice_sha256 for record in records}
    texts = {notice.sha256: notice.text for notice in notices}
    if not texts.keys() <= shown:
        raise ConsentError("consent.invalid_request", "The notice is not one that these records name. Enclose the text as shown.")
    document: dict[str, Any] = {
        "schema_version": RECEIPT_VERSION,
        "receipt_id": receipt_id,
        "issued_at": to_rfc3339(issued_at),
        "device_key": str(VerifierKey.of_device(key.public_bytes)),
        "principal_id": records[0].principal_id,
        "status": {purpose.value: status.value for purpose, status in fold_chain(records).status},
        "notices": [{"sha256": digest, "text": texts[digest]} for digest in sorted(texts)],
        "records": [
            {
                "record": json.loads(signed.body),
                "device_signature": base64.b64encode(signed.signature).decode(),
                "controller_signatures": [proof.to_fields() for proof in proofs_of(signed)],
            }
            for signed in chain
        ],
    }
    signature = key.sign(_DOMAIN, to_canonical(document))
    return to_canonical(document | {"signature": base64.b64encode(signature).decode()})


def open_receipt(data: bytes, device: VerifierKey) -> ConsentReceipt:
    """Return the receipt of canonical bytes, or of the HTML page around them, after checking all of it.

    Checked are the form, the device's signature of the receipt and of every record, every link and transition, and that
    status and enclosed notices are what the records say. Controllers' signatures are not: see `facekeep.consent.verdict`.

    Raises:
        TrustError: "trust.malformed", "trust.bad_signature".
        ConsentError: "consent.corrupt", "consent.illegal_transition".
    """
    fields = _parse(data)
    try:
        signature = base64.b64decode(fields["signature"], validate=True)
        document = {name: value for name, value in fields.items() if name != "signature"}
        verify_signature(device.public_key, _DOMAIN, to_canonical(document), signature)
        if fields["device_key"] != str(device):
            raise ValueError("another device's")
        chain = tuple(_signed(item) for item in fields["records"])
        records = verify_chain(chain, fields["principal_id"], device.public_key)
        state = fold_chain(records)
        notices = {item["sha256"]: item["text"] for item in fields["notices"]}
        if fields["status"] != {purpose.value: status.value for purpose, status in state.status}:
            raise ValueError("the status is not that of the records")
        known = {record.notice_sha256 for record in records}
        if any(digest not in known or Notice(text).sha256 != digest for digest, text in notices.items()):
            raise ValueError("a notice is not the one shown")
        return ConsentReceipt(
            fields["receipt_id"], parse_rfc3339(fields["issued_at"]), device, fields["principal_id"], chain, records, state, notices
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _malformed() from None


def canonical_receipt(data: bytes) -> bytes:
    """Return the canonical bytes of a receipt, taken out of its HTML page where it comes in one. Nothing is verified.

    Raises:
        TrustError: "trust.malformed".
    """
    return to_canonical(_parse(data))


def _parse(data: bytes) -> dict[str, Any]:
    if len(data) > LARGEST_RECEIPT_BYTES:
        raise TrustError("trust.malformed", f"A receipt has at most {LARGEST_RECEIPT_BYTES} bytes; this file is longer.")
    try:
        if data.lstrip()[:1] == b"<":
            from facekeep.consent.page import embedded_receipt

            fields = json.loads(embedded_receipt(data.decode("utf-8")))
        else:
            fields = parse_canonical(data.strip())
        if not isinstance(fields, dict) or fields.keys() != _FIELDS or fields["schema_version"] != RECEIPT_VERSION:
            raise ValueError("another document")
        to_canonical(fields)
    except (ValueError, RecursionError):
        raise _malformed() from None
    return fields


def _signed(item: dict[str, Any]) -> SignedConsent:
    if item.keys() != {"record", "device_signature", "controller_signatures"}:
        raise ValueError("unknown fields")
    signed = SignedConsent(to_canonical(item["record"]), base64.b64decode(item["device_signature"], validate=True))
    return with_proofs(signed, [ControllerProof.of_fields(proof) for proof in item["controller_signatures"]])


def _malformed() -> TrustError:
    return TrustError("trust.malformed", "The file is not a consent receipt of the form expected.")
