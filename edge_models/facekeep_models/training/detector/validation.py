"""Figures of a detector on pictures, against boxes and landmarks that are taken for true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame
from facekeep.contract import InputContract
from facekeep.detection import open_detector
from facekeep.ports import Detector as DetectorPort
from facekeep_models.training.detector.network import OUTPUTS, Detector
from facekeep_models.training.detector.pictures import Pictures
from facekeep_models.training.detector.teacher import SURE, row_of

CONTRACT: Final = InputContract("NCHW", "RGB", None, 32)
# Landmarks are the mean over the cells of a face, weighted by this power of their confidence. Chosen on held-out pictures of LFW,
# where powers from 6 on are alike and better than both the plain mean and the best cell alone.
LANDMARK_POWER: Final = 8
OPTIONS: Final = {"landmark_power": str(LANDMARK_POWER)}
SAME_FACE: Final = 0.4
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
Detect = Callable[[Frame], tuple[Detection, ...]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What was found of what was there.

    Attributes:
        faces: how many were asked for.
        recall: share of them found.
        extra: finds that are neither a face that was asked for nor one that was suspected.
        landmark_error: median over found faces of the mean distance of the five landmarks, in units of the distance of the eyes;
            1 where none was found.
        pictures: number of pictures.
    """

    faces: int
    recall: float
    extra: int
    landmark_error: float
    pictures: int


class TorchSession:
    """The network as a session, so that training is measured through the decoder that ships."""

    def __init__(self, network: Detector) -> None:
        self._network = network.eval()

    @property
    def inputs(self) -> Mapping[str, tuple[int | None, ...]]:
        """One input, batch of one, any height and width."""
        return {"input": (1, 3, None, None)}

    @property
    def outputs(self) -> tuple[str, ...]:
        """`network.OUTPUTS`."""
        return OUTPUTS

    @torch.no_grad()
    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs for one tensor."""
        return [output.numpy() for output in self._network(torch.from_numpy(np.ascontiguousarray(inputs["input"])))]


def open_network(network: Detector, *, confidence: float) -> DetectorPort:
    """Return the detector that decodes a network which is still being trained; on the CPU."""
    return open_detector("yunet", TorchSession(network), CONTRACT, confidence=confidence, options=OPTIONS)


def compare(cases: Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]], detect: Detect, *, least_px: float) -> Figures:
    """Return the figures over (pixels, (K, 15) faces): sure ones of `least_px` and more are asked for, others may be found."""
    asked = found = extra = pictures = 0
    errors: list[float] = []
    for pixels, faces in cases:
        pictures += 1
        rows = np.array([row_of(face) for face in detect(Frame(np.ascontiguousarray(pixels), _NOW))]).reshape(-1, 15)
        overlap = overlaps(faces[:, :4], rows[:, :4])
        size = np.sqrt(np.maximum((faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1]), 0))
        wanted = np.flatnonzero((faces[:, 4] >= SURE) & (size >= least_px))
        asked += len(wanted)
        if len(rows):
            extra += int((overlap.max(axis=0, initial=0) < SAME_FACE / 2).sum())
            for place in wanted[overlap[wanted].max(axis=1, initial=0) >= SAME_FACE]:
                ours, theirs = rows[int(overlap[place].argmax()), 5:].reshape(5, 2), faces[place, 5:].reshape(5, 2)
                eyes = max(float(np.linalg.norm(theirs[1] - theirs[0])), 1.0)
                errors.append(float(np.linalg.norm(ours - theirs, axis=1).mean()) / eyes)
                found += 1
    return Figures(asked, found / max(asked, 1), extra, float(np.median(errors)) if errors else 1.0, pictures)


def overlaps(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (N, M) intersection over union of (N, 4) and (M, 4) boxes."""
    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    inner = np.prod(np.maximum(high - low, 0).astype(np.float64), axis=2)
    areas = [np.prod((boxes[:, 2:] - boxes[:, :2]).astype(np.float64), axis=1) for boxes in (ours, theirs)]
    return np.asarray(inner / np.maximum(areas[0][:, None] + areas[1][None] - inner, 1e-9))


def held_out_cases(pictures: Pictures, limit: int) -> list[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Return up to `limit` held-out pictures, spread over all of them, with their faces."""
    places = np.flatnonzero(pictures.held_out)
    chosen = places[np.linspace(0, len(places) - 1, min(limit, len(places))).astype(int)] if len(places) else places
    return [(pictures.picture(int(each)), pictures.faces_of(int(each))) for each in chosen]
