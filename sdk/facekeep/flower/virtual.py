"""Virtual devices for simulations: the real steps of a round, and nobody behind them.

A virtual device has keys that follow from its number, adds a random update, and keeps the state of a round in Flower's context, for
a simulation calls it in whatever worker is free; or in a folder, where it has to outlive a run, as a device's vault does. It holds
no face and needs no vault; it is of no use outside a simulation, where its keys would be everybody's to compute.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import ConfigRecord, Context

from facekeep.clock import Clock, SystemClock
from facekeep.errors import FederationError
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
from facekeep.privacy.accounting import spent
from facekeep.protocol import (
    Abandoned,
    AbandonRequest,
    Action,
    Challenge,
    ConfirmRequest,
    FederationPolicy,
    PrepareRequest,
    RoundPlan,
    TrainRequest,
    UnmaskRequest,
    charge_of,
)
from facekeep.randomness import SystemRandomness
from facekeep.signing import DeviceKey

ENVIRONMENT: Final = "FACEKEEP_VIRTUAL_POLICY"  # policy file of the simulated federation
STATE_ENVIRONMENT: Final = "FACEKEEP_VIRTUAL_STATE"  # folder for states; Flower's context if it is not set
_RECORD: Final = "facekeep.virtual"
_KEYS: Final = b"facekeep virtual device v1 "


def virtual_keys(number: int) -> DeviceKeys:
    """Return the keys of the virtual device `number`: anybody can compute them."""
    seeds = (hashlib.sha256(_KEYS + kind + number.to_bytes(8, "big")).digest() for kind in (b"device ", b"exchange "))
    return DeviceKeys(DeviceKey(next(seeds)), next(seeds))


@contextlib.contextmanager
def open_virtual(context: Context) -> Iterator[VirtualDevice]:
    """Give the virtual device that the node's partition number names.

    Raises:
        FederationError: "federation.not_joined" where no policy is named.
    """
    where = os.environ.get(ENVIRONMENT)
    if where is None:
        raise FederationError("federation.not_joined", f"{ENVIRONMENT} names no policy: this is no simulation.")
    policy = FederationPolicy.parse_toml(Path(where).read_text(encoding="utf-8"))
    number, folder = int(str(context.node_config["partition-id"])), os.environ.get(STATE_ENVIRONMENT)
    kept = context.state.config_records.setdefault(_RECORD, ConfigRecord({"round": b"", "last": 0, "budget": b""}))
    if folder is None:
        yield VirtualDevice(policy, number, kept)
        return
    path = Path(folder) / f"{number}.state"
    kept = _read_state(path) if path.is_file() else kept
    yield VirtualDevice(policy, number, kept)
    _write_state(path, kept)


class VirtualDevice:
    """The pure steps, state in a record of Flower's.

    Args:
        policy: of the federation.
        number: which device.
        record: where its state is kept: "round", "last", "budget".
        clock: tells the time.
    """

    def __init__(self, policy: FederationPolicy, number: int, record: ConfigRecord, clock: Clock | None = None) -> None:
        self._policy, self._keys, self._clock = policy, virtual_keys(number), clock or SystemClock()
        self._number, self._randomness = number, SystemRandomness()
        self._record = record

    def handle(self, action: str, body: bytes) -> bytes:
        """Return the answer to one message.

        Raises:
            FederationError, TrustError: as a device does.
        """
        steps: dict[str, Callable[[bytes], bytes]] = {
            Action.HELLO: lambda given: introduce(Challenge.parse(given), self._policy, self._keys),
            Action.PREPARE: self._prepare,
            Action.TRAIN: self._train,
            Action.CONFIRM: self._confirm,
            Action.UNMASK: self._unmask,
            Action.ABANDON: self._abandon,
        }
        if action not in steps:
            raise FederationError("federation.malformed", "The server asks for something that is no step of a round.")
        return steps[action](body)

    def _prepare(self, body: bytes) -> bytes:
        request, state = PrepareRequest.parse(body), self._read()
        if state is not None and state.note == request.plan_note and (known := given_before(state, Action.PREPARE, body)):
            return known
        signed = open_request(request, self._policy, self._clock.now(), int(str(self._record["last"])))
        self._charged(signed.plan)
        self._record["last"] = signed.plan.round
        return self._keep(prepare(request, signed, self._policy, self._keys, self._randomness), Action.PREPARE)

    def _train(self, body: bytes) -> bytes:
        request = TrainRequest.parse(body)
        state, known = self._in_round(Action.TRAIN, request.plan, body)
        if known is not None:
            return known
        meeting, plan = meet(state, request, self._keys), state.signed.plan
        self._record["budget"] = self._charged(plan).to_bytes()
        contribution = virtual_contribution(self._number, plan)
        return self._keep(mask_update(state, request, meeting, contribution, self._keys, self._randomness), Action.TRAIN)

    def _confirm(self, body: bytes) -> bytes:
        request = ConfirmRequest.parse(body)
        state, known = self._in_round(Action.CONFIRM, request.plan, body)
        return known if known is not None else self._keep(confirm(state, request, self._keys), Action.CONFIRM)

    def _unmask(self, body: bytes) -> bytes:
        request = UnmaskRequest.parse(body)
        state, known = self._in_round(Action.UNMASK, request.plan, body)
        return known if known is not None else self._keep(reveal(state, request, self._keys), Action.UNMASK)

    def _abandon(self, body: bytes) -> bytes:
        request, state = AbandonRequest.parse(body), self._read()
        if state is not None and state.signed.digest == request.plan:
            self._record["round"] = b""
        return Abandoned(request.plan).to_bytes()

    def _charged(self, plan: RoundPlan) -> Ledger:
        kept = self._record["budget"]
        before = Ledger.parse(kept) if isinstance(kept, bytes) and kept else Ledger()
        return before.charged(charge_of(plan, self._policy.colluding_percent), self._policy, spent)[0]

    def _read(self) -> RoundState | None:
        kept = self._record["round"]
        return RoundState.parse(kept) if isinstance(kept, bytes) and kept else None

    def _in_round(self, action: Action, plan: bytes, body: bytes) -> tuple[RoundState, bytes | None]:
        return resume(self._read(), action, plan, body, self._policy, self._clock.now())

    def _keep(self, state: RoundState, action: Action) -> bytes:
        self._record["round"] = state.to_bytes()
        return state.answer_to(action.value)


def virtual_contribution(number: int, plan: RoundPlan) -> Contribution:
    """Return the update of the virtual device `number`: of norm one, different in every round, the same whenever it is computed."""
    generator = np.random.default_rng([number, plan.round])
    vector = generator.standard_normal(plan.length).astype(np.float32)
    extras = {extra.name: float(generator.uniform(0, extra.most)) for extra in plan.extras}
    return Contribution(vector / np.float32(np.linalg.norm(vector)), extras)


def _read_state(path: Path) -> ConfigRecord:
    fields = json.loads(path.read_text(encoding="utf-8"))
    return ConfigRecord(
        {"round": bytes.fromhex(fields["round"]), "last": fields["last"], "budget": bytes.fromhex(fields["budget"])}
    )


def _write_state(path: Path, record: ConfigRecord) -> None:
    fields = {name: value.hex() if isinstance(value, bytes) else value for name, value in record.items()}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(fields), encoding="utf-8")
    draft.replace(path)
