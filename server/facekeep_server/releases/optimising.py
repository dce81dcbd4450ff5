"""What the server makes of a mean update: plain averaging, momentum, or Adam over rounds. Pure; it sees noised sums only.

Source: Reddi et al., "Adaptive Federated Optimization", ICLR 2021, arXiv 2003.00295: the mean update stands where a gradient would.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from facekeep_server.errors import ServerError

Kind = Literal["average", "momentum", "adam"]
KINDS: Final[tuple[Kind, ...]] = ("average", "momentum", "adam")
_VERSION: Final = 1
_NEVER_ZERO: Final = 1e-8
_LARGEST: Final = 1 << 27


@dataclass(frozen=True, slots=True)
class ServerOptimiser:
    """How the server steps.

    Attributes:
        kind: "average" adds the mean update; "momentum" sums the earlier ones with it; "adam" divides by how far they spread.
        rate: by which a step is multiplied.
        momentum: share of the earlier updates that stays.
        memory: of "adam": share of the earlier squares that stays.
        rounds: over which the rate falls to nothing along a cosine on the way to one release; 0 for a constant rate.
    """

    kind: Kind = "average"
    rate: float = 1.0
    momentum: float = 0.9
    memory: float = 0.99
    rounds: int = 0

    def __post_init__(self) -> None:
        shares = (self.momentum, self.memory)
        if self.kind not in KINDS or not (math.isfinite(self.rate) and 0 < self.rate <= 100) or self.rounds < 0:
            raise ServerError("server.invalid_request", f"The optimiser is one of {', '.join(KINDS)}, its rate above 0.")
        if not all(0 <= share < 1 for share in shares):
            raise ServerError("server.invalid_request", "Momentum and memory are at least 0 and below 1.")


@dataclass(frozen=True, slots=True, eq=False)
class OptimiserState:
    """What is kept from one release to the next.

    Attributes:
        taken: steps so far.
        first: (P,) float64 decaying mean of updates.
        second: (P,) float64 decaying mean of their squares.
    """

    taken: int
    first: NDArray[np.float64] = field(repr=False)
    second: NDArray[np.float64] = field(repr=False)

    @classmethod
    def fresh(cls, length: int) -> OptimiserState:
        """Return the state before the first step."""
        return cls(0, np.zeros(length), np.zeros(length))

    def to_bytes(self, optimiser: ServerOptimiser) -> bytes:
        """Return the state with what it is of: a line of JSON, then both means as little-endian float64."""
        head = {"v": _VERSION, "kind": optimiser.kind, "taken": self.taken, "length": len(self.first)}
        return json.dumps(head).encode() + b"\n" + self.first.astype("<f8").tobytes() + self.second.astype("<f8").tobytes()

    @classmethod
    def parse(cls, data: bytes, optimiser: ServerOptimiser, length: int) -> OptimiserState:
        """Return the state of `to_bytes`; a fresh one if it is of another kind or another length: a level begins anew.

        Raises:
            ServerError: "server.invalid_configuration" if it cannot be read, or holds what is no finite number.
        """
        head, _, body = data.partition(b"\n")
        try:
            found: dict[str, Any] = json.loads(head)
            count = int(found["length"])
            if found["v"] != _VERSION or not 0 <= count <= _LARGEST or len(body) != 16 * count:
                raise ValueError
            if (found["kind"], count) != (optimiser.kind, length):
                return cls.fresh(length)
            rows = np.frombuffer(body, "<f8").astype(np.float64).reshape(2, count)
            if not np.isfinite(rows).all() or int(found["taken"]) < 0:
                raise ValueError
            return cls(int(found["taken"]), rows[0], rows[1])
        except (ValueError, KeyError, TypeError):
            raise ServerError("server.invalid_configuration", "The state of the server optimiser cannot be read.") from None


def step(
    optimiser: ServerOptimiser, state: OptimiserState, mean: NDArray[np.floating[Any]], number: int = 0
) -> tuple[NDArray[np.float64], OptimiserState]:
    """Return by how much the parameters change, (P,) float64, and the state after it.

    Args:
        optimiser: how.
        state: before it.
        mean: (P,) update.
        number: of the step among those on the way to one release, from 0: with each release the rate begins anew.

    Raises:
        ServerError: "server.invalid_request" for an update of another length, or one that is not finite.
    """
    update = np.asarray(mean, dtype=np.float64)
    if update.shape != state.first.shape or not np.isfinite(update).all():
        raise ServerError("server.invalid_request", "The mean update is not a row of finite numbers of the right length.")
    taken, rate = state.taken + 1, optimiser.rate
    if optimiser.rounds:
        rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, number / optimiser.rounds)))
    if optimiser.kind == "average":
        return rate * update, OptimiserState(taken, state.first, state.second)
    if optimiser.kind == "momentum":
        first = optimiser.momentum * state.first + update
        return rate * first, OptimiserState(taken, first, state.second)
    first = optimiser.momentum * state.first + (1 - optimiser.momentum) * update
    second = optimiser.memory * state.second + (1 - optimiser.memory) * update**2
    shrunk, wide = 1 - optimiser.momentum**taken, 1 - optimiser.memory**taken
    return rate * (first / shrunk) / (np.sqrt(second / wide) + _NEVER_ZERO), OptimiserState(taken, first, second)
