"""Erasure: who was erased stays erased, in copies too, and nothing on the disk says who anybody is."""

import base64
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from facekeep.audit import AuditEvent
from facekeep.consent import ConsentRecord, Lifecycle
from facekeep.errors import FacekeepError, VaultError
from facekeep.keys import Anchor, Keystore
from facekeep.randomness import SystemRandomness
from facekeep.sealing import DataKey, DataKeyContext
from facekeep.vault import ErasedCounts
from tests.sdk.vault_scenes import (
    CONTRACT,
    code_of,
    consent,
    content,
    create,
    enrol,
    erased,
    fast_passphrase,
    log_use,
    populate,
    reopen,
    unit_vector,
)


def rows_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def present_keys(home: Path) -> Keystore:
    return Keystore.open(home / "keys.fkk", fast_passphrase(), randomness=SystemRandomness())


def test_erasing_leaves_the_others_and_the_consent_record(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        populate(vault)
        before = {name: kept for _, name, _, *kept in content(vault)["subjects"]}
        with vault.transaction() as transaction:
            bob = transaction.find_subject("bob")
            assert bob is not None
        assert vault.erase("bob", erased) == ErasedCounts(references=2, epoch=2)
        after = {name: kept for _, name, _, *kept in content(vault)["subjects"]}
        assert after == {name: before[name] for name in ("alice", "carol")}
        assert vault.erase("bob", erased) is None
        vault.verify()
    with reopen(tmp_path) as vault:
        assert {name for _, name, *_ in content(vault)["subjects"]} == {"alice", "carol"}
    principals = [ConsentRecord.parse(body).principal_id for (body,) in rows_of(tmp_path / "vault.db", "SELECT body FROM consents")]
    assert bob.principal_id in principals


def test_the_withdrawal_is_recorded_in_the_same_transaction_or_not_at_all(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 1)
        seen = []

        def withdraw(transaction: Any, handle: Any) -> None:
            transaction.append_consent(handle, consent(vault, transaction, handle, Lifecycle.WITHDRAWN))
            seen.append(handle)

        def fail(references: int, epoch: int) -> AuditEvent:
            raise RuntimeError

        before = content(vault)
        with pytest.raises(RuntimeError):
            vault.erase("alice", fail, before=withdraw)
        assert content(vault) == before
        assert vault.erase("alice", erased, before=withdraw) == ErasedCounts(1, 2)
        states = [ConsentRecord.parse(body).state for (body,) in vault_bodies(tmp_path)]
        assert states == [Lifecycle.GIVEN, Lifecycle.WITHDRAWN]
        assert len(seen) == 2
        vault.verify()


def vault_bodies(home: Path) -> list[tuple[Any, ...]]:
    return rows_of(home / "vault.db", "SELECT body FROM consents ORDER BY slot")


def test_an_older_copy_does_not_open_with_the_keystore_of_today(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "yesterday.db"
    with create(home) as vault:
        populate(vault)
    shutil.copy(home / "vault.db", copy)
    with reopen(home) as vault:
        vault.erase("bob", erased)
    # The head refuses the copy ...
    shutil.copy(home / "vault.db", tmp_path / "today.db")
    shutil.copy(copy, home / "vault.db")
    assert code_of(lambda: reopen(home)) == "vault.rolled_back"
    # ... and one who goes round the head finds no key: neither of bob nor, without today's rows, of anybody.
    secrets = present_keys(home).secrets
    assert set(secrets.wrap_keys) == {2}
    old = rows_of(copy, "SELECT index_tag, epoch, wrapped_key FROM subjects")
    assert len(old) == 3
    for tag, epoch, wrapped in old:
        for key in secrets.wrap_keys.values():
            for claimed in (1, 2):
                with pytest.raises(VaultError):
                    DataKey.unwrap(key, wrapped, DataKeyContext(secrets.vault_id, tag, claimed))
            header, nonce, sealed = wrapped[:8], wrapped[8:20], wrapped[20:]
            with pytest.raises(InvalidTag):
                AESGCMSIV(key).decrypt(nonce, sealed, header + DataKeyContext(secrets.vault_id, tag, epoch).associated_data())
    # What the test tries does open rows that are not erased.
    for tag, epoch, wrapped in rows_of(tmp_path / "today.db", "SELECT index_tag, epoch, wrapped_key FROM subjects"):
        assert len(DataKey.unwrap(secrets.wrap_keys[epoch], wrapped, DataKeyContext(secrets.vault_id, tag, epoch)).key) == 32


def test_an_older_keystore_put_beside_the_vault_of_today_opens_nothing(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        populate(vault)
    old = (tmp_path / "keys.fkk").read_bytes()
    with reopen(tmp_path) as vault:
        vault.erase("bob", erased)
    (tmp_path / "keys.fkk").write_bytes(old)
    assert code_of(lambda: reopen(tmp_path)) == "vault.rolled_back"


def test_any_earlier_state_of_the_file_is_rolled_back(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 1)
    old = (tmp_path / "vault.db").read_bytes()
    with reopen(tmp_path) as vault:
        enrol(vault, "bob", 2)
    (tmp_path / "vault.db").write_bytes(old)
    assert code_of(lambda: reopen(tmp_path)) == "vault.rolled_back"


def test_losing_only_usage_entries_since_the_last_durable_commit_is_no_rollback(tmp_path: Path) -> None:
    # What a loss of power may do: it is the price of not waiting for the disk at every verification.
    with create(tmp_path) as vault:
        enrol(vault, "alice", 1)
    old = (tmp_path / "vault.db").read_bytes()
    with reopen(tmp_path) as vault:
        log_use(vault)
    (tmp_path / "vault.db").write_bytes(old)
    with reopen(tmp_path) as vault:
        assert vault.verify_trail().size == 1


def test_rotation_changes_every_wrapped_key_and_nothing_a_caller_sees(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        populate(vault)
        before, wrapped = content(vault)["subjects"], rows_of(tmp_path / "vault.db", "SELECT epoch, wrapped_key FROM subjects")
        assert vault.rotate_keys() == 2
        assert vault.rotate_keys() == 3
        assert content(vault)["subjects"] == before
        fresh = rows_of(tmp_path / "vault.db", "SELECT epoch, wrapped_key FROM subjects")
        assert {epoch for epoch, _ in wrapped} == {1}
        assert {epoch for epoch, _ in fresh} == {3}
        vault.verify()
    assert set(present_keys(tmp_path).secrets.wrap_keys) == {3}
    with reopen(tmp_path) as vault:
        assert content(vault)["subjects"] == before


@pytest.mark.parametrize("moment", ["after the key was added", "after the commit"])
def test_a_crash_inside_an_erasure_is_finished_or_discarded_by_the_next_opening(tmp_path: Path, moment: str) -> None:
    with create(tmp_path) as vault:
        populate(vault)
        if moment == "after the key was added":
            vault._keystore.add_wrap_key(2)
        else:
            # Step 3 is kept from happening: what is on the disk then is what a crash would leave.
            settle, vault._keystore.settle = vault._keystore.settle, lambda *_, **__: None  # type: ignore[method-assign]
            vault.erase("bob", erased)
            vault._keystore.settle = settle  # type: ignore[method-assign]
            assert not vault.is_anchored
    assert set(present_keys(tmp_path).secrets.wrap_keys) == {1, 2}
    with reopen(tmp_path) as vault:
        names = {name for _, name, *_ in content(vault)["subjects"]}
        assert vault.is_anchored
        vault.verify()
    left = set(present_keys(tmp_path).secrets.wrap_keys)
    assert (names, left) == (({"alice", "bob", "carol"}, {1}) if moment == "after the key was added" else ({"alice", "carol"}, {2}))


def test_a_settling_that_failed_is_made_up_for_by_the_next_commit(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        populate(vault)
        settle, calls = vault._keystore.settle, []

        def refuse(epoch: int, anchor: Anchor, *, discard_later: bool = False) -> None:
            calls.append(epoch)
            raise VaultError("vault.disk_full", "The disk is full.")

        vault._keystore.settle = refuse  # type: ignore[method-assign]
        assert code_of(lambda: vault.erase("bob", erased)) == "vault.disk_full"
        enrol(vault, "dave", 4)
        assert not vault.is_anchored
        # Asking again does not pretend that it is done.
        assert code_of(lambda: vault.erase("bob", erased)) == "vault.disk_full"
        vault._keystore.settle = settle  # type: ignore[method-assign]
        assert vault.erase("bob", erased) is None
        assert vault.is_anchored
        assert set(present_keys(tmp_path).secrets.wrap_keys) == {2}
        enrol(vault, "erin", 5)
        vault.verify()
        assert {name for _, name, *_ in content(vault)["subjects"]} == {"alice", "carol", "dave", "erin"}
        assert len(calls) == 3


def spellings(secret: bytes) -> list[bytes]:
    plain = base64.b64encode(secret)
    # Base64 inside a longer text may begin at any of three places: compare what is common to each.
    shifted = [base64.b64encode(b"\0" * shift + secret)[4:-4] for shift in (1, 2)]
    return [
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        plain.rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
        *shifted,
    ]


def whole_home(home: Path) -> bytes:
    return b"\0".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())


def test_no_name_no_vector_no_salt_and_no_key_lies_in_any_file(tmp_path: Path) -> None:
    names = ["Ann-Sofie Lindqvist", "subject-4711", "Ann-Sofie Lindqvist-Ek"]
    with create(tmp_path) as vault:
        for number, name in enumerate(names):
            enrol(vault, name, 10 + number, dimension=128)
        log_use(vault)
        with vault.transaction() as transaction:
            salts, keys = [], []
            for name in names:
                handle = transaction.find_subject(name)
                assert handle is not None
                opened = transaction._open(handle.slot)
                keys.append(opened.data_key.key)
                row = transaction._store.row("SELECT index_tag, profile FROM subjects WHERE slot = ?", handle.slot)
                profile = AESGCMSIV(opened.data_key.key).decrypt(
                    row[1][8:20],
                    row[1][20:],
                    row[1][:8] + b"\0\0\0\x13facekeep profile v1\0\0\0\x20" + vault.vault_id.encode() + b"\0\0\0\x20" + row[0],
                )
                salts.append(profile[:32])
                assert profile[32:].decode() == name
        held = vault._keystore.secrets
        secrets = [*salts, *keys, *held.wrap_keys.values(), held.device_seed, held.index_key, held.head_key]
        vectors = [unit_vector(10 + number, 128).tobytes() for number in range(3)]
        sought = [name.encode() for name in names]
        # A stretch of a vector is as bad as the whole of it.
        sought += [vector[start : start + 16] for vector in vectors for start in range(0, len(vector) - 16, 4)]
        vault.erase(names[0], erased)
        for moment in ("open, with its write-ahead log", "closed"):
            disk = whole_home(tmp_path)
            for secret in sought + secrets:
                for spelling in spellings(secret):
                    assert spelling not in disk, moment
            assert vault.vault_id.encode() in disk, "the search does find what is there"
            vault.close()


def test_the_rows_of_the_erased_are_gone_from_the_file_itself(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        enrol(vault, "alice", 1)
        enrol(vault, "bob", 2)
        rows = [
            *rows_of(tmp_path / "vault.db", "SELECT wrapped_key, profile, index_tag FROM subjects WHERE slot = 0")[0],
            *rows_of(tmp_path / "vault.db", "SELECT envelope, reference_id FROM templates WHERE slot = 0")[0],
        ]
        assert all(item in whole_home(tmp_path) for item in rows)
        vault.erase("alice", erased)
        disk = whole_home(tmp_path)
        assert [item for item in rows if item in disk] == []


def test_no_secret_and_no_name_in_any_repr_or_message(tmp_path: Path) -> None:
    with create(tmp_path) as vault:
        handle = enrol(vault, "Ann-Sofie Lindqvist", 1)
        shown = [repr(vault), repr(handle)]
        with vault.transaction() as transaction:
            opened = transaction._open(handle.slot)
            shown += [repr(transaction), repr(opened), repr(opened.data_key), repr(transaction.open_gallery(CONTRACT))]
            shown += map(repr, transaction.open_templates(handle, CONTRACT))
        vault._store.run("UPDATE subjects SET wrapped_key = zeroblob(100)")
        with pytest.raises(FacekeepError) as caught, vault.transaction() as transaction:
            transaction.find_subject("Ann-Sofie Lindqvist")
        error: BaseException | None = caught.value
        while error is not None:
            shown += [str(error), repr(error)]
            error = error.__cause__
        held = vault._keystore.secrets
    text = " ".join(shown)
    keys = [opened.data_key.key, held.head_key, held.device_seed]
    for secret in ["Lindqvist", *(key.hex() for key in keys), *(str(key)[2:12] for key in keys), str(unit_vector(1)[0])]:
        assert secret not in text
