"""What the model of synthetic people says of itself, for programs: the small JSON file beside the weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from facekeep.errors import ModelError
from facekeep_models.people.model import CARD

FACTS_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Where the model comes from and what its pictures may be used for.

    Attributes:
        title: what it is.
        trained_on: the data, in words.
        consented: whether the people in the training pictures agreed to it.
        permitted_uses: words of a pack manifest: "research", "evaluation", "commercial".
        must_not: uses that are ruled out, in words.
        screen: what the privacy screen was: embedder, threshold, seeds tried and accepted, in words and numbers.
        tone_degrees: 5th, 25th, 50th, 75th and 95th percentile of the skin tone (individual typology angle of the cheeks) of the
            "training" pictures and of the "people". No label of anything exists; docs/models/people.md has an estimator's guesses.
    """

    title: str
    trained_on: str
    consented: bool
    permitted_uses: tuple[str, ...]
    must_not: tuple[str, ...]
    screen: dict[str, str | int | float]
    tone_degrees: dict[str, tuple[float, ...]]


@lru_cache(maxsize=1)
def model_facts() -> ModelFacts:
    """Return the facts of the model that ships.

    Raises:
        ModelError: "model.not_installed", "model.invalid_model".
    """
    return read_facts(CARD)


def read_facts(path: Path) -> ModelFacts:
    """Read the facts of a model.

    Raises:
        ModelError: "model.not_installed", "model.invalid_model".
    """
    try:
        stored = json.loads(path.read_text("utf-8"))
        if stored["facts_version"] != FACTS_VERSION or not isinstance(stored["consented"], bool):
            raise ValueError("version or consent")
        facts = ModelFacts(
            title=str(stored["title"]),
            trained_on=str(stored["trained_on"]),
            consented=stored["consented"],
            permitted_uses=tuple(map(str, stored["permitted_uses"])),
            must_not=tuple(map(str, stored["must_not"])),
            screen=dict(stored["screen"]),
            tone_degrees={str(name): tuple(map(float, values)) for name, values in stored["tone_degrees"].items()},
        )
    except FileNotFoundError as error:
        raise ModelError(
            "model.not_installed", f"The facts of the model of people are not at {path}. Install facekeep again."
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError("model.invalid_model", f"{path.name} does not hold the facts of a model of people.") from error
    return facts
