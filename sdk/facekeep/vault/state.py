"""What a vault knows of itself between transactions, verified whenever another process has changed the file."""

from __future__ import annotations

from dataclasses import dataclass, replace

from facekeep.audit import TrailHead, open_head
from facekeep.audit.trail import parse_entry
from facekeep.clock import parse_rfc3339
from facekeep.errors import AuditError, VaultError
from facekeep.keys import Anchor, Keystore, KeystoreSecrets
from facekeep.merkle import leaf_hash
from facekeep.signing import DeviceKey
from facekeep.vault.head import VaultHead, parse_trail_head, read_head_bytes, read_trail_head
from facekeep.vault.store import SCHEMA_VERSION, Store, blob, damaged
from facekeep.vault.tables import Tables, load_tables


@dataclass(slots=True)
class Snapshot:
    """The vault as it stood at one moment.

    Attributes:
        head: its head.
        head_bytes: the head as written, to tell at a glance whether it is still the same.
        tables: outline of the tables.
        trail: where the trail stands.
        trail_bytes: the same, and the signed note, as written.
    """

    head: VaultHead
    head_bytes: bytes
    tables: Tables
    trail: TrailHead
    trail_bytes: bytes


def read_head(store: Store, keystore: Keystore, key: DeviceKey, before: Snapshot | None, version: int = SCHEMA_VERSION) -> Snapshot:
    """Return the state of the file inside a transaction, verifying what is not the same as `before`.

    1. the head, against the head key and the keystore's anchor
    2. the tables, row by row, against the head
    3. the trail's head, against the head key, the device key, the last entry and the vault's head

    Raises:
        VaultError: "vault.corrupt", "vault.rolled_back".
        AuditError: "audit.truncated", "audit.broken_chain", "audit.bad_signature".
    """
    # 1
    secrets = keystore.secrets
    body = read_head_bytes(store, secrets.head_key)
    same = before is not None and before.head_bytes == body
    if before is not None and same:
        head, tables = before.head, before.tables
    else:
        head = VaultHead.parse(body)
        if head.version != version:
            raise damaged()
        if head.epoch not in secrets.wrap_keys or head.epoch != secrets.epoch:
            keystore.refresh()
        require_not_rolled_back(head, keystore.secrets, before.head.anchor if before else Anchor())
        # 2
        unchanged = before is not None and before.head.tables == head.tables
        tables = before.tables if before is not None and unchanged else load_tables(store, head)
    # 3
    trail_body, note = read_trail_head(store, secrets.head_key)
    if before is not None and same and before.trail_bytes == trail_body + note:
        return before
    trail = parse_trail_head(trail_body)
    require_trail(store, trail, head, note.decode("utf-8", "replace"), key)
    return Snapshot(head, body, tables, trail, trail_body + note)


def require_not_rolled_back(head: VaultHead, secrets: KeystoreSecrets, seen: Anchor) -> None:
    """Return if the head is not older than what the keystore, or this process, has seen.

    Raises:
        VaultError: "vault.corrupt" (another vault's), "vault.rolled_back".
    """
    if head.vault_id != secrets.vault_id:
        raise damaged("The vault and the keystore do not belong together")
    # Rollback: an older vault would bring back erased subjects and withdrawn consents.
    if head.counter < max(secrets.anchor.counter, seen.counter) or head.trail_size < max(
        secrets.anchor.trail_size, seen.trail_size
    ):
        raise VaultError(
            "vault.rolled_back",
            f"The vault stands at commit {head.counter}; its keystore remembers {max(secrets.anchor.counter, seen.counter)}. "
            "An older copy was put in its place: put the current one back.",
        )
    if head.epoch not in secrets.wrap_keys:
        raise VaultError(
            "vault.rolled_back", f"The wrap key of epoch {head.epoch} was destroyed: the vault or its keystore is an older copy."
        )


def require_trail(store: Store, trail: TrailHead, head: VaultHead, note: str, key: DeviceKey) -> None:
    """Return if the trail's head is signed, fits its last entry, and reaches as far as the vault's head says.

    Raises:
        AuditError: "audit.truncated", "audit.broken_chain", "audit.bad_signature".
    """
    checkpoint = open_head(note, key.public_bytes)
    if (checkpoint.size, checkpoint.root) != (trail.size, trail.frontier.root()):
        raise AuditError("audit.broken_chain", "The audit trail's head does not fit its signature.")
    last = store.rows("SELECT seq, body FROM trail ORDER BY seq DESC LIMIT 1")
    stored = last[0][0] + 1 if last and isinstance(last[0][0], int) else 0
    if stored < trail.size or trail.size < head.trail_size:
        raise AuditError(
            "audit.truncated",
            f"The audit trail has {min(stored, trail.size)} entries; {max(trail.size, head.trail_size)} were written.",
        )
    if stored > trail.size:
        raise AuditError("audit.broken_chain", "The audit trail has entries its head does not count.")
    if trail.size:
        body = blob(last[0][1])
        if leaf_hash(body) != trail.last_hash or parse_rfc3339(parse_entry(body)["time"]) != trail.last_time:
            raise AuditError("audit.broken_chain", "The last entry of the audit trail is not the one that was written.")
    if head.trail_size:
        at_head = store.rows("SELECT body FROM trail WHERE seq = ?", head.trail_size - 1)
        if not at_head or leaf_hash(blob(at_head[0][0])).hex() != head.trail_hash:
            raise AuditError("audit.broken_chain", "An entry of the audit trail is not the one that was written.")


def next_head(head: VaultHead, tables: Tables, trail: TrailHead, epoch: int, *, tables_changed: bool) -> VaultHead:
    """Return the head after one more durable commit."""
    return replace(
        head,
        epoch=epoch,
        counter=head.counter + 1,
        revision=head.revision + (1 if tables_changed else 0),
        tables=tables.fingerprints() if tables_changed else head.tables,
        trail_size=trail.size,
        trail_hash=trail.last_hash.hex() if trail.last_hash else None,
    )
