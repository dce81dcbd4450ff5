"""What happened in a demo, as plain values: the page draws them, report.json holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from facekeep.biometric import Detection, OperatingPoint, QualityReport
from facekeep.consent import Purpose
from facekeep.demo.album import Kind, Role
from facekeep.demo.meter import Reading
from facekeep.demo.residue import ResidueReport


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One picture as the page shows it.

    Attributes:
        number: its place on the page; other records refer to it by this.
        name: what it is called.
        person: who is on it, or None where nobody said.
        faces: how many faces are on it, or None where nobody said.
        size_px: (width, height) of the frame the device saw, or None if it could not be read.
        jpeg: reduced picture; empty if the frame could not be read.
        detections: what the detector found.
        quality: quality of the face where there is exactly one.
    """

    number: int
    name: str
    person: str | None
    faces: int | None
    size_px: tuple[int, int] | None
    jpeg: bytes = field(repr=False)
    detections: tuple[Detection, ...] = field(repr=False)
    quality: QualityReport | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was refused.

    Attributes:
        call: the call, as one would write it.
        code: stable code of the error, or "not refused".
        message: the error in words.
        reading: what was asked of camera and models meanwhile.
    """

    call: str
    code: str
    message: str
    reading: Reading


@dataclass(frozen=True, slots=True)
class Grant:
    """A consent that was recorded."""

    subject: str
    role: Role
    purposes: tuple[Purpose, ...]
    valid_until: datetime
    record_id: str


@dataclass(frozen=True, slots=True)
class FrameOutcome:
    """What enrolment made of one picture: admitted with its quality, or refused with a code."""

    picture: int
    quality: int | None
    refused_with: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class EnrolmentOutcome:
    """One attempt to enrol somebody.

    Attributes:
        subject: who.
        frames: the pictures handed over.
        reference_id: identifier of the reference, or None where it was refused.
        contract_id: the contract it belongs to, or None.
        code: "ok" or the code of the error.
        message: the error in words, empty if there was none.
        seconds: duration of the call.
    """

    subject: str
    frames: tuple[FrameOutcome, ...]
    reference_id: str | None
    contract_id: str | None
    code: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One verification.

    Attributes:
        picture: the probe.
        subject: who it was claimed to be.
        is_mated: whether that is who is on it.
        is_match: the decision, or None where the sample was refused.
        score: cosine, or None.
        code: "ok" or the code of the error.
        message: the error in words.
        seconds: duration of the call.
    """

    picture: int
    subject: str
    is_mated: bool
    is_match: bool | None
    score: float | None
    code: str
    message: str
    seconds: float

    @property
    def is_right(self) -> bool | None:
        """Whether the decision is the right one; None without a decision."""
        return None if self.is_match is None else self.is_match == self.is_mated


@dataclass(frozen=True, slots=True)
class Search:
    """One identification.

    Attributes:
        picture: the probe.
        expected: who of the gallery is on it; None for nobody of the gallery.
        is_truth_known: whether somebody said who is on it.
        outcome: "identified", "ambiguous", "unknown", or the code of the error.
        candidates: subjects and scores that were returned.
        gallery: number of subjects searched; 0 if none was.
        threshold: cosine used; None where no search was made.
        message: the error in words.
        is_after_withdrawal: whether it was made after the withdrawal.
        seconds: duration of the call.
    """

    picture: int
    expected: str | None
    is_truth_known: bool
    outcome: str
    candidates: tuple[tuple[str, float], ...]
    gallery: int
    threshold: float | None
    message: str
    is_after_withdrawal: bool
    seconds: float

    @property
    def is_search(self) -> bool:
        """Whether the gallery was searched at all."""
        return self.outcome in {"identified", "ambiguous", "unknown"}

    @property
    def is_right(self) -> bool | None:
        """Whether the answer is the right one; None without a search or without the truth."""
        if not self.is_search or not self.is_truth_known:
            return None
        if self.expected is None:
            return self.outcome == "unknown"
        return self.outcome == "identified" and self.candidates[0][0] == self.expected


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The erasure receipt of the subject who withdrew, and what became of their calls from then on."""

    subject: str
    references: int
    key_epoch: int
    commitment: str
    checkpoint: str
    erased_at: datetime
    seconds: float
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What was checked at the end.

    Attributes:
        trail_size: number of entries that verified.
        trail_root: their tree head.
        trail: the entries, parsed.
        note: signed head.
        public_key: hexadecimal key that signed it.
        residue: search of the vault's files.
        backup: what opening yesterday's copy of the vault came to.
    """

    trail_size: int
    trail_root: str
    trail: tuple[dict[str, Any], ...] = field(repr=False)
    note: str
    public_key: str
    residue: ResidueReport
    backup: Refusal


