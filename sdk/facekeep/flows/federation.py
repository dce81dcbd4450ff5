"""The federation of a device: `device.federation`. Joins and leaves, keeps samples, answers rounds, adopts releases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facekeep.audit import AuditEvent
from facekeep.canonical import to_canonical
from facekeep.consent import ConsentGrant
from facekeep.errors import FederationError
from facekeep.flows.acquisition import Source, is_single
from facekeep.flows.context import FlowContext
from facekeep.flows.membership import (
    BUDGET_SETTING,
    Membership,
    erase_membership,
    find_membership,
    require_membership,
    write_membership,
)
from facekeep.flows.release_state import ReleaseState, read_release_state
from facekeep.participation.budget import Ledger
from facekeep.protocol.actions import Action
from facekeep.protocol.policy import FederationPolicy
from facekeep.protocol.release import ReleaseBundle

# Imported where they are used: a device that adopts no release and answers no round loads neither.
if TYPE_CHECKING:
    from facekeep.flows.adopt import AdoptionReceipt, RollbackReceipt
    from facekeep.flows.samples import SampleReceipt


@dataclass(frozen=True, slots=True)
class FederationStatus:
    """How things stand.

    Attributes:
        federation: name of the federation, or None if the device takes part in none.
        policy: hexadecimal SHA-256 of the policy, or None.
        device_key: hexadecimal Ed25519 public key, for the roster.
        exchange_key: hexadecimal X25519 public key, for the roster; None before joining.
        samples: training samples kept.
        charges: rounds charged to the budget.
        spent: epsilon spent so far at the policy's delta, as a decimal; None where it cannot be accounted for here.
        release: version of the release in use; 0 for the model that shipped.
        digest: digest of the release in use, or None.
        waiting: subjects whose templates wait for a verification to follow the model in use.
    """

    federation: str | None
    policy: str | None
    device_key: str
    exchange_key: str | None
    samples: int
    charges: int
    spent: str | None
    release: int
    digest: str | None
    waiting: int


class Federation:
    """The federation of a device: `device.federation`."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    def join(self, policy: FederationPolicy) -> Membership:
        """Take part under `policy`, which the device's operator hands over, never the server. Joining again replaces the policy.

        Returns:
            The membership: the fleet authority puts its exchange key and the device's key on the roster.

        Raises:
            FederationError: "federation.invalid_policy" while the device is in another federation.
        """
        with self._context.vault.transaction() as transaction:
            membership = write_membership(transaction, policy)
            details: dict[str, str | int | bool] = {
                "federation": policy.name,
                "policy": policy.sha256,
                "key": membership.exchange_key.hex(),
            }
            transaction.append_event(AuditEvent("federation.joined", details=details))
        return membership

    def leave(self) -> None:
        """Take part no longer: policy, exchange key, a round in progress and every training sample are destroyed.

        The budget spent is not forgotten, and the model in use stays.

        Raises:
            FederationError: "federation.not_joined".
        """
        from facekeep.flows.sample_erasure import destroy_all_samples

        with self._context.vault.transaction(durable=False) as transaction:
            require_membership(transaction)
        # First what cannot be explained without a membership: a crash in between leaves a device that can leave again.
        destroy_all_samples(self._context, "left")
        with self._context.vault.transaction() as transaction:
            name = require_membership(transaction).policy.name
            erase_membership(transaction)
            transaction.append_event(AuditEvent("federation.left", details={"federation": name}))
        # Exchange key and round lay under the wrap key: a copy of the vault would still open them.
        self._context.vault.rotate_keys()

    def policy(self) -> FederationPolicy:
        """Return the policy of the federation that the device takes part in.

        Raises:
            FederationError: "federation.not_joined".
        """
        with self._context.vault.transaction(durable=False) as transaction:
            return require_membership(transaction).policy

    def status(self) -> FederationStatus:
        """Return how things stand, loading no model.

        Raises:
            FederationError, VaultError: with a stable code.
        """
        vault = self._context.vault
        with vault.transaction(durable=False) as transaction:
            membership, state = find_membership(transaction), read_release_state(transaction)
            ledger = Ledger.parse(transaction.read_setting(BUDGET_SETTING))
            samples = len(transaction.stored_samples())
            waiting = transaction.waiting(state.contract) if state is not None and state.contract else 0
        state = state or ReleaseState()
        return FederationStatus(
            federation=membership.policy.name if membership else None,
            policy=membership.policy.sha256 if membership else None,
            device_key=vault.device_key.public_bytes.hex(),
            exchange_key=membership.exchange_key.hex() if membership else None,
            samples=samples,
            charges=len(ledger.charges) + ledger.without_noise,
            spent=_spent(ledger, membership),
            release=state.version,
            digest=state.active or None,
            waiting=waiting,
        )

    def collect(
        self,
        subject: str,
        frames: Source | Iterable[Source],
        grant: ConsentGrant,
        *,
        kind: str = "collected",
        unsafe_without_comparison: bool = False,
    ) -> SampleReceipt:
        """Keep sealed training samples of `subject`, bounded in number and age by the policy; the oldest make room.

        Args:
            subject: the application's identifier, enrolled here.
            frames: a frame, an array, a picture file, a camera, or several of these.
            grant: what `consents.grant` returned for this subject; it has to name federated training.
            kind: of which capture, such as "night": lower-case letters, digits, hyphens and dots.
            unsafe_without_comparison: keep frames that do not match the subject's template too, such as those of a camera that the
                model does not know yet. Somebody has to have seen that they show the subject: a bystander consented to nothing.

        Raises:
            FederationError, ConsentError, AcquisitionError, EnrolmentError, VaultError, ModelError: with a stable code.
        """
        from facekeep.flows.samples import collect

        sources: Iterable[Source] = [frames] if is_single(frames) else frames  # type: ignore[list-item, assignment]
        return collect(self._context, subject, sources, grant, kind=kind, unsafe_without_comparison=unsafe_without_comparison)

    def declare(self, subject: str, group: str | None) -> None:
        """Keep the group that `subject` declares for reports by groups, sealed, or forget it with None.

        Raises:
            FederationError: "federation.malformed" for a name that no group has.
            ConsentError: without consent for calibration statistics. VaultError: with a stable code.
        """
        from facekeep.flows.declare import declare, forget_declared

        if group is None:
            forget_declared(self._context, subject)
        else:
            declare(self._context, subject, group)

    def handle(self, action: str, body: bytes) -> bytes:
        """Return the answer to one message: the one entry for everything that a server sends.

        Args:
            action: one of `facekeep.protocol.Action`.
            body: the message.

        Raises:
            FederationError, ReleaseError, TrustError, ConsentError, VaultError, ModelError: with a stable code, which is all that
                may travel of it.
        """
        policy = self.policy()
        from facekeep.flows.sample_erasure import destroy_overdue

        # What is due may not be used.
        destroy_overdue(self._context, policy)
        if action == Action.OFFER:
            receipt = self.adopt(body)
            return to_canonical({"v": 1, "adopted": receipt.digest, "version": receipt.version})
        from facekeep.flows.participate import handle

        return handle(self._context, policy, action, body)

    def describe_contract(self) -> bytes:
        """Return, as canonical JSON, what the contract of this device's packs hashes: whoever makes releases for them needs it.

        Raises:
            ReleaseError: "release.wrong_model" for a device whose models were brought by the caller. ModelError: as loading does.
        """
        from facekeep.flows.workshop import require_workshop

        return to_canonical(require_workshop(self._context.workshop).describe_contract())

    def adopt(self, bundle: ReleaseBundle | bytes) -> AdoptionReceipt:
        """Verify, stage, self-test and activate a release, and move the templates that can follow it: all of it or nothing.

        Raises:
            ReleaseError, FederationError, VaultError, ModelError: with a stable code; the model in use stays.
        """
        from facekeep.flows.adopt import adopt

        return adopt(self._context, ReleaseBundle.parse(bundle) if isinstance(bundle, bytes) else bundle)

    def rollback(self) -> RollbackReceipt:
        """Go back to the model before the one in use, by the word of whoever runs this device, and refuse the one left for ever.

        Raises:
            ReleaseError: "release.none" if the model that shipped is in use, or its files are gone.
        """
        from facekeep.flows.adopt import rollback

        return rollback(self._context)


def _spent(ledger: Ledger, membership: Membership | None) -> str | None:
    from facekeep.privacy.accounting import spelled, spent

    if membership is None:
        return None
    try:
        return spelled(spent(ledger.charges, membership.policy.delta))
    except FederationError:
        # Without the package that accounts for it, the number of rounds is all that can be said.
        return None
