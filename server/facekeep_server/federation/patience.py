"""How long the coordinator waits, from `patience.toml` in the state directory; what is left out has its default."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields

from facekeep_server.errors import ServerError
from facekeep_server.federation.files import read_file
from facekeep_server.federation.state import FederationState


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for whom.

    Attributes:
        step_seconds: for one step of a round, at most.
        meeting_seconds: for the fewest devices to be there.
        poll_seconds: between two looks for answers.
        resend_seconds: after which a letter without an answer is sent again. Above the 60 seconds in which Flower notices that a
            SuperNode is gone, and that its supervisor waits before it starts it again.
        resends: how often.
        shown_seconds: between two lines of progress.
        group: letters handed to Flower at once: each request of its interface holds them all.
    """

    step_seconds: float = 900
    meeting_seconds: float = 600
    poll_seconds: float = 1
    resend_seconds: float = 120
    resends: int = 5
    shown_seconds: float = 5
    group: int = 32


def load_patience(state: FederationState) -> Patience:
    """Return the patience of a federation.

    Raises:
        ServerError: "server.invalid_configuration" for a key that is none, or a number that is not positive.
    """
    path = state.root / "patience.toml"
    if not path.is_file():
        return Patience()
    try:
        values = tomllib.loads(read_file(path).decode("utf-8"))
        known = {field.name for field in fields(Patience)}
        if not values.keys() <= known or not all(isinstance(value, int | float) and value > 0 for value in values.values()):
            raise ValueError
        return Patience(**values)
    except ValueError:
        raise ServerError(
            "server.invalid_configuration", "patience.toml has a key that is none, or a number that is not one."
        ) from None
