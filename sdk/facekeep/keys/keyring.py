"""The keyring of the operating system, through the optional package `keyring`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

from facekeep.errors import VaultError
from facekeep.keys.provider import MASTER_KEY_BYTES, KeyFile, Parameters
from facekeep.randomness import Randomness, SystemRandomness

_SYSTEM_RANDOMNESS = SystemRandomness()
# keyring: "Suitable priorities are >= 1"; its fail backend has 0, its null backend -1, plain-text files 0.5.
_SUITABLE_PRIORITY = 1.0


class KeyringBackend(Protocol):
    """The part of `keyring.backend.KeyringBackend` that is used."""

    priority: Any

    def get_password(self, service: str, username: str) -> str | None:
        """Return the secret, or None."""
        ...

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store the secret."""
        ...


class OSKeyring:
    """A random key in the keyring of the operating system.

    Args:
        service: name of the entry's service.
        account: name of the entry's account.
        backend: the keyring to use; by default the one that the package `keyring` picks.
        randomness: where a new key comes from.
    """

    kind = "os-keyring"

    def __init__(
        self,
        service: str = "facekeep",
        account: str = "default",
        *,
        backend: KeyringBackend | None = None,
        randomness: Randomness = _SYSTEM_RANDOMNESS,
    ) -> None:
        self._service, self._account = service, account
        self._backend = backend
        self._randomness = randomness

    def __repr__(self) -> str:
        return "OSKeyring(...)"

    def create(self) -> Parameters:
        """Store a fresh key where there is none, and read it back.

        Raises:
            VaultError: "vault.no_key".
        """
        backend = self._require_backend()
        with _no_key():
            if backend.get_password(self._service, self._account) is None:
                fresh = KeyFile.encode(self._randomness.token(MASTER_KEY_BYTES)).decode("ascii").strip()
                backend.set_password(self._service, self._account, fresh)
        parameters: Parameters = {"service": self._service, "account": self._account}
        # A keyring that forgets at once must show now, not when the vault has content.
        self.master_key(parameters)
        return parameters

    def master_key(self, parameters: Parameters) -> bytes:
        """Return the key of the keyring.

        Raises:
            VaultError: "vault.no_key".
        """
        backend = self._require_backend()
        with _no_key():
            secret = backend.get_password(str(parameters.get("service")), str(parameters.get("account")))
        if secret is None:
            raise VaultError("vault.no_key", "The keyring holds no key for this vault. Unlock it, or log in as the vault's owner.")
        return KeyFile.parse(secret.encode("utf-8", "replace") + b"\n")

    def _require_backend(self) -> KeyringBackend:
        backend = self._backend
        if backend is None:
            try:
                module = importlib.import_module("keyring")
            except ImportError:
                raise VaultError("vault.no_key", "The package keyring is missing. Install facekeep[keyring].") from None
            with _no_key():
                backend = cast(KeyringBackend, module.get_keyring())
        with _no_key():
            suitable = float(backend.priority) >= _SUITABLE_PRIORITY
        if not suitable:
            # No silent plain text: what stands in for a missing keyring keeps secrets nowhere or in the open.
            raise VaultError(
                "vault.no_key", "This system offers no secure keyring. Use a passphrase or a key file, or start a keyring service."
            )
        return backend


@contextmanager
def _no_key() -> Iterator[None]:
    try:
        yield
    except VaultError:
        raise
    except Exception as error:  # noqa: BLE001 - back ends raise what they like (D-Bus, ctypes), and none of it may cross
        raise VaultError("vault.no_key", f"The keyring refused ({type(error).__name__}). Unlock it and try again.") from None
