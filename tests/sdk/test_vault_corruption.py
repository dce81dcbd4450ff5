"""Damage and forgery: whatever is done to the files, the vault gives the same content or a typed error, and nothing else."""

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError
from facekeep.keys import KeyFile
from facekeep.vault import SQLiteVault
from facekeep.vault.tables import SlotTable, record_leaf
from tests.sdk.vault_scenes import START, content, enrol, log_use, populate

Files = dict[str, bytes]


class Damaged:
    """A populated vault as bytes, to be laid out damaged and opened, again and again."""

    def __init__(self, root: Path) -> None:
        self.home, self.key = root / "home", KeyFile(root / "key")
        with SQLiteVault.create(self.home, self.key, clock=ManualClock(START), page_size=512) as vault:
            # Without samples: every byte of the file is tried below, and those of one sample are like any other's.
            populate(vault, with_samples=False)
            # While it is open, its last commits are in the write-ahead log.
            self.open_files = self._files()
            self.content = content(vault)
        self.files = self._files()

    def _files(self) -> Files:
        return {path.name: path.read_bytes() for path in self.home.iterdir()}

    def lay_out(self, files: Files) -> None:
        for path in self.home.iterdir():
            path.unlink()
        for name, data in files.items():
            (self.home / name).write_bytes(data)

    def outcome(self) -> Any:
        """The whole content, or the code of the error met on the way."""
        try:
            with SQLiteVault.open(self.home, self.key, clock=ManualClock(START)) as vault:
                vault.verify()
                return content(vault)
        except FacekeepError as error:
            return error.code


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(tmp_path_factory.mktemp("corruption"))


