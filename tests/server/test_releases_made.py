"""Releases made: the optimiser against a slow one, the gate, signatures from elsewhere, canaries, a device that adopts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep import Device, KeyFile, PackStore, Settings
from facekeep.alignment import align
from facekeep.audit import AuditEvent
from facekeep.canonical import to_canonical
from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError, ReleaseError
from facekeep.protocol import Level
from facekeep.protocol.release import ModelRelease, ReleaseBundle
from facekeep.training import parse_training_settings
from facekeep.trust.logged import spelled_rounds
from facekeep_models.training.export.pictures import still_frame
from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import Candidate, newest_release
from facekeep_server.federation.coordinator import open_trail
from facekeep_server.federation.creation import key_name
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.model import import_model, read_model
from facekeep_server.federation.offers import answers_of
from facekeep_server.federation.planning import training_settings
from facekeep_server.federation.rounds import recorder
from facekeep_server.federation.state import FederationState
from facekeep_server.releases.contracts import ContractDescription
from facekeep_server.releases.evaluating import EvaluationCrops, accuracy_of, operating_points, read_crops, render_crops
from facekeep_server.releases.gate import GateLimits
from facekeep_server.releases.making import Evaluating, make_recalibrated, make_release, make_steered
from facekeep_server.releases.optimising import OptimiserState, ServerOptimiser, step
from facekeep_server.releases.privacy import privacy_of
from facekeep_server.releases.publishing import publish_release
from facekeep_server.releases.rollout import Rollout, judge, release_folders, stage_of, withhold
from facekeep_server.releases.signing import describe, sign_text
from facekeep_server.statistics.calibrating import CalibratedPoint
from tests.flows.conftest import picture
from tests.flows.release_setting import BUILD, DETECTOR, EMBEDDER, FILE, PACK, TABLE, Maker, write_pack
from tests.server.federation_setting import NOW
from tests.server.flower_fleet import FlowerFleet
from tests.simulators.federation import cheap_account

PEOPLE, CROPS = 34, 2
LIMITS = GateLimits(most_fall={1e-2: 0.05}, most_change=0.5)
AVERAGE = ServerOptimiser(rate=0.02)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> PackStore:
    return write_pack(tmp_path_factory.mktemp("learning"))


@pytest.fixture(scope="module")
def maker(packs: PackStore) -> Maker:
    return Maker(packs, NOW)


@pytest.fixture(scope="module")
def crops(maker: Maker) -> EvaluationCrops:
    found = []
    for person in range(PEOPLE):
        for number in range(CROPS):
            frame = still_frame(picture(person + 100, number))
            found.append(align(frame, maker.models.detector.detect(frame)[0]))
    return EvaluationCrops("drawn", np.stack(found), np.repeat(np.arange(PEOPLE), CROPS))


@pytest.fixture(scope="module")
def contract(packs: PackStore, tmp_path_factory: pytest.TempPathFactory) -> ContractDescription:
    with open_device(tmp_path_factory.mktemp("device"), packs) as device:
        workshop, found = device._context.workshop, ContractDescription.parse(device.federation.describe_contract())
        assert workshop is not None
        assert found.contract_of("ab" * 32) == workshop.contract_of("ab" * 32)
        return found


def open_device(folder: Path, packs: PackStore, clock: ManualClock | None = None) -> Device:
    return Device.open(
        folder / "home",
        key=KeyFile(folder / "key"),
        detector=DETECTOR,
        embedder=EMBEDDER,
        packs=packs,
        clock=clock or ManualClock(NOW),
        settings=Settings(target_fpir=0.05),
    )


class Setting:
    """A fleet whose rounds trained the head of the drawn embedder, and everything to make releases of them."""

    def __init__(self, folder: Path, packs: PackStore, crops: EvaluationCrops, contract: ContractDescription) -> None:
        self.fleet, self.crops, self.contract = FlowerFleet(folder), crops, contract
        self.state: FederationState = self.fleet.state
        files = packs.read_files(PACK, BUILD)
        import_model(self.state, files[FILE], files[FILE.replace(".onnx", ".patch.json")])
        self.events: list[AuditEvent] = []
        self.rounds = 0

    def round(self) -> int:
        self.rounds += 1
        newest = newest_release(self.state)
        base = read_model(self.state).sha256 if newest is None else newest[0].digest
        self.fleet.plan(self.rounds, base=base, length=TABLE.length_of("head"), noise_multiplier=1e-3)
        (report,) = self.fleet.drive(self.fleet.grid())
        assert report.is_complete
        return self.rounds

    def make(self, candidate: Candidate, **changes: Any) -> ModelRelease:
        stated: dict[str, Any] = {"evaluating": Evaluating([self.crops], self.contract), "limits": LIMITS, "account": cheap_account}
        return make_release(self.state, candidate, self.fleet.clock.now(), self.events.append, **(stated | changes))

    def sign(self, candidate: Candidate, *numbers: int) -> list[str]:
        data, lines = (candidate.folder / "release").read_bytes(), []
        for number in numbers:
            key = load_signing_key(self.state.key_path(f"release-{number}"))
            lines.append(sign_text(data, key_name(self.state.settings, f"release-{number}"), key))
        return lines

    def publish(self, candidate: Candidate, **options: Any) -> Path:
        return publish_release(
            self.state, candidate, self.sign(candidate, 1, 3), self.fleet.clock.now(), self.events.append, **options
        )

    def release(self, **options: Any) -> Path:
        candidate = make_steered(self.state, [self.round()], AVERAGE)
        self.make(candidate)
        return self.publish(candidate, **options)


@pytest.fixture
def setting(tmp_path: Path, packs: PackStore, crops: EvaluationCrops, contract: ContractDescription) -> Setting:
    return Setting(tmp_path, packs, crops, contract)


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises((FacekeepError, ServerError)) as caught:
        action()
    return caught.value.code


# The optimiser


def slow_adam(updates: list[list[float]], optimiser: ServerOptimiser) -> list[float]:
    """One number at a time, as Kingma and Ba wrote it."""
    at = []
    for place in range(len(updates[0])):
        value = first = second = 0.0
        for number, update in enumerate(updates):
            first = optimiser.momentum * first + (1 - optimiser.momentum) * update[place]
            second = optimiser.memory * second + (1 - optimiser.memory) * update[place] ** 2
            rate = optimiser.rate * (0.5 * (1 + math.cos(math.pi * number / optimiser.rounds)) if optimiser.rounds else 1)
            mean, square = first / (1 - optimiser.momentum ** (number + 1)), second / (1 - optimiser.memory ** (number + 1))
            value += rate * mean / (math.sqrt(square) + 1e-8)
        at.append(value)
    return at


@given(
    st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(0, 0.95),
    st.floats(0, 0.99),
    st.integers(5, 12) | st.just(0),
)
def test_adam_is_the_slow_one_over_restarts(updates: list[list[float]], momentum: float, memory: float, rounds: int) -> None:
    optimiser = ServerOptimiser("adam", 0.1, momentum, memory, rounds)
    at, state = np.zeros(3), OptimiserState.fresh(3)
    for number, update in enumerate(updates):
        kept = OptimiserState.parse(state.to_bytes(optimiser), optimiser, 3)
        change, state = step(optimiser, kept, np.array(update), number)
        at += change
    np.testing.assert_allclose(at, slow_adam(updates, optimiser), rtol=1e-9, atol=1e-12)


def test_averaging_and_momentum() -> None:
    mean, average, heavy = np.array([1.0, -2.0]), ServerOptimiser(rate=0.5), ServerOptimiser("momentum", 1.0, 0.5)
    assert step(average, OptimiserState.fresh(2), mean)[0].tolist() == [0.5, -1.0]
    first, state = step(heavy, OptimiserState.fresh(2), mean)
    assert [first.tolist(), step(heavy, state, mean)[0].tolist()] == [[1.0, -2.0], [1.5, -3.0]]
    assert OptimiserState.parse(state.to_bytes(heavy), average, 2).taken == 0, "another kind begins anew"
    assert code_of(lambda: step(average, OptimiserState.fresh(2), np.array([np.nan, 0]))) == "server.invalid_request"
    assert code_of(lambda: OptimiserState.parse(b"nonsense", average, 2)) == "server.invalid_configuration"
    for wrong in ({"rate": 0.0}, {"rate": math.nan}, {"momentum": 1.0}, {"kind": "sgd"}, {"rounds": -1}):
        assert code_of(lambda wrong=wrong: ServerOptimiser(**wrong)) == "server.invalid_request"


def test_the_settings_recommended_are_those_of_the_recipe() -> None:
    pytest.importorskip("torch", reason="the recipes need PyTorch")
    from facekeep_models.training.federated import recommended as recipe
    from facekeep_server.releases import recommended

    plan = recipe.WITH_NOISE
    assert (plan.level, plan.clip, plan.rounds) == (recommended.LEVEL, recommended.CLIP, recommended.ROUNDS)
    found = recommended.OPTIMISER
    assert (found.rate, found.momentum, found.memory, found.rounds) == (
        plan.server_rate,
        plan.server_momentum,
        plan.server_memory,
        plan.rounds,
    )
    assert recommended.USED == recipe.USED_NUMBERS
    assert parse_training_settings(training_settings(recommended.TRAINING)) == recipe.ON_DEVICE


# From a round to a device


def test_a_round_becomes_a_release_that_a_device_adopts(setting: Setting, packs: PackStore, tmp_path: Path) -> None:
    number = setting.round()
    before = read_model(setting.state).parameters[TABLE.range_of("head")]
    candidate = make_steered(setting.state, [number], AVERAGE)
    numbers = np.frombuffer(candidate.parameters, "<f4")
    mean = setting.fleet.directory(number).update()
    np.testing.assert_allclose(numbers, before + 0.02 * mean, rtol=0, atol=1e-7)
    made = setting.make(candidate)
    assert (made.version, made.parent, made.rounds, made.level) == (1, None, (number,), Level.HEAD)
    assert [point.fmr for point in made.operating_points] == [1e-2]
    assert (made.privacy.cohort, made.privacy.fleet) == (4, 6)
    assert "epsilon" in describe(made)
    # One key is not enough, twice the same neither, nor a key that the policy does not name.
    one = setting.sign(candidate, 1)
    now, record = setting.fleet.clock.now(), setting.events.append
    stranger = load_signing_key(setting.state.key_path("app"))
    foreign = sign_text((candidate.folder / "release").read_bytes(), "stranger", stranger)
    for lines in (one, one * 2, [one[0], foreign]):
        assert code_of(lambda lines=lines: publish_release(setting.state, candidate, lines, now, record)) == "release.not_signed"
    assert code_of(lambda: publish_release(setting.state, candidate, ["hello"], now, record)) == "server.invalid_request"
    assert newest_release(setting.state) is None
    folder = setting.publish(candidate)
    assert code_of(lambda: setting.publish(candidate)) == "release.wrong_parent"
    found = newest_release(setting.state)
    assert found is not None
    assert found[0].digest == made.digest
    published = setting.events[-2]
    assert (published.code, published.details["rounds"], published.details["signatures"]) == ("release.published", "1", 2)
    clock = ManualClock(setting.fleet.clock.now())
    with open_device(tmp_path, packs, clock) as device:
        from facekeep_server.federation.creation import load_policy

        device.federation.join(load_policy(setting.state))
        receipt = device.federation.adopt((folder / "bundle").read_bytes())
        assert (receipt.version, receipt.digest, receipt.contract_id) == (1, made.digest, made.contract)
        # Thresholds of the fleet's own scores: the same model released anew.
        again = make_recalibrated(setting.state, number)
        points = (CalibratedPoint(0.01, 0.5, 0.009, (0.006, 0.013), 6, 4000),)
        second = setting.make(again, evaluating=Evaluating([setting.crops], setting.contract, points))
        assert (second.model, second.contract, second.parent) == (made.model, made.contract, made.digest)
        assert (second.operating_points[0].threshold, second.operating_points[0].non_mated) == (0.5, 4000)
        receipt = device.federation.adopt((setting.publish(again) / "bundle").read_bytes())
        assert (receipt.version, receipt.contract_id) == (2, made.contract)


def test_the_optimiser_goes_on_from_the_release_in_use(setting: Setting) -> None:
    heavy = ServerOptimiser("momentum", 0.01, 0.5)

    def steered(*rounds: int) -> Candidate:
        return make_steered(setting.state, rounds, heavy)

    def values(candidate: Candidate) -> np.ndarray[Any, Any]:
        return np.frombuffer(candidate.parameters, "<f4").astype(float)

    first = steered(setting.round())
    setting.make(first)
    setting.publish(first)
    means = [setting.fleet.directory(1).update()]
    number = setting.round()
    second = steered(number)
    means.append(setting.fleet.directory(number).update())
    expected = values(first) + 0.01 * (0.5 * means[0] + means[1])
    np.testing.assert_allclose(values(second), expected, atol=1e-6)
    # Made again, the same: a candidate that was not published leaves nothing behind.
    np.testing.assert_array_equal(values(steered(number)), values(second))


def test_privacy_in_releases_adds_up_over_every_round(setting: Setting) -> None:
    spent = []
    for _ in range(3):
        setting.release()
        found = newest_release(setting.state)
        assert found is not None
        spent.append(found[0].privacy.epsilon)
    assert spent == sorted(spent)
    assert spent[0] < spent[2]
    # An aborted round counts as well: a device charges itself before it answers.
    before = privacy_of(setting.state, cheap_account).epsilon
    setting.fleet.plan(4, base="00" * 32, noise_multiplier=1e-3)
    setting.fleet.drive(setting.fleet.grid(lambda message: None))
    assert setting.fleet.directory(4).report()["aborted"] is not None
    assert privacy_of(setting.state, cheap_account).epsilon > before


def test_a_publication_that_was_cut_off_is_told_once(setting: Setting) -> None:
    candidate = make_steered(setting.state, [setting.round()], AVERAGE)
    setting.make(candidate)
    lines, now = setting.sign(candidate, 1, 2), setting.fleet.clock.now()
    for _ in range(2):
        record = recorder(open_trail(setting.state, setting.fleet.clock)[0])
        folder = publish_release(setting.state, candidate, lines, now, record)
        # The power went after the entry was written, and before the note.
        (folder / "note").rename(folder / "lost")
    assert [entry["event"] for entry in trail(setting) if entry["event"].startswith("release.")] == [
        "release.published",
        "release.offered",
    ]


def test_rounds_are_spelled_in_runs() -> None:
    assert spelled_rounds([5, 1, 2, 3, 9]) == "1-3,5,9"
    assert spelled_rounds([]) == ""
    assert code_of(lambda: spelled_rounds(range(1, 400, 2))) == "release.malformed"


# The gate


def spoilt(setting: Setting, change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Candidate:
    candidate = make_steered(setting.state, [setting.round()], AVERAGE)
    from facekeep.training.patching import patched
    from facekeep_server.federation.candidates import write_candidate

    base = read_model(setting.state)
    numbers = change(np.frombuffer(candidate.parameters, "<f4").copy()).astype("<f4").tobytes()
    try:
        content = patched(base.content, base.table, "head", numbers, sha256=None)
    except ReleaseError:
        content = candidate.model
    return write_candidate(setting.state, None, Level.HEAD, candidate.rounds, numbers, content)


def test_a_candidate_that_is_worse_is_withheld(setting: Setting) -> None:
    limits = GateLimits(most_fall={1e-2: 0.05}, most_change=1.0)

    # Two numbers are left of an embedding: each of them is in bounds, only accuracy tells.
    def flatten(row: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        row[2 * TABLE.features_dimension :] = 0
        return row

    candidate = spoilt(setting, flatten)
    assert code_of(lambda: setting.make(candidate, limits=limits)) == "release.gate"
    event = setting.events[-1]
    assert (event.code, event.outcome, event.details["version"]) == ("release.withheld", "release.gate", 1)
    assert "TAR at FMR 0.01 falls" in str(event.details["reason"])
    assert not (candidate.folder / "release").exists()
    assert json.loads((candidate.folder / "evaluation.json").read_text())["passed"] is False
    # And it stays withheld for whoever comes with an evaluation of yesterday.
    assert code_of(lambda: setting.make(candidate, evaluating=None)) == "release.gate"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda row: row * 3, "the change has norm"),
        (lambda row: np.where(np.arange(len(row)) == 5, np.nan, row), "not finite"),
        (lambda row: np.zeros_like(row), "norm"),
    ],
)
def test_numbers_that_no_round_gives_are_withheld(setting: Setting, change: Any, says: str) -> None:
    candidate = spoilt(setting, change)
    with pytest.raises(ReleaseError, match=says) as caught:
        setting.make(candidate)
    assert caught.value.code == "release.gate"
    assert setting.events[-1].code == "release.withheld"


def test_no_evaluation_no_release(setting: Setting) -> None:
    candidate = make_steered(setting.state, [setting.round()], AVERAGE)
    assert code_of(lambda: setting.make(candidate, evaluating=None)) == "server.invalid_request"
    with pytest.raises(ReleaseError, match=r"too few people to measure at FMR 0\.0001"):
        setting.make(candidate, limits=GateLimits(most_fall={1e-4: 0.1}))


def test_rates_and_points_are_the_plain_ones(crops: EvaluationCrops) -> None:
    generator = np.random.default_rng(2)
    centres = generator.normal(size=(60, 16))
    people = np.repeat(np.arange(60), 3)
    rows = centres[people] + 0.8 * generator.normal(size=(180, 16))
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = accuracy_of(vectors, people, (1e-2,))
    scores = vectors @ vectors.T
    mated = [scores[i, j] for i in range(180) for j in range(i) if people[i] == people[j]]
    others = sorted((scores[i, j] for i in range(180) for j in range(i) if people[i] != people[j]), reverse=True)
    threshold = others[math.floor(0.01 * len(others))]
    assert found.tar[1e-2] == pytest.approx(np.mean(np.array(mated) > threshold), abs=0.01)
    assert found.interval[1e-2][0] <= found.tar[1e-2] <= found.interval[1e-2][1]
    (point,) = operating_points(vectors, people, "test", targets=(1e-2,))
    assert point.fmr_interval[0] <= 1e-2
    assert 1 - point.fnmr == pytest.approx(np.mean(np.array(mated) >= point.threshold), abs=1e-3)


def test_crops_come_from_folders_and_commands(crops: EvaluationCrops, tmp_path: Path) -> None:
    from PIL import Image

    for number, pixels in enumerate(crops.crops):
        folder = tmp_path / "people" / f"{crops.people[number]:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    found = read_crops(tmp_path / "people")
    assert found.sha256 == crops.sha256
    np.savez(tmp_path / "crops.npz", crops=crops.crops, people=crops.people)
    (tmp_path / "out").mkdir()
    assert render_crops(f"cp {tmp_path / 'crops.npz'} {{}}", tmp_path / "out").sha256 == crops.sha256
    assert code_of(lambda: render_crops("false", tmp_path)) == "server.invalid_request"
    assert code_of(lambda: read_crops(tmp_path / "absent")) == "server.invalid_request"
    Image.fromarray(crops.crops[0]).resize((64, 64)).save(tmp_path / "people" / "000" / "small.png")
    assert code_of(lambda: read_crops(tmp_path / "people")) == "server.invalid_request"


# Canaries


class Answers:
    """Devices that adopt, refuse, or go back."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.offered, self.refusing = setting, [], {}
        for number, device in enumerate(setting.fleet.devices):
            device.handle = self._handler(number, device.handle)

    def _handler(self, number: int, usual: Callable[[str, bytes], bytes]) -> Callable[[str, bytes], bytes]:
        def handle(action: str, body: bytes) -> bytes:
            if action != "offer":
                return usual(action, body)
            self.offered.append(number)
            if number in self.refusing:
                raise ReleaseError(self.refusing[number], "no")
            release = ModelRelease.parse(ReleaseBundle.parse(body).note.rpartition("\n\n")[0] + "\n")
            return to_canonical({"v": 1, "adopted": release.digest, "version": release.version})

        return handle

    def run(self) -> list[int]:
        self.offered.clear()
        self.setting.fleet.drive(self.setting.fleet.grid())
        return sorted(self.offered)


