"""Records of both versions: their bytes, the JSON schemas that ship, and the life that a chain may have."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.consent import (
    Actor,
    ConsentRecord,
    ConsentState,
    ConsentStatus,
    Dependence,
    Lifecycle,
    Notice,
    Party,
    Processing,
    Purpose,
    SignedConsent,
    WrittenRelease,
    fold_chain,
    new_record,
    require_transition,
    sign_record,
    verify_chain,
)
from facekeep.errors import ConsentError
from facekeep.signing import DeviceKey
from tests.sdk.consent_setting import ALL, BOTH, KEY, NOTICE, NOW, PRINCIPAL, PROCESSING, Setting, chain_of, code_of, record

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "consent-record.md"
# A record and its signature as Facekeep 0.1 wrote them. These bytes are never made anew.
OLD_BODY = (
    b'{"notice":{"language":"en","sha256":"dcba8acf3aa0d62dca5f79054d5fa91d4343892528bea453956238420715e90e","version":"2026-11"},'
    b'"previous":null,"principal_id":"abababababababababababababababababababababababababababababababab",'
    b'"purposes":["enrolment","verification"],"record_id":"urn:uuid:00000000-0000-4000-8000-000000000001",'
    b'"recorded_at":"2026-11-21T12:00:00.000Z","schema_version":"urn:facekeep:consent-record:1","state":"given",'
    b'"valid_from":"2026-11-21T12:00:00.000Z","valid_until":"2026-12-21T12:00:00.000Z"}'
)
OLD_SIGNATURE = bytes.fromhex(
    "ceaf2acac294f95ba026a70a89321a287b45802f438196e28830ca73fa751822143d9407f03ac82b8845bfc402f19d65d7694575b0ff6c1f995be22a5888f00c"
)
OLD_KEY = DeviceKey(bytes(range(32)))


def schema(name: str) -> dict[str, Any]:
    found = json.loads((files("facekeep.consent") / "schema" / f"{name}.schema.json").read_text())
    assert isinstance(found, dict)
    return found


def validator(name: str) -> jsonschema.Draft202012Validator:
    resources = [referencing.Resource.from_contents(schema(f"consent-record-{version}")) for version in (1, 2)]
    registry: Any = referencing.Registry().with_resources([(str(item.id()), item) for item in resources])
    jsonschema.Draft202012Validator.check_schema(schema(name))
    return jsonschema.Draft202012Validator(schema(name), registry=registry)


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=20)
durations = st.sampled_from(["P1D", "P30D", "P1Y6M", "PT12H", "P2W"])
hex64 = st.binary(min_size=32, max_size=32).map(bytes.hex)
instants = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000)
)
parties = st.builds(Party, st.sampled_from(["controller", "processor"]), texts, texts, texts, st.sampled_from(["DE", "US", "JP"]))
processing = st.builds(
    Processing,
    parties=st.lists(parties, max_size=3).map(tuple),
    jurisdictions=st.lists(texts, max_size=3).map(tuple),
    recipients=st.lists(texts, max_size=3).map(tuple),
    device_country=st.sampled_from([None, "FR"]),
    withdrawal=texts,
    inactivity=st.none() | durations,
    maximum=durations,
    automated_decision=st.booleans(),
)
actors = st.one_of(
    st.just(Actor()),
    hex64.map(lambda pseudonym: Actor("guardian", pseudonym)),
    st.builds(lambda issuer, epoch: Actor("controller", None, issuer, epoch), texts, st.integers(1, 2**53 - 1)),
    st.just(Actor("device")),
)


@st.composite
def records(draw: st.DrawFn) -> ConsentRecord:
    start = draw(instants)
    return ConsentRecord(
        record_id=f"urn:uuid:{draw(st.uuids())}",
        principal_id=draw(hex64),
        previous=draw(st.none() | hex64),
        state=draw(st.sampled_from(Lifecycle)),
        purposes=draw(st.frozensets(st.sampled_from(Purpose), min_size=1)),
        valid_from=start,
        valid_until=start + timedelta(days=draw(st.integers(1, 300))),
        notice_sha256=draw(hex64),
        notice_language=draw(texts),
        notice_version=draw(texts),
        recorded_at=draw(instants),
        notice_url=draw(st.none() | texts),
        actor=draw(actors),
        processing=draw(processing),
        release=draw(st.none() | st.builds(WrittenRelease, hex64, st.just("P1Y"))),
        dependence=draw(st.none() | st.builds(Dependence, texts, durations)),
    )


SCHEMA_2, SCHEMA_1 = validator("consent-record-2"), validator("consent-record-1")


@given(records())
@settings(max_examples=40, deadline=None)
def test_records_survive_their_bytes_fit_the_schema_and_are_rfc_8785(made: ConsentRecord) -> None:
    body = made.to_bytes()
    assert ConsentRecord.parse(body) == made
    # The package that others may use and our own subset have to spell alike.
    assert rfc8785.dumps(json.loads(body)) == body
    SCHEMA_2.validate(json.loads(body))


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"record_id": 7},
        {"previous": "ab"},
        {"parties": {}},
        {"event": {}},
        {"schema_version": "urn:facekeep:consent-record:9"},
    ],
)
def test_the_schema_and_the_parser_refuse_the_same(change: dict[str, Any]) -> None:
    fields = json.loads(record().to_bytes()) | change
    assert not SCHEMA_2.is_valid(fields)
    assert code_of(lambda: ConsentRecord.parse(rfc8785.dumps(fields))) == "consent.corrupt"


def test_a_record_is_found_changed_in_every_byte() -> None:
    (signed,) = chain_of(Lifecycle.GIVEN)
    for place in range(len(signed.body)):
        body = bytearray(signed.body)
        body[place] ^= 0x01
        changed = SignedConsent(bytes(body), signed.signature)
        assert code_of(lambda changed=changed: verify_chain([changed], PRINCIPAL, KEY.public_bytes)) == "consent.corrupt"  # type: ignore[misc]


def test_no_name_of_a_guardian_and_no_text_of_a_notice_or_release_is_in_a_record(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    release = WrittenRelease.of("I release my face geometry.", term="P1Y")
    grant = setting.grant("little-alice", guardian="mother-of-alice", release=release)
    body = grant.record.to_bytes()
    for word in (b"alice", b"mother", b"release my face", b"We compare"):
        assert word not in body
    assert grant.record.actor.kind == "guardian"
    assert json.loads(body)["processing"]["written_release"] == {
        "law": "us-il-bipa:15-b-3",
        "statement_sha256": release.statement_sha256,
        "term": "P1Y",
    }
    SCHEMA_2.validate(json.loads(body))
    # The same guardian of another child is not to be recognised; of the same child, it is.
    other = setting.grant("little-bob", guardian="mother-of-alice").record.actor.pseudonym
    again = setting.grant("little-alice", guardian="mother-of-alice").record.actor.pseudonym
    assert grant.record.actor.pseudonym == again != other
    setting.device.consents.withdraw("little-alice", purposes=["identification"], guardian="father-of-alice")
    last = setting.device.consents.records("little-alice")[-1]
    assert (last.actor.kind, last.actor.pseudonym != again) == ("guardian", True)
    setting.device.consents.request("carol", purposes=["enrolment"], notice=NOTICE, guardian="x")
    setting.device.consents.refuse("carol", purposes=["enrolment"], notice=NOTICE, guardian="x")
    assert [item.actor.kind for item in setting.device.consents.records("carol")] == ["guardian"] * 2


def test_a_release_bounds_the_term_and_is_bounded_by_law(tmp_path: Path) -> None:
    assert code_of(lambda: WrittenRelease.of("text", term="P3Y1D")) == "consent.invalid_request"
    assert code_of(lambda: WrittenRelease("not a hash", "P1Y")) == "consent.invalid_request"
    setting = Setting(tmp_path)
    short = WrittenRelease.of("text", term="P30D")
    assert code_of(lambda: setting.grant("alice", valid_for="P31D", release=short)) == "consent.invalid_request"
    assert setting.device.subjects() == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Actor("guardian"),
        lambda: Actor("guardian", "the mother"),
        lambda: Actor("principal", "ab" * 32),
        lambda: Actor("controller", None, "issuer"),
        lambda: Actor("controller", None, "issuer", 0),
        lambda: Actor("nobody"),  # type: ignore[arg-type]
        lambda: Party("owner", "a", "b", "c", "DE"),
        lambda: Party("controller", "a", "b", "c", "Germany"),
        lambda: Party("controller", "", "b", "c", "DE"),
        lambda: Processing(recipients=("line\nbreak",)),
        lambda: Processing(withdrawal="x" * 1025),
        lambda: Processing(maximum="soon"),
        lambda: Processing(device_country="DEU"),
        lambda: Processing(rights=("r",) * 65),
        lambda: Dependence("issuer", "a week"),
        lambda: Notice("text", url=" "),
    ],
)
def test_what_cannot_stand_in_a_record_cannot_be_made(make: Any) -> None:
    assert code_of(make) == "consent.invalid_request"


# The life of a consent


LEGAL: dict[str, set[str]] = {
    # What stands after these records -> what may come next.
    "": {"requested", "given", "refused"},
    "requested": {"requested", "given", "refused", "erased"},
    "given": {"requested", "renewed", "refused", "withdrawn", "expired"},
    "refused": {"requested", "given", "refused", "erased"},
    "withdrawn": {"requested", "given", "refused", "erased"},
    "expired": {"requested", "given", "renewed", "refused", "erased"},
    "erased": set(),
}
STANDS_AFTER = {"renewed": "given"}


def is_legal(state: ConsentState, made: ConsentRecord) -> bool:
    try:
        require_transition(state, made)
    except ConsentError as error:
        if error.code != "consent.illegal_transition":
            raise
        return False
    return True


@pytest.mark.parametrize("first", [item for item in LEGAL if item])
def test_every_step_is_allowed_or_refused_as_the_table_says(first: str) -> None:
    path = {
        "requested": (Lifecycle.REQUESTED,),
        "given": (Lifecycle.GIVEN,),
        "refused": (Lifecycle.REFUSED,),
        "withdrawn": (Lifecycle.GIVEN, Lifecycle.WITHDRAWN),
        "expired": (Lifecycle.GIVEN, Lifecycle.EXPIRED),
        "erased": (Lifecycle.GIVEN, Lifecycle.WITHDRAWN, Lifecycle.ERASED),
    }[first]
    chain = chain_of(*path)
    state = fold_chain(verify_chain(chain, PRINCIPAL, KEY.public_bytes))
    allowed = set()
    for step in Lifecycle:
        if is_legal(state, record(step, chain, recorded_at=NOW + timedelta(days=40))):
            allowed.add(step.value)
    assert allowed == LEGAL[first]


def test_no_chain_begins_with_an_end() -> None:
    assert {step.value for step in Lifecycle if is_legal(ConsentState(), record(step))} == LEGAL[""]


def test_chains_of_three_steps_verify_exactly_if_the_table_allows_each() -> None:
    for steps in itertools.product(Lifecycle, repeat=3):
        stands, legal = "", True
        for step in steps:
            legal = legal and step.value in LEGAL[stands]
            # Being asked, or refusing what was never given, leaves a consent as it is only for REQUESTED.
            stands = stands if step is Lifecycle.REQUESTED and stands == "given" else STANDS_AFTER.get(step.value, step.value)
            if not legal:
                break
        state, found = ConsentState(), True
        for number, step in enumerate(steps):
            made = record(step, recorded_at=NOW + timedelta(days=40 + number))
            found = is_legal(state, made)
            if not found:
                break
            state = state.after(made)
        assert found == legal, steps


def test_withdrawing_what_was_not_given_expiring_early_and_dating_back_are_refused() -> None:
    chain = chain_of(Lifecycle.GIVEN)
    state = fold_chain(verify_chain(chain, PRINCIPAL, KEY.public_bytes))
    for bad in (
        record(Lifecycle.WITHDRAWN, chain, purposes=ALL),
        record(Lifecycle.EXPIRED, chain, recorded_at=NOW + timedelta(days=30) - timedelta(milliseconds=1)),
        record(Lifecycle.EXPIRED, chain, purposes={Purpose.ENROLMENT}, recorded_at=NOW + timedelta(days=30)),
        record(Lifecycle.RENEWED, chain, recorded_at=NOW - timedelta(seconds=1)),
    ):
        assert code_of(lambda bad=bad: require_transition(state, bad)) == "consent.illegal_transition"  # type: ignore[misc]
    require_transition(state, record(Lifecycle.EXPIRED, chain, recorded_at=NOW + timedelta(days=30)))


def test_a_step_that_does_not_exist_is_refused_even_if_the_device_signed_it() -> None:
    chain = chain_of(Lifecycle.GIVEN)
    chain.append(sign_record(record(Lifecycle.GIVEN, chain), KEY))
    assert code_of(lambda: verify_chain(chain, PRINCIPAL, KEY.public_bytes)) == "consent.illegal_transition"


def test_the_device_records_the_whole_life(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    consents = setting.device.consents
    consents.request("alice", purposes=ALL, notice=NOTICE)
    assert (consents.summary("alice").state, code_of(lambda: consents.require("alice", "verification"))) == (
        "requested",
        "consent.none",
    )
    setting.grant("alice", valid_for="P30D")
    consents.request("alice", purposes=ALL | {Purpose.REDACTION}, notice=NOTICE)
    assert consents.require("alice", "verification"), "being asked for more takes nothing away"
    assert code_of(lambda: consents.require("alice", "redaction")) == "consent.wrong_purpose"
    setting.grant("alice", valid_for="P30D")
    assert consents.record_expired() == 0
    setting.clock.advance(timedelta(days=30))
    assert code_of(lambda: consents.require("alice", "verification")) == "consent.expired"
    assert consents.record_expired() == 1
    assert consents.record_expired() == 0
    assert consents.summary("alice").state == "expired"
    assert code_of(lambda: consents.require("alice", "verification")) == "consent.expired"
    assert setting.grant("alice").record.state == "renewed"
    consents.withdraw("alice", purposes=["identification"])
    states = [item.state.value for item in consents.records("alice")]
    assert states == ["requested", "given", "requested", "renewed", "expired", "renewed", "withdrawn"]
    assert "consent.expired" in setting.events()
    assert "consent.requested" in setting.events()


def test_erasure_closes_the_chain_that_stays_behind(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.grant("alice")
    setting.enrol("alice")
    principal = setting.principal("alice")
    setting.device.withdraw("alice")
    with setting.device._vault.transaction(durable=False) as transaction:
        chain = transaction.consent_chains()[principal]
    found = verify_chain(chain, principal, setting.device._vault.device_key.public_bytes)
    assert [item.state.value for item in found] == ["given", "withdrawn", "erased"]
    assert fold_chain(found).status_of(Purpose.ENROLMENT) is ConsentStatus.ERASED
    assert setting.grant("alice").record.previous is None, "whoever comes back begins a new chain"


def test_a_clock_set_back_does_not_keep_anybody_from_withdrawing(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    setting.grant("alice")
    setting.clock.advance(timedelta(days=-3))
    setting.device.consents.withdraw("alice", purposes=["identification"])
    first, last = setting.device.consents.records("alice")
    assert last.recorded_at == first.recorded_at, "dated no earlier than the record before"
    setting.device.withdraw("alice")
    assert setting.device.subjects() == ()


# Version 1


def test_a_record_of_version_1_is_read_and_verified_byte_for_byte() -> None:
    (found,) = verify_chain([SignedConsent(OLD_BODY, OLD_SIGNATURE)], PRINCIPAL, OLD_KEY.public_bytes)
    assert (found.version, found.state, found.purposes) == (1, Lifecycle.GIVEN, BOTH)
    assert found.notice_sha256.startswith("dcba8acf")
    assert found.to_bytes() == OLD_BODY
    SCHEMA_1.validate(json.loads(OLD_BODY))
    assert not SCHEMA_2.is_valid(json.loads(OLD_BODY))
    for new in (b"erased", b"expired", b"requested"):
        assert code_of(lambda new=new: ConsentRecord.parse(OLD_BODY.replace(b"given", new))) == "consent.corrupt"  # type: ignore[misc]


def old_record(chain: list[SignedConsent], state: Lifecycle, principal: str, purposes: frozenset[Purpose] = ALL) -> ConsentRecord:
    before = chain[-1].digest if chain else None
    until = NOW + timedelta(days=30)
    return ConsentRecord(
        f"urn:uuid:00000000-0000-4000-8000-{len(chain):012d}",
        principal,
        before,
        state,
        purposes,
        NOW,
        until,
        NOTICE.sha256,
        "en",
        "1",
        NOW,
        version=1,
    )


def test_a_vault_of_the_older_facekeep_stays_in_use(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    key = setting.device._vault.device_key
    with setting.device._vault.transaction() as transaction:
        handle = transaction.create_subject("alice")
        old: list[SignedConsent] = []
        # The older Facekeep let a grant follow a grant.
        for state in (Lifecycle.GIVEN, Lifecycle.GIVEN, Lifecycle.RENEWED):
            old.append(sign_record(old_record(old, state, handle.principal_id), key))
            transaction.append_consent(handle, old[-1])
    setting.enrol("alice")
    setting.device.close()
    setting.device = setting.open(mode="open")
    consents = setting.device.consents
    assert consents.require("alice", "verification").record.version == 1
    assert setting.searchable() == 1
    consents.withdraw("alice", purposes=["identification"])
    assert setting.grant("alice").record.state == "renewed"
    assert [item.version for item in consents.records("alice")] == [1, 1, 1, 2, 2]
    validator("consent-receipt-1").validate(json.loads(consents.receipt("alice")))
    with setting.device._vault.transaction() as transaction:
        handle = transaction.find_subject("alice") or handle
        back = sign_record(old_record(list(transaction.consents(handle)), Lifecycle.GIVEN, handle.principal_id), key)
        # Rollback: version 1 knows no order, so nobody may fall back to it.
        assert code_of(lambda: transaction.append_consent(handle, back)) == "consent.illegal_transition"
    setting.device.verify_vault()
    setting.device.withdraw("alice")
    assert setting.templates() == 0


def test_the_worked_example_of_the_format_page() -> None:
    page = PAGE.read_text()
    notice = Notice("Your face is compared with the template you enrol, on this device only, for 30 days.", "en", "2026-11")
    made = new_record(
        record_id="urn:uuid:00000000-0000-4000-8000-000000000002",
        principal_id=PRINCIPAL,
        chain=[SignedConsent(OLD_BODY, OLD_SIGNATURE)],
        state=Lifecycle.RENEWED,
        purposes=BOTH,
        valid_from=NOW,
        valid_until=NOW + timedelta(days=30),
        notice=notice,
        recorded_at=NOW,
        processing=Processing(
            parties=(Party("controller", "Example GmbH", "1 High Street, Berlin", "privacy@controller.example", "DE"),)
        ),
    )
    signed = sign_record(made, OLD_KEY)
    for piece in (signed.body.decode(), signed.signature.hex(), OLD_BODY.decode(), OLD_SIGNATURE.hex()):
        assert piece in page, f"docs/formats/consent-record.md does not show:\n{piece}"
    chain = [SignedConsent(OLD_BODY, OLD_SIGNATURE), signed]
    assert len(verify_chain(chain, PRINCIPAL, OLD_KEY.public_bytes)) == 2
    assert PROCESSING.names_a_controller
