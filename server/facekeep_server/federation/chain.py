"""A chain of rounds on one release: each step's parameters are what the next step's rounds began with, by their signed plans.

Rounds that began at the same numbers are one step: their updates are averaged. The first step began at the model in use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facekeep.protocol import Kind, Level, RoundPlan
from facekeep.training.patching import read_parameters
from facekeep_server.errors import ServerError
from facekeep_server.federation.model import BaseModel
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.state import FederationState

Steer = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a chain.

    Attributes:
        rounds: numbers of those averaged, in order.
        parameters: those trained after it, little-endian float32.
    """

    rounds: tuple[int, ...]
    parameters: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain from the model in use.

    Attributes:
        level: of all its rounds.
        steps: one or more, in order.
    """

    level: Level
    steps: tuple[Step, ...]

    @property
    def rounds(self) -> tuple[int, ...]:
        """Numbers of all its rounds, in order."""
        return tuple(sorted(number for step in self.steps for number in step.rounds))

    @property
    def length(self) -> int:
        """How many numbers of the level, the first of them, all its rounds trained."""
        return len(self.parameters) // 4

    @property
    def parameters(self) -> bytes:
        """Those trained after the last step, little-endian float32."""
        return self.steps[-1].parameters


def follow_chain(
    state: FederationState, rounds: Sequence[int], steer: Steer, *, base: BaseModel, content: bytes, in_use: str
) -> Chain:
    """Return the chain of completed rounds, and of those that they began after.

    Args:
        state: of the federation.
        rounds: their numbers; rounds behind a start that one of them began with need not be named.
        steer: called once for each step, in order: the change that a mean update, (P,) float64, makes.
        base: the model that shipped.
        content: of the model in use.
        in_use: digest that plans name as their base.

    Raises:
        ServerError: "server.invalid_request" for a round that is not a completed one of training on the model in use, for rounds of
            several levels or lengths, or for one that began at other numbers than the steps before it give.
    """
    plans = _plans(state, rounds, in_use)
    if len({(plan.level, plan.length) for plan in plans}) != 1:
        raise ServerError("server.invalid_request", "A candidate is made of one round or more, all of one level and one length.")
    level, length = plans[0].level, plans[0].length
    row = read_parameters(content, base.table)[base.table.parameters.range_of(level.value, length)]
    waiting: dict[str | None, list[int]] = {}
    for plan in plans:
        waiting.setdefault(plan.start, []).append(plan.round)
    # A plan is signed over the digest of its start: a round that is left out, another order or another optimiser shows.
    steps: list[Step] = []
    start: str | None = None
    while start in waiting:
        numbers = tuple(waiting.pop(start))
        row = (row.astype(np.float64) + steer(_mean(state, numbers, len(row)))).astype(np.float32)
        steps.append(Step(numbers, row.astype("<f4").tobytes()))
        start = hashlib.sha256(steps[-1].parameters).hexdigest()
    if waiting:
        told = ", ".join(str(number) for numbers in waiting.values() for number in numbers)
        raise ServerError(
            "server.invalid_request",
            f"Round {told} began at other numbers than the rounds before it give with this optimiser: name every one of them, "
            "and the optimiser that the plan was made with.",
        )
    return Chain(level, tuple(steps))


def _plans(state: FederationState, rounds: Sequence[int], in_use: str) -> list[RoundPlan]:
    found = []
    wanted = set(rounds).union(*(round_directory(state, number).after() for number in rounds))
    for number in sorted(wanted):
        directory = round_directory(state, number)
        if not directory.is_over or directory.report()["aborted"] is not None:
            raise ServerError("server.invalid_request", f"Round {number} was not completed.")
        plan = directory.plan()
        if plan.kind is not Kind.TRAINING or plan.base != in_use:
            raise ServerError("server.invalid_request", f"Round {number} did not train the model in use.")
        found.append(plan)
    return found


def _mean(state: FederationState, numbers: Sequence[int], length: int) -> NDArray[np.float64]:
    # A sum over more devices says more: each device's update counts the same.
    directories = [round_directory(state, number) for number in numbers]
    weights = [int(directory.report()["contributors"]) for directory in directories]
    total = np.zeros(length)
    for directory, weight in zip(directories, weights, strict=True):
        total += directory.update().astype(np.float64) * weight
    return total / sum(weights)
