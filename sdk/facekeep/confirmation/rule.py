"""How many operators have to confirm an identification, and how long they have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import ConfirmationError

MOST_CONFIRMATIONS: Final = 5
LONGEST_TERM: Final = timedelta(days=1)
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ConfirmationRule:
    """The identification policy of a device.

    Attributes:
        confirmations: how many different operators have to confirm: 0 (no rule) or 2 to 5.
        term: how long a result waits for them before it is destroyed; at most a day.

    Raises:
        ConfirmationError: "confirmation.invalid_policy".
    """

    confirmations: int = 0
    term: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        # One confirmation would be no rule of two, and would read like one.
        known = isinstance(self.confirmations, int) and not isinstance(self.confirmations, bool)
        if not known or not (self.confirmations == 0 or 2 <= self.confirmations <= MOST_CONFIRMATIONS):
            raise ConfirmationError("confirmation.invalid_policy", f"Confirmations are 0 or 2 to {MOST_CONFIRMATIONS}.")
        if not timedelta(seconds=1) <= self.term <= LONGEST_TERM:
            raise ConfirmationError("confirmation.invalid_policy", "A result waits between a second and a day.")

    def stricter(self, other: ConfirmationRule) -> ConfirmationRule:
        """Return the rule that keeps both: the larger number, the shorter term of those that ask for anything."""
        terms = [rule.term for rule in (self, other) if rule.confirmations]
        return ConfirmationRule(max(self.confirmations, other.confirmations), min(terms, default=self.term))

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return to_canonical({"v": _VERSION, "confirmations": self.confirmations, "term_seconds": int(self.term.total_seconds())})

    @classmethod
    def parse(cls, data: bytes) -> ConfirmationRule:
        """Return what `to_bytes` wrote.

        Raises:
            ConfirmationError: "confirmation.invalid_policy".
        """
        try:
            fields = parse_canonical(data)
            rule = cls(fields["confirmations"], timedelta(seconds=fields["term_seconds"]))
            if rule.to_bytes() != data:
                raise ValueError
        except (ValueError, KeyError, TypeError, OverflowError):
            raise ConfirmationError("confirmation.invalid_policy", "The stored identification policy is not of its form.") from None
        return rule
