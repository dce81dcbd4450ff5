"""Revocation lists: what was withdrawn elsewhere ends here, older lists are refused, and silence is not consent for ever."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.consent import ConsentPolicy, ControllerKey, Purpose, commitment_of, new_revocation_list, open_revocation_list
from facekeep.consent.revocation import ListHead, good_until
from facekeep.errors import ConsentError, FacekeepError, TrustError
from facekeep.note import sign_note
from tests.sdk.consent_setting import CONTROLLER, ISSUER, LISTS, NOTICE, NOW, PRINCIPAL, Setting, code_of, revocation_note

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "revocation-list.md"
DAY = timedelta(days=1)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.device.consents.set_policy(LISTS)
    return setting


# The format


def test_a_list_reads_back_and_names_only_by_commitment() -> None:
    note = revocation_note(3, {PRINCIPAL: NOW - DAY, "cd" * 32: NOW}, purposes=frozenset({Purpose.VERIFICATION}))
    found = open_revocation_list(note, ISSUER.verifier)
    assert (found.epoch, len(found.entries), found.head.sha256 != "") == (3, 2, True)
    entry = found.entry_for(PRINCIPAL)
    assert entry is not None
    assert (entry.at, entry.purposes) == (NOW - DAY, {Purpose.VERIFICATION})
    assert found.entry_for("ef" * 32) is None
    assert PRINCIPAL.encode() not in note
    # Another list names the same principal otherwise: lists cannot be linked.
    other = open_revocation_list(revocation_note(4, {PRINCIPAL: NOW}), ISSUER.verifier)
    assert {entry.commitment for entry in found.entries}.isdisjoint({entry.commitment for entry in other.entries})
    assert ListHead.parse(found.head.to_bytes()) == found.head


def test_every_byte_of_a_list_counts() -> None:
    note = revocation_note(1, {PRINCIPAL: NOW})
    for place in range(len(note)):
        for flip in (0x01, 0x20):
            changed = note[:place] + bytes([note[place] ^ flip]) + note[place + 1 :]
            with pytest.raises(TrustError):
                open_revocation_list(changed, ISSUER.verifier)
    for size in range(len(note)):
        with pytest.raises(TrustError):
            open_revocation_list(note[:size], ISSUER.verifier)


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_no_bytes_raise_anything_but_a_typed_error(data: bytes) -> None:
    with pytest.raises(TrustError):
        open_revocation_list(data, ISSUER.verifier)


def _signed(text: str) -> bytes:
    return sign_note(text, ISSUER.verifier.name, ISSUER.key).encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("facekeep.revocation-list/v1", "facekeep.revocation-list/v2"),
        ("epoch 1", "epoch 01"),
        ("epoch 1", "epoch 0"),
        ("epoch 1", "epoch -1"),
        ("epoch 1", "epoch 99999999999999999999"),
        ("entries 2", "entries 1"),
        ("entries 2", "entries 3"),
        ("entries 2", "entries ²"),
        ("salt ", "salt 00"),
        ("issued 2026-11-21T12:00:00.000Z", "issued 2026-12-31T12:00:00.000Z"),
        ("issued 2026-11-21T12:00:00.000Z", "issued 2026-11-21T12:00:00Z"),
        ("issued 2026-11-21T12:00:00.000Z", "issued 2026-11-19T12:00:00.000Z"),
        (ISSUER.verifier.name, "somebody.else"),
        (" *", " everything"),
        (" *", " verification,enrolment"),
        (" *", " *,*"),
        (" *\n", " * \n"),
        ("\nissued", "\n\nissued"),
    ],
)
def test_a_signed_list_of_another_form_is_refused(old: str, new: str) -> None:
    text = revocation_note(1, {PRINCIPAL: NOW - DAY, "cd" * 32: NOW}).decode().rpartition("\n\n")[0] + "\n"
    open_revocation_list(_signed(text), ISSUER.verifier)
    assert old in text
    assert code_of(lambda: open_revocation_list(_signed(text.replace(old, new)), ISSUER.verifier)) == "trust.malformed"


def test_entries_out_of_order_or_twice_are_refused() -> None:
    text = revocation_note(1, {PRINCIPAL: NOW, "cd" * 32: NOW}).decode().rpartition("\n\n")[0] + "\n"
    *head, first, second = text.splitlines()
    for lines in ([*head, second, first], [*head, first, first]):
        note = _signed("\n".join(lines) + "\n")
        assert code_of(lambda note=note: open_revocation_list(note, ISSUER.verifier)) == "trust.malformed"  # type: ignore[misc]


def test_only_the_issuer_signs() -> None:
    impostor = ControllerKey(ISSUER.verifier.name, b"\x66" * 32)
    forged = revocation_note(1, issuer=impostor)
    assert code_of(lambda: open_revocation_list(forged, ISSUER.verifier)) == "trust.bad_signature"
    other = revocation_note(1, issuer=CONTROLLER)
    assert code_of(lambda: open_revocation_list(other, ISSUER.verifier)) == "trust.bad_signature"
    huge = b"x" * (16 * 1024 * 1024 + 1)
    assert code_of(lambda: open_revocation_list(huge, ISSUER.verifier)) == "trust.malformed"
    assert code_of(lambda: revocation_note(0)) == "consent.invalid_request"
    assert code_of(lambda: revocation_note(1, {PRINCIPAL: NOW + DAY})) == "consent.invalid_request"
    assert code_of(lambda: revocation_note(1, days=0)) == "consent.invalid_request"


def test_the_worked_example_of_the_format_page() -> None:
    note = revocation_note(1, {PRINCIPAL: NOW - DAY}, salt=b"\xa0" * 32).decode()
    page = PAGE.read_text()
    assert note.strip() in page, note
    assert str(ISSUER.verifier) in page
    assert commitment_of(b"\xa0" * 32, PRINCIPAL) in page
    (example,) = re.findall(r"^```\n(facekeep\.revocation-list/v1\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert open_revocation_list(example.encode(), ISSUER.verifier).epoch == 1


# On the device


def test_a_listed_subject_is_refused_at_the_next_call_and_erased(setting: Setting) -> None:
    for number, name in enumerate(("alice", "bob")):
        setting.grant(name)
        setting.enrol(name, number)
    assert setting.searchable() == 2
    setting.clock.advance(DAY)
    principal = setting.principal("alice")
    note = revocation_note(1, {principal: setting.clock.now()}, issued_at=setting.clock.now())
    report = setting.device.revocations.import_list(note)
    assert (report.is_new, report.withdrawn, len(report.erasures)) == (True, 1, 1)
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.none"
    assert setting.device.consents.require("bob", "verification")
    assert setting.searchable() == 1
    assert setting.templates() == 1
    with setting.device._vault.transaction(durable=False) as transaction:
        chain = transaction.consent_chains()[principal]
    records = [json.loads(signed.body)["event"] for signed in chain]
    assert [item["state"] for item in records] == ["given", "withdrawn", "erased"]
    assert records[1]["actor"] == {"kind": "controller", "pseudonym": None, "issuer": ISSUER.verifier.name, "epoch": 1}
    events = setting.events()
    assert events[-3:] == ["consent.withdrawn", "revocation.imported", "template.erased"]
    assert setting.device.revocations.newest() == note


def test_single_purposes_end_without_erasing(setting: Setting) -> None:
    setting.grant("alice")
    setting.enrol("alice")
    listed = {setting.principal("alice"): NOW}
    note = revocation_note(1, listed, purposes=frozenset({Purpose.IDENTIFICATION, Purpose.REDACTION}))
    report = setting.device.revocations.import_list(note)
    assert (report.withdrawn, report.erasures) == (1, ())
    assert code_of(lambda: setting.device.consents.require("alice", "identification")) == "consent.withdrawn"
    assert code_of(setting.searchable) == "consent.none"
    assert setting.device.consents.require("alice", "verification")
    # Without enrolment nothing may be kept: whoever withdraws that has withdrawn all of it.
    again = revocation_note(2, listed, purposes=frozenset({Purpose.ENROLMENT}))
    assert len(setting.device.revocations.import_list(again).erasures) == 1
    assert setting.device.subjects() == ()


def test_a_consent_given_after_the_withdrawal_stands(setting: Setting) -> None:
    setting.grant("alice")
    withdrawn_at = NOW + timedelta(hours=1)
    setting.clock.advance(timedelta(hours=2))
    setting.grant("alice")
    note = revocation_note(1, {setting.principal("alice"): withdrawn_at}, issued_at=setting.clock.now())
    assert setting.device.revocations.import_list(note).withdrawn == 0
    assert setting.device.consents.require("alice", "verification")


def test_a_list_again_is_no_error_and_completes_what_was_cut_short(setting: Setting) -> None:
    setting.grant("alice")
    setting.enrol("alice")
    note = revocation_note(1, {setting.principal("alice"): NOW})
    vault = setting.device._vault
    erase = vault.erase

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    vault.erase = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        setting.device.revocations.import_list(note)
    vault.erase = erase  # type: ignore[method-assign]
    # Stopped between the withdrawal and the erasure: nothing matches any more, though the template is still there.
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.withdrawn"
    assert setting.templates() == 1
    report = setting.device.revocations.import_list(note)
    assert (report.is_new, report.withdrawn, len(report.erasures)) == (False, 0, 1)
    assert setting.templates() == 0
    report = setting.device.revocations.import_list(note)
    assert (report.is_new, report.withdrawn, report.erasures) == (False, 0, ())


def test_an_older_list_and_another_of_the_same_epoch_are_refused(setting: Setting) -> None:
    setting.grant("alice")
    setting.device.revocations.import_list(revocation_note(5))
    older = revocation_note(4, issued_at=NOW + DAY)
    assert code_of(lambda: setting.device.revocations.import_list(older)) == "consent.revocation_older"
    other = revocation_note(5, {setting.principal("alice"): NOW})
    assert code_of(lambda: setting.device.revocations.import_list(other)) == "consent.revocation_fork"
    assert setting.device.consents.require("alice", "verification"), "what was refused did nothing"
    outcomes = [json.loads(entry)["outcome"] for entry in setting.device.trail_entries()]
    assert outcomes[-2:] == ["consent.revocation_older", "consent.revocation_fork"]
    # Not even by opening the device again, or by another policy in between.
    setting.device.consents.set_policy(ConsentPolicy())
    setting.device.consents.set_policy(LISTS)
    setting.device.close()
    setting.device = setting.open(mode="open")
    assert code_of(lambda: setting.device.revocations.import_list(older)) == "consent.revocation_older"
    assert setting.device.revocations.import_list(revocation_note(6)).is_new


def test_lists_need_an_issuer_in_the_policy(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    assert code_of(lambda: setting.device.revocations.import_list(revocation_note(1))) == "consent.unknown_issuer"
    status = setting.device.revocations.status()
    assert (status.issuer, status.newest, status.dependent, setting.device.revocations.newest()) == (None, None, 0, None)


# Freshness


def test_without_a_fresh_list_matching_stops_after_the_configured_time(setting: Setting) -> None:
    consents, revocations = setting.device.consents, setting.device.revocations
    setting.grant("alice")
    assert setting.searchable() == 1
    # The record itself is the last word for as long as a list would be.
    setting.clock.advance(timedelta(days=7) - timedelta(milliseconds=1))
    assert consents.require("alice", "verification")
    assert setting.searchable() == 1
    setting.clock.advance(timedelta(milliseconds=1))
    assert code_of(lambda: consents.require("alice", "verification")) == "consent.revocation_stale"
    assert code_of(setting.searchable) == "consent.revocation_stale"
    status = revocations.status()
    assert (status.dependent, status.stale, status.max_age) == (1, 1, "P7D")
    # A list that is itself too old does not help; a fresh one does, and for as long as from its own making.
    revocations.import_list(revocation_note(1, issued_at=NOW))
    assert code_of(lambda: consents.require("alice", "verification")) == "consent.revocation_stale"
    revocations.import_list(revocation_note(2, issued_at=NOW + 5 * DAY))
    assert consents.require("alice", "verification")
    assert setting.searchable() == 1
    setting.clock.advance(5 * DAY)
    assert code_of(lambda: consents.require("alice", "verification")) == "consent.revocation_stale"
    assert code_of(setting.searchable) == "consent.revocation_stale"


def test_a_list_counts_no_longer_than_until_the_next_is_due(setting: Setting) -> None:
    setting.grant("alice")
    setting.clock.advance(6 * DAY)
    setting.device.revocations.import_list(revocation_note(1, issued_at=setting.clock.now(), days=2))
    setting.clock.advance(2 * DAY - timedelta(milliseconds=1))
    assert setting.device.consents.require("alice", "verification")
    setting.clock.advance(timedelta(milliseconds=1))
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.revocation_stale"


def test_a_clock_set_back_prolongs_nothing(setting: Setting) -> None:
    setting.grant("alice")
    setting.clock.advance(8 * DAY)
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.revocation_stale"
    setting.device._context.record_failure("verification", ConsentError("consent.revocation_stale", "x"), None)
    setting.clock.advance(-2 * DAY)
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.clock_set_back"
    assert code_of(setting.searchable) == "consent.clock_set_back"


def test_a_list_is_proof_of_the_time_it_was_made(setting: Setting) -> None:
    setting.grant("alice")
    # The device's clock was set back before the list came: it stands earlier than the list was signed.
    setting.device.revocations.import_list(revocation_note(1, issued_at=NOW + 3 * DAY))
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.clock_set_back"
    assert code_of(setting.searchable) == "consent.clock_set_back"
    assert code_of(lambda: setting.grant("bob")) == "consent.clock_set_back"
    setting.clock.advance(3 * DAY)
    assert setting.device.consents.require("alice", "verification")


def test_a_record_depends_on_what_it_says_whatever_the_policy_says_later(setting: Setting) -> None:
    setting.grant("alice")
    setting.device.consents.set_policy(ConsentPolicy())
    setting.grant("bob")
    setting.clock.advance(7 * DAY)
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.revocation_stale"
    assert setting.device.consents.require("bob", "verification")
    assert setting.searchable() == 1
    covering = ConsentPolicy(revocation_issuer=ISSUER.verifier, revocation_max_age="P1D", revocation_covers="all")
    setting.device.consents.set_policy(covering)
    assert code_of(lambda: setting.device.consents.require("bob", "verification")) == "consent.revocation_stale"
    assert code_of(setting.searchable) == "consent.revocation_stale"


def test_enrolment_stops_too_and_withdrawal_never_does(setting: Setting) -> None:
    setting.grant("alice")
    setting.enrol("alice")
    setting.clock.advance(8 * DAY)
    assert code_of(lambda: setting.device.consents.require("alice", "enrolment")) == "consent.revocation_stale"
    setting.device.consents.withdraw("alice", purposes=["identification"])
    assert setting.device.withdraw("alice").references == 1


@given(
    recorded=st.integers(0, 40), issued=st.integers(0, 40), due=st.integers(1, 30), age=st.integers(1, 20), ask=st.integers(0, 80)
)
@settings(max_examples=200, deadline=None)
def test_good_until_against_the_plain_reading(recorded: int, issued: int, due: int, age: int, ask: int) -> None:
    at: datetime = NOW + ask * DAY
    head = ListHead("i", 1, NOW + issued * DAY, NOW + (issued + due) * DAY, 0, "")
    fresh_record = at < NOW + (recorded + age) * DAY
    fresh_list = at < head.issued_at + age * DAY and at < head.next_update
    assert (at < good_until(NOW + recorded * DAY, f"P{age}D", head)) == (fresh_record or fresh_list)
    assert (at < good_until(NOW + recorded * DAY, f"P{age}D", None)) == fresh_record
    assert good_until(NOW, "P9999Y", None).year == 9999


def test_two_devices_and_one_withdrawal(tmp_path: Path) -> None:
    """Given on two devices, withdrawn at one: the other refuses from the call after its next list."""
    one, two = Setting(tmp_path, "one"), Setting(tmp_path, "two")
    for setting in (one, two):
        setting.device.consents.set_policy(LISTS)
        setting.grant("alice")
        setting.enrol("alice")
    principals = {setting.principal("alice"): NOW + DAY for setting in (one, two)}
    assert len(principals) == 2, "a subject has another pseudonym on each device"
    for setting in (one, two):
        setting.clock.advance(DAY)
    one.device.withdraw("alice")
    assert code_of(lambda: one.device.consents.require("alice", "verification")) == "consent.none"
    assert two.device.consents.require("alice", "verification"), "not told yet"
    note = revocation_note(1, principals, issued_at=NOW + DAY)
    assert len(two.device.revocations.import_list(note).erasures) == 1
    assert code_of(lambda: two.device.consents.require("alice", "verification")) == "consent.none"
    report = one.device.revocations.import_list(note)
    assert (report.withdrawn, report.erasures) == (0, ()), "whoever is gone already is no error"


def test_another_process_sees_the_withdrawal_at_its_next_call(setting: Setting) -> None:
    setting.grant("alice")
    with setting.open(mode="open") as other:
        assert other.consents.require("alice", "verification")
        setting.device.revocations.import_list(revocation_note(1, {setting.principal("alice"): NOW}))
        assert code_of(lambda: other.consents.require("alice", "verification")) == "consent.none"


def test_a_list_of_many_is_applied(setting: Setting) -> None:
    setting.grant("alice")
    many = {f"{number:064x}": NOW for number in range(3000)}
    report = setting.device.revocations.import_list(revocation_note(1, many | {setting.principal("alice"): NOW}))
    assert (report.head.entries, report.withdrawn) == (3001, 1)
    try:
        setting.device.consents.require("alice", "verification")
    except FacekeepError as error:
        assert "alice" not in str(error)  # noqa: PT017
    assert new_revocation_list.__doc__
    assert NOTICE.text
