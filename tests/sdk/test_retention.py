"""The policy, the plan, the certificate and the receipt: pure, so every rule is tried by itself."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head
from facekeep.audit.usage import LastUses
from facekeep.errors import AuditError, ErasureError, RetentionError
from facekeep.retention import (
    Due,
    ErasureMark,
    ErasureReceipt,
    Gone,
    Holding,
    Inclusion,
    Kind,
    Reason,
    RetentionCertificate,
    RetentionPolicy,
    SignedCertificate,
    due_at,
    make_plan,
    verify_certificate,
)
from facekeep.signing import DeviceKey

KEY = DeviceKey(b"\x07" * 32)
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TERMS = {
    "templates_inactivity": "P90D",
    "templates_maximum": "P1Y",
    "samples_inactivity": "P30D",
    "samples_maximum": "P90D",
    "receipts_after_end": "P3Y",
    "log_keep": "P400D",
}
POLICY = RetentionPolicy(**TERMS)
TOML = """
version = 1
[templates]
inactivity = "P90D"
maximum = "P1Y"
[training_samples]
inactivity = "P30D"
maximum = "P90D"
[receipts]
after_end = "P3Y"
[log]
keep = "P400D"
"""


def reason_of(text: str) -> str:
    with pytest.raises(RetentionError) as caught:
        RetentionPolicy.parse_toml(text)
    assert caught.value.code == "retention.invalid_policy"
    return str(caught.value.args[0])


# Policy


def test_a_policy_is_the_same_in_toml_and_in_the_vault() -> None:
    assert RetentionPolicy.parse_toml(TOML) == POLICY == RetentionPolicy.parse(POLICY.to_bytes())
    first, *sections = TOML.split("[")
    reordered = first + "".join(f"[{section}\n" for section in reversed(sections)) + "# a remark\n"
    assert RetentionPolicy.parse_toml(reordered).sha256 == POLICY.sha256


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("P400D", "P182D"), "at least 183 days"),
        (("P400D", "P6M"), "can be as short as 181 days"),
        (("P400D", "P365D"), "has to outlast"),
        # A year may have 366 days: the log of 366 would end with the template.
        (("P400D", "P366D"), "has to outlast"),
        (('maximum = "P90D"', 'maximum = "P401D"'), "training_samples.maximum"),
        (('"P90D"\nmaximum = "P1Y"', '90\nmaximum = "P1Y"'), "not a duration"),
        (("P3Y", "three years"), "receipts.after_end cannot be used"),
        (("P3Y", "P0D"), "longer than zero"),
        (("after_end", "after_ends"), "lacks after_end"),
        (('keep = "P400D"', 'keep = "P400D"\nforget = "P1D"'), "not known"),
        (("version = 1", "version = 2"), "version is 1"),
        (("version = 1", "version = true"), "version is 1"),
        (("version = 1", "version = 1\ngrace = 1"), "not known"),
        (("[log]", "[logs]"), "lacks log"),
        (("[log]", "[log"), "not TOML"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused_with_the_reason(change: tuple[str, str], reason: str) -> None:
    assert change[0] in TOML
    assert reason in reason_of(TOML.replace(*change, 1))


@pytest.mark.parametrize("text", ["", "version = 1", "log = 1\nversion = 1", "x" * 70_000, "[[templates]]", "\0", "a" * 3])
def test_what_is_no_policy_is_refused(text: str) -> None:
    reason_of(text)


def test_183_days_are_enough_for_a_short_template() -> None:
    short = TERMS | {"templates_maximum": "P182D", "samples_maximum": "P182D", "log_keep": "P183D"}
    assert RetentionPolicy(**short).log_keep == "P183D"


def test_a_refusal_shows_no_key_of_the_file() -> None:
    assert "alice" not in reason_of(TOML + 'alice = "P1D"\n')


def test_the_worked_example_of_the_page_is_what_the_code_writes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats" / "retention-policy.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    policy = RetentionPolicy.parse_toml(example)
    assert policy.to_bytes().decode() in page
    assert policy.sha256 in page


# Plan

DAYS = st.integers(0, 800)


@given(DAYS, st.none() | DAYS, st.none() | DAYS)
def test_due_is_the_first_of_the_three_ends(made: int, used: int | None, purpose: int | None) -> None:
    held = START + timedelta(days=made)
    last = None if used is None else START + timedelta(days=used)
    end = None if purpose is None else START + timedelta(days=purpose)
    holding = Holding(kind=Kind.TEMPLATE, pseudonym="ab" * 32, reference="r", held_since=held, last_used=last, purpose_end=end)
    due = due_at(POLICY, holding)
    year_later = held.replace(year=held.year + 1) if (held.month, held.day) != (2, 29) else held.replace(year=held.year + 1, day=28)
    ends = {
        Reason.MAXIMUM: year_later,
        Reason.INACTIVITY: max(held, last or held) + timedelta(days=90),
        Reason.PURPOSE_END: end if end is not None else held,
    }
    assert due.at == min(ends.values())
    assert ends[due.reason] == due.at
    later = make_plan(POLICY, [holding], due.at)
    earlier = make_plan(POLICY, [holding], due.at - timedelta(microseconds=1))
    assert (len(later.due), len(earlier.due)) == (1, 0)
    assert (later.next_due, earlier.next_due) == (None, due.at)


def test_each_kind_has_its_own_term() -> None:
    common: dict[str, Any] = {"pseudonym": "", "reference": "0", "held_since": START, "purpose_end": START + timedelta(days=300)}
    assert due_at(POLICY, Holding(kind=Kind.TRAINING_SAMPLE, **common)) == Due(START + timedelta(days=30), Reason.INACTIVITY)
    assert due_at(POLICY, Holding(kind=Kind.LOG_ENTRIES, **common)) == Due(START + timedelta(days=400), Reason.TERM)
    receipt = due_at(POLICY, Holding(kind=Kind.RECEIPT, **common))
    assert receipt == Due((START + timedelta(days=300)).replace(year=2030), Reason.TERM)


def test_a_plan_is_in_order_and_in_json() -> None:
    holdings = [
        Holding(kind=Kind.LOG_ENTRIES, pseudonym="", reference="0", held_since=START, count=7),
        Holding(kind=Kind.TEMPLATE, pseudonym="ab" * 32, reference="r", held_since=START, purpose_end=START + timedelta(days=5)),
    ]
    plan = make_plan(POLICY, holdings, START + timedelta(days=6))
    assert [item.holding.kind for item in plan.items] == [Kind.TEMPLATE, Kind.LOG_ENTRIES]
    value = json.loads(json.dumps(plan.to_json()))
    assert (value["due"], value["items"][0]["reason"], value["items"][1]["count"]) == (1, "purpose-end", 7)


# Last use


def trail(*events: AuditEvent) -> list[bytes]:
    head, entries = TrailHead(), []
    for number, event in enumerate(events):
        body, head = append_event(head, event, START + timedelta(days=number))
        entries.append(body)
    return entries


def test_only_being_recognised_counts_as_a_use() -> None:
    one, two = "11" * 32, "22" * 32
    entries = trail(
        AuditEvent("verification", subject=one, details={"match": True, "contract": "c1"}),
        AuditEvent("verification", subject=one, details={"match": False, "contract": "c1"}),
        AuditEvent("verification", "acquisition.no_face", one),
        AuditEvent("template.created", subject=one, details={"contract": "c1"}),
        AuditEvent("identification", subject=two, details={"result": "identified"}),
        AuditEvent("identification", details={"result": "unknown"}),
    )
    uses = LastUses()
    uses.read(entries[:3])
    uses = LastUses.parse(uses.to_bytes())
    uses.read(entries[3:])
    assert uses.size == 6
    assert uses.last_use(one, "c1") == START
    assert uses.last_use(one, "c2") is None
    # An entry of an older version names no contract and counts for every template.
    assert uses.last_use(two, "c2") == START + timedelta(days=4)
    uses.keep_only({two})
    assert uses.last_use(one, "c1") is None
    with pytest.raises(AuditError):
        LastUses.parse(b"{}")


# Certificate


def certificate(**changes: Any) -> RetentionCertificate:
    gone = Gone(kind=Kind.TEMPLATE, pseudonym="ab" * 32, count=2, reason=Reason.INACTIVITY, due=START, seq=4, entry_hash="cd" * 32)
    fields: dict[str, Any] = {
        "public_key": KEY.public_bytes.hex(),
        "policy_sha256": POLICY.sha256,
        "trigger": "daily",
        "first": 3,
        "seq": 5,
        "previous": "ef" * 32,
        "as_of": START,
        "gone": (gone,),
    }
    return RetentionCertificate(**(fields | changes))


def test_a_certificate_survives_its_file_and_its_signature_is_checked() -> None:
    signed = SignedCertificate.sign(certificate(), KEY)
    assert SignedCertificate.parse(signed.to_bytes()) == signed == SignedCertificate.sign(certificate(), KEY)
    assert verify_certificate(signed, KEY.public_bytes) == certificate()
    assert certificate().counts["template"] == 2


def test_a_certificate_changed_in_any_byte_is_refused() -> None:
    whole = SignedCertificate.sign(certificate(), KEY).to_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x01
        with pytest.raises(RetentionError) as caught:
            verify_certificate(SignedCertificate.parse(bytes(data)), KEY.public_bytes)
        assert caught.value.code == "retention.invalid_certificate"


def test_a_certificate_of_another_device_is_refused() -> None:
    other = DeviceKey(b"\x08" * 32)
    for signed in (SignedCertificate.sign(certificate(), other), SignedCertificate.sign(certificate(public_key="00" * 32), KEY)):
        with pytest.raises(RetentionError):
            verify_certificate(signed, KEY.public_bytes)


# Receipt


def receipt() -> ErasureReceipt:
    head = TrailHead()
    for number in range(6):
        _, head = append_event(head, AuditEvent("verification", details={"references": number}), START)
    before = head.frontier
    body, head = append_event(head, AuditEvent("template.erased", subject="ab" * 32, details={"references": 1, "epoch": 2}), START)
    marks = (ErasureMark.of("wrapped-key", bytes(range(100))), ErasureMark.of("template", bytes(range(200))))
    inclusion = Inclusion(body, before.edge, sign_head(head, KEY))
    return ErasureReceipt(1, 2, "ab" * 32, START, inclusion, marks, KEY.public_bytes).signed_by(KEY)


def test_a_receipt_is_verified_with_the_public_key_alone() -> None:
    whole = receipt().with_log_proof("c2sp.org/tlog-proof@v1\n")
    data = json.dumps(whole.to_json(), indent=2).encode()
    assert ErasureReceipt.parse(data, KEY.public_bytes) == whole
    assert whole.inclusion.seq == 6


def changed(**fields: Any) -> bytes:
    return json.dumps(receipt().to_json() | fields).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b" " * (1 << 21),
        changed(references=2),
        changed(key_epoch=3),
        changed(commitment="cd" * 32),
        changed(erased_at="2026-11-21T12:00:00Z"),
        changed(edge=[]),
        changed(marks=[]),
        changed(signature="AAAA"),
        changed(log_proof=7),
        changed(extra=1),
        changed(public_key="00" * 32),
        changed(checkpoint=sign_head(TrailHead(), KEY)),
    ],
)
def test_a_receipt_that_was_changed_is_refused(data: bytes) -> None:
    with pytest.raises(ErasureError) as caught:
        ErasureReceipt.parse(data)
    assert caught.value.code == "erasure.invalid_receipt"


def test_a_receipt_signed_anew_over_another_entry_is_refused() -> None:
    true = receipt()
    other = ErasureReceipt(5, 2, "ab" * 32, START, true.inclusion, (), KEY.public_bytes).signed_by(KEY)
    shorter = Inclusion(true.inclusion.entry, (), true.inclusion.checkpoint)
    unproved = ErasureReceipt(1, 2, "ab" * 32, START, shorter, (), KEY.public_bytes).signed_by(KEY)
    for forged in (other, unproved):
        with pytest.raises(ErasureError):
            ErasureReceipt.parse(json.dumps(forged.to_json()).encode())
    with pytest.raises(ErasureError):
        ErasureReceipt.parse(json.dumps(true.to_json()).encode(), DeviceKey(b"\x08" * 32).public_bytes)
