"""Which device a ClientApp speaks for: named by this machine, never by a message.

A ClientApp gets settings from three places. The environment of the SuperNode and its `--node-config` belong to the device's
operator. The run configuration belongs to whoever starts a run, that is, to the server: read from there, a home would let the
server choose which vault answers. It is therefore not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from facekeep.device import Device
from facekeep.errors import VaultError
from facekeep.keys import KeyFile, OSKeyring, Passphrase
from facekeep.packs import PackStore
from facekeep.ports import KeyProvider

# Setting -> (name in the environment, name in the node configuration). Paths and names only: a secret in the node configuration
# would stand in the list of processes.
_SETTINGS: Final = {
    "home": ("FACEKEEP_HOME", "facekeep-home"),
    "key_file": ("FACEKEEP_KEY_FILE", "facekeep-key-file"),
    "passphrase_file": ("FACEKEEP_PASSPHRASE_FILE", "facekeep-passphrase-file"),
    "keyring": ("FACEKEEP_KEYRING", "facekeep-keyring"),
    "packs": ("FACEKEEP_PACKS", "facekeep-packs"),
}
_LARGEST_PASSPHRASE: Final = 4_096


def open_device(node_config: Mapping[str, object], environment: Mapping[str, str] | None = None) -> Device:
    """Return the open device that this SuperNode speaks for. It is never created here.

    Raises:
        VaultError: "vault.not_found" without a home, "vault.no_key" unless exactly one guardian of the key is named, and whatever
            opening finds.
    """
    found = _read(node_config, os.environ if environment is None else environment)
    if "home" not in found:
        raise VaultError("vault.not_found", "Nothing says which device this is: set FACEKEEP_HOME or facekeep-home.")
    home = Path(found["home"]).expanduser()
    packs = PackStore(Path(found["packs"]).expanduser()) if "packs" in found else None
    return Device.open(home, key=_provider(found), packs=packs, mode="open")


def _read(node_config: Mapping[str, object], environment: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for setting, (variable, key) in _SETTINGS.items():
        value = node_config.get(key) or environment.get(variable)
        if isinstance(value, str) and value:
            found[setting] = value
    return found


def _provider(found: Mapping[str, str]) -> KeyProvider:
    named = [setting for setting in ("key_file", "passphrase_file", "keyring") if setting in found]
    if len(named) != 1:
        raise VaultError("vault.no_key", "Name exactly one of the key file, the passphrase file and the keyring's account.")
    if named == ["key_file"]:
        return KeyFile(Path(found["key_file"]).expanduser())
    if named == ["keyring"]:
        return OSKeyring("facekeep", found["keyring"])
    try:
        path = Path(found["passphrase_file"]).expanduser()
        if path.stat().st_mode & 0o077:
            raise VaultError("vault.insecure_key", "Others may read the passphrase file. Run: chmod 600")
        with path.open(encoding="utf-8") as stream:
            return Passphrase(stream.read(_LARGEST_PASSPHRASE).removesuffix("\n").removesuffix("\r"))
    except (OSError, ValueError):
        raise VaultError("vault.no_key", "The passphrase file cannot be read.") from None
