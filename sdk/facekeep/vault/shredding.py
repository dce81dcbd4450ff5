"""What a transaction can destroy: subjects, single templates, samples, consent records, the oldest entries of the trail."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from facekeep.audit import TrailHead
from facekeep.consent import SignedConsent
from facekeep.merkle import Frontier, leaf_hash
from facekeep.retention import ErasureMark, Inclusion
from facekeep.sealing import DataKey, DataKeyContext, ProfileContext, seal, unseal
from facekeep.vault.declared import DeclaredValues
from facekeep.vault.head import fold_trail, read_trail_base, trail_base_setting
from facekeep.vault.store import blob, damaged
from facekeep.vault.subjects import COLUMNS, OpenedSubject, SubjectHandle, require_wrap_key, rewrap
from facekeep.vault.tables import SlotTable, record_leaf
from facekeep.vault.working import EPOCH, MICROSECOND

TRAIL_BASE = "trail.base"


@dataclass(frozen=True, slots=True)
class StoredTemplate:
    """What can be said of a template without opening it.

    Attributes:
        slot: its row.
        subject_slot: row of whose it is.
        reference_id: its identifier.
        contract_id: what it can be compared under.
        enrolled_at: when it was made.
    """

    slot: int
    subject_slot: int
    reference_id: str
    contract_id: str
    enrolled_at: datetime


@dataclass(frozen=True, slots=True)
class ErasedCounts:
    """What an erasure did.

    Attributes:
        references: number of templates destroyed.
        epoch: epoch of the wrap key since.
        marks: how to recognise a copy of what was destroyed.
        inclusion: the entry of the trail that records it, and the proof that it is there.
    """

    references: int
    epoch: int
    marks: tuple[ErasureMark, ...] = field(default=(), compare=False, repr=False)
    inclusion: Inclusion | None = field(default=None, compare=False, repr=False)


class Shredding(DeclaredValues):
    """Destroying, and what has to be known to decide on it."""

    def stored_templates(self) -> tuple[StoredTemplate, ...]:
        """Return every template of every subject, opening none."""
        self._require_open()
        rows = self._store.rows("SELECT slot, subject_slot, reference_id, contract_id, enrolled_at_us FROM templates ORDER BY slot")
        if len(rows) != len(self._tables.templates):
            raise damaged()
        try:
            return tuple(
                StoredTemplate(
                    slot, owner, blob(reference).decode("ascii"), blob(contract).decode("ascii"), EPOCH + at * MICROSECOND
                )
                for slot, owner, reference, contract, at in rows
            )
        except (UnicodeDecodeError, OverflowError, TypeError):
            raise damaged() from None

    def consent_chains(self) -> dict[str, tuple[SignedConsent, ...]]:
        """Return every chain of consent records by its principal, those of erased subjects too, not verified."""
        self._require_open()
        return {
            principal.hex(): tuple(self._consent(slot) for slot in slots) for principal, slots in self._tables.consents_of.items()
        }

    def trail_since(self, seq: int) -> Iterator[bytes]:
        """Yield the entries of the trail from number `seq` on, those of this transaction too."""
        self._require_open()
        for rows in self._store.batches("SELECT body FROM trail WHERE seq >= ? ORDER BY seq", seq):
            for (body,) in rows:
                yield blob(body)

    def trail_between(self, start: int, stop: int) -> tuple[bytes, ...]:
        """Return the entries of the trail with numbers from `start` to before `stop`, as far as they are kept."""
        self._require_open()
        rows = self._store.rows("SELECT body FROM trail WHERE seq >= ? AND seq < ? ORDER BY seq", start, stop)
        return tuple(blob(body) for (body,) in rows)

    def trail_edge(self, size: int) -> Frontier:
        """Return the right edge of the tree over the first `size` entries of the trail.

        Raises:
            ValueError: if entries before that number were deleted up to a later one, or are not written yet.
        """
        self._require_open()
        base = read_trail_base(self.read_setting(TRAIL_BASE), self._keystore.secrets.head_key)
        if not base.size <= size <= self._trail.size:
            raise ValueError("the trail has no such edge")
        edge = base.frontier
        query = "SELECT body FROM trail WHERE seq >= ? AND seq < ? ORDER BY seq"
        for rows in self._store.batches(query, base.size, size):
            for (body,) in rows:
                edge = edge.append(leaf_hash(blob(body)))
        if edge.size != size:
            raise damaged()
        return edge

    @property
    def oldest_entry(self) -> int:
        """Number of the first entry of the trail that is kept."""
        self._require_open()
        return int(self._store.value("SELECT coalesce(min(seq), 0) FROM trail"))

    def drop_subject(self, handle: SubjectHandle) -> int:
        """Delete a subject, its templates and samples, and return how many templates. `SQLiteVault.shred` is the way in."""
        self._require_durable()
        opened = self._subject(handle)
        self.declare(handle, None)
        slots = self._tables.templates_of.get(handle.slot, [])
        samples = self._tables.samples_of.get(handle.slot, [])
        wrapped, profile = self._store.row("SELECT wrapped_key, profile FROM subjects WHERE slot = ?", handle.slot)
        self.shredded += [ErasureMark.of("wrapped-key", blob(wrapped)), ErasureMark.of("profile", blob(profile))]
        for slot in slots:
            self._mark_template(slot)
            self._drop_features(slot)
        self._mark_samples(samples)
        if self._store.run("DELETE FROM templates WHERE subject_slot = ?", handle.slot) != len(slots):
            raise damaged()
        if self._store.run("DELETE FROM samples WHERE subject_slot = ?", handle.slot) != len(samples):
            raise damaged()
        self._store.change("DELETE FROM subjects WHERE slot = ?", handle.slot)
        self.tables_changed = True
        self._tables.drop_subject(opened.tag, handle.slot)
        del self._opened[handle.slot]
        return len(slots)

    def drop_templates(self, handle: SubjectHandle, slots: Collection[int]) -> None:
        """Delete some templates of a subject, and their features, and put what it keeps under a new data key.

        With the old one, a copy of a deleted row from a backup would still open: it is in the vault of today as well.
        """
        self._require_durable()
        opened = self._subject(handle)
        held = self._tables.templates_of.get(handle.slot, [])
        if not slots or not set(slots) <= set(held):
            raise ValueError("templates of this subject are named, at least one")
        for slot in slots:
            self._mark_template(slot)
            self._drop_features(slot)
            self._store.change("DELETE FROM templates WHERE slot = ?", slot)
            self._tables.drop_template(slot)
        self.tables_changed = True
        self._rekey(opened)

    def drop_samples(self, handle: SubjectHandle, slots: Collection[int] | None = None) -> int:
        """Delete some training samples of a subject, all if left out, put what it keeps under a new data key, and return how many.

        `SQLiteVault.shred` is the way in: a copy of what is deleted opens no more once the wrap key is rotated.
        """
        self._require_durable()
        opened = self._subject(handle)
        held = self._tables.samples_of.get(handle.slot, [])
        chosen = list(held if slots is None else slots)
        if not set(chosen) <= set(held):
            raise ValueError("samples of this subject are named")
        if chosen:
            self._mark_samples(chosen)
            for slot in chosen:
                self._store.change("DELETE FROM samples WHERE slot = ?", slot)
                self._tables.drop_sample(handle.slot, slot)
            self.tables_changed = True
            self._rekey(opened)
        return len(chosen)

    def drop_consents(self, principal_id: str) -> int:
        """Delete a whole chain of consent records, and return how many those were."""
        self._require_durable()
        slots = self._tables.consents_of.pop(bytes.fromhex(principal_id), [])
        for slot in slots:
            self._store.change("DELETE FROM consents WHERE slot = ?", slot)
            self._tables.slots["consents"].clear(slot)
        self.tables_changed = self.tables_changed or bool(slots)
        return len(slots)

    def prune_trail(self, size: int) -> TrailHead:
        """Delete the entries before number `size`, keeping what later entries are proved with, and return that.

        Raises:
            ValueError: if that would delete the last entry, or bring deleted ones back.
        """
        self._require_durable()
        base = read_trail_base(self.read_setting(TRAIL_BASE), self._keystore.secrets.head_key)
        if not base.size <= size < self._trail.size:
            raise ValueError("the last entry of the trail stays")
        rows = self._store.batches("SELECT body FROM trail WHERE seq >= ? AND seq < ? ORDER BY seq", base.size, size)
        fresh = fold_trail(base, (blob(body) for batch in rows for (body,) in batch))
        if fresh.size != size or self._store.run("DELETE FROM trail WHERE seq < ?", size) != size - base.size:
            raise damaged()
        self.write_setting(TRAIL_BASE, trail_base_setting(fresh, self._keystore.secrets.head_key))
        return fresh

    def rewrap_all(self, epoch: int) -> None:
        """Put every data key under the wrap key of `epoch`, which the keystore has by now."""
        self._require_durable()
        secrets = self._keystore.secrets
        rows = self._store.rows(f"SELECT {COLUMNS} FROM subjects ORDER BY slot")  # noqa: S608 - constants only
        if len(rows) != len(self._tables.subject_slots):
            raise damaged()
        self.tables_changed = True
        fresh = [rewrap(secrets, row, epoch, self._randomness) for row in rows]
        self._store.change_each(
            "UPDATE subjects SET epoch = ?, wrapped_key = ? WHERE slot = ?", ((row[2], row[3], row[0]) for row in fresh), len(fresh)
        )
        self._tables.slots["subjects"] = SlotTable({row[0]: record_leaf("subjects", *row) for row in fresh})
        self._reseal(epoch)
        self._epoch = epoch

    def _rekey(self, opened: OpenedSubject) -> None:
        handle, vault_id = opened.handle, self._keystore.secrets.vault_id
        fresh = DataKey(self._randomness.token(len(opened.data_key.key)), opened.data_key.principal)
        row = self._store.row(f"SELECT {COLUMNS} FROM subjects WHERE slot = ?", handle.slot)  # noqa: S608 - constants only
        context = DataKeyContext(vault_id, opened.tag, row[2])
        wrapped = fresh.wrap(require_wrap_key(self._keystore.secrets, row[2]), context, self._randomness)
        profile_context = ProfileContext(vault_id, opened.tag)
        profile = seal(fresh.key, unseal(opened.data_key.key, blob(row[4]), profile_context), profile_context, self._randomness)
        self._store.change("UPDATE subjects SET wrapped_key = ?, profile = ? WHERE slot = ?", wrapped, profile, handle.slot)
        self._tables.slots["subjects"].put(handle.slot, record_leaf("subjects", *row[:3], wrapped, profile))
        for slot in self._tables.templates_of.get(handle.slot, []):
            kept = self._template_row(slot)
            bound = self._template_context(kept, handle)
            envelope = seal(fresh.key, unseal(opened.data_key.key, blob(kept[9]), bound), bound, self._randomness)
            self._store.change("UPDATE templates SET envelope = ? WHERE slot = ?", envelope, slot)
            self._note("templates", (*kept[:9], envelope))
            self._reseal_features(slot, bound, opened.data_key.key, fresh.key)
        self._reseal_samples(handle, opened.data_key.key, fresh.key)
        self._opened[handle.slot] = replace(opened, data_key=fresh)

    def _mark_template(self, slot: int) -> None:
        self.shredded.append(ErasureMark.of("template", blob(self._template_row(slot)[9])))
        if slot in self._tables.features:
            self.shredded.append(ErasureMark.of("features", blob(self._features_row(slot)[4])))

    def _mark_samples(self, slots: Collection[int]) -> None:
        self.shredded += [ErasureMark.of("sample", blob(self._sample_row(slot)[9])) for slot in slots]
