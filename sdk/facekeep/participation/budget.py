"""What a device has spent of its privacy, round by round, and whether one more round fits. Kept in the vault, never sent.

The ledger outlives a federation: leaving and joining another gives nothing back, for it is the same people's privacy.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import FederationError
from facekeep.protocol import Account, Charge, FederationPolicy

LEDGER_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every charge so far.

    Attributes:
        charges: in order.
    """

    charges: tuple[Charge, ...] = ()

    def charged(self, charge: Charge, policy: FederationPolicy, account: Account) -> tuple[Ledger, float]:
        """Return the ledger with one more charge, and the epsilon spent then, if the policy allows it.

        Raises:
            FederationError: "federation.budget_spent"; "federation.no_accounting" where the accounting package is missing.
        """
        charges = (*self.charges, charge)
        if len(charges) > policy.most_rounds:
            raise FederationError(
                "federation.budget_spent", f"This device has answered {policy.most_rounds} rounds, as many as it may."
            )
        if policy.unsafe_without_noise and charge.variance == 0:
            return Ledger(charges), 0.0
        noised = [item for item in charges if item.variance] if policy.unsafe_without_noise else charges
        spent = account(noised, policy.delta)
        # Not the other way round: a NaN compares false.
        if not spent <= policy.epsilon:
            raise FederationError(
                "federation.budget_spent", f"After this round epsilon would be {spent:.3g}; the policy allows {policy.epsilon:.3g}."
            )
        return Ledger(charges), spent

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that the vault keeps."""
        return to_canonical({"v": LEDGER_VERSION, "charges": [list(astuple(charge)) for charge in self.charges]})

    @classmethod
    def parse(cls, data: bytes | None) -> Ledger:
        """Return the ledger of its bytes; None is one without charges.

        Raises:
            FederationError: "federation.malformed": a device whose ledger cannot be read spends nothing more.
        """
        if data is None:
            return cls()
        try:
            value = parse_canonical(data)
            charges = tuple(Charge(*item) for item in value["charges"])
            types = [str, int, int, int, int, int]
            right = all([type(part) for part in astuple(charge)] == types for charge in charges)
            if value["v"] != LEDGER_VERSION or not right:
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise FederationError("federation.malformed", "The ledger of spent privacy is not of its form.") from None
        return cls(charges)