def flips(size: int, stride: int) -> Iterator[tuple[int, int]]:
    for place in range(0, size, stride):
        yield place, 1 << (place // stride) % 8
        if stride == 1:
            yield place, 0xFF


def flip_each(damaged: Damaged, name: str, files: Files, stride: int, allowed: Callable[[Any], bool]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, mask in flips(len(files[name]), stride):
        changed = bytearray(files[name])
        changed[place] ^= mask
        damaged.lay_out({**files, name: bytes(changed)})
        outcome = damaged.outcome()
        kind = outcome if isinstance(outcome, str) else "opens"
        found[kind] = found.get(kind, 0) + 1
        assert kind != "opens" or allowed(outcome), f"byte {place} of {name} changed by {mask:#x} changed the content unnoticed"
    return found


def flip_the_vault(damaged: Damaged, stride: int) -> dict[str, int]:
    return flip_each(damaged, "vault.db", damaged.files, stride, lambda outcome: bool(outcome == damaged.content))


def test_the_untouched_vault_opens(damaged: Damaged) -> None:
    for files in (damaged.files, damaged.open_files):
        damaged.lay_out(files)
        assert damaged.outcome() == damaged.content


def test_flipped_bytes_of_the_vault_change_nothing_or_are_refused(damaged: Damaged) -> None:
    found = flip_the_vault(damaged, 41)
    assert found["vault.corrupt"] > 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_more_flipped_bytes_of_the_vault_change_nothing_or_are_refused(damaged: Damaged) -> None:
    # Every byte takes many minutes: FACEKEEP_EXHAUSTIVE=1. Otherwise every seventh.
    stride = 1 if os.environ.get("FACEKEEP_EXHAUSTIVE") else 7
    found = flip_the_vault(damaged, stride)
    # A stride meets more or fewer of the bytes that matter than their share: 9,500 of a vault where some 10,300 do.
    assert found["vault.corrupt"] > 9_000 // stride


@pytest.mark.parametrize("stride", [977, pytest.param(61, marks=pytest.mark.slow)])
def test_flipped_bytes_of_the_write_ahead_log(damaged: Damaged, stride: int) -> None:
    whole = damaged.content

    def allowed(outcome: Any) -> bool:
        # SQLite drops a damaged frame and all after it, which is what a loss of power does: only usage entries may go that way.
        length = len(outcome["trail"])
        same = all(outcome[name] == whole[name] for name in ("subjects", "gallery", "setting", "vault", "device"))
        return same and outcome["trail"] == whole["trail"][:length] and length >= len(whole["trail"]) - 1

    found = flip_each(damaged, "vault.db-wal", damaged.open_files, stride, allowed)
    assert found["vault.rolled_back"] > 10


def test_truncations_of_the_vault(damaged: Damaged) -> None:
    whole = damaged.files["vault.db"]
    for length in [*range(0, 200, 7), *range(200, len(whole), 509), len(whole) - 1]:
        damaged.lay_out({**damaged.files, "vault.db": whole[:length]})
        assert damaged.outcome() in ("vault.corrupt", "audit.truncated", "audit.broken_chain"), length


def test_rubbish_of_every_kind_in_place_of_the_vault(damaged: Damaged) -> None:
    size = len(damaged.files["vault.db"])
    for rubbish in (b"", b"\0" * size, random.Random(1).randbytes(size), b"SQLite format 3\0" + random.Random(2).randbytes(size)):
        damaged.lay_out({**damaged.files, "vault.db": rubbish})
        assert damaged.outcome() == "vault.corrupt"


@pytest.mark.parametrize("seed", range(20))
def test_whole_pages_lost_swapped_or_overwritten(damaged: Damaged, seed: int) -> None:
    draw, whole = random.Random(seed), damaged.files["vault.db"]
    pages = [whole[start : start + 512] for start in range(0, len(whole), 512)]
    first, second = draw.sample(range(1, len(pages)), 2)
    kinds: list[Callable[[], None]] = [
        lambda: pages.__setitem__(slice(None), [*pages[:first], bytes(512), *pages[first + 1 :]]),
        lambda: pages.__setitem__(slice(None), [*pages[:first], pages[second], *pages[first + 1 :]]),
        lambda: pages.__setitem__(slice(None), [*pages[:first], draw.randbytes(512), *pages[first + 1 :]]),
    ]
    kinds[seed % 3]()
    damaged.lay_out({**damaged.files, "vault.db": b"".join(pages)})
    outcome = damaged.outcome()
    assert isinstance(outcome, str) or outcome == damaged.content


SWAP = (
    "UPDATE {table} SET {column} = (SELECT {column} FROM {table} AS other WHERE other.slot = 1 - {table}.slot) WHERE slot IN (0, 1)"
)

FORGERIES = {
    "envelopes swapped": (SWAP.format(table="templates", column="envelope"), {"vault.corrupt"}),
    "owners swapped": (SWAP.format(table="templates", column="subject_slot"), {"vault.corrupt"}),
    "keys swapped": (SWAP.format(table="subjects", column="wrapped_key"), {"vault.corrupt"}),
    "profiles swapped": (SWAP.format(table="subjects", column="profile"), {"vault.corrupt"}),
    "tags swapped": (SWAP.format(table="subjects", column="index_tag"), {"vault.corrupt"}),
    "consents swapped": (SWAP.format(table="consents", column="body"), {"vault.corrupt"}),
    "consents of another": (SWAP.format(table="consents", column="principal_id"), {"vault.corrupt"}),
    "purpose widened": ("UPDATE templates SET purpose = CAST('identification' AS BLOB) WHERE slot = 0", {"vault.corrupt"}),
    "enrolment dated later": ("UPDATE templates SET enrolled_at_us = enrolled_at_us + 1 WHERE slot = 0", {"vault.corrupt"}),
    "template dropped": ("DELETE FROM templates WHERE slot = 2", {"vault.corrupt"}),
    "template doubled": ("INSERT INTO templates SELECT 9, {rest} FROM templates WHERE slot = 0", {"vault.corrupt"}),
    "features dropped": ("DELETE FROM features WHERE slot = 1", {"vault.corrupt"}),
    "features of another template": ("UPDATE features SET slot = 0 WHERE slot = 1", {"vault.corrupt"}),
    "features of nobody": ("INSERT INTO features SELECT 9, base, row_count, dimension, envelope FROM features", {"vault.corrupt"}),
    "features of another base": ("UPDATE features SET base = zeroblob(64)", {"vault.corrupt"}),
    "features in another shape": ("UPDATE features SET row_count = 4, dimension = 4", {"vault.corrupt"}),
    "consent dropped": ("DELETE FROM consents WHERE slot = 0", {"vault.corrupt"}),
    "slot beyond all bounds": ("UPDATE settings SET slot = 4611686018427387904", {"vault.corrupt"}),
    "negative slot": ("UPDATE settings SET slot = -1", {"vault.corrupt"}),
    "setting changed": ("UPDATE settings SET value = x'00'", {"vault.corrupt"}),
    "number for bytes": ("UPDATE settings SET value = 7", {"vault.corrupt"}),
    "text for bytes": ("UPDATE subjects SET profile = 'text'", {"vault.corrupt"}),
    "real for bytes": ("UPDATE subjects SET epoch = 1.5", {"vault.corrupt"}),
    "head dropped": ("DELETE FROM head", {"vault.corrupt"}),
    "head doubled": ("INSERT INTO head SELECT 2, body, mac FROM head", {"vault.corrupt"}),
    "head changed": (
        "UPDATE head SET body = CAST(replace(CAST(body AS TEXT), '\"epoch\":1', '\"epoch\":2') AS BLOB)",
        {"vault.corrupt"},
    ),
    "head made rubbish": ("UPDATE head SET body = x'ff', mac = 5", {"vault.corrupt"}),
    "entry changed": (
        "UPDATE trail SET body = CAST(replace(CAST(body AS TEXT), 'created', 'erased') AS BLOB) WHERE seq = 0",
        {"audit.broken_chain"},
    ),
    "entries swapped": (
        "UPDATE trail SET body = (SELECT body FROM trail AS other WHERE other.seq = 1 - trail.seq) WHERE seq IN (0, 1)",
        {"audit.broken_chain"},
    ),
    "entry dropped": ("DELETE FROM trail WHERE seq = 1", {"audit.broken_chain", "audit.truncated"}),
    "last entry dropped": ("DELETE FROM trail WHERE seq = (SELECT max(seq) FROM trail)", {"audit.truncated"}),
    "last durable entry changed": ("UPDATE trail SET body = x'7b7d' WHERE seq = 2", {"audit.broken_chain"}),
    "entry added": ("INSERT INTO trail SELECT max(seq) + 1, body FROM trail", {"audit.broken_chain"}),
    "trail emptied": ("DELETE FROM trail", {"audit.truncated"}),
    "note changed": ("UPDATE trail_head SET note = x'00'", {"vault.corrupt"}),
    "note dropped": ("DELETE FROM trail_head", {"vault.corrupt"}),
    "another application's": ("PRAGMA application_id = 0", {"vault.corrupt"}),
    "older format": ("PRAGMA user_version = 0", {"vault.corrupt"}),
    "format before": ("PRAGMA user_version = 1", {"vault.corrupt"}),
    "newer format": ("PRAGMA user_version = 3", {"vault.newer_version"}),
    "trigger": ("CREATE TRIGGER spy AFTER INSERT ON trail BEGIN DELETE FROM consents; END", {"vault.corrupt"}),
    "view": ("CREATE VIEW spy AS SELECT 1", {"vault.corrupt"}),
    "table dropped": ("DROP TABLE settings", {"vault.corrupt"}),
    "column added": ("ALTER TABLE subjects ADD COLUMN name TEXT", {"vault.corrupt"}),
}


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(templates)")][1:]
        connection.execute(statement.replace("{rest}", ", ".join(columns)))
    finally:
        connection.close()


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_by_one_who_can_write_the_file_is_found(damaged: Damaged, forgery: str) -> None:
    statement, codes = FORGERIES[forgery]
    damaged.lay_out(damaged.files)
    change(damaged.home / "vault.db", statement)
    assert damaged.outcome() in codes


@pytest.mark.parametrize(
    ("table", "column", "codes"),
    [
        ("templates", "envelope", {"vault.sealed"}),
        ("templates", "subject_slot", {"vault.sealed"}),
        ("templates", "reference_id", {"vault.sealed"}),
        ("templates", "consent_id", {"vault.sealed"}),
        ("templates", "enrolled_at_us", {"vault.sealed"}),
        ("subjects", "wrapped_key", {"vault.sealed"}),
        ("subjects", "profile", {"vault.sealed"}),
        ("subjects", "index_tag", {"vault.sealed"}),
    ],
)
def test_rows_swapped_between_subjects_stay_shut_even_under_a_right_head(
    damaged: Damaged, table: str, column: str, codes: set[str]
) -> None:
    # The envelopes do not rely on the head: here it is made anew over the swapped rows, as only the key's holder could.
    damaged.lay_out(damaged.files)
    with SQLiteVault.open(damaged.home, damaged.key, clock=ManualClock(START)) as vault, vault.transaction() as transaction:
        transaction._store.run(SWAP.format(table=table, column=column))
        leaves = {row[0]: record_leaf(table, *row) for row in transaction._store.rows(f"SELECT * FROM {table}")}
        transaction._tables.slots[table] = SlotTable(leaves)
        transaction.tables_changed = True
    assert damaged.outcome() in codes


def test_files_of_one_vault_at_two_moments(damaged: Damaged, tmp_path: Path) -> None:
    damaged.lay_out(damaged.files)
    with SQLiteVault.open(damaged.home, damaged.key, clock=ManualClock(START)) as vault:
        enrol(vault, "dave", 4)
    later = damaged._files()
    damaged.lay_out({**damaged.files, "keys.fkk": later["keys.fkk"]})
    assert damaged.outcome() == "vault.rolled_back"
    # The anchor is a lower bound: a crash may leave it behind, and the next opening brings it up to date.
    damaged.lay_out({**damaged.files, "vault.db": later["vault.db"]})
    assert isinstance(damaged.outcome(), dict)
    damaged.lay_out({**damaged._files(), "vault.db": damaged.files["vault.db"]})
    assert damaged.outcome() == "vault.rolled_back"


def test_the_file_exchanged_under_an_open_vault(damaged: Damaged, tmp_path: Path) -> None:
    damaged.lay_out(damaged.files)
    with SQLiteVault.open(damaged.home, damaged.key, clock=ManualClock(START)) as vault:
        log_use(vault)
        change(damaged.home / "vault.db", "UPDATE consents SET principal_id = x'00'")
        change(damaged.home / "vault.db", "UPDATE head SET mac = x'00'")
        with pytest.raises(FacekeepError) as caught:
            log_use(vault)
        assert caught.value.code == "vault.corrupt"


def test_a_directory_or_a_link_to_nowhere_in_place_of_the_vault(damaged: Damaged) -> None:
    damaged.lay_out({"keys.fkk": damaged.files["keys.fkk"]})
    (damaged.home / "vault.db").mkdir()
    outcome = damaged.outcome()
    shutil.rmtree(damaged.home / "vault.db")
    assert outcome in ("vault.io", "vault.corrupt")
    (damaged.home / "vault.db").symlink_to(damaged.home / "nowhere")
    assert damaged.outcome() == "vault.not_found"


def test_the_last_usage_entry_is_checked_at_opening_already(damaged: Damaged) -> None:
    # Nothing is to be appended to an entry that was not written here, long before anybody verifies the whole trail.
    damaged.lay_out(damaged.files)
    change(
        damaged.home / "vault.db",
        "UPDATE trail SET body = CAST(replace(CAST(body AS TEXT), '\"match\":true', '\"match\":false') AS BLOB) "
        "WHERE seq = (SELECT max(seq) FROM trail)",
    )
    with pytest.raises(FacekeepError) as caught:
        SQLiteVault.open(damaged.home, damaged.key, clock=ManualClock(START))
    assert caught.value.code == "audit.broken_chain"
