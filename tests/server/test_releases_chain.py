"""Several rounds in one release: each begins where the server optimiser left off, and every digest in between is signed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from facekeep.errors import FederationError
from facekeep.participation import Contribution
from facekeep.protocol import Action, Kind, Level, RoundPlan, TrainRequest
from facekeep.protocol.release import ReleasedPoint
from facekeep.randomness import SystemRandomness
from facekeep.training.parameters import ParameterTable, TrainableTensor
from facekeep.training.patching import read_parameters
from facekeep_server.cli.app import app
from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import Candidate, chain_of, make_candidate
from facekeep_server.federation.model import import_model, read_model
from facekeep_server.federation.planning import Request, plan_next
from facekeep_server.federation.rounds import load_round
from facekeep_server.releases import chaining
from facekeep_server.releases.chaining import Steering, continue_after, recommended_used
from facekeep_server.releases.making import make_release, make_steered
from facekeep_server.releases.optimising import OptimiserState, ServerOptimiser, step
from facekeep_server.releases.privacy import privacy_of
from facekeep_server.releases.recommended import USED, used_of
from tests.flows.release_setting import BUILD, FILE, PACK, TABLE, write_pack
from tests.server.flower_fleet import FlowerFleet
from tests.simulators.federation import cheap_account

PART = TABLE.range_of("head")
LENGTH = TABLE.length_of("head")
HEAVY = ServerOptimiser("momentum", 0.5, 0.5)


class Learner:
    """A device that goes a tenth of the way from where it begins to numbers of its own."""

    def __init__(self, device: Any, model: NDArray[np.float32], number: int) -> None:
        generator = np.random.default_rng(number)
        self.device, self.model, self.began = device, model, [b""]
        self.target = model + (0.2 / np.sqrt(LENGTH) * generator.standard_normal(LENGTH)).astype(np.float32)
        self.inner, device._train, device.make = device._train, self.train, self.make

    def train(self, body: bytes) -> Any:
        self.began.append(TrainRequest.parse(body).start)
        return self.inner(body)

    def update(self, row: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((self.target - row) / np.float32(10))

    def make(self, plan: RoundPlan, subjects: int) -> Contribution:
        row = np.frombuffer(self.began[-1], "<f4") if self.began[-1] else self.model
        return Contribution(self.update(row), {extra.name: 1.0 for extra in plan.extras})


class Chain:
    """A fleet of learners whose rounds go on from each other."""

    def __init__(self, folder: Path, files: dict[str, bytes]) -> None:
        self.fleet = FlowerFleet(folder)
        self.state = self.fleet.state
        import_model(self.state, files[FILE], files[FILE.replace(".onnx", ".patch.json")])
        self.model = read_model(self.state).parameters[PART]
        self.learners = [Learner(device, self.model, number) for number, device in enumerate(self.fleet.devices)]

    def plan(self, *after: int, optimiser: ServerOptimiser = HEAVY, **changes: Any) -> RoundPlan:
        chain = continue_after(self.state, after, optimiser) if after else None
        request = Request(
            kind=Kind.TRAINING,
            level=Level.HEAD,
            length=LENGTH,
            base=read_model(self.state).sha256,
            clip=1.0,
            cohort=len(self.fleet.devices),
            noise_multiplier=1e-6,
            settings={"steps": 1},
            start=b"" if chain is None else chain.parameters,
            after=() if chain is None else chain.rounds,
        )
        request = dataclasses.replace(request, **changes)
        return plan_next(self.state, request, self.fleet.clock.now(), SystemRandomness(), account=cheap_account)[0]

    def drive(self) -> None:
        (report,) = self.fleet.drive(self.fleet.grid())
        assert report.is_complete, report

    def round(self, *after: int, **changes: Any) -> int:
        number = self.plan(*after, **changes).round
        self.drive()
        return number

    def refused(self, *rounds: int, optimiser: ServerOptimiser = HEAVY) -> str:
        with pytest.raises(ServerError) as caught:
            make_steered(self.state, rounds, optimiser)
        return caught.value.code


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return dict(write_pack(tmp_path_factory.mktemp("learning")).read_files(PACK, BUILD))


@pytest.fixture
def chain(tmp_path: Path, files: dict[str, bytes]) -> Chain:
    return Chain(tmp_path, files)


def values(candidate: Candidate) -> NDArray[np.float32]:
    return np.frombuffer(candidate.parameters, "<f4")


def test_three_rounds_give_what_a_plain_loop_gives(chain: Chain) -> None:
    numbers = [chain.round(), chain.round(1), chain.round(2)]
    assert numbers == [1, 2, 3]
    # The loop: no masks, no noise, no messages.
    row, first = chain.model.copy(), np.zeros(LENGTH)
    for _ in numbers:
        first = 0.5 * first + np.mean([learner.update(row).astype(np.float64) for learner in chain.learners], axis=0)
        row = (row.astype(np.float64) + 0.5 * first).astype(np.float32)
    candidate = make_steered(chain.state, [3], HEAVY)
    assert np.abs(row - chain.model).max() > 5e-4
    np.testing.assert_allclose(values(candidate), row, rtol=0, atol=1e-6)
    # To the bit, from the sums that were opened.
    row, state, starts = chain.model.copy(), OptimiserState.fresh(LENGTH), [b""]
    for number in numbers:
        change, state = step(HEAVY, state, chain.fleet.directory(number).update().astype(np.float64))
        row = (row.astype(np.float64) + change).astype(np.float32)
        starts.append(row.astype("<f4").tobytes())
    assert candidate.parameters == starts[-1]
    assert (candidate.folder / "optimiser").read_bytes() == state.to_bytes(HEAVY)
    assert candidate.rounds == (1, 2, 3)
    for learner in chain.learners:
        assert learner.began[1:] == starts[:3]
    for number, start in zip(numbers, starts, strict=False):
        assert chain.fleet.directory(number).plan().start == (hashlib.sha256(start).hexdigest() if start else None)
        assert chain.fleet.directory(number).plan().base == read_model(chain.state).sha256
    for number in (1, 2):
        steering = Steering(chain.state, HEAVY)
        taken = chain_of(chain.state, [number], steering)
        assert taken.parameters == starts[number]
        assert (len(taken.steps), steering.kept[-1].taken) == (number, number)
        assert not {"after.f32", "optimiser"} & {path.name for path in chain.fleet.directory(number).path.iterdir()}


def test_rounds_that_began_at_one_place_are_one_step(chain: Chain) -> None:
    first, second = chain.round(), chain.round()
    third, fourth = chain.round(first, second), chain.round(first, second)
    candidate = make_steered(chain.state, [third, fourth], HEAVY)
    assert candidate.rounds == (1, 2, 3, 4)
    steering = Steering(chain.state, HEAVY)
    updates = [chain.fleet.directory(number).update().astype(np.float64) for number in (first, second, third, fourth)]
    expected = chain.model + steering((updates[0] + updates[1]) / 2)
    expected = expected + steering((updates[2] + updates[3]) / 2)
    np.testing.assert_allclose(values(candidate), expected, atol=1e-6)
    # As before: those of the first step alone are averaged.
    assert make_steered(chain.state, [first, second], HEAVY).rounds == (1, 2)
    # And the plain mean goes along a chain as well.
    assert make_candidate(chain.state, [first, second]).rounds == (1, 2)


def test_another_optimiser_or_a_round_left_out_shows(chain: Chain) -> None:
    other = ServerOptimiser("momentum", 0.25, 0.5)
    first, aside = chain.round(), chain.round()
    last = chain.round(first)
    assert chain.refused(last, optimiser=other) == "server.invalid_request"
    assert chain.refused(last, aside) == "server.invalid_request", "the round after it began without it"
    # The list of rounds behind it is a convenience; the digest in the signed plan decides.
    (chain.fleet.directory(last).path / "start.json").unlink()
    assert chain.refused(last) == "server.invalid_request"
    assert make_steered(chain.state, [first, last], HEAVY).rounds == (first, last)
    changed = chain.fleet.directory(first).path / "update.f32"
    changed.write_bytes(changed.read_bytes()[:-4] + b"\x00\x00\x00\x01")
    assert chain.refused(first, last) == "server.invalid_request"


def test_a_release_may_take_over_the_first_numbers_alone(chain: Chain) -> None:
    chain.round()
    chain.round(1)
    whole = values(make_steered(chain.state, [2], HEAVY))
    candidate = make_steered(chain.state, [2], HEAVY, first=7)
    # Along the way everything moves, as without: the digests of the plans say so.
    assert (np.frombuffer(chain.learners[0].began[-1], "<f4") != chain.model).all()
    np.testing.assert_array_equal(values(candidate)[:7], whole[:7])
    np.testing.assert_array_equal(values(candidate)[7:], chain.model[7:])
    assert (whole[7:] != chain.model[7:]).all()
    np.testing.assert_array_equal(values(make_steered(chain.state, [2], HEAVY, first=LENGTH + 5)), whole)


def test_of_the_model_that_was_measured_the_recommended_numbers_are_taken_over(chain: Chain) -> None:
    def table(channels: int) -> ParameterTable:
        head = TrainableTensor("head.weight", channels, (2, 2))
        return ParameterTable((TrainableTensor("a.scale", 0, (channels,)), head))

    ours, other = table(5408), table(5409)
    assert used_of(ours, Level.CHANNELS, 5408) == USED
    assert [used_of(ours, Level.CHANNELS, USED), used_of(ours, Level.DEEP, 5412), used_of(other, Level.CHANNELS, 5409)] == [0, 0, 0]
    chain.round()
    assert recommended_used(chain.state, [1]) == 0, "of a model that nobody measured all"
    assert recommended_used(chain.state, [77]) == 0


def test_rounds_that_train_the_first_numbers_alone_leave_the_rest(chain: Chain) -> None:
    first_tensor = TABLE.tensors[0].length
    part: dict[str, Any] = {"level": Level.DEEP, "length": first_tensor}
    for number, device in enumerate(chain.fleet.devices):
        move = np.linspace(-0.01, 0.01, TABLE.length, dtype=np.float32) * np.float32(number + 1)
        device.make = (
            lambda plan, subjects, move=move: Contribution(  # type: ignore[method-assign, misc]
                move[: plan.length], {extra.name: 1.0 for extra in plan.extras}
            )
        )
    chain.round(**part)
    chain.round(1, **part)
    assert len(chain.learners[0].began[-1]) == 4 * first_tensor
    candidate, whole = make_steered(chain.state, [2], HEAVY), read_model(chain.state).parameters
    assert values(candidate).shape == (TABLE.length,)
    np.testing.assert_array_equal(values(candidate)[first_tensor:], whole[first_tensor:])
    moved = values(candidate)[:first_tensor] - whole[:first_tensor]
    # Two steps of 0.5, the second with half of the first.
    np.testing.assert_allclose(moved, 1.25 * 3.5 * np.linspace(-0.01, 0.01, TABLE.length)[:first_tensor], rtol=1e-2, atol=1e-5)
    np.testing.assert_array_equal(read_parameters(candidate.model, read_model(chain.state).table), values(candidate))
    # A round of all numbers is no step of this chain, and none of it begins where it ended.
    chain.round(level=Level.DEEP, length=TABLE.length)
    assert chain.refused(2, 3) == "server.invalid_request"
    with pytest.raises(ServerError, match="numbers to begin with"):
        chain.plan(2, level=Level.DEEP, length=TABLE.length)


def test_with_each_release_the_rate_begins_anew(chain: Chain) -> None:
    falling = ServerOptimiser("average", 1.0, rounds=4)
    for after in ((), (1,), (2,)):
        chain.round(*after, optimiser=falling)
    steering = Steering(chain.state, falling)
    chain_of(chain.state, [3], steering)
    assert steering.kept[-1].taken == 3
    rates = [step(falling, steering.kept[-1], np.ones(LENGTH), number)[0][0] for number in range(6)]
    np.testing.assert_allclose(rates, [1, 0.5 + 0.5 * np.sqrt(0.5), 0.5, 0.5 - 0.5 * np.sqrt(0.5), 0, 0], atol=1e-12)
    # What goes on from a release has its momentum, and the whole rate.
    kept = chain.state.root / "releases" / "00001"
    kept.mkdir(parents=True)
    newest = chaining.newest_release
    try:
        chaining.newest_release = lambda state: (None, kept)  # type: ignore[assignment, return-value]
        (kept / "optimiser").write_bytes(steering.kept[-1].to_bytes(falling))
        again = Steering(chain.state, falling)
        np.testing.assert_allclose(again(np.ones(LENGTH)), 1.0)
        assert again.kept[-1].taken == 4
    finally:
        chaining.newest_release = newest


def test_a_round_that_was_not_completed_is_nowhere_to_begin(chain: Chain) -> None:
    chain.plan()
    with pytest.raises(ServerError, match="not completed"):
        chain.plan(1)
    chain.drive()
    chain.plan(1)
    chain.fleet.drive(chain.fleet.grid(lambda message: None))
    with pytest.raises(ServerError, match="not completed"):
        chain.plan(2)
    assert chain.round(1) == 3
    assert make_steered(chain.state, [3], HEAVY).rounds == (1, 3)


def test_the_server_begins_at_the_same_numbers_after_a_restart(chain: Chain) -> None:
    chain.round()
    chain.plan(1)
    directory = chain.fleet.directory(2)
    running = load_round(chain.state, 2, lambda event: None)
    for out in running.outbox():
        running.receive(out.index, out.action, chain.fleet.devices[out.index].handle(out.action, out.body))
    running.close_step(chain.fleet.clock.now())
    directory.keep_checkpoint(running)
    before = [out.body for out in running.outbox()]
    again = load_round(chain.state, 2, lambda event: None)
    assert [out.body for out in again.outbox()] == before
    assert all(out.action is Action.TRAIN and TrainRequest.parse(out.body).start for out in again.outbox())
    # A start that was changed, or is gone, begins nothing.
    kept = (directory.path / "start.f32").read_bytes()
    (directory.path / "start.f32").write_bytes(bytes(len(kept)))
    with pytest.raises(FederationError):
        load_round(chain.state, 2, lambda event: None)
    (directory.path / "start.f32").unlink()
    with pytest.raises(FederationError):
        load_round(chain.state, 2, lambda event: None)
    (directory.path / "start.f32").write_bytes(kept)
    chain.drive()


def test_a_release_names_every_round_of_the_chain_and_pays_for_all(chain: Chain) -> None:
    spent = []
    for after in ((), (1,), (2,)):
        chain.round(*after)
        spent.append(privacy_of(chain.state, cheap_account).epsilon)
    candidate = make_steered(chain.state, [3], HEAVY)
    evaluation = {
        "model": hashlib.sha256(candidate.model).hexdigest(),
        "contract": "ab" * 32,
        "operating_points": [ReleasedPoint(0.5, 0.01, (0.0, 0.1), 0.1, (0.0, 0.2), "drawn", 10, 1000).to_value()],
        "passed": True,
    }
    (candidate.folder / "evaluation.json").write_text(json.dumps(evaluation))
    release = make_release(chain.state, candidate, chain.fleet.clock.now(), lambda event: None, account=cheap_account)
    assert release.rounds == (1, 2, 3)
    assert release.privacy.epsilon == spent[-1]
    assert spent == sorted(spent)
    assert spent[0] < spent[1] < spent[2]


def test_from_the_shell(chain: Chain) -> None:
    chain.round()
    options = ["--state", str(chain.state.root), "--level", "head", "--cohort", "6", "--noise", "0.000001", "--after", "1"]
    shell, steering = CliRunner(), ["--optimiser", "momentum", "--rate", "0.5", "--momentum", "0.5"]
    wrong = shell.invoke(app, ["federate", "plan", *options, *steering, "--level", "deep"])
    assert wrong.exit_code != 0
    found = shell.invoke(app, ["federate", "plan", *options, *steering, "--json"])
    assert found.exit_code == 0, found.output
    plan = chain.fleet.directory(2).plan()
    assert plan.start == hashlib.sha256(continue_after(chain.state, [1], HEAVY).parameters).hexdigest()
