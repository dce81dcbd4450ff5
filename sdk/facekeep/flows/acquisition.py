"""From a picture to an embedding: steps 1 to 7, shared by enrol, verify and identify.

The caller has passed the consent gate (step 0): every function here takes the grant or runs behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.biometric import Detection, Embedding, FaceSample, Frame, PADOutcome, PADReport
from facekeep.clock import Clock
from facekeep.consent import ConsentGrant
from facekeep.errors import AcquisitionError
from facekeep.flows.context import FeatureModels, Models, Settings
from facekeep.ports import Camera, FeatureEmbedder
from facekeep.quality import assess

Source: TypeAlias = Frame | NDArray[Any] | str | PathLike[str] | Camera

_NOT_EXAMINED = PADReport(PADOutcome.NOT_EXAMINED)


@dataclass(frozen=True, slots=True)
class Acquired:
    """One face of one frame, admitted and embedded.

    Attributes:
        detection: where it is in the frame.
        sample: the admitted crop.
        embedding: the probe.
        features: (F,) float32, what the embedder's last linear map was applied to; empty where the embedder offers none.
    """

    detection: Detection
    sample: FaceSample = field(repr=False)
    embedding: Embedding
    features: NDArray[np.float32] = field(repr=False)


def obtain_frame(source: Source, grant: ConsentGrant, clock: Clock, settings: Settings) -> Frame:
    """Return the frame of a picture file, an array or a camera; a camera is opened only with the grant in hand.

    Raises:
        AcquisitionError: if there is no readable picture.
    """
    if isinstance(source, Frame):
        return source
    if hasattr(source, "capture"):
        frame = source.capture(grant)
        if not isinstance(frame, Frame):
            raise AcquisitionError("acquisition.camera", f"The camera gave a {type(frame).__name__} where a frame is expected.")
        return frame
    from facekeep.capture import as_frame

    return as_frame(source, clock, max_pixels=settings.max_pixels)


def find_single_face(frame: Frame, models: Models, settings: Settings) -> Detection:
    """Return the one face of `frame`; with `bystanders="ignored"` the most prominent.

    Raises:
        AcquisitionError: "acquisition.no_face" or "acquisition.several_faces".
    """
    detections = models.detector.detect(frame)
    if not detections:
        raise AcquisitionError("acquisition.no_face", "No face was found. Face the camera, closer and in even light.")
    if len(detections) > 1 and settings.bystanders == "refused":
        # Taking the largest would let a bystander be enrolled or verified in the subject's name.
        raise AcquisitionError(
            "acquisition.several_faces", f"One face is expected; {len(detections)} were found. Let one person face the camera."
        )
    return max(detections, key=lambda detection: _prominence(detection, frame))


def _prominence(detection: Detection, frame: Frame) -> float:
    """Return the area of a face less twice the squared distance of its centre from the middle of the frame, in square pixels.

    Of two faces of like size the one the camera was pointed at counts.
    """
    left, top, width, height = detection.box_px
    off_x, off_y = left + (width - frame.width) / 2, top + (height - frame.height) / 2
    return width * height - 2.0 * (off_x * off_x + off_y * off_y)


def acquire_face(frame: Frame, detection: Detection, models: Models, settings: Settings) -> Acquired:
    """Return the admitted and embedded sample of one detected face: steps 3 to 7.

    Raises:
        AcquisitionError: if quality or presentation attack detection refuses the sample; it is not embedded then.
        ComparisonError: "comparison.invalid_embedding".
    """
    crop = align(frame, detection)
    quality = assess(frame, detection, crop, settings.quality)
    # A sample refused for quality is not worth the cost of presentation attack detection.
    pad = models.pad.examine(frame, detection) if models.pad is not None and quality.is_admissible else _NOT_EXAMINED
    sample = FaceSample.admit(crop, quality, pad)
    return Acquired(detection, sample, *embed_sample(sample, models))


def embed_sample(sample: FaceSample, models: Models) -> tuple[Embedding, NDArray[np.float32]]:
    """Return the embedding of an admitted sample, and its features, empty where the embedder offers none: step 7.

    Raises:
        ComparisonError: "comparison.invalid_embedding".
    """
    embedder = models.embedder
    if isinstance(embedder, FeatureEmbedder) and embedder.has_features:
        vector, features = embedder.embed_with_features(sample.pixels)
    else:
        vector, features = embedder.embed(sample.pixels), np.empty(0, np.float32)
    return Embedding(vector, models.contract_id), features


def feature_base_of(models: Models) -> str:
    """Return what everything in front of the embedder's last linear map is known by: the contract, where nothing finer is."""
    return models.feature_base if isinstance(models, FeatureModels) else models.contract_id


def is_single(frames: object) -> bool:
    """Whether this is one source and not several: a picture file, an array and a camera are each one."""
    return not isinstance(frames, Iterable) or isinstance(frames, str | PathLike) or hasattr(frames, "dtype")
