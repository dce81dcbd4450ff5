"""Which packs may be loaded, and which build of a pack is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from facekeep.errors import ModelError
from facekeep.packs.manifest import Manifest

_Candidate = TypeVar("_Candidate")
_NOISE = 1.1


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """What a device accepts. Checked each time a pack is loaded, not only when it is installed.

    Attributes:
        commercial_only: refuse packs whose manifest does not permit commercial use.
        consented_only: refuse packs whose training data shows people who did not agree to it.
    """

    commercial_only: bool = False
    consented_only: bool = False

    def require(self, manifest: Manifest) -> None:
        """Return if `manifest` may be loaded.

        Raises:
            ModelError: "model.not_permitted" with the reason.
        """
        if self.commercial_only and "commercial" not in manifest.permitted_uses:
            raise ModelError(
                "model.not_permitted",
                f"Pack {manifest.id!r} is for {' and '.join(manifest.permitted_uses)} only; the policy wants commercial use. "
                f"{manifest.licence.note or manifest.training_data.description}",
            )
        if self.consented_only and not manifest.training_data.consented:
            raise ModelError(
                "model.not_permitted",
                f"Pack {manifest.id!r} was not trained on documented consent, which the policy wants. "
                f"{manifest.training_data.description}",
            )


def choose_build(candidates: Sequence[_Candidate], measure: Callable[[_Candidate], float]) -> _Candidate:
    """Return the candidate that `measure` finds fastest on this machine; of those within a tenth of it the first.

    Precision is no hint: an int8 file is slower than the fp32 one on several boards. A candidate that cannot be measured
    here (its runtime is missing, its file is damaged) is passed over as long as another one can. Small differences are noise,
    and two boards of one batch should not differ by noise.

    Args:
        candidates: at least one.
        measure: seconds that one inference takes, infinity for a last resort; raises ModelError where the candidate does
            not run.

    Raises:
        ModelError: of the first candidate, if none runs.
    """
    if not candidates:
        raise ValueError("a choice needs candidates")
    measured: list[tuple[float, _Candidate]] = []
    refused: ModelError | None = None
    for candidate in candidates:
        try:
            seconds = measure(candidate)
        except ModelError as error:
            refused = refused or error
            continue
        if math.isnan(seconds):
            raise ValueError("a measurement is a number of seconds")
        measured.append((seconds, candidate))
    if not measured:
        # Every candidate was refused, so there is an error to raise.
        raise refused or ModelError("model.invalid_model", "No build runs here.")
    shortest = min(seconds for seconds, _ in measured)
    return next(candidate for seconds, candidate in measured if seconds <= shortest * _NOISE)
