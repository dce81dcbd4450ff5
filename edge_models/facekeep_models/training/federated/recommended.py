"""The settings that the figures were reached with, for whoever plans rounds of a real fleet. Chosen on validation people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from facekeep.training.settings import TrainingSettings
from facekeep_models.training.federated.network import Level
from facekeep_models.training.federated.objective import Objective


@dataclass(frozen=True, slots=True)
class Plan:
    """How a fleet trains.

    Attributes:
        rounds: each of all devices.
        level: what is trained.
        local_steps: of gradient descent on a device, over all its captures, in one round.
        local_rate: length of such a step; so long that nearly every change is clipped, so that all devices count alike.
        clip: largest L2 norm of what a device sends.
        server_rate: of Adam on the server, falling to nothing along a cosine.
        server_momentum: of Adam on the server, first moment.
        server_memory: of Adam on the server, second moment.
        objective: the loss.
        day_weight: how often a picture by day counts.
        epsilon: privacy of a device over all rounds; 0 for none.
        delta: beside it.
        minimum: share of the fleet without whom a round is given up; noise is counted of so many.
        dropped: share of the fleet that drops out of each round.
        clip_units: the clip in units of the ring.
    """

    rounds: int
    level: Level = "channels"
    local_steps: int = 1
    local_rate: float = 0.05
    clip: float = 0.25
    server_rate: float = 0.005
    server_momentum: float = 0.8
    server_memory: float = 0.95
    objective: Objective = field(default_factory=Objective)
    day_weight: float = 1.0
    epsilon: float = 0.0
    delta: float = 1e-5
    minimum: float = 0.9
    dropped: float = 0.1
    clip_units: int = 2500


# The same for a device, as a signed plan states it. `keep` pulls to the template of the person: pulled to the old model's answer to
# each picture, nothing could be learnt. The recipe pulls pictures by day to the old model's answer, which lies near the template.
ON_DEVICE: Final = TrainingSettings(
    steps=1,
    batch=64,
    optimiser="sgd",
    rate=0.05,
    momentum=0.0,
    margin=0.2,
    scale=24.0,
    keep=30.0,
    keep_near="centre",
    negatives=256,
)
# Of the sum, the server uses the numbers before the second stage only, the first of the flat vector (`Network.early`).
USED_NUMBERS: Final = 992
WITHOUT_NOISE: Final = Plan(rounds=30)
WITH_NOISE: Final = Plan(rounds=12, epsilon=8.0)
