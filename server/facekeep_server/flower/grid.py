"""A `Grid` inside one process: the test double of Flower's, shipped with what is written against it.

The apps are real ClientApps with real contexts; messages are copied both ways, for whoever holds a message may change it.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

Fate = Callable[[Message], Message | None]


class InProcessGrid(Grid):
    """Carries messages to apps of this process; an app runs when its answer is asked for.

    Args:
        apps: app of each node.
        fate: what becomes of a message on its way, to a node or back: itself, another, or None if it is lost. For tests.
    """

    def __init__(self, apps: Mapping[int, ClientApp], fate: Fate | None = None) -> None:
        self.apps = dict(apps)
        self.offline: set[int] = set()
        self._fate = fate or (lambda message: message)
        self._contexts = {node: Context(0, node, {}, RecordDict(), {}) for node in self.apps}
        self._waiting: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        # Where no SuperLink started this process nothing has said so, and no message could be made.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 0, 1, 0

    def set_run(self, run: Any) -> None:
        """Runs have no meaning here."""

    @property
    def run(self) -> Any:
        """None: there is no run."""
        return None

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        """Refuse: Flower has deprecated it, and still demands it of every `Grid`.

        Raises:
            TypeError: always.
        """
        raise TypeError("A Grid makes no messages: call flwr.app.Message(content, dst_node_id=..., message_type=...).")

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are online."""
        return [node for node in self.apps if node not in self.offline]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Take copies of messages; return a number for each."""
        numbers = []
        for message in messages:
            number = str(next(self._numbers))
            taken = copy.deepcopy(message)
            # As Flower's own grids do: these fields have no setter.
            taken.metadata.__dict__.update(_message_id=number, _src_node_id=1)
            self._waiting[number] = taken
            numbers.append(number)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the answers to these messages that have arrived; each is given once."""
        arrived = []
        for number in list(message_ids):
            message = self._waiting.get(number)
            if message is None or message.metadata.dst_node_id in self.offline:
                continue
            del self._waiting[number]
            answer = self._answer(message)
            if answer is not None:
                arrived.append(answer)
        return arrived

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push and pull at once; what is not answered then will not be."""
        return self.pull_messages(self.push_messages(messages))

    def _answer(self, message: Message) -> Message | None:
        there = self._fate(message)
        if there is None:
            return None
        node = there.metadata.dst_node_id
        try:
            answer = self.apps[node](copy.deepcopy(there), self._contexts[node])
        except Exception as error:  # noqa: BLE001 - as `flwr.supernode.runtime.run_clientapp` does
            answer = Message(Error(2, f"{type(error)}:<'{error}'>"), reply_to=there)
        return self._fate(copy.deepcopy(answer))
