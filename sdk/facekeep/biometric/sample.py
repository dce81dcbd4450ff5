"""A face sample: the only thing an embedder may see, and only once it is admitted."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric.arrays import frozen_copy
from facekeep.biometric.face import PADOutcome, PADReport, QualityReport
from facekeep.errors import AcquisitionError

_MADE_BY_ADMIT = object()
_ADVICE = {
    "size": "Come closer.",
    "sharpness": "Hold still, or clean the lens.",
    "exposure": "Find more and more even light.",
    "pose": "Face the camera.",
    "framing": "Bring the whole head into the picture.",
    "visibility": "Show the face uncovered and upright.",
}


@dataclass(frozen=True, slots=True, eq=False)
class FaceSample:
    """An aligned face crop with the reports that admitted it. Made only by `FaceSample.admit`.

    Attributes:
        pixels: (112, 112, 3) uint8 RGB, aligned to the ArcFace template.
        quality: the report that admitted it.
        pad: the report that admitted it.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    quality: QualityReport
    pad: PADReport
    # Not a field: `dataclasses.replace` would carry a field over to a sample that nobody admitted.
    token: InitVar[object] = None

    def __post_init__(self, token: object) -> None:
        if token is not _MADE_BY_ADMIT:
            raise TypeError("a FaceSample is made by FaceSample.admit")

    @classmethod
    def admit(cls, pixels: NDArray[np.uint8], quality: QualityReport, pad: PADReport) -> FaceSample:
        """Return the sample if quality and presentation attack detection let it pass.

        Args:
            pixels: (112, 112, 3) uint8 RGB aligned crop.
            quality: its quality report.
            pad: its PAD report; only "bona fide" and, where no detector is configured, "not examined" pass.

        Raises:
            AcquisitionError: "acquisition.low_quality", "acquisition.presentation_attack" or
                "acquisition.pad_undetermined".
        """
        if pixels.shape != (112, 112, 3) or pixels.dtype != np.uint8:
            raise ValueError("a sample is (112, 112, 3) uint8")
        if pad.outcome is PADOutcome.ATTACK:
            raise AcquisitionError(
                "acquisition.presentation_attack",
                "The face looks like a picture or a screen. Show the person to the camera.",
            )
        if pad.outcome is PADOutcome.UNDETERMINED:
            # Fail closed: an undecided detector is no evidence of a live person.
            raise AcquisitionError(
                "acquisition.pad_undetermined",
                "Presentation attack detection could not decide. Try again with more light and the face in full view.",
            )
        if not quality.is_admissible:
            raise AcquisitionError(
                "acquisition.low_quality",
                f"The face sample scores {quality.score} of 100, refused for {', '.join(quality.refused_for)}. "
                f"{' '.join(_ADVICE.get(reason, '') for reason in quality.refused_for).strip() or 'Try again.'}",
            )
        return cls(frozen_copy(pixels), quality, pad, _MADE_BY_ADMIT)

    def __repr__(self) -> str:
        return f"FaceSample(quality={self.quality.score}, pad={self.pad.outcome.value})"
