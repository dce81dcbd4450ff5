"""What the watched process does: every flow of a device once, each with its expected outcome. Runs in the child."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame, OperatingPoint
from facekeep.confirmation import require_result
from facekeep.consent import ConsentGrant, Notice, Purpose
from facekeep.device import Device
from facekeep.errors import AcquisitionError, ConsentError
from facekeep.flows.context import Models, Settings
from facekeep.keys import KeyFile
from facekeep.packs import PackStore
from facekeep.ports import Detector, Embedder, PADetector
from facekeep.selftest.pictures import captured_now

Sabotage = Callable[[Models, Path], Models]
PURPOSES: Final = (Purpose.ENROLMENT, Purpose.VERIFICATION, Purpose.IDENTIFICATION)


STEPS: Final = (
    "open",
    "refused_without_consent",
    "consent",
    "enrol",
    "verify_match",
    "verify_non_match",
    "verify_no_face",
    "identify",
    "reopen",
    "withdraw",
    "refused_after_withdrawal",
    "identify_after_withdrawal",
    "audit",
    "close",
)


class UnexpectedOutcomeError(Exception):
    """A flow ended otherwise than it should; the text says how."""


@dataclass(slots=True)
class Held:
    """SHA-256 of what the process held in memory: enough to know it again, too little to make it again."""

    crops: list[str] = field(default_factory=list)
    vectors: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)


class RecordingEmbedder:
    """Passes everything on, and notes the digest of what came in and what went out."""

    def __init__(self, embedder: Embedder, held: Held) -> None:
        self._embedder, self._held = embedder, held

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._embedder.dimension

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the vector of `crop`."""
        vector = self._embedder.embed(crop)
        self._held.crops.append(digest(crop))
        self._held.vectors.append(digest(vector))
        return vector


@dataclass(frozen=True, slots=True)
class WatchedModels:
    """The models of a device with one or more ports replaced."""

    detector: Detector
    embedder: Embedder
    pad: PADetector | None
    contract_id: str
    operating_points: tuple[OperatingPoint, ...]


class WatchedDevice(Device):
    """A device that notes what its embedder sees. Everything else is the device that ships."""

    held: Held
    sabotage: Sabotage | None = None
    sabotage_home: Path

    def _load_chosen(self) -> Any:
        models: Models = super()._load_chosen()
        recording = RecordingEmbedder(models.embedder, self.held)
        watched: Models = WatchedModels(models.detector, recording, models.pad, models.contract_id, models.operating_points)
        return watched if self.sabotage is None else self.sabotage(watched, self.sabotage_home)

    def note_templates(self, subject: str) -> None:
        """Note the digests of the stored templates of `subject`, opened as `verify` opens them."""
        contract = self._load_models().contract_id
        with self._vault.transaction(durable=False) as transaction:
            handle = transaction.find_subject(subject)
            if handle is None:
                raise UnexpectedOutcomeError("a subject that was enrolled is not on record")
            templates = transaction.open_templates(handle, contract)
        if not templates:
            raise UnexpectedOutcomeError("a subject that was enrolled has no template")
        self.held.templates += [digest(template.vector) for template in templates]


