"""Who is there: which of Flower's nodes is which device of the roster.

A node proves it by signing a fresh challenge with its device key. Flower's own authentication only says that a node key is known:
it is not what the roster is made of, and whoever holds it could not answer for a device.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from facekeep.errors import FacekeepError
from facekeep.protocol.actions import Action, Refusal
from facekeep.protocol.answers import NONCE_BYTES, Introduction
from facekeep.protocol.requests import Challenge
from facekeep.protocol.roster import Roster
from facekeep.randomness import Randomness
from facekeep_server.flower.carrier import Carrier, Letter


class Meeting:
    """Keeps who was met. A node that answered is not asked again in this run.

    Args:
        carrier: to the nodes.
        roster: who is in the fleet.
        randomness: for challenges.
    """

    def __init__(self, carrier: Carrier, roster: Roster, randomness: Randomness) -> None:
        self._carrier, self._roster, self._randomness = carrier, roster, randomness
        self._node_of: dict[int, int] = {}
        self._asked: dict[int, Challenge] = {}

    @property
    def node_of(self) -> Mapping[int, int]:
        """Roster index -> node."""
        return dict(self._node_of)

    def gather(self, wanted: Collection[int], until: datetime, look: Callable[[int], None] = lambda count: None) -> bool:
        """Ask every node that was not met yet who it is, until all of `wanted` are there or the time is over.

        A slow node keeps nobody waiting but itself: its answer counts whenever it comes, and who comes online meanwhile is asked.

        Args:
            wanted: roster indices.
            until: when it is over.
            look: told at each look how many of `wanted` are there.

        Returns:
            Whether all of `wanted` are there.
        """
        missing = set(wanted)

        def count() -> int:
            return len(missing & self._node_of.keys())

        def newcomers() -> list[Letter]:
            look(count())
            return self.ask()

        self.forget_silent()
        letters = self.ask()
        look(count())
        for letter, body in self._carrier.carry(letters, until, is_enough=lambda: count() == len(missing), more=newcomers):
            self.hear(letter, body)
        look(count())
        return count() == len(missing)

    def forget_silent(self) -> None:
        """Let nodes that did not answer be asked anew."""
        self._asked.clear()

    def ask(self) -> list[Letter]:
        """Return a challenge to each node online that was neither met nor asked; whoever carries them hands answers to `hear`."""
        known = set(self._node_of.values())
        strangers = [node for node in self._carrier.nodes() if node not in known and node not in self._asked]
        challenge = Challenge(self._roster.federation, self._randomness.token(NONCE_BYTES))
        self._asked.update(dict.fromkeys(strangers, challenge))
        return [Letter(node, Action.HELLO.value, challenge.to_bytes()) for node in strangers]

    def hear(self, letter: Letter, body: bytes) -> None:
        """Take what a node answered to its challenge; what proves nothing changes nothing."""
        challenge = self._asked.get(letter.node)
        index = None if challenge is None else self._recognise(challenge, body)
        # The newest node speaks for the device: a SuperNode that was set up anew has another number. Only who holds the
        # device's key can take its place.
        if index is not None:
            self._node_of[index] = letter.node

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
