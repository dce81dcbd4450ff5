"""The controller's signature: at once by delegation, later by countersigning, and a gate that can ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from facekeep.consent import (
    ConsentPolicy,
    ControllerKey,
    ControllerProof,
    Delegation,
    Lifecycle,
    Processing,
    Purpose,
    SignedConsent,
    VerifierKey,
    countersign,
    countersign_as_delegate,
    find_proof,
    new_delegation,
    proofs_of,
    sign_record,
    with_proofs,
)
from facekeep.consent.countersignatures import countersign_receipt, parse_countersignatures
from facekeep.consent.receipt import open_receipt
from facekeep.errors import CODES
from tests.sdk.consent_setting import (
    CONTROLLER,
    ISSUER,
    KEY,
    NOTICE,
    NOW,
    OTHER,
    PROCESSING,
    Setting,
    chain_of,
    code_of,
    record,
)

STRICT = ConsentPolicy(require_controller_signature=True, controller_key=CONTROLLER.verifier, processing=PROCESSING)
IMPOSTOR = ControllerKey(CONTROLLER.verifier.name, b"\x66" * 32)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def device_key(setting: Setting) -> VerifierKey:
    return VerifierKey.of_device(bytes.fromhex(setting.device.info().public_key))


def delegation_for(setting: Setting, days: int = 30, key: ControllerKey = CONTROLLER) -> bytes:
    now = setting.clock.now()
    return new_delegation(key, device_key(setting).public_key, now, now + timedelta(days=days)).to_bytes()


def test_without_the_policy_the_device_alone_is_enough(setting: Setting) -> None:
    setting.grant("alice")
    assert setting.device.consents.require("alice", "verification")
    assert proofs_of(setting.device.consents.chain("alice")[0]) == ()


def test_under_the_policy_nothing_is_allowed_until_the_controller_signs(setting: Setting) -> None:
    consents = setting.device.consents
    consents.set_policy(STRICT)
    setting.grant("alice")
    assert code_of(lambda: consents.require("alice", "verification")) == "consent.not_countersigned"
    assert code_of(setting.searchable) == "consent.not_countersigned"
    # The controller, on a machine of its own, sees the receipt only.
    receipt = open_receipt(consents.receipt("alice"), device_key(setting))
    signatures = countersign_receipt(receipt, CONTROLLER)
    assert consents.countersign("alice", signatures) == 1
    assert consents.require("alice", "verification")
    assert setting.searchable() == 1
    assert consents.countersign("alice", signatures) == 0, "attached once"
    assert setting.events()[-1] == "consent.countersigned"
    # What is attached is part of what the vault authenticates, and outlives a restart.
    setting.device.verify_vault()
    setting.device.close()
    setting.device = setting.open(mode="open")
    assert setting.device.consents.require("alice", "verification")
    # A renewal is another record, which nobody has signed yet.
    setting.grant("alice")
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.not_countersigned"
    assert setting.device.consents.countersign("alice", CONTROLLER) == 1, "with the key at hand"
    assert setting.device.consents.require("alice", "verification")


def test_a_withdrawal_needs_no_signature_of_the_controller(setting: Setting) -> None:
    consents = setting.device.consents
    consents.set_policy(STRICT)
    setting.grant("alice")
    consents.countersign("alice", CONTROLLER)
    consents.withdraw("alice", purposes=["verification"])
    assert code_of(lambda: consents.require("alice", "verification")) == "consent.withdrawn"


def test_a_delegation_signs_at_once_and_only_while_it_lasts(setting: Setting) -> None:
    consents = setting.device.consents
    assert code_of(lambda: consents.install_delegation(delegation_for(setting))) == "consent.unknown_issuer"
    consents.set_policy(STRICT)
    consents.install_delegation(delegation_for(setting, days=30))
    setting.grant("alice", valid_for="P1Y")
    assert consents.require("alice", "verification")
    (proof,) = proofs_of(consents.chain("alice")[0])
    assert proof.delegation is not None
    setting.clock.advance(timedelta(days=30))
    assert consents.require("alice", "verification"), "what was signed while it lasted stays signed"
    setting.grant("bob")
    assert code_of(lambda: consents.require("bob", "verification")) == "consent.not_countersigned"
    # The controller's own signature takes the place of the delegate's.
    assert consents.countersign("alice", CONTROLLER) == 1
    (proof,) = proofs_of(consents.chain("alice")[0])
    assert proof.delegation is None


@pytest.mark.parametrize(
    "forge",
    [
        lambda setting: delegation_for(setting, key=IMPOSTOR),
        lambda setting: delegation_for(setting, key=ISSUER),
        lambda setting: new_delegation(CONTROLLER, OTHER.public_bytes, NOW, NOW + timedelta(days=9)).to_bytes(),
        lambda setting: delegation_for(setting).replace(b"2026-12", b"2036-12"),
    ],
    ids=["another key of that name", "another name", "another device", "a longer term"],
)
def test_a_delegation_that_is_not_the_controllers_for_this_device_is_refused(
    setting: Setting, forge: Callable[[Setting], bytes]
) -> None:
    setting.device.consents.set_policy(STRICT)
    assert code_of(lambda: setting.device.consents.install_delegation(forge(setting))) == "trust.bad_signature"


def test_bytes_that_are_no_delegation_are_refused(setting: Setting) -> None:
    setting.device.consents.set_policy(STRICT)
    whole = delegation_for(setting)
    for data in (b"", b"{}", b"[]", b"null", whole[:-1], b" " * 70_000, whole.replace(b'"signature"', b'"signatures"'), b"\xff"):
        assert code_of(lambda data=data: setting.device.consents.install_delegation(data)) == "trust.malformed"  # type: ignore[misc]
    assert code_of(lambda: new_delegation(CONTROLLER, b"short", NOW, NOW)) == "trust.malformed"


def test_a_device_cannot_stretch_its_delegation_by_dating_a_record_into_it() -> None:
    delegation = new_delegation(CONTROLLER, KEY.public_bytes, NOW, NOW + timedelta(days=1))
    late = sign_record(record(recorded_at=NOW + timedelta(days=1)), KEY)
    proof = countersign_as_delegate(KEY, delegation, late.body)
    assert code_of(lambda: proof.verify(late.body, CONTROLLER.verifier, KEY.public_bytes)) == "trust.bad_signature"
    early = sign_record(record(recorded_at=NOW), KEY)
    countersign_as_delegate(KEY, delegation, early.body).verify(early.body, CONTROLLER.verifier, KEY.public_bytes)
    # Another device that got hold of the delegation signs with a key that it does not name.
    stolen = countersign_as_delegate(OTHER, delegation, early.body)
    assert code_of(lambda: stolen.verify(early.body, CONTROLLER.verifier, OTHER.public_bytes)) == "trust.bad_signature"
    assert code_of(lambda: stolen.verify(early.body, CONTROLLER.verifier, KEY.public_bytes)) == "trust.bad_signature"


def test_a_signature_for_one_record_is_none_for_another() -> None:
    one, two = chain_of(Lifecycle.GIVEN, Lifecycle.WITHDRAWN)
    proof = countersign(CONTROLLER, one.body)
    assert find_proof(with_proofs(one, [proof]), CONTROLLER.verifier, KEY.public_bytes) == proof
    assert find_proof(with_proofs(two, [proof]), CONTROLLER.verifier, KEY.public_bytes) is None
    assert find_proof(with_proofs(one, [proof]), IMPOSTOR.verifier, KEY.public_bytes) is None
    assert find_proof(with_proofs(one, [proof]), ISSUER.verifier, KEY.public_bytes) is None
    # The device's own signature of a record never passes for the controller's, even with the same key.
    same = ControllerKey("device", b"\x01" * 32)
    assert find_proof(with_proofs(one, [ControllerProof("device", one.signature)]), same.verifier, KEY.public_bytes) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data[:-2], "trust.malformed"),
        (lambda data: b"{}", "trust.malformed"),
        (lambda data: b"", "trust.malformed"),
        (lambda data: b"x" * (1 << 21), "trust.malformed"),
        (lambda data: data.replace(b"controller.example/consent", b"controller.example/others"), "trust.bad_signature"),
        (lambda data: data.replace(b'"sha256":"', b'"sha256":"0', 1), "consent.invalid_request"),
        (lambda data: _with_other_signature(data), "trust.bad_signature"),
    ],
)
def test_countersignatures_that_do_not_fit_attach_nothing(setting: Setting, change: Callable[[bytes], bytes], code: str) -> None:
    consents = setting.device.consents
    consents.set_policy(STRICT)
    setting.grant("alice")
    receipt = open_receipt(consents.receipt("alice"), device_key(setting))
    data = change(countersign_receipt(receipt, CONTROLLER))
    assert code_of(lambda: consents.countersign("alice", data)) == code
    assert proofs_of(consents.chain("alice")[0]) == ()


def _with_other_signature(data: bytes) -> bytes:
    fields = json.loads(data)
    fields["records"][0]["signature"] = "A" * 86 + "=="
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def test_countersignatures_of_another_subject_are_refused(setting: Setting) -> None:
    consents = setting.device.consents
    consents.set_policy(STRICT)
    setting.grant("alice")
    setting.grant("bob")
    receipt = open_receipt(consents.receipt("alice"), device_key(setting))
    assert code_of(lambda: consents.countersign("bob", countersign_receipt(receipt, CONTROLLER))) == "consent.invalid_request"
    assert code_of(lambda: consents.countersign("carol", CONTROLLER)) == "consent.none"
    assert code_of(lambda: consents.countersign("bob", IMPOSTOR)) == "trust.bad_signature"
    consents.set_policy(ConsentPolicy())
    assert code_of(lambda: consents.countersign("bob", CONTROLLER)) == "consent.unknown_issuer"
    assert parse_countersignatures(countersign_receipt(receipt, CONTROLLER)).keys() == {receipt.chain[0].digest}


def test_another_controller_in_the_policy_wants_its_own_signature(setting: Setting) -> None:
    consents = setting.device.consents
    consents.set_policy(STRICT)
    setting.grant("alice")
    consents.countersign("alice", CONTROLLER)
    consents.set_policy(ConsentPolicy(require_controller_signature=True, controller_key=IMPOSTOR.verifier))
    assert code_of(lambda: consents.require("alice", "verification")) == "consent.not_countersigned"
    assert code_of(setting.searchable) == "consent.not_countersigned"


def test_what_lies_beside_a_record_and_is_no_proof_is_corrupt() -> None:
    (signed,) = chain_of(Lifecycle.GIVEN)
    proof = countersign(CONTROLLER, signed.body)
    whole = with_proofs(signed, [proof])
    assert SignedConsent.from_columns(whole.body, whole.column) == whole
    for proofs in (b"x", b"[]", b"{}", whole.proofs + b" ", whole.proofs[:-1], b"[" + b",".join([whole.proofs[1:-1]] * 9) + b"]"):
        bad = SignedConsent(signed.body, signed.signature, proofs)
        assert code_of(lambda bad=bad: proofs_of(bad)) == "consent.corrupt"  # type: ignore[misc]
    assert code_of(lambda: with_proofs(signed, [proof] * 9)) == "consent.invalid_request"


def test_keys_as_text() -> None:
    assert VerifierKey.parse(str(CONTROLLER.verifier)) == CONTROLLER.verifier
    again = ControllerKey.parse(CONTROLLER.to_text())
    assert again.verifier == CONTROLLER.verifier
    assert CONTROLLER.to_text().strip().split("+", 4)[4] not in repr(CONTROLLER)
    assert b"\x03".hex() * 32 not in repr(CONTROLLER)
    good = str(CONTROLLER.verifier)
    for bad in ("", "a+b", good.replace("+", "-"), good[:-4], good.replace("consent", "context"), "x" * 600, good + "A", "€+1+1"):
        assert code_of(lambda bad=bad: VerifierKey.parse(bad)) == "trust.malformed"  # type: ignore[misc]
        assert code_of(lambda bad=bad: ControllerKey.parse(bad)) == "trust.malformed"  # type: ignore[misc]
    assert code_of(lambda: ControllerKey("two words", b"\x01" * 32)) == "trust.malformed"


def test_the_name_of_the_device_key_is_that_of_its_trail() -> None:
    from facekeep.audit.trail import trail_origin

    assert VerifierKey.of_device(KEY.public_bytes).name == trail_origin(KEY.public_bytes)


# The policy


POLICY = f"""
require_controller_signature = true
controller_key = "{CONTROLLER.verifier}"

