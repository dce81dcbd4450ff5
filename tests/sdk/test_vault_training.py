"""Features and training samples in the vault: sealed under their subject's key, bound to what they are of, gone when they go."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from facekeep.audit import AuditEvent
from facekeep.biometric import Features, Template, TrainingSample
from facekeep.consent import Purpose
from facekeep.residue.scanner import Expected, needles_of_receipt, scan
from facekeep.residue.verdict import Trace, Verdict
from facekeep.sealing import unseal
from facekeep.vault import SQLiteVault, SubjectHandle
from facekeep.vault.rows import _sample_context
from tests.sdk.vault_scenes import (
    CONTRACT,
    START,
    code_of,
    content,
    create,
    enrol,
    erased,
    features,
    keep,
    populate,
    reopen,
    sample,
)


def handle_of(vault: SQLiteVault, name: str) -> SubjectHandle:
    with vault.transaction(durable=False) as transaction:
        handle = transaction.find_subject(name)
        assert handle is not None
        return handle


def samples_of(vault: SQLiteVault, name: str) -> tuple[TrainingSample, ...]:
    with vault.transaction(durable=False) as transaction:
        return transaction.samples(handle_in(transaction, name))


def handle_in(transaction, name: str) -> SubjectHandle:  # type: ignore[no-untyped-def]
    handle = transaction.find_subject(name)
    assert handle is not None
    return handle  # type: ignore[no-any-return]


def test_samples_come_back_bit_for_bit_the_oldest_first(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 1)
        keep(vault, "alice", 9, 3, 5)
        vault.verify()
    with reopen(tmp_path) as vault:
        found = samples_of(vault, "alice")
        for seed, kept in zip((3, 5, 9), found, strict=True):
            made = sample(seed)
            assert (kept.pixels == made.pixels).all()
            assert (kept.features == made.features).all()
            assert (kept.base, kept.kind, kept.kept_at) == (made.base, made.kind, made.kept_at)
            assert not kept.pixels.flags.writeable
        with vault.transaction(durable=False) as transaction:
            alice = handle_in(transaction, "alice")
            assert transaction.sample_count(alice) == 3
            assert [item.sample_id for item in transaction.stored_samples()] == [item.sample_id for item in found]


def test_features_belong_to_one_template_and_stay_when_it_moves(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 2, 3)
        with vault.transaction() as transaction:
            alice = handle_in(transaction, "alice")
            first, second = transaction.templates_of(alice)
            kept = transaction.features(alice, first.slot)
            assert kept is not None
            assert (kept.rows == features(2).rows).all()
            assert transaction.features(alice, second.slot) is None
            before = transaction.open_template(alice, first.slot)
            moved = Template(np.roll(before.vector, 1), "another" + CONTRACT[7:], before.reference_id, before.enrolled_at)
            transaction.move_template(alice, first.slot, moved)
            assert transaction.contracts() == {moved.contract_id: 1, CONTRACT: 1}
            assert transaction.waiting(CONTRACT) == transaction.waiting(moved.contract_id) == 0
            assert transaction.waiting("third") == 1
        vault.verify()
    with reopen(tmp_path) as vault:
        vault.verify()
        with vault.transaction() as transaction:
            alice = handle_in(transaction, "alice")
            (found,) = transaction.open_templates(alice, moved.contract_id)
            assert (found.vector == moved.vector).all()
            assert (found.reference_id, found.enrolled_at) == (before.reference_id, before.enrolled_at)
            kept = transaction.features(alice, first.slot)
            assert kept is not None
            assert (kept.rows == features(2).rows).all()
            # New features take the place of the old ones.
            transaction.move_template(alice, first.slot, before, features(4, frames=1))
            kept = transaction.features(alice, first.slot)
            assert kept is not None
            assert kept.frames == 1
        vault.verify()


def test_a_template_keeps_its_reference_and_its_age_when_it_moves(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 2)
        enrol(vault, "bob", 4)
        with vault.transaction() as transaction:
            alice, bob = handle_in(transaction, "alice"), handle_in(transaction, "bob")
            (stored,) = transaction.templates_of(alice)
            mine = transaction.open_template(alice, stored.slot)
            for wrong in (
                Template(mine.vector, CONTRACT, "urn:uuid:another", mine.enrolled_at),
                Template(mine.vector, CONTRACT, mine.reference_id, START),
            ):
                with pytest.raises(ValueError, match="keeps its reference and its age"):
                    transaction.move_template(alice, stored.slot, wrong)
            for action in (
                lambda: transaction.move_template(bob, stored.slot, mine),
                lambda: transaction.open_template(bob, stored.slot),
                lambda: transaction.features(bob, stored.slot),
                lambda: transaction.drop_samples(bob, [5]),
            ):
                with pytest.raises(ValueError, match="of this subject"):
                    action()


def test_a_sample_opens_for_nobody_else_and_for_nothing_else(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 1)
        enrol(vault, "bob", 2)
        keep(vault, "alice", 1)
        with vault.transaction() as transaction:
            alice, bob = (transaction._subject(handle_in(transaction, name)) for name in ("alice", "bob"))
            row = transaction._sample_row(0)
            right = _sample_context(row, alice.handle)
            assert len(unseal(alice.data_key.key, row[9], right)) == 112 * 112 * 3 + 8 * 4
            changed = {
                "principal_id": bob.handle.principal_id,
                "purpose": "verification",
                "base": "0" * 64,
                "kind": "night",
                "dimension": 9,
                "consent_id": "urn:uuid:another",
                "sample_id": "urn:uuid:another",
                "kept_at_us": right.kept_at_us + 1,
            }
            from dataclasses import replace

            for name, value in changed.items():
                wrong = replace(right, **{name: value})
                assert code_of(lambda wrong=wrong: unseal(alice.data_key.key, row[9], wrong)) == "vault.sealed", name  # type: ignore[misc]
            assert code_of(lambda: unseal(bob.data_key.key, row[9], right)) == "vault.sealed"


FORGERIES = [
    "UPDATE samples SET kind = CAST('night' AS BLOB)",
    "UPDATE samples SET subject_slot = 1 WHERE slot = 0",
    "UPDATE samples SET purpose = CAST('verification' AS BLOB)",
    "UPDATE samples SET kept_at_us = kept_at_us + 1",
    "UPDATE samples SET base = zeroblob(64)",
    "UPDATE samples SET envelope = zeroblob(100)",
    "DELETE FROM samples",
    "INSERT INTO samples SELECT 7, subject_slot, sample_id, base, purpose, consent_id, kind, dimension, kept_at_us, envelope "
    "FROM samples WHERE slot = 0",
    "UPDATE samples SET dimension = 'x'",
]


@pytest.mark.parametrize("statement", FORGERIES)
def test_a_forged_sample_is_found_when_the_vault_opens(tmp_path: Path, statement: str) -> None:
    with create(tmp_path) as vault:
        populate(vault)
    connection = sqlite3.connect(tmp_path / "vault.db", isolation_level=None)
    connection.execute(statement)
    connection.close()
    assert code_of(lambda: reopen(tmp_path)) == "vault.corrupt"


def test_rotation_and_erasure_of_others_leave_them_readable(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        populate(vault)
        before = content(vault)
        vault.rotate_keys()
        assert content(vault)["subjects"] == before["subjects"]
        vault.erase("alice", erased)
        assert [entry[3:] for entry in content(vault)["subjects"]] == [entry[3:] for entry in before["subjects"][1:]]
        vault.verify()
        with vault.transaction(durable=False) as transaction:
            assert {item.subject_slot for item in transaction.stored_samples()} == {handle_in(transaction, "bob").slot}


def test_dropped_samples_open_no_more_not_even_from_a_backup(tmp_path: Path) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    with create(home) as vault:
        enrol(vault, "alice", 2)
        keep(vault, "alice", 1, 2, 3)
        vault.rotate_keys()
        before = content(vault)
    backup.mkdir()
    (backup / "vault.db").write_bytes((home / "vault.db").read_bytes())
    with reopen(home) as vault:
        alice = handle_of(vault, "alice")
        with vault.transaction(durable=False) as transaction:
            oldest = transaction.stored_samples()[0]
        event = lambda epoch: [AuditEvent("sample.erased", details={"count": 1, "epoch": epoch})]  # noqa: E731
        transaction, epoch = vault.shred(lambda item: item.drop_samples(alice, [oldest.slot]) and None, event)
        assert epoch == 3
        assert [mark.what for mark in transaction.shredded] == ["sample"]
        after = content(vault)
        assert [kept[0] for kept in after["subjects"][0][6]] == [kept[0] for kept in before["subjects"][0][6]][1:]
        assert after["subjects"][0][3:6] == before["subjects"][0][3:6]
        vault.verify()
        # The whole rest at once; and nothing to drop is no error and no rotation.
        vault.shred(lambda item: item.drop_samples(alice) and None, event)
        assert samples_of(vault, "alice") == ()
        assert vault.shred(lambda item: item.drop_samples(alice) and None, lambda _: [])[1] == 4
        secrets = vault._keystore.secrets
        assert set(secrets.wrap_keys) == {4}
    # Yesterday's file under today's keys.
    connection = sqlite3.connect(backup / "vault.db")
    assert connection.execute("SELECT epoch FROM subjects").fetchall() == [(2,)]
    connection.close()


def test_erasure_leaves_no_features_and_no_samples_in_any_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with create(home) as vault:
        enrol(vault, "alice", 2, 4, 6)
        with vault.transaction() as transaction:
            alice = handle_in(transaction, "alice")
            for item in transaction.templates_of(alice):
                # As much as ten frames of a real embedder make: rows that do not fit on one page.
                transaction.move_template(alice, item.slot, transaction.open_template(alice, item.slot), features(1, 10, 192))
        keep(vault, "alice", 1, 2, 3)
        enrol(vault, "bob", 8)
        keep(vault, "bob", 4)
        done = vault.erase("alice", erased)
        assert done is not None
        kinds = [mark.what for mark in done.marks]
        assert {kind: kinds.count(kind) for kind in set(kinds)} == {
            "wrapped-key": 1,
            "profile": 1,
            "template": 3,
            "features": 3,
            "sample": 3,
        }
        inspection = vault.inspection()
        inspection.empty_log()
        expected = Expected(envelopes=inspection.envelopes(), is_current_keystore=inspection.is_current_keystore)

        class Receipt:
            marks = done.marks

        report = scan(home, needles_of_receipt(Receipt()), expected)  # type: ignore[arg-type]
        assert report.findings == ()
        assert report.verdict is Verdict.CLEAN
        assert samples_of(vault, "bob")
    # And the scan would have seen them.
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "notes").write_bytes(done.marks[-1].prefix + bytes(40))
    report = scan(home, needles_of_receipt(Receipt()), expected, also=[copy])  # type: ignore[arg-type]
    assert Trace.SAMPLE in {finding.trace for finding in report.findings}


def test_erasing_one_template_takes_its_features_and_keys_the_rest_anew(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 2, 4)
        keep(vault, "alice", 1)
        alice = handle_of(vault, "alice")
        with vault.transaction(durable=False) as transaction:
            first, second = transaction.templates_of(alice)
            old = transaction._features_row(second.slot)[4]
        vault.shred(lambda item: item.drop_templates(alice, [first.slot]), lambda _: [])
        with vault.transaction(durable=False) as transaction:
            assert transaction._tables.features == {second.slot}
            assert transaction._features_row(second.slot)[4] != old
            kept = transaction.features(alice, second.slot)
            assert kept is not None
            assert (kept.rows == features(4).rows).all()
        assert len(samples_of(vault, "alice")) == 1
        vault.verify()


@pytest.mark.parametrize(
    "rows",
    [np.zeros((0, 3), np.float32), np.zeros(3, np.float32), np.zeros((2, 3)), np.full((2, 3), np.nan, np.float32)],
)
def test_features_are_finite_rows(rows: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ValueError, match="features are"):
        Features(rows, "a" * 64)


def test_values_hide_their_numbers_and_refuse_what_they_are_not() -> None:
    made = sample(1)
    assert "pixels" not in repr(made)
    assert repr(features(1)) == f"Features(frames=2, base={features(1).base[:12]})"
    for pixels, vector, base, kind in (
        (np.zeros((112, 112), np.uint8), made.features, made.base, "day"),
        (made.pixels, np.full(3, np.inf, np.float32), made.base, "day"),
        (made.pixels, made.features, "not hexadecimal", "day"),
        (made.pixels, made.features, made.base, "Day time"),
    ):
        with pytest.raises(ValueError, match=r"sample|features|base|kind"):
            TrainingSample(pixels, vector, base, kind, "urn:uuid:s", START)
    assert Purpose.FEDERATED_TRAINING.value == "federated-training"
