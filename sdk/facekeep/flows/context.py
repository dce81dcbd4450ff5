"""What the flows work with: the vault, the clock, the models, the caches. Wired by `facekeep.device`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol, runtime_checkable

from facekeep.audit import AuditEvent
from facekeep.biometric import OperatingPoint
from facekeep.clock import Clock
from facekeep.errors import FacekeepError
from facekeep.flows.gallery import GalleryCache
from facekeep.flows.workshop import Workshop
from facekeep.ports import Detector, Embedder, PADetector
from facekeep.quality import QualityFloors
from facekeep.vault import SQLiteVault

_LONGEST_IDLE = timedelta(days=1)


class Models(Protocol):
    """Loaded models: what `facekeep.assembly` makes of model packs, or a caller of ports of their own."""

    @property
    def detector(self) -> Detector:
        """Finds faces."""
        ...

    @property
    def embedder(self) -> Embedder:
        """Turns admitted samples into vectors."""
        ...

    @property
    def pad(self) -> PADetector | None:
        """Examines presentation attacks; None where no pack is configured."""
        ...

    @property
    def contract_id(self) -> str:
        """The contract of every embedding these models make."""
        ...

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """Thresholds measured for exactly this build."""
        ...


@runtime_checkable
class FeatureModels(Models, Protocol):
    """Models that know what the front of their embedder is, apart from its last linear map."""

    @property
    def feature_base(self) -> str:
        """64 hexadecimal digits: the same for all models whose features are the same, whatever their last map."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a device behaves. Every default is the careful choice.

    Attributes:
        target_fmr: false match rate of 1:1 verification.
        target_fpir: false positive identification rate of a whole 1:N search.
        margin: cosine by which the best subject of a search must lead the runner-up.
        bystanders: "refused": exactly one face, for whoever stands beside the subject could pass for them; "ignored": the
            largest and most central face counts, for cameras that always see a background.
        quality: floors below which a sample is refused.
        longest_side: pixels to which the longest side of a frame is reduced for detection.
        max_pixels: pictures with more pixels are refused before they are decoded.
        threads: threads of one inference session.
        providers: execution providers of ONNX Runtime, in order of preference.
        gallery_precision: "float32", or "int8" for a quarter of the memory.
        gallery_idle: opened templates are wiped from memory after this long without a search.
        confirmations: how many operators have to confirm an identification before its result is seen: 0, or 2 to 5. A rule that
            the device has adopted (`device.confirmations.adopt`) holds as well; the stricter counts.
        confirmation_term: how long a result waits for them; at most a day.
        busy_timeout: how long to wait for another process that holds the vault.
    """

    target_fmr: float = 1e-3
    target_fpir: float = 1e-2
    margin: float = 0.05
    bystanders: Literal["refused", "ignored"] = "refused"
    quality: QualityFloors = field(default_factory=QualityFloors)
    longest_side: int = 640
    max_pixels: int = 50_000_000
    threads: int = 1
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    gallery_precision: Literal["float32", "int8"] = "float32"
    gallery_idle: timedelta = timedelta(minutes=5)
    confirmations: int = 0
    confirmation_term: timedelta = timedelta(hours=1)
    busy_timeout: timedelta = timedelta(seconds=5)

    def __post_init__(self) -> None:
        whole = (self.longest_side, self.max_pixels, self.threads)
        if not all(isinstance(number, int) for number in whole):
            raise ValueError("longest_side, max_pixels and threads are whole numbers")
        if not 0.0 < self.target_fmr < 1.0 or not 0.0 < self.target_fpir < 1.0:
            raise ValueError("a target rate lies between 0 and 1")
        if not 0.0 <= self.margin <= 1.0:
            raise ValueError("the margin is a difference of cosines, 0 to 1")
        if self.longest_side < 32 or self.max_pixels < 256 or self.threads < 1:
            raise ValueError("longest_side is at least 32, max_pixels at least 256, threads at least 1")
        if self.bystanders not in {"refused", "ignored"}:
            raise ValueError("bystanders is refused or ignored")
        if self.gallery_precision not in {"float32", "int8"} or not (timedelta(0) < self.gallery_idle <= _LONGEST_IDLE):
            raise ValueError("gallery_precision is float32 or int8, and gallery_idle is at most a day")
        if self.confirmations not in (0, 2, 3, 4, 5) or not (timedelta(seconds=1) <= self.confirmation_term <= timedelta(days=1)):
            raise ValueError("confirmations is 0 or 2 to 5, and confirmation_term between a second and a day")
        if self.busy_timeout < timedelta(0):
            raise ValueError("busy_timeout is not negative")


@dataclass(frozen=True, slots=True)
class FlowContext:
    """Everything a flow may touch.

    Attributes:
        vault: the open vault.
        clock: tells the time.
        settings: how the device behaves.
        gallery: opened templates for 1:N.
        load_models: returns the models, loading them on first use, and anew when another release is in use; a withdrawal never
            needs them.
        workshop: makes the models of releases; None where models were brought by the caller.
    """

    vault: SQLiteVault
    clock: Clock
    settings: Settings
    gallery: GalleryCache
    load_models: Callable[[], Models]
    workshop: Workshop | None = None

    def record(self, event: AuditEvent, *, durable: bool) -> None:
        """Append `event` to the audit trail in a transaction of its own."""
        with self.vault.transaction(durable=durable) as transaction:
            transaction.append_event(event)

    def record_failure(self, code: str, error: FacekeepError, subject: str | None) -> None:
        """Append the error that a flow ended in; where even that fails, the first error is the one to report."""
        self.record_refusal(AuditEvent(code, error.code, subject), error)

    def record_refusal(self, event: AuditEvent, error: FacekeepError) -> None:
        """Append what was refused, with what may be said of it."""
        try:
            self.record(event, durable=False)
        except FacekeepError as second:
            error.add_note(f"The failure could not be written to the audit trail: {second.code}.")
