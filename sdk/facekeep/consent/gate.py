"""The gate: a grant for exactly this subject and purpose, now, or a typed refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from facekeep.clock import to_rfc3339
from facekeep.consent.lifecycle import ConsentStatus, fold_chain
from facekeep.consent.purposes import Purpose
from facekeep.consent.record import ConsentRecord
from facekeep.errors import ConsentError

# Clocks are corrected by small steps all the time; a larger step back would prolong every consent.
CLOCK_TOLERANCE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class ConsentGrant:
    """Proof, in memory, that a subject agreed to stated purposes. Made by the gate or by recording a consent.

    Attributes:
        subject: the application's identifier of the subject.
        record: the record in force.
        purposes: what it still covers.
    """

    subject: str = field(repr=False)
    record: ConsentRecord
    purposes: frozenset[Purpose]

    def __repr__(self) -> str:
        return f"ConsentGrant({', '.join(sorted(self.purposes))}, until {to_rfc3339(self.record.valid_until)})"


def require_clock(now: datetime, last_event: datetime | None) -> datetime:
    """Return the instant to judge validity by: never earlier than the last event recorded.

    Raises:
        ConsentError: "consent.clock_set_back" when `now` is more than `CLOCK_TOLERANCE` earlier.
    """
    if last_event is None or now >= last_event:
        return now
    if last_event - now > CLOCK_TOLERANCE:
        raise ConsentError(
            "consent.clock_set_back",
            f"The clock says {to_rfc3339(now)}, but an event was recorded at {to_rfc3339(last_event)}. "
            "Set the clock right; a clock set back never prolongs a consent.",
        )
    return last_event


def require_consent(
    records: Sequence[ConsentRecord], *, subject: str, purpose: Purpose, now: datetime, last_event: datetime | None
) -> ConsentGrant:
    """Return the grant that allows `purpose` for `subject` now.

    Args:
        records: the subject's verified chain, in order.
        now: the present instant.
        last_event: the latest instant the device has recorded, against a clock set back.

    Raises:
        ConsentError: with the code of the first reason found.
    """
    now = require_clock(now, last_event)
    state = fold_chain(records)
    match state.status_of(purpose):
        case ConsentStatus.WITHDRAWN:
            raise ConsentError("consent.withdrawn", f"Consent for {purpose} was withdrawn. Ask the subject again.")
        case ConsentStatus.REFUSED:
            raise ConsentError("consent.refused", f"The subject refused {purpose}. Ask again only with a new notice.")
        case ConsentStatus.EXPIRED:
            raise ConsentError("consent.expired", f"Consent for {purpose} has ended. Ask for a renewal.")
        case ConsentStatus.REQUESTED if not state.purposes:
            raise ConsentError("consent.none", "Consent was asked for and not answered. Record the subject's answer first.")
        case ConsentStatus.ERASED:
            raise ConsentError("consent.none", "What was stored under this consent is erased. Ask anew.")
        case ConsentStatus.NEVER_ASKED | ConsentStatus.REQUESTED:
            if state.in_force is None:
                raise ConsentError("consent.none", "No consent is on record for this subject. Ask for it and record a grant first.")
            raise ConsentError(
                "consent.wrong_purpose",
                f"Consent was given for {', '.join(sorted(state.purposes)) or 'nothing any more'}, not for {purpose}. Ask for it.",
            )
    record = state.in_force
    if record is None:
        raise ConsentError("consent.corrupt", "A purpose is given without a record that gives it.")
    if now < record.valid_from:
        raise ConsentError("consent.not_yet_valid", f"Consent begins at {to_rfc3339(record.valid_from)}; now is {to_rfc3339(now)}.")
    if now >= record.valid_until:
        raise ConsentError("consent.expired", f"Consent ended at {to_rfc3339(record.valid_until)}. Ask for a renewal.")
    return ConsentGrant(subject, record, state.purposes)
