"""Presentation attack detection: is this a person, or a picture or screen of one (ISO/IEC 30107-3). Pure.

A single picture can only be examined for what prints and screens do to it: texture, glare, edges. A mask of good quality or a
sharp screen in good light passes; treat "bona fide" as a filter, not as a proof of life.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame, PADOutcome, PADReport
from facekeep.contract import InputContract
from facekeep.errors import ModelError
from facekeep.ports import PADetector, Session
from facekeep.resampling import LARGEST_FACTOR, box_reduce, to_tensor

# A smaller face holds none of the texture that tells a print from skin: no guess is made about it.
SMALLEST_BOX_PX = 32
_Recipe = Literal["minivision", "celebaspoof"]


class MiniFASDetector:
    """A texture classifier of the MiniFAS family: implements `facekeep.ports.PADetector`.

    Args:
        pack_id: id of the pack, for the report.
        session: the model: one input, one output of class logits.
        input: its contract: crop "box" and `crop_scale`.
        bona_fide_class: index of the class of live people.
        accept_at: probability of that class from which a sample is bona fide.
        reject_at: probability up to which it is an attack; in between it is undetermined.
        recipe: how the crop is cut, which each model learnt from. "minivision" (MiniFASNetV2,
            minivision-ai/Silent-Face-Anti-Spoofing, src/generate_patches.py): the box times the scale, shrunk and shifted to lie
            inside the picture, bilinear. "celebaspoof" (VietAnh954/face-antispoof-onnx): a square of the longer side times the
            scale, the picture mirrored beyond its border, averaged where it is reduced.

    Raises:
        ModelError: "model.invalid_manifest" or "model.invalid_model".
    """

    def __init__(
        self,
        pack_id: str,
        session: Session,
        input: InputContract,  # noqa: A002
        *,
        bona_fide_class: int,
        accept_at: float,
        reject_at: float,
        recipe: _Recipe = "minivision",
    ) -> None:
        if input.crop != "box" or not 0.0 <= reject_at < accept_at <= 1.0 or recipe not in ("minivision", "celebaspoof"):
            raise ModelError(
                "model.invalid_manifest",
                'MiniFAS takes the crop "box", a known recipe, and probabilities with reject_at below accept_at.',
            )
        if len(session.inputs) != 1 or len(session.outputs) != 1 or bona_fide_class < 0:
            raise ModelError("model.invalid_model", "MiniFAS has one input, one output and a bona fide class.")
        self._pack_id = pack_id
        self._session = session
        self._name = next(iter(session.inputs))
        self._input = input
        self._bona_fide_class = bona_fide_class
        self._accept_at = accept_at
        self._reject_at = reject_at
        self._recipe = recipe

    def examine(self, frame: Frame, detection: Detection) -> PADReport:
        """Return whether the face at `detection` is bona fide, an attack, or undetermined.

        Raises:
            ModelError: "model.invalid_model" if the model gives no finite class logits.
        """
        _, _, width, height = detection.box_px
        if min(width, height) < SMALLEST_BOX_PX:
            return self._report(PADOutcome.UNDETERMINED)
        probability = self.bona_fide_probability(frame, detection)
        if probability >= self._accept_at:
            return self._report(PADOutcome.BONA_FIDE)
        return self._report(PADOutcome.ATTACK if probability <= self._reject_at else PADOutcome.UNDETERMINED)

    def bona_fide_probability(self, frame: Frame, detection: Detection) -> float:
        """Return the probability of the bona fide class, for setting thresholds.

        Raises:
            ModelError: "model.invalid_model" if the model gives no finite class logits.
        """
        cut = _shifted_crop if self._recipe == "minivision" else _square_crop
        crop = cut(frame.pixels, detection.box_px, self._input)
        logits = np.asarray(self._session.run({self._name: to_tensor(crop, self._input)})[0], np.float64)
        if logits.ndim != 2 or logits.shape[0] != 1 or logits.shape[1] <= self._bona_fide_class or not np.isfinite(logits).all():
            raise ModelError("model.invalid_model", "The attack detector gave no finite logits for its classes.")
        weights = np.exp(logits[0] - logits[0].max())
        return float(weights[self._bona_fide_class] / weights.sum())

    def _report(self, outcome: PADOutcome) -> PADReport:
        return PADReport(outcome, (self._pack_id,))


class CombinedPADetector:
    """Several detectors as one: any attack is an attack, else any doubt is a doubt.

    Args:
        detectors: at least one; asked in this order, up to the first that sees an attack.
    """

    def __init__(self, detectors: Sequence[PADetector]) -> None:
        if not detectors:
            raise ValueError("a combination needs at least one detector")
        self._detectors = tuple(detectors)

    def examine(self, frame: Frame, detection: Detection) -> PADReport:
        """Return the gravest outcome, with the detectors that were asked."""
        asked: tuple[str, ...] = ()
        gravest = PADOutcome.BONA_FIDE
        for detector in self._detectors:
            report = detector.examine(frame, detection)
            asked += report.detectors
            if report.outcome is PADOutcome.ATTACK:
                return PADReport(PADOutcome.ATTACK, asked)
            if report.outcome is not PADOutcome.BONA_FIDE:
                gravest = PADOutcome.UNDETERMINED
        return PADReport(gravest, asked)


def _shifted_crop(
    pixels: NDArray[np.uint8], box_px: tuple[float, float, float, float], contract: InputContract
) -> NDArray[np.uint8]:
    """Cut as CropImage of Silent-Face-Anti-Spoofing does: the scaled box, moved to lie inside the picture."""
    left, top, width, height = box_px
    last_x, last_y = pixels.shape[1] - 1, pixels.shape[0] - 1
    scale = min(contract.crop_scale, last_x / width, last_y / height)
    x0, x1 = _moved_inside(left + width / 2, width * scale, last_x)
    y0, y1 = _moved_inside(top + height / 2, height * scale, last_y)
    return np.ascontiguousarray(pixels[y0 : y1 + 1, x0 : x1 + 1])


def _moved_inside(centre: float, length: float, last: int) -> tuple[int, int]:
    start = min(max(centre - length / 2, 0.0), last - length)
    # A box of a detector may lie outside altogether; rounding may pass the border by one.
    return max(0, int(start)), min(last, max(0, int(start + length)))


def _square_crop(
    pixels: NDArray[np.uint8], box_px: tuple[float, float, float, float], contract: InputContract
) -> NDArray[np.uint8]:
    """Cut a square around the box, mirrored beyond the border, reduced by a whole factor towards the size of the input."""
    left, top, width, height = box_px
    longest = max(width, height)
    side = max(1, int(longest * contract.crop_scale))
    x0, y0 = (math.floor(start) for start in (left + width / 2 - side / 2, top + height / 2 - side / 2))
    rows = _mirrored(np.arange(y0, y0 + side), pixels.shape[0])
    columns = _mirrored(np.arange(x0, x0 + side), pixels.shape[1])
    crop = pixels[rows[:, None], columns]
    target = contract.size_px or (side, side)
    return box_reduce(crop, min(max(1, side // max(target)), LARGEST_FACTOR))


def _mirrored(indices: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Return indices reflected at the border without repeating its pixel, as BORDER_REFLECT_101 of OpenCV."""
    if size == 1:
        return np.zeros_like(indices)
    period = 2 * (size - 1)
    folded = np.mod(indices, period)
    mirrored: NDArray[np.intp] = np.minimum(folded, period - folded)
    return mirrored
