"""Fingerprints and maps of the tables, kept in memory: what is where, and the Merkle root of each."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from facekeep.merkle import SlotTree, leaf_hash
from facekeep.vault.head import VaultHead
from facekeep.vault.store import TABLES, Store, blob, damaged, integer

COLUMNS = {
    "subjects": "slot, index_tag, epoch, wrapped_key, profile",
    "templates": "slot, subject_slot, reference_id, contract_id, purpose, consent_id, dtype, dimension, enrolled_at_us, envelope",
    "consents": "slot, principal_id, body, signature",
    "settings": "slot, name, value",
    "features": "slot, base, row_count, dimension, envelope",
    "samples": "slot, subject_slot, sample_id, base, purpose, consent_id, kind, dimension, kept_at_us, envelope",
}


def record_leaf(table: str, *columns: int | bytes) -> bytes:
    """Return the leaf hash of a row: the table's name and every column, each behind its length."""
    parts: list[bytes] = [table.encode()]
    for column in columns:
        data = column if isinstance(column, bytes) else column.to_bytes(8, "big", signed=True)
        parts.append(len(data).to_bytes(4, "big"))
        parts.append(data)
    return leaf_hash(b"".join(parts))


class SlotTable:
    """The slots of one table: which are free, and the Merkle root over the rest.

    Args:
        leaves: slot -> leaf hash.
    """

    def __init__(self, leaves: Mapping[int, bytes]) -> None:
        size = max(leaves, default=-1) + 1
        self._free = [slot for slot in range(size) if slot not in leaves]
        self._tree = SlotTree([leaves.get(slot, SlotTree.EMPTY) for slot in range(size)])

    @property
    def fingerprint(self) -> tuple[int, str]:
        """Number of slots and hexadecimal Merkle root."""
        return len(self._tree), self._tree.root().hex()

    def put(self, slot: int, leaf: bytes) -> None:
        """Set the leaf hash of a slot."""
        self._tree.replace(slot, leaf)

    def clear(self, slot: int) -> None:
        """Empty a slot."""
        self._tree.clear(slot)
        heapq.heappush(self._free, slot)

    def take(self) -> int:
        """Return the lowest free slot, which is the caller's to fill."""
        if self._free and self._free[0] < len(self._tree):
            return heapq.heappop(self._free)
        # The tree has shrunk below whatever is still listed.
        self._free.clear()
        return len(self._tree)

    def take_last(self) -> int:
        """Return a slot behind all others, whatever is free: for rows whose order says which came first."""
        return len(self._tree)


@dataclass(slots=True)
class Tables:
    """Every table in outline.

    Attributes:
        slots: table -> its slots.
        subject_slots: index tag -> slot of the subject.
        templates: slot of a template -> (slot of its subject, contract id).
        templates_of: slot of a subject -> slots of its templates, in order of enrolment.
        features: slots of the templates that have features.
        samples_of: slot of a subject -> slots of its training samples.
        consents_of: principal -> slots of its consent records, in order.
        setting_slots: name -> slot.
    """

    slots: dict[str, SlotTable]
    subject_slots: dict[bytes, int] = field(default_factory=dict)
    templates: dict[int, tuple[int, str]] = field(default_factory=dict)
    templates_of: dict[int, list[int]] = field(default_factory=dict)
    features: set[int] = field(default_factory=set)
    samples_of: dict[int, list[int]] = field(default_factory=dict)
    consents_of: dict[bytes, list[int]] = field(default_factory=dict)
    setting_slots: dict[bytes, int] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Tables:
        """Return the outline of a vault without rows."""
        return cls({name: SlotTable({}) for name in TABLES})

    def fingerprints(self) -> dict[str, tuple[int, str]]:
        """Return what the head records of each table."""
        return {name: self.slots[name].fingerprint for name in TABLES}

    def add_template(self, slot: int, subject_slot: int, contract_id: bytes) -> None:
        """Note a template."""
        self.templates[slot] = (subject_slot, sys.intern(contract_id.decode("ascii", "replace")))
        self.templates_of.setdefault(subject_slot, []).append(slot)

    def drop_template(self, slot: int) -> None:
        """Forget one template."""
        owner, _ = self.templates.pop(slot)
        self.templates_of[owner].remove(slot)
        self.slots["templates"].clear(slot)
        self.drop_features(slot)

    def drop_features(self, slot: int) -> None:
        """Forget the features of one template, if it has any."""
        if slot in self.features:
            self.features.remove(slot)
            self.slots["features"].clear(slot)

    def drop_sample(self, owner: int, slot: int) -> None:
        """Forget one training sample."""
        self.samples_of[owner].remove(slot)
        self.slots["samples"].clear(slot)

    def drop_subject(self, tag: bytes, slot: int) -> None:
        """Forget a subject, its templates and its samples."""
        del self.subject_slots[tag]
        for template in self.templates_of.pop(slot, []):
            del self.templates[template]
            self.slots["templates"].clear(template)
            self.drop_features(template)
        for sample in self.samples_of.pop(slot, []):
            self.slots["samples"].clear(sample)
        self.slots["subjects"].clear(slot)


def load_tables(store: Store, head: VaultHead) -> Tables:
    """Read every row, and return the outline if it is the one the head was made over.

    Raises:
        VaultError: "vault.corrupt" for any row changed, swapped, dropped or added.
    """
    tables = Tables(slots={})
    for name in TABLES:
        if name not in head.tables:
            # A vault of version 1, on its way to this one.
            tables.slots[name] = SlotTable({})
            continue
        bound, expected = head.tables[name]
        leaves: dict[int, bytes] = {}
        rows = store.batches(f"SELECT {COLUMNS[name]} FROM {name} ORDER BY slot")  # noqa: S608 - constants only
        for row in (row for batch in rows for row in batch):
            slot = integer(row[0])
            if any(not isinstance(column, int | bytes) for column in row) or not 0 <= slot < bound or slot in leaves:
                raise damaged()
            leaves[slot] = record_leaf(name, *row)
            _outline(tables, name, row)
        tables.slots[name] = SlotTable(leaves)
        if tables.slots[name].fingerprint != (bound, expected):
            raise damaged(f"The table {name} is not the one that was last written")
    return tables


def _outline(tables: Tables, name: str, row: tuple[object, ...]) -> None:
    slot = integer(row[0])
    if name == "subjects":
        tables.subject_slots[blob(row[1])] = slot
    elif name == "templates":
        tables.add_template(slot, integer(row[1]), blob(row[3]))
    elif name == "features":
        if slot not in tables.templates:
            raise damaged()
        tables.features.add(slot)
    elif name == "samples":
        tables.samples_of.setdefault(integer(row[1]), []).append(slot)
    elif name == "consents":
        tables.consents_of.setdefault(blob(row[1]), []).append(slot)
    else:
        tables.setting_slots[blob(row[1])] = slot