@dataclass(frozen=True, slots=True)
class Promise:
    """Something Facekeep promises, whether it held here, and what was seen."""

    text: str
    is_kept: bool
    seen: str


@dataclass(frozen=True, slots=True)
class ModelsUsed:
    """Packs and builds, their titles and the operating point that decided.

    Attributes:
        detector: "pack/build".
        embedder: "pack/build".
        pads: "pack/build" of each.
        titles: pack id -> title.
        are_stand_ins: whether the packs know drawn figures only.
        real_ones: the commands that fetch packs for real faces and run the demo with them.
        contract_id: the contract of the templates.
        point: the operating point of verification.
    """

    detector: str
    embedder: str
    pads: tuple[str, ...]
    titles: tuple[tuple[str, str], ...]
    are_stand_ins: bool
    real_ones: tuple[str, ...]
    contract_id: str
    point: OperatingPoint | None


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that happened."""

    kind: Kind
    origin: str
    remarks: tuple[str, ...]
    portraits: tuple[str, ...]
    started_at: datetime
    seconds: float
    notice: str
    models: ModelsUsed
    snapshots: tuple[Snapshot, ...]
    refusals: tuple[Refusal, ...]
    grants: tuple[Grant, ...]
    declined: tuple[str, ...]
    strangers: tuple[str, ...]
    enrolments: tuple[EnrolmentOutcome, ...]
    comparisons: tuple[Comparison, ...]
    searches: tuple[Search, ...]
    withdrawal: Withdrawal
    proof: Proof
    promises: tuple[Promise, ...]
    stage_seconds: tuple[tuple[str, tuple[float, ...]], ...]
    calls: Reading

    @property
    def is_kept(self) -> bool:
        """Whether every promise held."""
        return all(promise.is_kept for promise in self.promises)

    @property
    def enrolled(self) -> tuple[str, ...]:
        """Subjects who got a template."""
        return tuple(outcome.subject for outcome in self.enrolments if outcome.code == "ok")

    @property
    def not_enrolled(self) -> tuple[tuple[str, str], ...]:
        """Subjects who agreed and got no template, with the code of the last attempt: failures to enrol."""
        codes = {outcome.subject: outcome.code for outcome in self.enrolments}
        return tuple((grant.subject, codes[grant.subject]) for grant in self.grants if codes.get(grant.subject, "ok") != "ok")

    @property
    def searchable(self) -> tuple[str, ...]:
        """Subjects whom a search can find: they agreed to identification and got a template."""
        enrolled = set(self.enrolled)
        agreed = (grant.subject for grant in self.grants if Purpose.IDENTIFICATION in grant.purposes)
        return tuple(subject for subject in agreed if subject in enrolled)

    @property
    def refused_pictures(self) -> frozenset[int]:
        """Pictures that were refused, at enrolment or before a comparison, and served nowhere else: failures to acquire."""
        frames = [frame for outcome in self.enrolments for frame in outcome.frames]
        admitted = {frame.picture for frame in frames if frame.refused_with is None}
        admitted |= {each.picture for each in self.comparisons if each.is_match is not None}
        refused = {frame.picture for frame in frames} | {each.picture for each in self.comparisons}
        return frozenset(refused - admitted)
