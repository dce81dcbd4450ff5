"""What a device has spent of its privacy, round by round, and whether one more round fits. Kept in the vault, never sent.

The ledger outlives a federation: leaving and joining another gives nothing back, for it is the same people's privacy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import FederationError
from facekeep.privacy.accounting import PrivacyCharge
from facekeep.protocol import Account, FederationPolicy

LEDGER_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every charge so far.

    Attributes:
        charges: of the rounds that added noise, in order.
        without_noise: number of rounds that added none; only a policy with `unsafe_without_noise` has any.
    """

    charges: tuple[PrivacyCharge, ...] = ()
    without_noise: int = 0

    def charged(self, charge: PrivacyCharge | None, policy: FederationPolicy, account: Account) -> tuple[Ledger, float]:
        """Return the ledger with one more charge, and the epsilon spent then, if the policy allows it.

        Args:
            charge: what the round costs; None for one without noise, which `require_acceptable` has let pass.
            policy: of the device.
            account: what charges cost together.

        Raises:
            FederationError: "federation.budget_spent"; "federation.no_accounting" where the accounting package is missing.
        """
        if len(self.charges) + self.without_noise >= policy.most_rounds:
            raise FederationError(
                "federation.budget_spent", f"This device has answered {policy.most_rounds} rounds, as many as it may."
            )
        if charge is None:
            return Ledger(self.charges, self.without_noise + 1), account(self.charges, policy.delta)
        charges = (*self.charges, charge)
        spent = account(charges, policy.delta)
        # Not the other way round: a NaN compares false.
        if not spent <= policy.epsilon:
            raise FederationError(
                "federation.budget_spent",
                f"This round would bring epsilon to {spent:.3f} at delta {policy.delta:g}; allowed are {policy.epsilon:g}.",
            )
        return Ledger(charges, self.without_noise), spent

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that the vault keeps."""
        values = [charge.to_value() for charge in self.charges]
        return to_canonical({"v": LEDGER_VERSION, "charges": values, "without_noise": self.without_noise})

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
            ledger = cls(tuple(PrivacyCharge.parse(item) for item in value["charges"]), value["without_noise"])
            if type(ledger.without_noise) is not int or ledger.without_noise < 0 or ledger.to_bytes() != data:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FederationError("federation.malformed", "The ledger of spent privacy is not of its form.") from None
        return ledger
