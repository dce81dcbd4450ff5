"""Subjects: found by a keyed tag, known by two pseudonyms, each with a key of its own."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field

from facekeep.errors import VaultError
from facekeep.keys import KeystoreSecrets
from facekeep.randomness import Randomness
from facekeep.sealing import DataKey, DataKeyContext, ProfileContext, seal, unseal
from facekeep.vault.store import Row, blob, damaged

SALT_BYTES = 32
COLUMNS = "slot, index_tag, epoch, wrapped_key, profile"


@dataclass(frozen=True, slots=True)
class SubjectHandle:
    """A subject of the vault.

    Attributes:
        slot: its row, until it is erased.
        name: what the application calls it.
        principal_id: its pseudonym in consent records, 64 hexadecimal digits.
        commitment: its pseudonym in the audit trail, another 64, not to be linked with the first without the salt.
    """

    slot: int
    name: str = field(repr=False)
    principal_id: str
    commitment: str


@dataclass(frozen=True, slots=True, repr=False)
class OpenedSubject:
    """A subject with its key. Lives for one transaction.

    Attributes:
        handle: what callers see.
        tag: index tag.
        data_key: key of its envelopes.
        salt: what its pseudonyms are made under.
    """

    handle: SubjectHandle
    tag: bytes
    data_key: DataKey
    salt: bytes

    def __repr__(self) -> str:
        return f"OpenedSubject(slot={self.handle.slot})"


def index_tag(secrets: KeystoreSecrets, subject: str) -> bytes:
    """Return the tag under which a name is found; without the key it cannot be told from noise, nor names be tried."""
    return hmac.digest(secrets.index_key, b"facekeep index v1\n" + subject.encode("utf-8"), hashlib.sha256)


def seal_subject(secrets: KeystoreSecrets, epoch: int, slot: int, name: str, randomness: Randomness) -> tuple[OpenedSubject, Row]:
    """Return a new subject with a fresh salt and key, wrapped under the key of `epoch`, and its row."""
    tag, salt = index_tag(secrets, name), randomness.token(SALT_BYTES)
    opened = OpenedSubject(_handle(slot, name, salt), tag, DataKey(randomness.token(32), _pseudonym(salt, b"principal")), salt)
    wrapped = opened.data_key.wrap(secrets.wrap_keys[epoch], DataKeyContext(secrets.vault_id, tag, epoch), randomness)
    profile = seal(opened.data_key.key, salt + name.encode("utf-8"), ProfileContext(secrets.vault_id, tag), randomness)
    return opened, (slot, tag, epoch, wrapped, profile)


def open_subject(secrets: KeystoreSecrets, row: Row) -> OpenedSubject:
    """Return the subject of a row of `COLUMNS`.

    Raises:
        VaultError: "vault.sealed" or "vault.corrupt".
    """
    slot, tag, epoch, wrapped, profile = row
    wrap_key = require_wrap_key(secrets, epoch)
    data_key = DataKey.unwrap(wrap_key, blob(wrapped), DataKeyContext(secrets.vault_id, blob(tag), epoch))
    plain = unseal(data_key.key, blob(profile), ProfileContext(secrets.vault_id, tag))
    salt, name = plain[:SALT_BYTES], plain[SALT_BYTES:]
    if not hmac.compare_digest(_pseudonym(salt, b"principal"), data_key.principal):
        raise damaged()
    return OpenedSubject(_handle(slot, name.decode("utf-8"), salt), tag, data_key, salt)


def guardian_pseudonym(opened: OpenedSubject, guardian: str) -> str:
    """Return the pseudonym of a subject's guardian: another for each child, and gone with the child's salt."""
    return _pseudonym(opened.salt, b"guardian\n" + guardian.encode("utf-8")).hex()


def require_wrap_key(secrets: KeystoreSecrets, epoch: object) -> bytes:
    """Return the wrap key of an epoch.

    Raises:
        VaultError: "vault.sealed" if it was destroyed or never was.
    """
    key = secrets.wrap_keys.get(epoch) if isinstance(epoch, int) else None
    if key is None:
        raise VaultError("vault.sealed", "The wrap key of this row is gone: it was erased, or the row comes from another vault.")
    return key


def rewrap(secrets: KeystoreSecrets, row: Row, epoch: int, randomness: Randomness) -> Row:
    """Return a row of `COLUMNS` with its data key under the wrap key of another epoch."""
    slot, tag, old, wrapped, profile = row
    context = DataKeyContext(secrets.vault_id, blob(tag), old)
    data_key = DataKey.unwrap(require_wrap_key(secrets, old), blob(wrapped), context)
    fresh = data_key.wrap(secrets.wrap_keys[epoch], DataKeyContext(secrets.vault_id, tag, epoch), randomness)
    return slot, tag, epoch, fresh, profile


def _handle(slot: int, name: str, salt: bytes) -> SubjectHandle:
    return SubjectHandle(slot, name, _pseudonym(salt, b"principal").hex(), _pseudonym(salt, b"trail").hex())


def _pseudonym(salt: bytes, label: bytes) -> bytes:
    return hmac.digest(salt, label, hashlib.sha256)
