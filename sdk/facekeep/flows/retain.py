"""Retention: what has come to its end is destroyed, and the device signs what it destroyed.

Steps:
    0 find the policy, and the instant to judge by: the clock's, or the last one recorded if the clock stands before it
    1 gather what is held, by pseudonym, and when it last served
    2 plan: min(purpose end, last use + inactivity, statutory maximum)
    3 wipe opened templates, then destroy what is due, a batch in a transaction: rows, data keys, the wrap key
    4 delete consent records and log entries whose term is over
    5 record the run in the audit trail with the hash of its certificate
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta
from typing import Final, Literal

from facekeep.audit import AuditEvent
from facekeep.audit.trail import parse_entry
from facekeep.audit.usage import LastUses
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import ConsentError, RetentionError, VaultError
from facekeep.flows.context import FlowContext
from facekeep.flows.holdings import Holdings, gather_holdings
from facekeep.flows.recording import record_erasure, record_expiry
from facekeep.flows.run_record import (
    STATE_SETTING,
    RunState,
    expired_event,
    gone_in,
    group_expired_event,
    read_state,
    run_event,
    samples_expired_event,
)
from facekeep.flows.sealing_results import sweep
from facekeep.flows.standing import Standing
from facekeep.retention import (
    Kind,
    PlannedItem,
    RetentionCertificate,
    RetentionPlan,
    RetentionPolicy,
    SignedCertificate,
    make_plan,
)
from facekeep.vault import SubjectHandle, VaultTransaction

POLICY_SETTING: Final = "retention.policy"
_USES_SETTING: Final = "retention.uses"
# Subjects destroyed in one transaction: what an interruption can undo, and what one rotation of the wrap key is shared by.
_BATCH: Final = 1000
_TRANSIENT: Final = frozenset({"vault.busy", "vault.disk_full", "vault.read_only", "vault.io"})

Trigger = Literal["start", "daily", "demand"]


class Retention:
    """The retention of a device: `device.retention`."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context
        self._looked_until: datetime | None = None

    def policy(self) -> RetentionPolicy | None:
        """Return the policy that was adopted, or None.

        Raises:
            RetentionError: "retention.invalid_policy" if what is stored is none.
        """
        with self._context.vault.transaction(durable=False) as transaction:
            return _read_policy(transaction)

    def adopt(self, policy: RetentionPolicy) -> None:
        """Make `policy` the one this device keeps from now on. Nothing is destroyed before the next run."""
        with self._context.vault.transaction() as transaction:
            if transaction.read_setting(POLICY_SETTING) != policy.to_bytes():
                transaction.write_setting(POLICY_SETTING, policy.to_bytes())
                transaction.append_event(AuditEvent("policy.changed", details={"kind": "retention", "policy": policy.sha256}))
        self._looked_until = None

    def plan(self, policy: RetentionPolicy | None = None) -> RetentionPlan:
        """Return what is held and until when, changing nothing.

        Args:
            policy: one to try; the adopted one if left out.

        Raises:
            RetentionError: "retention.no_policy".
        """
        with self._context.vault.transaction(durable=False) as transaction:
            wanted = policy or _require_policy(transaction)
            return self._plan(transaction, wanted)[0]

    def keep(self, trigger: Trigger = "daily") -> SignedCertificate | None:
        """Run if something may have become due since the last time, and at least once a day; return the certificate of a run.

        Costs a look at the clock while nothing can have become due. Does nothing without a policy.

        Raises:
            VaultError, AuditError, ConsentError: with a stable code; what is due may not be used then.
        """
        now = self._context.clock.now()
        if self._looked_until is not None and now < self._looked_until:
            return None
        tomorrow = _next_day(now)
        with self._context.vault.transaction(durable=False) as transaction:
            policy = _read_policy(transaction)
            if policy is None:
                self._looked_until = tomorrow
                return None
            state, instant = read_state(transaction), self._instant(transaction)
            is_today = state is not None and state.policy == policy.sha256 and instant < _next_day(state.ran_at)
            if state is not None and is_today and state.revision == transaction.revision and instant < state.good_until:
                self._looked_until = min(state.good_until, tomorrow)
                return None
            plan, holdings, _ = self._plan(transaction, policy)
            if is_today and not _actionable(plan, holdings):
                self._looked_until = min(plan.next_due or tomorrow, tomorrow)
                return None
        return self.run(trigger)

    def keep_if_possible(self, trigger: Trigger) -> None:
        """Run as `keep`, but leave a full disk or a busy vault to the next call: a device opens all the same."""
        try:
            self.keep(trigger)
        except VaultError as error:
            if error.code not in _TRANSIENT:
                raise

    def run(self, trigger: Trigger = "demand", *, progress: Callable[[int, int], None] | None = None) -> SignedCertificate:
        """Destroy everything that is due and return the signed certificate.

        What a killed process, a full disk or an interruption left undone is done by the next run; what was done is accounted for
        by the certificate of the run that ends.

        Args:
            trigger: what brought it about, for the record.
            progress: called with the subjects and chains done and to do.

        Raises:
            RetentionError: "retention.no_policy". VaultError: with a stable code; then some of it may be done.
        """
        done = 0
        while True:
            # 0 policy and instant, 1 gather, 2 plan: anew in each transaction, for a consent may have been renewed in between
            destroyed, left = self._destroy_batch()
            done += destroyed
            sweep(self._context)
            if progress is not None:
                progress(done, done + left)
            if not left:
                break
        # 4 log entries, 5 record
        signed, good_until = self._record(trigger)
        self._looked_until = min(good_until, _next_day(self._context.clock.now()))
        return signed

    def certificate(self, seq: int | None = None) -> SignedCertificate:
        """Return the certificate of a run, made again from the entries it left in the trail.

        Args:
            seq: number of the entry of the run; the last one if left out.

        Raises:
            RetentionError: "retention.invalid_certificate" if there is no such run, or the trail no longer tells of it.
        """
        entries = tuple(self._context.vault.trail_entries())
        numbered = [parse_entry(body) for body in entries if b'"event":"retention.run"' in body]
        runs = [fields for fields in numbered if fields["event"] == "retention.run" and seq in (None, fields["seq"])]
        if not runs:
            raise RetentionError("retention.invalid_certificate", "The trail records no such retention run.")
        run = runs[-1]
        first, last, oldest = run["details"]["first"], run["seq"], parse_entry(entries[0])["seq"]
        certificate = RetentionCertificate(
            public_key=self._context.vault.device_key.public_bytes.hex(),
            policy_sha256=run["details"]["policy"],
            trigger=run["details"]["trigger"],
            first=first,
            seq=last,
            previous=run["prev"],
            as_of=parse_rfc3339(run["details"]["as_of"]),
            gone=gone_in(entries[max(0, first - oldest) : last - oldest]),
        )
        if certificate.sha256 != run["details"]["certificate"]:
            raise RetentionError("retention.invalid_certificate", "The trail no longer holds all that this run recorded.")
        return SignedCertificate.sign(certificate, self._context.vault.device_key)

    def _instant(self, transaction: VaultTransaction) -> datetime:
        # A clock set back prolongs nothing: time is judged by what the device has already seen pass.
        return parse_rfc3339(to_rfc3339(Standing(transaction).judged(self._context.clock.now())))

    def _plan(self, transaction: VaultTransaction, policy: RetentionPolicy) -> tuple[RetentionPlan, Holdings, LastUses]:
        stored = transaction.read_setting(_USES_SETTING)
        uses = LastUses() if stored is None else LastUses.parse(stored)
        uses.read(transaction.trail_since(uses.size))
        now = self._instant(transaction)
        holdings = gather_holdings(transaction, policy, uses, now)
        return make_plan(policy, holdings.items, now), holdings, uses

    def _destroy_batch(self) -> tuple[int, int]:
        """Destroy what is due of some subjects and return how many were and how many are left."""
        events: list[Callable[[int], AuditEvent]] = []
        counts = [0, 0]

        def drop(transaction: VaultTransaction) -> None:
            plan, holdings, _ = self._plan(transaction, _require_policy(transaction))
            due: dict[tuple[Kind, str], list[PlannedItem]] = defaultdict(list)
            for item in _actionable(plan, holdings):
                if item.holding.kind is not Kind.LOG_ENTRIES:
                    due[item.holding.kind, item.holding.pseudonym].append(item)
            chosen = list(due.items())[:_BATCH]
            counts[:] = len(chosen), len(due) - len(chosen)
            if any(kind is Kind.TEMPLATE for (kind, _), _ in chosen):
                # 3 wipe: whatever fails below, memory holds nothing any more
                self._context.gallery.wipe()
            for (kind, pseudonym), items in chosen:
                if kind is Kind.TEMPLATE:
                    events.extend(self._drop_templates(transaction, holdings, plan.now, items))
                elif kind is Kind.TRAINING_SAMPLE:
                    events.extend(self._drop_samples(transaction, holdings, items))
                elif kind is Kind.DECLARED_GROUP:
                    events.extend(self._drop_group(transaction, holdings, items[0]))
                else:
                    # 4 consent records
                    events.extend(self._drop_chain(transaction, holdings, pseudonym, items[0]))

        # 3 destroy
        self._context.vault.shred(drop, lambda epoch: [event(epoch) for event in events])
        self._context.gallery.wipe()
        return counts[0], counts[1]

    def _drop_templates(
        self, transaction: VaultTransaction, holdings: Holdings, now: datetime, items: list[PlannedItem]
    ) -> Iterator[Callable[[int], AuditEvent]]:
        first = items[0]
        handle = holdings.handles[first.holding.pseudonym]
        # Whichever term ended first: without a purpose nothing of the subject stays.
        is_over = any(item.holding.purpose_end is None or item.holding.purpose_end <= now for item in items)
        references = {item.holding.reference for item in items}
        if is_over:
            # A chain that does not verify can take no further record, and is no reason to keep the face.
            with contextlib.suppress(ConsentError):
                record_expiry(self._context, transaction, handle, now)
                record_erasure(self._context, transaction, handle)
            yield from self._drop_subject(transaction, holdings, handle, first)
        else:
            held = holdings.templates[handle.commitment]
            transaction.drop_templates(handle, [item.slot for item in held if item.reference_id in references])
        yield lambda epoch: expired_event(handle, len(references), epoch, first, is_over=is_over)

    def _drop_samples(
        self, transaction: VaultTransaction, holdings: Holdings, items: list[PlannedItem]
    ) -> Iterator[Callable[[int], AuditEvent]]:
        handle = holdings.handles[items[0].holding.pseudonym]
        if handle.principal_id not in holdings.principals:
            # Gone with its subject, earlier in this transaction.
            return
        due = {item.holding.reference for item in items}
        slots = [sample.slot for sample in holdings.samples[handle.commitment] if sample.sample_id in due]
        count = transaction.drop_samples(handle, slots)
        yield lambda epoch: samples_expired_event(handle, count, epoch, items[0])

    def _drop_group(
        self, transaction: VaultTransaction, holdings: Holdings, item: PlannedItem
    ) -> Iterator[Callable[[int], AuditEvent]]:
        handle = holdings.handles[item.holding.pseudonym]
        if handle.principal_id in holdings.principals and transaction.declare(handle, None):
            yield lambda epoch: group_expired_event(handle, item)

    def _drop_subject(
        self, transaction: VaultTransaction, holdings: Holdings, handle: SubjectHandle, item: PlannedItem
    ) -> Iterator[Callable[[int], AuditEvent]]:
        # Training samples rest on the subject's key, and do not outlive it.
        if samples := transaction.sample_count(handle):
            yield lambda epoch: samples_expired_event(handle, samples, epoch, item)
        if transaction.declared(handle) is not None:
            yield lambda epoch: group_expired_event(handle, item)
        transaction.drop_subject(handle)
        del holdings.principals[handle.principal_id]

    def _drop_chain(
        self, transaction: VaultTransaction, holdings: Holdings, principal: str, item: PlannedItem
    ) -> Iterator[Callable[[int], AuditEvent]]:
        handle = holdings.principals.get(principal)
        if handle is not None:
            # Whose records are over has nothing in force; the name goes with the last thing it was kept for.
            references = transaction.reference_count(handle)
            yield from self._drop_subject(transaction, holdings, handle, item)
            yield lambda epoch: expired_event(handle, references, epoch, item, is_over=True)
        records = transaction.drop_consents(principal)
        details: dict[str, str | int | bool] = {"records": records, "principal": principal, "due": to_rfc3339(item.due.at)}
        yield lambda epoch: AuditEvent("receipt.expired", details=details)

    def _record(self, trigger: Trigger) -> tuple[SignedCertificate, datetime]:
        with self._context.vault.transaction() as transaction:
            policy, state = _require_policy(transaction), read_state(transaction)
            plan, holdings, uses = self._plan(transaction, policy)
            uses.keep_only(holdings.handles.keys())
            logs = [item for item in _actionable(plan, holdings) if item.holding.kind is Kind.LOG_ENTRIES]
            first = state.seq if state is not None else holdings.prunable
            if logs:
                base = transaction.prune_trail(holdings.prunable)
                pruned: dict[str, str | int | bool] = {
                    "entries": logs[0].holding.count,
                    "size": base.size,
                    "root": base.frontier.root().hex(),
                    "due": to_rfc3339(logs[0].due.at),
                }
                transaction.append_event(AuditEvent("trail.pruned", details=pruned))
            certificate = RetentionCertificate(
                public_key=self._context.vault.device_key.public_bytes.hex(),
                policy_sha256=policy.sha256,
                trigger=trigger,
                first=first,
                seq=transaction.trail_size,
                previous=transaction.trail_hash,
                as_of=plan.now,
                gone=gone_in(transaction.trail_since(first)),
            )
            good_until = min(plan.next_due or _next_day(plan.now), _next_day(plan.now))
            fresh = RunState(policy.sha256, plan.now, transaction.revision + 1, good_until, certificate.seq + 1)
            transaction.write_setting(STATE_SETTING, fresh.to_bytes())
            transaction.write_setting(_USES_SETTING, uses.to_bytes())
            transaction.append_event(run_event(certificate))
        return SignedCertificate.sign(certificate, self._context.vault.device_key), good_until


def _actionable(plan: RetentionPlan, holdings: Holdings) -> list[PlannedItem]:
    """Return what is due and can go: log entries that the transparency log still waits for cannot."""
    is_log = Kind.LOG_ENTRIES
    return [item for item in plan.due if item.holding.kind is not is_log or int(item.holding.reference) < holdings.prunable]


def _read_policy(transaction: VaultTransaction) -> RetentionPolicy | None:
    stored = transaction.read_setting(POLICY_SETTING)
    return None if stored is None else RetentionPolicy.parse(stored)


def _require_policy(transaction: VaultTransaction) -> RetentionPolicy:
    policy = _read_policy(transaction)
    if policy is None:
        raise RetentionError("retention.no_policy", "No retention policy was adopted. Adopt one: facekeep retention adopt FILE")
    return policy


def _next_day(instant: datetime) -> datetime:
    return datetime.combine(instant.date() + timedelta(days=1), time(), instant.tzinfo)
