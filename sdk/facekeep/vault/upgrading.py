"""Bringing a vault of version 1 up to version 2, when it is opened: all of it or nothing, whatever happens meanwhile.

Steps:
    1 hold the vault alone, and find version 1 with exactly its tables
    2 verify it as version 1 did: every row against the head, head and trail against the keys, the counter against the anchor
    3 add the tables `features` and `samples`, empty, and say version 2
    4 record it in the trail, write the head of version 2, commit
A crash before the commit leaves version 1, one after it version 2: SQLite keeps tables and `user_version` in the same journal.
"""

from __future__ import annotations

from facekeep.audit import AuditEvent
from facekeep.clock import Clock
from facekeep.keys import Keystore
from facekeep.randomness import Randomness
from facekeep.signing import DeviceKey
from facekeep.vault.state import read_head
from facekeep.vault.store import ADDED_TABLES, SCHEMA_VERSION, Store
from facekeep.vault.transaction import VaultTransaction

_OLD_VERSION = 1


def upgrade_if_older(store: Store, keystore: Keystore, key: DeviceKey, clock: Clock, randomness: Randomness) -> None:
    """Bring a vault of version 1 up to this one; leave any other alone.

    Raises:
        VaultError, AuditError: as `SQLiteVault.open`; then the file is as it was.
    """
    if store.version != _OLD_VERSION:
        return
    # 1 another process may be faster: the version is asked for again with the vault in hand
    store.begin(durable=True)
    try:
        if store.version != _OLD_VERSION:
            return
        store.require_schema(_OLD_VERSION)
        # 2 a vault that was tampered with must not be signed anew
        snapshot = read_head(store, keystore, key, None, _OLD_VERSION)
        # 3 tables
        store.create_tables(ADDED_TABLES)
        store.run(f"PRAGMA user_version={SCHEMA_VERSION:d}")
        # 4 head and trail
        transaction = VaultTransaction(store, keystore, key, snapshot, clock=clock, randomness=randomness, durable=True)
        transaction.tables_changed = True
        transaction.append_event(AuditEvent("vault.upgraded", details={"from": _OLD_VERSION, "to": SCHEMA_VERSION}))
        transaction.finish()
        transaction.end()
    finally:
        store.rollback()
