"""The head of the vault: one record, authenticated, that says what every table and the trail have to be."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from facekeep.audit import TrailHead
from facekeep.audit.trail import parse_entry
from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.keys import Anchor
from facekeep.merkle import Frontier, leaf_hash
from facekeep.vault.store import ADDED_TABLES, SCHEMA_VERSION, TABLES, Store, blob, damaged

_HEAD, _TRAIL, _BASE = b"facekeep vault head v1\n", b"facekeep trail head v1\n", b"facekeep trail base v1\n"
_MAC_BYTES = 32
_TRAIL_VERSION = 1
_FIRST_TABLES = set(TABLES) - set(ADDED_TABLES)


@dataclass(frozen=True, slots=True)
class VaultHead:
    """What the vault was at its last durable commit.

    Attributes:
        vault_id: which vault, the same as in its keystore.
        epoch: epoch of the wrap key in use.
        counter: number of durable commits.
        revision: number of commits that changed a table; entries of the trail alone leave it.
        tables: name -> (number of slots, hexadecimal Merkle root over the records).
        trail_size: entries of the trail.
        trail_hash: hexadecimal leaf hash of the last of them, or None.
    """

    vault_id: str
    epoch: int
    counter: int
    revision: int
    tables: Mapping[str, tuple[int, str]]
    trail_size: int
    trail_hash: str | None

    @property
    def anchor(self) -> Anchor:
        """What the keystore is to remember of this head."""
        return Anchor(self.counter, self.trail_size, self.trail_hash)

    @property
    def version(self) -> int:
        """Version of the format: 1 before the tables of version 2 were added."""
        return SCHEMA_VERSION if set(self.tables) == set(TABLES) else 1

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is authenticated."""
        return to_canonical(
            {
                "v": self.version,
                "vault_id": self.vault_id,
                "epoch": self.epoch,
                "counter": self.counter,
                "revision": self.revision,
                "tables": {name: {"slots": slots, "root": root} for name, (slots, root) in self.tables.items()},
                "trail": {"size": self.trail_size, "last": self.trail_hash},
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> VaultHead:
        """Return the head of canonical JSON.

        Raises:
            VaultError: "vault.corrupt".
        """
        try:
            fields: dict[str, Any] = parse_canonical(body)
            head = cls(
                fields["vault_id"],
                fields["epoch"],
                fields["counter"],
                fields["revision"],
                {name: (table["slots"], table["root"]) for name, table in fields["tables"].items()},
                fields["trail"]["size"],
                fields["trail"]["last"],
            )
            if set(head.tables) not in (set(TABLES), _FIRST_TABLES) or head.to_bytes() != body:
                raise ValueError("not a head")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise damaged() from None
        return head


def write_head(store: Store, key: bytes, head: VaultHead) -> bytes:
    """Write the head and return its bytes."""
    body = head.to_bytes()
    store.change("INSERT OR REPLACE INTO head(id, body, mac) VALUES (1, ?, ?)", body, _mac(key, _HEAD, body))
    return body


def read_head_bytes(store: Store, key: bytes) -> bytes:
    """Return the head's bytes.

    Raises:
        VaultError: "vault.corrupt" if they were not written with this key.
    """
    body, mac = (blob(column) for column in store.row("SELECT body, mac FROM head"))
    if not hmac.compare_digest(mac, _mac(key, _HEAD, body)):
        raise damaged()
    return body


def write_trail_head(store: Store, key: bytes, trail: TrailHead, note: str) -> bytes:
    """Write where the trail stands, with the signed note, and return its bytes."""
    body = _trail_bytes(trail)
    store.change(
        "INSERT OR REPLACE INTO trail_head(id, body, mac, note) VALUES (1, ?, ?, ?)",
        body,
        _mac(key, _TRAIL, body + note.encode()),
        note.encode(),
    )
    return body + note.encode()


def read_trail_head(store: Store, key: bytes) -> tuple[bytes, bytes]:
    """Return the bytes of where the trail stands, and the note.

    Raises:
        VaultError: "vault.corrupt".
    """
    body, mac, note = (blob(column) for column in store.row("SELECT body, mac, note FROM trail_head"))
    if not hmac.compare_digest(mac, _mac(key, _TRAIL, body + note)):
        raise damaged()
    return body, note


def parse_trail_head(body: bytes) -> TrailHead:
    """Return where the trail stands.

    Raises:
        VaultError: "vault.corrupt".
    """
    try:
        fields: dict[str, Any] = parse_canonical(body)
        last, time = fields["last"], fields["time"]
        instant: datetime | None = None if time is None else parse_rfc3339(time)
        frontier = Frontier(fields["size"], tuple(bytes.fromhex(item) for item in fields["edge"]))
        return TrailHead(frontier, None if last is None else bytes.fromhex(last), instant)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise damaged() from None


def trail_base_setting(base: TrailHead, key: bytes) -> bytes:
    """Return the setting that remembers where the trail stood when its oldest entries were deleted."""
    body = _trail_bytes(base)
    return _mac(key, _BASE, body) + body


def read_trail_base(setting: bytes | None, key: bytes) -> TrailHead:
    """Return where the trail stands in front of the first entry that is kept; an empty head if none was ever deleted.

    Raises:
        VaultError: "vault.corrupt".
    """
    if setting is None:
        return TrailHead()
    mac, body = setting[:_MAC_BYTES], setting[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, _BASE, body)):
        raise damaged()
    return parse_trail_head(body)


def fold_trail(base: TrailHead, entries: Iterable[bytes]) -> TrailHead:
    """Return where the trail stands after these entries, which were verified when the vault was opened."""
    head = base
    for body in entries:
        leaf = leaf_hash(body)
        head = TrailHead(head.frontier.append(leaf), leaf, parse_rfc3339(parse_entry(body)["time"]))
    return head


def _trail_bytes(trail: TrailHead) -> bytes:
    return to_canonical(
        {
            "v": _TRAIL_VERSION,
            "size": trail.size,
            "edge": [item.hex() for item in trail.frontier.edge],
            "last": trail.last_hash.hex() if trail.last_hash else None,
            "time": to_rfc3339(trail.last_time) if trail.last_time else None,
        }
    )


def _mac(key: bytes, label: bytes, body: bytes) -> bytes:
    return hmac.digest(key, label + body, hashlib.sha256)
