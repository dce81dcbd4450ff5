"""A federation in a folder, and devices as its coordinator meets them: keys, and nothing behind them."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from facekeep.participation import DeviceKeys, introduce
from facekeep.signing import DeviceKey
from facekeep_server.federation.creation import create_federation, load_policy
from facekeep_server.federation.fleet import SignedRoster, admit, joining_challenge
from facekeep_server.federation.state import FederationState, Settings

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)


def make_state(
    folder: Path, now: datetime = NOW, *, minimum: int = 3, epsilon: float = 8.0, port: int = 8000, hub: int = 8419
) -> FederationState:
    settings = Settings("fleet.example.org", f"127.0.0.1:{port}", f"127.0.0.1:{port}", f"http://127.0.0.1:{hub}", 3, 2)
    return create_federation(folder, settings, now, minimum_cohort=minimum, epsilon=epsilon)


@dataclass
class Keys:
    """What a device is known by."""

    keys: DeviceKeys = field(default_factory=lambda: DeviceKeys(DeviceKey(os.urandom(32)), os.urandom(32)))

    def introduction(self, state: FederationState) -> bytes:
        challenge = joining_challenge(state.settings.name)
        # As `facekeep federate join --out` writes it.
        return base64.b64encode(introduce(challenge, load_policy(state), self.keys)) + b"\n"


def admit_fleet(state: FederationState, size: int) -> tuple[SignedRoster, list[Keys]]:
    fleet = [Keys() for _ in range(size)]
    return admit(state, [one.introduction(state) for one in fleet]), fleet
