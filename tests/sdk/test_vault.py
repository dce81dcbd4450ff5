"""The vault from the outside: what is put in comes out, whole or not at all, for threads and across openings."""

import stat
import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekeep.audit import AuditEvent
from facekeep.clock import ManualClock
from facekeep.consent import Lifecycle, Purpose, verify_chain
from facekeep.errors import ConsentError, EnrolmentError, VaultError
from facekeep.keys import KeyFile
from facekeep.vault import SQLiteVault
from tests.sdk.vault_scenes import (
    CONTRACT,
    START,
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
    template,
    unit_vector,
)


def test_what_was_put_in_comes_out_after_a_restart(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        populate(vault)
        before = content(vault)
        vault.verify()
    with reopen(tmp_path / "home") as vault:
        assert content(vault) == before
        vault.verify()
    names = [name for _, name, *_ in before["subjects"]]
    counts = [len(templates) for _, _, _, templates, *_ in before["subjects"]]
    assert names == ["alice", "bob", "carol"]
    assert counts == [1, 2, 0]


def test_vectors_come_back_bit_for_bit_and_in_order_of_enrolment(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        handle = enrol(vault, "alice", 9, 4, 7, dimension=256)
        with vault.transaction() as transaction:
            found = transaction.open_templates(handle, CONTRACT)
            assert transaction.open_templates(handle, "another contract") == ()
            assert transaction.reference_count(handle) == transaction.reference_count(handle, CONTRACT) == 3
            assert transaction.reference_count(handle, "another contract") == 0
            assert transaction.contracts() == {CONTRACT: 3}
    assert [item.vector.tobytes() for item in found] == [unit_vector(seed, 256).tobytes() for seed in (4, 7, 9)]
    assert [item.enrolled_at - START for item in found] == [timedelta(seconds=s, microseconds=s) for s in (4, 7, 9)]


def test_only_the_owner_can_reach_the_files(tmp_path: Path) -> None:
    with create(tmp_path / "deep" / "home") as vault:
        populate(vault)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep" / "home").iterdir()}
        assert stat.S_IMODE((tmp_path / "deep" / "home").stat().st_mode) == 0o700
        assert modes == dict.fromkeys(("vault.db", "vault.db-wal", "vault.db-shm", "keys.fkk"), 0o600)
        assert vault.size_on_disk() == sum(path.stat().st_size for path in (tmp_path / "deep" / "home").iterdir())
    assert sorted(path.name for path in (tmp_path / "deep" / "home").iterdir()) == ["keys.fkk", "vault.db"]


def test_finding_subjects(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        enrol(vault, "alice", 1)
        with vault.transaction() as transaction:
            handle = transaction.find_subject("alice")
            assert handle is not None
            assert transaction.find_subject("Alice") is None
            assert transaction.read_subject(handle.slot) == handle
            assert code_of(lambda: transaction.read_subject(99)) == "enrolment.not_enrolled"
            assert code_of(lambda: transaction.find_subject(" alice")) == "vault.invalid_identifier"
            with pytest.raises(ValueError, match="exists"):
                transaction.create_subject("alice")
            # Two pseudonyms that do not show each other, and neither shows the name.
            assert len({handle.principal_id, handle.commitment}) == 2
            assert "alice" not in repr(handle)


def test_the_same_name_in_two_vaults_or_twice_in_one_has_other_pseudonyms(tmp_path: Path) -> None:
    with create(tmp_path / "one") as one, create(tmp_path / "two") as two:
        first, second = enrol(one, "alice", 1), enrol(two, "alice", 1)
        one.erase("alice", erased)
        third = enrol(one, "alice", 1)
    assert (
        len({first.principal_id, second.principal_id, third.principal_id, first.commitment, second.commitment, third.commitment})
        == 6
    )


def test_an_exception_undoes_everything(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        populate(vault)
        before, revision = content(vault), vault.revision

        def fail() -> None:
            with vault.transaction() as transaction:
                handle = transaction.create_subject("dave")
                transaction.append_consent(handle, consent(vault, transaction, handle))
                transaction.add_template(handle, template(5), purpose=Purpose.ENROLMENT, consent_id="urn:c")
                transaction.write_setting("models", b"other")
                transaction.append_event(AuditEvent("template.created"))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert content(vault) == before
        assert vault.revision == revision
        vault.verify()
        enrol(vault, "erin", 6)
        vault.verify()
    with reopen(tmp_path / "home") as vault:
        vault.verify()
        assert [name for _, name, *_ in content(vault)["subjects"]] == ["alice", "bob", "carol", "erin"]


def test_an_event_in_a_transaction_that_fails_is_not_in_the_trail(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:

        def fail() -> None:
            with vault.transaction(durable=False) as transaction:
                transaction.append_event(AuditEvent("verification"))
                raise RuntimeError

        with pytest.raises(RuntimeError):
            fail()
        assert list(vault.trail_entries()) == []
        log_use(vault)
        assert vault.verify_trail().size == 1


def test_consents_come_back_in_order_and_only_the_next_of_the_chain_is_taken(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        enrol(vault, "alice", 1)
        handle, other = enrol(vault, "alice", 2), enrol(vault, "bob", 3)
        with vault.transaction() as transaction:
            transaction.append_consent(handle, consent(vault, transaction, handle, Lifecycle.WITHDRAWN))
            chain = transaction.consents(handle)
            records = verify_chain(chain, handle.principal_id, vault.device_key.public_bytes)
            assert [record.state for record in records] == [Lifecycle.GIVEN, Lifecycle.RENEWED, Lifecycle.WITHDRAWN]
            for wrong in (chain[-1], chain[0], consent(vault, transaction, other)):
                with pytest.raises(ConsentError):
                    transaction.append_consent(handle, wrong)
            assert transaction.consents(handle) == chain


def test_the_trail_is_dated_by_the_vault_s_clock_and_never_backwards(tmp_path: Path) -> None:
    clock = ManualClock(START)
    with SQLiteVault.create(tmp_path / "home", fast_passphrase(), clock=clock) as vault:
        with vault.transaction(durable=False) as transaction:
            assert transaction.last_event_time is None
        log_use(vault)
        clock.advance(timedelta(hours=-1))
        log_use(vault)
        with vault.transaction(durable=False) as transaction:
            assert transaction.last_event_time == START
        report = vault.verify_trail()
    assert (report.size, report.first_time, report.last_time) == (2, START, START)


def test_the_revision_changes_with_the_tables_and_not_with_the_trail(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        seen = [vault.revision]

        def moved() -> bool:
            seen.append(vault.revision)
            return seen[-1] != seen[-2]

        enrol(vault, "alice", 1)
        assert moved()
        log_use(vault)
        assert not moved()
        with vault.transaction() as transaction:
            transaction.append_event(AuditEvent("key.rotated"))
        assert not moved()
        with vault.transaction() as transaction:
            transaction.find_subject("alice")
        assert not moved()
        with vault.transaction() as transaction:
            transaction.write_setting("models", b"1")
        assert moved()
        with vault.transaction() as transaction:
            transaction.write_setting("models", b"2")
            assert transaction.revision == seen[-1]
        assert moved()
        vault.rotate_keys()
        assert moved()
        vault.erase("nobody", erased)
        assert not moved()
        vault.erase("alice", erased)
        assert moved()


def test_a_gallery_is_the_same_templates_as_one_by_one(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        for number in range(30):
            enrol(vault, f"person {number}", *range(100 + 3 * number, 100 + 3 * number + number % 4))
        enrol(vault, "person 3", 1000)
        enrol(vault, "stranger", 2000, contract_id="d" * 64)
        with vault.transaction(durable=False) as transaction:
            expected = Counter(
                (handle.slot, item.vector.tobytes())
                for handle in transaction.subjects()
                for item in transaction.open_templates(handle, CONTRACT)
            )
            rows = transaction.open_gallery(CONTRACT)
            some = transaction.open_gallery(CONTRACT, {3, 5, 999})
            none = transaction.open_gallery("e" * 64)
        assert Counter(zip(rows.slots.tolist(), (row.tobytes() for row in rows.vectors), strict=True)) == expected
        assert set(some.slots.tolist()) == {3, 5}
        assert len(some.slots) == 3 + 1 + 1
        assert (none.vectors.shape, none.slots.shape) == ((0, 0), (0,))
        assert rows.vectors.dtype == np.float32
        assert rows.vectors.flags.owndata
        assert rows.vectors.flags.writeable
        assert rows.revision == vault.revision
        assert "0." not in repr(rows)


def test_what_needs_a_durable_transaction_is_refused_in_another(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        handle = enrol(vault, "alice", 1)
        with vault.transaction(durable=False) as transaction:
            for write in (
                lambda: transaction.create_subject("bob"),
                lambda: transaction.write_setting("a", b"b"),
                lambda: transaction.add_template(handle, template(2), purpose=Purpose.ENROLMENT, consent_id="urn:c"),
                lambda: transaction.append_consent(handle, consent(vault, transaction, handle)),
            ):
                with pytest.raises(ValueError, match="durable"):
                    write()
        vault.verify()


def test_a_transaction_inside_another_and_one_that_has_ended(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        handle = enrol(vault, "alice", 1)
        with vault.transaction() as transaction:
            assert code_of(lambda: vault.transaction().__enter__()) == "vault.busy"
            assert code_of(lambda: vault.erase("alice", erased)) == "vault.busy"
            assert code_of(vault.verify) == "vault.busy"
        assert code_of(lambda: transaction.find_subject("alice")) == "vault.closed"
        assert code_of(lambda: transaction.open_gallery(CONTRACT)) == "vault.closed"
        assert code_of(lambda: transaction.consents(handle)) == "vault.closed"


def test_a_closed_vault_says_so(tmp_path: Path) -> None:
    vault = create(tmp_path / "home")
    vault.close()
    vault.close()
    for use in (
        lambda: vault.transaction().__enter__(),
        lambda: vault.revision,
        lambda: vault.erase("alice", erased),
        vault.rotate_keys,
        vault.verify,
        vault.verify_trail,
        vault.trail_note,
        lambda: list(vault.trail_entries()),
    ):
        assert code_of(use) == "vault.closed"


def test_creating_twice_and_opening_nothing(tmp_path: Path) -> None:
    assert not SQLiteVault.exists(tmp_path)
    assert code_of(lambda: reopen(tmp_path)) == "vault.not_found"
    create(tmp_path).close()
    assert SQLiteVault.exists(tmp_path)
    assert code_of(lambda: create(tmp_path)) == "vault.already_exists"


def test_a_creation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    provider = KeyFile(tmp_path / "no" / "such" / "key")
    assert code_of(lambda: SQLiteVault.create(tmp_path / "home", provider, clock=ManualClock(START))) == "vault.io"
    assert list((tmp_path / "home").iterdir()) == []
    create(tmp_path / "home").close()


def test_a_keystore_without_its_vault_is_kept_if_it_has_served(tmp_path: Path) -> None:
    create(tmp_path).close()
    (tmp_path / "vault.db").unlink()
    # It has served nothing: what a crash while creating leaves behind.
    with create(tmp_path) as vault:
        populate(vault)
    (tmp_path / "vault.db").unlink()
    keys = (tmp_path / "keys.fkk").read_bytes()
    assert code_of(lambda: create(tmp_path)) == "vault.already_exists"
    assert (tmp_path / "keys.fkk").read_bytes() == keys
    # Damaged it may still be all there is; of no bytes it never held a key.
    (tmp_path / "keys.fkk").write_bytes(keys[:-1])
    assert code_of(lambda: create(tmp_path)) == "vault.already_exists"
    (tmp_path / "keys.fkk").write_bytes(b"")
    create(tmp_path).close()


def test_wrong_keys_and_mixed_files_do_not_open(tmp_path: Path) -> None:
    with create(tmp_path / "one") as one, create(tmp_path / "two") as two:
        populate(one)
        populate(two)
    wrong = fast_passphrase("wrong horse battery")
    assert code_of(lambda: SQLiteVault.open(tmp_path / "one", wrong, clock=ManualClock(START))) == "vault.wrong_key"
    mine = (tmp_path / "one" / "keys.fkk").read_bytes()
    (tmp_path / "one" / "keys.fkk").write_bytes((tmp_path / "two" / "keys.fkk").read_bytes())
    assert code_of(lambda: reopen(tmp_path / "one")) == "vault.corrupt"
    (tmp_path / "one" / "keys.fkk").write_bytes(mine)
    reopen(tmp_path / "one").close()


def test_many_threads_share_one_vault(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for step in range(5):
                    enrol(vault, f"person {number} {step}", 10 * number + step)
                    log_use(vault)
                    with vault.transaction(durable=False) as transaction:
                        transaction.open_gallery(CONTRACT)
                vault.erase(f"person {number} 0", erased)
            except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        vault.verify()
        assert len(content(vault)["subjects"]) == 24
        assert vault.verify_trail().size == 6 * 11


def test_the_trail_is_read_in_batches_as_it_stood_at_the_start(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        with vault.transaction(durable=False) as transaction:
            for number in range(1200):
                transaction.append_event(AuditEvent("verification", details={"references": number}))
        entries = vault.trail_entries()
        first = next(entries)
        log_use(vault)
        assert first.startswith(b'{"details":{"references":0}')
        assert len(list(entries)) == 1199
        assert vault.verify_trail().size == 1201


def enrol_and_fail(vault: SQLiteVault, name: str) -> None:
    with vault.transaction() as transaction:
        handle = transaction.find_subject(name) or transaction.create_subject(name)
        transaction.add_template(handle, template(1), purpose=Purpose.ENROLMENT, consent_id="urn:c")
        raise RuntimeError


steps = st.lists(
    st.one_of(
        st.tuples(st.just("enrol"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("erase"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("fail"), st.integers(0, 5), st.just(1)),
        st.tuples(st.just("set"), st.integers(0, 2), st.integers(0, 9)),
        st.tuples(st.just("rotate"), st.just(0), st.just(0)),
        st.tuples(st.just("use"), st.just(0), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_any_history_leaves_what_a_plain_dictionary_would(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    home = tmp_path_factory.mktemp("history")
    vault, people, values = create(home), dict[str, list[bytes]](), dict[str, bytes]()
    for number, (step, who, count) in enumerate(steps):
        name = f"person {who}"
        if step == "enrol":
            seeds = [100 * number + item for item in range(count)]
            enrol(vault, name, *seeds)
            people.setdefault(name, []).extend(unit_vector(seed).tobytes() for seed in seeds)
        elif step == "erase":
            counts = vault.erase(name, erased)
            gone = people.pop(name, None)
            assert (None if counts is None else counts.references) == (None if gone is None else len(gone))
        elif step == "fail":
            with pytest.raises(RuntimeError):
                enrol_and_fail(vault, name)
        elif step == "set":
            values[f"setting {who}"] = bytes([count])
            with vault.transaction() as transaction:
                transaction.write_setting(f"setting {who}", bytes([count]))
        elif step == "rotate":
            vault.rotate_keys()
        elif step == "use":
            log_use(vault)
        else:
            vault.close()
            vault = reopen(home)
    vault.verify()
    with vault.transaction() as transaction:
        found = {
            handle.name: [item.vector.tobytes() for item in transaction.open_templates(handle, CONTRACT)]
            for handle in transaction.subjects()
        }
        assert found == people
        assert {name: transaction.read_setting(name) for name in values} == values
        assert transaction.read_setting("never set") is None
    vault.close()


def test_a_handle_kept_from_before_an_erasure_reaches_nobody_else(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        old = enrol(vault, "alice", 1)
        vault.erase("alice", erased)
        new = enrol(vault, "mallory", 2)
        assert new.slot == old.slot, "the slot is used again, or this test shows nothing"
        again = enrol(vault, "alice", 3)
        with vault.transaction() as transaction:
            for act in (
                lambda: transaction.open_templates(old, CONTRACT),
                lambda: transaction.consents(old),
                lambda: transaction.reference_count(old),
                lambda: transaction.add_template(old, template(4), purpose=Purpose.ENROLMENT, consent_id="urn:c"),
            ):
                with pytest.raises(EnrolmentError):
                    act()
            assert len(transaction.open_templates(again, CONTRACT)) == 1


def test_a_busy_vault_says_so_after_the_timeout(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault, reopen(tmp_path / "home", busy_timeout_seconds=0.05) as other:
        with vault.transaction():
            assert code_of(lambda: log_use(other)) == "vault.busy"
            with pytest.raises(VaultError):
                reopen(tmp_path / "home", busy_timeout_seconds=0.05)
        log_use(other)


def test_a_handle_from_before_an_erasure_does_not_reach_the_same_name_enrolled_anew(tmp_path: Path) -> None:
    with create(tmp_path / "home") as vault:
        old = enrol(vault, "alice", 1)
        vault.erase("alice", erased)
        new = enrol(vault, "alice", 2)
        assert (new.slot, new.name) == (old.slot, old.name)
        with vault.transaction() as transaction:
            assert len(transaction.open_templates(new, CONTRACT)) == 1
            with pytest.raises(EnrolmentError):
                transaction.open_templates(old, CONTRACT)