def trail(setting: Setting) -> list[dict[str, Any]]:
    lines = (setting.state.root / "trail" / "entries.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_canaries_come_first_and_the_fleet_when_enough_of_them_use_it(setting: Setting) -> None:
    answers, folder = Answers(setting), setting.release(canaries=[1, 4, 5], needed=2)
    answers.refusing = {4: "release.not_logged", 5: "release.expired"}
    assert newest_release(setting.state) is None, "no plan is made on it, and no release continues it"
    assert answers.run() == [1, 4, 5]
    assert (stage_of(folder), answers_of(folder)) == ("canary", {1: "adopted", 4: "release.not_logged", 5: "release.expired"})
    # Nobody is asked twice, and nothing goes on, until somebody looked.
    assert answers.run() == []
    answers.refusing.clear()
    (folder / "offer.json").unlink()
    assert answers.run() == [0, 1, 2, 3, 4, 5], "everybody once: a canary that uses it is not asked again with the fleet"
    assert set(answers.offered[:3]) == {1, 4, 5}, "canaries first"
    assert stage_of(folder) == "fleet"
    assert set(answers_of(folder).values()) == {"adopted"}
    (offered,) = [entry["details"] for entry in trail(setting) if entry["event"] == "release.offered"]
    assert (offered["canaries"], offered["adopted"]) == (3, 3)


@pytest.mark.parametrize("code", ["release.failed_selftest", "release.older"])
def test_a_canary_that_went_back_withholds_it(setting: Setting, code: str) -> None:
    answers, folder = Answers(setting), setting.release(canaries=[0, 1, 2], needed=2, soak_seconds=3600)
    assert answers.run() == [0, 1, 2]
    assert answers.run() == []
    assert stage_of(folder) == "canary"
    setting.fleet.clock.advance(timedelta(hours=2))
    # After the soak they are asked again; one of them had to go back meanwhile.
    answers.refusing = {2: code}
    assert answers.run() == [0, 1, 2]
    assert stage_of(folder) == "withheld"
    (event,) = [entry for entry in trail(setting) if entry["event"] == "release.withheld"]
    assert (event["outcome"], event["details"]["version"]) == (code, 1)
    assert answers.run() == []
    # The next release continues the model that shipped, under a version of its own.
    assert newest_release(setting.state) is None
    following = setting.release()
    assert (following.name, stage_of(following)) == ("00002", "fleet")


def test_a_soak_that_ends_well(setting: Setting) -> None:
    answers, folder = Answers(setting), setting.release(canaries=[0, 1], soak_seconds=600)
    answers.run()
    answers.run()
    setting.fleet.clock.advance(timedelta(minutes=20))
    answers.run()
    assert stage_of(folder) == "fleet"
    assert [path.name for path in release_folders(setting.state)] == ["00001"]
    record, error = setting.events.append, ReleaseError("release.gate", "complaints")
    withhold(setting.state, folder, error, record)
    assert stage_of(folder) == "withheld"
    assert code_of(lambda: withhold(setting.state, folder, error, record)) == "server.invalid_request"


@given(st.dictionaries(st.integers(0, 5), st.sampled_from(["adopted", "release.older", "release.failed_selftest", "consent.none"])))
def test_a_verdict_needs_enough_and_no_alarm(answers: dict[int, str]) -> None:
    rollout = Rollout((0, 1, 2), 2)
    given_answers = [answers[index] for index in rollout.canaries if index in answers]
    verdict = judge(rollout, answers, NOW).verdict
    if any(answer in ("release.older", "release.failed_selftest") for answer in given_answers):
        assert verdict == "withhold"
    else:
        assert verdict == ("fleet" if given_answers.count("adopted") >= 2 else "wait")
