"""Training samples and membership: kept under one purpose, few and not for long, and gone with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from facekeep import Device, Purpose
from facekeep.biometric import TrainingSample
from facekeep.clock import ManualClock
from facekeep.consent import ConsentGrant
from facekeep.errors import FacekeepError
from facekeep.retention import Kind, Reason, RetentionCertificate, RetentionPolicy
from facekeep.training import describe_kit, parse_parameter_table
from tests.flows.conftest import ALL, NOTICE, CountedModels, CountingCamera, picture
from tests.flows.release_setting import policy
from tests.sdk.consent_setting import LISTS, revocation_note

TRAINING = ALL | {Purpose.FEDERATED_TRAINING}


@pytest.fixture
def joined(device: Device) -> Device:
    device.federation.join(policy())
    return device


def admit(
    device: Device, name: str, person: int, purposes: frozenset[Purpose] = TRAINING, valid_for: str = "P300D"
) -> ConsentGrant:
    grant = device.consents.grant(name, purposes=purposes, valid_for=valid_for, notice=NOTICE)
    device.enrol(name, [picture(person, 0)], grant)
    return grant


def kept(device: Device, name: str) -> tuple[TrainingSample, ...]:
    with device._vault.transaction(durable=False) as transaction:
        handle = transaction.find_subject(name)
        return () if handle is None else transaction.samples(handle)


def rows(device: Device) -> int:
    with device._vault.transaction(durable=False) as transaction:
        return len(transaction.stored_samples())


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(FacekeepError) as caught:
        action()
    return caught.value.code


def events(device: Device, code: str) -> list[dict[str, Any]]:
    return [entry for body in device.trail_entries() if (entry := json.loads(body))["event"] == code]


def erased(device: Device) -> list[tuple[str, int]]:
    return [(entry["details"]["reason"], entry["details"]["count"]) for entry in events(device, "sample.erased")]


def groups(device: Device) -> dict[str, str | None]:
    with device._vault.transaction(durable=False) as transaction:
        return {handle.name: transaction.declared(handle) for handle in transaction.subjects()}


def import_cut_short(device: Device, note: bytes) -> None:
    """Import a revocation list and be interrupted before anything is destroyed."""
    shred = device._vault.shred

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    device._vault.shred = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        device.revocations.import_list(note)
    device._vault.shred = shred  # type: ignore[method-assign]


def test_samples_are_kept_sealed_and_the_oldest_make_room(joined: Device, clock: ManualClock) -> None:
    grant = admit(joined, "alice", 1)
    first = joined.federation.collect("alice", [picture(1, 1), picture(1, 2)], grant, kind="day")
    assert (first.kept, first.dropped, [frame.admitted for frame in first.frames]) == (2, 0, [True, True])
    clock.advance(timedelta(hours=1))
    joined.federation.collect("alice", picture(1, 3), grant, kind="night")
    clock.advance(timedelta(hours=1))
    second = joined.federation.collect("alice", [picture(1, number) for number in (4, 5, 6)], grant)
    assert (second.kept, second.dropped) == (3, 2)
    assert [item.kind for item in kept(joined, "alice")] == ["night", "collected", "collected", "collected"]
    clock.advance(timedelta(hours=1))
    # More than may be kept at once: the newest count.
    third = joined.federation.collect("alice", [picture(1, number) for number in range(7, 13)], grant)
    assert (third.kept, third.dropped) == (4, 4)
    assert rows(joined) == 4
    assert erased(joined) == [("bound", 2), ("bound", 4)]
    joined.verify_vault()
    joined.rotate_keys()
    assert len(kept(joined, "alice")) == 4


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda d: d.consents.grant("alice", purposes=ALL, valid_for="P30D", notice=NOTICE), "consent.wrong_purpose"),
        (lambda d: d.consents.withdraw("alice", purposes=[Purpose.FEDERATED_TRAINING]), "consent.withdrawn"),
        (lambda d: d.withdraw("alice"), "consent.none"),
        (lambda d: d.federation.leave(), "federation.not_joined"),
    ],
)
def test_without_consent_or_federation_no_camera_and_no_model(
    joined: Device, models: CountedModels, prepare: Callable[[Device], object], code: str
) -> None:
    grant = admit(joined, "alice", 1)
    joined.federation.collect("alice", picture(1, 1), grant)
    prepare(joined)
    models.counting.calls.clear()
    camera = CountingCamera(picture(1, 2))
    assert code_of(lambda: joined.federation.collect("alice", camera, grant)) == code
    assert camera.grants == models.counting.calls == []
    assert rows(joined) == 0
    assert json.loads(joined.trail_entries()[-1])["outcome"] == code


def test_a_bystander_is_not_kept_and_a_new_camera_may_be(joined: Device) -> None:
    grant = admit(joined, "alice", 1)
    receipt = joined.federation.collect("alice", [picture(1, 1), picture(60, 1)], grant)
    assert [frame.refused_with for frame in receipt.frames] == [None, "enrolment.samples_disagree"]
    assert code_of(lambda: joined.federation.collect("alice", picture(60, 2), grant)) == "enrolment.no_usable_frame"
    assert code_of(lambda: joined.federation.collect("alice", [], grant)) == "enrolment.no_usable_frame"
    assert joined.federation.collect("alice", picture(60, 2), grant, unsafe_without_comparison=True).kept == 1
    nobody = joined.consents.grant("dave", purposes=TRAINING, valid_for="P30D", notice=NOTICE)
    assert code_of(lambda: joined.federation.collect("dave", picture(4, 1), nobody)) == "enrolment.not_enrolled"
    assert code_of(lambda: joined.federation.collect("alice", picture(1, 1), nobody)) == "consent.wrong_subject"
    with pytest.raises(ValueError, match="kind of capture"):
        joined.federation.collect("alice", picture(1, 1), grant, kind="Night at Alice's")


@pytest.mark.parametrize(
    "end",
    [
        lambda d: d.consents.withdraw("alice", purposes=[Purpose.FEDERATED_TRAINING]),
        lambda d: d.consents.refuse("alice", purposes=[Purpose.FEDERATED_TRAINING], notice=NOTICE),
        lambda d: d.consents.grant("alice", purposes=ALL, valid_for="P30D", notice=NOTICE),
    ],
    ids=["withdrawn", "refused", "given anew without it"],
)
def test_the_end_of_the_purpose_destroys_them_and_nothing_else(joined: Device, end: Callable[[Device], object]) -> None:
    grant = admit(joined, "alice", 1)
    joined.federation.collect("alice", [picture(1, 1), picture(1, 2)], grant)
    bob = admit(joined, "bob", 2)
    joined.federation.collect("bob", picture(2, 1), bob)
    epoch = joined._vault._keystore.secrets.epoch
    end(joined)
    assert kept(joined, "alice") == ()
    assert len(kept(joined, "bob")) == 1
    assert erased(joined) == [("withdrawn", 2)]
    assert joined.verify("alice", picture(1, 3)).is_match
    # Yesterday's backup stays shut.
    secrets = joined._vault._keystore.secrets
    assert secrets.epoch == epoch + 1
    assert set(secrets.wrap_keys) == {secrets.epoch}
    joined.verify_vault()


@pytest.mark.parametrize(
    "end",
    [
        lambda d: d.consents.withdraw("alice", purposes=[Purpose.CALIBRATION_STATISTICS]),
        lambda d: d.consents.refuse("alice", purposes=[Purpose.CALIBRATION_STATISTICS], notice=NOTICE),
        lambda d: d.consents.grant("alice", purposes=TRAINING, valid_for="P30D", notice=NOTICE),
    ],
    ids=["withdrawn", "refused", "given anew without it"],
)
def test_a_declared_group_ends_with_its_purpose_and_samples_stay(joined: Device, end: Callable[[Device], object]) -> None:
    grant = admit(joined, "alice", 1, TRAINING | {Purpose.CALIBRATION_STATISTICS})
    joined.federation.collect("alice", [picture(1, 1)], grant)
    joined.federation.declare("alice", "north")
    epoch = joined._vault._keystore.secrets.epoch
    end(joined)
    assert groups(joined) == {"alice": None}
    assert len(kept(joined, "alice")) == 1
    assert set(joined._vault._keystore.secrets.wrap_keys) == {epoch + 1}, "yesterday's backup stays shut"
    assert [item["details"]["held"] for item in events(joined, "group.declared")] == [True, False]


def test_a_revocation_list_ends_what_was_kept_for_a_purpose_and_completes_what_was_cut_short(
    joined: Device, clock: ManualClock
) -> None:
    both = frozenset({Purpose.FEDERATED_TRAINING, Purpose.CALIBRATION_STATISTICS})
    joined.consents.set_policy(LISTS)
    for number, name in enumerate(("alice", "bob"), 1):
        grant = admit(joined, name, number, TRAINING | both)
        joined.federation.collect(name, [picture(number, 1)], grant)
        joined.federation.declare(name, "north")
    listed = {joined.consents.records("alice")[-1].principal_id: clock.now()}
    note = revocation_note(1, listed, purposes=both, issued_at=clock.now())
    import_cut_short(joined, note)
    report = joined.revocations.import_list(note)
    assert (report.is_new, report.erasures) == (False, ())
    assert (len(kept(joined, "alice")), len(kept(joined, "bob"))) == (0, 1)
    assert groups(joined) == {"alice": None, "bob": "north"}
    assert erased(joined) == [("withdrawn", 1)]
    # Once more there is nothing to destroy, and no key is rotated for nothing.
    epoch = joined._vault._keystore.secrets.epoch
    joined.revocations.import_list(note)
    assert joined._vault._keystore.secrets.epoch == epoch


def test_an_erasure_takes_them_and_its_receipt_names_them(joined: Device) -> None:
    grant = admit(joined, "alice", 1)
    joined.federation.collect("alice", [picture(1, 1), picture(1, 2)], grant)
    receipt = joined.withdraw("alice")
    assert [mark.what for mark in receipt.marks].count("sample") == 2
    assert erased(joined) == [("withdrawn", 2)]
    assert joined.erasures.verify(subject="alice", receipt=receipt).findings == ()


def test_the_residue_scan_knows_the_training_kit_of_the_policy_and_no_other(joined: Device) -> None:
    layout = parse_parameter_table([["head.weight", [4, 6]]])
    # Dense in every byte, as the noise of a real graph is.
    graph = np.random.default_rng(3).bytes(40_000)
    description, files = describe_kit("some-embedder/onnx", "0" * 64, layout, np.eye(4, dtype=np.float32), graph, "nobody")
    folder = joined._vault.home / "training-kit"
    folder.mkdir()
    for name, content in {"kit.json": description, **files}.items():
        (folder / name).write_bytes(content)
    assert [finding.store for finding in joined.erasures.verify().findings] == ["training-kit/train.onnx"], (
        "nobody said that it may lie there"
    )
    joined.federation.join(policy(training_kit=hashlib.sha256(description).hexdigest()))
    assert joined.erasures.verify().findings == ()
    (folder / "train.onnx").write_bytes(graph[::-1])
    assert [finding.store for finding in joined.erasures.verify().findings] == ["training-kit/train.onnx"]
    (folder / "kit.json").write_bytes(description + b" ")
    (folder / "train.onnx").write_bytes(graph)
    assert len(joined.erasures.verify().findings) == 1


def test_they_end_with_their_age_before_a_round_can_use_them(joined: Device, clock: ManualClock) -> None:
    joined.federation.join(policy(samples_age="P10D"))
    grant = admit(joined, "alice", 1)
    joined.federation.collect("alice", picture(1, 1), grant)
    clock.advance(timedelta(days=9))
    joined.federation.collect("alice", picture(1, 2), grant)
    clock.advance(timedelta(days=1))
    assert code_of(lambda: joined.federation.handle("hello", b"")) == "federation.malformed"
    assert rows(joined) == 1
    assert erased(joined) == [("age", 1)]
    # A clock set back prolongs nothing.
    clock.advance(timedelta(days=9))
    joined.verify("alice", picture(1, 3))
    clock.advance(timedelta(days=-15))
    code_of(lambda: joined.federation.handle("hello", b""))
    assert rows(joined) == 0


RETENTION = RetentionPolicy(
    templates_inactivity="P200D",
    templates_maximum="P250D",
    samples_inactivity="P20D",
    samples_maximum="P30D",
    receipts_after_end="P3Y",
    log_keep="P4Y",
)


def test_retention_plans_and_destroys_them(joined: Device, clock: ManualClock) -> None:
    grant = admit(joined, "alice", 1)
    joined.federation.collect("alice", [picture(1, 1), picture(1, 2)], grant)
    joined.retention.adopt(RETENTION)
    plan = joined.retention.plan()
    assert [item.due.reason.value for item in plan.items if item.holding.kind.value == "training-sample"] == ["inactivity"] * 2
    clock.advance(timedelta(days=21))
    certificate = RetentionCertificate.parse(joined.retention.run().body)
    assert {kind: count for kind, count in certificate.counts.items() if count} == {"training-sample": 2}
    assert RetentionCertificate.parse(joined.retention.certificate().body) == certificate
    assert rows(joined) == 0
    assert joined.verify("alice", picture(1, 3)).is_match
    # With the consent the subject ends, and its samples with it, once in the certificate.
    joined.federation.collect("alice", picture(1, 1), grant)
    joined.federation.collect("alice", picture(1, 2), grant)
    clock.advance(timedelta(days=300))
    certificate = RetentionCertificate.parse(joined.retention.run().body)
    counts = certificate.counts
    assert (counts["template"], counts["training-sample"]) == (1, 2)
    assert joined.subjects() == ()
    assert rows(joined) == 0
    joined.verify_vault()


def declare(joined: Device, clock: ManualClock) -> None:
    admit(joined, "alice", 1, TRAINING | {Purpose.CALIBRATION_STATISTICS})
    joined.federation.declare("alice", "north")
    joined.retention.adopt(RETENTION)


def test_a_declared_group_goes_when_its_term_is_over_and_the_certificate_says_so(joined: Device, clock: ManualClock) -> None:
    declare(joined, clock)
    plan = joined.retention.plan()
    (item,) = [item for item in plan.items if item.holding.kind is Kind.DECLARED_GROUP]
    assert (item.due.reason, item.due.at) == (Reason.PURPOSE_END, joined.consents.records("alice")[-1].valid_until)
    assert item.holding.held_since == joined.consents.records("alice")[-1].recorded_at
    before = RetentionCertificate.parse(joined.retention.run().body)
    assert (groups(joined), "declared-group" in before.counts) == ({"alice": "north"}, False)
    # Its only use is in rounds: face and template stay in use until the same day.
    clock.advance(timedelta(days=300))
    certificate = RetentionCertificate.parse(joined.retention.run().body)
    assert (certificate.counts["template"], certificate.counts["declared-group"]) == (1, 1)
    assert RetentionCertificate.parse(joined.retention.certificate().body) == certificate
    assert joined.subjects() == ()
    joined.verify_vault()


def test_retention_completes_what_a_withdrawal_was_cut_short_of(joined: Device, clock: ManualClock) -> None:
    joined.consents.set_policy(LISTS)
    declare(joined, clock)
    purposes = frozenset({Purpose.CALIBRATION_STATISTICS})
    listed = {joined.consents.records("alice")[-1].principal_id: clock.now()}
    note = revocation_note(1, listed, purposes=purposes, issued_at=clock.now())
    import_cut_short(joined, note)
    assert groups(joined) == {"alice": "north"}
    epoch = joined._vault._keystore.secrets.epoch
    certificate = RetentionCertificate.parse(joined.retention.run().body)
    assert {kind: count for kind, count in certificate.counts.items() if count} == {"declared-group": 1}
    assert groups(joined) == {"alice": None}
    assert set(joined._vault._keystore.secrets.wrap_keys) == {epoch + 1}, "yesterday's backup stays shut"
    assert [found.subject for found in joined.subjects()] == ["alice"]
    assert [item["details"].get("groups") for item in events(joined, "retention.run")] == [1]
    joined.verify_vault()


def test_a_round_that_used_them_prolongs_them_and_a_migration_loses_no_use(clock: ManualClock) -> None:
    from facekeep.audit import AuditEvent, TrailHead, append_event
    from facekeep.audit.usage import SAMPLES, LastUses

    who, head, uses = "ab" * 32, TrailHead(), LastUses()
    for event in (
        AuditEvent("verification", subject=who, details={"match": True, "contract": "a" * 64}),
        AuditEvent("round.joined", subject=who, details={"round": 1}),
        AuditEvent("template.migrated", subject=who, details={"references": 1, "contract": "b" * 64, "parent": "a" * 64}),
        AuditEvent("template.migrated", "vault.disk_full", subject=who),
    ):
        body, head = append_event(head, event, clock.now())
        uses.read([body])
        clock.advance(timedelta(days=1))
    start = clock.now() - timedelta(days=4)
    assert uses.last_use(who, "a" * 64) == uses.last_use(who, "b" * 64) == start
    assert uses.last_use(who, SAMPLES) == start + timedelta(days=1)
    assert LastUses.parse(uses.to_bytes()) == uses


def test_leaving_takes_samples_key_and_round_and_keeps_what_was_spent(joined: Device) -> None:
    grant = admit(joined, "alice", 1)
    joined.federation.collect("alice", picture(1, 1), grant)
    ledger = b'{"charges":[],"v":1,"without_noise":3}'
    with joined._vault.transaction() as transaction:
        transaction.write_sealed("federation/round", b"secrets")
        transaction.write_setting("federation.budget", ledger)
    before = joined.federation.status()
    assert (before.federation, before.samples, before.charges, before.release) == ("tests", 1, 3, 0)
    epoch = joined._vault._keystore.secrets.epoch
    joined.federation.leave()
    after = joined.federation.status()
    assert (after.federation, after.policy, after.exchange_key, after.samples, after.charges) == (None, None, None, 0, 3)
    assert joined._vault._keystore.secrets.epoch > epoch
    with joined._vault.transaction(durable=False) as transaction:
        assert transaction.read_sealed("federation/round") is None
    assert code_of(joined.federation.leave) == "federation.not_joined"
    assert code_of(lambda: joined.federation.handle("hello", b"")) == "federation.not_joined"
    # Joining again takes a new key, and gives no budget back.
    assert joined.federation.join(policy()).exchange_key.hex() != before.exchange_key
    assert joined.federation.status().charges == 3


def test_joining_again_keeps_the_key_and_another_federation_has_to_be_left_first(joined: Device) -> None:
    key = joined.federation.status().exchange_key
    assert joined.federation.join(policy(minimum_cohort=10)).exchange_key.hex() == key
    assert joined.federation.policy().minimum_cohort == 10
    assert code_of(lambda: joined.federation.join(policy(name="others"))) == "federation.invalid_policy"


def test_a_kept_sample_is_the_admitted_crop(joined: Device) -> None:
    grant = admit(joined, "alice", 1)
    joined.federation.collect("alice", picture(1, 1), grant)
    (sample,) = kept(joined, "alice")
    assert sample.pixels.shape == (112, 112, 3)
    assert np.ptp(sample.pixels) > 50
    # The stand-in of these tests offers no features: the contract is all that is known of the front of it.
    assert (len(sample.features), sample.base) == (0, joined._load_models().contract_id)
