"""What a transaction keeps beside a template and of a subject to learn from: features and training samples, sealed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from facekeep.biometric import Features, TrainingSample
from facekeep.consent import Purpose
from facekeep.sealing import FeaturesContext, SampleContext, TemplateContext, seal, unseal
from facekeep.vault.gallery import DTYPE
from facekeep.vault.sealed import SealedSettings
from facekeep.vault.store import Row, blob, damaged
from facekeep.vault.subjects import OpenedSubject, SubjectHandle
from facekeep.vault.tables import COLUMNS
from facekeep.vault.working import EPOCH, MICROSECOND

_CROP_SHAPE: Final = (112, 112, 3)
_CROP_BYTES: Final = 112 * 112 * 3


@dataclass(frozen=True, slots=True)
class StoredSample:
    """What can be said of a training sample without opening it.

    Attributes:
        slot: its row.
        subject_slot: row of whose it is.
        sample_id: its identifier.
        kept_at: when it was kept.
    """

    slot: int
    subject_slot: int
    sample_id: str
    kept_at: datetime


class FeatureAndSampleRows(SealedSettings):
    """Reading and writing them."""

    # Training samples

    def add_sample(self, handle: SubjectHandle, sample: TrainingSample, *, purpose: Purpose, consent_id: str) -> None:
        """Seal a training sample under its subject's key and store it.

        Args:
            handle: whose it is.
            sample: what to seal.
            purpose: what it is kept for; part of what it is bound to.
            consent_id: the consent record that allowed it; likewise.
        """
        self._require_durable()
        opened = self._subject(handle)
        slot = self._tables.slots["samples"].take()
        context = SampleContext(
            handle.principal_id,
            purpose.value,
            sample.base,
            sample.kind,
            len(sample.features),
            consent_id,
            sample.sample_id,
            (sample.kept_at - EPOCH) // MICROSECOND,
        )
        plain = sample.pixels.tobytes() + sample.features.astype("<f4").tobytes()
        names = tuple(text.encode("ascii") for text in (sample.sample_id, sample.base, purpose.value, consent_id, sample.kind))
        envelope = seal(opened.data_key.key, plain, context, self._randomness)
        self._insert("samples", (slot, handle.slot, *names, context.dimension, context.kept_at_us, envelope))
        self._tables.samples_of.setdefault(handle.slot, []).append(slot)

    def samples(self, handle: SubjectHandle) -> tuple[TrainingSample, ...]:
        """Return the training samples of a subject, opened, the oldest first.

        Raises:
            VaultError: "vault.sealed" or "vault.corrupt" if one of them does not open.
        """
        opened = self._subject(handle)
        slots = self._tables.samples_of.get(handle.slot, [])
        return tuple(sorted((self._sample(slot, opened) for slot in slots), key=lambda sample: sample.kept_at))

    def sample_count(self, handle: SubjectHandle) -> int:
        """Return how many training samples a subject has."""
        return len(self._tables.samples_of.get(self._subject(handle).handle.slot, []))

    def stored_samples(self) -> tuple[StoredSample, ...]:
        """Return every training sample of every subject, opening none, the oldest first."""
        self._require_open()
        rows = self._store.rows("SELECT slot, subject_slot, sample_id, kept_at_us FROM samples ORDER BY kept_at_us, slot")
        if len(rows) != sum(map(len, self._tables.samples_of.values())):
            raise damaged()
        try:
            return tuple(
                StoredSample(slot, owner, blob(name).decode("ascii"), EPOCH + at * MICROSECOND) for slot, owner, name, at in rows
            )
        except (UnicodeDecodeError, OverflowError, TypeError):
            raise damaged() from None

    # Features

    def features(self, handle: SubjectHandle, slot: int) -> Features | None:
        """Return the features kept with the template at a slot, or None where there are none.

        Raises:
            VaultError: "vault.sealed" or "vault.corrupt" if they do not open.
        """
        opened = self._subject(handle)
        if slot not in self._tables.templates_of.get(handle.slot, []):
            raise ValueError("a template of this subject is named")
        return self._features(slot, self._template_context(self._template_row(slot), handle), opened)

    def _put_features(self, slot: int, bound: TemplateContext, features: Features, opened: OpenedSubject) -> None:
        context = FeaturesContext(bound, features.base, features.frames, features.dimension)
        envelope = seal(opened.data_key.key, features.rows.astype("<f4").tobytes(), context, self._randomness)
        self._drop_features(slot)
        self._insert("features", (slot, features.base.encode("ascii"), features.frames, features.dimension, envelope))
        self._tables.features.add(slot)

    def _drop_features(self, slot: int) -> None:
        if slot in self._tables.features:
            self._store.change("DELETE FROM features WHERE slot = ?", slot)
            self._tables.drop_features(slot)

    def _features(self, slot: int, bound: TemplateContext, opened: OpenedSubject) -> Features | None:
        if slot not in self._tables.features:
            return None
        row = self._features_row(slot)
        context = _features_context(row, bound)
        plain = unseal(opened.data_key.key, blob(row[4]), context)
        try:
            return Features(np.frombuffer(plain, "<f4").astype(np.float32).reshape(context.rows, context.dimension), context.base)
        except ValueError:
            raise damaged() from None

    def _reseal_features(self, slot: int, bound: TemplateContext, old: bytes, fresh: bytes) -> None:
        if slot in self._tables.features:
            row = self._features_row(slot)
            context = _features_context(row, bound)
            envelope = seal(fresh, unseal(old, blob(row[4]), context), context, self._randomness)
            self._store.change("UPDATE features SET envelope = ? WHERE slot = ?", envelope, slot)
            self._note("features", (*row[:4], envelope))

    def _reseal_samples(self, handle: SubjectHandle, old: bytes, fresh: bytes) -> None:
        for slot in self._tables.samples_of.get(handle.slot, []):
            row = self._sample_row(slot)
            context = _sample_context(row, handle)
            envelope = seal(fresh, unseal(old, blob(row[9]), context), context, self._randomness)
            self._store.change("UPDATE samples SET envelope = ? WHERE slot = ?", envelope, slot)
            self._note("samples", (*row[:9], envelope))

    def _sample(self, slot: int, opened: OpenedSubject) -> TrainingSample:
        row = self._sample_row(slot)
        context = _sample_context(row, opened.handle)
        plain = unseal(opened.data_key.key, blob(row[9]), context)
        if len(plain) != _CROP_BYTES + 4 * context.dimension:
            raise damaged()
        try:
            return TrainingSample(
                np.frombuffer(plain, np.uint8, _CROP_BYTES).reshape(_CROP_SHAPE),
                np.frombuffer(plain, "<f4", offset=_CROP_BYTES).astype(np.float32),
                context.base,
                context.kind,
                context.sample_id,
                EPOCH + context.kept_at_us * MICROSECOND,
            )
        except (ValueError, OverflowError):
            raise damaged() from None

    def _sealed_features_and_samples(self, opened: OpenedSubject) -> Iterator[Features | TrainingSample | None]:
        """Open every one of a subject in turn."""
        for slot in self._tables.templates_of.get(opened.handle.slot, []):
            yield self._features(slot, self._template_context(self._template_row(slot), opened.handle), opened)
        for slot in self._tables.samples_of.get(opened.handle.slot, []):
            yield self._sample(slot, opened)

    def _features_row(self, slot: int) -> Row:
        return self._row("features", slot)

    def _sample_row(self, slot: int) -> Row:
        return self._row("samples", slot)

    def _template_row(self, slot: int) -> Row:
        return self._row("templates", slot)

    def _row(self, table: str, slot: int) -> Row:
        return self._store.row(f"SELECT {COLUMNS[table]} FROM {table} WHERE slot = ?", slot)  # noqa: S608 - constants only

    def _template_context(self, row: Row, handle: SubjectHandle) -> TemplateContext:
        """Return what the envelope of a row is bound to.

        Raises:
            VaultError: "vault.corrupt".
        """
        reference_id, contract_id, purpose, consent_id, dtype = _texts(row[2:7])
        dimension, at = row[7], row[8]
        if dtype != DTYPE or not isinstance(dimension, int) or not isinstance(at, int):
            raise damaged()
        return TemplateContext(handle.principal_id, purpose, contract_id, consent_id, dtype, dimension, reference_id, at)


def _features_context(row: Row, bound: TemplateContext) -> FeaturesContext:
    (base,), count, dimension = _texts(row[1:2]), row[2], row[3]
    if not _is_count(count) or not _is_count(dimension):
        raise damaged()
    return FeaturesContext(bound, base, count, dimension)


def _sample_context(row: Row, handle: SubjectHandle) -> SampleContext:
    sample_id, base, purpose, consent_id, kind = _texts(row[2:7])
    dimension, at = row[7], row[8]
    if not _is_count(dimension) or not isinstance(at, int):
        raise damaged()
    return SampleContext(handle.principal_id, purpose, base, kind, dimension, consent_id, sample_id, at)


def _texts(columns: Row) -> tuple[str, ...]:
    try:
        return tuple(blob(column).decode("ascii") for column in columns)
    except UnicodeDecodeError:
        raise damaged() from None


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < 1 << 20
