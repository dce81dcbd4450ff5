"""Receipts: what a third party can conclude from one, with public keys only, and what nobody can change in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.canonical import to_canonical
from facekeep.consent import (
    Dependence,
    Lifecycle,
    Notice,
    Party,
    Processing,
    Purpose,
    SignedConsent,
    VerifierKey,
    WrittenRelease,
    countersign,
    countersign_as_delegate,
    new_delegation,
    open_revocation_list,
    sign_record,
    with_proofs,
)
from facekeep.consent.page import receipt_page
from facekeep.consent.receipt import ConsentReceipt, canonical_receipt, new_receipt, open_receipt
from facekeep.consent.verdict import ControllerVerdict, Verdict, judge_receipt
from facekeep.errors import FacekeepError
from facekeep.signing import DeviceKey
from tests.sdk.consent_setting import (
    CONTROLLER,
    ISSUER,
    KEY,
    NOTICE,
    NOW,
    OTHER,
    PRINCIPAL,
    PROCESSING,
    Setting,
    chain_of,
    code_of,
    record,
    revocation_note,
)
from tests.sdk.test_consent_records import validator

DEVICE = VerifierKey.of_device(KEY.public_bytes)
RECEIPT_ID = "urn:uuid:00000000-0000-4000-8000-00000000000f"
DAY = timedelta(days=1)


def receipt_of(chain: list[SignedConsent], *, key: DeviceKey = KEY, notices: tuple[Notice, ...] = ()) -> bytes:
    return new_receipt(chain, receipt_id=RECEIPT_ID, issued_at=NOW + timedelta(hours=1), key=key, notices=notices)


def opened(*states: Lifecycle) -> ConsentReceipt:
    return open_receipt(receipt_of(chain_of(*states)), DEVICE)


def resigned(data: bytes, change: Callable[[dict], None], key: DeviceKey = KEY) -> bytes:  # type: ignore[type-arg]
    """The receipt with a change that the device's key signed: what a hostile device, not a hostile carrier, could make."""
    fields = json.loads(data)
    del fields["signature"]
    change(fields)
    import base64

    signature = base64.b64encode(key.sign("consent receipt v1", to_canonical(fields))).decode()
    return to_canonical(fields | {"signature": signature})


# Form


def test_a_receipt_is_canonical_fits_its_schema_and_reads_back() -> None:
    chain = chain_of(Lifecycle.REQUESTED, Lifecycle.GIVEN, Lifecycle.WITHDRAWN)
    delegation = new_delegation(CONTROLLER, KEY.public_bytes, NOW, NOW + 30 * DAY)
    chain[0] = with_proofs(chain[0], [countersign(CONTROLLER, chain[0].body)])
    chain[1] = with_proofs(chain[1], [countersign_as_delegate(KEY, delegation, chain[1].body)])
    data = receipt_of(chain, notices=(NOTICE,))
    assert rfc8785.dumps(json.loads(data)) == data
    validator("consent-receipt-1").validate(json.loads(data))
    found = open_receipt(data, DEVICE)
    assert (found.chain, found.principal_id, found.notices) == (tuple(chain), PRINCIPAL, {NOTICE.sha256: NOTICE.text})
    assert found.in_force == chain[1]
    assert open_receipt(data + b"\n", DEVICE) == found


def test_every_byte_of_a_receipt_counts() -> None:
    data = receipt_of(chain_of(Lifecycle.GIVEN))
    for place in range(len(data)):
        changed = data[:place] + bytes([data[place] ^ 0x01]) + data[place + 1 :]
        with pytest.raises(FacekeepError):
            open_receipt(changed, DEVICE)
    for size in range(0, len(data), 7):
        with pytest.raises(FacekeepError):
            open_receipt(data[:size], DEVICE)


