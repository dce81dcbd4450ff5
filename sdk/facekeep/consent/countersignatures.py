"""Countersigning later: the controller reads a receipt, signs its records, and sends the signatures back to the device."""

from __future__ import annotations

import base64
from typing import Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.consent.controller import ControllerKey, ControllerProof, countersign
from facekeep.consent.receipt import ConsentReceipt
from facekeep.errors import TrustError
from facekeep.signing import SIGNATURE_BYTES

COUNTERSIGNATURES_VERSION: Final = "urn:facekeep:consent-countersignatures:1"
_LARGEST_BYTES: Final = 1024 * 1024


def countersign_receipt(receipt: ConsentReceipt, key: ControllerKey) -> bytes:
    """Return the controller's signature of every record of a verified receipt, as canonical JSON."""
    return to_canonical(
        {
            "schema_version": COUNTERSIGNATURES_VERSION,
            "controller": key.verifier.name,
            "records": [
                {"sha256": signed.digest, "signature": base64.b64encode(countersign(key, signed.body).signature).decode()}
                for signed in receipt.chain
            ],
        }
    )


def parse_countersignatures(data: bytes) -> dict[str, ControllerProof]:
    """Return the proofs in such a file by the digest of the record that each is for; nothing is verified yet.

    Raises:
        TrustError: "trust.malformed".
    """
    try:
        fields = parse_canonical(data.strip()) if len(data) <= _LARGEST_BYTES else {}
        if fields.keys() != {"schema_version", "controller", "records"} or fields["schema_version"] != COUNTERSIGNATURES_VERSION:
            raise ValueError("another document")
        found = {}
        for item in fields["records"]:
            signature = base64.b64decode(item["signature"], validate=True)
            if item.keys() != {"sha256", "signature"} or len(signature) != SIGNATURE_BYTES:
                raise ValueError("not a countersignature")
            found[item["sha256"]] = ControllerProof(fields["controller"], signature)
        return found
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TrustError("trust.malformed", "The file holds no countersignatures of consent records.") from None
