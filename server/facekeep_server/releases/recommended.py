"""Settings that the figures of docs/models/federated.md were reached with, as defaults for plans and releases.

Copied from `facekeep_models.training.federated.recommended`: this package imports nothing of the recipes. A test compares the two.
"""

from __future__ import annotations

from typing import Final

from facekeep.protocol import Level
from facekeep.training.parameters import ParameterTable
from facekeep_server.releases.optimising import ServerOptimiser

LEVEL: Final = Level.CHANNELS
CLIP: Final = 0.25
ROUNDS: Final = 12
OPTIMISER: Final = ServerOptimiser("adam", rate=0.005, momentum=0.8, memory=0.95, rounds=ROUNDS)
# Of the 5,408 numbers of facekeep-embedder at the level `channels`: what lies before the second stage. Behind it a fleet is learnt
# by heart. All are trained all the same: trained alone, those before it gained less and lost by day.
USED: Final = 992
_WHOLE: Final = 5408
# NAME=VALUE of `facekeep.training.TrainingSettings`; one step over everything that a device has.
# Near the person's own template: near the old model's answer to a poor picture, `keep` would forbid what is to be learnt.
TRAINING: Final = (
    "steps=1",
    "batch=64",
    "rate=0.05",
    "margin=0.2",
    "scale=24.0",
    "keep=30.0",
    "keep_near=centre",
    "negatives=256",
)


def used_of(table: ParameterTable, level: Level, trained: int) -> int:
    """Return how many of the numbers that rounds trained, the first of them, should change; 0 for all.

    Args:
        table: of the model.
        level: that was trained.
        trained: how many numbers of it.
    """
    measured = level is LEVEL and table.length_of(level.value) == _WHOLE
    return USED if measured and trained > USED else 0
