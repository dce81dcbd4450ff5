"""A release offered over a Grid: each device says what it did with it, and says it again if asked again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flwr")

from flwr.app import Context, Message

from facekeep.canonical import to_canonical
from facekeep.errors import ReleaseError
from facekeep.flower.answering import Participant, make_answering_app
from facekeep.flower.envelope import RECORD
from facekeep.randomness import SystemRandomness
from facekeep_server.federation.fleet import read_roster
from facekeep_server.flower.carrier import Carrier
from facekeep_server.flower.grid import InProcessGrid
from facekeep_server.flower.meeting import Meeting
from facekeep_server.flower.offering import offer
from tests.server.flower_fleet import QUICK, FlowerFleet

DIGEST = "ab" * 32


class Adopting:
    """A device that adopts, or does not."""

    def __init__(self, device: Any, answer: Any) -> None:
        self.device, self.answer = device, answer

    def handle(self, action: str, body: bytes) -> bytes:
        if action != "offer":
            return bytes(self.device.handle(action, body))
        assert body == b"bundle"
        if isinstance(self.answer, Exception):
            raise self.answer
        return bytes(self.answer)


def test_everybody_answers_for_itself(tmp_path: Path) -> None:
    fleet = FlowerFleet(tmp_path)
    adopted = to_canonical({"v": 1, "adopted": DIGEST, "version": 1})
    answers = [
        adopted,
        ReleaseError("release.failed_selftest", "secret"),
        to_canonical({"v": 1, "adopted": "cd" * 32, "version": 1}),
        b"nonsense",
        RuntimeError("secret"),
        adopted,
    ]

    def opening(participant: Adopting) -> Any:
        @contextlib.contextmanager
        def give(context: Context) -> Iterator[Participant]:
            yield participant

        return give

    def fate(message: Message) -> Message | None:
        lost = message.has_content() and message.content[RECORD].get("action") == "offer" and message.metadata.dst_node_id == 105
        return None if lost else message

    apps = {100 + n: make_answering_app(opening(Adopting(fleet.devices[n], answer))) for n, answer in enumerate(answers)}
    carrier = Carrier(InProcessGrid(apps, fate), fleet.clock, lambda s: fleet.clock.advance(timedelta(seconds=s)), QUICK)
    meeting = Meeting(carrier, read_roster(fleet.state).roster, SystemRandomness())
    kept: dict[int, str] = {}
    said: list[str] = []
    offer(b"bundle", DIGEST, range(6), carrier, meeting, fleet.clock, QUICK, say=said.append, keep=kept.__setitem__)
    assert kept == {
        0: "adopted",
        1: "release.failed_selftest",
        # It says it adopted something else than it was offered.
        2: "federation.malformed",
        3: "federation.malformed",
        4: "federation.aborted",
    }
    assert said[-1].endswith("adopted by 1 of 6")
