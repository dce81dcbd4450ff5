"""Under the two-person rule a result stays sealed until two different operators have confirmed it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from facekeep import Device, FacekeepError, Purpose, Settings
from facekeep.audit.trail import parse_entry
from facekeep.biometric import Frame, Identification
from facekeep.canonical import to_canonical
from facekeep.clock import ManualClock
from facekeep.confirmation import (
    ConfirmationRule,
    PendingIdentification,
    Roster,
    SealedIdentification,
    require_result,
    sign_confirmation,
)
from facekeep.errors import ConfirmationError
from facekeep.flows.sealing_results import commit_to_input, read_waiting
from facekeep.signing import DeviceKey
from tests.flows.conftest import ALL, CountedModels, CountingCamera, enrol, picture
from tests.flows.test_log_of_a_device import POLICY, audited

KEYS = {f"op-{number}": DeviceKey(bytes([number]) * 32) for number in (1, 2, 3)}
STRANGER = 900


def events(device: Device) -> list[tuple[str, str]]:
    return [(fields["event"], fields["outcome"]) for fields in map(parse_entry, device.trail_entries())]


def last(device: Device) -> dict[str, object]:
    return parse_entry(device.trail_entries()[-1])


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(FacekeepError) as caught:
        action()
    return caught.value.code


@pytest.fixture
def ruled(open_device: Callable[..., Device]) -> Device:
    device = open_device(settings=Settings(target_fpir=0.05, confirmations=2))
    for name in ("op-1", "op-2"):
        device.operators.add(name, KEYS[name].public_bytes)
    enrol(device, "alice", 1)
    enrol(device, "bob", 2)
    return device


def sealed(device: Device, person: int = 1) -> PendingIdentification:
    pending = device.identify(picture(person, 3))
    assert isinstance(pending, PendingIdentification)
    return pending


def confirm(device: Device, pending: PendingIdentification, *names: str) -> None:
    for name in names:
        device.confirmations.confirm(pending.id, name, sign_confirmation(KEYS[name], pending.commitment))


@pytest.mark.parametrize(("person", "outcome"), [(1, "identified"), (STRANGER, "unknown")])
def test_two_operators_open_what_one_cannot(ruled: Device, clock: ManualClock, person: int, outcome: str) -> None:
    clock.advance(timedelta(seconds=3))
    pending = sealed(ruled, person)
    entry = last(ruled)
    assert entry["event"] == "identification.sealed"
    assert entry["subject"] is None
    assert "result" not in entry["details"]
    assert refused(lambda: ruled.confirmations.open(pending.id)) == "confirmation.pending"
    confirm(ruled, pending, "op-1")
    assert refused(lambda: ruled.confirmations.open(pending.id)) == "confirmation.pending"
    assert refused(lambda: confirm(ruled, pending, "op-1")) == "confirmation.same_operator"
    assert last(ruled)["outcome"] == "confirmation.same_operator"
    assert last(ruled)["details"] == {"pending": pending.id, "operator": "op-1"}
    confirm(ruled, pending, "op-2")
    opened = ruled.confirmations.open(pending.id)
    found = opened.identification
    assert found.outcome == outcome
    assert [candidate.subject for candidate in found.candidates] == (["alice"] if outcome == "identified" else [])
    assert opened.operators == ("op-1", "op-2")
    details = last(ruled)["details"]
    assert isinstance(details, dict)
    # The four fields of Article 12(3) of the AI Act.
    assert {"started", "ended", "database", "input", "operators"} <= details.keys()
    assert details["operators"] == "op-1,op-2"
    assert details["input"] == opened.input_commitment == commit_to_input(_frame(person), opened.input_salt)
    assert commit_to_input(_frame(person), b"\0" * 32) != opened.input_commitment
    assert (last(ruled)["subject"] is not None) == (outcome == "identified")
    # Once only.
    assert refused(lambda: ruled.confirmations.open(pending.id)) == "confirmation.unknown"
    assert ruled.confirmations.pending() == ()
    ruled.verify_vault()
    ruled.verify_trail()


def _frame(person: int) -> Frame:
    from datetime import UTC, datetime

    return Frame(picture(person, 3), datetime(2026, 11, 21, tzinfo=UTC))


def test_the_same_result_as_without_the_rule(ruled: Device, open_device: Callable[..., Device]) -> None:
    pending = sealed(ruled)
    confirm(ruled, pending, "op-1", "op-2")
    opened = ruled.confirmations.open(pending.id).identification
    ruled.close()
    plain = require_result(open_device().identify(picture(1, 3)))
    assert isinstance(plain, Identification)
    assert opened == plain


def test_nothing_of_the_candidate_is_seen_before(ruled: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    before = {path: path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()}
    pending, other = sealed(ruled, 1), sealed(ruled, STRANGER)
    with ruled._vault.transaction(durable=False) as transaction:
        waiting = read_waiting(transaction)
        alice = transaction.find_subject("alice")
    assert alice is not None
    secret = waiting[pending.id]
    assert secret.subjects == {alice.commitment}
    # Whoever holds the file cannot tell a hit from a miss: not by what stands in it, and not by its length.
    assert len(to_canonical(secret.to_dict())) == len(to_canonical(waiting[other.id].to_dict()))
    said = repr(pending) + repr(secret) + caplog.text + "".join(map(str, map(parse_entry, ruled.trail_entries()[-2:])))
    for hidden in ("alice", alice.commitment, secret.salt.hex(), "identified"):
        assert hidden not in said
    fresh = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file() and path not in before)
    vault = (tmp_path / "home" / "vault.db").read_bytes() + (tmp_path / "home" / "vault.db-wal").read_bytes() + fresh
    for hidden in (secret.salt, secret.salt.hex().encode(), b'"rates"', b"candidates"):
        assert hidden not in vault
    with pytest.raises(TypeError):
        bool(pending)
    assert refused(lambda: require_result(pending)) == "confirmation.pending"


def test_who_may_not_confirm(ruled: Device) -> None:
    pending = sealed(ruled)
    other = sealed(ruled, 2)
    ruled.operators.add("op-3", KEYS["op-3"].public_bytes)
    signed = sign_confirmation(KEYS["op-1"], pending.commitment)
    cases = {
        "confirmation.unknown_operator": [
            # Enrolled after the search: one operator alone cannot make a second.
            (pending.id, "op-3", sign_confirmation(KEYS["op-3"], pending.commitment)),
            (pending.id, "nobody-1", signed),
        ],
        "confirmation.bad_signature": [
            (pending.id, "op-2", signed),
            (other.id, "op-1", signed),
            (pending.id, "op-1", b""),
            (pending.id, "op-1", bytes(64)),
            (pending.id, "op-1", KEYS["op-1"].sign_note(bytes.fromhex(pending.commitment))),
        ],
        "confirmation.unknown": [("f" * 32, "op-1", signed), ("", "op-1", signed), ("'; --", "op-1", signed)],
    }
    for code, calls in cases.items():
        for call in calls:
            assert refused(lambda call=call: ruled.confirmations.confirm(*call)) == code  # type: ignore[misc]
            assert (last(ruled)["event"], last(ruled)["outcome"]) == ("identification.confirmed", code)
            assert "nobody" not in str(last(ruled))
    assert [item.confirmed_by for item in ruled.confirmations.pending()] == [(), ()]


def test_an_operator_removed_counts_no_more(ruled: Device) -> None:
    pending = sealed(ruled)
    confirm(ruled, pending, "op-1", "op-2")
    ruled.operators.remove("op-2")
    assert refused(lambda: ruled.confirmations.open(pending.id)) == "confirmation.pending"
    # Back under the same name with another key: still not the one who signed.
    ruled.operators.add("op-2", KEYS["op-3"].public_bytes)
    assert refused(lambda: ruled.confirmations.open(pending.id)) == "confirmation.pending"
    assert refused(lambda: ruled.operators.remove("op-9")) == "confirmation.unknown_operator"


def test_the_device_is_no_operator_of_its_own(device: Device) -> None:
    own = bytes.fromhex(device.info().public_key)
    assert refused(lambda: device.operators.add("op-1", own)) == "confirmation.invalid_operator"


def test_a_result_expires_whatever_the_clock_does(ruled: Device, clock: ManualClock) -> None:
    pending = sealed(ruled)
    confirm(ruled, pending, "op-1", "op-2")
    clock.advance(timedelta(hours=1))
    assert refused(lambda: ruled.confirmations.open(pending.id)) == "confirmation.expired"
    assert events(ruled)[-2:] == [("identification", "confirmation.expired"), ("identification.destroyed", "ok")]
    assert refused(lambda: ruled.confirmations.open(pending.id)) == "confirmation.unknown"
    second = sealed(ruled)
    clock.advance(timedelta(minutes=59))
    ruled.operators.add("op-3", KEYS["op-3"].public_bytes)
    clock.advance(timedelta(hours=-5))
    confirm(ruled, second, "op-1")
    clock.advance(timedelta(hours=6))
    assert ruled.confirmations.pending() == ()


def test_withdrawal_and_erasure_destroy_what_waits(ruled: Device) -> None:
    about_alice, about_bob = sealed(ruled, 1), sealed(ruled, 2)
    for pending in (about_alice, about_bob):
        confirm(ruled, pending, "op-1", "op-2")
    # The wrap key is rotated; what is about others is still there, under the new one.
    ruled.withdraw("alice")
    assert [item.id for item in ruled.confirmations.pending()] == [about_bob.id]
    assert ("identification.destroyed", "ok") in events(ruled)
    assert refused(lambda: ruled.confirmations.open(about_alice.id)) == "confirmation.unknown"
    ruled.rotate_keys()
    assert [item.id for item in ruled.confirmations.pending()] == [about_bob.id]
    # Consent to identification ends, but not to enrolment: the result must not be seen any more.
    ruled.consents.withdraw("bob", purposes=[Purpose.IDENTIFICATION])
    assert refused(lambda: ruled.confirmations.open(about_bob.id)) == "confirmation.void"
    assert events(ruled)[-2:] == [("identification.destroyed", "ok"), ("identification", "confirmation.void")]
    assert ruled.confirmations.pending() == ()


def test_a_clock_set_back_destroys_nothing_and_opens_nothing(ruled: Device, clock: ManualClock) -> None:
    pending = sealed(ruled)
    confirm(ruled, pending, "op-1", "op-2")
    clock.advance(timedelta(days=-1))
    assert refused(lambda: ruled.confirmations.open(pending.id)) == "consent.clock_set_back"
    clock.advance(timedelta(days=1, minutes=1))
    assert ruled.confirmations.open(pending.id).identification.outcome == "identified"


def test_without_operators_enough_the_camera_is_not_touched(open_device: Callable[..., Device], models: CountedModels) -> None:
    device = open_device(settings=Settings(confirmations=2))
    device.operators.add("op-1", KEYS["op-1"].public_bytes)
    enrol(device, "alice", 1)
    models.counting.calls.clear()
    camera = CountingCamera(picture(1, 3))
    assert refused(lambda: device.identify(camera)) == "confirmation.too_few_operators"
    assert (camera.grants, models.counting.calls) == ([], [])
    assert (last(device)["event"], last(device)["outcome"]) == ("identification", "confirmation.too_few_operators")


def test_a_rule_that_was_adopted_holds_for_whoever_opens_the_device(open_device: Callable[..., Device]) -> None:
    device = open_device()
    enrol(device, "alice", 1)
    device.confirmations.adopt(2, term=timedelta(minutes=5))
    assert last(device)["details"] == {"kind": "identification", "policy": "confirmations:2,term:300"}
    for name in KEYS:
        device.operators.add(name, KEYS[name].public_bytes)
    device.close()
    again = open_device(settings=Settings(target_fpir=0.05))
    pending = sealed(again)
    assert (pending.required, pending.expires_at - pending.created_at) == (2, timedelta(minutes=5))
    again.close()
    strict = open_device(settings=Settings(target_fpir=0.05, confirmations=3))
    assert sealed(strict).required == 3
    # Three are waited for; what was sealed under two is opened by two, after the device was closed and opened.
    confirm(strict, pending, "op-3", "op-1")
    assert strict.confirmations.open(pending.id).operators == ("op-3", "op-1")


def test_too_many_wait(ruled: Device, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekeep.flows.sealing_results.MOST_WAITING", 2)
    sealed(ruled), sealed(ruled)
    assert refused(lambda: sealed(ruled)) == "confirmation.too_many"
    clock.advance(timedelta(hours=1))
    assert sealed(ruled).confirmed_by == (), "what has expired makes room"


@pytest.mark.parametrize(("number", "term"), [(1, 60), (6, 60), (-1, 60), (True, 60), (2, 0), (2, 86401)])
def test_a_rule_that_cannot_be_kept_is_refused(number: int, term: int) -> None:
    assert refused(lambda: ConfirmationRule(number, timedelta(seconds=term))) == "confirmation.invalid_policy"
    with pytest.raises(ValueError, match="confirmation"):
        Settings(confirmations=number, confirmation_term=timedelta(seconds=term) if term else timedelta(0))


def test_rules_and_rosters_are_read_as_they_were_written(clock: ManualClock) -> None:
    rule = ConfirmationRule(3, timedelta(minutes=2))
    assert ConfirmationRule.parse(rule.to_bytes()) == rule
    for damaged in (b"", b"{}", rule.to_bytes() + b" ", rule.to_bytes().replace(b"3", b"1"), b"[1]"):
        assert refused(lambda data=damaged: ConfirmationRule.parse(data)) == "confirmation.invalid_policy"  # type: ignore[misc]
    roster = Roster().with_operator("op-2", b"\1" * 32, clock.now()).with_operator("op-1", b"\2" * 32, clock.now())
    assert [item.id for item in roster.operators] == ["op-1", "op-2"]
    assert Roster.parse(roster.to_bytes()) == roster
    for damaged in (b"", b"[]", roster.to_bytes()[:-1], roster.to_bytes().replace(b"op-2", b"op-1")):
        assert refused(lambda data=damaged: Roster.parse(data)) == "confirmation.invalid_operator"  # type: ignore[misc]
    for name, key in (("Ann Smith", b"\3" * 32), ("op-1", b"\3" * 32), ("op-3", b"\2" * 32), ("op-3", b""), ("", b"\3" * 32)):
        assert refused(lambda n=name, k=key: roster.with_operator(n, k, clock.now())) == "confirmation.invalid_operator"  # type: ignore[misc]
    with pytest.raises(ConfirmationError):
        sign_confirmation(KEYS["op-1"], "no commitment")


def test_the_commitment_covers_every_field(ruled: Device) -> None:
    pending = sealed(ruled)
    with ruled._vault.transaction(durable=False) as transaction:
        secret = read_waiting(transaction)[pending.id]
    assert SealedIdentification.from_dict(secret.to_dict()) == secret
    changed = [
        replace(secret, id="0" * 32),
        replace(secret, required=0),
        replace(secret, expires_at=secret.expires_at + timedelta(days=1)),
        replace(secret, eligible={**secret.eligible, "op-3": "00"}),
        replace(secret, details={**secret.details, "gallery": 9}),
        replace(secret, result={**secret.result, "outcome": "unknown"}),
        replace(secret, salt=bytes(32)),
    ]
    assert len({item.commitment for item in changed} | {pending.commitment}) == len(changed) + 1


def test_whoever_is_not_searched_is_never_in_a_result(open_device: Callable[..., Device]) -> None:
    device = open_device(settings=Settings(target_fpir=0.05, confirmations=2))
    for name in KEYS:
        device.operators.add(name, KEYS[name].public_bytes)
    enrol(device, "alice", 1, ALL - {Purpose.IDENTIFICATION})
    assert refused(lambda: device.identify(picture(1, 3))) == "consent.none"


def test_an_auditor_of_the_log_finds_nothing_wrong(ruled: Device, clock: ManualClock, tmp_path: Path) -> None:
    ruled.retention.adopt(POLICY)
    for person in (1, STRANGER):
        pending = sealed(ruled, person)
        confirm(ruled, pending, "op-1")
        with pytest.raises(ConfirmationError):
            ruled.confirmations.open(pending.id)
        confirm(ruled, pending, "op-2")
        ruled.confirmations.open(pending.id)
    sealed(ruled)
    ruled.withdraw("alice")
    ruled.operators.remove("op-1")
    ruled.retention.run()
    verdict = audited(ruled, clock, tmp_path / "log")
    assert verdict.is_verified, verdict.render_text()
    assert verdict.events["identification.sealed"] == 3
    assert verdict.events["identification.destroyed"] == 1


def test_the_worked_example_is_what_the_code_writes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "sealed-identification.md").read_text()
    signature = sign_confirmation(DeviceKey(b"\1" * 32), "ab" * 32).hex()
    assert f"{signature[:64]}\n{signature[64:]}\n" in page
