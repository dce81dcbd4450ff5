"""Making a vault: both files, or neither."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from facekeep.audit import TrailHead, sign_head
from facekeep.errors import VaultError
from facekeep.keys import Keystore
from facekeep.keys.files import hold_directory, make_private_directory, sync_directory, typed_os_errors
from facekeep.ports import KeyProvider
from facekeep.randomness import Randomness
from facekeep.signing import DeviceKey
from facekeep.vault.head import VaultHead, write_head, write_trail_head
from facekeep.vault.store import Store
from facekeep.vault.tables import Tables

VAULT_FILE: Final = "vault.db"
KEYSTORE_FILE: Final = "keys.fkk"


def build_vault(
    home: Path, provider: KeyProvider, *, randomness: Randomness, busy_timeout_seconds: float, page_size: int
) -> Keystore:
    """Write an empty vault and its keystore into `home`, and return the keystore.

    1. the vault, under another name
    2. the keystore
    3. the vault's name
    A crash before 3 leaves no vault, and a keystore that has never served, which the next attempt replaces.

    Raises:
        VaultError: "vault.already_exists", why the provider has no key, or why the files cannot be written.
    """
    make_private_directory(home)
    path, keys, fresh = home / VAULT_FILE, home / KEYSTORE_FILE, home / f".{VAULT_FILE}.new"
    with hold_directory(home, busy_timeout_seconds):
        if path.exists():
            raise VaultError("vault.already_exists", "A vault lies here already. Open it, or choose another directory.")
        _discard_unused_keystore(keys, provider, randomness)
        made: list[Path] = []
        try:
            # 1
            Store.create(fresh, page_size)
            # 2
            keystore = Keystore.create(keys, provider, randomness=randomness, busy_timeout_seconds=busy_timeout_seconds)
            made.append(keys)
            _write_first_state(fresh, keystore)
            # 3
            with typed_os_errors("create the vault"):
                fresh.rename(path)
                made.append(path)
                sync_directory(home)
        except BaseException:
            with contextlib.suppress(OSError):
                Store.remove(fresh)
                for file in made:
                    file.unlink(missing_ok=True)
            raise
    return keystore


def _discard_unused_keystore(path: Path, provider: KeyProvider, randomness: Randomness) -> None:
    if not path.exists():
        return
    # A keystore without its vault may be all that is left to open a backup with. One of no bytes held no key: a process
    # leaves it that was killed between making and filling it.
    try:
        has_served = Keystore.open(path, provider, randomness=randomness).secrets.anchor.counter > 0
    except VaultError as error:
        if error.code not in ("vault.wrong_key", "vault.corrupt", "vault.newer_version"):
            raise
        has_served = path.stat().st_size > 0
    if has_served:
        raise VaultError("vault.already_exists", "A keystore lies here without its vault. Restore vault.db, or move keys.fkk away.")
    with typed_os_errors("create the vault"):
        path.unlink()


def _write_first_state(path: Path, keystore: Keystore) -> None:
    secrets, trail = keystore.secrets, TrailHead()
    head = VaultHead(secrets.vault_id, secrets.epoch, 0, 0, Tables.empty().fingerprints(), 0, None)
    with contextlib.closing(Store(path, 5.0)) as store:
        store.begin(durable=True)
        write_head(store, secrets.head_key, head)
        write_trail_head(store, secrets.head_key, trail, sign_head(trail, DeviceKey(secrets.device_seed)))
        store.commit()
