"""What a device holds, by pseudonym, and when each of it last served: what a retention plan is made of. Reads, never writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from facekeep.audit.trail import parse_entry
from facekeep.audit.usage import SAMPLES, LastUses
from facekeep.clock import parse_rfc3339
from facekeep.consent import ConsentRecord, ConsentState, Lifecycle, Purpose, fold_chain
from facekeep.errors import ConsentError
from facekeep.retention import Holding, Kind, RetentionPolicy, due_at
from facekeep.vault import StoredSample, StoredTemplate, SubjectHandle, VaultTransaction

# Decimal number of entries that the transparency log has of this trail, written by whoever submits them.
SUBMITTED_SETTING = "log.submitted"


@dataclass(slots=True)
class Holdings:
    """Everything a retention policy speaks of.

    Attributes:
        items: one holding a template, a training sample, a declared group, a chain of consent records, or a run of log entries.
        handles: pseudonym of the trail -> subject.
        templates: pseudonym of the trail -> its templates.
        samples: pseudonym of the trail -> its training samples.
        principals: pseudonym of the consent records -> subject, of those who are not erased.
        prunable: the trail's entries before this number are due.
    """

    items: list[Holding] = field(default_factory=list)
    handles: dict[str, SubjectHandle] = field(default_factory=dict)
    templates: dict[str, list[StoredTemplate]] = field(default_factory=dict)
    samples: dict[str, list[StoredSample]] = field(default_factory=dict)
    principals: dict[str, SubjectHandle] = field(default_factory=dict)
    prunable: int = 0


def gather_holdings(transaction: VaultTransaction, policy: RetentionPolicy, uses: LastUses, now: datetime) -> Holdings:
    """Return what the vault holds.

    Signatures of consent records are not checked here: the head of the vault authenticates every row. A chain that cannot be read
    gives no purpose, so what rests on it is due.
    """
    found = Holdings()
    by_slot = {}
    for handle in transaction.subjects():
        by_slot[handle.slot] = found.handles[handle.commitment] = found.principals[handle.principal_id] = handle
        found.templates[handle.commitment] = []
        found.samples[handle.commitment] = []
    for template in transaction.stored_templates():
        found.templates[by_slot[template.subject_slot].commitment].append(template)
    for sample in transaction.stored_samples():
        found.samples[by_slot[sample.subject_slot].commitment].append(sample)
    ends: dict[str, datetime | None] = {}
    training_ends: dict[str, datetime | None] = {}
    declarants = transaction.declarants()
    group_ends: dict[str, tuple[datetime, datetime | None]] = {}
    for principal, chain in transaction.consent_chains().items():
        try:
            records = [ConsentRecord.parse(signed.body) for signed in chain]
        except ConsentError:
            records = []
        ends[principal] = _purpose_end(records, Purpose.ENROLMENT)
        training_ends[principal] = _purpose_end(records, Purpose.FEDERATED_TRAINING)
        if principal in declarants and records:
            group_ends[principal] = (_in_force_since(records), _purpose_end(records, Purpose.CALIBRATION_STATISTICS))
        if records:
            found.items.append(_receipt(principal, records))
    for commitment, templates in found.templates.items():
        end = ends.get(found.handles[commitment].principal_id)
        for template in templates:
            found.items.append(
                Holding(
                    kind=Kind.TEMPLATE,
                    pseudonym=commitment,
                    reference=template.reference_id,
                    held_since=template.enrolled_at,
                    last_used=uses.last_use(commitment, template.contract_id),
                    purpose_end=end,
                )
            )
    for commitment, samples in found.samples.items():
        end = training_ends.get(found.handles[commitment].principal_id)
        for sample in samples:
            found.items.append(
                Holding(
                    kind=Kind.TRAINING_SAMPLE,
                    pseudonym=commitment,
                    reference=sample.sample_id,
                    held_since=sample.kept_at,
                    last_used=uses.last_use(commitment, SAMPLES),
                    purpose_end=end,
                )
            )
    for commitment, handle in found.handles.items():
        if handle.principal_id in declarants:
            since, end = group_ends.get(handle.principal_id, (now, None))
            found.items.append(
                Holding(
                    kind=Kind.DECLARED_GROUP,
                    pseudonym=commitment,
                    reference="",
                    held_since=since,
                    purpose_end=end,
                )
            )
    _add_log(found, transaction, policy, now)
    return found


def _purpose_end(records: list[ConsentRecord], purpose: Purpose) -> datetime | None:
    """Return when consent to a purpose, without which nothing may be kept for it, ends or ended; None if there never was any."""
    state = fold_chain(records)
    if state.in_force is None:
        return None
    if purpose in state.purposes:
        return state.in_force.valid_until
    return min(state.in_force.valid_until, records[-1].recorded_at)


def _in_force_since(records: list[ConsentRecord]) -> datetime:
    """Return when the consent was recorded that is in force, or was last: when a subject declared something is not kept."""
    return (fold_chain(records).in_force or records[-1]).recorded_at


def _receipt(principal: str, records: list[ConsentRecord]) -> Holding:
    """Return the holding of a chain of records."""
    return Holding(
        kind=Kind.RECEIPT,
        pseudonym=principal,
        reference=records[-1].record_id,
        held_since=records[0].recorded_at,
        purpose_end=_end_of(records),
        count=len(records),
    )


def _end_of(records: list[ConsentRecord]) -> datetime:
    """Return when what the records tell of was over: the term, if it ran out, else the last word of the subject.

    That the device recorded an end or an erasure later prolongs nothing.
    """
    state, end = ConsentState(), records[-1].recorded_at
    for record in records:
        before, state = state, state.after(record)
        if state.purposes and state.in_force is not None:
            end = state.in_force.valid_until
        elif record.state is Lifecycle.EXPIRED and before.in_force is not None:
            end = before.in_force.valid_until
        elif record.state is not Lifecycle.ERASED:
            end = record.recorded_at
    return end


def _add_log(found: Holdings, transaction: VaultTransaction, policy: RetentionPolicy, now: datetime) -> None:
    """Add the log entries as two lines: those that are due, and the rest."""
    submitted = transaction.read_setting(SUBMITTED_SETTING)
    # The last entry stays: it is what the next one points back to. What a log is still waiting for stays as well.
    limit = transaction.trail_size - 1 if submitted is None else min(transaction.trail_size - 1, int(submitted))
    begin: tuple[int, datetime] | None = None
    first: tuple[int, datetime] | None = None
    for body in transaction.trail_since(0):
        fields = parse_entry(body)
        seq, time = int(fields["seq"]), parse_rfc3339(fields["time"])
        begin = begin or (seq, time)
        if seq >= limit or due_at(policy, _log_line(seq, time, 1)).at > now:
            first = (seq, time)
            break
    if begin is None or first is None:
        return
    found.prunable = first[0]
    if first[0] > begin[0]:
        found.items.append(_log_line(*begin, first[0] - begin[0]))
    found.items.append(_log_line(*first, transaction.trail_size - first[0]))


def _log_line(seq: int, time: datetime, count: int) -> Holding:
    return Holding(kind=Kind.LOG_ENTRIES, pseudonym="", reference=str(seq), held_since=time, count=count)
