"""Recording what a subject agreed to, refused or took back.

Steps:
    0 check what was asked: purposes, term, notice
    1 sign the record with the device key, pointing back at the one before, and for the controller where it has delegated that
    2 write record and audit event in one durable transaction
    3 hand out the grant
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from facekeep.audit import AuditEvent
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent import (
    Actor,
    ConsentGrant,
    ConsentRecord,
    ConsentState,
    ConsentStatus,
    Lifecycle,
    Notice,
    Purpose,
    SignedConsent,
    WrittenRelease,
    fold_chain,
    require_clock,
)
from facekeep.durations import add_duration
from facekeep.errors import ConsentError
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import read_records, require_grant
from facekeep.flows.recording import append_record, record_expiry
from facekeep.flows.standing import POLICY_SETTING, Standing
from facekeep.flows.withdraw import withdraw_purposes
from facekeep.identifiers import require_subject_id
from facekeep.vault import SubjectHandle, VaultTransaction

if TYPE_CHECKING:
    from facekeep.consent import ConsentPolicy, ControllerKey, Delegation

# How long a question or a refusal is on record as such: it allows nothing, so its term only has to be one.
_WITHOUT_CONSENT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SubjectSummary:
    """One subject on record.

    Attributes:
        subject: the application's identifier.
        purposes: purposes in force now; empty before the term begins and after it ended.
        agreed: purposes agreed to and not withdrawn, whatever the term.
        state: "in force", "not yet valid", "expired", "withdrawn", "refused", "requested" or "none".
        valid_until: end of the consent agreed to, or None.
        references: number of stored templates.
    """

    subject: str = field(repr=False)
    purposes: frozenset[Purpose]
    agreed: frozenset[Purpose]
    state: str
    valid_until: datetime | None
    references: int


class Consents:
    """The consents of a device: `device.consents`."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    def grant(
        self,
        subject: str,
        *,
        purposes: Iterable[Purpose | str],
        valid_for: str | timedelta,
        notice: Notice,
        valid_from: datetime | None = None,
        guardian: str | None = None,
        release: WrittenRelease | None = None,
    ) -> ConsentGrant:
        """Record that `subject`, after being shown `notice`, agreed to `purposes` for a term. Replaces what was given before.

        Args:
            subject: the application's identifier.
            purposes: what for; each is a separate choice of the subject's.
            valid_for: ISO 8601 duration such as "P30D", or a timedelta.
            notice: the text that was shown; only its hash is kept.
            valid_from: first instant of validity; now if left out.
            guardian: the application's identifier of the guardian who agreed for a minor; the record keeps a pseudonym of it.
            release: the written release that was signed, where BIPA asks for one.

        Raises:
            ConsentError: "consent.invalid_request" or "consent.clock_set_back".
            VaultError: with a stable code.
        """
        return self._append(subject, Lifecycle.GIVEN, purposes, valid_for, notice, valid_from, guardian, release)

    def request(
        self, subject: str, *, purposes: Iterable[Purpose | str], notice: Notice, guardian: str | None = None
    ) -> ConsentRecord:
        """Record that `subject`, or a guardian, was shown `notice` and asked. It allows nothing; the answer is a record of its own.

        Raises:
            ConsentError: "consent.invalid_request" or "consent.clock_set_back".
        """
        return self._append(subject, Lifecycle.REQUESTED, purposes, _WITHOUT_CONSENT, notice, None, guardian).record

    def refuse(self, subject: str, *, purposes: Iterable[Purpose | str], notice: Notice, guardian: str | None = None) -> None:
        """Record that `subject`, or a guardian, said no, so that nobody asks again by mistake.

        Raises:
            ConsentError: "consent.invalid_request" or "consent.clock_set_back".
        """
        self._append(subject, Lifecycle.REFUSED, purposes, _WITHOUT_CONSENT, notice, None, guardian)

    def require(self, subject: str, purpose: Purpose | str) -> ConsentGrant:
        """Return the grant in force for this subject and purpose.

        Raises:
            ConsentError: with the code of the reason.
        """
        context = self._context
        with context.vault.transaction(durable=False) as transaction:
            return require_grant(context.vault, transaction, context.clock, subject, _purpose(purpose))[0]

    def state(self, subject: str) -> ConsentState:
        """Return where each purpose stands for this subject.

        Raises:
            ConsentError: "consent.none" when nothing is on record; "consent.corrupt".
        """
        return fold_chain(self.records(subject))

    def summary(self, subject: str) -> SubjectSummary:
        """Return how things stand for one subject now.

        Raises:
            ConsentError: "consent.none" when nothing is on record; "consent.corrupt".
        """
        with self._context.vault.transaction(durable=False) as transaction:
            return self._summary(transaction, _require_known(transaction, subject))

    def records(self, subject: str) -> tuple[ConsentRecord, ...]:
        """Return the verified chain of records of this subject, oldest first.

        Raises:
            ConsentError: "consent.none" when nothing is on record; "consent.corrupt".
        """
        vault = self._context.vault
        with vault.transaction(durable=False) as transaction:
            return read_records(vault, transaction, _require_known(transaction, subject))

    def chain(self, subject: str) -> tuple[SignedConsent, ...]:
        """Return the records of this subject as signed, oldest first, verified.

        Raises:
            ConsentError: "consent.none" when nothing is on record; "consent.corrupt".
        """
        vault = self._context.vault
        with vault.transaction(durable=False) as transaction:
            handle = _require_known(transaction, subject)
            read_records(vault, transaction, handle)
            return transaction.consents(handle)

    def withdraw(self, subject: str, *, purposes: Iterable[Purpose | str], guardian: str | None = None) -> None:
        """End consent for some purposes at once, keeping the rest; to end it all and erase, use `device.withdraw`.

        Raises:
            ConsentError: "consent.none", "consent.wrong_purpose" or "consent.invalid_request".
        """
        withdraw_purposes(self._context, subject, [_purpose(item) for item in purposes], guardian)

    def record_expired(self) -> int:
        """Put the end of every consent that has come to its end on record, and return how many. The gate needs no such record.

        Raises:
            ConsentError: "consent.clock_set_back", "consent.corrupt".
        """
        context = self._context
        with context.vault.transaction() as transaction:
            now = parse_rfc3339(to_rfc3339(require_clock(context.clock.now(), Standing(transaction).last_event)))
            return sum(record_expiry(context, transaction, handle, now) for handle in transaction.subjects())

    def receipt(self, subject: str, *, notices: Iterable[Notice] = ()) -> bytes:
        """Return the receipt of a subject: every record, signed, as canonical JSON. `facekeep.consent.receipt` opens it.

        Args:
            subject: whose.
            notices: texts to enclose, for people to read; each has to be one that was shown.

        Raises:
            ConsentError: "consent.none", "consent.corrupt", "consent.invalid_request".
        """
        from facekeep.flows.receipts import make_receipt

        return make_receipt(self._context, subject, notices)

    def countersign(self, subject: str, by: ControllerKey | bytes) -> int:
        """Attach the controller's signature to the records of a subject, and return to how many.

        Args:
            subject: whose records.
            by: the controller's key, or the file of countersignatures that it made elsewhere.

        Raises:
            ConsentError: "consent.none", "consent.unknown_issuer", "consent.invalid_request", "consent.corrupt".
            TrustError: "trust.malformed", "trust.bad_signature"; then nothing is attached.
        """
        from facekeep.consent.controller import ControllerKey
        from facekeep.consent.countersignatures import parse_countersignatures
        from facekeep.flows.receipts import attach_countersignatures, countersign_here

        if isinstance(by, ControllerKey):
            return countersign_here(self._context, subject, by)
        return attach_countersignatures(self._context, subject, parse_countersignatures(by))

    def install_delegation(self, data: bytes) -> Delegation:
        """Keep the controller's delegation to this device, so that it signs for the controller at once and offline.

        Raises:
            ConsentError: "consent.unknown_issuer". TrustError: "trust.malformed", "trust.bad_signature".
        """
        from facekeep.flows.receipts import install_delegation

        return install_delegation(self._context, data)

    def policy(self) -> ConsentPolicy:
        """Return the consent policy in force.

        Raises:
            ConsentError: "consent.corrupt".
        """
        with self._context.vault.transaction(durable=False) as transaction:
            return Standing(transaction).policy

    def set_policy(self, policy: ConsentPolicy) -> None:
        """Put a consent policy in force, for every process that uses this device.

        Raises:
            VaultError: with a stable code.
        """
        body = policy.to_bytes()
        self._context.gallery.wipe()
        with self._context.vault.transaction() as transaction:
            transaction.write_setting(POLICY_SETTING, body)
            digest = hashlib.sha256(body).hexdigest()
            transaction.append_event(AuditEvent("policy.changed", details={"kind": "consent", "policy": digest}))

    def subjects(self) -> tuple[SubjectSummary, ...]:
        """Return everyone on record, by name.

        Raises:
            ConsentError: "consent.corrupt".
        """
        with self._context.vault.transaction(durable=False) as transaction:
            summaries = [self._summary(transaction, handle) for handle in transaction.subjects()]
        return tuple(sorted(summaries, key=lambda summary: summary.subject))

    def _append(
        self,
        subject: str,
        state: Lifecycle,
        purposes: Iterable[Purpose | str],
        term: str | timedelta,
        notice: Notice,
        valid_from: datetime | None,
        guardian: str | None = None,
        release: WrittenRelease | None = None,
    ) -> ConsentGrant:
        # 0 check
        require_subject_id(subject)
        wanted = frozenset(_purpose(item) for item in purposes)
        context = self._context
        context.gallery.wipe()
        with context.vault.transaction() as transaction:
            standing = Standing(transaction)
            policy = standing.policy
            now = parse_rfc3339(to_rfc3339(require_clock(context.clock.now(), standing.last_event)))
            try:
                start = parse_rfc3339(to_rfc3339(valid_from)) if valid_from is not None else now
                end = parse_rfc3339(to_rfc3339(add_duration(start, term)))
            except (ValueError, OverflowError, AttributeError, TypeError) as error:
                raise ConsentError("consent.invalid_request", f"The term of a consent cannot be used: {error}.") from None
            if end <= now and state is Lifecycle.GIVEN:
                raise ConsentError("consent.invalid_request", "The term of the consent is over already.")

            handle = transaction.find_subject(subject) or transaction.create_subject(subject)
            before = fold_chain(read_records(context.vault, transaction, handle))
            if state is Lifecycle.GIVEN and (before.purposes or before.expired):
                state = Lifecycle.RENEWED

            # 1 sign, 2 write: the record and its event together or not at all
            record = append_record(
                context,
                transaction,
                handle,
                state,
                wanted,
                notice=notice,
                valid_from=start,
                valid_until=end,
                recorded_at=now,
                actor=None if guardian is None else Actor("guardian", transaction.guardian_pseudonym(handle, guardian)),
                processing=policy.processing,
                release=release,
                dependence=policy.dependence,
            )
            takes_enrolment = state is Lifecycle.REFUSED and Purpose.ENROLMENT in before.purposes
            gives = state in (Lifecycle.GIVEN, Lifecycle.RENEWED)
            if (
                (gives or takes_enrolment)
                and Purpose.ENROLMENT not in before.after(record).purposes
                and transaction.reference_count(handle)
            ):
                raise ConsentError(
                    "consent.invalid_request",
                    "Templates are stored, and without consent to enrolment nothing may be. Withdraw the subject instead.",
                )

        ended = before.purposes - before.after(record).purposes
        if ended:
            # Given anew for less, or refused. A crash in between leaves samples to retention.
            from facekeep.flows.sample_erasure import destroy_remains

            destroy_remains(context, {subject: ended})

        # 3 grant
        return ConsentGrant(subject, record, wanted)

    def _summary(self, transaction: VaultTransaction, handle: SubjectHandle) -> SubjectSummary:
        state = fold_chain(read_records(self._context.vault, transaction, handle))
        return _summary_of(handle.name, state, self._context.clock.now(), transaction.reference_count(handle))


def _require_known(transaction: VaultTransaction, subject: str) -> SubjectHandle:
    handle = transaction.find_subject(require_subject_id(subject))
    if handle is None:
        raise ConsentError("consent.none", "Nothing is on record for this subject: never given, or erased.")
    return handle


def _summary_of(name: str, state: ConsentState, now: datetime, references: int) -> SubjectSummary:
    agreed, record = state.purposes, state.in_force
    if record is not None and agreed:
        word = "not yet valid" if now < record.valid_from else "in force" if now < record.valid_until else "expired"
        return SubjectSummary(name, agreed if word == "in force" else frozenset(), agreed, word, record.valid_until, references)
    statuses = {status for _, status in state.status}
    order = (ConsentStatus.WITHDRAWN, ConsentStatus.EXPIRED, ConsentStatus.REFUSED, ConsentStatus.REQUESTED)
    word = next((status.value for status in order if status in statuses), "none")
    return SubjectSummary(name, frozenset(), frozenset(), word, None, references)


def _purpose(value: Purpose | str) -> Purpose:
    try:
        return Purpose(value)
    except ValueError:
        known = ", ".join(Purpose)
        raise ConsentError("consent.invalid_request", f"Unknown purpose. Known are {known}.") from None
