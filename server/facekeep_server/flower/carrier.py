"""Letters out, answers in, within a time: the only place that touches Flower's Grid.

What Flower leaves to its users is done here: a SuperNode that died with a letter in its hands never says so (its message is gone,
the strategy would wait or shrug), so a letter without an answer is sent again. Devices answer the same letter with the same
bytes, so one sent twice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from flwr.app import Message
from flwr.serverapp import Grid

from facekeep.clock import Clock
from facekeep.errors import FederationError
from facekeep.flower.envelope import MESSAGE_TYPE, pack_request, unpack_reply
from facekeep_server.federation.patience import Patience

# Errors in place of an answer that pass when the device comes back.
_PASSING: Final = frozenset({3, 4, 5})  # MESSAGE_UNAVAILABLE, REPLY_MESSAGE_UNAVAILABLE, NODE_UNAVAILABLE (flwr.common.constant)


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to a device.

    Attributes:
        node: Flower's number of it.
        action: what is asked.
        body: what is said.
    """

    node: int
    action: str
    body: bytes


@dataclass(slots=True)
class Traffic:
    """What was carried, in bytes of bodies, and how often a letter had to be sent again."""

    sent: int = 0
    received: int = 0
    resent: int = 0
    unreadable: int = 0


@dataclass(slots=True)
class _Waiting:
    letter: Letter
    asked_at: datetime
    times: int = 0
    answered: bool = False


class Carrier:
    """Carries letters to the nodes of a Grid.

    Args:
        grid: Flower's.
        clock: tells the time.
        pause: sleeps for so many seconds.
        patience: how long.
    """

    def __init__(self, grid: Grid, clock: Clock, pause: Callable[[float], None], patience: Patience) -> None:
        self._grid, self._clock, self.pause, self._patience = grid, clock, pause, patience
        self.traffic = Traffic()

    def nodes(self) -> tuple[int, ...]:
        """Return the nodes that are online."""
        return tuple(sorted(self._grid.get_node_ids()))

    def carry(
        self,
        letters: Sequence[Letter],
        until: datetime,
        *,
        is_enough: Callable[[], bool] | None = None,
        more: Callable[[], Sequence[Letter]] = lambda: (),
    ) -> Iterator[tuple[Letter, bytes]]:
        """Yield each letter with its answer, as they arrive, each letter once at most; end at `until` at the latest.

        A reply that is none of ours (Flower's own error, another shape) is an empty answer: whoever asked refuses it as malformed.

        Args:
            letters: what to send at once.
            until: when it is over.
            is_enough: when nothing more is waited for; left out: when every letter has its answer.
            more: asked after each look for answers; what it returns is sent as well.
        """
        items = [_Waiting(letter, self._clock.now()) for letter in letters]
        post: dict[str, _Waiting] = {}
        enough = is_enough or (lambda: all(item.answered for item in items))
        for first in range(0, len(items), self._patience.group):
            self._push(items[first : first + self._patience.group], post, until)
            # Who answers fast is heard before the last letter of many is out.
            yield from self._pull(post)
        while not enough() and (now := self._clock.now()) < until:
            self.pause(min(self._patience.poll_seconds, (until - now).total_seconds()))
            yield from self._pull(post)
            self._push_again(items, post, until)
            added = [_Waiting(letter, self._clock.now()) for letter in more()]
            items += added
            for first in range(0, len(added), self._patience.group):
                self._push(added[first : first + self._patience.group], post, until)

    def _push(self, group: list[_Waiting], post: dict[str, _Waiting], until: datetime) -> None:
        now = self._clock.now()
        # A device that comes back after the step is over must not find a letter of it.
        ttl = max(1.0, (until - now).total_seconds())
        messages = []
        for item in group:
            item.asked_at, item.times = now, item.times + 1
            content = pack_request(item.letter.action, item.letter.body)
            messages.append(Message(content, dst_node_id=item.letter.node, message_type=MESSAGE_TYPE, ttl=ttl))
        for item, number in zip(group, self._grid.push_messages(messages), strict=False):
            # None for a message that Flower would not take: as good as lost, so it is sent again.
            if number:
                post[number] = item
                self.traffic.sent += len(item.letter.body)

    def _push_again(self, items: list[_Waiting], post: dict[str, _Waiting], until: datetime) -> None:
        late, now = timedelta(seconds=self._patience.resend_seconds), self._clock.now()
        due = [item for item in items if not item.answered and item.times <= self._patience.resends and now - item.asked_at >= late]
        online = set(self.nodes()) if due else set()
        again = [item for item in due if item.letter.node in online]
        self.traffic.resent += len(again)
        for first in range(0, len(again), self._patience.group):
            self._push(again[first : first + self._patience.group], post, until)

    def _pull(self, post: dict[str, _Waiting]) -> Iterator[tuple[Letter, bytes]]:
        numbers = list(post)
        for first in range(0, len(numbers), self._patience.group):
            for reply in self._grid.pull_messages(numbers[first : first + self._patience.group]):
                item = post.pop(reply.metadata.reply_to_message_id, None)
                if item is None or item.answered or (reply.has_error() and reply.error.code in _PASSING):
                    continue
                item.answered = True
                for number in [number for number, other in post.items() if other is item]:
                    del post[number]
                body = self._read(reply)
                self.traffic.received += len(body)
                yield item.letter, body

    def _read(self, reply: Message) -> bytes:
        try:
            return unpack_reply(reply)
        except FederationError:
            self.traffic.unreadable += 1
            return b""
