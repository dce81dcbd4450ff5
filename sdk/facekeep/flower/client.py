"""The app that a SuperNode runs: the device that its operator named answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flwr.app import Context
from flwr.clientapp import ClientApp

from facekeep.flower.answering import Participant, make_answering_app
from facekeep.flower.opening import open_device


def make_client_app() -> ClientApp:
    """Return the app; nothing is opened before a message comes."""
    return make_answering_app(_open_federation)


@contextlib.contextmanager
def _open_federation(context: Context) -> Iterator[Participant]:
    with open_device(context.node_config) as device:
        yield device.federation
