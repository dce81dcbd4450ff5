"""Recording what a subject agreed to, refused or took back.

Steps:
    0 check what was asked: purposes, term, notice
    1 sign the record with the device key, pointing back at the one before
    2 write record and audit event in one durable transaction
    3 hand out the grant
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from facekeep.audit import AuditEvent
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.consent import (
    ConsentGrant,
    ConsentRecord,
    ConsentState,
    ConsentStatus,
    Lifecycle,
    Notice,
    Purpose,
    fold_chain,
    new_record,
    require_clock,
    sign_record,
)
from facekeep.durations import add_duration
from facekeep.errors import ConsentError
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import read_records, require_grant
from facekeep.flows.withdraw import withdraw_purposes
from facekeep.identifiers import new_record_id, require_subject_id
from facekeep.vault import SubjectHandle, VaultTransaction


@dataclass(frozen=True, slots=True)
class SubjectSummary:
    """One subject on record.

    Attributes:
        subject: the application's identifier.
        purposes: purposes in force now; empty before the term begins and after it ended.
        agreed: purposes agreed to and not withdrawn, whatever the term.
        state: "in force", "not yet valid", "expired", "withdrawn", "refused" or "none".
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
    ) -> ConsentGrant:
        """Record that `subject`, after being shown `notice`, agreed to `purposes` for a term. Replaces what was given before.

        Args:
            subject: the application's identifier.
            purposes: what for; each is a separate choice of the subject's.
            valid_for: ISO 8601 duration such as "P30D", or a timedelta.
            notice: the text that was shown; only its hash is kept.
            valid_from: first instant of validity; now if left out.

        Raises:
            ConsentError: "consent.invalid_request" or "consent.clock_set_back".
            VaultError: with a stable code.
        """
        return self._append(subject, Lifecycle.GIVEN, purposes, valid_for, notice, valid_from)

    def refuse(self, subject: str, *, purposes: Iterable[Purpose | str], notice: Notice) -> None:
        """Record that `subject` said no, so that nobody asks again by mistake.

        Raises:
            ConsentError: "consent.invalid_request" or "consent.clock_set_back".
        """
        self._append(subject, Lifecycle.REFUSED, purposes, timedelta(days=1), notice, None)

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

    def withdraw(self, subject: str, *, purposes: Iterable[Purpose | str]) -> None:
        """End consent for some purposes at once, keeping the rest; to end it all and erase, use `device.withdraw`.

        Raises:
            ConsentError: "consent.none", "consent.wrong_purpose" or "consent.invalid_request".
        """
        withdraw_purposes(self._context, subject, [_purpose(item) for item in purposes])

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
    ) -> ConsentGrant:
        # 0 check
        require_subject_id(subject)
        wanted = frozenset(_purpose(item) for item in purposes)
        context = self._context
        context.gallery.wipe()
        with context.vault.transaction() as transaction:
            now = parse_rfc3339(to_rfc3339(require_clock(context.clock.now(), transaction.last_event_time)))
            try:
                start = parse_rfc3339(to_rfc3339(valid_from)) if valid_from is not None else now
                end = parse_rfc3339(to_rfc3339(add_duration(start, term)))
            except (ValueError, OverflowError, AttributeError, TypeError) as error:
                raise ConsentError("consent.invalid_request", f"The term of a consent cannot be used: {error}.") from None
            if end <= now and state is Lifecycle.GIVEN:
                raise ConsentError("consent.invalid_request", "The term of the consent is over already.")

            # 1 sign
            handle = transaction.find_subject(subject) or transaction.create_subject(subject)
            records = read_records(context.vault, transaction, handle)
            if state is Lifecycle.GIVEN and fold_chain(records).purposes:
                state = Lifecycle.RENEWED
            record = new_record(
                record_id=new_record_id(),
                principal_id=handle.principal_id,
                chain=transaction.consents(handle),
                state=state,
                purposes=wanted,
                valid_from=start,
                valid_until=end,
                notice=notice,
                recorded_at=now,
            )

            if Purpose.ENROLMENT not in fold_chain([*records, record]).purposes and transaction.reference_count(handle):
                raise ConsentError(
                    "consent.invalid_request",
                    "Templates are stored, and without consent to enrolment nothing may be. Withdraw the subject instead.",
                )

            # 2 write
            transaction.append_consent(handle, sign_record(record, context.vault.device_key))
            details: dict[str, str | int | bool] = {"record": record.record_id, "purposes": ",".join(sorted(wanted))}
            if state is not Lifecycle.REFUSED:
                details["until"] = to_rfc3339(end)
            transaction.append_event(AuditEvent(f"consent.{state.value}", subject=handle.commitment, details=details))

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
    word = "withdrawn" if ConsentStatus.WITHDRAWN in statuses else "refused" if ConsentStatus.REFUSED in statuses else "none"
    return SubjectSummary(name, frozenset(), frozenset(), word, None, references)


def _purpose(value: Purpose | str) -> Purpose:
    try:
        return Purpose(value)
    except ValueError:
        known = ", ".join(Purpose)
        raise ConsentError("consent.invalid_request", f"Unknown purpose. Known are {known}.") from None
