"""Releases on a device: adopted whole or not at all, with every template that can follow, and never an older one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from facekeep import Device, KeyFile, PackStore, Purpose, Settings
from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError, FederationError, ReleaseError
from facekeep.protocol.actions import Action
from facekeep.protocol.policy import Level
from facekeep.vault import StoredTemplate
from tests.flows.conftest import ALL, NOTICE, picture
from tests.flows.release_setting import DETECTOR, EMBEDDER, Maker, policy, resigned, write_pack
from tests.sdk.release_log import ReleaseLog, policy_fields

PEOPLE = {"alice": 1, "bob": 2, "carol": 3}


@pytest.fixture(scope="session")
def learning_packs(tmp_path_factory: pytest.TempPathFactory) -> PackStore:
    return write_pack(tmp_path_factory.mktemp("learning"))


@pytest.fixture
def maker(learning_packs: PackStore, clock: ManualClock) -> Maker:
    return Maker(learning_packs, clock.now())


@pytest.fixture
def open_learning(tmp_path: Path, clock: ManualClock, learning_packs: PackStore) -> Iterator[Callable[[], Device]]:
    opened: list[Device] = []

    def make() -> Device:
        device = Device.open(
            tmp_path / "home",
            key=KeyFile(tmp_path / "key"),
            detector=DETECTOR,
            embedder=EMBEDDER,
            packs=learning_packs,
            clock=clock,
            settings=Settings(target_fpir=0.05),
        )
        opened.append(device)
        return device

    yield make
    for device in opened:
        device.close()


@pytest.fixture
def device(open_learning: Callable[[], Device]) -> Device:
    device = open_learning()
    device.federation.join(policy())
    for name, number in PEOPLE.items():
        grant = device.consents.grant(name, purposes=ALL, valid_for="P300D", notice=NOTICE)
        device.enrol(name, [picture(number, 0), picture(number, 1)], grant)
    return device


def stored(device: Device, name: str) -> tuple[StoredTemplate, ...]:
    with device._vault.transaction(durable=False) as transaction:
        handle = transaction.find_subject(name)
        assert handle is not None
        return transaction.templates_of(handle)


def vector(device: Device, name: str) -> np.ndarray:  # type: ignore[type-arg]
    with device._vault.transaction(durable=False) as transaction:
        handle = transaction.find_subject(name)
        assert handle is not None
        return transaction.open_template(handle, transaction.templates_of(handle)[0].slot).vector


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(FacekeepError) as caught:
        action()
    return caught.value.code


def events(device: Device, name: str) -> list[dict[str, object]]:
    entries = [json.loads(body) for body in device.trail_entries()]
    return [entry for entry in entries if entry["event"] == name]


def test_a_head_release_moves_every_template_to_what_enrolling_again_would_give(device: Device, maker: Maker) -> None:
    before = {name: (stored(device, name)[0], vector(device, name)) for name in PEOPLE}
    receipt = device.federation.adopt(maker.head())
    assert (receipt.version, receipt.migrated, receipt.waiting) == (1, 3, 0)
    assert device.templates_by_contract() == {receipt.contract_id: 3}
    device.verify_vault()
    for name, number in PEOPLE.items():
        after = stored(device, name)[0]
        assert (after.reference_id, after.enrolled_at) == (before[name][0].reference_id, before[name][0].enrolled_at)
        moved = vector(device, name)
        assert np.abs(moved - before[name][1]).max() > 1e-3, "the release changed nothing: this test would show nothing"
        grant = device.consents.require(name, Purpose.ENROLMENT)
        device.enrol(name, [picture(number, 0), picture(number, 1)], grant)
        with device._vault.transaction(durable=False) as transaction:
            handle = transaction.find_subject(name)
            assert handle is not None
            first, second = (transaction.open_template(handle, item.slot) for item in transaction.templates_of(handle))
            assert np.abs(first.vector - second.vector).max() <= 1e-5
        assert device.verify(name, picture(number, 2)).is_match
        assert not device.verify(name, picture(number + 50, 2)).is_match
    assert device.identify(picture(2, 3)).require_identified() == "bob"  # type: ignore[union-attr]
    (adopted,) = events(device, "release.adopted")
    assert adopted["details"]["migrated"] == 3  # type: ignore[index]
    assert len(events(device, "template.migrated")) == 3
    status = device.federation.status()
    assert (status.release, status.digest, status.waiting) == (1, receipt.digest, 0)


def test_an_adopted_release_is_in_use_after_a_restart_and_in_every_process(
    device: Device, maker: Maker, open_learning: Callable[[], Device]
) -> None:
    other = open_learning()
    assert other.verify("alice", picture(1, 2)).is_match
    first = device.federation.adopt(maker.head())
    # The other one loaded the old model before; its next call notices.
    assert other.verify("alice", picture(1, 3)).is_match
    assert other.identify(picture(2, 3)).require_identified() == "bob"  # type: ignore[union-attr]
    second = other.federation.adopt(maker.head(seed=8))
    assert device.verify("carol", picture(3, 3)).is_match
    device.close()
    again = open_learning()
    assert again.federation.status().digest == second.digest != first.digest
    assert again.verify("bob", picture(2, 2)).is_match
    assert again.templates_by_contract() == {second.contract_id: 3}
    # What is needed to go back, and no more.
    kept = sorted(path.name for path in (again._vault.home / "releases").iterdir())
    assert kept == sorted([first.digest, second.digest])


def test_one_step_back_and_no_further(device: Device, maker: Maker) -> None:
    receipts = [device.federation.adopt(maker.head(seed=seed)) for seed in (1, 2)]
    middle = {name: vector(device, name) for name in PEOPLE}
    device.federation.adopt(maker.head(seed=3))
    back = device.federation.rollback()
    assert (back.left, back.version, back.digest, back.migrated) == (3, 2, receipts[1].digest, 3)
    for name in PEOPLE:
        assert np.abs(vector(device, name) - middle[name]).max() <= 1e-6
        assert device.verify(name, picture(PEOPLE[name], 2)).is_match
    # The files of the one before are gone; the device stays where it is.
    assert code_of(device.federation.rollback) == "release.none"
    assert device.federation.status().release == 2
    # What was left is refused for ever, whoever offers it; a newer one that continues what is in use is not.
    maker.version, maker.parent = 2, receipts[1].digest
    maker.content = (device._vault.home / "releases" / receipts[1].digest / "model.onnx").read_bytes()
    assert code_of(lambda: device.federation.adopt(maker.head(seed=3, go_on=False))) == "release.older"
    maker.version = 3
    assert device.federation.adopt(maker.head(seed=4)).version == 4


def test_back_to_the_model_that_shipped(device: Device, maker: Maker) -> None:
    original = {name: vector(device, name) for name in PEOPLE}
    device.federation.adopt(maker.head())
    last = device.federation.rollback()
    assert (last.version, last.digest, last.migrated) == (0, None, 3)
    for name in PEOPLE:
        assert np.abs(vector(device, name) - original[name]).max() <= 1e-6
        assert device.verify(name, picture(PEOPLE[name], 2)).is_match
    assert code_of(device.federation.rollback) == "release.none"
    (entry,) = events(device, "release.rolled_back")
    assert entry["details"]["to"] == ""  # type: ignore[index]


def test_a_deep_release_moves_each_template_when_its_subject_is_verified(device: Device, maker: Maker) -> None:
    old = stored(device, "alice")[0]
    receipt = device.federation.adopt(maker.deep())
    assert (receipt.migrated, receipt.waiting) == (0, 3)
    assert device.federation.status().waiting == 3
    assert code_of(lambda: device.identify(picture(1, 2))) == "comparison.empty_gallery"
    # A stranger moves nothing, and neither does a refusal.
    assert not device.verify("alice", picture(70, 2)).is_match
    assert stored(device, "alice") == (old,)
    decision = device.verify("alice", picture(1, 2))
    assert decision.is_match
    (moved,) = stored(device, "alice")
    assert moved.contract_id == receipt.contract_id
    assert (moved.reference_id, moved.enrolled_at) == (old.reference_id, old.enrolled_at)
    (entry,) = events(device, "template.migrated")
    assert entry["details"] == {
        "references": 1,
        "contract": receipt.contract_id,
        "parent": old.contract_id,
        "reference": old.reference_id,
    }
    found = device.identify(picture(1, 3))
    assert found.require_identified() == "alice"  # type: ignore[union-attr]
    assert (found.gallery_size, found.waiting) == (1, 2)  # type: ignore[union-attr]
    assert events(device, "identification")[-1]["details"]["waiting"] == 2  # type: ignore[index]
    # Bob waits: nobody finds him, and he is not taken for anybody.
    assert device.identify(picture(2, 3)).outcome == "unknown"  # type: ignore[union-attr]
    assert device.verify("alice", picture(1, 4)).is_match
    assert device.verify("bob", picture(2, 2)).is_match
    device.verify_vault()
    # A head release on top follows exactly from the features of that one verification; carol still waits.
    second = device.federation.adopt(maker.head(seed=9))
    assert (second.migrated, second.waiting) == (2, 1)
    assert device.verify("carol", picture(3, 2)).is_match
    assert device.templates_by_contract() == {second.contract_id: 3}


def test_a_match_that_is_not_strict_enough_moves_nothing(device: Device, maker: Maker) -> None:
    device.federation.adopt(maker.deep())
    # Nobody measured the model at a tenth of its strictest point.
    assert device.verify("alice", picture(1, 2), target_fmr=1e-6).is_match
    assert events(device, "template.migrated") == []
    assert device.verify("alice", picture(1, 2), target_fmr=1e-5).is_match
    assert len(events(device, "template.migrated")) == 1


def test_without_consent_to_enrolment_a_template_waits_on(device: Device, maker: Maker, clock: ManualClock) -> None:
    device.federation.adopt(maker.deep())
    with pytest.MonkeyPatch.context() as patch:
        from facekeep.errors import ConsentError
        from facekeep.flows import migrate

        def refuse(*_: object) -> None:
            raise ConsentError("consent.withdrawn", "withdrawn while the camera looked")

        patch.setattr(migrate, "require_grant", refuse)
        assert device.verify("alice", picture(1, 2)).is_match
    assert events(device, "template.migrated") == []


def test_several_references_move_one_at_a_time(device: Device, maker: Maker) -> None:
    grant = device.consents.require("alice", Purpose.ENROLMENT)
    device.enrol("alice", [picture(1, 5), picture(1, 6)], grant)
    receipt = device.federation.adopt(maker.deep())
    for count in (1, 2, 2):
        assert device.verify("alice", picture(1, 2 + count)).is_match
        assert [item.contract_id for item in stored(device, "alice")].count(receipt.contract_id) == count


def test_templates_of_before_there_were_features_wait_for_a_head_release_too(device: Device, maker: Maker) -> None:
    with device._vault.transaction() as transaction:
        handle = transaction.find_subject("alice")
        assert handle is not None
        transaction._drop_features(transaction.templates_of(handle)[0].slot)
        transaction.tables_changed = True
    receipt = device.federation.adopt(maker.head())
    assert (receipt.migrated, receipt.waiting) == (2, 1)
    assert device.verify("alice", picture(1, 2)).is_match
    assert device.templates_by_contract() == {receipt.contract_id: 3}
    # From now on it has features, and follows exactly.
    assert device.federation.adopt(maker.head(seed=7)).waiting == 0


def test_going_back_from_a_deep_release(device: Device, maker: Maker) -> None:
    original = maker.models.contract_id
    receipt = device.federation.adopt(maker.deep())
    assert device.verify("alice", picture(1, 2)).is_match
    back = device.federation.rollback()
    assert (back.migrated, back.waiting) == (0, 1)
    assert device.templates_by_contract() == {original: 2, receipt.contract_id: 1}
    assert device.verify("bob", picture(2, 2)).is_match
    assert device.verify("alice", picture(1, 3)).is_match
    assert device.templates_by_contract() == {original: 3}


REFUSED: dict[str, tuple[Callable[[Maker], object], str]] = {
    "one signature of two": (lambda m: m.head(signers=1), "release.not_signed"),
    "older than the one in use": (lambda m: m.head(version=1), "release.older"),
    "another federation's": (lambda m: m.head(federation="others"), "release.wrong_model"),
    "another parent": (lambda m: m.head(parent="0" * 64), "release.wrong_parent"),
    "no parent": (lambda m: m.head(parent=None), "release.wrong_parent"),
    "another base": (lambda m: m.head(base="0" * 64), "release.wrong_model"),
    "another model": (lambda m: m.head(model="0" * 64), "release.wrong_model"),
    "another contract": (lambda m: m.head(contract="0" * 64), "release.wrong_model"),
    "expired": (
        lambda m: m.head(created=m.now - timedelta(days=9), expires=m.now - timedelta(days=1)),
        "release.expired",
    ),
    "from the future": (
        lambda m: m.head(created=m.now + timedelta(days=9), expires=m.now + timedelta(days=10)),
        "federation.clock",
    ),
    "other numbers": (lambda m: replace(m.head(), parameters=b"\0" * 16384), "release.malformed"),
    "fewer numbers": (lambda m: replace(m.head(), parameters=b"\0" * 4), "release.malformed"),
    "other vectors": (lambda m: replace(m.head(), vectors=b"\0" * 1024), "release.malformed"),
    "vectors nobody stated": (lambda m: replace(m.head(vectors=False), vectors=b"x"), "release.malformed"),
    "a changed note": (lambda m: replace(b := m.head(), note=b.note.replace('"v":1', '"v":2')), "release.not_signed"),
    "no note": (lambda m: replace(m.head(), note="not a note"), "release.malformed"),
    "numbers that make it deaf": (
        lambda m: m.make(Level.HEAD, np.where(np.arange(4096) < 64, m.row[64:], np.float32(0))),
        "release.failed_selftest",
    ),
    "numbers that make everybody one": (
        lambda m: m.make(Level.HEAD, np.tile(m.row[64:128], 64)),
        "release.failed_selftest",
    ),
    "numbers of another space": (
        lambda m: m.make(Level.HEAD, np.roll(m.row[64:].reshape(64, 64), 7, axis=0).ravel()),
        "release.failed_selftest",
    ),
    "vectors of another model": (
        lambda m: _with_vectors(m),
        "release.failed_selftest",
    ),
}


def _with_vectors(maker: Maker) -> object:
    import hashlib

    bundle, other = maker.head(go_on=False), maker.deep(seed=3, strength=3.0, go_on=False)
    return replace(resigned(bundle, vectors_sha256=hashlib.sha256(other.vectors).hexdigest()), vectors=other.vectors)


@pytest.mark.parametrize("what", REFUSED)
def test_a_release_that_cannot_be_trusted_changes_nothing(device: Device, maker: Maker, what: str) -> None:
    make, code = REFUSED[what]
    device.federation.adopt(maker.head(seed=1))
    before = {name: vector(device, name).tobytes() for name in PEOPLE}, device.federation.status()
    files = sorted(path.name for path in (device._vault.home / "releases").iterdir())
    kept = replace_maker(maker)
    bundle = make(maker)
    assert code_of(lambda: device.federation.adopt(bundle)) == code  # type: ignore[arg-type]
    assert ({name: vector(device, name).tobytes() for name in PEOPLE}, device.federation.status()) == before
    assert sorted(path.name for path in (device._vault.home / "releases").iterdir()) == files
    assert events(device, "release.refused")[-1]["outcome"] == code
    assert device.verify("alice", picture(1, 2)).is_match
    device.verify_vault()
    # The next good one: of a higher version if this one failed here, else of the same.
    if code == "release.failed_selftest":
        assert code_of(lambda: device.federation.adopt(kept.head(seed=2, go_on=False))) == "release.older"
        kept.version += 1
    assert device.federation.adopt(kept.head(seed=2)).migrated == 3


def replace_maker(maker: Maker) -> Maker:
    kept = Maker(maker.packs, maker.now)
    kept.content, kept.parent, kept.version = maker.content, maker.parent, maker.version
    return kept


def test_a_level_the_policy_does_not_allow_is_refused(device: Device, maker: Maker) -> None:
    device.federation.join(policy(levels=frozenset({Level.HEAD})))
    assert code_of(lambda: device.federation.adopt(maker.deep())) == "federation.plan_refused"


def test_a_release_that_has_to_be_in_the_log_is_refused_without_a_proof(device: Device, maker: Maker) -> None:
    device.federation.join(policy(**policy_fields()))
    assert code_of(lambda: device.federation.adopt(maker.head(go_on=False))) == "release.not_logged"
    # With one, it is adopted.
    bundle = maker.head()
    (release,) = maker.releases
    proof, few = ReleaseLog().proved(release), ReleaseLog().proved(release, witnesses=1)
    assert code_of(lambda: device.federation.adopt(replace(bundle, proof=few))) == "release.not_logged"
    assert events(device, "release.refused")[-1]["outcome"] == "release.not_logged"
    receipt = device.federation.adopt(replace(bundle, proof=proof))
    assert (device._vault.home / "releases" / receipt.digest / "release.proof").read_bytes() == proof


def test_an_offer_is_a_release_and_comes_twice_when_its_answer_was_lost(device: Device, maker: Maker) -> None:
    data = maker.head().to_bytes()
    answers = [device.federation.handle(Action.OFFER, data) for _ in range(2)]
    assert answers[0] == answers[1]
    assert json.loads(answers[0])["version"] == 1
    assert len(events(device, "release.adopted")) == 1
    assert code_of(lambda: device.federation.handle("offer", data[:-1])) == "release.malformed"
    assert code_of(lambda: device.federation.handle("offer", b"")) == "release.malformed"


def test_a_damaged_model_file_is_never_run(device: Device, maker: Maker, open_learning: Callable[[], Device]) -> None:
    receipt = device.federation.adopt(maker.head())
    place = device._vault.home / "releases" / receipt.digest
    assert place.stat().st_mode & 0o077 == (place / "model.onnx").stat().st_mode & 0o077 == 0
    changed = bytearray((place / "model.onnx").read_bytes())
    changed[-1] ^= 1
    (place / "model.onnx").write_bytes(bytes(changed))
    again = open_learning()
    assert code_of(lambda: again.verify("alice", picture(1, 2))) == "release.none"
    # And is no obstacle to going back.
    assert again.federation.rollback().version == 0
    assert again.verify("alice", picture(1, 2)).is_match


def test_a_device_with_models_of_its_own_or_in_no_federation_adopts_nothing(
    open_device: Callable[..., Device], maker: Maker
) -> None:
    device = open_device()
    with pytest.raises(FederationError) as caught:
        device.federation.adopt(maker.head())
    assert caught.value.code == "federation.not_joined"
    device.federation.join(policy())
    with pytest.raises(ReleaseError) as refused:
        device.federation.adopt(maker.head())
    assert refused.value.code == "release.wrong_model"
    with pytest.raises(ReleaseError):
        device.federation.rollback()


def test_the_residue_scan_knows_the_files_of_releases(device: Device, maker: Maker) -> None:
    device.federation.adopt(maker.head())
    receipt = device.withdraw("alice")
    report = device.erasures.verify(subject="alice", receipt=receipt)
    assert report.findings == ()
