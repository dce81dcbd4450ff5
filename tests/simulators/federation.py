"""An in-process fleet: the device's real steps, the server's real Round, and whatever goes wrong in between.

    python -m tests.simulators.federation --devices 50 --rounds 3 --seed 7 --dump /tmp/messages

A `LightDevice` runs the pure steps with its state in memory, for cohorts of thousands; a `VaultDevice` is a whole `Device` with its
vault on disk and the flow `participate`. Everything follows from one seed.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facekeep import Device, KeyFile, Notice, Purpose
from facekeep.audit import AuditEvent
from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError
from facekeep.flows import participate
from facekeep.flows.contributing import Contributing, StatedContribution
from facekeep.flows.membership import EXCHANGE
from facekeep.participation import (
    Contribution,
    DeviceKeys,
    Ledger,
    RoundState,
    confirm,
    given_before,
    introduce,
    mask_update,
    meet,
    open_request,
    prepare,
    resume,
    reveal,
)
from facekeep.privacy.accounting import PrivacyCharge
from facekeep.protocol import (
    Abandoned,
    AbandonRequest,
    Action,
    Challenge,
    Cohort,
    ConfirmRequest,
    Extra,
    FederationPolicy,
    Introduction,
    Kind,
    Level,
    PrepareRequest,
    Refusal,
    Roster,
    RosterEntry,
    RoundPlan,
    SignedPlan,
    TrainRequest,
    UnmaskRequest,
    charge_of,
)
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind
from facekeep_server.rounds import Outgoing, Round, Wish, plan_round

NAME = "fleet.example"
START = datetime(2026, 11, 26, 12, tzinfo=UTC)
NOTICE = Notice("Your pictures improve the model on this device; what leaves it is noised and masked.", "en", "1")
MakeContribution = Callable[[RoundPlan, int], Contribution]


class SeededRandomness:
    """Bytes that follow from a seed: for simulators, never for keys that matter."""

    def __init__(self, *seed: object) -> None:
        self._random = random.Random(repr(seed))

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


class Participant(Protocol):
    """Whoever answers messages."""

    def handle(self, action: str, body: bytes) -> bytes: ...


def cheap_account(charges: Sequence[PrivacyCharge], delta: float) -> float:
    """zCDP to epsilon by the closed bound: an upper bound that takes no accounting package and no time."""
    rho = sum(charge.rho for charge in charges)
    return float(rho + 2 * np.sqrt(rho * np.log(1 / delta)))


class LightDevice:
    """The pure steps, state as bytes in memory: what a device is between two messages."""

    def __init__(
        self, policy: FederationPolicy, clock: ManualClock, make: MakeContribution, *seed: object, account: Any = cheap_account
    ) -> None:
        self.policy, self.clock, self.make, self.account = policy, clock, make, account
        self.randomness = SeededRandomness("device", *seed)
        self.keys = DeviceKeys(DeviceKey(self.randomness.token(32)), self.randomness.token(32))
        self.state: bytes | None = None
        self.last_round = 0
        self.ledger = Ledger()

    @property
    def entry(self) -> RosterEntry:
        return self.keys.entry

    def handle(self, action: str, body: bytes) -> bytes:
        return {
            "hello": lambda: introduce(Challenge.parse(body), self.policy, self.keys),
            "prepare": lambda: self._prepare(body),
            "train": lambda: self._train(body),
            "confirm": lambda: self._confirm(body),
            "unmask": lambda: self._unmask(body),
            "abandon": lambda: self._abandon(body),
        }[action]()

    def _prepare(self, body: bytes) -> bytes:
        request, state = PrepareRequest.parse(body), self._read()
        if state is not None and state.note == request.plan_note and (known := given_before(state, Action.PREPARE, body)):
            return known
        signed = open_request(request, self.policy, self.clock.now(), self.last_round)
        self.ledger.charged(charge_of(signed.plan, self.policy.colluding_percent), self.policy, self.account)
        state = prepare(request, signed, self.policy, self.keys, self.randomness)
        self.last_round = signed.plan.round
        return self._keep(state, Action.PREPARE)

    def _train(self, body: bytes) -> bytes:
        request = TrainRequest.parse(body)
        state, known = self._in_round(Action.TRAIN, request.plan, body)
        if known:
            return known
        meeting, plan = meet(state, request, self.keys), state.signed.plan
        charge = charge_of(plan, self.policy.colluding_percent)
        self.ledger, _ = self.ledger.charged(charge, self.policy, self.account)
        state = mask_update(state, request, meeting, self.make(plan, 1), self.keys, self.randomness)
        return self._keep(state, Action.TRAIN)

    def _confirm(self, body: bytes) -> bytes:
        request = ConfirmRequest.parse(body)
        state, known = self._in_round(Action.CONFIRM, request.plan, body)
        return known or self._keep(confirm(state, request, self.keys), Action.CONFIRM)

    def _unmask(self, body: bytes) -> bytes:
        request = UnmaskRequest.parse(body)
        state, known = self._in_round(Action.UNMASK, request.plan, body)
        return known or self._keep(reveal(state, request, self.keys), Action.UNMASK)

    def _abandon(self, body: bytes) -> bytes:
        request, state = AbandonRequest.parse(body), self._read()
        if state is not None and state.signed.digest == request.plan:
            self.state = None
        return Abandoned(request.plan).to_bytes()

    def _read(self) -> RoundState | None:
        return None if self.state is None else RoundState.parse(self.state)

    def _in_round(self, action: Action, plan: bytes, body: bytes) -> tuple[RoundState, bytes | None]:
        return resume(self._read(), action, plan, body, self.policy, self.clock.now())

    def _keep(self, state: RoundState, action: Action) -> bytes:
        self.state = state.to_bytes()
        return state.answer_to(action.value)


class VaultDevice:
    """A whole device with a vault on disk; every message opens it anew, as Flower's process per message does."""

    def __init__(
        self,
        home: Path,
        policy: FederationPolicy,
        clock: ManualClock,
        contributing: Contributing,
        *seed: object,
        subjects: Iterable[str] = ("Ann-Sofie Lindqvist",),
        purposes: Iterable[Purpose] = (Purpose.ENROLMENT, Purpose.FEDERATED_TRAINING),
        account: Any = cheap_account,
    ) -> None:
        self.home, self.policy, self.clock, self.contributing, self.account = home, policy, clock, contributing, account
        self.randomness = SeededRandomness("device", *seed)
        self.keeps_open = False
        self._device: Device | None = None
        with self.open() as device:
            for subject in subjects:
                device.consents.grant(subject, purposes=frozenset(purposes), valid_for="P300D", notice=NOTICE)
            with device._vault.transaction() as transaction:
                transaction.write_sealed(EXCHANGE, self.randomness.token(32))
                self.entry = DeviceKeys(device._vault.device_key, transaction.read_sealed(EXCHANGE) or b"").entry

    def open(self) -> Device:
        return Device.open(self.home / "home", key=KeyFile(self.home / "device.key"), clock=self.clock)

    def handle(self, action: str, body: bytes) -> bytes:
        with self.open() as device:
            return participate.handle(
                device._context,
                self.policy,
                action,
                body,
                randomness=self.randomness,
                kinds={Kind.TRAINING: self.contributing},
                account=self.account,
            )

    def make(self, plan: RoundPlan, subjects: int) -> Contribution:
        assert isinstance(self.contributing, StatedContribution)
        return self.contributing.make(plan, subjects)

    def trail(self) -> list[bytes]:
        with self.open() as device:
            device.verify_trail()
            return list(device.trail_entries())


