"""A device in front of drawn people: nobody's face, real models, a clock that moves only when told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facekeep import Device, KeyFile, Notice, PackStore, Purpose, Settings
from facekeep.assembly import LoadedModels, ModelChoice, load_models
from facekeep.biometric import Detection, Frame, OperatingPoint, PADOutcome, PADReport
from facekeep.clock import ManualClock
from facekeep.consent import ConsentGrant
from facekeep.packs import LoadPolicy
from facekeep.ports import Detector, Embedder
from facekeep_models.simulation import DrawnPerson, draw_frame

NOTICE = Notice("Your face is compared with the template you enrol, on this device only.", "en", "1")
ALL = frozenset({Purpose.ENROLMENT, Purpose.VERIFICATION, Purpose.IDENTIFICATION})


def picture(person: int, variation: int) -> NDArray[np.uint8]:
    return draw_frame(DrawnPerson(person), variation, (240, 320)).pixels


@dataclass
class Counting:
    """Ports that count how often they are called, so that a test can prove that one was not."""

    detector: Detector
    embedder: Embedder
    calls: list[str] = field(default_factory=list)
    verdict: PADOutcome = PADOutcome.BONA_FIDE

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        self.calls.append("detect")
        return self.detector.detect(frame)

    @property
    def dimension(self) -> int:
        return self.embedder.dimension

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls.append("embed")
        return self.embedder.embed(crop)

    def examine(self, frame: Frame, detection: Detection) -> PADReport:
        self.calls.append("examine")
        return PADReport(self.verdict, ("counting",))


@dataclass
class CountedModels:
    counting: Counting
    contract_id: str
    operating_points: tuple[OperatingPoint, ...]
    with_pad: bool = False

    @property
    def detector(self) -> Counting:
        return self.counting

    @property
    def embedder(self) -> Counting:
        return self.counting

    @property
    def pad(self) -> Counting | None:
        return self.counting if self.with_pad else None


class CountingCamera:
    """A camera that counts, and that never sees a frame before a grant."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels, self.grants = pixels, []  # type: ignore[var-annotated]

    def capture(self, grant: ConsentGrant) -> Frame:
        assert isinstance(grant, ConsentGrant)
        self.grants.append(grant)
        return Frame(self.pixels, datetime(2026, 11, 21, tzinfo=UTC))


@pytest.fixture(scope="session")
def drawn_models(tmp_path_factory: pytest.TempPathFactory) -> LoadedModels:
    store = PackStore(tmp_path_factory.mktemp("packs"))
    choice = ModelChoice("drawn-detector/onnx-fp32", "drawn-embedder/onnx-fp32")
    names = {manifest.id: manifest.builds[0].id for manifest in store.manifests() if manifest.id.startswith("drawn-")}
    choice = ModelChoice(f"drawn-detector/{names['drawn-detector']}", f"drawn-embedder/{names['drawn-embedder']}")
    return load_models(store, choice, policy=LoadPolicy())


@pytest.fixture
def models(drawn_models: LoadedModels) -> CountedModels:
    counting = Counting(drawn_models.detector, drawn_models.embedder)
    return CountedModels(counting, drawn_models.contract_id, drawn_models.operating_points)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 21, 12, 0, tzinfo=UTC))


@pytest.fixture
def open_device(tmp_path: Path, clock: ManualClock, models: CountedModels) -> Iterator[Callable[..., Device]]:
    opened: list[Device] = []

    def make(**choices: Any) -> Device:
        options: dict[str, Any] = {"clock": clock, "models": models, "settings": Settings(target_fpir=0.05)} | choices
        device = Device.open(tmp_path / "home", key=KeyFile(tmp_path / "device.key"), **options)
        opened.append(device)
        return device

    yield make
    for device in opened:
        device.close()


@pytest.fixture
def device(open_device: Callable[..., Device]) -> Device:
    return open_device()


def enrol(device: Device, subject: str, person: int, purposes: frozenset[Purpose] = ALL, valid_for: str = "P30D") -> ConsentGrant:
    grant = device.consents.grant(subject, purposes=purposes, valid_for=valid_for, notice=NOTICE)
    device.enrol(subject, [picture(person, 0), picture(person, 1)], grant)
    return grant
