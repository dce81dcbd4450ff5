"""A ClientApp around any participant: one message in, one reply out; what goes wrong travels as a code."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from facekeep.errors import FacekeepError
from facekeep.flower.envelope import ACTION_NAME, LARGEST_BODY, pack_reply, unpack_request
from facekeep.protocol.actions import Refusal

_LOGGER = logging.getLogger(__name__)
# What went wrong has no code of ours; it stays on the device.
_INTERNAL = Refusal("federation.aborted")


class Participant(Protocol):
    """Whoever answers the messages of a round: `Device.federation`, or a simulated device."""

    def handle(self, action: str, body: bytes) -> bytes:
        """Return the answer to one message."""
        ...


Opening = Callable[[Context], contextlib.AbstractContextManager[Participant]]


def make_answering_app(opening: Opening) -> ClientApp:
    """Return the app.

    Args:
        opening: gives the participant of one message.
    """
    app = ClientApp()

    @app.query(ACTION_NAME)
    def answer(message: Message, context: Context) -> Message:
        return Message(pack_reply(answer_message(message, context, opening)), reply_to=message)

    return app


def answer_message(message: Message, context: Context, opening: Opening) -> bytes:
    """Return the bytes of the reply; never raises: Flower would send the text of an exception to the server."""
    try:
        action, body = unpack_request(message)
        with opening(context) as participant:
            answer = participant.handle(action, body)
        # A device that would say more than any message may hold says nothing.
        return answer if len(answer) <= LARGEST_BODY else _INTERNAL.to_bytes()
    except FacekeepError as error:
        _LOGGER.warning("refused: %s", error.code)
        return Refusal(error.code).to_bytes()
    except Exception as error:  # noqa: BLE001 - its text, whatever it is, must not travel
        # Not its text either, nor a traceback: both can hold what stays here.
        _LOGGER.error("failed: %s", type(error).__name__)
        return _INTERNAL.to_bytes()
