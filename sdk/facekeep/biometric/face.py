"""What the stages say about one face in a frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric.arrays import frozen_copy


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One face found in a frame.

    Attributes:
        box_px: (left, top, width, height) in pixels of the frame; may reach over its border.
        landmarks_px: (5, 2) float32 (x, y) in pixels of the frame: image-left eye, image-right eye, nose tip, image-left
            and image-right corner of the mouth; None where the detector gives none. "Image-left" is as the viewer sees it.
        confidence: the detector's own score, 0 to 1; comparable within one detector only.
    """

    box_px: tuple[float, float, float, float]
    landmarks_px: NDArray[np.float32] | None = field(repr=False)
    confidence: float

    def __post_init__(self) -> None:
        left, top, width, height = (float(v) for v in self.box_px)
        if not all(math.isfinite(v) for v in (left, top, width, height)) or width <= 0 or height <= 0:
            raise ValueError("a box is finite and has an area")
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError("a confidence lies in 0 to 1")
        object.__setattr__(self, "box_px", (left, top, width, height))
        if self.landmarks_px is not None:
            points = np.asarray(self.landmarks_px, dtype=np.float32)
            if points.shape != (5, 2) or not np.isfinite(points).all():
                raise ValueError("landmarks are (5, 2) and finite")
            object.__setattr__(self, "landmarks_px", frozen_copy(points))

    def __repr__(self) -> str:
        return f"Detection(confidence={self.confidence:.2f}, landmarks={self.landmarks_px is not None})"


@dataclass(frozen=True, slots=True)
class HeadPose:
    """Angles of the head in degrees, zero when it faces the camera.

    Attributes:
        yaw_degrees: positive when the subject turns towards the viewer's right side of the image.
        pitch_degrees: positive when the subject looks up.
        roll_degrees: positive when the head leans clockwise as the viewer sees it.
    """

    yaw_degrees: float
    pitch_degrees: float
    roll_degrees: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.yaw_degrees, self.pitch_degrees, self.roll_degrees)):
            raise ValueError("angles are finite")


@dataclass(frozen=True, slots=True)
class QualityReport:
    """How fit a face sample is for recognition, in the spirit of ISO/IEC 29794-5.

    Attributes:
        score: unified score, 0 (unfit) to 100; the weakest component decides.
        components: name of each component and its own score, 0 to 100.
        pose: head pose estimated from the landmarks.
        refused_for: components below their floor, worst first; empty when the sample is admitted.
    """

    score: int
    components: tuple[tuple[str, int], ...]
    pose: HeadPose
    refused_for: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 100 or any(not 0 <= value <= 100 for _, value in self.components):
            raise ValueError("quality lies in 0 to 100")

    @property
    def is_admissible(self) -> bool:
        """Whether every component reaches its floor."""
        return not self.refused_for


class PADOutcome(StrEnum):
    """Result of presentation attack detection, ISO/IEC 30107-3."""

    BONA_FIDE = "bona_fide"
    ATTACK = "attack"
    UNDETERMINED = "undetermined"
    NOT_EXAMINED = "not_examined"


@dataclass(frozen=True, slots=True)
class PADReport:
    """What presentation attack detection said of a sample.

    Attributes:
        outcome: the classification.
        detectors: ids of the packs that were asked, empty when none is configured.
    """

    outcome: PADOutcome
    detectors: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.outcome is PADOutcome.NOT_EXAMINED) != (not self.detectors):
            raise ValueError("a report names its detectors exactly when the sample was examined")
