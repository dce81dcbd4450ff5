"""Sealed settings: what an older copy of the vault cannot open, and the edge of the trail that a log is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from facekeep.merkle import Frontier, leaf_hash
from facekeep.sealing import OVERHEAD_BYTES
from facekeep.vault import SQLiteVault
from tests.sdk.vault_scenes import code_of, create, log_use, reopen

SECRET = b"nobody may read this"


def read(vault: SQLiteVault, name: str = "s") -> bytes | None:
    with vault.transaction(durable=False) as transaction:
        return transaction.read_sealed(name)


def write(vault: SQLiteVault, value: bytes | None, name: str = "s") -> None:
    with vault.transaction() as transaction:
        transaction.write_sealed(name, value)


def envelope(vault: SQLiteVault, name: str = "s") -> bytes:
    with vault.transaction(durable=False) as transaction:
        return transaction.read_setting(f"sealed/{name}") or b""


def test_a_sealed_setting_is_written_read_and_emptied(tmp_path: Path) -> None:
    vault = create(tmp_path)
    assert read(vault) is None
    write(vault, None)
    write(vault, SECRET)
    assert read(vault) == SECRET
    assert SECRET not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(envelope(vault)) == len(SECRET) + OVERHEAD_BYTES
    vault.close()
    vault = reopen(tmp_path)
    assert read(vault) == SECRET
    write(vault, None)
    assert read(vault) is None
    vault.verify()
    vault.close()


def test_after_a_rotation_the_old_envelope_opens_no_more(tmp_path: Path) -> None:
    vault = create(tmp_path)
    write(vault, SECRET)
    write(vault, b"other", "t")
    old = envelope(vault)
    vault.rotate_keys()
    assert (read(vault), read(vault, "t")) == (SECRET, b"other")
    assert envelope(vault) != old
    with vault.transaction() as transaction:
        transaction.write_setting("sealed/s", old)
    assert code_of(lambda: read(vault)) == "vault.sealed"
    # Nor does the envelope of another setting, or a changed one.
    for wrong in (envelope(vault, "t"), envelope(vault, "t")[:-1], b"x"):
        with vault.transaction() as transaction:
            transaction.write_setting("sealed/s", wrong)
        assert code_of(lambda: read(vault)) == "vault.sealed"
    vault.close()


def test_a_rotation_that_cannot_reseal_changes_nothing(tmp_path: Path) -> None:
    vault = create(tmp_path)
    with vault.transaction() as transaction:
        transaction.write_setting("sealed/s", b"not an envelope")
    with vault.transaction(durable=False) as transaction:
        before = transaction.revision
    assert code_of(vault.rotate_keys) == "vault.sealed"
    with vault.transaction(durable=False) as transaction:
        assert transaction.revision == before
    vault.close()


def test_the_edge_of_the_trail_at_any_size(tmp_path: Path) -> None:
    vault = create(tmp_path)
    for number in range(9):
        log_use(vault, number)
    entries, edge = list(vault.trail_entries()), Frontier()
    with vault.transaction(durable=False) as transaction:
        for size in range(len(entries) + 1):
            assert transaction.trail_edge(size) == edge
            edge = edge.append(leaf_hash(entries[size])) if size < len(entries) else edge
        assert transaction.trail_between(2, 5) == tuple(entries[2:5])
        assert transaction.trail_between(len(entries), 99) == ()
        with pytest.raises(ValueError, match="no such edge"):
            transaction.trail_edge(len(entries) + 1)
    vault.shred(lambda transaction: transaction.prune_trail(4) and None, lambda epoch: [])
    with vault.transaction(durable=False) as transaction:
        assert transaction.trail_edge(len(entries)) == edge
        with pytest.raises(ValueError, match="no such edge"):
            transaction.trail_edge(3)
    vault.close()
    shutil.rmtree(tmp_path)
