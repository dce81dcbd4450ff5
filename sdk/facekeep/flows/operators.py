"""The operators of a device: who may confirm an identification under the two-person rule."""

from __future__ import annotations

from facekeep.audit import AuditEvent
from facekeep.confirmation import Operator, Roster
from facekeep.errors import ConfirmationError
from facekeep.flows.context import FlowContext
from facekeep.flows.sealing_results import ROSTER_SETTING, read_roster


class Operators:
    """The operators of a device: `device.operators`."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    def add(self, operator: str, public_key: bytes) -> Operator:
        """Let an operator confirm from now on; results sealed before stay out of reach of whoever is added after.

        Args:
            operator: letters, a dash and a number, such as "op-17"; it stands in the audit trail, so no name.
            public_key: 32 bytes, Ed25519; the private half stays with the operator.

        Raises:
            ConfirmationError: "confirmation.invalid_operator".
        """
        if public_key == self._context.vault.device_key.public_bytes:
            # The device would confirm what it found itself.
            raise ConfirmationError("confirmation.invalid_operator", "The key is the device's own. An operator has one of theirs.")
        with self._context.vault.transaction() as transaction:
            roster = read_roster(transaction).with_operator(operator, public_key, self._context.clock.now())
            transaction.write_setting(ROSTER_SETTING, roster.to_bytes())
            added = roster.find(operator)
            if added is None:
                raise AssertionError("the operator was added")
            transaction.append_event(AuditEvent("operator.added", details=_details(added)))
        return added

    def remove(self, operator: str) -> None:
        """Let an operator confirm no more; confirmations given count no more either.

        Raises:
            ConfirmationError: "confirmation.unknown_operator".
        """
        with self._context.vault.transaction() as transaction:
            roster = read_roster(transaction)
            fresh = roster.without(operator)
            removed = roster.find(operator)
            transaction.write_setting(ROSTER_SETTING, fresh.to_bytes())
            if removed is not None:
                transaction.append_event(AuditEvent("operator.removed", details=_details(removed)))

    def list(self) -> tuple[Operator, ...]:
        """Return every operator, in order of their names."""
        with self._context.vault.transaction(durable=False) as transaction:
            roster: Roster = read_roster(transaction)
        return roster.operators


def _details(operator: Operator) -> dict[str, str | int | bool]:
    return {"operator": operator.id, "key": operator.fingerprint}
