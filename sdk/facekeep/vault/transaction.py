"""One transaction: everything in it happens, or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head
from facekeep.biometric import Template
from facekeep.clock import Clock
from facekeep.consent import ConsentRecord, Purpose, SignedConsent
from facekeep.errors import ConsentError, EnrolmentError, VaultError
from facekeep.identifiers import require_subject_id
from facekeep.keys import Keystore
from facekeep.randomness import Randomness
from facekeep.sealing import TemplateContext, seal, unseal
from facekeep.signing import DeviceKey
from facekeep.vault.gallery import DTYPE, GalleryRows, open_gallery
from facekeep.vault.head import VaultHead, write_head, write_trail_head
from facekeep.vault.state import Snapshot, next_head
from facekeep.vault.store import Row, Store, blob, damaged
from facekeep.vault.subjects import COLUMNS, OpenedSubject, SubjectHandle, index_tag, open_subject, rewrap, seal_subject
from facekeep.vault.tables import SlotTable, Tables, record_leaf

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class VaultTransaction:
    """What can be done inside `SQLiteVault.transaction`. Of no use once that has ended.

    Handles come from this transaction or from an earlier one; one whose subject was erased since is refused.
    """

    def __init__(
        self,
        store: Store,
        keystore: Keystore,
        key: DeviceKey,
        snapshot: Snapshot,
        *,
        clock: Clock,
        randomness: Randomness,
        durable: bool,
    ) -> None:
        self._store = store
        self._keystore = keystore
        self._key = key
        self._snapshot = snapshot
        self._tables: Tables = snapshot.tables
        self._trail: TrailHead = snapshot.trail
        self._epoch = snapshot.head.epoch
        self._clock = clock
        self._randomness = randomness
        self._durable = durable
        self._opened: dict[int, OpenedSubject] = {}
        self._is_open = True
        self.tables_changed = False

    def __repr__(self) -> str:
        return f"VaultTransaction(durable={self._durable})"

    @property
    def revision(self) -> int:
        """The vault's revision when this transaction began."""
        return self._snapshot.head.revision

    # Subjects

    def find_subject(self, subject: str) -> SubjectHandle | None:
        """Return the subject of this name, or None.

        Raises:
            VaultError: "vault.invalid_identifier", "vault.sealed", "vault.corrupt".
        """
        self._require_open()
        tag = index_tag(self._keystore.secrets, require_subject_id(subject))
        slot = self._tables.subject_slots.get(tag)
        return None if slot is None else self._open(slot).handle

    def create_subject(self, subject: str) -> SubjectHandle:
        """Return a new subject of this name, with a key and a salt of its own.

        Raises:
            VaultError: "vault.invalid_identifier".
            ValueError: if there is one of this name.
        """
        if self.find_subject(subject) is not None:
            raise ValueError("the subject exists: look with find_subject first")
        self._require_durable()
        slots = self._tables.slots["subjects"]
        opened, row = seal_subject(self._keystore.secrets, self._epoch, slots.take(), subject, self._randomness)
        self._insert("subjects", row)
        self._tables.subject_slots[opened.tag] = opened.handle.slot
        self._opened[opened.handle.slot] = opened
        return opened.handle

    def read_subject(self, slot: int) -> SubjectHandle:
        """Return the subject at a slot, such as one of `GalleryRows.slots`.

        Raises:
            EnrolmentError: "enrolment.not_enrolled" if it was erased.
        """
        self._require_open()
        if slot not in self._opened and not self._store.rows("SELECT 1 FROM subjects WHERE slot = ?", slot):
            raise _gone()
        return self._open(slot).handle

    def subjects(self) -> tuple[SubjectHandle, ...]:
        """Return every subject, in order of their slots."""
        self._require_open()
        for row in self._store.rows(f"SELECT {COLUMNS} FROM subjects ORDER BY slot"):  # noqa: S608 - constants only
            if row[0] not in self._opened:
                self._opened[row[0]] = open_subject(self._keystore.secrets, row)
        if len(self._opened) != len(self._tables.subject_slots):
            raise damaged()
        return tuple(self._opened[slot].handle for slot in sorted(self._opened))

    # Consents

    def consents(self, handle: SubjectHandle) -> tuple[SignedConsent, ...]:
        """Return the records of a subject in the order they were made, not yet verified: that is the consent gate's task."""
        principal = self._subject(handle).data_key.principal
        return tuple(self._consent(slot) for slot in self._tables.consents_of.get(principal, []))

    def append_consent(self, handle: SubjectHandle, signed: SignedConsent) -> None:
        """Add a record to the end of a subject's chain.

        Raises:
            ConsentError: "consent.corrupt" if it is of another principal or does not follow the last one.
        """
        self._require_durable()
        principal = self._subject(handle).data_key.principal
        record = ConsentRecord.parse(signed.body)
        slots = self._tables.consents_of.get(principal, [])
        previous = self._consent(slots[-1]).digest if slots else None
        if record.principal_id != principal.hex() or record.previous != previous:
            raise ConsentError("consent.corrupt", "The record does not continue this subject's chain; it was not stored.")
        slot = self._tables.slots["consents"].take()
        self._insert("consents", (slot, principal, signed.body, signed.signature))
        self._tables.consents_of.setdefault(principal, []).append(slot)

    # Templates

    def add_template(self, handle: SubjectHandle, template: Template, *, purpose: Purpose, consent_id: str) -> None:
        """Seal a template under its subject's key and store it.

        Args:
            handle: whose it is.
            template: what to seal.
            purpose: what it was enrolled for; part of what it is bound to.
            consent_id: the consent record that allowed it; likewise.
        """
        self._require_durable()
        opened = self._subject(handle)
        slot = self._tables.slots["templates"].take()
        microseconds = (template.enrolled_at - _EPOCH) // _MICROSECOND
        context = TemplateContext(
            handle.principal_id,
            purpose.value,
            template.contract_id,
            consent_id,
            DTYPE,
            template.dimension,
            template.reference_id,
            microseconds,
        )
        envelope = seal(opened.data_key.key, template.vector.astype("<f4").tobytes(), context, self._randomness)
        contract = template.contract_id.encode("ascii")
        names = (template.reference_id.encode("ascii"), contract, purpose.value.encode("ascii"), consent_id.encode("ascii"))
        self._insert("templates", (slot, handle.slot, *names, DTYPE.encode(), template.dimension, microseconds, envelope))
        self._tables.add_template(slot, handle.slot, contract)

    def open_templates(self, handle: SubjectHandle, contract_id: str) -> tuple[Template, ...]:
        """Return a subject's templates of one contract, the oldest first.

        Raises:
            VaultError: "vault.sealed" or "vault.corrupt" if one of them does not open.
        """
        opened = self._subject(handle)
        slots = self._tables.templates_of.get(handle.slot, [])
        chosen = [slot for slot in slots if self._tables.templates[slot][1] == contract_id]
        return tuple(sorted((self._template(slot, opened) for slot in chosen), key=lambda template: template.enrolled_at))

    def open_gallery(self, contract_id: str, slots: Collection[int] | None = None) -> GalleryRows:
        """Return the templates of one contract as a matrix, of every subject or of those in `slots`.

        Raises:
            VaultError: "vault.sealed" or "vault.corrupt" if one of them does not open.
        """
        self._require_open()
        chosen = None if slots is None else frozenset(slots)
        wanted = Counter(
            slot
            for slot, contract in self._tables.templates.values()
            if contract == contract_id and (chosen is None or slot in chosen)
        )
        return open_gallery(self._store, self._keystore.secrets, self._snapshot.head, contract_id, wanted)

    def reference_count(self, handle: SubjectHandle, contract_id: str | None = None) -> int:
        """Return how many templates a subject has, of one contract or of all."""
        slots = self._tables.templates_of.get(self._subject(handle).handle.slot, [])
        return sum(contract_id is None or self._tables.templates[slot][1] == contract_id for slot in slots)

    def contracts(self) -> dict[str, int]:
        """Return each contract in use and the number of its templates."""
        self._require_open()
        return dict(Counter(contract for _, contract in self._tables.templates.values()))

    # Audit trail

    def append_event(self, event: AuditEvent) -> None:
        """Add an entry to the trail, dated by the vault's clock; it is there when the transaction is."""
        self._require_open()
        body, self._trail = append_event(self._trail, event, self._clock.now())
        self._store.change("INSERT INTO trail(seq, body) VALUES (?, ?)", self._trail.size - 1, body)

    @property
    def last_event_time(self) -> datetime | None:
        """Time of the last entry of the trail, or None before the first."""
        return self._trail.last_time

    # Settings

    def read_setting(self, name: str) -> bytes | None:
        """Return a setting, or None. Settings are authenticated, not sealed: no secret and no name belongs there."""
        self._require_open()
        slot = self._tables.setting_slots.get(name.encode("utf-8"))
        return None if slot is None else blob(self._store.value("SELECT value FROM settings WHERE slot = ?", slot))

    def write_setting(self, name: str, value: bytes) -> None:
        """Set a setting."""
        self._require_durable()
        key = name.encode("utf-8")
        slot = self._tables.setting_slots.get(key)
        if slot is None:
            slot = self._tables.slots["settings"].take()
            self._insert("settings", (slot, key, value))
            self._tables.setting_slots[key] = slot
        else:
            self.tables_changed = True
            self._store.change("UPDATE settings SET value = ? WHERE slot = ?", value, slot)
            self._tables.slots["settings"].put(slot, record_leaf("settings", slot, key, value))

    # Rotation, for SQLiteVault

    def drop_subject(self, handle: SubjectHandle) -> int:
        """Delete a subject and its templates, and return how many those were. `SQLiteVault.erase` is the way in."""
        self._require_durable()
        opened = self._subject(handle)
        count = len(self._tables.templates_of.get(handle.slot, []))
        if self._store.run("DELETE FROM templates WHERE subject_slot = ?", handle.slot) != count:
            raise damaged()
        self._store.change("DELETE FROM subjects WHERE slot = ?", handle.slot)
        self.tables_changed = True
        self._tables.drop_subject(opened.tag, handle.slot)
        del self._opened[handle.slot]
        return count

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
        self._epoch = epoch

    # End

    def finish(self) -> Snapshot:
        """Write the heads, commit, and return the state after it. `SQLiteVault.transaction` calls it."""
        before = self._snapshot
        changed = self.tables_changed or self._trail is not before.trail
        if not changed:
            self._store.rollback()
            return before
        trail_bytes, head, head_bytes = before.trail_bytes, before.head, before.head_bytes
        secret = self._keystore.secrets.head_key
        if self._trail is not before.trail:
            trail_bytes = write_trail_head(self._store, secret, self._trail, sign_head(self._trail, self._key))
        if self._durable:
            head = self._next_head()
            head_bytes = write_head(self._store, secret, head)
        self._store.commit()
        return Snapshot(head, head_bytes, self._tables, self._trail, trail_bytes)

    def end(self) -> None:
        """Let go of everything opened."""
        self._is_open = False
        self._opened.clear()

    def _next_head(self) -> VaultHead:
        return next_head(self._snapshot.head, self._tables, self._trail, self._epoch, tables_changed=self.tables_changed)

    def _require_open(self) -> None:
        if not self._is_open:
            raise VaultError("vault.closed", "The transaction has ended. Begin another.")

    def _require_durable(self) -> None:
        self._require_open()
        if not self._durable:
            raise ValueError("only the trail may be written in a transaction that is not durable")

    def _insert(self, table: str, row: Row) -> None:
        self.tables_changed = True
        self._store.change(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)  # noqa: S608 - constants only
        self._tables.slots[table].put(row[0], record_leaf(table, *row))

    def _open(self, slot: int) -> OpenedSubject:
        if slot not in self._opened:
            row = self._store.row(f"SELECT {COLUMNS} FROM subjects WHERE slot = ?", slot)  # noqa: S608 - constants only
            self._opened[slot] = open_subject(self._keystore.secrets, row)
        return self._opened[slot]

    def _subject(self, handle: SubjectHandle) -> OpenedSubject:
        self._require_open()
        # The slot of an erased subject is used again: a handle kept from before must not reach its new owner.
        slot = self._tables.subject_slots.get(index_tag(self._keystore.secrets, handle.name))
        if slot is None or slot != handle.slot or self._open(slot).handle != handle:
            raise _gone()
        return self._open(slot)

    def _consent(self, slot: int) -> SignedConsent:
        body, signature = self._store.row("SELECT body, signature FROM consents WHERE slot = ?", slot)
        return SignedConsent(blob(body), blob(signature))

    def _template(self, slot: int, opened: OpenedSubject) -> Template:
        row = self._store.row(
            "SELECT reference_id, contract_id, purpose, consent_id, dtype, dimension, enrolled_at_us, envelope FROM templates "
            "WHERE slot = ?",
            slot,
        )
        try:
            texts = [blob(column).decode("ascii") for column in row[:5]]
            reference_id, contract_id, purpose, consent_id, dtype = texts
            context = TemplateContext(
                opened.handle.principal_id, purpose, contract_id, consent_id, dtype, row[5], reference_id, row[6]
            )
            plain = unseal(opened.data_key.key, blob(row[7]), context)
            enrolled_at = _EPOCH + row[6] * _MICROSECOND
        except (UnicodeDecodeError, OverflowError, TypeError, AttributeError):
            raise damaged() from None
        if dtype != DTYPE or len(plain) != 4 * row[5]:
            raise damaged()
        return Template(np.frombuffer(plain, "<f4").astype(np.float32), contract_id, reference_id, enrolled_at)

    def sealed_templates(self) -> Iterator[Template]:
        """Open every template of every subject in turn. `SQLiteVault.verify` counts on each raising if it does not."""
        for handle in self.subjects():
            opened = self._subject(handle)
            for slot in self._tables.templates_of.get(handle.slot, []):
                yield self._template(slot, opened)


def _gone() -> EnrolmentError:
    return EnrolmentError("enrolment.not_enrolled", "The subject is not in the vault any more.")
