"""The server optimiser over a chain of rounds, and the numbers that the next round of it begins with.

Every step is taken anew from the kept mean updates, and its result compared with what the next plan was signed over: between
rounds nothing of a step is kept that could disagree with them. A release keeps the optimiser's state, for what continues it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep_server.federation.candidates import chain_of, newest_release
from facekeep_server.federation.chain import Chain
from facekeep_server.federation.files import read_file
from facekeep_server.federation.model import read_model
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.state import FederationState
from facekeep_server.releases.optimising import OptimiserState, ServerOptimiser, step
from facekeep_server.releases.recommended import used_of

OPTIMISER_FILE: Final = "optimiser"


@dataclass(slots=True)
class Steering:
    """The optimiser from the release in use on: called once for each step of a chain, in order.

    Attributes:
        state: of the federation.
        optimiser: how it steps, the same in every step.
        kept: its state after each step so far.
    """

    state: FederationState
    optimiser: ServerOptimiser
    kept: list[OptimiserState] = field(default_factory=list)

    def __call__(self, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the change that a mean update makes."""
        change, after = step(self.optimiser, self.kept[-1] if self.kept else self._first(len(mean)), mean, len(self.kept))
        self.kept.append(after)
        return change

    def _first(self, length: int) -> OptimiserState:
        # Of the release in use, not of the last candidate: a withheld one must not go on steering.
        newest = newest_release(self.state)
        path = None if newest is None else newest[1] / OPTIMISER_FILE
        if path is None or not path.is_file():
            return OptimiserState.fresh(length)
        return OptimiserState.parse(read_file(path), self.optimiser, length)


def recommended_used(state: FederationState, rounds: Sequence[int]) -> int:
    """Return how many numbers should change, as `recommended.used_of` says of what these rounds trained; 0 for all of them."""
    directory = round_directory(state, rounds[0])
    if not directory.is_planned:
        return 0
    plan = directory.plan()
    return used_of(read_model(state).table.parameters, plan.level, plan.length)


def continue_after(state: FederationState, rounds: Sequence[int], optimiser: ServerOptimiser) -> Chain:
    """Return the chain of completed, not yet released rounds: its `parameters` are where the next round begins.

    Args:
        state: of the federation.
        rounds: its last round, or those to average as its last step.
        optimiser: has to be the one that the candidate is made with.

    Raises:
        ServerError: "server.invalid_request" for rounds that do not go together; "server.invalid_configuration".
    """
    return chain_of(state, rounds, Steering(state, optimiser))
