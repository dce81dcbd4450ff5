"""The vault: opening a gallery against the bare decryptions in it, and what a write costs."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from facekeep.biometric import Template
from facekeep.clock import SystemClock
from facekeep.consent import Purpose
from facekeep.identifiers import new_record_id
from facekeep.keys import KeyFile
from facekeep.vault import SQLiteVault
from tests.bench.setting import interleaved, report

CONTRACT = "ab" * 32


def _fill(vault: SQLiteVault, people: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((people, 256), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    now = SystemClock().now()
    with vault.transaction() as transaction:
        for number in range(people):
            handle = transaction.create_subject(f"subject-{number}")
            template = Template(vectors[number], CONTRACT, new_record_id(), now)
            transaction.add_template(handle, template, purpose=Purpose.ENROLMENT, consent_id=new_record_id())


def gallery(shared: Path) -> None:
    """Opening 10,000 templates against the AES-GCM-SIV decryptions that takes: one data key and one template each."""
    del shared
    for people in (1_000, 10_000):
        with tempfile.TemporaryDirectory() as folder:
            with SQLiteVault.create(Path(folder) / "home", KeyFile(Path(folder) / "key"), clock=SystemClock()) as vault:
                _fill(vault, people)
                wrap = AESGCMSIV(bytes(32))
                sealed_key = wrap.encrypt(bytes(12), bytes(32), b"subject")
                sealed = wrap.encrypt(bytes(12), bytes(1024), bytes(200))

                def bare(wrap: AESGCMSIV = wrap, key: bytes = sealed_key, sealed: bytes = sealed, times: int = people) -> None:
                    for _ in range(times):
                        AESGCMSIV(wrap.decrypt(bytes(12), key, b"subject")).decrypt(bytes(12), sealed, bytes(200))

                def ours(vault: SQLiteVault = vault) -> None:
                    with vault.transaction(durable=False) as transaction:
                        slots = [handle.slot for handle in transaction.subjects()]
                        transaction.open_gallery(CONTRACT, slots)

                def rows(vault: SQLiteVault = vault) -> None:
                    with vault.transaction(durable=False) as transaction:
                        transaction.open_gallery(CONTRACT, None)

                decrypt, opened, everything = interleaved(7, bare, rows, ours)
            start = time.perf_counter()
            with SQLiteVault.open(Path(folder) / "home", KeyFile(Path(folder) / "key"), clock=SystemClock()):
                cold = time.perf_counter() - start
        report(f"{people} templates, bare decryptions", f"{1000 * decrypt:.0f} ms")
        report(f"{people} templates, gallery opened", f"{opened / decrypt:.2f} x", "<= 2")
        report(f"{people} templates, names of all subjects as well", f"{everything / decrypt:.2f} x")
        report(f"{people} templates, opening the vault with its head verified", f"{cold / decrypt:.2f} x")


def writes(shared: Path) -> None:
    """What an enrolment and a rotation cost."""
    del shared
    with (
        tempfile.TemporaryDirectory() as folder,
        SQLiteVault.create(Path(folder) / "home", KeyFile(Path(folder) / "key"), clock=SystemClock()) as vault,
    ):
        _fill(vault, 10_000)
        start = time.perf_counter()
        vault.rotate_keys()
        report("rotate the wrap key of 10,000 subjects", f"{1000 * (time.perf_counter() - start):.0f} ms")
        start = time.perf_counter()
        vault.verify()
        report("verify 10,000 templates, every envelope opened", f"{1000 * (time.perf_counter() - start):.0f} ms")
