"""How a device trains: the part of a signed plan that local training reads. Every number has a range, so that no plan can ask a
device for hours of work or for a step that destroys the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from facekeep.errors import FederationError

Optimiser = Literal["sgd", "adam"]
Schedule = Literal["constant", "cosine", "linear"]
Near = Literal["start", "centre"]
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "optimiser": ("sgd", "adam"),
    "schedule": ("constant", "cosine", "linear"),
    "keep_near": ("start", "centre"),
}
_WHOLE: Final[dict[str, tuple[int, int]]] = {
    "steps": (1, 256),
    "batch": (1, 64),
    "warm_up": (0, 256),
    "negatives": (1, 4096),
    "mine_every": (0, 256),
    "patience": (0, 256),
}
_NUMBERS: Final[dict[str, tuple[float, float]]] = {
    "rate": (1e-6, 10.0),
    "momentum": (0.0, 0.99),
    "margin": (0.0, 1.0),
    "scale": (1.0, 128.0),
    "keep": (0.0, 100.0),
    "least_improvement": (0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Optimiser, schedule, loss and early stop.

    Attributes:
        steps: at the most.
        batch: samples in one step; all of them where there are fewer.
        optimiser: "sgd" with `momentum`, or "adam" (Kingma and Ba 2015; 0.9, 0.999).
        rate: step size.
        momentum: of "sgd".
        schedule: of the rate from its full value to zero over `steps`, or constant.
        warm_up: steps over which the rate rises to its full value.
        margin: by which the cosine to the own person has to win.
        scale: of the cosines before softmax.
        keep: weight of staying near the old model.
        keep_near: what of the old model: "start", what it says of the same sample (or the samples' stated references), so that
            nothing moves without need; or "centre", the person's own centre, an embedding of the old model too, so that what
            moves moves there.
        negatives: how many anchors, the nearest ones, stand beside the device's own people.
        mine_every: steps after which the nearest anchors are looked for again; 0 for once, at the beginning.
        patience: steps without improvement after which training stops; 0 for never.
        least_improvement: of the loss, in parts of it, that counts.
    """

    steps: int = 4
    batch: int = 16
    optimiser: Optimiser = "sgd"
    rate: float = 0.1
    momentum: float = 0.0
    schedule: Schedule = "constant"
    warm_up: int = 0
    margin: float = 0.2
    scale: float = 16.0
    keep: float = 1.0
    keep_near: Near = "start"
    negatives: int = 128
    mine_every: int = 0
    patience: int = 0
    least_improvement: float = 0.0

    def __post_init__(self) -> None:
        for name, words in _WORDS.items():
            if getattr(self, name) not in words:
                raise ValueError(f"{name} is one of {', '.join(words)}")
        for name, (low, high) in _WHOLE.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ValueError(f"{name} is a whole number from {low} to {high}")
        for name, (least, greatest) in _NUMBERS.items():
            value = getattr(self, name)
            if type(value) is not float or not math.isfinite(value) or not least <= value <= greatest:
                raise ValueError(f"{name} is a number from {least} to {greatest}")
        if self.warm_up > self.steps:
            raise ValueError("the rate has risen before the last step")

    def to_value(self) -> dict[str, object]:
        """Return canonical-JSON values; numbers that may have a fraction as text, in their shortest spelling."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: repr(value) if isinstance(value, float) else value for name, value in values.items()}


def parse_training_settings(value: object) -> TrainingSettings:
    """Return the settings of `TrainingSettings.to_value`: every member, no other, each in its one spelling.

    Raises:
        FederationError: "federation.malformed".
    """
    try:
        names = {field.name for field in fields(TrainingSettings)}
        if not isinstance(value, Mapping) or set(value) != names:
            raise ValueError("other members")
        members: dict[str, Any] = {name: _number(value[name]) if name in _NUMBERS else value[name] for name in names}
        return TrainingSettings(**members)
    except (ValueError, TypeError) as error:
        raise FederationError("federation.malformed", f"The training settings are not well formed: {error}.") from error


def _number(text: object) -> float:
    if not isinstance(text, str) or len(text) > 32 or repr(number := float(text)) != text:
        raise ValueError("a number is text in its shortest spelling")
    return number
