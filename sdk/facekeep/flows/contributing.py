"""What a device contributes to a round: one port, one adapter for each kind of round.

`ready` runs first, outside of any transaction, for it loads models; `gather` inside one, once for each subject with consent;
`contribute` outside again, for it may take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from facekeep.consent import Purpose
from facekeep.flows.context import FlowContext
from facekeep.participation import Contribution
from facekeep.protocol import FederationPolicy, Kind, RoundPlan
from facekeep.vault import SubjectHandle, VaultTransaction


class Contributing(Protocol):
    """Makes the contribution of one kind of round."""

    @property
    def purpose(self) -> Purpose:
        """The purpose that each subject has to have consented to."""
        ...

    def ready(self, context: FlowContext, policy: FederationPolicy, plan: RoundPlan) -> Any:
        """Return what the contribution takes besides the subjects' own: models, a training kit.

        Raises:
            FederationError: "federation.plan_refused" if this device cannot answer such a plan.
        """
        ...

    def gather(self, ready: Any, transaction: VaultTransaction, handle: SubjectHandle, plan: RoundPlan) -> Any | None:
        """Return what the contribution takes of one subject, or None if there is nothing.

        MUST NOT be called without consent in force for `purpose`; MUST return copies: the transaction ends before they are used.
        """
        ...

    def contribute(self, ready: Any, plan: RoundPlan, gathered: Sequence[Any]) -> Contribution:
        """Return the contribution of all these subjects together.

        Raises:
            FederationError: "federation.nothing_to_contribute", "federation.plan_refused", "federation.invalid_update".
        """
        ...


@runtime_checkable
class Startable(Protocol):
    """A kind of round whose plan may name the numbers that it begins with."""

    def start_from(self, ready: Any, plan: RoundPlan, start: bytes) -> Any:
        """Return `ready` with these numbers, checked against the plan, in the place of the model's at the plan's level.

        For the contribution alone: MUST NOT change the model that people are recognised with.
        """
        ...


@dataclass(frozen=True, slots=True)
class StatedContribution:
    """The test double: every subject has something, and the contribution is what a function says.

    Attributes:
        purpose: asked for.
        make: plan and number of subjects -> contribution.
    """

    purpose: Purpose
    make: Callable[[RoundPlan, int], Contribution]

    def ready(self, context: FlowContext, policy: FederationPolicy, plan: RoundPlan) -> None:
        """Nothing is needed."""

    def gather(self, ready: Any, transaction: VaultTransaction, handle: SubjectHandle, plan: RoundPlan) -> object:
        """Return something."""
        return object()

    def contribute(self, ready: Any, plan: RoundPlan, gathered: Sequence[Any]) -> Contribution:
        """Return what the function says."""
        return self.make(plan, len(gathered))


def contributing_kinds() -> Mapping[Kind, Contributing]:
    """Return the adapter of each kind of round that this device can answer."""
    # Imported here: a device that only verifies loads nothing of it.
    from facekeep.flows.statistics_rounds import CalibrationContribution, DemographicContribution
    from facekeep.flows.training_rounds import TrainingContribution

    return {
        Kind.TRAINING: TrainingContribution(),
        Kind.CALIBRATION: CalibrationContribution(),
        Kind.DEMOGRAPHIC: DemographicContribution(),
    }
