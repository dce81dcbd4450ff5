"""The keystore: one small file with every key of a vault, sealed under the master key. Format: docs/formats/keystore.md.

It lies beside the vault and not in it, so that a key can be destroyed: the file is replaced whole and the old one overwritten.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import VaultError
from facekeep.keys.files import create_private, hold_directory, read_regular, replace_private, typed_os_errors
from facekeep.keys.provider import MasterKeySource, Parameters
from facekeep.randomness import Randomness

MAGIC = b"FKK"
VERSION = 1
KEY_BYTES = 32
_INFO = b"facekeep keystore v1"
_NONCE_BYTES, _CHECKSUM_BYTES, _LIMIT = 12, 32, 65536
_PREFIX = struct.Struct(">3sBH")
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Anchor:
    """What the keystore remembers of the vault: a lower bound, against an older vault put in its place.

    Attributes:
        counter: number of durable commits.
        trail_size: entries of the audit trail at that commit.
        trail_hash: hexadecimal leaf hash of the last of them, or None.
    """

    counter: int = 0
    trail_size: int = 0
    trail_hash: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class KeystoreSecrets:
    """The opened content. Its repr shows nothing.

    Attributes:
        vault_id: which vault these keys belong to.
        epoch: epoch of the wrap key in use.
        wrap_keys: epoch -> 32-byte key; more than one only while a rotation is under way.
        device_seed: 32-byte seed of the device's signing key.
        index_key: 32-byte key of the tags by which subjects are found.
        head_key: 32-byte key of the vault's head.
        anchor: the last state known.
    """

    vault_id: str
    epoch: int
    wrap_keys: Mapping[int, bytes]
    device_seed: bytes
    index_key: bytes
    head_key: bytes
    anchor: Anchor

    def __repr__(self) -> str:
        return f"KeystoreSecrets(epoch={self.epoch})"

    def __post_init__(self) -> None:
        keys = (*self.wrap_keys.values(), self.device_seed, self.index_key, self.head_key)
        if any(len(key) != KEY_BYTES for key in keys) or self.epoch not in self.wrap_keys or min(self.wrap_keys) < 1:
            raise ValueError("a keystore has 32-byte keys and the key of its epoch")

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is sealed."""
        return to_canonical(
            {
                "v": VERSION,
                "vault_id": self.vault_id,
                "epoch": self.epoch,
                "wrap_keys": {str(epoch): _text(key) for epoch, key in self.wrap_keys.items()},
                "device_seed": _text(self.device_seed),
                "index_key": _text(self.index_key),
                "head_key": _text(self.head_key),
                "anchor": {
                    "counter": self.anchor.counter,
                    "trail_size": self.anchor.trail_size,
                    "trail_hash": self.anchor.trail_hash,
                },
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> KeystoreSecrets:
        """Return the secrets of canonical JSON.

        Raises:
            ValueError: if it is not of that form.
        """
        try:
            fields: dict[str, Any] = parse_canonical(data)
            anchor = fields["anchor"]
            secrets = cls(
                vault_id=fields["vault_id"],
                epoch=fields["epoch"],
                wrap_keys={int(epoch): base64.b64decode(key) for epoch, key in fields["wrap_keys"].items()},
                device_seed=base64.b64decode(fields["device_seed"]),
                index_key=base64.b64decode(fields["index_key"]),
                head_key=base64.b64decode(fields["head_key"]),
                anchor=Anchor(anchor["counter"], anchor["trail_size"], anchor["trail_hash"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("not a keystore") from error
        if secrets.to_bytes() != data:
            raise ValueError("unknown fields")
        return secrets


class Keystore:
    """A keystore file, opened. Made by `create` or `open`; not safe for threads, safe for processes."""

    def __init__(
        self, path: Path, header: bytes, key: bytes, secrets: KeystoreSecrets, randomness: Randomness, timeout: float
    ) -> None:
        self._path = path
        self._header = header
        self._key = key
        self._randomness = randomness
        self._timeout_seconds = timeout
        self.secrets = secrets

    def __repr__(self) -> str:
        return f"Keystore(epoch={self.secrets.epoch})"

    @classmethod
    def create(
        cls, path: Path, provider: MasterKeySource, *, randomness: Randomness, busy_timeout_seconds: float = 5.0
    ) -> Keystore:
        """Write a new keystore with fresh keys.

        Raises:
            VaultError: "vault.already_exists", why the provider has no key, or why the file cannot be written.
        """
        parameters = provider.create()
        header = encode_header(provider.kind, parameters)
        fresh = [randomness.token(KEY_BYTES) for _ in range(4)]
        secrets = KeystoreSecrets(randomness.token(16).hex(), 1, {1: fresh[0]}, fresh[1], fresh[2], fresh[3], Anchor())
        key = payload_key(provider.master_key(parameters))
        with typed_os_errors("create the keystore"):
            try:
                create_private(path, encode_keystore(header, key, secrets, randomness.token(_NONCE_BYTES)))
            except FileExistsError:
                raise VaultError(
                    "vault.already_exists", "A keystore lies here already. Open its vault, or choose another place."
                ) from None
        return cls(path, header, key, secrets, randomness, busy_timeout_seconds)

    @classmethod
    def open(cls, path: Path, provider: MasterKeySource, *, randomness: Randomness, busy_timeout_seconds: float = 5.0) -> Keystore:
        """Open the keystore at `path` with the provider it was made with.

        Raises:
            VaultError: "vault.corrupt" (damaged or missing), "vault.wrong_key", "vault.newer_version", or what the provider raises.
        """
        data = _read(path)
        header, _, _ = split_keystore(data)
        kind, parameters = parse_header(header)
        if kind != provider.kind:
            raise VaultError("vault.wrong_key", f"The vault is locked with a {kind}, not with a {provider.kind}. Use that one.")
        key = payload_key(provider.master_key(parameters))
        return cls(path, header, key, decode_keystore(data, header, key), randomness, busy_timeout_seconds)

    def refresh(self) -> None:
        """Read the file again: another process may have rotated the wrap key."""
        self.secrets = decode_keystore(_read(self._path), self._header, self._key)

    def add_wrap_key(self, epoch: int) -> bytes:
        """Add a fresh wrap key for the epoch after the one in use and return it, once it is on the disk.

        Callers hold the vault's write lock, so a key already there for that epoch is left over from a crash and in use nowhere.
        """
        fresh = self._randomness.token(KEY_BYTES)

        def add(secrets: KeystoreSecrets) -> KeystoreSecrets:
            keys = {known: key for known, key in secrets.wrap_keys.items() if known < epoch}
            return replace(secrets, wrap_keys={**keys, epoch: fresh})

        self._update(add)
        return fresh

    def settle(self, epoch: int, anchor: Anchor, *, discard_later: bool = False) -> None:
        """Make `epoch` the one in use, destroy the wrap keys of every earlier one, and advance the anchor.

        Args:
            epoch: epoch of the vault's head.
            anchor: state of the vault; an anchor that is further on already stays.
            discard_later: also destroy keys of later epochs, left over from a crash; callers hold the vault's write lock.
        """

        def keep(secrets: KeystoreSecrets) -> KeystoreSecrets:
            keys = {
                known: key for known, key in secrets.wrap_keys.items() if known == epoch or (known > epoch and not discard_later)
            }
            if epoch not in keys:
                # Another process has rotated further; what it settled stands.
                keys = dict(secrets.wrap_keys)
            further = anchor if anchor.counter > secrets.anchor.counter else secrets.anchor
            return replace(secrets, epoch=epoch if epoch in keys else secrets.epoch, wrap_keys=keys, anchor=further)

        self._update(keep)

    def is_settled(self, epoch: int, anchor: Anchor) -> bool:
        """Return whether only the key of `epoch` is left and the anchor is as far on as this one."""
        return set(self.secrets.wrap_keys) == {epoch} and self.secrets.anchor.counter >= anchor.counter

    def holds_no_more_than(self, data: bytes) -> bool:
        """Return whether a copy of this keystore holds no wrap key that this one does not.

        Raises:
            VaultError: if the copy does not open.
        """
        copy, mine = decode_keystore(data, self._header, self._key), self.secrets.wrap_keys
        return all(mine.get(epoch) == key for epoch, key in copy.wrap_keys.items())

    def _update(self, change: Callable[[KeystoreSecrets], KeystoreSecrets]) -> None:
        with hold_directory(self._path.parent, self._timeout_seconds), typed_os_errors("write the keystore"):
            # Read under the lock: a copy from memory could bring back a key that another process has destroyed.
            now = decode_keystore(_read(self._path), self._header, self._key)
            if now.vault_id != self.secrets.vault_id:
                # The home was made anew under a device left open: its state must not be written over the new one's.
                raise VaultError("vault.closed", "Another vault lies here now. Close this device and open it again.")
            then = change(now)
            if then != now:
                nonce = self._randomness.token(_NONCE_BYTES)
                replace_private(self._path, encode_keystore(self._header, self._key, then, nonce))
            self.secrets = then


def encode_header(kind: str, parameters: Parameters) -> bytes:
    """Return magic, version, and the provider with its parameters."""
    body = to_canonical({"provider": kind, "parameters": dict(parameters)})
    return _PREFIX.pack(MAGIC, VERSION, len(body)) + body


def parse_header(header: bytes) -> tuple[str, Parameters]:
    """Return the provider's kind and parameters of a header.

    Raises:
        VaultError: "vault.corrupt".
    """
    try:
        fields = parse_canonical(header[_PREFIX.size :])
        kind, parameters = fields["provider"], fields["parameters"]
        if not isinstance(kind, str) or not all(isinstance(item, str | int) for item in parameters.values()):
            raise ValueError("not a header")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged() from None
    return kind, parameters


def payload_key(master_key: bytes) -> bytes:
    """Return the key that seals the payload: HKDF-SHA256 (RFC 5869) of the master key."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=_INFO).derive(master_key)


def encode_keystore(header: bytes, key: bytes, secrets: KeystoreSecrets, nonce: bytes) -> bytes:
    """Return the bytes of a keystore file."""
    sealed = AESGCMSIV(key).encrypt(nonce, secrets.to_bytes(), header)
    content = header + nonce + _LENGTH.pack(len(sealed)) + sealed
    return content + hashlib.sha256(content).digest()


def split_keystore(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Return header, nonce and sealed payload of a keystore file.

    Raises:
        VaultError: "vault.corrupt" or "vault.newer_version".
    """
    if len(data) < _PREFIX.size + _NONCE_BYTES + _LENGTH.size + _CHECKSUM_BYTES:
        raise _damaged()
    magic, version, length = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise _damaged()
    if version > VERSION:
        raise VaultError(
            "vault.newer_version", f"The keystore has format {version}; this Facekeep reads up to {VERSION}. Update it."
        )
    # The checksum tells damage from a wrong key. It is no protection: that is the seal's.
    content, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    start = _PREFIX.size + length
    if version != VERSION or not hmac.compare_digest(hashlib.sha256(content).digest(), checksum) or len(content) < start + 16:
        raise _damaged()
    nonce, rest = content[start : start + _NONCE_BYTES], content[start + _NONCE_BYTES :]
    sealed = rest[_LENGTH.size :]
    if len(sealed) != _LENGTH.unpack_from(rest)[0]:
        raise _damaged()
    return data[:start], nonce, sealed


def decode_keystore(data: bytes, header: bytes, key: bytes) -> KeystoreSecrets:
    """Return the secrets of a keystore file.

    Raises:
        VaultError: "vault.corrupt", "vault.newer_version" or "vault.wrong_key".
    """
    found, nonce, sealed = split_keystore(data)
    if found != header:
        raise VaultError("vault.wrong_key", "The keystore was made anew since it was opened. Open the vault again.")
    try:
        return KeystoreSecrets.parse(AESGCMSIV(key).decrypt(nonce, sealed, header))
    except InvalidTag:
        raise VaultError("vault.wrong_key", "The key does not open this vault. Check the passphrase or the key file.") from None
    except ValueError:
        raise _damaged() from None


def _read(path: Path) -> bytes:
    with typed_os_errors("read the keystore"):
        try:
            return read_regular(path, _LIMIT)
        except FileNotFoundError:
            raise VaultError("vault.corrupt", "The keystore keys.fkk is missing. Restore it from a backup.") from None


def _damaged() -> VaultError:
    return VaultError("vault.corrupt", "The keystore keys.fkk is damaged. Restore it from a backup.")


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode("ascii")
