"""What a device contributes to statistics: scores of its own templates, under its own purpose; and declared groups, sealed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekeep import Device, KeyFile, PackStore, Purpose, Settings
from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError
from facekeep.flows.contributing import contributing_kinds
from facekeep.participation import DeviceKeys
from facekeep.protocol import Kind, Level, RoundPlan
from facekeep.protocol.statistics import CALIBRATION_EXTRAS, CalibrationSettings, DemographicSettings
from tests.flows.conftest import ALL, NOTICE, picture
from tests.flows.release_setting import DETECTOR, EMBEDDER, FLEET, policy, write_pack
from tests.simulators.federation import Fleet

WITH_STATISTICS = ALL | {Purpose.CALIBRATION_STATISTICS}
PEOPLE = {"alice": 1, "bob": 2, "carol": 3}
CALIBRATION = CalibrationSettings(low=-1.0, high=1.0, bins=50, gain=1, anchors=False)
DEMOGRAPHIC = DemographicSettings(groups=("north", "south"), threshold=0.5, comparisons=8, ratio=2, anchors=False)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> PackStore:
    return write_pack(tmp_path_factory.mktemp("learning"))


@pytest.fixture
def device(tmp_path: Path, clock: ManualClock, packs: PackStore) -> Iterator[Device]:
    options: dict[str, Any] = {"detector": DETECTOR, "embedder": EMBEDDER, "packs": packs, "clock": clock}
    with Device.open(tmp_path / "home", key=KeyFile(tmp_path / "key"), settings=Settings(target_fpir=0.05), **options) as opened:
        opened.federation.join(policy())
        for name, person in PEOPLE.items():
            purposes = ALL if name == "carol" else WITH_STATISTICS
            grant = opened.consents.grant(name, purposes=purposes, valid_for="P300D", notice=NOTICE)
            opened.enrol(name, [picture(person, number) for number in range(4)], grant)
        yield opened


def plan_of(device: Device, kind: Kind, **changes: Any) -> RoundPlan:
    settings = CALIBRATION if kind is Kind.CALIBRATION else DEMOGRAPHIC
    now = device._context.clock.now()
    stated: dict[str, Any] = {
        "federation": FLEET,
        "round": 1,
        "kind": kind,
        "level": Level.NONE,
        "roster_size": 10,
        "roster_root": "00" * 32,
        "cohort_size": 10,
        "cohort_digest": "00" * 32,
        "neighbours": 4,
        "threshold": 2,
        "committee": 10,
        "quorum": 6,
        "minimum": 5,
        "length": settings.bins if isinstance(settings, CalibrationSettings) else settings.length,
        "extras": CALIBRATION_EXTRAS if kind is Kind.CALIBRATION else (),
        "clip_units": 1 << 16,
        "step": 64.0 / (1 << 16),
        "noise_variance": 1,
        "base": base_of(device),
        "settings": settings.to_settings(),
        "issued": now,
        "deadline": now + timedelta(hours=1),
        "seed": "11" * 32,
        "noise_multiplier": 1.0,
        "epsilon": 1.0,
        "delta": 1e-5,
    }
    return RoundPlan(**(stated | changes))


def base_of(device: Device) -> str:
    workshop = device._context.workshop
    assert workshop is not None
    return workshop.trainable().in_use


def contribute(device: Device, kind: Kind, subjects: tuple[str, ...] = ("alice", "bob"), **changes: Any) -> Any:
    plan, adapter = plan_of(device, kind, **changes), contributing_kinds()[kind]
    ready = adapter.ready(device._context, device.federation.policy(), plan)
    with device._vault.transaction(durable=False) as transaction:
        handles = [transaction.find_subject(name) for name in subjects]
        gathered = [adapter.gather(ready, transaction, handle, plan) for handle in handles if handle is not None]
    return adapter.contribute(ready, plan, [item for item in gathered if item is not None])


def vectors(device: Device, name: str) -> np.ndarray[Any, Any]:
    with device._vault.transaction(durable=False) as transaction:
        handle = transaction.find_subject(name)
        assert handle is not None
        return np.stack([transaction.open_template(handle, item.slot).vector for item in transaction.templates_of(handle)])


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(FacekeepError) as caught:
        action()
    return caught.value.code


def test_calibration_counts_scores_of_different_people(device: Device) -> None:
    found = contribute(device, Kind.CALIBRATION)
    scores = (vectors(device, "alice") @ vectors(device, "bob").T).ravel()
    plain = np.array([np.mean((scores >= low) & (scores < low + 0.04)) for low in CALIBRATION.edges])
    np.testing.assert_allclose(found.vector, plain, atol=1e-6)
    assert found.extras["pairs"] == len(scores)
    # One person alone cannot be told apart from anybody, and without anchors nobody else is here.
    assert code_of(lambda: contribute(device, Kind.CALIBRATION, ("alice",))) == "federation.nothing_to_contribute"


def test_another_model_than_the_one_in_use_is_refused(device: Device) -> None:
    assert code_of(lambda: contribute(device, Kind.CALIBRATION, base="ab" * 32)) == "federation.plan_refused"
    assert code_of(lambda: contribute(device, Kind.CALIBRATION, length=7)) == "federation.plan_refused"
    # Anchors come with the training kit, and the policy of this device names none.
    settings = CALIBRATION.to_settings() | {"anchors": 1}
    assert code_of(lambda: contribute(device, Kind.CALIBRATION, settings=settings)) == "federation.plan_refused"


def test_demographics_count_by_declared_group_and_nobody_else(device: Device) -> None:
    assert code_of(lambda: contribute(device, Kind.DEMOGRAPHIC)) == "federation.nothing_to_contribute"
    device.federation.declare("alice", "north")
    device.federation.declare("bob", "elsewhere")
    found = contribute(device, Kind.DEMOGRAPHIC).vector.reshape(2, 5)
    subjects, mated, non_matches, non_mated, false_matches = found[0].tolist()
    assert subjects == 1
    assert not found[1].any()
    scores = (vectors(device, "alice") @ vectors(device, "bob").T).ravel()
    # One template of four frames: each is compared with the template of the other three.
    assert (mated, non_matches) == (4.0, 0.0)
    assert (non_mated * DEMOGRAPHIC.ratio, false_matches) == (len(scores), (scores >= 0.5).sum())


def test_a_template_whose_frames_are_of_another_front_counts_without_them(device: Device) -> None:
    device.federation.declare("alice", "north")
    plan, adapter = plan_of(device, Kind.DEMOGRAPHIC), contributing_kinds()[Kind.DEMOGRAPHIC]
    ready = replace(adapter.ready(device._context, device.federation.policy(), plan), feature_base="ab" * 32)
    with device._vault.transaction(durable=False) as transaction:
        gathered = [adapter.gather(ready, transaction, item, plan) for item in transaction.subjects() if item.name != "carol"]
    subjects, mated, _, non_mated, _ = adapter.contribute(ready, plan, gathered).vector.reshape(2, 5)[0].tolist()
    assert (subjects, mated) == (1.0, 0.0)
    assert non_mated > 0


def test_a_group_takes_consent_and_goes_with_it(device: Device) -> None:
    assert code_of(lambda: device.federation.declare("carol", "north")) == "consent.wrong_purpose"
    assert code_of(lambda: device.federation.declare("alice", "Not A Group!")) == "federation.malformed"
    device.federation.declare("alice", "north")
    device.federation.declare("bob", "south")
    assert declared(device) == {"alice": "north", "bob": "south", "carol": None}
    epoch = device._vault._require_snapshot().head.epoch
    device.federation.declare("alice", "south")
    assert device._vault._require_snapshot().head.epoch == epoch + 1, "what was declared before opens no more"
    device.consents.withdraw("alice", purposes={Purpose.CALIBRATION_STATISTICS})
    assert declared(device) == {"alice": None, "bob": "south", "carol": None}
    device.withdraw("bob")
    assert declared(device) == {"alice": None, "carol": None}
    with device._vault.transaction(durable=False) as transaction:
        assert transaction.read_sealed("declared") is None
    device.verify_vault()
    events = [json.loads(body) for body in device.trail_entries()]
    assert [entry["details"] for entry in events if entry["event"] == "group.declared" and entry["outcome"] == "ok"] == [
        {"held": True},
        {"held": True},
        {"held": True},
        {"held": False},
    ]
    # What somebody declared stands nowhere in the trail.
    assert not any(word in body for body in device.trail_entries() for word in (b"north", b"south"))


def test_forgetting_takes_no_consent(device: Device) -> None:
    device.federation.declare("alice", "north")
    device.consents.withdraw("alice", purposes={Purpose.CALIBRATION_STATISTICS})
    device.federation.declare("alice", None)
    assert code_of(lambda: device.federation.declare("nobody", None)) == "consent.none"


def declared(device: Device) -> dict[str, str | None]:
    with device._vault.transaction(durable=False) as transaction:
        return {handle.name: transaction.declared(handle) for handle in transaction.subjects()}


def test_a_whole_round_of_whole_devices(tmp_path: Path, packs: PackStore) -> None:
    """Four devices with vaults of their own answer every message of a calibration; the sum is that of their own scores."""
    fleet = Fleet(seed=11)
    fleet.allow(epsilon=1e9)
    devices = []
    for number in range(4):
        folder = tmp_path / f"device-{number}"
        folder.mkdir()
        options: dict[str, Any] = {"detector": DETECTOR, "embedder": EMBEDDER, "packs": packs, "clock": fleet.clock}
        device = Device.open(folder / "home", key=KeyFile(folder / "key"), settings=Settings(target_fpir=0.05), **options)
        device.federation.join(fleet.policy)
        for name, person in (("alice", 10 * number + 1), ("bob", 10 * number + 2), ("carol", 10 * number + 3)):
            purposes = ALL if name == "carol" else WITH_STATISTICS
            grant = device.consents.grant(name, purposes=purposes, valid_for="P300D", notice=NOTICE)
            device.enrol(name, [picture(person, 0), picture(person, 1)], grant)
        devices.append(device)
    fleet.devices = [Whole(device) for device in devices]
    fleet._renew()
    signed, cohort = fleet.plan(
        kind=Kind.CALIBRATION,
        level=Level.NONE,
        length=CALIBRATION.bins,
        noise_multiplier=1e-4,
        base=base_of(devices[0]),
        extras=CALIBRATION_EXTRAS,
        settings=CALIBRATION.to_settings(),
    )
    report = fleet.run(signed, cohort).report
    assert report is not None
    assert (report.aborted, report.contributors) == (None, 4)
    assert report.update is not None
    # Carol did not consent to it: of each device one pair of people is told.
    scores = [(vectors(device, "alice") @ vectors(device, "bob").T).ravel() for device in devices]
    plain = np.mean([[np.mean((each >= low) & (each < low + 0.04)) for low in CALIBRATION.edges] for each in scores], axis=0)
    np.testing.assert_allclose(report.update, plain * min(1.0, signed.plan.update_clip), atol=2e-3)
    for device in devices:
        joined = [entry for entry in map(json.loads, device.trail_entries()) if entry["event"] == "round.joined"]
        assert [entry["details"]["kind"] for entry in joined] == ["calibration", "calibration"]
        assert len({entry["subject"] for entry in joined}) == 2
        device.close()


class Whole:
    """A device as the simulator asks it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        with device._vault.transaction(durable=False) as transaction:
            exchange = transaction.read_sealed("federation/exchange")
        assert exchange is not None
        self.entry = DeviceKeys(device._vault.device_key, exchange).entry

    def handle(self, action: str, body: bytes) -> bytes:
        return self.device.federation.handle(action, body)
