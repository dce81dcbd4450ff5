"""An identification that waits: what of it may be seen, and what is sealed. Format: docs/formats/sealed-identification.md."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.confirmation.operators import Roster, verify_confirmation
from facekeep.errors import ConfirmationError, VaultError

MOST_WAITING: Final = 64
_VERSION: Final = 1
Result = TypeVar("Result")
_BLOCK: Final = 2048


@dataclass(frozen=True, slots=True)
class PendingIdentification:
    """What `identify` gives under the two-person rule: nothing of who it is, nor whether anybody was found.

    Attributes:
        id: 32 hexadecimal digits, random.
        commitment: what operators sign: 64 hexadecimal digits, SHA-256 over the sealed result and a random salt.
        created_at: when the search ended.
        expires_at: first instant at which the result is destroyed unopened.
        required: how many different operators have to confirm.
        confirmed_by: those who did, in order.
    """

    id: str
    commitment: str
    created_at: datetime
    expires_at: datetime
    required: int
    confirmed_by: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        raise TypeError("a PendingIdentification is not a truth value: its result is sealed until operators confirm")


@dataclass(frozen=True, slots=True)
class SealedIdentification:
    """The whole of it, as it lies sealed in the vault.

    Attributes:
        id: 32 hexadecimal digits.
        created_at: when the search ended.
        expires_at: first instant at which it is destroyed.
        required: how many have to confirm.
        eligible: operators enrolled when the search ran, and their keys: nobody can be added to confirm afterwards.
        details: what the audit trail says of the search, but the result.
        result: outcome, candidates by pseudonym, operating point.
        salt: 32 random bytes: what keeps the commitment from being guessed, and the key of the input's commitment.
        confirmations: operator -> signature, in order.
    """

    id: str
    created_at: datetime
    expires_at: datetime
    required: int
    eligible: Mapping[str, str]
    details: Mapping[str, str | int | bool] = field(repr=False)
    result: Mapping[str, Any] = field(repr=False)
    salt: bytes = field(repr=False)
    confirmations: Mapping[str, str] = field(default_factory=dict)

    @property
    def commitment(self) -> str:
        """What operators sign."""
        return hashlib.sha256(b"facekeep sealed identification v1\n" + to_canonical(self._fixed())).hexdigest()

    @property
    def subjects(self) -> frozenset[str]:
        """Pseudonyms of the candidates."""
        return frozenset(row[0] for row in self.result["candidates"])

    def to_public(self) -> PendingIdentification:
        """Return what may be seen."""
        confirmed = tuple(self.confirmations)
        return PendingIdentification(self.id, self.commitment, self.created_at, self.expires_at, self.required, confirmed)

    def confirmed(self, operator: str, signature: bytes, roster: Roster) -> SealedIdentification:
        """Return this with one more confirmation.

        Raises:
            ConfirmationError: "confirmation.unknown_operator", "confirmation.bad_signature", "confirmation.same_operator".
        """
        known = roster.find(operator)
        if known is None or self.eligible.get(operator) != known.public_key.hex():
            raise ConfirmationError(
                "confirmation.unknown_operator",
                "The operator is not enrolled, or was not when the search ran. Whoever is added later cannot confirm it.",
            )
        verify_confirmation(known, self.commitment, signature)
        if operator in self.confirmations:
            raise ConfirmationError("confirmation.same_operator", "This operator has confirmed. Another one has to.")
        return replace(self, confirmations={**self.confirmations, operator: signature.hex()})

    def require_confirmed(self, roster: Roster) -> tuple[str, ...]:
        """Return the operators who confirmed, if enough of them did and still are operators.

        Raises:
            ConfirmationError: "confirmation.pending".
        """
        counting = []
        for name, signature in self.confirmations.items():
            known = roster.find(name)
            if known is not None and self.eligible.get(name) == known.public_key.hex():
                verify_confirmation(known, self.commitment, bytes.fromhex(signature))
                counting.append(name)
        if len(counting) < self.required:
            raise ConfirmationError(
                "confirmation.pending", f"{len(counting)} of {self.required} operators have confirmed. The result stays sealed."
            )
        return tuple(counting)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as canonical JSON takes them."""
        return self._fixed() | {"confirmations": [[name, signature] for name, signature in self.confirmations.items()]}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SealedIdentification:
        """Return what `to_dict` gave.

        Raises:
            ValueError, KeyError, TypeError: if it is not that.
        """
        return cls(
            id=fields["id"],
            created_at=parse_rfc3339(fields["created"]),
            expires_at=parse_rfc3339(fields["expires"]),
            required=fields["required"],
            eligible=dict(fields["eligible"]),
            details=dict(fields["details"]),
            result=dict(fields["result"]),
            salt=bytes.fromhex(fields["salt"]),
            confirmations={name: signature for name, signature in fields["confirmations"]},  # noqa: C416 - pairs from JSON
        )

    def _fixed(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "created": to_rfc3339(self.created_at),
            "expires": to_rfc3339(self.expires_at),
            "required": self.required,
            "eligible": dict(self.eligible),
            "details": dict(self.details),
            "result": dict(self.result),
            "salt": self.salt.hex(),
        }


def require_result(found: Result | PendingIdentification) -> Result:
    """Return what `identify` found, where no two-person rule is in force.

    Raises:
        ConfirmationError: "confirmation.pending" if it is sealed.
    """
    if isinstance(found, PendingIdentification):
        raise ConfirmationError("confirmation.pending", f"{found.required} operators have to confirm before the result is seen.")
    return found


def padded_result(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result of the same length as every other: how long the sealed setting is must not tell who or how many."""
    bare = {**result, "pad": ""}
    return {**bare, "pad": " " * (-len(to_canonical(bare)) % _BLOCK)}


def waiting_to_bytes(waiting: Iterable[SealedIdentification]) -> bytes:
    """Return everything that waits, to be sealed."""
    return to_canonical({"v": _VERSION, "waiting": [item.to_dict() for item in waiting]})


def parse_waiting(data: bytes) -> dict[str, SealedIdentification]:
    """Return what `waiting_to_bytes` wrote, by id.

    Raises:
        VaultError: "vault.corrupt".
    """
    try:
        fields = parse_canonical(data)
        if fields["v"] != _VERSION:
            raise ValueError
        return {row["id"]: SealedIdentification.from_dict(row) for row in fields["waiting"]}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise VaultError("vault.corrupt", "What waits for confirmation is not of its form.") from None
