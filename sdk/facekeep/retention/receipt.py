"""The receipt of an erasure: what was destroyed, that the device recorded it, and how to look for what may be left.

Holds pseudonyms and the first bytes of ciphertext whose key is gone; no name, and nothing that leads to one. A third party
verifies it with the device's public key alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import ErasureError, TrustError
from facekeep.merkle import Frontier, leaf_hash
from facekeep.note import Checkpoint, open_note
from facekeep.signing import DeviceKey, key_fingerprint, verify_signature

RECEIPT_VERSION: Final = "urn:facekeep:erasure-receipt:1"
# Header and nonce of an envelope: random, unique to it, and of no use to whoever would open it.
MARK_BYTES: Final = 20
_DOMAIN: Final = "erasure receipt v1"
_LARGEST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class ErasureMark:
    """What a destroyed ciphertext can be recognised by, wherever a copy of it lies.

    Attributes:
        what: "wrapped-key", "profile", "template", "features", "sample" or "declared".
        prefix: its first 20 bytes: header and nonce.
        sha256: hexadecimal SHA-256 of the whole.
        size: bytes of the whole.
    """

    what: str
    prefix: bytes
    sha256: str
    size: int

    @classmethod
    def of(cls, what: str, data: bytes) -> ErasureMark:
        """Return the mark of an envelope."""
        return cls(what, data[:MARK_BYTES], hashlib.sha256(data).hexdigest(), len(data))

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return {"what": self.what, "prefix": self.prefix.hex(), "sha256": self.sha256, "bytes": self.size}


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Proof that an entry is in the device's trail: it is the last leaf under a signed head (RFC 6962, 2.1.1).

    Attributes:
        entry: canonical bytes of the entry.
        edge: hashes of the complete subtrees before it, largest first: the audit path of a last leaf.
        checkpoint: signed head of the trail with the entry as its last (C2SP signed note).
    """

    entry: bytes
    edge: tuple[bytes, ...]
    checkpoint: str

    @property
    def entry_hash(self) -> str:
        """Hexadecimal leaf hash of the entry."""
        return leaf_hash(self.entry).hex()

    @property
    def seq(self) -> int:
        """Number of the entry in the trail."""
        return int(parse_canonical(self.entry)["seq"])

    def verify(self, public_key: bytes) -> None:
        """Return if the device with this key signed a trail that ends in the entry.

        Raises:
            ErasureError: "erasure.invalid_receipt".
        """
        origin = f"facekeep.device/{key_fingerprint(public_key)}"
        try:
            checkpoint = Checkpoint.parse(open_note(self.checkpoint, origin, public_key))
            root = Frontier(self.seq, self.edge).append(leaf_hash(self.entry)).root()
        except (TrustError, ValueError, KeyError, TypeError):
            raise _invalid("the head of the trail in it is not signed by the device expected") from None
        if (checkpoint.origin, checkpoint.size, checkpoint.root) != (origin, self.seq + 1, root):
            raise _invalid("the entry in it is not the last under the signed head")


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What an erasure destroyed, with the proof that the device recorded it.

    Attributes:
        references: number of templates destroyed.
        key_epoch: epoch of the wrap key from now on; keys of earlier epochs are gone.
        commitment: how the audit trail named the subject; its salt is destroyed, so nothing leads from it to a name.
        erased_at: when, by the trail.
        inclusion: the entry of the trail and the proof that it is there.
        marks: how to recognise a copy of what was destroyed.
        public_key: 32 bytes, the device's Ed25519 key.
        signature: 64 bytes, by that key, over all of the above.
        log_proof: the transparency log's proof of the same entry (C2SP tlog-proof), once the device has it; else None.
    """

    references: int
    key_epoch: int
    commitment: str
    erased_at: datetime
    inclusion: Inclusion
    marks: tuple[ErasureMark, ...]
    public_key: bytes
    signature: bytes = b""
    log_proof: str | None = None

    @property
    def checkpoint(self) -> str:
        """Signed head of the audit trail that includes the erasure (C2SP signed note)."""
        return self.inclusion.checkpoint

    def with_log_proof(self, proof: str) -> ErasureReceipt:
        """Return the receipt with the transparency log's proof of its entry; the device's signature stays as it is."""
        return replace(self, log_proof=proof)

    def signed_by(self, key: DeviceKey) -> ErasureReceipt:
        """Return the receipt with the signature of the device that it names."""
        return replace(self, signature=key.sign(_DOMAIN, to_canonical(self._body())))

    def to_json(self) -> dict[str, Any]:
        """Return the receipt as it is handed out."""
        signature = base64.b64encode(self.signature).decode("ascii")
        return {**self._body(), "signature": signature, "log_proof": self.log_proof}

    @classmethod
    def parse(cls, data: bytes, public_key: bytes | None = None) -> ErasureReceipt:
        """Return the verified receipt of a file.

        Args:
            data: JSON.
            public_key: the key it has to be signed with. Without one, the receipt vouches for itself only.

        Raises:
            ErasureError: "erasure.invalid_receipt".
        """
        try:
            if len(data) > _LARGEST_BYTES:
                raise ValueError("too large")
            fields: dict[str, Any] = json.loads(data)
            signature, log_proof = base64.b64decode(fields.pop("signature"), validate=True), fields.pop("log_proof")
            if log_proof is not None and not isinstance(log_proof, str):
                raise ValueError("no proof")
            receipt = cls(
                fields["references"],
                fields["key_epoch"],
                fields["commitment"],
                parse_rfc3339(fields["erased_at"]),
                Inclusion(
                    fields["entry"].encode("utf-8"), tuple(bytes.fromhex(item) for item in fields["edge"]), fields["checkpoint"]
                ),
                tuple(
                    ErasureMark(item["what"], bytes.fromhex(item["prefix"]), item["sha256"], item["bytes"])
                    for item in fields["marks"]
                ),
                bytes.fromhex(fields["public_key"]),
                signature,
                log_proof,
            )
            if any(len(mark.prefix) != MARK_BYTES for mark in receipt.marks) or receipt._body() != fields:
                raise ValueError("not a receipt")
            entry = parse_canonical(receipt.inclusion.entry)
            told = (entry["event"], entry["subject"], entry["time"], entry["details"]["references"], entry["details"]["epoch"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise _invalid("it is not of the form expected") from None
        if public_key is not None and receipt.public_key != public_key:
            raise _invalid("another device made it")
        try:
            verify_signature(receipt.public_key, _DOMAIN, to_canonical(fields), signature)
        except TrustError:
            raise _invalid("it was changed, or is not signed by the device it names") from None
        receipt.inclusion.verify(receipt.public_key)
        said = (receipt.commitment, to_rfc3339(receipt.erased_at), receipt.references, receipt.key_epoch)
        if told != ("template.erased", *said):
            raise _invalid("the entry of the trail in it tells of something else")
        return receipt

    def _body(self) -> dict[str, Any]:
        return {
            "schema_version": RECEIPT_VERSION,
            "public_key": self.public_key.hex(),
            "references": self.references,
            "key_epoch": self.key_epoch,
            "commitment": self.commitment,
            "erased_at": to_rfc3339(self.erased_at),
            "entry": self.inclusion.entry.decode("utf-8"),
            "entry_hash": self.inclusion.entry_hash,
            "edge": [item.hex() for item in self.inclusion.edge],
            "checkpoint": self.inclusion.checkpoint,
            "marks": [mark.to_json() for mark in self.marks],
        }


def _invalid(reason: str) -> ErasureError:
    return ErasureError("erasure.invalid_receipt", f"The receipt cannot be trusted: {reason}.")
