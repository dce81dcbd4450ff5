"""Wire leak: whole rounds of real training on pictures of people who do not exist; nothing of them in any message, log or state.

Design section 1. What travelled either way, every entry of every trail, every checkpoint of the server and its report are
searched for every frame, crop, embedding, template, feature and unmasked update, in every number format and encoding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed: the training kit is made by a recipe (extra build)")
pytest.importorskip("dp_accounting", reason="dp-accounting is not installed: extra federated")

from numpy.typing import NDArray

from facekeep import Device, KeyFile, PackStore, Purpose, Settings
from facekeep.clock import ManualClock
from facekeep.flows import participate
from facekeep.flows.membership import EXCHANGE
from facekeep.flows.training_rounds import TrainingContribution
from facekeep.participation import Contribution, DeviceKeys
from facekeep.protocol import FederationPolicy, Kind, Level, RoundPlan
from facekeep.residue.forms import Form
from facekeep.residue.search import Searcher
from facekeep.training import TrainingKit, TrainingSettings
from facekeep.training.kit import DESCRIPTION_FILE, KIT_DIRECTORY
from facekeep_models.people import draw_person, synthetic_person
from facekeep_models.training.gradients.kit import KitRequest, make_kit
from facekeep_server.releases.recommended import USED
from facekeep_server.rounds import Round
from tests.biometric_search import BiometricSearch
from tests.flows.test_federated_round import completed
from tests.simulators.federation import NOTICE, Fleet

DETECTOR, EMBEDDER = "facekeep-detector/onnx-fp32", "facekeep-embedder/onnx-fp32"
PURPOSES = frozenset({Purpose.ENROLMENT, Purpose.VERIFICATION, Purpose.FEDERATED_TRAINING})
NAMES = ("Ann-Sofie Lindqvist", "Søren Kierkegård", "Zoë Ångström")


@dataclass
class Recording(TrainingContribution):
    """Real training that remembers what must not travel."""

    updates: list[NDArray[np.float32]] = field(default_factory=list)
    crops: list[NDArray[np.uint8]] = field(default_factory=list)
    features: list[NDArray[np.float32]] = field(default_factory=list)
    centres: list[NDArray[np.float32]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def contribute(self, ready: Any, plan: RoundPlan, gathered: Sequence[Any]) -> Contribution:
        for subject in gathered:
            self.crops += [np.array(crop) for crop in subject.crops]
            self.features += [np.array(row) for row in subject.features] if subject.features is not None else []
            self.centres.append(np.array(subject.centre))
        contribution = super().contribute(ready, plan, gathered)
        self.updates.append(np.array(contribution.vector))
        self.losses.append(contribution.extras["loss"])
        return contribution


class RealDevice:
    """A device with the models that ship, one person in front of it, and samples of theirs."""

    def __init__(self, home: Path, policy: FederationPolicy, clock: ManualClock, person: int, kit: Path) -> None:
        self.home, self.policy, self.clock, self.recording = home, policy, clock, Recording()
        self.frames = [draw_person(synthetic_person(person), number).pixels for number in range(5)]
        self.vectors: dict[str, NDArray[np.float32]] = {}
        home.mkdir(parents=True)
        with self.open() as device:
            grant = device.consents.grant(NAMES[person], purposes=PURPOSES, valid_for="P300D", notice=NOTICE)
            device.enrol(NAMES[person], self.frames[:2], grant)
            device.federation.join(policy)
            receipt = device.federation.collect(NAMES[person], self.frames[2:], grant, unsafe_without_comparison=True)
            assert receipt.kept >= 1, receipt.frames
            folder = home / "home" / KIT_DIRECTORY
            folder.mkdir()
            for file in kit.iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
            with device._vault.transaction(durable=False) as transaction:
                (handle,) = transaction.subjects()
                contract = next(iter(transaction.contracts()))
                (template,) = transaction.open_templates(handle, contract)
                self.vectors["template"] = np.array(template.vector)
                exchange = transaction.read_sealed(EXCHANGE)
                assert exchange is not None
                self.entry = DeviceKeys(device._vault.device_key, exchange).entry

    def open(self) -> Device:
        return Device.open(
            self.home / "home",
            key=KeyFile(self.home / "device.key"),
            detector=DETECTOR,
            embedder=EMBEDDER,
            clock=self.clock,
            settings=Settings(),
        )

    def handle(self, action: str, body: bytes) -> bytes:
        with self.open() as device:
            return participate.handle(device._context, self.policy, action, body, kinds={Kind.TRAINING: self.recording})

    def trail(self) -> list[bytes]:
        with self.open() as device:
            device.verify_trail()
            return list(device.trail_entries())


@dataclass
class Scenario:
    fleet: Fleet
    devices: list[RealDevice]
    rounds: list[Round]
    kit: TrainingKit


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    root = tmp_path_factory.mktemp("leak")
    store = PackStore(root / "packs")
    kit = make_kit(KitRequest(EMBEDDER, 6), store, root / "kit", detector=None, say=lambda line: None)
    fleet = Fleet(9)
    fleet.allow(training_kit=kit.sha256, epsilon=2000.0)
    devices = [RealDevice(root / f"device-{n}", fleet.policy, fleet.clock, n, root / "kit") for n in range(len(NAMES))]
    fleet.devices = list(devices)
    fleet._renew()
    files = store.read_files(*EMBEDDER.split("/"))
    base = hashlib.sha256(files["facekeep_embedder.onnx"]).hexdigest()
    rounds = []
    # Of the channels the layers before the second stage alone.
    for level, length in ((Level.HEAD, None), (Level.CHANNELS, USED)):
        settings = TrainingSettings(steps=2, rate=1e-3, optimiser="adam", negatives=4, keep=0.0).to_value()
        signed, cohort = fleet.plan(
            level=level,
            length=length or kit.parameters.length_of(level.value),
            base=base,
            clip=0.5,
            noise_multiplier=0.05,
            settings=settings,
            dropout=0.0,
        )
        rounds.append(fleet.run(signed, cohort))
    return Scenario(fleet, devices, rounds, kit)


@pytest.mark.slow
def test_real_training_ends_in_the_mean_of_the_updates(scenario: Scenario) -> None:
    for number, running in enumerate(scenario.rounds):
        report = completed(running)
        assert report.survivors == len(NAMES)
        assert report.update is not None
        mean = np.mean([device.recording.updates[number].astype(np.float64) for device in scenario.devices], axis=0)
        norms = [float(np.linalg.norm(device.recording.updates[number])) for device in scenario.devices]
        assert min(norms) > 1e-4, "something was learnt"
        plan = running.signed.plan
        if max(norms) < plan.update_clip:
            noise = np.sqrt(report.survivors * plan.noise_variance) * plan.step / report.survivors
            # Six deviations at 50,000 coordinates: one false alarm in 1e4.
            assert np.abs(report.update - mean).max() < 6 * noise + 2 * plan.step
        assert report.extras["loss"] > 0


@pytest.mark.slow
def test_nothing_biometric_travels_and_nothing_is_logged(scenario: Scenario) -> None:
    pictures: dict[str, NDArray[np.uint8]] = {}
    vectors: dict[str, NDArray[np.float32]] = {}
    forms: list[Form] = []
    for n, device in enumerate(scenario.devices):
        pictures |= {f"frame {n} {k}": frame for k, frame in enumerate(device.frames)}
        pictures |= {f"crop {n} {k}": crop for k, crop in enumerate(device.recording.crops[:3])}
        vectors |= {f"template {n}": device.vectors["template"]}
        vectors |= {f"embedding {n} {k}": row for k, row in enumerate(device.recording.centres[:1])}
        vectors |= {f"feature {n} {k}": row for k, row in enumerate(device.recording.features[:3])}
        for k, update in enumerate(device.recording.updates):
            plan = scenario.rounds[k].signed.plan
            units = update.astype(np.float64) / plan.step
            for label, array in {
                "float32": update,
                "float64": update.astype(np.float64),
                "float16": update.astype(np.float16),
                "units, int32": np.rint(units).astype(np.int32),
                "units, int64": np.rint(units).astype(np.int64),
            }.items():
                forms.append(Form(f"update {n} {k} as {label}", _dense(array).tobytes(), 16))
    search = BiometricSearch(pictures=pictures, vectors=vectors, names=NAMES)
    updates = Searcher(forms, {})
    seen = scenario.fleet.dump.seen
    assert len(seen) > 2 * 4 * 2 * len(NAMES)
    for name, data in seen:
        assert search.in_bytes(name, data, is_text=False) == []
        assert updates.search(data) is None, name
    logged = b"\n".join(entry for device in scenario.devices for entry in device.trail())
    said = json.dumps([completed(running).to_json() for running in scenario.rounds]).encode()
    recorded = repr(scenario.fleet.events).encode()
    for name, data in (("trails", logged), ("reports", said), ("events", recorded)):
        assert search.in_bytes(name, data, is_text=name != "events") == []
        assert updates.search(data) is None
    events = [json.loads(line)["event"] for line in logged.splitlines()]
    assert events.count("round.joined") == 2 * len(NAMES)
    assert events.count("round.answered") == 2 * 5 * len(NAMES)
    # A search that finds nothing has to be one that could have.
    assert search.fault() is None
    assert updates.search(b"before" + forms[0].data[:4096] + b"after") is not None


def _dense(array: NDArray[Any]) -> NDArray[Any]:
    # Runs of zeroes are in every message; what is looked for is what training made.
    flat = array[np.flatnonzero(array)]
    return flat[: len(flat) // 16 * 16]


@pytest.mark.slow
def test_the_masked_updates_look_like_noise(scenario: Scenario) -> None:
    """Monobit and byte counts over every masked vector; 20 vectors at most, each test fails one honest run in 1e6."""
    for name, data in scenario.fleet.dump.seen:
        if not name.endswith("reply.bin") or "/train/" not in name:
            continue
        body = np.frombuffer(data[13 : 13 + 4 * 40_000] if len(data) > 170_000 else data[13:-64], np.uint8)
        ones = int(np.unpackbits(body).sum())
        bits = 8 * body.size
        assert abs(ones - bits / 2) < 5.5 * np.sqrt(bits) / 2
        counts = np.bincount(body, minlength=256)
        chi = float(((counts - body.size / 256) ** 2 / (body.size / 256)).sum())
        # Chi-squared with 255 degrees: mean 255, deviation 22.6.
        assert chi < 255 + 6.5 * np.sqrt(2 * 255)


@pytest.mark.slow
def test_plans_for_another_model_or_kit_are_refused(scenario: Scenario) -> None:
    from dataclasses import replace

    from facekeep.errors import FacekeepError
    from facekeep.protocol import PrepareRequest

    fleet = scenario.fleet
    last = scenario.rounds[-1].signed.plan
    signed, cohort = fleet.plan(level=Level.HEAD, length=49_152, base=last.base, settings=dict(last.settings), dropout=0.0)
    running = fleet.begin(signed, cohort)
    out = next(iter(running.outbox()))
    request = PrepareRequest.parse(out.body)
    between = {"level": Level.CHANNELS, "length": USED - 1}
    for changes in ({"base": "11" * 32}, {"length": 49_151}, between, {"settings": {"steps": 1}}, {"level": Level.DEEP}):
        plan = fleet.sign(replace(signed.plan, **changes))
        with pytest.raises(FacekeepError) as caught:
            scenario.devices[0].handle("prepare", replace(request, plan_note=plan.note).to_bytes())
        assert caught.value.code in ("federation.plan_refused", "federation.malformed")
    description = scenario.devices[0].home / "home" / KIT_DIRECTORY / DESCRIPTION_FILE
    true = description.read_bytes()
    description.write_bytes(b"{}")
    try:
        with pytest.raises(FacekeepError) as caught:
            scenario.devices[0].handle("prepare", out.body)
        assert caught.value.code == "release.wrong_model"
    finally:
        # The scenario is every test's of this file.
        description.write_bytes(true)


@pytest.mark.slow
def test_training_begins_where_the_plan_says(scenario: Scenario) -> None:
    from dataclasses import replace

    import facekeep.training

    kind, last = TrainingContribution(), scenario.rounds[-1].signed.plan
    with scenario.devices[0].open() as device:

        def trained(plan: RoundPlan, start: bytes | None) -> NDArray[np.float32]:
            ready = kind.ready(device._context, scenario.fleet.policy, plan)
            in_use = ready.parameters.copy()
            if start is not None:
                ready = kind.start_from(ready, plan, start)
            part = ready.model.table.parameters.range_of(plan.level.value, plan.length)
            outside = np.ones(len(in_use), dtype=bool)
            outside[part] = False
            np.testing.assert_array_equal(ready.parameters[outside], in_use[outside])
            if start is not None:
                assert ready.parameters[part].astype("<f4").tobytes() == start
            with device._vault.transaction(durable=False) as transaction:
                (handle,) = transaction.subjects()
                gathered = kind.gather(ready, transaction, handle, plan)
                assert gathered is not None
            return np.array(kind.contribute(ready, plan, [gathered]).vector)

        for level, count in ((Level.HEAD, None), (Level.CHANNELS, None), (Level.CHANNELS, USED)):
            length = count or scenario.kit.parameters.length_of(level.value)
            plan = replace(last, level=level, length=length, step=1.0, clip_units=1, noise_variance=0)
            ready = kind.ready(device._context, scenario.fleet.policy, plan)
            row = facekeep.training.read_parameters(ready.model.content, ready.model.table)
            row = row[scenario.kit.parameters.range_of(level.value, length)].astype("<f4")
            usual = trained(plan, None)
            moved = (row + np.float32(0.01) * np.sign(row)).astype("<f4").tobytes()
            named = replace(plan, settings={**plan.settings, "start": hashlib.sha256(moved).hexdigest()})
            assert np.array_equal(trained(plan, row.tobytes()), usual), "at the model in use: as without"
            assert not np.array_equal(trained(named, moved), usual)
            assert np.array_equal(trained(plan, None), usual), "the model in use did not move"
