"""Whether this device takes part in a federation, under which policy, and with which key rounds are sealed to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from facekeep.errors import FederationError
from facekeep.protocol.policy import FederationPolicy
from facekeep.randomness import SystemRandomness
from facekeep.vault import VaultTransaction

POLICY_SETTING: Final = "federation.policy"
BUDGET_SETTING: Final = "federation.budget"
# Sealed settings: a private key, and the secrets of a round in progress.
EXCHANGE: Final = "federation/exchange"
ROUND: Final = "federation/round"


@dataclass(frozen=True, slots=True)
class Membership:
    """A device in a federation.

    Attributes:
        policy: what its operator allows.
        exchange: private X25519 key, 32 bytes.
    """

    policy: FederationPolicy
    exchange: bytes = field(repr=False)

    @property
    def exchange_key(self) -> bytes:
        """Public X25519 key: what the fleet authority puts on the roster beside the device's key."""
        return X25519PrivateKey.from_private_bytes(self.exchange).public_key().public_bytes_raw()


def find_membership(transaction: VaultTransaction) -> Membership | None:
    """Return the membership of this device, or None.

    Raises:
        FederationError: "federation.invalid_policy" if what is kept is none. VaultError: "vault.sealed".
    """
    stored = transaction.read_setting(POLICY_SETTING)
    exchange = transaction.read_sealed(EXCHANGE) if stored else None
    return Membership(FederationPolicy.parse(stored), exchange) if stored and exchange else None


def require_membership(transaction: VaultTransaction) -> Membership:
    """Return the membership of this device.

    Raises:
        FederationError: "federation.not_joined"; otherwise as `find_membership`.
    """
    found = find_membership(transaction)
    if found is None:
        raise FederationError("federation.not_joined", "This device takes part in no federation. Join one: facekeep federate join")
    return found


def write_membership(transaction: VaultTransaction, policy: FederationPolicy) -> Membership:
    """Keep a policy, and the key that rounds are sealed to: the one there is, or a fresh one.

    Raises:
        FederationError: "federation.invalid_policy" for another federation than the one joined.
    """
    before = find_membership(transaction)
    if before is not None and before.policy.name != policy.name:
        raise FederationError("federation.invalid_policy", f"The device is in {before.policy.name}. Leave that federation first.")
    membership = Membership(policy, before.exchange if before is not None else SystemRandomness().token(32))
    transaction.write_setting(POLICY_SETTING, policy.to_bytes())
    transaction.write_sealed(EXCHANGE, membership.exchange)
    return membership


def erase_membership(transaction: VaultTransaction) -> None:
    """Forget policy, key and round in progress. The budget spent stays: joining again renews none of it."""
    transaction.write_setting(POLICY_SETTING, b"")
    transaction.write_sealed(EXCHANGE, None)
    transaction.write_sealed(ROUND, None)
