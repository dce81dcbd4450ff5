"""From options to an open device: where its home is and who guards its key."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from facekeep.cli.reading import read_small_text
from facekeep.device import Device
from facekeep.errors import VaultError
from facekeep.keys import KeyFile, OSKeyring, Passphrase
from facekeep.packs import LoadPolicy, PackStore
from facekeep.ports import KeyProvider
from facekeep.vault import SQLiteVault

_POINTER = "key.json"  # says who guards the key and where; holds no secret
_POINTER_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options that stand before the command."""

    home: Path
    key_file: Path | None = None
    passphrase_file: Path | None = None
    keyring: str | None = None
    packs: Path | None = None
    policy: LoadPolicy

    def pack_store(self) -> PackStore:
        """Return the store of model packs."""
        return PackStore(self.packs or self.home / "packs")

    def open_device(self, **choices: Any) -> Device:
        """Return the open device.

        Raises:
            VaultError: "vault.not_found" when `init` was not run, "vault.no_key" when nothing says who guards the key.
        """
        provider = self.asked_provider() or self._remembered_provider()
        return Device.open(self.home, key=provider, packs=self.pack_store(), policy=self.policy, mode="open", **choices)

    def create_device(self, **choices: Any) -> Device:
        """Create the device and remember who guards its key."""
        provider = self.asked_provider() or Passphrase(_ask_passphrase(confirm=True))
        device = Device.open(self.home, key=provider, packs=self.pack_store(), policy=self.policy, mode="create", **choices)
        try:
            # `models import` may have made the directory before, open to others as usual.
            self.home.chmod(0o700)
            self._remember(provider)
        except OSError as error:
            device.close()
            raise VaultError("vault.io", f"{self.home} cannot be closed to others: {error.strerror}.") from None
        except BaseException:
            device.close()
            raise
        return device

    def asked_provider(self) -> KeyProvider | None:
        """Return the key provider that the options name, or None.

        Raises:
            VaultError: "vault.no_key" when several are named or the passphrase cannot be read.
        """
        named = [option for option in (self.key_file, self.passphrase_file, self.keyring) if option is not None]
        if len(named) > 1:
            raise VaultError("vault.no_key", "Name one of --key-file, --passphrase-file and --keyring, not several.")
        if self.key_file is not None:
            return KeyFile(self.key_file.expanduser())
        if self.keyring is not None:
            return OSKeyring("facekeep", self.keyring)
        if self.passphrase_file is not None:
            return Passphrase(_read_passphrase(self.passphrase_file))
        return None

    def _remember(self, provider: KeyProvider) -> None:
        pointer: dict[str, object] = {"version": _POINTER_VERSION, "kind": provider.kind}
        if self.key_file is not None:
            pointer["path"] = str(self.key_file.expanduser().absolute())
        if self.keyring is not None:
            pointer["account"] = self.keyring
        path = self.home / _POINTER
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(pointer, file)
        except OSError as error:
            raise VaultError("vault.io", f"{path} cannot be written: {error.strerror}.") from None

    def _remembered_provider(self) -> KeyProvider:
        path = self.home / _POINTER
        try:
            pointer = json.loads(read_small_text(path))
            kind = pointer["kind"]
            if kind == "key-file":
                return KeyFile(Path(pointer["path"]))
            if kind == "os-keyring":
                return OSKeyring("facekeep", str(pointer["account"]))
        except FileNotFoundError:
            if not SQLiteVault.exists(self.home):
                raise VaultError("vault.not_found", f"There is no device at {self.home}. Run `facekeep init` first.") from None
            raise VaultError("vault.no_key", "Nothing says who guards the key: name --key-file or its kind.") from None
        except NotADirectoryError:
            raise VaultError("vault.not_found", f"{self.home} is a file; --home is a directory.") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise VaultError("vault.corrupt", f"{path} is not readable. Name --key-file or its kind instead.") from None
        return Passphrase(_ask_passphrase(confirm=False))


def _ask_passphrase(*, confirm: bool) -> str:
    if not sys.stdin.isatty():
        raise VaultError(
            "vault.no_key", "No key was named and there is no terminal to ask at: use --key-file, --passphrase-file or --keyring."
        )
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))


def _read_passphrase(path: Path) -> str:
    try:
        text = sys.stdin.readline() if str(path) == "-" else read_small_text(path, secret=True)
    except PermissionError:
        raise VaultError("vault.insecure_key", f"Others may read {path}. Run: chmod 600 {path}") from None
    except (OSError, ValueError):
        raise VaultError("vault.no_key", f"The passphrase cannot be read from {path}.") from None
    return text.removesuffix("\n").removesuffix("\r")


def options_of(context: typer.Context) -> Options:
    """Return what the root callback gathered."""
    options = context.find_object(Options)
    if options is None:
        raise RuntimeError("the root callback did not run")
    return options