@given(st.binary(max_size=300) | st.lists(st.none() | st.text(max_size=5)).map(lambda item: json.dumps(item).encode()))
@settings(deadline=None)
def test_no_bytes_raise_anything_but_a_typed_error(data: bytes) -> None:
    with pytest.raises(FacekeepError):
        open_receipt(data, DEVICE)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        # Leaving out the withdrawal at the end is what a receipt's own signature is for.
        (lambda fields: fields["records"].pop(), "trust.bad_signature"),
        (lambda fields: fields["status"].update(verification="given"), "trust.bad_signature"),
        (lambda fields: fields.update(issued_at="2036-01-01T00:00:00.000Z"), "trust.bad_signature"),
        (lambda fields: fields.pop("notices"), "trust.malformed"),
        (lambda fields: fields.update(more=1), "trust.malformed"),
        (lambda fields: fields.update(schema_version="urn:facekeep:consent-receipt:2"), "trust.malformed"),
    ],
)
def test_a_carrier_can_change_nothing(change: Callable[[dict], object], code: str) -> None:  # type: ignore[type-arg]
    fields = json.loads(receipt_of(chain_of(Lifecycle.GIVEN, Lifecycle.WITHDRAWN)))
    change(fields)
    assert code_of(lambda: open_receipt(to_canonical(fields), DEVICE)) == code


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda fields: fields["records"].reverse(), "consent.corrupt"),
        (lambda fields: fields["records"].pop(0), "consent.corrupt"),
        (lambda fields: fields.update(principal_id="cd" * 32), "consent.corrupt"),
        (lambda fields: fields["records"][0]["record"]["event"].update(valid_until="2036-01-01T00:00:00.000Z"), "consent.corrupt"),
        (lambda fields: fields["status"].update(verification="given"), "trust.malformed"),
        (lambda fields: fields["notices"].append({"sha256": "ab" * 32, "text": "another"}), "trust.malformed"),
        (lambda fields: fields["notices"].append({"sha256": NOTICE.sha256, "text": "another"}), "trust.malformed"),
        (lambda fields: fields.update(device_key=str(CONTROLLER.verifier)), "trust.malformed"),
        (lambda fields: fields["records"][0].update(more=1), "trust.malformed"),
        (lambda fields: fields["records"][0]["controller_signatures"].append({}), "trust.malformed"),
        (lambda fields: fields.update(records=[]), "trust.malformed"),
    ],
)
def test_a_device_cannot_sign_a_receipt_of_what_was_not(change: Callable[[dict], None], code: str) -> None:  # type: ignore[type-arg]
    data = resigned(receipt_of(chain_of(Lifecycle.GIVEN, Lifecycle.WITHDRAWN)), change)
    assert code_of(lambda: open_receipt(data, DEVICE)) == code


def test_another_devices_receipt_is_not_this_ones() -> None:
    data = receipt_of(chain_of(Lifecycle.GIVEN, key=OTHER), key=OTHER)
    assert code_of(lambda: open_receipt(data, DEVICE)) == "trust.bad_signature"
    # Records of one device under the receipt of another.
    mixed = receipt_of(chain_of(Lifecycle.GIVEN, key=OTHER))
    assert code_of(lambda: open_receipt(mixed, DEVICE)) == "consent.corrupt"
    assert code_of(lambda: receipt_of([])) == "consent.none"
    assert code_of(lambda: receipt_of(chain_of(Lifecycle.GIVEN), notices=(Notice("Another."),))) == "consent.invalid_request"
    assert code_of(lambda: open_receipt(b"x" * (5 << 20), DEVICE)) == "trust.malformed"


# Verdicts


@pytest.mark.parametrize(
    ("states", "days", "verdict"),
    [
        ((Lifecycle.GIVEN,), 1, Verdict.IN_FORCE),
        ((Lifecycle.GIVEN,), -1, Verdict.NOT_YET_VALID),
        ((Lifecycle.GIVEN,), 30, Verdict.EXPIRED),
        ((Lifecycle.GIVEN, Lifecycle.EXPIRED), 31, Verdict.EXPIRED),
        ((Lifecycle.GIVEN, Lifecycle.WITHDRAWN), 1, Verdict.WITHDRAWN),
        ((Lifecycle.GIVEN, Lifecycle.WITHDRAWN, Lifecycle.ERASED), 1, Verdict.ERASED),
        ((Lifecycle.GIVEN, Lifecycle.RENEWED, Lifecycle.REQUESTED), 1, Verdict.IN_FORCE),
        ((Lifecycle.REQUESTED,), 1, Verdict.REQUESTED),
        ((Lifecycle.REFUSED,), 1, Verdict.REFUSED),
    ],
)
def test_the_verdict_says_where_consent_stands(states: tuple[Lifecycle, ...], days: int, verdict: Verdict) -> None:
    found = judge_receipt(opened(*states), at=NOW + days * DAY)
    assert (found.verdict, found.controller) == (verdict, ControllerVerdict.NOT_CHECKED)
    assert bool(found.purposes) == (verdict is Verdict.IN_FORCE)
    assert found.names_a_controller == any(state in (Lifecycle.GIVEN, Lifecycle.RENEWED) for state in states)


def test_who_signed_for_the_controller() -> None:
    (signed,) = chain_of(Lifecycle.GIVEN)
    delegation = new_delegation(CONTROLLER, KEY.public_bytes, NOW, NOW + DAY)
    cases = {
        ControllerVerdict.SIGNED: [countersign(CONTROLLER, signed.body)],
        ControllerVerdict.DELEGATED: [countersign_as_delegate(KEY, delegation, signed.body)],
        ControllerVerdict.MISSING: [countersign(ISSUER, signed.body)],
    }
    for expected, proofs in cases.items():
        receipt = open_receipt(receipt_of([with_proofs(signed, proofs)]), DEVICE)
        assert judge_receipt(receipt, at=NOW, controller=CONTROLLER.verifier).controller is expected


