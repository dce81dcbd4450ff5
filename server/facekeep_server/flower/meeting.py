"""Who is there: which of Flower's nodes is which device of the roster.

A node proves it by signing a fresh challenge with its device key. Flower's own authentication only says that a node key is known:
it is not what the roster is made of, and whoever holds it could not answer for a device.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from facekeep.clock import Clock
from facekeep.errors import FacekeepError
from facekeep.protocol.actions import Action, Refusal
from facekeep.protocol.answers import NONCE_BYTES, Introduction
from facekeep.protocol.requests import Challenge
from facekeep.protocol.roster import Roster
from facekeep.randomness import Randomness
from facekeep_server.flower.carrier import Carrier, Letter

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AGAIN: Final = timedelta(minutes=2)


class Meeting:
    """Keeps who was met. A node that answered is not asked again in this run.

    Args:
        carrier: to the nodes.
        roster: who is in the fleet.
        clock: tells the time.
        randomness: for challenges.
    """

    def __init__(self, carrier: Carrier, roster: Roster, clock: Clock, randomness: Randomness) -> None:
        self._carrier, self._roster, self._clock, self._randomness = carrier, roster, clock, randomness
        self._node_of: dict[int, int] = {}
        self._asked_at: dict[int, datetime] = {}

    @property
    def node_of(self) -> Mapping[int, int]:
        """Roster index -> node."""
        return dict(self._node_of)

    def look_round(self, until: datetime) -> int:
        """Ask every node that was not met yet who it is; return how many devices are known and online now."""
        online = self._carrier.nodes()
        known = set(self._node_of.values())
        nonce = self._randomness.token(NONCE_BYTES)
        challenge = Challenge(self._roster.federation, nonce)
        now = self._clock.now()
        # Whoever does not say who he is, is not asked with every look: others wait meanwhile.
        asked = [node for node in online if node not in known and now - self._asked_at.get(node, _NEVER) >= _AGAIN]
        self._asked_at.update(dict.fromkeys(asked, now))
        letters = [Letter(node, Action.HELLO, challenge.to_bytes()) for node in asked]
        for letter, body in self._carrier.carry(letters, until):
            index = self._recognise(challenge, body)
            # The newest node speaks for the device: a SuperNode that was set up anew has another number. Only who holds the
            # device's key can take its place.
            if index is not None:
                self._node_of[index] = letter.node
        return len(set(self._node_of.values()) & set(online))

    def _recognise(self, challenge: Challenge, body: bytes) -> int | None:
        if not body or Refusal.is_refusal(body):
            return None
        try:
            found = Introduction.parse(body)
            found.require_signed(challenge)
        except FacekeepError:
            return None
        index = self._roster.index_of.get(found.entry.device_key)
        return index if index is not None and self._roster.entries[index] == found.entry else None
