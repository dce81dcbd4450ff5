"""The plan: for everything that is held, until when, and why not longer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from facekeep.clock import to_rfc3339
from facekeep.durations import add_duration
from facekeep.retention.policy import RetentionPolicy


class Kind(StrEnum):
    """What is held."""

    TEMPLATE = "template"
    TRAINING_SAMPLE = "training-sample"
    DECLARED_GROUP = "declared-group"
    RECEIPT = "receipt"
    LOG_ENTRIES = "log-entries"


class Reason(StrEnum):
    """Which of the terms ends first."""

    PURPOSE_END = "purpose-end"
    INACTIVITY = "inactivity"
    MAXIMUM = "maximum"
    TERM = "term"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One thing that is held, by pseudonym.

    Attributes:
        kind: what it is.
        pseudonym: 64 hexadecimal digits: the commitment of the trail for a template or sample, the principal of the consent
            records for a receipt; empty for log entries.
        reference: which one: reference id, record id, or the first sequence number; empty for a declared group.
        held_since: when it was made; for a declared group, when the consent was recorded that it rests on.
        last_used: when it last served; `held_since` if never. Only for templates and samples.
        purpose_end: end of the consent it rests on; for a receipt, the end of what it is the receipt of.
        count: how many of them this line stands for.
    """

    kind: Kind
    pseudonym: str
    reference: str
    held_since: datetime
    last_used: datetime | None = None
    purpose_end: datetime | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Due:
    """When something has to be gone.

    Attributes:
        at: the first instant at which it may no longer be held.
        reason: the term that ends then.
    """

    at: datetime
    reason: Reason


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """A holding and its term.

    Attributes:
        holding: what.
        due: until when and why.
        is_due: whether that is over.
    """

    holding: Holding
    due: Due
    is_due: bool

    def to_json(self) -> dict[str, Any]:
        """Return the fields of this line."""
        holding = self.holding
        return {
            "kind": holding.kind.value,
            "pseudonym": holding.pseudonym or None,
            "reference": holding.reference,
            "count": holding.count,
            "held_since": to_rfc3339(holding.held_since),
            "last_used": to_rfc3339(holding.last_used) if holding.last_used else None,
            "due": to_rfc3339(self.due.at),
            "reason": self.due.reason.value,
            "is_due": self.is_due,
        }


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """Everything that is held, what is due first.

    Attributes:
        items: every holding with its term.
        now: the instant the plan is of; never earlier than the last event the device recorded.
        policy_sha256: the policy it follows from.
    """

    items: tuple[PlannedItem, ...]
    now: datetime
    policy_sha256: str

    @property
    def due(self) -> tuple[PlannedItem, ...]:
        """What may no longer be held."""
        return tuple(item for item in self.items if item.is_due)

    @property
    def next_due(self) -> datetime | None:
        """When the next thing becomes due that is not due yet, or None."""
        return min((item.due.at for item in self.items if not item.is_due), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        return {
            "now": to_rfc3339(self.now),
            "policy": self.policy_sha256,
            "due": sum(item.holding.count for item in self.due),
            "items": [item.to_json() for item in self.items],
        }


def due_at(policy: RetentionPolicy, holding: Holding) -> Due:
    """Return until when `holding` may be held: min(purpose end, last use + inactivity, statutory maximum)."""
    since = holding.held_since
    if holding.kind is Kind.LOG_ENTRIES:
        return Due(_after(since, policy.log_keep), Reason.TERM)
    if holding.kind is Kind.RECEIPT:
        return Due(_after(holding.purpose_end or since, policy.receipts_after_end), Reason.TERM)
    # Without a consent that names its end there is no purpose, and what has no purpose was due the moment it was made.
    purpose = Due(holding.purpose_end or since, Reason.PURPOSE_END)
    if holding.kind is Kind.DECLARED_GROUP:
        return purpose
    is_template = holding.kind is Kind.TEMPLATE
    inactivity = policy.templates_inactivity if is_template else policy.samples_inactivity
    maximum = policy.templates_maximum if is_template else policy.samples_maximum
    terms = [
        Due(_after(since, maximum), Reason.MAXIMUM),
        Due(_after(max(since, holding.last_used or since), inactivity), Reason.INACTIVITY),
    ]
    # Of terms that end together the purpose is the one to name: `min` keeps the first.
    return min((purpose, *reversed(terms)), key=lambda due: due.at)


def make_plan(policy: RetentionPolicy, holdings: Iterable[Holding], now: datetime) -> RetentionPlan:
    """Return the plan of `holdings` at `now`, what is due first at the top.

    Args:
        policy: the terms.
        holdings: everything that is held.
        now: the present instant, or the last one recorded if the clock stands before it: a clock set back prolongs nothing.
    """
    items = []
    for holding in holdings:
        due = due_at(policy, holding)
        items.append(PlannedItem(holding, due, due.at <= now))
    items.sort(key=lambda item: (item.due.at, item.holding.kind, item.holding.pseudonym, item.holding.reference))
    return RetentionPlan(tuple(items), now, policy.sha256)


def _after(start: datetime, term: str) -> datetime:
    try:
        return add_duration(start, term)
    except ValueError:
        # Past the year 9999: as good as never, and no reason to stop the rest.
        return datetime.max.replace(tzinfo=start.tzinfo)