[processing]
jurisdictions = ["EU"]
device_country = "DE"
inactivity = "P1Y"

[[processing.parties]]
role = "controller"
name = "Example GmbH"
address = "1 High Street, Berlin"
contact = "privacy@controller.example"
country = "DE"

[revocation]
issuer = "{ISSUER.verifier}"
max_age = "P7D"
covers = "all"
"""


def test_a_policy_reads_back(setting: Setting) -> None:
    policy = ConsentPolicy.parse_toml(POLICY)
    assert ConsentPolicy.parse(policy.to_bytes()) == policy
    setting.device.consents.set_policy(policy)
    assert setting.device.consents.policy() == policy
    assert ConsentPolicy.parse_toml("") == ConsentPolicy()
    grant = setting.grant("alice")
    assert grant.record.processing.names_a_controller
    assert grant.record.dependence is not None
    assert Purpose.ENROLMENT in grant.purposes
    assert NOTICE.url == grant.record.notice_url


@pytest.mark.parametrize(
    "text",
    [
        "require_controller_signature = true",
        'require_controller_signature = "yes"',
        "unknown = 1",
        "[revocation]\nmax_age = 'P7D'",
        f"[revocation]\nissuer = '{ISSUER.verifier}'",
        f"[revocation]\nissuer = '{ISSUER.verifier}'\nmax_age = 'a week'",
        f"[revocation]\nissuer = '{ISSUER.verifier}'\nmax_age = 'P7D'\ncovers = 'some'",
        f"[revocation]\nissuer = '{ISSUER.verifier}'\nmax_age = 'P7D'\nmore = 1",
        "[revocation]\ncovers = 'all'",
        "[processing]\nunknown = 1",
        "[processing]\njurisdictions = 'EU'",
        "processing = 1",
        "revocation = 1",
        "not toml",
        "[processing]\nautomated_decision = 1",
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(text: str) -> None:
    assert code_of(lambda: ConsentPolicy.parse_toml(text)) == "consent.invalid_request"


def test_a_policy_with_a_key_that_is_none_is_refused() -> None:
    assert code_of(lambda: ConsentPolicy.parse_toml("controller_key = 'x'")) == "trust.malformed"


def test_a_policy_that_cannot_be_read_allows_nothing(setting: Setting) -> None:
    setting.grant("alice")
    with setting.device._vault.transaction() as transaction:
        transaction.write_setting("consent.policy", ConsentPolicy().to_bytes().replace(b"policy:1", b"policy:2"))
    assert code_of(lambda: setting.device.consents.require("alice", "verification")) == "consent.corrupt"
    assert code_of(setting.searchable) == "consent.corrupt"


def test_the_codes_are_those_of_the_house() -> None:
    assert {"consent.not_countersigned", "consent.unknown_issuer", "consent.illegal_transition"} <= set(CODES)
    assert Processing().names_a_controller is False
    assert Delegation.parse(new_delegation(CONTROLLER, KEY.public_bytes, NOW, NOW + timedelta(days=1)).to_bytes())
