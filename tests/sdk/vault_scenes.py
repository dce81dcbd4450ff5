"""What the vault's tests are set in: a fast key, a seeded generator, people without faces, and the whole content of a vault."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.audit import AuditEvent
from facekeep.biometric import Features, Template, TrainingSample
from facekeep.clock import ManualClock
from facekeep.consent import ConsentRecord, Lifecycle, Notice, Purpose, SignedConsent, fold_chain, new_record, sign_record
from facekeep.errors import FacekeepError
from facekeep.identifiers import new_record_id
from facekeep.keys import Passphrase
from facekeep.vault import SQLiteVault, SubjectHandle, VaultTransaction

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CONTRACT = hashlib.sha256(b"a contract").hexdigest()
PASSPHRASE = "correct horse battery"
NOTICE = Notice("We keep a template of your face on this device.")


class SeededRandomness:
    """The test double of `Randomness`: SHA-256 of a seed and a counter."""

    def __init__(self, seed: int = 0) -> None:
        self._seed, self._counter = seed, 0

    def token(self, size: int) -> bytes:
        out = b""
        while len(out) < size:
            out += hashlib.sha256(b"%d %d" % (self._seed, self._counter)).digest()
            self._counter += 1
        return out[:size]


def fast_passphrase(text: str = PASSPHRASE) -> Passphrase:
    """The least Argon2id that a keystore accepts: 5 ms."""
    return Passphrase(text, memory_kib=8 * 1024, iterations=1)


def create(home: Path, **options: Any) -> SQLiteVault:
    return SQLiteVault.create(home, fast_passphrase(), clock=ManualClock(START), **options)


def reopen(home: Path, **options: Any) -> SQLiteVault:
    return SQLiteVault.open(home, fast_passphrase(), clock=ManualClock(START), **options)


def unit_vector(seed: int, dimension: int = 16) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(dimension).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def template(seed: int, dimension: int = 16, contract_id: str = CONTRACT) -> Template:
    return Template(unit_vector(seed, dimension), contract_id, new_record_id(), START + timedelta(seconds=seed, microseconds=seed))


BASE = hashlib.sha256(b"a base").hexdigest()


def features(seed: int, frames: int = 2, dimension: int = 8) -> Features:
    return Features(np.random.default_rng(seed).standard_normal((frames, dimension)).astype(np.float32), BASE)


def sample(seed: int, kind: str = "enrolment") -> TrainingSample:
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (112, 112, 3), dtype=np.uint8)
    vector = draw.standard_normal(8).astype(np.float32)
    return TrainingSample(pixels, vector, BASE, kind, new_record_id(), START + timedelta(minutes=seed))


def consent(
    vault: SQLiteVault, transaction: VaultTransaction, handle: SubjectHandle, state: Lifecycle = Lifecycle.GIVEN
) -> SignedConsent:
    chain = transaction.consents(handle)
    if state is Lifecycle.GIVEN and fold_chain([ConsentRecord.parse(signed.body) for signed in chain]).purposes:
        state = Lifecycle.RENEWED
    record = new_record(
        record_id=new_record_id(),
        principal_id=handle.principal_id,
        chain=chain,
        state=state,
        purposes={Purpose.ENROLMENT, Purpose.VERIFICATION},
        valid_from=START,
        valid_until=START + timedelta(days=30),
        notice=NOTICE,
        recorded_at=START,
    )
    return sign_record(record, vault.device_key)


def enrol(vault: SQLiteVault, name: str, *seeds: int, dimension: int = 16, contract_id: str = CONTRACT) -> SubjectHandle:
    """Give consent, add a template for each seed, and log it, in one transaction."""
    with vault.transaction() as transaction:
        handle = transaction.find_subject(name) or transaction.create_subject(name)
        signed = consent(vault, transaction, handle)
        transaction.append_consent(handle, signed)
        for seed in seeds:
            made = template(seed, dimension, contract_id)
            # Every other one has features, as a gallery has that began before there were any.
            kept = features(seed) if seed % 2 == 0 else None
            transaction.add_template(handle, made, purpose=Purpose.ENROLMENT, consent_id=new_record_id(), features=kept)
        transaction.append_event(AuditEvent("template.created", subject=handle.commitment, details={"contract": contract_id[:16]}))
    return handle


def keep(vault: SQLiteVault, name: str, *seeds: int) -> None:
    """Keep a training sample of a subject for each seed."""
    with vault.transaction() as transaction:
        handle = transaction.find_subject(name)
        assert handle is not None
        for seed in seeds:
            transaction.add_sample(handle, sample(seed), purpose=Purpose.FEDERATED_TRAINING, consent_id=new_record_id())


def erased(references: int, epoch: int) -> AuditEvent:
    return AuditEvent("template.erased", details={"references": references, "epoch": epoch})


def log_use(vault: SQLiteVault, number: int = 1) -> None:
    with vault.transaction(durable=False) as transaction:
        transaction.append_event(AuditEvent("verification", details={"references": number, "match": True}))


def populate(vault: SQLiteVault, *, with_samples: bool = True) -> None:
    """Three subjects with one, two and no templates, features of one of them, two samples, a setting, and some history."""
    enrol(vault, "alice", 1)
    enrol(vault, "bob", 2, 3)
    enrol(vault, "carol")
    if with_samples:
        keep(vault, "alice", 1)
        keep(vault, "bob", 3)
    with vault.transaction() as transaction:
        transaction.write_setting("models", b'{"detector":"yunet"}')
    log_use(vault)


def content(vault: SQLiteVault) -> dict[str, Any]:
    """Everything a caller can read, as comparable values."""
    with vault.transaction(durable=False) as transaction:
        handles = transaction.subjects()
        gallery = transaction.open_gallery(CONTRACT)
        return {
            "vault": vault.vault_id,
            "device": vault.device_key.public_bytes,
            "subjects": [
                (
                    handle,
                    handle.name,
                    transaction.find_subject(handle.name),
                    [
                        (item.reference_id, item.contract_id, item.enrolled_at, item.vector.tobytes())
                        for item in transaction.open_templates(handle, CONTRACT)
                    ],
                    transaction.consents(handle),
                    [
                        None if kept is None else (kept.base, kept.rows.tobytes())
                        for kept in (transaction.features(handle, item.slot) for item in transaction.templates_of(handle))
                    ],
                    [
                        (kept.sample_id, kept.kind, kept.base, kept.kept_at, kept.pixels.tobytes(), kept.features.tobytes())
                        for kept in transaction.samples(handle)
                    ],
                )
                for handle in handles
            ],
            "gallery": sorted(zip(gallery.slots.tolist(), (row.tobytes() for row in gallery.vectors), strict=True)),
            "setting": transaction.read_setting("models"),
            "trail": tuple(vault.trail_entries()),
            "note": vault.trail_note(),
        }


def code_of(action: Callable[[], object]) -> str:
    """The stable code of the error that `action` ends in."""
    try:
        action()
    except FacekeepError as error:
        return error.code
    raise AssertionError("an error was expected")
