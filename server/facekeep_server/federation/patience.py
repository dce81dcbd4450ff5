"""How long the coordinator waits, from `patience.toml` in the state directory; what is left out has its default."""

from __future__ import annotations

import tomllib
from dataclasses import fields

from facekeep_server.errors import ServerError
from facekeep_server.federation.files import read_file
from facekeep_server.federation.state import FederationState
from facekeep_server.flower.carrier import Patience


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
