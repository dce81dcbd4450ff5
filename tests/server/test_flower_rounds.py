"""Rounds over a Grid: the real conductor, the real Round, real ClientApps; only the processes are missing."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr")

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict

from facekeep.errors import FederationError
from facekeep.flower.envelope import LARGEST_BODY, RECORD
from facekeep.participation import Contribution
from facekeep_server.errors import ServerError
from facekeep_server.federation.coordinator import open_trail
from facekeep_server.federation.patience import Patience
from facekeep_server.federation.rounds import RoundDirectory, open_rounds
from tests.server.flower_fleet import QUICK, FlowerFleet


@pytest.fixture
def fleet(tmp_path: Path) -> FlowerFleet:
    return FlowerFleet(tmp_path)


def events(fleet: FlowerFleet) -> list[tuple[str, str, dict[str, Any]]]:
    trail, _ = open_trail(fleet.state, fleet.clock)
    trail.verify()
    fields = [json.loads(body) for body in trail.entries]
    return [(entry["event"], entry["outcome"], entry["details"]) for entry in fields]


def expected_mean(fleet: FlowerFleet, directory: RoundDirectory, devices: list[int]) -> np.ndarray[Any, Any]:
    plan = directory.plan()
    vectors = [fleet.devices[n].make(plan, 1).vector.astype(float) for n in devices]
    return np.asarray(sum(min(1.0, plan.update_clip) * vector for vector in vectors) / len(vectors))


def test_a_round_runs_and_its_mean_is_the_devices_mean(fleet: FlowerFleet) -> None:
    directory = fleet.plan(1, noise_multiplier=1e-6)
    (report,) = fleet.drive(fleet.grid())
    assert (report.is_complete, report.survivors) == (True, 6)
    np.testing.assert_allclose(directory.update(), expected_mean(fleet, directory, list(range(6))), atol=1e-4)
    assert directory.is_over
    assert open_rounds(fleet.state) == []
    assert not (directory.path / "checkpoint").exists()
    assert not (directory.path / "updates").exists()
    assert [step["step"] for step in directory.steps()] == ["prepare", "train", "confirm", "unmask"]
    assert [name for name, _, _ in events(fleet)] == ["round.planned", "round.completed"]
    # Devices were told that it is over, and keep nothing of it.
    assert all(device.state is None for device in fleet.devices)
    assert any("6 of 6 invited devices are there" in line for line in fleet.said)


def test_several_rounds_run_in_order_and_a_finished_one_is_not_run_again(fleet: FlowerFleet) -> None:
    for number in (1, 2):
        fleet.plan(number)
    assert [report.round for report in fleet.drive(fleet.grid())] == [1, 2]
    assert fleet.drive(fleet.grid()) == []
    fleet.plan(3)
    assert [report.round for report in fleet.drive(fleet.grid())] == [3]
    with pytest.raises(ServerError):
        fleet.plan(3)


@pytest.mark.parametrize("step", ["prepare", "train", "confirm", "unmask"])
def test_a_device_that_is_lost_in_a_step_is_left_out_not_waited_for_for_ever(fleet: FlowerFleet, step: str) -> None:
    directory = fleet.plan(1, noise_multiplier=1e-6)
    lost = set()

    def fate(message: Message) -> Message | None:
        if message.has_content() and RECORD in message.content and message.metadata.dst_node_id == 7919 * 3:
            if message.content[RECORD].get("action") == step:
                lost.add(step)
            return None if lost else message
        return message

    (report,) = fleet.drive(fleet.grid(fate))
    assert report.is_complete
    there = list(range(1, 6)) if step in ("prepare", "train") else list(range(6))
    assert report.survivors == len(there)
    np.testing.assert_allclose(directory.update(), expected_mean(fleet, directory, there), atol=1e-4)


def test_a_reply_that_got_lost_is_asked_for_again(fleet: FlowerFleet) -> None:
    fleet.plan(1)
    dropped: set[str] = set()

    def fate(message: Message) -> Message | None:
        body = message.content[RECORD] if message.has_content() else {}
        if "action" not in body and message.metadata.src_node_id == 7919 * 4 and "reply" not in dropped and len(fleet.said) > 1:
            dropped.add("reply")
            return None
        return message

    (report,) = fleet.drive(fleet.grid(fate))
    assert dropped
    assert report.survivors == 6
    assert sum(step["resent"] for step in fleet.directory(1).steps()) == 1


def test_nobody_there_is_a_failure_after_a_timeout_not_an_empty_success(fleet: FlowerFleet) -> None:
    fleet.plan(1)
    grid = fleet.grid()
    grid.offline = set(grid.apps)
    began = fleet.clock.now()
    (report,) = fleet.drive(grid)
    assert report.aborted == "federation.cohort_too_small"
    assert report.update is None
    assert (fleet.clock.now() - began).total_seconds() <= QUICK.meeting_seconds + 30 + 5
    assert [name for name, _, _ in events(fleet)] == ["round.planned", "round.aborted"]
    with pytest.raises(ServerError):
        fleet.directory(1).update()


def test_a_cohort_below_the_minimum_is_not_opened(fleet: FlowerFleet) -> None:
    fleet.plan(1)
    grid = fleet.grid()
    grid.offline = set(list(grid.apps)[:4])
    (report,) = fleet.drive(grid)
    assert report.aborted == "federation.cohort_too_small"
    assert all(device.state is None for device in fleet.devices)


def test_who_comes_late_is_taken_in_while_the_round_prepares(fleet: FlowerFleet) -> None:
    fleet.plan(1)
    grid = fleet.grid()
    late = list(grid.apps)[2]
    grid.offline = {late}
    pull = grid.pull_messages

    def pull_and_arrive(numbers: Any) -> Any:
        if any("at least" in line for line in fleet.said) and fleet.clock.now().minute >= 1:
            grid.offline = set()
        return pull(numbers)

    grid.pull_messages = pull_and_arrive  # type: ignore[method-assign]
    (report,) = fleet.drive(grid)
    assert report.survivors == 6


@pytest.mark.parametrize("seconds", [55, 100])
def test_a_node_that_takes_long_to_say_who_it_is_is_there_and_keeps_nobody_waiting(fleet: FlowerFleet, seconds: int) -> None:
    # A small board under load starts its ClientApp in half a minute and more. At 100 s the meeting is over: it comes while others
    # prepare, as the cohort needs five of six.
    fleet.plan(1)
    grid = fleet.grid()
    slow, pull, began = next(iter(grid.apps)), grid.pull_messages, fleet.clock.now()
    nodes: dict[str, int] = {}
    push = grid.push_messages

    def remember(messages: Any) -> Any:
        messages = list(messages)
        numbers = list(push(messages))
        nodes.update(zip(numbers, (message.metadata.dst_node_id for message in messages), strict=True))
        return numbers

    def pull_when_ready(numbers: Any) -> Any:
        passed = (fleet.clock.now() - began).total_seconds()
        return pull([number for number in numbers if nodes[number] != slow or passed >= seconds])

    grid.push_messages, grid.pull_messages = remember, pull_when_ready  # type: ignore[method-assign]
    (report,) = fleet.drive(grid)
    assert report.survivors == 6
    taken = {step["step"]: step["seconds"] for step in fleet.directory(1).steps()}
    # What it could cost: the prepare step lasts until it came, no other waits.
    assert taken["prepare"] <= max(0, seconds - QUICK.meeting_seconds) + 2 * QUICK.poll_seconds
    assert taken["train"] <= 2 * QUICK.poll_seconds


def junk(kind: str, message: Message) -> Message:
    """What a device, or whoever speaks for it, may put in place of its reply."""
    changed = copy.deepcopy(message)
    if kind == "error":
        return Message(Error(2, "<class 'RuntimeError'>:<'secret'>"), reply_to=message) if False else _with_error(changed)
    contents = {
        "empty": RecordDict(),
        "other record": RecordDict({"weights": ArrayRecord([np.ones(3)])}),
        "extra record": RecordDict({RECORD: message.content[RECORD], "more": ConfigRecord({"a": 1})}),
        "no bytes": RecordDict({RECORD: ConfigRecord({"body": "text"})}),
        "more keys": RecordDict({RECORD: ConfigRecord({"body": b"x", "num-examples": 10**9})}),
        "nothing": RecordDict({RECORD: ConfigRecord({"body": b""})}),
        "noise": RecordDict({RECORD: ConfigRecord({"body": b"FKR\x01" + b"\xff" * 500})}),
        "huge": RecordDict({RECORD: ConfigRecord({"body": b"x" * (LARGEST_BODY + 1)})}),
        "refusal of no code": RecordDict({RECORD: ConfigRecord({"body": b'{"refused":"no.such_code","v":1}'})}),
        "refusal": RecordDict({RECORD: ConfigRecord({"body": b'{"refused":"federation.budget_spent","v":1}'})}),
    }
    changed.content = contents[kind]
    return changed


def _with_error(message: Message) -> Message:
    message.__dict__["_content"], message.__dict__["_error"] = None, Error(2, "<class 'RuntimeError'>:<'secret'>")
    return message


@pytest.mark.parametrize(
    "kind",
    [
        "error",
        "empty",
        "other record",
        "extra record",
        "no bytes",
        "more keys",
        "nothing",
        "noise",
        "huge",
        "refusal of no code",
        "refusal",
    ],
)
@pytest.mark.parametrize("step", ["hello", "prepare", "train"])
def test_one_bad_device_ends_nothing(fleet: FlowerFleet, kind: str, step: str) -> None:
    fleet.plan(1)
    asked: dict[str, str] = {}

    def fate(message: Message) -> Message | None:
        if message.metadata.dst_node_id == 7919 * 3:
            asked["now"] = message.content[RECORD]["action"]  # type: ignore[assignment]
        if message.metadata.src_node_id == 7919 * 3 and asked.get("now") == step:
            return junk(kind, message)
        return message

    (report,) = fleet.drive(fleet.grid(fate))
    assert report.is_complete
    assert report.survivors == 5
    refused = [(outcome, details["step"]) for name, outcome, details in events(fleet) if name == "reply.refused"]
    if step == "hello":
        assert refused == []
    else:
        code = "federation.budget_spent" if kind == "refusal" else "federation.malformed"
        assert refused == [(code, step)]


def test_a_device_that_breaks_says_a_code_and_nothing_else(fleet: FlowerFleet) -> None:
    fleet.plan(1)
    carried: list[bytes] = []

    def breaks(*_: object) -> Contribution:
        raise RuntimeError("the face of Ann-Sofie Lindqvist")

    fleet.devices[0].make = breaks

    def fate(message: Message) -> Message | None:
        if message.has_content():
            carried.append(bytes(message.content[RECORD]["body"]))  # type: ignore[arg-type]
        else:
            carried.append(message.error.reason.encode())
        return message

    (report,) = fleet.drive(fleet.grid(fate))
    assert report.survivors == 5
    assert not any(b"Ann-Sofie" in body for body in carried)
    assert [(outcome, details["step"]) for name, outcome, details in events(fleet) if name == "reply.refused"] == [
        ("federation.aborted", "train")
    ]


class KilledError(BaseException):
    """The process died here."""


def _kill_points(tmp_path: Path) -> int:
    fleet = FlowerFleet(tmp_path / "count")
    fleet.plan(1)
    calls = [0]
    _drive_counting(fleet, calls, None)
    return calls[0]


def _drive_counting(fleet: FlowerFleet, calls: list[int], die_at: int | None) -> None:
    grid = fleet.grid()
    push, pull = grid.push_messages, grid.pull_messages

    def count(original: Any) -> Any:
        def call(argument: Any) -> Any:
            calls[0] += 1
            if calls[0] == die_at:
                raise KilledError
            found = original(argument)
            calls[0] += 1
            if calls[0] == die_at:
                raise KilledError
            return found

        return call

    grid.push_messages, grid.pull_messages = count(push), count(pull)  # type: ignore[method-assign]
    fleet.drive(grid)


def test_a_server_killed_at_any_message_and_started_again_gets_the_same_result_bit_for_bit(tmp_path: Path) -> None:
    undisturbed = FlowerFleet(tmp_path / "undisturbed")
    undisturbed.plan(1)
    undisturbed.drive(undisturbed.grid())
    wanted = undisturbed.directory(1).update()
    for point in range(1, _kill_points(tmp_path) + 1):
        # The same seed: the same devices, the same plan but for its keys.
        fleet = FlowerFleet(tmp_path / f"killed-{point}")
        fleet.plan(1)
        with pytest.raises(KilledError):
            _drive_counting(fleet, [0], point)
        reports = fleet.drive(fleet.grid())
        names = [name for name, _, _ in events(fleet)]
        assert names == ["round.planned", "round.completed"], (point, names)
        assert all(report.is_complete for report in reports)
        assert fleet.directory(1).update().shape == wanted.shape
        # Masks and noise of a device follow from its seed, so its answers do not depend on who asked first.
        assert fleet.directory(1).update().tobytes() == wanted.tobytes(), point


def test_a_second_driver_keeps_its_hands_off(fleet: FlowerFleet) -> None:
    fleet.plan(1)
    with fleet.state.locked(), pytest.raises(ServerError) as caught:
        fleet.drive(fleet.grid())
    assert caught.value.code == "server.unavailable"


def test_a_checkpoint_that_was_changed_is_not_driven_on(fleet: FlowerFleet) -> None:
    fleet.plan(1)
    with pytest.raises(KilledError):
        _drive_counting(fleet, [0], 12)
    path = fleet.directory(1).path / "checkpoint"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(FederationError):
        fleet.drive(fleet.grid())


def test_a_grid_in_one_process_says_how_a_message_is_made(fleet: FlowerFleet) -> None:
    with pytest.raises(TypeError, match=r"flwr\.app\.Message\("):
        fleet.grid().create_message(RecordDict(), "query", 1, "")


def test_many_letters_go_out_in_groups(tmp_path: Path) -> None:
    fleet = FlowerFleet(tmp_path, size=40)
    fleet.plan(1)
    (report,) = fleet.drive(fleet.grid(), Patience(step_seconds=300, meeting_seconds=60, group=7))
    assert report.survivors == 40
