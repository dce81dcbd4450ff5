"""One transaction: everything in it happens, or nothing."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime

import numpy as np

from facekeep.biometric import Features, Template
from facekeep.consent import ConsentRecord, Purpose, SignedConsent, fold_chain, require_transition
from facekeep.errors import ConsentError
from facekeep.identifiers import require_subject_id
from facekeep.sealing import TemplateContext, seal, unseal
from facekeep.vault.gallery import DTYPE, GalleryRows, open_gallery
from facekeep.vault.shredding import Shredding, StoredTemplate
from facekeep.vault.store import Row, blob, damaged
from facekeep.vault.subjects import COLUMNS, OpenedSubject, SubjectHandle, guardian_pseudonym, index_tag, open_subject, seal_subject
from facekeep.vault.tables import record_leaf
from facekeep.vault.working import EPOCH, MICROSECOND, gone


class VaultTransaction(Shredding):
    """What can be done inside `SQLiteVault.transaction`. Of no use once that has ended.

    Handles come from this transaction or from an earlier one; one whose subject was erased since is refused.
    """

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
            raise gone()
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
            ConsentError: "consent.corrupt" if it is of another principal or does not point back at the last one;
                "consent.illegal_transition" if such a step may not follow.
        """
        self._require_durable()
        principal = self._subject(handle).data_key.principal
        record = ConsentRecord.parse(signed.body)
        before = self.consents(handle)
        previous = before[-1].digest if before else None
        if record.principal_id != principal.hex() or record.previous != previous:
            raise ConsentError("consent.corrupt", "The record does not continue this subject's chain; it was not stored.")
        require_transition(fold_chain([ConsentRecord.parse(item.body) for item in before]), record)
        slot = self._tables.slots["consents"].take_last()
        self._insert("consents", (slot, principal, signed.body, signed.column))
        self._tables.consents_of.setdefault(principal, []).append(slot)

    def attach_proofs(self, handle: SubjectHandle, signed: SignedConsent) -> None:
        """Keep the controller's signatures of `signed` beside that record, in place of those kept before.

        Raises:
            ConsentError: "consent.corrupt" if this subject has no such record, signed by the device in this way.
        """
        self._require_durable()
        principal = self._subject(handle).data_key.principal
        for slot in self._tables.consents_of.get(principal, []):
            kept = self._consent(slot)
            if (kept.body, kept.signature) == (signed.body, signed.signature):
                self.tables_changed = True
                self._store.change("UPDATE consents SET signature = ? WHERE slot = ?", signed.column, slot)
                self._tables.slots["consents"].put(slot, record_leaf("consents", slot, principal, signed.body, signed.column))
                return
        raise ConsentError("consent.corrupt", "The subject has no such record; nothing was attached to any.")

    def guardian_pseudonym(self, handle: SubjectHandle, guardian: str) -> str:
        """Return how records of this subject name a guardian: 64 hexadecimal digits that end with the subject's salt.

        Raises:
            VaultError: "vault.invalid_identifier".
        """
        return guardian_pseudonym(self._subject(handle), require_subject_id(guardian))

    # Templates

    def add_template(
        self, handle: SubjectHandle, template: Template, *, purpose: Purpose, consent_id: str, features: Features | None = None
    ) -> None:
        """Seal a template under its subject's key and store it.

        Args:
            handle: whose it is.
            template: what to seal.
            purpose: what it was enrolled for; part of what it is bound to.
            consent_id: the consent record that allowed it; likewise.
            features: what lay in front of the last map for the frames that made it; sealed beside it.
        """
        self._require_durable()
        opened = self._subject(handle)
        slot = self._tables.slots["templates"].take()
        context = _context_of(handle, template, purpose.value, consent_id)
        envelope = seal(opened.data_key.key, template.vector.astype("<f4").tobytes(), context, self._randomness)
        self._insert("templates", _row_of(slot, handle, context, envelope))
        self._tables.add_template(slot, handle.slot, template.contract_id.encode("ascii"))
        if features is not None:
            self._put_features(slot, context, features, opened)

    def move_template(self, handle: SubjectHandle, slot: int, template: Template, features: Features | None = None) -> None:
        """Put a template under another contract in the place of the one at `slot`: the same reference, no older and no younger.

        Args:
            handle: whose it is.
            slot: its row, of `stored_templates`.
            template: what it is under the new contract.
            features: kept with it in place of those it had, which stay if left out.

        Raises:
            ValueError: if it is another reference, or enrolled at another time.
        """
        self._require_durable()
        opened = self._subject(handle)
        if slot not in self._tables.templates_of.get(handle.slot, []):
            raise ValueError("a template of this subject is named")
        before = self._template_context(self._template_row(slot), handle)
        context = _context_of(handle, template, before.purpose, before.consent_id)
        if (context.reference_id, context.enrolled_at_us) != (before.reference_id, before.enrolled_at_us):
            # Retention counts from the enrolment: a template that grew younger on its way would outlive its term.
            raise ValueError("a template keeps its reference and its age when it moves")
        envelope = seal(opened.data_key.key, template.vector.astype("<f4").tobytes(), context, self._randomness)
        row = _row_of(slot, handle, context, envelope)
        self._store.change(
            "UPDATE templates SET contract_id = ?, dimension = ?, envelope = ? WHERE slot = ?", row[3], row[7], envelope, slot
        )
        self._note("templates", row)
        self._tables.templates[slot] = (handle.slot, sys.intern(template.contract_id))
        if features is not None:
            self._put_features(slot, context, features, opened)

    def templates_of(self, handle: SubjectHandle) -> tuple[StoredTemplate, ...]:
        """Return what can be said of each template of a subject without opening it, the oldest first."""
        slots = self._tables.templates_of.get(self._subject(handle).handle.slot, [])
        found = []
        for slot in slots:
            context = self._template_context(self._template_row(slot), handle)
            found.append(StoredTemplate(slot, handle.slot, context.reference_id, context.contract_id, _instant(context)))
        return tuple(sorted(found, key=lambda item: item.enrolled_at))

    def open_template(self, handle: SubjectHandle, slot: int) -> Template:
        """Return the template at a slot.

        Raises:
            VaultError: "vault.sealed" or "vault.corrupt" if it does not open.
        """
        if slot not in self._tables.templates_of.get(self._subject(handle).handle.slot, []):
            raise ValueError("a template of this subject is named")
        return self._template(slot, self._subject(handle))

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

    def _template(self, slot: int, opened: OpenedSubject) -> Template:
        row = self._template_row(slot)
        context = self._template_context(row, opened.handle)
        plain = unseal(opened.data_key.key, blob(row[9]), context)
        enrolled_at = _instant(context)
        if len(plain) != 4 * context.dimension:
            raise damaged()
        vector = np.frombuffer(plain, "<f4").astype(np.float32)
        return Template(vector, context.contract_id, context.reference_id, enrolled_at)

    def waiting(self, contract_id: str, slots: Collection[int] | None = None) -> int:
        """Return how many subjects, of all or of those at `slots`, have templates and none of them under a contract."""
        self._require_open()
        return sum(
            bool(held) and not any(self._tables.templates[slot][1] == contract_id for slot in held)
            for owner, held in self._tables.templates_of.items()
            if slots is None or owner in slots
        )

    def sealed_values(self) -> Iterator[object]:
        """Open every template, features and sample of every subject. `SQLiteVault.verify` counts on each raising if it does not."""
        for handle in self.subjects():
            opened = self._subject(handle)
            for slot in self._tables.templates_of.get(handle.slot, []):
                yield self._template(slot, opened)
            yield from self._sealed_features_and_samples(opened)


def _context_of(handle: SubjectHandle, template: Template, purpose: str, consent_id: str) -> TemplateContext:
    return TemplateContext(
        handle.principal_id,
        purpose,
        template.contract_id,
        consent_id,
        DTYPE,
        template.dimension,
        template.reference_id,
        (template.enrolled_at - EPOCH) // MICROSECOND,
    )


def _row_of(slot: int, handle: SubjectHandle, context: TemplateContext, envelope: bytes) -> Row:
    texts = (context.reference_id, context.contract_id, context.purpose, context.consent_id, context.dtype)
    names = (text.encode("ascii") for text in texts)
    return slot, handle.slot, *names, context.dimension, context.enrolled_at_us, envelope


def _instant(context: TemplateContext) -> datetime:
    try:
        return EPOCH + context.enrolled_at_us * MICROSECOND
    except OverflowError:
        raise damaged() from None
