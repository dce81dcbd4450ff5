"""A coordinator's state directory and light devices behind an in-process Grid: everything of Flower but its processes."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from flwr.app import Context

from facekeep.clock import ManualClock
from facekeep.flower.answering import Participant, make_answering_app
from facekeep.protocol import Extra, Kind, Level
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.fleet import admit, joining_challenge, read_roster
from facekeep_server.federation.patience import Patience
from facekeep_server.federation.rounds import RoundDirectory, round_directory, write_round
from facekeep_server.flower.app import drive
from facekeep_server.flower.grid import Fate, InProcessGrid
from facekeep_server.rounds import RoundReport, Wish, plan_round
from tests.server.federation_setting import NOW, make_state
from tests.simulators.federation import LightDevice, SeededRandomness, cheap_account, uniform_contribution

QUICK = Patience(step_seconds=300, meeting_seconds=60, poll_seconds=1, resend_seconds=30)


@dataclass
class FlowerFleet:
    """Devices that live on while coordinators come and go.

    Attributes:
        folder: for the state directory.
        size: number of devices.
        seed: of everything.
    """

    folder: Path
    size: int = 6
    seed: int = 1
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Rounds without noise to speak of: what is tested here is who is in the sum.
        self.state = make_state(self.folder / "fleet", epsilon=1e30)
        policy = load_policy(self.state)
        self.devices = [
            LightDevice(policy, self.clock, uniform_contribution(self.seed, number), self.seed, number)
            for number in range(self.size)
        ]
        challenge = joining_challenge(self.state.settings.name).to_bytes()
        admit(self.state, [base64.b64encode(device.handle("hello", challenge)) for device in self.devices])

    def plan(self, number: int, **changes: Any) -> RoundDirectory:
        signed = read_roster(self.state)
        defaults: dict[str, Any] = {
            "kind": Kind.TRAINING,
            "level": Level.HEAD,
            "length": 100,
            "base": "00" * 32,
            "clip": 1.0,
            "cohort": self.size,
            "noise_multiplier": 1.0,
            "extras": (Extra("loss", 10.0),),
        }
        plan, cohort = plan_round(
            Wish(**(defaults | changes)),
            number=number,
            roster=signed.roster,
            now=self.clock.now(),
            randomness=SeededRandomness("plan", self.seed, number),
            account=cheap_account,
        )
        return write_round(self.state, plan, cohort, signed)

    def grid(self, fate: Fate | None = None) -> InProcessGrid:
        """A Grid whose nodes have numbers that say nothing about their devices."""

        def opening(device: LightDevice) -> Any:
            @contextlib.contextmanager
            def give(context: Context) -> Iterator[Participant]:
                yield device

            return give

        return InProcessGrid({7919 * (n + 3): make_answering_app(opening(device)) for n, device in enumerate(self.devices)}, fate)

    def drive(self, grid: InProcessGrid, patience: Patience = QUICK) -> list[RoundReport]:
        def pause(seconds: float) -> None:
            self.clock.advance(timedelta(seconds=seconds))

        return drive(self.state, grid, self.clock, patience, pause=pause, say=self.said.append)

    def directory(self, number: int) -> RoundDirectory:
        return round_directory(self.state, number)
