"""Operators: who may confirm, known to the device by a number and an Ed25519 key of their own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from facekeep.canonical import HEX_DIGEST, parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import ConfirmationError, TrustError
from facekeep.signing import DeviceKey, key_fingerprint, verify_signature

DOMAIN: Final = "identification confirmation v1"
MOST_OPERATORS: Final = 100
_VERSION: Final = 1
_ID = re.compile(r"[a-z]{1,8}-[0-9]{1,8}")


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator.

    Attributes:
        id: such as "op-17": a number in the deployer's own register, no name, for it stands in the audit trail.
        public_key: 32 bytes, Ed25519.
        added_at: when this device came to know the operator.
    """

    id: str
    public_key: bytes
    added_at: datetime

    @property
    def fingerprint(self) -> str:
        """Short name of the key, for the trail."""
        return key_fingerprint(self.public_key)


@dataclass(frozen=True, slots=True)
class Roster:
    """Every operator of a device, in order of their names."""

    operators: tuple[Operator, ...] = ()

    def find(self, operator: str) -> Operator | None:
        """Return the operator of this name, or None."""
        return next((item for item in self.operators if item.id == operator), None)

    def with_operator(self, operator: str, public_key: bytes, now: datetime) -> Roster:
        """Return the roster with one more operator.

        Raises:
            ConfirmationError: "confirmation.invalid_operator".
        """
        if not isinstance(operator, str) or not _ID.fullmatch(operator):
            raise _invalid('An operator is called by letters, a dash and a number, such as "op-17", never by a name')
        if len(public_key) != 32:
            raise _invalid("An operator's key is an Ed25519 public key of 32 bytes")
        # With one key under two names, one person could be two.
        if any(item.id == operator or item.public_key == public_key for item in self.operators):
            raise _invalid("The name or the key belongs to an operator already")
        if len(self.operators) >= MOST_OPERATORS:
            raise _invalid(f"A device knows at most {MOST_OPERATORS} operators")
        added = Operator(operator, bytes(public_key), parse_rfc3339(to_rfc3339(now)))
        return Roster(tuple(sorted((*self.operators, added), key=lambda item: item.id)))

    def without(self, operator: str) -> Roster:
        """Return the roster without an operator.

        Raises:
            ConfirmationError: "confirmation.unknown_operator".
        """
        if self.find(operator) is None:
            raise ConfirmationError("confirmation.unknown_operator", "No operator of this name is enrolled on the device.")
        return Roster(tuple(item for item in self.operators if item.id != operator))

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        rows = [{"id": item.id, "key": item.public_key.hex(), "added": to_rfc3339(item.added_at)} for item in self.operators]
        return to_canonical({"v": _VERSION, "operators": rows})

    @classmethod
    def parse(cls, data: bytes) -> Roster:
        """Return what `to_bytes` wrote.

        Raises:
            ConfirmationError: "confirmation.invalid_operator".
        """
        try:
            fields: dict[str, Any] = parse_canonical(data)
            roster = cls()
            for row in fields["operators"]:
                roster = roster.with_operator(row["id"], bytes.fromhex(row["key"]), parse_rfc3339(row["added"]))
            if fields["v"] != _VERSION or roster.to_bytes() != data:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _invalid("The stored list of operators is not of its form") from None
        return roster


def sign_confirmation(key: DeviceKey, commitment: str) -> bytes:
    """Return an operator's confirmation: 64 bytes. Made where the operator's key is, which need not be the device.

    Args:
        key: the operator's.
        commitment: of the pending identification, 64 hexadecimal digits.

    Raises:
        ConfirmationError: "confirmation.bad_signature" if it is no commitment.
    """
    if not HEX_DIGEST.fullmatch(commitment):
        raise ConfirmationError("confirmation.bad_signature", "A commitment is 64 lower-case hexadecimal digits.")
    return key.sign(DOMAIN, bytes.fromhex(commitment))


def verify_confirmation(operator: Operator, commitment: str, signature: bytes) -> None:
    """Return if `signature` is this operator's confirmation.

    Raises:
        ConfirmationError: "confirmation.bad_signature".
    """
    try:
        verify_signature(operator.public_key, DOMAIN, bytes.fromhex(commitment), signature)
    except TrustError:
        raise ConfirmationError(
            "confirmation.bad_signature", "The signature is not this operator's over this identification. Nothing was counted."
        ) from None


def _invalid(what: str) -> ConfirmationError:
    return ConfirmationError("confirmation.invalid_operator", f"{what}.")
