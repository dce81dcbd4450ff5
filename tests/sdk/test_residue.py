"""The completeness scanner: a planted residue is found in every store, and nothing is found where nothing is."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from facekeep.audit import AuditEvent
from facekeep.clock import ManualClock
from facekeep.errors import ErasureError
from facekeep.flows.context import FlowContext, Settings
from facekeep.flows.erasures import Erasures
from facekeep.flows.gallery import GalleryCache
from facekeep.flows.withdraw import withdraw
from facekeep.residue.blobs import dense_runs
from facekeep.residue.pages import frames, free_bytes
from facekeep.residue.verdict import ScanReport, Trace, Verdict
from facekeep.retention import ErasureReceipt
from facekeep.vault import SQLiteVault
from tests.sdk.vault_scenes import START, code_of, create, enrol, erased, fast_passphrase, unit_vector

NAME = "Ann-Sofie Lindqvist"


class Erased:
    """A home from which one of three was erased, what her rows were, and a copy from the day before."""

    def __init__(self, root: Path) -> None:
        self.home, self.backup = root / "home", root / "yesterday"
        self.vault = SQLiteVault.create(self.home, fast_passphrase(), clock=ManualClock(START))
        for number, name in enumerate((NAME, "bob", "carol")):
            enrol(self.vault, name, 1 + number, dimension=128)
        self.vault._store.checkpoint()
        shutil.copytree(self.home, self.backup)
        self.rows = _rows_of(self.backup)
        cache = GalleryCache(timedelta(minutes=1), "float32")
        self.context = FlowContext(self.vault, ManualClock(START), Settings(), cache, lambda: None)  # type: ignore[arg-type,return-value]
        self.receipt = withdraw(self.context, NAME)

    def verify(self, *also: Path, with_receipt: bool = True, with_name: bool = True) -> ScanReport:
        receipt = self.receipt if with_receipt else None
        return Erasures(self.context).verify(subject=NAME if with_name else None, receipt=receipt, also=also)


def _rows_of(home: Path) -> dict[str, bytes]:
    connection = sqlite3.connect(home / "vault.db")
    try:
        tag, key, profile = connection.execute("SELECT index_tag, wrapped_key, profile FROM subjects WHERE slot = 0").fetchone()
        (template,) = connection.execute("SELECT envelope FROM templates WHERE subject_slot = 0").fetchone()
    finally:
        connection.close()
    return {"index-tag": tag, "wrapped-key": key, "profile": profile, "template": template}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Erased:
    return Erased(tmp_path_factory.mktemp("erased"))


def traces(report: ScanReport) -> set[tuple[str, Trace]]:
    return {(finding.store, finding.trace) for finding in report.findings}


def test_an_erased_home_is_clean(made: Erased) -> None:
    report = made.verify()
    assert (report.verdict, report.findings, report.unread) == (Verdict.CLEAN, (), ())
    assert report.files >= 2
    report.require_complete()
    # The receipt as it is handed out leads to the same search.
    again = ErasureReceipt.parse(json.dumps(made.receipt.to_json()).encode(), made.vault.device_key.public_bytes)
    assert again == made.receipt


@pytest.mark.parametrize("kind", ["index-tag", "wrapped-key", "profile", "template"])
@pytest.mark.parametrize("spelling", ["plain", "hexadecimal", "Base64", "gzip"])
def test_a_row_left_in_a_file_is_found_in_every_spelling(made: Erased, kind: str, spelling: str) -> None:
    row = made.rows[kind]
    write: dict[str, Callable[[bytes], bytes]] = {
        "plain": lambda data: b"left over: " + data + b"\n",
        "hexadecimal": lambda data: json.dumps({"row": data.hex()}).encode(),
        "Base64": lambda data: b'{"row":"' + base64.b64encode(data) + b'"}',
        "gzip": gzip.compress,
    }
    file = made.home / "crash.log"
    try:
        file.write_bytes(write[spelling](row))
        report = made.verify()
        assert ("crash.log", Trace(kind)) in traces(report)
        assert report.verdict is Verdict.RESIDUE
        with pytest.raises(ErasureError) as caught:
            report.require_complete()
        assert caught.value.code == "erasure.residue"
        assert "Lindqvist" not in str(caught.value)
    finally:
        file.unlink()


@pytest.mark.parametrize("store", ["vault.db-journal", ".vault.db.new", "backup.manifest", "receipt.json", "packs/model.bin"])
@pytest.mark.parametrize("kind", ["template", "name"])
def test_residue_is_found_in_every_store(made: Erased, store: str, kind: str) -> None:
    data = NAME.encode() if kind == "name" else made.rows["template"]
    file = made.home / store
    file.parent.mkdir(exist_ok=True)
    try:
        file.write_bytes(b"\0" * 100 + data + b"\0" * 100)
        assert (store, Trace(kind)) in traces(made.verify())
    finally:
        file.unlink()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_residue_behind_the_end_of_a_side_file_is_found(made: Erased, suffix: str, tmp_path: Path) -> None:
    # Beside a closed copy: SQLite owns the side files of the open one.
    copy = shutil.copytree(made.home, tmp_path / "copy")
    (copy / f"vault.db{suffix}").write_bytes(bytes(64) + made.rows["template"] + bytes(64))
    found = traces(made.verify(copy))
    assert (str(copy / f"vault.db{suffix}"), Trace.TEMPLATE) in found
    blob = unit_vector(9, 128).tobytes()
    (copy / f"vault.db{suffix}").write_bytes(bytes(64) + blob + bytes(64))
    assert (str(copy / f"vault.db{suffix}"), Trace.DENSE_BLOB) in traces(made.verify(copy))


def test_residue_in_a_free_page_and_in_a_gap_is_found(made: Erased, tmp_path: Path) -> None:
    copy = shutil.copytree(made.home, tmp_path / "copy")
    path = copy / "vault.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA secure_delete=OFF")
    connection.execute("INSERT INTO settings VALUES (77, x'00', ?)", (os.urandom(9000),))
    connection.commit()
    connection.execute("DELETE FROM settings WHERE slot = 77")
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    report = made.verify(copy)
    assert (str(path), Trace.FREE_BYTES) in traces(report)
    assert {finding.detail for finding in report.findings} >= {"free page"}


def test_a_keystore_with_retired_keys_is_found_wherever_it_lies(made: Erased) -> None:
    old = (made.backup / "keys.fkk").read_bytes()
    for name in (".keys.fkk.new", "notes.bin"):
        file = made.home / name
        try:
            file.write_bytes(old)
            assert (name, Trace.STRAY_KEYSTORE) in traces(made.verify())
        finally:
            file.unlink()


def test_a_picture_and_a_blob_that_belong_to_nobody_are_found_without_a_name(made: Erased) -> None:
    planted = {
        "core": (unit_vector(5, 512).tobytes(), Trace.DENSE_BLOB),
        "half": (unit_vector(5, 512).astype(np.float16).tobytes(), Trace.DENSE_BLOB),
        "hex": (b"dump " + unit_vector(5, 128).tobytes().hex().encode(), Trace.DENSE_BLOB),
        "base64": (b"dump " + base64.b64encode(unit_vector(5, 128).tobytes()), Trace.DENSE_BLOB),
        "thumb": (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(50), Trace.PICTURE),
    }
    try:
        for name, (data, _) in planted.items():
            (made.home / name).write_bytes(data)
        found = traces(made.verify(with_receipt=False, with_name=False))
        assert {(name, trace) for name, (_, trace) in planted.items()} <= found
    finally:
        for name in planted:
            (made.home / name).unlink()


def test_yesterdays_copy_is_shut_without_its_keystore_and_open_with_it(made: Erased, tmp_path: Path) -> None:
    report = made.verify(made.backup)
    assert report.verdict is Verdict.RESIDUE
    assert {trace for _, trace in traces(report)} >= {Trace.STRAY_KEYSTORE, Trace.TEMPLATE, Trace.WRAPPED_KEY, Trace.INDEX_TAG}
    (shut := tmp_path / "shut").mkdir()
    shutil.copy(made.backup / "vault.db", shut / "vault-2026-11-20.db")
    report = made.verify(shut)
    assert report.verdict is Verdict.SHUT
    assert all(finding.is_shut for finding in report.findings)
    report.require_complete()
    # With today's keystore beside it, it stays shut: that one has none of the keys.
    shutil.copy(made.home / "keys.fkk", shut / "keys.fkk")
    assert made.verify(shut).verdict is Verdict.SHUT


def test_what_cannot_be_read_is_not_called_clean(made: Erased, tmp_path: Path) -> None:
    (odd := tmp_path / "odd").mkdir()
    os.mkfifo(odd / "pipe")
    (odd / "link").symlink_to(made.home / "vault.db")
    (odd / "torn.db").write_bytes((made.home / "vault.db").read_bytes()[:5000])
    report = made.verify(odd, tmp_path / "nowhere")
    assert report.verdict is Verdict.INCOMPLETE
    assert len(report.unread) == 4
    with pytest.raises(ErasureError) as caught:
        report.require_complete()
    assert caught.value.code == "erasure.incomplete"


def test_who_is_on_record_is_not_erased_and_a_foreign_receipt_is_refused(made: Erased, tmp_path: Path) -> None:
    erasures = Erasures(made.context)
    assert code_of(lambda: erasures.verify(subject="bob")) == "erasure.not_erased"
    other = Erased(tmp_path)
    assert code_of(lambda: erasures.verify(receipt=other.receipt)) == "erasure.invalid_receipt"
    other.vault.close()


def test_the_commitment_stays_in_the_trail_and_leads_nowhere(made: Erased) -> None:
    """Erasure shreds the salt: the proofs hold, and no key of the home ties an entry to a name."""
    told = [entry for entry in made.vault.trail_entries() if made.receipt.commitment.encode() in entry]
    assert len(told) >= 2
    assert made.vault.verify_trail().size == len(list(made.vault.trail_entries()))
    enrol(made.vault, NAME, 9, dimension=128)
    with made.vault.transaction(durable=False) as transaction:
        handle = transaction.find_subject(NAME)
        assert handle is not None
        # The same name is another pseudonym from now on, in the trail and in the consent records.
        assert handle.commitment != made.receipt.commitment
        assert transaction.consents(handle)[0] is not None
        assert len(transaction.consents(handle)) == 1
    withdraw(made.context, NAME)


@pytest.mark.parametrize("together", ["vault", "keystore", "both"])
def test_what_restoring_yesterday_does_and_what_the_device_can_tell(tmp_path: Path, together: str) -> None:
    made = Erased(tmp_path)
    made.vault.close()
    today = tmp_path / "today"
    shutil.copytree(made.home, today)
    for name in {"vault": ["vault.db"], "keystore": ["keys.fkk"], "both": ["vault.db", "keys.fkk"]}[together]:
        shutil.copy(made.backup / name, made.home / name)

    def names() -> set[str]:
        opened = SQLiteVault.open(made.home, fast_passphrase(), clock=ManualClock(START))
        with opened as vault, vault.transaction(durable=False) as transaction:
            return {handle.name for handle in transaction.subjects()}

    if together != "both":
        assert code_of(names) == "vault.rolled_back"
        return
    # The limit that docs/compliance/erasure.md states: alone, a device whose whole home is put back cannot tell. The receipt can.
    assert NAME in names()
    with SQLiteVault.open(made.home, fast_passphrase(), clock=ManualClock(START)) as vault:
        context = FlowContext(vault, ManualClock(START), Settings(), made.context.gallery, made.context.load_models)
        assert code_of(lambda: Erasures(context).verify(receipt=made.receipt)) == "erasure.invalid_receipt"
        assert vault.verify_trail().size <= made.receipt.inclusion.seq


# Parts


def test_no_row_of_the_erased_is_left_in_a_gap_after_much_coming_and_going(tmp_path: Path) -> None:
    draw = random.Random(7)
    with create(tmp_path) as vault:
        names: list[str] = []
        for number in range(12):
            with vault.transaction() as transaction:
                for item in range(4):
                    names.append(f"{number}-{item}")
                    handle = transaction.create_subject(names[-1])
                    transaction.append_event(AuditEvent("verification", subject=handle.commitment))
            gone = [names.pop(draw.randrange(len(names))) for _ in range(3)]

            def drop(transaction: object, gone: list[str] = gone) -> None:
                for name in gone:
                    transaction.drop_subject(transaction.find_subject(name))  # type: ignore[attr-defined]

            vault.shred(drop, lambda epoch: [erased(0, epoch)])
        left = list(free_bytes((tmp_path / "vault.db").read_bytes()))
    # SQLite leaves remains of its own lists, two bytes a cell; of a row it leaves nothing.
    assert left == []


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_every_byte_outside_the_rows_is_looked_at(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "file.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)")
    for number in range(30):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes([255 - number]) * (number * 97)))
    connection.execute("CREATE INDEX i ON t(b)")
    connection.commit()
    connection.close()
    assert list(free_bytes(path.read_bytes())) == []
    with path.open("ab") as file:
        file.write(bytes(page_size - 200) + b"\x01" * 200)
    assert [item.kind for item in free_bytes(path.read_bytes())] == ["unreachable page"]


def test_a_file_that_is_damaged_or_none_is_refused_whatever_byte_it_is(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 1)
        vault._store.checkpoint()
        data = (tmp_path / "vault.db").read_bytes()
    draw = random.Random(3)
    for _ in range(300):
        broken = bytearray(data)
        for _ in range(draw.randrange(1, 4)):
            broken[draw.randrange(len(data))] = draw.randrange(256)
        with contextlib.suppress(ValueError, IndexError):
            list(free_bytes(bytes(broken[: draw.choice([len(data), draw.randrange(len(data))])])))
    for nothing in (b"", b"SQLite format 3\0", bytes(5000)):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever is wrong first
            list(free_bytes(nothing))


def test_images_of_a_log_are_told_from_what_was_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE t(a)")
    for _ in range(5):
        connection.execute("INSERT INTO t VALUES (?)", (os.urandom(3000),))
    connection.execute("PRAGMA wal_checkpoint(RESTART)")
    connection.execute("INSERT INTO t VALUES (1)")
    seen = [is_current for _, _, is_current in frames((tmp_path / "file.db-wal").read_bytes())]
    connection.close()
    assert seen[0]
    assert not seen[-1]
    assert list(frames(b"nothing of the kind, though long enough to be one")) == []


def test_text_is_not_taken_for_a_template() -> None:
    page = (Path(__file__).parents[2] / "docs" / "threat-model.md").read_bytes()
    for text in (page, page.hex().encode(), base64.b64encode(page), json.dumps({"hash": "ab12" * 16}).encode() * 50, bytes(9000)):
        assert list(dense_runs(text)) == []
    for kind in ("<f4", "<f2"):
        assert list(dense_runs(b"x" * 333 + unit_vector(4, 512).astype(kind).tobytes()))