def test_a_revocation_list_is_taken_into_account() -> None:
    (signed,) = chain_of(Lifecycle.GIVEN, dependence=Dependence(ISSUER.verifier.name, "P7D"))
    receipt = open_receipt(receipt_of([signed]), DEVICE)

    def judged(note: bytes | None, days: int) -> tuple[Verdict, frozenset[Purpose]]:
        known = None if note is None else open_revocation_list(note, ISSUER.verifier)
        found = judge_receipt(receipt, at=NOW + days * DAY, revocations=known)
        return found.verdict, found.purposes

    assert judged(None, 6)[0] is Verdict.IN_FORCE
    assert judged(None, 7)[0] is Verdict.STALE
    assert judged(revocation_note(1, issued_at=NOW + 5 * DAY), 8)[0] is Verdict.IN_FORCE
    assert judged(revocation_note(1, {PRINCIPAL: NOW + DAY}, issued_at=NOW + 5 * DAY), 6)[0] is Verdict.REVOKED
    part = frozenset({Purpose.VERIFICATION})
    assert judged(revocation_note(1, {PRINCIPAL: NOW + DAY}, issued_at=NOW + 5 * DAY, purposes=part), 6) == (
        Verdict.IN_FORCE,
        {Purpose.ENROLMENT},
    )
    assert judged(revocation_note(1, {PRINCIPAL: NOW - DAY}, issued_at=NOW), 6)[0] is Verdict.IN_FORCE, "given anew since"


# The page


class Reader(HTMLParser):
    """Collects elements and text; a page whose tags do not pair fails."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data


HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)"> & <!-- \u2028'


def test_a_page_can_be_read_and_verified_and_runs_nothing_that_was_put_into_it() -> None:
    hostile = HOSTILE.replace("\u2028", "")
    terms = Processing(
        parties=(Party("controller", hostile, hostile, hostile, "DE"),),
        recipients=(hostile,),
        withdrawal=hostile,
        jurisdictions=("EU",),
    )
    notice = Notice(HOSTILE, "en", hostile[:40], hostile)
    release = WrittenRelease.of("statement", term="P1Y")
    chain = chain_of(Lifecycle.GIVEN, processing=terms, notice=notice, release=release)
    data = receipt_of(chain, notices=(notice,))
    page = receipt_page(open_receipt(data, DEVICE), data)
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    assert reader.seen & {"img", "iframe", "link", "form", "a"} == set()
    assert page.count("<script") == 1, "the one that holds the JSON"
    assert hostile in reader.text
    assert "default-src 'none'" in page
    assert open_receipt(page.encode(), DEVICE) == open_receipt(data, DEVICE)
    assert canonical_receipt(page.encode()) == data
    assert judge_receipt(open_receipt(page.encode(), DEVICE), at=NOW).verdict is Verdict.IN_FORCE
    # What people read and what is signed cannot drift apart unseen, but a second receipt could be smuggled in.
    assert code_of(lambda: open_receipt((page + page).encode(), DEVICE)) == "trust.malformed"
    assert code_of(lambda: open_receipt(page.replace("<script type", "<script x").encode(), DEVICE)) == "trust.malformed"


def test_a_page_says_what_a_person_wants_to_know() -> None:
    chain = chain_of(Lifecycle.GIVEN, Lifecycle.WITHDRAWN)
    data = receipt_of(chain, notices=(NOTICE,))
    reader = Reader()
    reader.feed(receipt_page(open_receipt(data, DEVICE), data))
    for words in ("Consent was withdrawn", "Example & Sons <GmbH>", NOTICE.text, "nothing of it leaves the device", PRINCIPAL):
        assert words in reader.text
    bare = receipt_of(chain_of(Lifecycle.REQUESTED, processing=Processing()))
    reader = Reader()
    reader.feed(receipt_page(open_receipt(bare, DEVICE), bare))
    assert "not stated in this record" in reader.text


# From the device


def test_a_receipt_from_a_device_verifies_without_it(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.grant("alice")
    setting.device.consents.withdraw("alice", purposes=["identification"])
    data = setting.device.consents.receipt("alice", notices=[NOTICE])
    key = VerifierKey.of_device(bytes.fromhex(setting.device.info().public_key))
    setting.device.close()
    assert b"alice" not in data
    receipt = open_receipt(data, key)
    assert [item.state.value for item in receipt.records] == ["given", "withdrawn"]
    found = judge_receipt(receipt, at=NOW)
    assert (found.verdict, found.purposes) == (Verdict.IN_FORCE, {Purpose.ENROLMENT, Purpose.VERIFICATION})
    setting.device = setting.open(mode="open")
    assert code_of(lambda: setting.device.consents.receipt("nobody")) == "consent.none"
    assert code_of(lambda: setting.device.consents.receipt("alice", notices=[Notice("Another.")])) == "consent.invalid_request"


def test_a_longer_chain_than_any_person_makes_still_verifies() -> None:
    chain: list[SignedConsent] = []
    for _ in range(120):
        chain.append(sign_record(record(Lifecycle.RENEWED if chain else Lifecycle.GIVEN, chain), KEY))
    assert judge_receipt(open_receipt(receipt_of(chain), DEVICE), at=NOW + DAY).verdict is Verdict.IN_FORCE
    assert PROCESSING.jurisdictions
