"""The coordinator as it speaks for itself: its trail, and the key that signs it."""

from __future__ import annotations

from facekeep.clock import Clock
from facekeep.signing import DeviceKey
from facekeep_server.federation.creation import COORDINATOR
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.state import FederationState
from facekeep_server.federation.trail import CoordinatorTrail


def open_trail(state: FederationState, clock: Clock) -> tuple[CoordinatorTrail, DeviceKey]:
    """Return the coordinator's trail and the key that signs it; the caller holds the lock of the state directory.

    Raises:
        AuditError: as `CoordinatorTrail`. ServerError: "server.no_key".
    """
    key = load_signing_key(state.key_path(COORDINATOR))
    return CoordinatorTrail(state.root / "trail", key, clock), key
