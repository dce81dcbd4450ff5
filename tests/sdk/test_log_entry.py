"""Log entries: the trail's own bytes, one signature for a batch, and everything else refused."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.audit import EVENTS, AuditEvent, TrailHead, append_event, sign_head
from facekeep.audit.entry import (
    LARGEST_BATCH,
    DeviceEntry,
    HeadEntry,
    TrailBatch,
    TrailEntry,
    device_id,
    first_sequence,
    make_batch,
    parse_log_entry,
    verify_batch,
)
from facekeep.audit.reading import read_entry
from facekeep.audit.trail import parse_entry
from facekeep.clock import parse_rfc3339
from facekeep.errors import AuditError
from facekeep.merkle import leaf_hash, root_of
from facekeep.signing import DeviceKey
from tests.sdk.log_scenes import START, Phone, subject

KEY = DeviceKey(b"\x07" * 32)
PUBLIC = KEY.public_bytes


def batch_of(count: int, *, start: TrailHead | None = None) -> tuple[TrailBatch, TrailHead]:
    head, bodies = start or TrailHead(), []
    for number in range(count):
        event = AuditEvent("verification", subject="ab" * 32, details={"references": number})
        body, head = append_event(head, event, START + timedelta(minutes=head.size))
        bodies.append(body)
    return make_batch(PUBLIC, bodies, sign_head(head, KEY)), head


def code_of(head: TrailHead, batch: TrailBatch, public_key: bytes = PUBLIC, **options: object) -> str:
    with pytest.raises(AuditError) as caught:
        verify_batch(head, batch, public_key, **options)  # type: ignore[arg-type]
    return caught.value.code


def test_the_worked_example_of_the_page_is_what_the_code_writes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "log-entry.md").read_text()
    lines, leaves, root = (block.splitlines() for block in re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    phone = Phone(0, START.replace(day=21, hour=12))
    phone.__class__ = type("Seven", (Phone,), {"key": KEY})
    phone.log("vault.created", provider="key-file").log("verification", "ab" * 32, match=True)
    made = [phone.enrolment(), *phone.submit()]
    assert [line.encode() for line in lines] == made
    assert leaves == [leaf_hash(line).hex() for line in made]
    assert root == [root_of([leaf_hash(line) for line in made]).hex()]


def test_a_batch_comes_back_and_continues_the_trail() -> None:
    first, head = batch_of(3)
    second, after = batch_of(2, start=head)
    assert verify_batch(TrailHead(), TrailBatch.parse(first.to_bytes()), PUBLIC) == head
    assert verify_batch(head, TrailBatch.parse(second.to_bytes()), PUBLIC) == after
    assert first_sequence(second) == 3
    assert [type(parse_log_entry(line)) for line in second.to_lines()] == [TrailEntry, TrailEntry, HeadEntry]
    assert [parse_log_entry(line).to_bytes() for line in second.to_lines()] == list(second.to_lines())


def test_every_way_not_to_continue_a_trail_is_refused() -> None:
    first, head = batch_of(3)
    second, _ = batch_of(3, start=head)
    other = DeviceKey(b"\x08" * 32)
    assert code_of(head, first) == "audit.wrong_sequence"  # replayed
    assert code_of(TrailHead(), second) == "audit.wrong_sequence"  # a gap
    assert code_of(TrailHead(), first, other.public_bytes) == "audit.bad_signature"
    stolen = TrailBatch(device_id(other.public_bytes), first.bodies, first.note)
    assert code_of(TrailHead(), stolen, other.public_bytes) == "audit.bad_signature"
    swapped = TrailBatch(first.device, (first.bodies[1], first.bodies[0], first.bodies[2]), first.note)
    assert code_of(TrailHead(), swapped) == "audit.wrong_sequence"
    shorter = TrailBatch(first.device, first.bodies[:-1], first.note)
    assert code_of(TrailHead(), shorter) == "audit.broken_chain"
    changed = TrailBatch(
        first.device, (first.bodies[0].replace(b'"references":0', b'"references":5'), *first.bodies[1:]), first.note
    )
    assert code_of(TrailHead(), changed) == "audit.broken_chain"
    assert code_of(TrailHead(), first, latest=START) == "audit.from_the_future"
    verify_batch(TrailHead(), first, PUBLIC, latest=START + timedelta(minutes=2))


def test_two_devices_with_one_key_are_found_out() -> None:
    _, head = batch_of(3)
    twin, _ = append_event(TrailHead(), AuditEvent("vault.created"), START)
    body, fork = append_event(head, AuditEvent("key.rotated"), START + timedelta(days=1))
    verify_batch(head, make_batch(PUBLIC, [body], sign_head(fork, KEY)), PUBLIC)
    _, other = append_event(TrailHead(), AuditEvent("vault.created"), START)
    assert code_of(head, make_batch(PUBLIC, [twin], sign_head(other, KEY))) == "audit.wrong_sequence"


def test_a_seq_that_is_true_is_not_one() -> None:
    first, head = batch_of(1)
    second, _ = batch_of(1, start=head)
    body = second.bodies[0].replace(b'"seq":1', b'"seq":true')
    assert code_of(head, TrailBatch(first.device, (body,), second.note)) == "audit.wrong_sequence"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"device":"' + b"g" * 32 + b'","entry":{},"v":1}',
        b'{"device":"' + b"a" * 32 + b'","entry":{},"v":2}',
        b'{"device":"' + b"a" * 32 + b'","head":7,"v":1}',
        b'{"device":"' + b"a" * 32 + b'","head":"x","v":true}',
        b'{"device":"' + b"a" * 32 + b'","key":"AAAA","v":1}',
        b'{"device":"' + b"a" * 32 + b'","key":"' + b"A" * 43 + b'=","v":1}',
        DeviceEntry(device_id(PUBLIC), PUBLIC).to_bytes().replace(b'","v"', b'", "v"'),
        DeviceEntry(device_id(PUBLIC), PUBLIC).to_bytes().replace(b"6kps", b"6kpt"),
        b"x" * 70_000,
        b"[" * 60_000,
    ],
)
def test_other_lines_are_no_entries(data: bytes) -> None:
    with pytest.raises(AuditError) as caught:
        parse_log_entry(data)
    assert caught.value.code == "audit.invalid_entry"


def test_a_batch_is_entries_of_one_device_and_a_head() -> None:
    batch, _ = batch_of(2)
    lines = [line + b"\n" for line in batch.to_lines()]
    stranger = TrailEntry("0" * 32, batch.bodies[0]).to_bytes() + b"\n"
    for wrong in (
        b"",
        b"".join(lines)[:-1],
        b"".join(lines[:-1]),
        lines[-1],
        stranger + b"".join(lines),
        b"".join([*lines, lines[0]]),
        lines[0] * (LARGEST_BATCH + 1) + lines[-1],
        b"\n" * 50,
    ):
        with pytest.raises(AuditError) as caught:
            TrailBatch.parse(wrong)
        assert caught.value.code == "audit.invalid_entry"
    with pytest.raises(ValueError, match="1 to 1000"):
        make_batch(PUBLIC, [], "")


def canonical_pieces() -> st.SearchStrategy[bytes]:
    text = st.text("ab9.,:/+ -", max_size=6)
    values = text | st.booleans() | st.integers(-(2**53), 2**53) | st.none() | st.floats(allow_nan=False)
    details = st.dictionaries(st.sampled_from(["match", "fmr", "references", "contract", "score", "é"]), values, max_size=3)
    fields = st.fixed_dictionaries(
        {
            "v": st.sampled_from([1, 2, True]),
            "seq": st.integers(-1, 2**54) | st.booleans() | st.none(),
            "time": st.sampled_from(
                ["2026-11-21T12:00:00.000Z", "2026-02-30T12:00:00.000Z", "2026-11-21T12:00:00Z", "2026-11-21T24:00:00.000Z", "no"]
            ),
            "event": st.sampled_from(["verification", "consent.given", "no.such"]),
            "outcome": st.sampled_from(["ok", "consent.none", "no.such"]),
            "subject": st.sampled_from([None, "ab" * 32, "AB" * 32, "ab", 7]),
            "prev": st.sampled_from([None, "cd" * 32, "x", 7]),
            "details": details,
        }
    )
    return fields.map(lambda value: json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


@settings(max_examples=150)
@given(canonical_pieces(), st.integers(0, 400), st.sampled_from([None, b" ", b"\\u0061", b"0", b"-", b'"']))
def test_the_fast_way_accepts_exactly_what_the_slow_way_does(body: bytes, place: int, insert: bytes | None) -> None:
    if insert is not None:
        body = body[: place % len(body)] + insert + body[place % len(body) :]
    try:
        slow = parse_entry(body)
    except AuditError:
        with pytest.raises(AuditError):
            read_entry(body)
        return
    fast = read_entry(body)
    is_number = isinstance(slow["seq"], int) and not isinstance(slow["seq"], bool)
    assert fast.seq == (slow["seq"] if is_number else -1)
    assert (fast.event, fast.outcome, dict(fast.details)) == (slow["event"], slow["outcome"], slow["details"])
    assert {key: type(value) for key, value in fast.details.items()} == {key: type(value) for key, value in slow["details"].items()}
    assert fast.time == parse_rfc3339(slow["time"])
    assert (fast.subject.decode() if fast.subject else None) == slow["subject"]
    if slow["prev"] in (None, "cd" * 32):
        assert (fast.prev.decode() if fast.prev else None) == slow["prev"]


@given(st.sampled_from(sorted(EVENTS)), st.data())
def test_what_devices_write_is_read_the_fast_way(code: str, data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(EVENTS[code])), unique=True)) if EVENTS[code] else []
    values = st.text("AZaz09._:/+,- ", max_size=128) | st.integers(0, 10**14) | st.booleans()
    body, _ = append_event(TrailHead(), AuditEvent(code, "ok", subject(3), {key: data.draw(values) for key in keys}), START)
    assert dict(read_entry(body).details) == json.loads(body)["details"]
