"""The trail: any entry changed, dropped, added, reordered or cut off is found."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.audit import EVENTS, AuditEvent, TrailHead, append_event, open_head, sign_head, verify_trail
from facekeep.errors import AuditError
from facekeep.signing import DeviceKey

KEY = DeviceKey(b"\x07" * 32)
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def trail(size: int) -> tuple[list[bytes], str]:
    head, entries = TrailHead(), []
    for number in range(size):
        event = AuditEvent("verification", subject="ab" * 32, details={"match": bool(number % 2), "references": number})
        body, head = append_event(head, event, START + timedelta(seconds=number))
        entries.append(body)
    return entries, sign_head(head, KEY)


def code_of(entries: list[bytes], note: str, public: bytes = KEY.public_bytes) -> str:
    with pytest.raises(AuditError) as caught:
        verify_trail(entries, note, public)
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 2, 3, 8, 37])
def test_a_trail_verifies(size: int) -> None:
    entries, note = trail(size)
    report = verify_trail(entries, note, KEY.public_bytes)
    assert report.size == size == open_head(note, KEY.public_bytes).size


def test_every_changed_byte_is_found() -> None:
    entries, note = trail(5)
    for number, entry in enumerate(entries):
        for place in range(len(entry)):
            changed = bytearray(entry)
            changed[place] ^= 0x04
            assert code_of([*entries[:number], bytes(changed), *entries[number + 1 :]], note) == "audit.broken_chain"


def test_dropped_reordered_repeated_added_and_cut_entries_are_found() -> None:
    entries, note = trail(6)
    for number in range(5):
        assert code_of(entries[:number] + entries[number + 1 :], note) == "audit.broken_chain"
        swapped = entries.copy()
        swapped[number], swapped[number + 1] = swapped[number + 1], swapped[number]
        assert code_of(swapped, note) == "audit.broken_chain"
    assert code_of(entries[:-1], note) == "audit.truncated"
    assert code_of([], note) == "audit.truncated"
    longer, _ = trail(7)
    assert code_of(longer, note) == "audit.broken_chain"


def test_a_rewritten_last_entry_is_found_by_the_head() -> None:
    entries, note = trail(3)
    shorter, _ = trail(2)
    head = TrailHead()
    for number in range(2):
        _, head = append_event(
            head,
            AuditEvent("verification", subject="ab" * 32, details={"match": bool(number % 2), "references": number}),
            START + timedelta(seconds=number),
        )
    forged, _ = append_event(head, AuditEvent("verification", outcome="consent.none"), START + timedelta(seconds=2))
    assert code_of([*shorter, forged], note) == "audit.broken_chain"
    assert len(entries) == 3


@pytest.mark.parametrize("place", range(0, 150, 7))
def test_a_damaged_head_is_refused(place: int) -> None:
    entries, note = trail(3)
    damaged = note[:place] + ("A" if note[place] != "A" else "B") + note[place + 1 :]
    assert code_of(entries, damaged) in {"audit.bad_signature", "audit.broken_chain", "audit.truncated"}


def test_the_head_of_another_device_is_refused() -> None:
    entries, note = trail(2)
    assert code_of(entries, note, DeviceKey(b"\x08" * 32).public_bytes) == "audit.bad_signature"


def test_time_never_runs_backwards() -> None:
    head = TrailHead()
    first, head = append_event(head, AuditEvent("vault.created"), START)
    second, head = append_event(head, AuditEvent("key.rotated"), START - timedelta(days=1))
    assert b"2026-11-21T12:00:00.000Z" in first
    assert b"2026-11-21T12:00:00.000Z" in second
    assert verify_trail([first, second], sign_head(head, KEY), KEY.public_bytes).size == 2


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("verification", {"score": 1}),
        ("verification", {"match": "line\nbreak"}),
        ("template.created", {"reference": "x" * 129}),
        ("nobody.knows", {}),
        ("verification", {"fmr": 0.5}),
    ],
)
def test_the_trail_holds_only_what_it_may(code: str, details: dict[str, str | int | bool]) -> None:
    with pytest.raises(AuditError) as caught:
        AuditEvent(code, details=details)
    assert caught.value.code == "audit.invalid_event"


def test_a_subject_is_a_commitment_only() -> None:
    with pytest.raises(AuditError):
        AuditEvent("verification", subject="alice")
    with pytest.raises(AuditError):
        AuditEvent("verification", outcome="something.else")


@settings(max_examples=50)
@given(st.lists(st.sampled_from(sorted(EVENTS)), max_size=30))
def test_any_sequence_of_events_verifies(codes: list[str]) -> None:
    head, entries = TrailHead(), []
    for code in codes:
        body, head = append_event(head, AuditEvent(code), START)
        entries.append(body)
    assert verify_trail(entries, sign_head(head, KEY), KEY.public_bytes).size == len(codes)
