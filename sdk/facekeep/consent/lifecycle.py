"""The life of a consent: which record may follow which, and what a chain of them amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from typing import Final

from facekeep.consent.purposes import Purpose
from facekeep.consent.record import ConsentRecord, Lifecycle
from facekeep.errors import ConsentError


class ConsentStatus(StrEnum):
    """Where one purpose stands."""

    NEVER_ASKED = "never_asked"
    REQUESTED = "requested"
    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    ERASED = "erased"


_TAKES: Final = {
    Lifecycle.REFUSED: ConsentStatus.REFUSED,
    Lifecycle.WITHDRAWN: ConsentStatus.WITHDRAWN,
    Lifecycle.EXPIRED: ConsentStatus.EXPIRED,
    Lifecycle.ERASED: ConsentStatus.ERASED,
}


@dataclass(frozen=True, slots=True)
class ConsentState:
    """What a chain of records amounts to.

    Attributes:
        status: where each purpose that was ever named stands.
        in_force: the last record that gave consent, or None.
        last: the last record of all, or None.
    """

    status: tuple[tuple[Purpose, ConsentStatus], ...] = ()
    in_force: ConsentRecord | None = None
    last: ConsentRecord | None = None

    def status_of(self, purpose: Purpose) -> ConsentStatus:
        """Return where `purpose` stands."""
        return dict(self.status).get(purpose, ConsentStatus.NEVER_ASKED)

    @property
    def purposes(self) -> frozenset[Purpose]:
        """Purposes given and neither withdrawn nor replaced since, whatever the term."""
        return frozenset(purpose for purpose, status in self.status if status is ConsentStatus.GIVEN)

    @property
    def expired(self) -> frozenset[Purpose]:
        """Purposes whose end was recorded."""
        return frozenset(purpose for purpose, status in self.status if status is ConsentStatus.EXPIRED)

    def after(self, record: ConsentRecord) -> ConsentState:
        """Return the state one record later.

        A grant or a renewal replaces all that was given before; a withdrawal, a refusal or an end takes the purposes it names.
        """
        status, in_force = dict(self.status), self.in_force
        if record.state in (Lifecycle.GIVEN, Lifecycle.RENEWED):
            status = {purpose: what for purpose, what in status.items() if what is not ConsentStatus.GIVEN}
            status.update(dict.fromkeys(record.purposes, ConsentStatus.GIVEN))
            in_force = record
        elif record.state is Lifecycle.REQUESTED:
            # Being asked again takes nothing away.
            asked = record.purposes - self.purposes
            status.update(dict.fromkeys(asked, ConsentStatus.REQUESTED))
        else:
            status.update(dict.fromkeys(record.purposes, _TAKES[record.state]))
        return ConsentState(tuple(sorted(status.items())), in_force, record)


def fold_chain(records: Sequence[ConsentRecord]) -> ConsentState:
    """Return what `records`, in order, amount to."""
    return reduce(ConsentState.after, records, ConsentState())


def require_transition(state: ConsentState, record: ConsentRecord) -> None:
    """Return if `record` may follow a chain that amounts to `state`.

    Records of version 1 are taken as they are: the Facekeep that wrote them had no such rule.

    Raises:
        ConsentError: "consent.illegal_transition".
    """
    if record.version == 1:
        if state.last is not None and state.last.version != 1:
            raise _illegal("A record of version 1 does not follow one of version 2.")
        return
    last, given = state.last, state.purposes
    if last is not None and last.state is Lifecycle.ERASED:
        raise _illegal("Nothing follows an erasure.")
    if last is not None and record.recorded_at < last.recorded_at:
        raise _illegal("A record is dated before the one it follows.")
    match record.state:
        case Lifecycle.GIVEN if given:
            raise _illegal("Consent is given already: a further one is a renewal.")
        case Lifecycle.RENEWED if not given and not state.expired:
            raise _illegal("There is no consent to renew.")
        case Lifecycle.WITHDRAWN if not record.purposes <= given:
            raise _illegal("Only what was given can be withdrawn.")
        case Lifecycle.EXPIRED if record.purposes != given or state.in_force is None:
            raise _illegal("What expires is all that was given.")
        case Lifecycle.EXPIRED if state.in_force is not None and record.recorded_at < state.in_force.valid_until:
            raise _illegal("A consent expires when its term is over, and not before.")
        case Lifecycle.ERASED if given or last is None:
            raise _illegal("Consent is withdrawn or expired before what was stored under it is recorded as erased.")
        case _:
            return


def _illegal(why: str) -> ConsentError:
    return ConsentError("consent.illegal_transition", f"{why} The record is not accepted.")
