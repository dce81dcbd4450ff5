"""Opening the vault of a device, or making it."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from facekeep.audit import AuditEvent
from facekeep.clock import Clock
from facekeep.errors import VaultError
from facekeep.flows.context import Settings
from facekeep.ports import KeyProvider
from facekeep.vault import SQLiteVault


def usable_path(home: str | PathLike[str]) -> Path:
    """Return the home of a device as a path.

    Raises:
        VaultError: "vault.io".
    """
    try:
        where = Path(home).expanduser()
        where.joinpath("vault.db").exists()
        if b"\0" in os.fsencode(where):
            raise ValueError("a path holds no null byte")
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        raise VaultError("vault.io", f"The home of the device cannot be used ({type(error).__name__}).") from None
    return where


def create_or_open(where: Path, key: KeyProvider, clock: Clock, settings: Settings, mode: str) -> SQLiteVault:
    """Return the vault at `where`, open; `mode` is that of `Device.open`.

    Raises:
        VaultError, AuditError: with a stable code.
    """
    timeout = settings.busy_timeout.total_seconds()
    if mode not in {"create", "open", "create-or-open"}:
        raise ValueError('mode is "create-or-open", "open" or "create"')
    if mode == "create" or (mode == "create-or-open" and not SQLiteVault.exists(where)):
        try:
            vault = SQLiteVault.create(where, key, clock=clock, busy_timeout_seconds=timeout)
            with vault.transaction() as transaction:
                transaction.append_event(AuditEvent("vault.created", details={"provider": key.kind}))
            return vault
        except VaultError as error:
            # Another process was faster; what it made is what was asked for.
            if mode == "create" or error.code != "vault.already_exists":
                raise
    return SQLiteVault.open(where, key, clock=clock, busy_timeout_seconds=timeout)
