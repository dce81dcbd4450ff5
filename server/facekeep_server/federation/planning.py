"""`federate plan`: from what an operator asks for to signed plans in the state directory."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from facekeep.errors import FederationError
from facekeep.privacy.accounting import spent
from facekeep.protocol import START_SETTING, Account, Cohort, Extra, FederationPolicy, Kind, Level, RoundPlan, charge_of
from facekeep.randomness import Randomness
from facekeep.training.settings import TrainingSettings
from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import load_policy
from facekeep_server.federation.fleet import read_roster
from facekeep_server.federation.rounds import RoundDirectory, open_rounds, round_directory, write_round
from facekeep_server.federation.state import FederationState
from facekeep_server.rounds import Wish, plan_round

_MOST_NOISE: Final = 64.0
_BISECTIONS: Final = 14
TRAINING_EXTRAS: Final = (Extra("loss", 16.0), Extra("samples", 64.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an operator asks for.

    Attributes:
        kind: what is computed.
        level: what training moves.
        length: numbers in an update.
        base: hexadecimal SHA-256 of what is trained on.
        clip: largest L2 norm of a device's update.
        cohort: devices to invite.
        noise_multiplier: noise of the smallest sum over the sensitivity; None: as much as lets a device answer `budget_rounds`
        rounds
            within its policy.
        budget_rounds: see there.
        groups: see `Wish`.
        settings: of the kind.
        extras: numbers behind the update.
        lasts: until the deadline.
        leave_out_suspects: whether devices that earlier rounds suspected are not invited.
        start: numbers of the level that training begins with, little-endian float32; empty: those of the model in use.
        after: numbers of the rounds that `start` comes from.
    """

    kind: Kind
    level: Level
    length: int
    base: str
    clip: float
    cohort: int
    noise_multiplier: float | None = None
    budget_rounds: int = 30
    groups: int = 1
    settings: Mapping[str, int | str] = field(default_factory=dict)
    extras: tuple[Extra, ...] = TRAINING_EXTRAS
    lasts: timedelta = timedelta(hours=12)
    leave_out_suspects: bool = True
    start: bytes = field(default=b"", repr=False)
    after: tuple[int, ...] = ()


def plan_next(
    state: FederationState, request: Request, now: datetime, randomness: Randomness, *, account: Account = spent
) -> tuple[RoundPlan, RoundDirectory]:
    """Plan one round, sign it and keep it; return the plan and where it is kept.

    Raises:
        ServerError: "server.invalid_request" while another round waits: both would be charged, and one of them trained on a base
            that is no more; or for numbers to begin with of another length; "server.no_key".
        FederationError: "federation.cohort_too_small", "federation.plan_refused".
    """
    if open_rounds(state):
        raise ServerError("server.invalid_request", "A planned round waits to be run; run it before planning the next one.")
    if len(request.start) not in (0, 4 * request.length):
        raise ServerError("server.invalid_request", f"The numbers to begin with are not the {request.length} that are trained.")
    policy, signed = load_policy(state), read_roster(state)
    suspects = suspected(state, len(signed.roster)) if request.leave_out_suspects else frozenset()
    candidates = [index for index in range(len(signed.roster)) if index not in suspects]
    number = max(state.round_numbers, default=0) + 1

    def planned(noise: float) -> tuple[RoundPlan, Cohort]:
        return plan_round(
            _wish(request, noise, policy),
            number=number,
            roster=signed.roster,
            now=now,
            randomness=randomness,
            candidates=candidates,
            account=account,
        )

    noise = request.noise_multiplier
    if noise is None:
        noise = _noise_for(lambda tried: planned(tried)[0], policy, request.budget_rounds, account)
    plan, cohort = planned(noise)
    if plan.minimum < policy.minimum_cohort:
        raise FederationError(
            "federation.cohort_too_small",
            f"A cohort of {plan.cohort_size} opens sums of {plan.minimum}; the devices' policy wants {policy.minimum_cohort}.",
        )
    return plan, write_round(state, plan, cohort, signed, start=request.start, after=request.after)


def training_settings(changes: Sequence[str]) -> dict[str, int | str]:
    """Return the settings of a training plan: the defaults of `TrainingSettings` with NAME=VALUE changes.

    Raises:
        ServerError: "server.invalid_request" for a name that is none, or a value out of its range.
    """
    usual = TrainingSettings().to_value()
    kinds: dict[str, Callable[[str], Any]] = {name: type(getattr(TrainingSettings(), name)) for name in usual}
    values: dict[str, Any] = {}
    try:
        for change in changes:
            name, _, text = change.partition("=")
            values[name] = kinds[name](text)
        stated = TrainingSettings(**values).to_value()
        return {name: value for name, value in stated.items() if isinstance(value, int | str)}
    except KeyError:
        raise ServerError("server.invalid_request", f"A training setting is NAME=VALUE, NAME one of {', '.join(kinds)}.") from None
    except ValueError as error:
        raise ServerError("server.invalid_request", f"A training setting: {error}.") from None


def suspected(state: FederationState, fleet: int) -> frozenset[int]:
    """Return the roster indices that a finished round suspected. To forgive, edit `suspects` in its report."""
    found: set[int] = set()
    for number in state.round_numbers:
        directory = round_directory(state, number)
        if directory.is_over:
            found |= {int(index) for index in directory.report()["suspects"] if int(index) < fleet}
    return frozenset(found)


def _wish(request: Request, noise: float, policy: FederationPolicy) -> Wish:
    return Wish(
        kind=request.kind,
        level=request.level,
        length=request.length,
        base=request.base,
        clip=request.clip,
        cohort=request.cohort,
        noise_multiplier=noise,
        delta=policy.delta,
        extras=request.extras,
        settings={**request.settings, **({START_SETTING: hashlib.sha256(request.start).hexdigest()} if request.start else {})},
        groups=request.groups,
        # No less than what devices reckon with, or they refuse the plan.
        colluding_percent=policy.colluding_percent,
        lasts=request.lasts,
    )


def _noise_for(planned: Callable[[float], RoundPlan], policy: FederationPolicy, rounds: int, account: Account) -> float:
    """Return the least noise with which a device can answer so many rounds like this one, by bisection."""

    def cost(noise: float) -> float:
        charge = charge_of(planned(noise), policy.colluding_percent)
        return math.inf if charge is None else account([charge] * rounds, policy.delta)

    low, high = 0.0, 1.0
    while cost(high) > policy.epsilon:
        low, high = high, 2 * high
        if high > _MOST_NOISE:
            raise FederationError("federation.plan_refused", f"No noise lets a device answer {rounds} rounds within its budget.")
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if cost(middle) <= policy.epsilon else (middle, high)
    return high
