"""The gate: everything that is not a clear yes is a no, with the reason as a stable code."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.consent import (
    ConsentRecord,
    ConsentStatus,
    Lifecycle,
    Notice,
    Purpose,
    SignedConsent,
    fold_chain,
    new_record,
    require_clock,
    require_consent,
    sign_record,
    verify_chain,
)
from facekeep.errors import ConsentError
from facekeep.signing import DeviceKey

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = DeviceKey(b"\x01" * 32)
PRINCIPAL = "ab" * 32
NOTICE = Notice("We compare your face with the template you enrol.", "en", "2026-11")
BOTH = frozenset({Purpose.ENROLMENT, Purpose.VERIFICATION})


def record(
    state: Lifecycle = Lifecycle.GIVEN,
    purposes: frozenset[Purpose] = BOTH,
    chain: Sequence[SignedConsent] = (),
    start: datetime = NOW,
    days: int = 30,
    principal: str = PRINCIPAL,
) -> ConsentRecord:
    return new_record(
        record_id="urn:uuid:00000000-0000-4000-8000-000000000000",
        principal_id=principal,
        chain=chain,
        state=state,
        purposes=purposes,
        valid_from=start,
        valid_until=start + timedelta(days=days),
        notice=NOTICE,
        recorded_at=NOW,
    )


def code_of(records: Sequence[ConsentRecord], purpose: Purpose, now: datetime, last: datetime | None = None) -> str:
    with pytest.raises(ConsentError) as caught:
        require_consent(records, subject="alice", purpose=purpose, now=now, last_event=last)
    return caught.value.code


def test_a_clear_yes_is_a_grant() -> None:
    grant = require_consent([record()], subject="alice", purpose=Purpose.VERIFICATION, now=NOW, last_event=None)
    assert grant.subject == "alice"
    assert grant.purposes == BOTH
    assert "alice" not in repr(grant)


def test_every_reason_to_refuse_has_its_code() -> None:
    given_ = record()
    withdrawn = record(Lifecycle.WITHDRAWN, frozenset({Purpose.VERIFICATION}))
    refused = record(Lifecycle.REFUSED, frozenset({Purpose.IDENTIFICATION}))
    assert code_of([], Purpose.VERIFICATION, NOW) == "consent.none"
    assert code_of([given_], Purpose.IDENTIFICATION, NOW) == "consent.wrong_purpose"
    assert code_of([given_], Purpose.VERIFICATION, NOW - timedelta(seconds=1)) == "consent.not_yet_valid"
    assert code_of([given_], Purpose.VERIFICATION, NOW + timedelta(days=30)) == "consent.expired"
    assert code_of([given_, withdrawn], Purpose.VERIFICATION, NOW) == "consent.withdrawn"
    assert code_of([given_, refused], Purpose.IDENTIFICATION, NOW) == "consent.refused"
    assert code_of([given_], Purpose.VERIFICATION, NOW, NOW + timedelta(hours=1)) == "consent.clock_set_back"


def test_the_last_instant_is_valid_and_the_next_is_not() -> None:
    last = NOW + timedelta(days=30) - timedelta(microseconds=1)
    assert require_consent([record()], subject="a", purpose=Purpose.VERIFICATION, now=last, last_event=None)
    assert code_of([record()], Purpose.VERIFICATION, last + timedelta(microseconds=1)) == "consent.expired"


def test_a_clock_set_back_within_tolerance_is_judged_by_the_last_event() -> None:
    end = NOW + timedelta(days=30)
    # The clock stands a second before the end, but an event was recorded a second after it: expired stays expired.
    assert code_of([record()], Purpose.VERIFICATION, end - timedelta(seconds=1), end + timedelta(seconds=1)) == "consent.expired"
    assert require_clock(NOW, NOW + timedelta(seconds=90)) == NOW + timedelta(seconds=90)


def test_a_new_grant_replaces_the_old_one_and_lifts_a_withdrawal() -> None:
    chain = [
        record(),
        record(Lifecycle.WITHDRAWN, BOTH),
        record(Lifecycle.GIVEN, frozenset({Purpose.ENROLMENT})),
    ]
    state = fold_chain(chain)
    assert state.purposes == {Purpose.ENROLMENT}
    assert state.status_of(Purpose.VERIFICATION) is ConsentStatus.WITHDRAWN
    renewed = fold_chain([record(), record(Lifecycle.RENEWED, frozenset({Purpose.ENROLMENT}))])
    assert renewed.status_of(Purpose.VERIFICATION) is ConsentStatus.NEVER_ASKED


def chain_of(*states: Lifecycle) -> list[SignedConsent]:
    chain: list[SignedConsent] = []
    for state in states:
        chain.append(sign_record(record(state, chain=chain), KEY))
    return chain


def test_a_chain_verifies_and_any_tampering_is_found() -> None:
    chain = chain_of(Lifecycle.GIVEN, Lifecycle.WITHDRAWN, Lifecycle.GIVEN)
    assert [item.state for item in verify_chain(chain, PRINCIPAL, KEY.public_bytes)] == ["given", "withdrawn", "given"]
    other = DeviceKey(b"\x02" * 32)
    bad: list[tuple[list[SignedConsent], str, bytes]] = [
        ([chain[0], chain[2]], PRINCIPAL, KEY.public_bytes),
        ([chain[1], chain[0], chain[2]], PRINCIPAL, KEY.public_bytes),
        (chain[1:], PRINCIPAL, KEY.public_bytes),
        (chain, "cd" * 32, KEY.public_bytes),
        (chain, PRINCIPAL, other.public_bytes),
        ([SignedConsent(chain[0].body, chain[1].signature)], PRINCIPAL, KEY.public_bytes),
    ]
    for tampered, principal, public in bad:
        with pytest.raises(ConsentError) as caught:
            verify_chain(tampered, principal, public)
        assert caught.value.code == "consent.corrupt"


def test_every_changed_byte_of_a_record_is_found() -> None:
    (signed,) = chain_of(Lifecycle.GIVEN)
    for place in range(len(signed.body)):
        body = bytearray(signed.body)
        body[place] ^= 0x01
        with pytest.raises(ConsentError) as caught:
            verify_chain([SignedConsent(bytes(body), signed.signature)], PRINCIPAL, KEY.public_bytes)
        assert caught.value.code == "consent.corrupt"


@given(
    state=st.sampled_from(Lifecycle),
    purposes=st.frozensets(st.sampled_from(Purpose), min_size=1),
    start=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    days=st.integers(1, 4000),
)
def test_records_survive_their_bytes(state: Lifecycle, purposes: frozenset[Purpose], start: datetime, days: int) -> None:
    start = start.replace(microsecond=start.microsecond // 1000 * 1000)
    made = record(state, purposes, start=start, days=days)
    assert ConsentRecord.parse(made.to_bytes()) == made


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_consent_error(body: bytes) -> None:
    with pytest.raises(ConsentError):
        ConsentRecord.parse(body)


def test_unknown_fields_and_versions_are_refused() -> None:
    body = record().to_bytes()
    for altered in (body.replace(b'"previous"', b'"extra":1,"previous"'), body.replace(b"consent-record:2", b"consent-record:3")):
        with pytest.raises(ConsentError):
            ConsentRecord.parse(altered)


def test_a_consent_needs_purposes_a_term_and_a_notice() -> None:
    with pytest.raises(ConsentError):
        record(purposes=frozenset())
    with pytest.raises(ConsentError):
        record(days=0)
    with pytest.raises(ConsentError):
        Notice("   ")
