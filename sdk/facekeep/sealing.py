"""Envelope encryption: what is stored opens only with its key and only in its context. Pure. Format: docs/formats/envelope.md.

A context says what the plaintext is and whose; it goes into the associated data, so that an envelope moved to another subject,
purpose, contract or record does not open. AES-256-GCM-SIV (RFC 8452) stays safe even if a nonce were to repeat.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from facekeep.errors import VaultError
from facekeep.randomness import Randomness

MAGIC = b"FKE"
VERSION = 1
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = 8
PREFIX_BYTES = HEADER_BYTES + NONCE_BYTES
OVERHEAD_BYTES = PREFIX_BYTES + TAG_BYTES
PRINCIPAL_BYTES = 32
_HEADER = struct.Struct(">3sBI")


class Context(Protocol):
    """What an envelope is bound to."""

    def associated_data(self) -> bytes:
        """Return a label and the fields, each behind its length, so that no two contexts have the same bytes."""
        ...


@dataclass(frozen=True, slots=True)
class DataKeyContext:
    """Binds a wrapped data key.

    Attributes:
        vault_id: the vault.
        index_tag: 32-byte keyed tag of the subject's name.
        epoch: epoch of the wrap key.
    """

    vault_id: str
    index_tag: bytes
    epoch: int

    def associated_data(self) -> bytes:
        """Return label and fields."""
        return length_prefixed(b"facekeep data key v1", self.vault_id.encode(), self.index_tag, self.epoch.to_bytes(4, "big"))


@dataclass(frozen=True, slots=True)
class ProfileContext:
    """Binds a subject's name and salt.

    Attributes:
        vault_id: the vault.
        index_tag: 32-byte keyed tag of the subject's name.
    """

    vault_id: str
    index_tag: bytes

    def associated_data(self) -> bytes:
        """Return label and fields."""
        return length_prefixed(b"facekeep profile v1", self.vault_id.encode(), self.index_tag)


@dataclass(frozen=True, slots=True)
class TemplateContext:
    """Binds a template.

    Attributes:
        principal_id: 64 hexadecimal digits, pseudonym of the subject.
        purpose: what the template was enrolled for.
        contract_id: contract of the embedding.
        consent_id: id of the consent record that allowed it.
        dtype: element type, such as "float32".
        dimension: number of elements.
        reference_id: id of the template.
        enrolled_at_us: microseconds since 1970 of the enrolment.
    """

    principal_id: str
    purpose: str
    contract_id: str
    consent_id: str
    dtype: str
    dimension: int
    reference_id: str
    enrolled_at_us: int

    def associated_data(self) -> bytes:
        """Return label and fields."""
        shared = template_data_prefix(self.contract_id.encode(), self.purpose.encode(), self.dtype.encode(), self.dimension)
        return shared + template_data_suffix(
            bytes.fromhex(self.principal_id), self.consent_id.encode(), self.reference_id.encode(), self.enrolled_at_us
        )


@dataclass(frozen=True, slots=True)
class FeaturesContext:
    """Binds the features kept with a template.

    Attributes:
        template: what the template itself is bound to; its contract aside, which changes when the template migrates.
        base: what everything in front of the last map is known by.
        rows: number of frames.
        dimension: numbers a frame.
    """

    template: TemplateContext
    base: str
    rows: int
    dimension: int

    def associated_data(self) -> bytes:
        """Return label and fields."""
        bound = self.template
        fields = (self.base.encode(), bound.purpose.encode(), bound.dtype.encode(), self.rows.to_bytes(4, "big"))
        shared = length_prefixed(b"facekeep features v1", *fields, self.dimension.to_bytes(4, "big"))
        return shared + template_data_suffix(
            bytes.fromhex(bound.principal_id), bound.consent_id.encode(), bound.reference_id.encode(), bound.enrolled_at_us
        )


@dataclass(frozen=True, slots=True)
class SampleContext:
    """Binds a training sample.

    Attributes:
        principal_id: 64 hexadecimal digits, pseudonym of the subject.
        purpose: what it is kept for.
        base: what everything in front of the last map is known by.
        kind: of which capture.
        dimension: number of features behind the crop.
        consent_id: id of the consent record that allowed it.
        sample_id: id of the sample.
        kept_at_us: microseconds since 1970 at which it was kept.
    """

    principal_id: str
    purpose: str
    base: str
    kind: str
    dimension: int
    consent_id: str
    sample_id: str
    kept_at_us: int

    def associated_data(self) -> bytes:
        """Return label and fields."""
        fields = (self.base.encode(), self.purpose.encode(), self.kind.encode(), self.dimension.to_bytes(4, "big"))
        return length_prefixed(b"facekeep sample v1", *fields) + template_data_suffix(
            bytes.fromhex(self.principal_id), self.consent_id.encode(), self.sample_id.encode(), self.kept_at_us
        )


@dataclass(frozen=True, slots=True)
class SettingContext:
    """Binds a sealed setting.

    Attributes:
        vault_id: the vault.
        name: name of the setting.
        epoch: epoch of the wrap key.
    """

    vault_id: str
    name: str
    epoch: int

    def associated_data(self) -> bytes:
        """Return label and fields."""
        fields = (self.vault_id.encode(), self.name.encode("utf-8"), self.epoch.to_bytes(4, "big"))
        return length_prefixed(b"facekeep setting v1", *fields)


def length_prefixed(*fields: bytes) -> bytes:
    """Return the fields one after the other, each behind its length as four bytes, big-endian."""
    return b"".join([part for field in fields for part in (len(field).to_bytes(4, "big"), field)])


def template_data_prefix(contract_id: bytes, purpose: bytes, dtype: bytes, dimension: int) -> bytes:
    """Return the part of a template's associated data that a whole gallery shares."""
    return length_prefixed(b"facekeep template v1", contract_id, purpose, dtype, dimension.to_bytes(4, "big"))


