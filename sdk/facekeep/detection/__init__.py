"""Finding faces: one decoder per family of detectors, all behind `facekeep.ports.Detector`. Pure.

Every detector maps what it finds back to pixels of the frame it was given. A frame with a side under
`SMALLEST_SIDE_PX` holds no face that anything could recognise and is refused; larger ones are reduced to the input of the
model, never enlarged unless the input has a fixed size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from facekeep.contract import InputContract
from facekeep.detection.fitting import SMALLEST_SIDE_PX
from facekeep.detection.suppression import non_maximum_suppression
from facekeep.errors import ModelError
from facekeep.ports import Detector, Session

# Confidence from which a detection counts, per family; scores of different families are not comparable. YuNet: on 16 counted
# photographs the faintest face scores 0.85 and the strongest mistake 0.74; none of 895 pictures without faces reaches 0.75.
DEFAULT_CONFIDENCE: Final[Mapping[str, float]] = {"yunet": 0.8, "rfb320": 0.7, "blazeface": 0.5, "points": 0.5}
FAMILIES: Final = tuple(DEFAULT_CONFIDENCE)
DEFAULT_LONGEST_SIDE_PX: Final = 640

__all__ = [
    "DEFAULT_CONFIDENCE",
    "DEFAULT_LONGEST_SIDE_PX",
    "FAMILIES",
    "SMALLEST_SIDE_PX",
    "non_maximum_suppression",
    "open_detector",
]


def open_detector(
    family: str,
    session: Session,
    input: InputContract,  # noqa: A002 - the word of the manifest
    *,
    longest_side: int = DEFAULT_LONGEST_SIDE_PX,
    confidence: float | None = None,
    options: Mapping[str, str] | None = None,
) -> Detector:
    """Return the detector of a family.

    Args:
        family: "yunet", "rfb320", "blazeface" or "points".
        session: the loaded model.
        input: its input contract.
        longest_side: for an input of free size, longest side in pixels a frame is reduced to. Time grows with its square;
            the smallest face found is about 10 px of the reduced frame.
        confidence: least confidence, 0 to 1; the default of the family unless told.
        options: "overlap": greatest intersection over union of two faces, 0.3 unless told. "landmark_power", family "yunet":
            the landmarks of a face are the mean over the cells that found it, weighted by this power of their confidence, 0 to
            16; those of the most confident cell unless told.

    Raises:
        ModelError: "model.invalid_manifest" for an unknown family, option or number out of range;
            "model.invalid_model" if the outputs of the model are not those of the family.
    """
    settings = dict(options or {})
    try:
        overlap = float(settings.pop("overlap", "0.3"))
        power = float(settings.pop("landmark_power")) if family == "yunet" and "landmark_power" in settings else None
    except ValueError:
        raise ModelError("model.invalid_manifest", "The options overlap and landmark_power are numbers.") from None
    if family not in DEFAULT_CONFIDENCE:
        raise ModelError("model.invalid_manifest", f"Detector families are {', '.join(FAMILIES)}; found {family!r}.")
    least = DEFAULT_CONFIDENCE[family] if confidence is None else confidence
    in_range = 0.0 <= overlap <= 1.0 and 0.0 < least <= 1.0 and (power is None or 0.0 <= power <= 16.0)
    if settings or not in_range or longest_side < 32:
        raise ModelError(
            "model.invalid_manifest",
            "A detector takes the option overlap (0 to 1), YuNet landmark_power as well (0 to 16), a confidence over 0 and up to "
            "1, and a longest side of 32 px or more.",
        )
    # Each family is imported where it is asked for: a device uses one.
    if family == "yunet":
        from facekeep.detection.yunet import YuNetDetector

        return YuNetDetector(session, input, longest_side=longest_side, confidence=least, overlap=overlap, landmark_power=power)
    if family == "rfb320":
        from facekeep.detection.rfb import RFBDetector

        return RFBDetector(session, input, confidence=least, overlap=overlap)
    if family == "blazeface":
        from facekeep.detection.blazeface import BlazeFaceDetector

        return BlazeFaceDetector(session, input, confidence=least, overlap=overlap)
    from facekeep.detection.points import PointsDetector

    return PointsDetector(session, input, longest_side=longest_side, confidence=least)
