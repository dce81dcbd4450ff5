"""The controller's signature on a consent record: made at once by a delegate, or later by the controller's own key.

A device that is offline cannot wait for its controller. So a record is in force with the device's signature, and the
controller's is attached to it: at once where the controller has delegated to the device key for a term, later by
countersigning otherwise. What the controller signs is the record's own bytes; the chain does not change by it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent.record import ConsentRecord, SignedConsent
from facekeep.consent.verifier import VerifierKey
from facekeep.errors import ConsentError, TrustError
from facekeep.note import key_id
from facekeep.signing import SIGNATURE_BYTES, DeviceKey, verify_signature

DELEGATION_VERSION: Final = "urn:facekeep:controller-delegation:1"
_DELEGATION = "controller delegation v1"
_DIRECT = "consent countersignature v1"
_DELEGATED = "consent countersignature by delegate v1"
_PRIVATE = "PRIVATE+KEY+"
_MOST_PROOFS = 8
_LARGEST_BYTES = 64 * 1024


class ControllerKey:
    """A controller's private key, with the name that verifiers know it by.

    Args:
        name: no white space and no plus sign, such as "controller.example/consent".
        seed: 32 secret bytes.

    Raises:
        TrustError: "trust.malformed" for such a name.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        self.key = DeviceKey(seed)
        self.verifier = VerifierKey(name, self.key.public_bytes)

        self._seed = seed

    def __repr__(self) -> str:
        return f"ControllerKey({self.verifier.name})"

    def to_text(self) -> str:
        """Return the private key as one line, in the form that Go's `note` package reads. Keep it from others."""
        data = base64.b64encode(b"\x01" + self._seed).decode()
        return f"{_PRIVATE}{self.verifier.name}+{key_id(self.verifier.name, self.verifier.public_key).hex()}+{data}\n"

    @classmethod
    def parse(cls, text: str) -> ControllerKey:
        """Return the key of such a line.

        Raises:
            TrustError: "trust.malformed".
        """
        try:
            name, digest, data = text.strip().removeprefix(_PRIVATE).split("+", 2)
            seed = base64.b64decode(data, validate=True)
            found = cls(name, seed[1:])
            if (
                seed[:1] != b"\x01"
                or found.to_text().strip() != text.strip()
                or key_id(name, found.verifier.public_key).hex() != digest
            ):
                raise ValueError("not a key")
        except (ValueError, TrustError):
            raise TrustError("trust.malformed", "The file does not hold a controller's private key.") from None
        return found