@dataclass(slots=True)
class Scenario:
    """One device in one home, and the flows that are run on it.

    Attributes:
        home: directory of the device, there and empty at first.
        packs: directory of model packs.
        detector: "pack/build".
        embedder: "pack/build".
        pads: packs for presentation attack detection.
        pictures: name -> (H, W, 3) uint8 RGB.
        threads: of each inference session.
        sabotage: replaces the models by leaking ones; for the tests of the selftest only.
    """

    home: Path
    packs: Path
    detector: str
    embedder: str
    pads: tuple[str, ...]
    pictures: dict[str, NDArray[np.uint8]]
    threads: int = 1
    sabotage: Sabotage | None = None
    held: Held = field(default_factory=Held)
    _device: WatchedDevice | None = None
    _grants: dict[str, ConsentGrant] = field(default_factory=dict)

    def steps(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield the name of each flow and what runs it; that returns what happened, in words."""
        runs = (
            self._open,
            self._refused,
            self._consent,
            self._enrol,
            self._verify_match,
            self._verify_non_match,
            self._verify_no_face,
            self._identify,
            self._reopen,
            self._withdraw,
            self._refused_again,
            self._identify_again,
            self._audit,
            self._close,
        )
        yield from zip(STEPS, runs, strict=True)

    @property
    def device(self) -> WatchedDevice:
        """The device, open."""
        if self._device is None:
            raise UnexpectedOutcomeError("the device is not open")
        return self._device

    def _open(self) -> str:
        device = WatchedDevice.open(
            self.home,
            key=KeyFile(self.home / "selftest.key"),
            detector=self.detector,
            embedder=self.embedder,
            pads=self.pads,
            packs=PackStore(self.packs),
            settings=Settings(threads=self.threads),
        )
        if not isinstance(device, WatchedDevice):
            raise UnexpectedOutcomeError("the device is of another class")
        device.held, device.sabotage, device.sabotage_home = self.held, self.sabotage, self.home
        self._device = device
        return "a device with a key file"

    def _refused(self) -> str:
        try:
            self.device.verify("alice", self._frame("alice-probe"))
        except ConsentError as refusal:
            if self.held.crops:
                raise UnexpectedOutcomeError("a crop was made before consent was given") from None
            return f"verification refused ({refusal.code}), no model ran"
        raise UnexpectedOutcomeError("a verification ran without consent")

    def _consent(self) -> str:
        notice = Notice("Selftest on drawn people. Nobody is recognised.", language="en", version="1")
        self._grants = {
            name: self.device.consents.grant(name, purposes=PURPOSES, valid_for=timedelta(days=1), notice=notice)
            for name in ("alice", "bob")
        }
        return "two grants for three purposes"

    def _enrol(self) -> str:
        receipt = self.device.enrol("alice", [self._frame("alice-1"), self._frame("alice-2")], self._grants["alice"])
        used = sum(frame.admitted for frame in receipt.frames)
        self.device.enrol("bob", self._frame("bob-1"), self._grants["bob"])
        for name in ("alice", "bob"):
            self.device.note_templates(name)
        return f"two subjects, {used} of 2 and 1 of 1 frames, lowest quality {receipt.quality}"

    def _verify_match(self) -> str:
        decision = self.device.verify("alice", self._frame("alice-probe"))
        if not decision.is_match:
            raise UnexpectedOutcomeError("the enrolled person did not match")
        return f"match at FMR {decision.operating_point.fmr:g}"

    def _verify_non_match(self) -> str:
        if self.device.verify("alice", self._frame("bob-probe")).is_match:
            raise UnexpectedOutcomeError("another person matched")
        return "another person does not match"

    def _verify_no_face(self) -> str:
        try:
            self.device.verify("alice", self._frame("nobody"))
        except AcquisitionError as refusal:
            return f"a picture of nobody is refused ({refusal.code})"
        raise UnexpectedOutcomeError("a picture without a face was decided on")

    def _identify(self) -> str:
        found = require_result(self.device.identify(self._frame("alice-probe")))
        if found.outcome != "identified" or found.candidates[0].subject != "alice":
            raise UnexpectedOutcomeError(f"the search of two people ended {found.outcome}")
        return f"one of {found.gallery_size} found at FPIR {found.target_fpir:g}"

    def _reopen(self) -> str:
        self.device.close()
        self._open()
        self.device.verify("alice", self._frame("alice-2")).require_match()
        return "a match after closing and opening again"

    def _withdraw(self) -> str:
        receipt = self.device.withdraw("alice")
        if receipt.references != 1:
            raise UnexpectedOutcomeError(f"{receipt.references} templates were erased instead of one")
        return f"one template erased, key epoch {receipt.key_epoch}"

    def _refused_again(self) -> str:
        try:
            self.device.verify("alice", self._frame("alice-probe"))
        except ConsentError as refusal:
            return f"verification refused ({refusal.code})"
        raise UnexpectedOutcomeError("a verification ran after the withdrawal")

    def _identify_again(self) -> str:
        found = require_result(self.device.identify(self._frame("alice-probe")))
        if any(candidate.subject == "alice" for candidate in found.candidates):
            raise UnexpectedOutcomeError("an erased person was found")
        return f"the erased person is {found.outcome} among {found.gallery_size}"

    def _audit(self) -> str:
        self.device.verify_vault()
        return f"{self.device.verify_trail().size} entries verify, and so does the vault"

    def _close(self) -> str:
        self.device.close()
        return "closed"

    def _frame(self, name: str) -> Frame:
        return Frame(self.pictures[name], captured_now())


def digest(array: NDArray[Any]) -> str:
    """Return the hexadecimal SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