def uniform_contribution(*seed: object) -> MakeContribution:
    """A contribution of norm about one that follows from the seed and the number of the round."""

    def make(plan: RoundPlan, subjects: int) -> Contribution:
        generator = np.random.default_rng(_number(seed, plan.round))
        vector = generator.standard_normal(plan.length).astype(np.float32)
        vector /= np.float32(np.linalg.norm(vector))
        return Contribution(vector, {extra.name: float(generator.uniform(0, extra.most)) for extra in plan.extras})

    return make


def _number(*parts: object) -> int:
    return random.Random(repr(parts)).getrandbits(63)


@dataclass
class Dump:
    """Writes every message and state into a folder, and remembers the bytes for a search."""

    folder: Path | None = None
    seen: list[tuple[str, bytes]] = field(default_factory=list)

    def write(self, name: str, data: bytes) -> None:
        self.seen.append((name, data))
        if self.folder is not None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


Drop = Callable[[Action, int], bool]
TamperRequest = Callable[[Outgoing], bytes | None]
TamperReply = Callable[[Outgoing, bytes], bytes | None]


@dataclass
class Fleet:
    """A federation: keys, policy, roster, devices, and a server that runs rounds over them."""

    seed: int = 1
    clock: ManualClock = field(default_factory=lambda: ManualClock(START))
    devices: list[Any] = field(default_factory=list)
    events: list[AuditEvent] = field(default_factory=list)
    dump: Dump = field(default_factory=Dump)
    number: int = 0

    def __post_init__(self) -> None:
        self.randomness = SeededRandomness("server", self.seed)
        self.authority, self.planner, self.releaser = (DeviceKey(self.randomness.token(32)) for _ in range(3))
        self.policy = FederationPolicy(
            name=NAME,
            authority_keys=(note_key("authority", self.authority),),
            planner_keys=(note_key("planner", self.planner),),
            release_keys=(note_key("release", self.releaser),),
            minimum_cohort=3,
            epsilon=8.0,
            delta=1e-5,
            most_rounds=1000,
        )

    def allow(self, **changes: Any) -> None:
        """Change the policy that devices made from now on have."""
        self.policy = replace(self.policy, **changes)

    def add_light(self, count: int, **options: Any) -> None:
        for _ in range(count):
            number = len(self.devices)
            make = uniform_contribution(self.seed, number)
            self.devices.append(LightDevice(self.policy, self.clock, make, self.seed, number, **options))
        self._renew()

    def add_vaults(self, folder: Path, count: int, **options: Any) -> None:
        for _ in range(count):
            number = len(self.devices)
            contributing = StatedContribution(Purpose.FEDERATED_TRAINING, uniform_contribution(self.seed, number))
            contributing = options.pop("contributing", contributing)
            home = folder / f"device-{number}"
            home.mkdir(parents=True)
            self.devices.append(VaultDevice(home, self.policy, self.clock, contributing, self.seed, number, **options))
        self._renew()

    def _renew(self) -> None:
        self.roster = Roster(NAME, [device.entry for device in self.devices])
        self.roster_note = self.roster.head.sign(f"{NAME}/authority", self.authority)

    def plan(self, **changes: Any) -> tuple[SignedPlan, Cohort]:
        """Plan and sign the next round. Fields of `Wish` are taken as such; `candidates`, and any field of the plan, as well."""
        self.number += 1
        wished = {name: changes.pop(name) for name in list(changes) if name in Wish.__dataclass_fields__}
        candidates = changes.pop("candidates", None)
        defaults: dict[str, Any] = {
            "kind": Kind.TRAINING,
            "level": Level.HEAD,
            "length": 200,
            "base": "00" * 32,
            "clip": 1.0,
            "cohort": len(self.devices),
            "noise_multiplier": 1.0,
            "extras": (Extra("loss", 10.0), Extra("samples", 50.0)),
        }
        plan, cohort = plan_round(
            Wish(**(defaults | wished)),
            number=self.number,
            roster=self.roster,
            now=self.clock.now(),
            randomness=self.randomness,
            candidates=candidates,
            account=cheap_account,
        )
        return self.sign(replace(plan, **changes)), cohort

    def sign(self, plan: RoundPlan) -> SignedPlan:
        return SignedPlan(plan.sign(f"{NAME}/planner", self.planner), plan)

    def begin(self, signed: SignedPlan, cohort: Cohort, **options: Any) -> Round:
        return Round.begin(signed, self.roster_note, self.roster, cohort, record=self.events.append, **options)

    def ask(self, index: int, action: str, body: bytes) -> bytes:
        """One message to one device, and its answer or refusal: what `facekeep.flower.client` does."""
        try:
            return bytes(self.devices[index].handle(action, body))
        except FacekeepError as error:
            return Refusal(error.code).to_bytes()

    def meet_devices(self) -> dict[int, int]:
        """HELLO to everybody: which transport address is which roster index."""
        found = {}
        for address in range(len(self.devices)):
            challenge = Challenge(NAME, self.randomness.token(32))
            introduction = Introduction.parse(self.ask(address, Action.HELLO, challenge.to_bytes()))
            introduction.require_signed(challenge)
            found[address] = self.roster.index_of[introduction.entry.device_key]
        return found

    def step(
        self,
        running: Round,
        *,
        drop: Drop = lambda action, index: False,
        request: TamperRequest = lambda out: out.body,
        reply: TamperReply = lambda out, body: body,
    ) -> None:
        """Send one step's messages and take the replies; does not close it."""
        for out in list(running.outbox()):
            if drop(out.action, out.index):
                continue
            body = request(out)
            if body is None:
                continue
            where = f"round-{running.signed.plan.round:04}/{out.action}/{out.index:05}"
            self.dump.write(f"{where}-request.bin", body)
            answer = reply(out, self.ask(out.index, out.action, body))
            if answer is not None:
                self.dump.write(f"{where}-reply.bin", answer)
                running.receive(out.index, out.action, answer)

    def run(self, signed: SignedPlan, cohort: Cohort, *, options: dict[str, Any] | None = None, **tamper: Any) -> Round:
        """One round from beginning to end, with the word that it is over."""
        running = self.begin(signed, cohort, **(options or {}))
        while not running.has_ended:
            self.dump.write(f"round-{signed.plan.round:04}/{running.phase}/checkpoint.bin", running.to_bytes())
            self.step(running, **tamper)
            running.close_step(self.clock.now())
        self.step(running)
        self.clock.advance(timedelta(minutes=1))
        return running

    def expected(self, signed: SignedPlan, indices: Iterable[int]) -> np.ndarray[Any, Any]:
        """The mean that no masking and no noise would give: the slow obvious sum."""
        vectors = [self.devices[index].make(signed.plan, 1).vector.astype(np.float64) for index in indices]
        return np.asarray(sum(vectors) / len(vectors) * min(1.0, signed.plan.update_clip))