@dataclass(frozen=True, slots=True)
class Delegation:
    """The controller lets a device sign for it, for a term: what an offline device carries.

    Attributes:
        controller: name of the controller's key.
        delegate: public key of the device, 32 bytes.
        valid_from: first instant of the term.
        valid_until: first instant after it.
        signature: 64 bytes by the controller's key.
    """

    controller: str
    delegate: bytes
    valid_from: datetime
    valid_until: datetime
    signature: bytes

    def document(self) -> bytes:
        """Return the canonical bytes that the controller signed."""
        return to_canonical(self._document())

    def to_fields(self) -> dict[str, Any]:
        """Return the delegation as JSON."""
        return {"document": self._document(), "signature": base64.b64encode(self.signature).decode()}

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that travel."""
        return to_canonical(self.to_fields())

    @classmethod
    def parse(cls, data: bytes) -> Delegation:
        """Return the delegation of canonical bytes.

        Raises:
            TrustError: "trust.malformed".
        """
        try:
            if len(data) > _LARGEST_BYTES:
                raise ValueError("too long")
            found = cls.of_fields(parse_canonical(data.strip()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TrustError("trust.malformed", "The file is not a delegation by a controller.") from None
        return found

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> Delegation:
        """Return the delegation of parsed JSON.

        Raises:
            ValueError, KeyError, TypeError: if it is none.
        """
        document = fields["document"]
        found = cls(
            document["controller"],
            bytes.fromhex(document["delegate"]),
            parse_rfc3339(document["valid_from"]),
            parse_rfc3339(document["valid_until"]),
            base64.b64decode(fields["signature"], validate=True),
        )
        if found.to_fields() != fields:
            raise ValueError("unknown fields")
        return found

    def verify(self, controller: VerifierKey, delegate: bytes) -> None:
        """Return if `controller` signed that `delegate` may sign for it.

        Raises:
            TrustError: "trust.bad_signature".
        """
        if self.controller != controller.name or self.delegate != delegate:
            raise TrustError("trust.bad_signature", "The delegation is by another controller, or for another device.")
        verify_signature(controller.public_key, _DELEGATION, self.document(), self.signature)

    def _document(self) -> dict[str, Any]:
        return {
            "schema_version": DELEGATION_VERSION,
            "controller": self.controller,
            "delegate": self.delegate.hex(),
            "valid_from": to_rfc3339(self.valid_from),
            "valid_until": to_rfc3339(self.valid_until),
        }


@dataclass(frozen=True, slots=True)
class ControllerProof:
    """One signature of a controller on one record.

    Attributes:
        controller: name of the controller's key.
        signature: 64 bytes, by that key or by the delegate.
        delegation: what lets the delegate sign, or None.
    """

    controller: str
    signature: bytes
    delegation: Delegation | None = None

    def to_fields(self) -> dict[str, Any]:
        """Return the proof as JSON."""
        return {
            "controller": self.controller,
            "signature": base64.b64encode(self.signature).decode(),
            "delegation": None if self.delegation is None else self.delegation.to_fields(),
        }

    @classmethod
    def of_fields(cls, fields: dict[str, Any]) -> ControllerProof:
        """Return the proof of parsed JSON.

        Raises:
            ValueError, KeyError, TypeError: if it is none.
        """
        delegation = fields["delegation"]
        found = cls(
            fields["controller"],
            base64.b64decode(fields["signature"], validate=True),
            None if delegation is None else Delegation.of_fields(delegation),
        )
        if found.to_fields() != fields or not isinstance(found.controller, str) or len(found.signature) != SIGNATURE_BYTES:
            raise ValueError("not a proof")
        return found

    def verify(self, body: bytes, controller: VerifierKey, device_key: bytes) -> None:
        """Return if `controller`, or this device in its name, signed the record `body`.

        Raises:
            TrustError: "trust.bad_signature".
        """
        if self.controller != controller.name:
            raise TrustError("trust.bad_signature", "The record was signed by another controller than the one expected.")
        if self.delegation is None:
            verify_signature(controller.public_key, _DIRECT, body, self.signature)
            return
        self.delegation.verify(controller, device_key)
        # Judged by the record's own time: a delegation that has ended made its signatures while it lasted.
        if not self.delegation.valid_from <= ConsentRecord.parse(body).recorded_at < self.delegation.valid_until:
            raise TrustError("trust.bad_signature", "The record was made outside the term of the delegation it rests on.")
        verify_signature(device_key, _DELEGATED, body, self.signature)


def new_delegation(key: ControllerKey, delegate: bytes, valid_from: datetime, valid_until: datetime) -> Delegation:
    """Return a signed delegation to the device with the public key `delegate`.

    Raises:
        TrustError: "trust.malformed" if the term is none or the key has not 32 bytes.
    """
    if len(delegate) != 32 or valid_until <= valid_from:
        raise TrustError("trust.malformed", "A delegation names a device key of 32 bytes and a term that ends after it begins.")
    unsigned = Delegation(key.verifier.name, delegate, valid_from, valid_until, b"")
    return Delegation(key.verifier.name, delegate, valid_from, valid_until, key.key.sign(_DELEGATION, unsigned.document()))


def countersign(key: ControllerKey, body: bytes) -> ControllerProof:
    """Return the controller's own signature of the record `body`."""
    return ControllerProof(key.verifier.name, key.key.sign(_DIRECT, body))


def countersign_as_delegate(key: DeviceKey, delegation: Delegation, body: bytes) -> ControllerProof:
    """Return the signature that a device makes in its controller's name."""
    return ControllerProof(delegation.controller, key.sign(_DELEGATED, body), delegation)


def proofs_of(signed: SignedConsent) -> tuple[ControllerProof, ...]:
    """Return the controller's signatures kept beside a record, not yet verified.

    Raises:
        ConsentError: "consent.corrupt".
    """
    if not signed.proofs:
        return ()
    try:
        fields = parse_canonical(signed.proofs)
        if not isinstance(fields, list) or not 0 < len(fields) <= _MOST_PROOFS:
            raise ValueError("not a list of proofs")
        return tuple(ControllerProof.of_fields(item) for item in fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConsentError("consent.corrupt", "What is kept beside a consent record is not a controller's signature.") from None


def with_proofs(signed: SignedConsent, proofs: Sequence[ControllerProof]) -> SignedConsent:
    """Return the record with these signatures of the controller beside it, and no others.

    Raises:
        ConsentError: "consent.invalid_request" if there are too many.
    """
    if len(proofs) > _MOST_PROOFS:
        raise ConsentError("consent.invalid_request", f"A record keeps at most {_MOST_PROOFS} signatures of controllers.")
    data = to_canonical([proof.to_fields() for proof in proofs]) if proofs else b""
    return SignedConsent(signed.body, signed.signature, data)


def find_proof(signed: SignedConsent, controller: VerifierKey, device_key: bytes) -> ControllerProof | None:
    """Return the first signature beside the record that verifies under this controller's key, or None.

    Raises:
        ConsentError: "consent.corrupt".
    """
    for proof in proofs_of(signed):
        try:
            _verified(proof, signed.body, controller, device_key)
        except TrustError:
            continue
        return proof
    return None


# A gallery asks about every subject each time the vault changes. Only what verified is remembered: an exception is not.
@lru_cache(maxsize=16384)
def _verified(proof: ControllerProof, body: bytes, controller: VerifierKey, device_key: bytes) -> None:
    proof.verify(body, controller, device_key)