def template_data_suffix(principal: bytes, consent_id: bytes, reference_id: bytes, enrolled_at_us: int) -> bytes:
    """Return the part of the associated data of a template, its features or a sample that is its own."""
    # Written out, not looped over: this runs once for every template of a gallery.
    return b"%b%b%b%b%b%b\0\0\0\x08%b" % (
        len(principal).to_bytes(4, "big"),
        principal,
        len(consent_id).to_bytes(4, "big"),
        consent_id,
        len(reference_id).to_bytes(4, "big"),
        reference_id,
        enrolled_at_us.to_bytes(8, "big", signed=True),
    )


def envelope_header(epoch: int) -> bytes:
    """Return the eight bytes an envelope begins with: magic, version, epoch of the key."""
    return _HEADER.pack(MAGIC, VERSION, epoch)


def seal(key: bytes, plaintext: bytes, context: Context, randomness: Randomness, *, epoch: int = 0) -> bytes:
    """Return the envelope of `plaintext`.

    Args:
        key: 32 bytes.
        plaintext: what to seal.
        context: what it is bound to.
        randomness: where the nonce comes from.
        epoch: epoch of the key; 0 for a key that has none.
    """
    header, nonce = envelope_header(epoch), randomness.token(NONCE_BYTES)
    return header + nonce + AESGCMSIV(key).encrypt(nonce, plaintext, header + context.associated_data())


def unseal(key: bytes, envelope: bytes, context: Context, *, epoch: int = 0) -> bytes:
    """Return the plaintext of `envelope`.

    Raises:
        VaultError: "vault.sealed" for another key or context or any change; "vault.newer_version".
    """
    header = require_header(envelope, epoch)
    try:
        return AESGCMSIV(key).decrypt(
            envelope[HEADER_BYTES:PREFIX_BYTES], envelope[PREFIX_BYTES:], header + context.associated_data()
        )
    except InvalidTag:
        raise stays_sealed() from None


def require_header(envelope: bytes, epoch: int) -> bytes:
    """Return the header of `envelope` if it is one that this version opens.

    Raises:
        VaultError: "vault.sealed" or "vault.newer_version".
    """
    header = envelope_header(epoch)
    if envelope[:HEADER_BYTES] != header or len(envelope) < OVERHEAD_BYTES:
        if len(envelope) >= OVERHEAD_BYTES and envelope[:3] == MAGIC and envelope[3] > VERSION:
            raise VaultError("vault.newer_version", "An envelope has a newer format. Update Facekeep.")
        raise stays_sealed()
    return header


def stays_sealed() -> VaultError:
    """Return the error for an envelope that does not open."""
    return VaultError(
        "vault.sealed", "An envelope does not open in this context: it was changed, moved, or sealed under another key."
    )


@dataclass(frozen=True, slots=True, repr=False)
class DataKey:
    """A subject's own key, and the pseudonym that its envelopes are bound to.

    The pseudonym is wrapped with the key, so that a gallery opens with two decryptions a template and not three.

    Attributes:
        key: 32 bytes.
        principal: 32 bytes.
    """

    key: bytes
    principal: bytes

    def __repr__(self) -> str:
        return "DataKey(...)"

    def wrap(self, wrap_key: bytes, context: DataKeyContext, randomness: Randomness) -> bytes:
        """Return the envelope of this key under the wrap key of the context's epoch."""
        return seal(wrap_key, self.key + self.principal, context, randomness, epoch=context.epoch)

    @classmethod
    def unwrap(cls, wrap_key: bytes, envelope: bytes, context: DataKeyContext) -> DataKey:
        """Return the key of an envelope.

        Raises:
            VaultError: "vault.sealed" or "vault.newer_version".
        """
        plain = unseal(wrap_key, envelope, context, epoch=context.epoch)
        if len(plain) != KEY_BYTES + PRINCIPAL_BYTES:
            raise stays_sealed()
        return cls(plain[:KEY_BYTES], plain[KEY_BYTES:])
