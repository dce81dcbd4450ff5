"""What the gate goes by beyond the records: the consent policy, the controller's delegation, the newest revocation lists."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Final

from facekeep.consent import ConsentRecord, SignedConsent
from facekeep.errors import ConsentError, TrustError
from facekeep.signing import DeviceKey
from facekeep.vault import VaultTransaction

# Loaded only where a policy is set or a record depends on lists: a cold device without either does without.
if TYPE_CHECKING:
    from facekeep.consent import ConsentPolicy, ListHead

POLICY_SETTING: Final = "consent.policy"
DELEGATION_SETTING: Final = "consent.delegation"
HEAD_SETTING: Final = "revocation.head/"
LIST_SETTING: Final = "revocation.list/"


class Standing:
    """Policy and lists as they stand in one transaction.

    Args:
        transaction: where to read; nothing is read before it is asked for, but the policy.

    Raises:
        ConsentError: "consent.corrupt".
    """

    def __init__(self, transaction: VaultTransaction) -> None:
        self._transaction = transaction
        self._heads: dict[str, ListHead | None] = {}
        self._stored = transaction.read_setting(POLICY_SETTING)
        if self._stored is not None:
            _ = self.policy

    @cached_property
    def policy(self) -> ConsentPolicy:
        """The policy in force; one that asks for nothing where none is set."""
        from facekeep.consent.policy import ConsentPolicy

        return ConsentPolicy() if self._stored is None else ConsentPolicy.parse(self._stored)

    def head_of(self, issuer: str) -> ListHead | None:
        """Return the newest revocation list seen of an issuer, or None."""
        from facekeep.consent.revocation import ListHead

        if issuer not in self._heads:
            stored = self._transaction.read_setting(HEAD_SETTING + issuer)
            self._heads[issuer] = None if stored is None else ListHead.parse(stored)
        return self._heads[issuer]

    @property
    def last_event(self) -> datetime | None:
        """The latest instant known to have passed: of the trail's last entry, or of the newest list when it was issued."""
        last = self._transaction.last_event_time
        if self._stored is None:
            return last
        issuer = self.policy.revocation_issuer
        head = self.head_of(issuer.name) if issuer else None
        # A list is signed proof of a moment: a clock that stands before it is wrong and prolongs nothing.
        return max((item for item in (last, head.issued_at if head else None) if item is not None), default=None)

    def judged(self, now: datetime) -> datetime:
        """Return the instant to judge terms by: `now`, or the last one known to have passed if the clock stands before it."""
        # A clock set back prolongs nothing and renews nothing.
        last = self.last_event
        return now if last is None else max(now, last)

    def require(self, record: ConsentRecord, signed: SignedConsent, *, device_key: bytes, now: datetime) -> datetime | None:
        """Return until when the record in force meets the policy, or None for as long as it is valid.

        Raises:
            ConsentError: "consent.not_countersigned", "consent.revocation_stale", "consent.corrupt".
        """
        if self._stored is None and record.dependence is None:
            return None
        return self.policy.require(record, signed, device_key=device_key, now=now, head_of=self.head_of)

    def countersigned(self, signed: SignedConsent, record: ConsentRecord, key: DeviceKey) -> SignedConsent:
        """Return the record with the controller's signature by delegation, where the device carries one that is in force."""
        stored = self._transaction.read_setting(DELEGATION_SETTING)
        controller = self.policy.controller_key if stored is not None else None
        if stored is None or controller is None:
            return signed
        from facekeep.consent import Delegation, countersign_as_delegate, with_proofs

        try:
            delegation = Delegation.parse(stored)
            proof = countersign_as_delegate(key, delegation, signed.body)
            proof.verify(signed.body, controller, key.public_bytes)
        except TrustError:
            # It has ended, or another controller is named by now: the record waits to be countersigned.
            return signed
        return with_proofs(signed, [proof])


def require_controller(standing: Standing) -> ConsentPolicy:
    """Return the policy if it names a controller.

    Raises:
        ConsentError: "consent.unknown_issuer".
    """
    if standing.policy.controller_key is None:
        raise ConsentError("consent.unknown_issuer", "The consent policy names no controller's key. Set one first.")
    return standing.policy
