"""A device's part in a federated round: what it is asked, what it checks, what it answers.

Every message may come to a process of its own, so the state of the round is on the disk, sealed, before an answer leaves. The same
request gets the same bytes again: an answer that was lost on its way is neither computed nor charged twice.

Steps:
    0 read the state of the round; a request that was answered is answered with the same bytes
    1 hello: show this device's keys, signed over the challenge
    2 prepare: check plan, roster and cohort; find a subject with consent and something to give; see that the budget would allow it
    3 make the keys of the round, and a pair of shares for each neighbour
    4 train: check where training begins, and what the neighbours announced; require consent again, now, for each subject used
    5 contribute, outside of any transaction
    6 require consent once more, charge the budget, clip, quantise, add noise, mask
    7 confirm: sign one list of survivors, no other
    8 unmask: check the quorum, and whom each survivor masked with; give one share for each neighbour, and forget all others
    9 abandon: forget the round
    10 append to the audit trail, in the transaction of the answer; or what was refused, with its code
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from facekeep.audit import AuditEvent
from facekeep.consent import Purpose, require_clock
from facekeep.errors import ConsentError, FacekeepError, FederationError
from facekeep.flows.context import FlowContext
from facekeep.flows.contributing import Contributing, Startable, contributing_kinds
from facekeep.flows.gate import require_grant
from facekeep.flows.membership import BUDGET_SETTING, EXCHANGE, ROUND
from facekeep.flows.standing import Standing
from facekeep.participation import (
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
from facekeep.privacy.accounting import spelled, spent
from facekeep.protocol import (
    Abandoned,
    AbandonRequest,
    Account,
    Action,
    Challenge,
    ConfirmRequest,
    FederationPolicy,
    Kind,
    PrepareRequest,
    RoundPlan,
    SignedPlan,
    TrainRequest,
    UnmaskRequest,
    charge_of,
    require_current,
)
from facekeep.protocol.values import to_decimal
from facekeep.randomness import Randomness, SystemRandomness
from facekeep.vault import SubjectHandle, VaultTransaction

LAST_ROUND_SETTING: Final = "federation.last_round/"
_SYSTEM_RANDOMNESS = SystemRandomness()


def handle(
    context: FlowContext,
    policy: FederationPolicy,
    action: str,
    body: bytes,
    *,
    randomness: Randomness = _SYSTEM_RANDOMNESS,
    kinds: Mapping[Kind, Contributing] | None = None,
    account: Account = spent,
) -> bytes:
    """Return the answer to one message of a round.

    Args:
        context: the device, joined: its exchange key is in the vault.
        policy: of the federation it joined.
        action: "hello", "prepare", "train", "confirm", "unmask" or "abandon".
        body: the message.
        randomness: where keys, seeds and noise come from.
        kinds: what makes the contribution of each kind of round; left out: what this device can do.
        account: what charges cost.

    Raises:
        FederationError, TrustError, ConsentError, VaultError, ModelError: with a stable code; nothing was contributed or revealed
            by this call.
    """
    chosen = contributing_kinds() if kinds is None else kinds
    participant = _Participant(context, policy, randomness, chosen, account)
    try:
        step = _STEPS.get(action)
        if step is None:
            raise FederationError("federation.malformed", "The server asks for something that is no step of a round.")
        answer: bytes = step(participant, body)
        return answer
    except FacekeepError as error:
        # 10 append what was refused
        details = {"federation": policy.name, "step": action if action in _STEPS else "unknown"}
        context.record_refusal(AuditEvent("round.refused", error.code, details=details | participant.named), error)
        raise


@dataclass(frozen=True, slots=True)
class _Used:
    """The subjects of a contribution: who, and what was gathered of each."""

    handles: tuple[SubjectHandle, ...]
    gathered: tuple[Any, ...]


class _Participant:
    """One message's worth of a device."""

    def __init__(
        self,
        context: FlowContext,
        policy: FederationPolicy,
        randomness: Randomness,
        kinds: Mapping[Kind, Contributing],
        account: Account,
    ) -> None:
        self._context, self._policy, self._randomness, self._kinds, self._account = context, policy, randomness, kinds, account
        self.named: dict[str, str | int | bool] = {}

    def hello(self, body: bytes) -> bytes:
        """1 hello."""
        # 1 show the keys
        with self._context.vault.transaction(durable=False) as transaction:
            return introduce(Challenge.parse(body), self._policy, self._keys(transaction))

    def prepare(self, body: bytes) -> bytes:
        """2 and 3 prepare."""
        request = PrepareRequest.parse(body)
        with self._context.vault.transaction(durable=False) as transaction:
            # 0 state, and 2 the plan: before models are loaded for it
            signed, answered = self._open(transaction, request, body)
            if answered is not None:
                return answered
        ready = self._kind(signed.plan).ready(self._context, self._policy, signed.plan)
        with self._context.vault.transaction() as transaction:
            signed, answered = self._open(transaction, request, body)
            if answered is not None:
                return answered
            # 2 subjects and budget
            self._gather(transaction, ready, signed.plan)
            self._charged(transaction, signed.plan)
            # 3 keys and shares
            state = prepare(request, signed, self._policy, self._keys(transaction), self._randomness)
            # Before the answer: a plan that was answered and forgotten could be answered a second time.
            transaction.write_setting(LAST_ROUND_SETTING + self._policy.name, signed.plan.round.to_bytes(8, "big"))
            return self._keep(transaction, state, Action.PREPARE)

    def train(self, body: bytes) -> bytes:
        """4 to 6 train."""
        request = TrainRequest.parse(body)
        with self._context.vault.transaction(durable=False) as transaction:
            # 0 state
            state, answered = self._before_training(transaction, request, body)
            if answered is not None:
                return answered
            # 4 where training begins, and neighbours: before a model is loaded for it
            signed, keys = state.signed, self._keys(transaction)
            meeting = meet(state, request, keys)
        kind = self._kind(signed.plan)
        ready = kind.ready(self._context, self._policy, signed.plan)
        if signed.plan.start is not None:
            if not isinstance(kind, Startable):
                raise FederationError("federation.plan_refused", "This device cannot begin elsewhere than at the model in use.")
            ready = kind.start_from(ready, signed.plan, request.start)
        with self._context.vault.transaction(durable=False) as transaction:
            # Another process may have answered meanwhile, or been told to abandon the round: here, and once more below.
            _, answered = self._before_training(transaction, request, body)
            if answered is not None:
                return answered
            # 4 consent of each subject
            used = self._gather(transaction, ready, signed.plan)
        # 5 contribute
        contribution = kind.contribute(ready, signed.plan, used.gathered)
        with self._context.vault.transaction() as transaction:
            state, answered = self._before_training(transaction, request, body)
            if answered is not None:
                return answered
            # 6 consent once more: a withdrawal during the training counts; then budget, noise and mask
            for item in used.handles:
                self._require_consent(transaction, item, kind.purpose)
            ledger, epsilon = self._charged(transaction, signed.plan)
            state = mask_update(state, request, meeting, contribution, keys, self._randomness)
            state = replace(state, used=tuple(bytes.fromhex(item.principal_id) for item in used.handles))
            transaction.write_setting(BUDGET_SETTING, ledger.to_bytes())
            # 10 append
            for item in used.handles:
                transaction.append_event(self._joined(signed, item, epsilon))
            return self._keep(transaction, state, Action.TRAIN)

    def confirm(self, body: bytes) -> bytes:
        """7 confirm."""
        request = ConfirmRequest.parse(body)
        with self._context.vault.transaction() as transaction:
            state, answered = self._in_round(transaction, Action.CONFIRM, request.plan, body)
            if answered is not None:
                return answered
            # 7 sign one list
            return self._keep(transaction, confirm(state, request, self._keys(transaction)), Action.CONFIRM)

    def unmask(self, body: bytes) -> bytes:
        """8 unmask."""
        request = UnmaskRequest.parse(body)
        with self._context.vault.transaction() as transaction:
            state, answered = self._in_round(transaction, Action.UNMASK, request.plan, body)
            if answered is not None:
                return answered
            # 8 reveal one of two, once
            return self._keep(transaction, reveal(state, request, self._keys(transaction)), Action.UNMASK)

    def abandon(self, body: bytes) -> bytes:
        """9 abandon."""
        request = AbandonRequest.parse(body)
        with self._context.vault.transaction() as transaction:
            state = _read_state(transaction)
            if state is not None and state.signed.digest == request.plan:
                self._name(state.signed)
                # 9 forget
                transaction.write_sealed(ROUND, None)
                # 10 append
                transaction.append_event(self._answered(Action.ABANDON))
        return Abandoned(request.plan).to_bytes()

    def _open(self, transaction: VaultTransaction, request: PrepareRequest, body: bytes) -> tuple[SignedPlan, bytes | None]:
        state = _read_state(transaction)
        if state is not None and state.note == request.plan_note:
            self._name(state.signed)
            require_current(state.signed.plan, self._context.clock.now())
            if (answered := given_before(state, Action.PREPARE, body)) is not None:
                return state.signed, answered
        last = int.from_bytes(transaction.read_setting(LAST_ROUND_SETTING + self._policy.name) or b"", "big")
        signed = open_request(request, self._policy, self._context.clock.now(), last)
        self._name(signed)
        return signed, None

    def _in_round(self, transaction: VaultTransaction, action: Action, plan: bytes, body: bytes) -> tuple[RoundState, bytes | None]:
        state = _read_state(transaction)
        if state is not None and state.signed.digest == plan:
            self._name(state.signed)
        return resume(state, action, plan, body, self._policy, self._context.clock.now())

    def _before_training(
        self, transaction: VaultTransaction, request: TrainRequest, body: bytes
    ) -> tuple[RoundState, bytes | None]:
        state, answered = self._in_round(transaction, Action.TRAIN, request.plan, body)
        if answered is not None:
            # Kept from before; whoever withdrew since is not part of anything that leaves from now on.
            self._require_used(transaction, state, self._kind(state.signed.plan).purpose)
        return state, answered

    def _keep(self, transaction: VaultTransaction, state: RoundState, action: Action) -> bytes:
        answer = state.answer_to(action.value)
        transaction.write_sealed(ROUND, state.to_bytes())
        # 10 append
        transaction.append_event(self._answered(action))
        return answer

    def _gather(self, transaction: VaultTransaction, ready: Any, plan: RoundPlan) -> _Used:
        kind, handles, gathered = self._kind(plan), [], []
        # A clock set back would prolong every consent: then nobody is used.
        require_clock(self._context.clock.now(), Standing(transaction).last_event)
        for item in transaction.subjects():
            try:
                self._require_consent(transaction, item, kind.purpose)
            except ConsentError:
                continue
            found = kind.gather(ready, transaction, item, plan)
            if found is not None:
                handles.append(item)
                gathered.append(found)
        if not handles:
            raise FederationError(
                "federation.nothing_to_contribute", f"No subject with consent for {kind.purpose} has anything to give."
            )
        return _Used(tuple(handles), tuple(gathered))

    def _require_used(self, transaction: VaultTransaction, state: RoundState, purpose: Purpose) -> None:
        there = {bytes.fromhex(item.principal_id): item for item in transaction.subjects()}
        for principal in state.used:
            if principal not in there:
                raise ConsentError("consent.none", "A subject of this update was erased since.")
            self._require_consent(transaction, there[principal], purpose)

    def _require_consent(self, transaction: VaultTransaction, item: SubjectHandle, purpose: Purpose) -> None:
        _, found = require_grant(self._context.vault, transaction, self._context.clock, item.name, purpose)
        # Erased and enrolled anew meanwhile: another chain of consents, nothing of which covers what was gathered before.
        if found != item:
            raise ConsentError("consent.none", "The subject was erased since.")

    def _charged(self, transaction: VaultTransaction, plan: RoundPlan) -> tuple[Ledger, float]:
        ledger = Ledger.parse(transaction.read_setting(BUDGET_SETTING))
        return ledger.charged(charge_of(plan, self._policy.colluding_percent), self._policy, self._account)

    def _kind(self, plan: RoundPlan) -> Contributing:
        kind = self._kinds.get(plan.kind)
        if kind is None:
            raise FederationError("federation.plan_refused", f"This device cannot take part in rounds of the kind {plan.kind}.")
        return kind

    def _keys(self, transaction: VaultTransaction) -> DeviceKeys:
        exchange = transaction.read_sealed(EXCHANGE)
        if exchange is None:
            raise FederationError("federation.not_joined", "This device has no exchange key: join the federation first.")
        return DeviceKeys(self._context.vault.device_key, exchange)

    def _name(self, signed: SignedPlan) -> None:
        self.named = {"round": signed.plan.round, "plan": signed.digest.hex()}

    def _answered(self, action: Action) -> AuditEvent:
        details = {"federation": self._policy.name, "step": action.value}
        return AuditEvent("round.answered", details=details | self.named)

    def _joined(self, signed: SignedPlan, item: SubjectHandle, epsilon: float) -> AuditEvent:
        plan = signed.plan
        stated: dict[str, str | int | bool] = {"federation": plan.federation, "kind": plan.kind.value, "level": plan.level.value}
        numbers = {"epsilon": spelled(plan.epsilon), "delta": to_decimal(self._policy.delta), "spent": spelled(epsilon)}
        return AuditEvent("round.joined", subject=item.commitment, details=stated | numbers | self.named)


_STEPS: Final[Mapping[str, Any]] = {
    Action.HELLO.value: _Participant.hello,
    Action.PREPARE.value: _Participant.prepare,
    Action.TRAIN.value: _Participant.train,
    Action.CONFIRM.value: _Participant.confirm,
    Action.UNMASK.value: _Participant.unmask,
    Action.ABANDON.value: _Participant.abandon,
}


def _read_state(transaction: VaultTransaction) -> RoundState | None:
    data = transaction.read_sealed(ROUND)
    return None if data is None else RoundState.parse(data)
