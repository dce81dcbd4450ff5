"""A meter on a device: how often the camera and the models were asked, how long they took, what the detector said.

It is how the demo knows, and does not merely claim, that a refusal came before the camera and before any model.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame, OperatingPoint, PADReport
from facekeep.consent import ConsentGrant
from facekeep.demo.album import Picture
from facekeep.device import Device
from facekeep.flows.context import Models
from facekeep.ports import Detector, Embedder, PADetector


@dataclass(frozen=True, slots=True)
class Reading:
    """Calls so far.

    Attributes:
        captures: pictures taken by the camera.
        model_loads: times the models were asked for.
        detections: frames that the detector saw.
        examinations: faces that presentation attack detection saw.
        embeddings: face samples that the embedder saw.
    """

    captures: int = 0
    model_loads: int = 0
    detections: int = 0
    examinations: int = 0
    embeddings: int = 0

    def since(self, before: Reading) -> Reading:
        """Return the calls made after `before`."""
        return Reading(
            self.captures - before.captures,
            self.model_loads - before.model_loads,
            self.detections - before.detections,
            self.examinations - before.examinations,
            self.embeddings - before.embeddings,
        )

    @property
    def is_nothing(self) -> bool:
        """Whether nothing was asked at all."""
        return self == Reading()


@dataclass(slots=True)
class Meter:
    """What passed through the ports of a device.

    Attributes:
        on_biometric: called with every crop and every vector, so that the vault can be searched for them later.
        reading: calls so far.
        seconds: duration of every call by stage: "capture", "detect", "examine", "embed".
        models: the models once they are loaded.
    """

    on_biometric: Callable[[str, NDArray[np.generic]], None]
    reading: Reading = field(default_factory=Reading)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    models: Models | None = None
    _last: tuple[Frame, tuple[Detection, ...]] | None = None

    def install(self, device: Device) -> None:
        """Put the meter between `device` and its models; they are still loaded by the device and only when it needs them."""
        context = device._context
        load = context.load_models
        self.models = None

        def metered() -> Models:
            self.reading = replace(self.reading, model_loads=self.reading.model_loads + 1)
            if self.models is None:
                self.models = _MeteredModels(load(), self)
            return self.models

        device._context = replace(context, load_models=metered)

    def detections_in(self, frame: Frame) -> tuple[Detection, ...] | None:
        """Return what the detector found in exactly this frame, or None if it saw another since, or nothing."""
        return self._last[1] if self._last is not None and self._last[0] is frame else None

    def took(self, stage: str, started: float, **calls: int) -> None:
        """Note one call that began at `started` (`time.perf_counter`)."""
        self.seconds.setdefault(stage, []).append(time.perf_counter() - started)
        self.reading = replace(self.reading, **calls)

    def saw(self, frame: Frame, detections: tuple[Detection, ...]) -> None:
        """Keep what the detector said last."""
        self._last = frame, detections


@dataclass(slots=True)
class Shutter:
    """A camera that has one picture in front of it: the device decides whether and when it is read.

    Attributes:
        picture: what is in front of it.
        meter: counts the captures.
        frame: the frame, once the device has taken it.
    """

    picture: Picture
    meter: Meter
    frame: Frame | None = None

    def capture(self, grant: ConsentGrant) -> Frame:
        """Return the frame; read on the first call and kept for the next ones."""
        started = time.perf_counter()
        if self.frame is None:
            self.frame = self.picture.load()
            self.meter.took("capture", started)
        self.meter.reading = replace(self.meter.reading, captures=self.meter.reading.captures + 1)
        return self.frame


class _MeteredModels:
    def __init__(self, models: Models, meter: Meter) -> None:
        self._models = models
        self.detector: Detector = _MeteredDetector(models.detector, meter)
        self.embedder: Embedder = _MeteredEmbedder(models.embedder, meter)
        self.pad: PADetector | None = _MeteredPAD(models.pad, meter) if models.pad is not None else None

    @property
    def contract_id(self) -> str:
        return self._models.contract_id

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        return self._models.operating_points


class _MeteredDetector:
    def __init__(self, detector: Detector, meter: Meter) -> None:
        self._detector, self._meter = detector, meter

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        started = time.perf_counter()
        found = self._detector.detect(frame)
        self._meter.took("detect", started, detections=self._meter.reading.detections + 1)
        self._meter.saw(frame, found)
        return found


class _MeteredPAD:
    def __init__(self, pad: PADetector, meter: Meter) -> None:
        self._pad, self._meter = pad, meter

    def examine(self, frame: Frame, detection: Detection) -> PADReport:
        started = time.perf_counter()
        report = self._pad.examine(frame, detection)
        self._meter.took("examine", started, examinations=self._meter.reading.examinations + 1)
        return report


class _MeteredEmbedder:
    def __init__(self, embedder: Embedder, meter: Meter) -> None:
        self._embedder, self._meter = embedder, meter

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        started = time.perf_counter()
        vector = self._embedder.embed(crop)
        self._meter.took("embed", started, embeddings=self._meter.reading.embeddings + 1)
        self._meter.on_biometric("face sample", crop)
        self._meter.on_biometric("embedding", vector)
        return vector