def note_key(name: str, key: DeviceKey) -> NoteKey:
    return NoteKey(f"{NAME}/{name}", NoteKind.ED25519, key.public_bytes)


def drop_share(share: float, step: Action, seed: int) -> Drop:
    """Drop-outs at one step: which devices follows from the seed."""
    return lambda action, index: action is step and _number(seed, "drop", index) / 2**63 < share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--drop", type=float, default=0.1, help="share of devices lost at TRAIN")
    parser.add_argument("--vaults", type=Path, help="whole devices with their vaults in this folder, instead of light ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dump", type=Path, help="folder for every message and state")
    arguments = parser.parse_args()
    fleet = Fleet(arguments.seed, dump=Dump(arguments.dump))
    if arguments.vaults:
        fleet.add_vaults(arguments.vaults, arguments.devices)
    else:
        fleet.add_light(arguments.devices)
    print(f"seed {arguments.seed}, {arguments.devices} devices")
    for _ in range(arguments.rounds):
        signed, cohort = fleet.plan(length=arguments.length, noise_multiplier=2.0)
        running = fleet.run(signed, cohort, drop=drop_share(arguments.drop, Action.TRAIN, arguments.seed))
        assert running.report is not None
        print(running.report.to_json())


if __name__ == "__main__":
    main()
