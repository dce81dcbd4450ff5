"""What a demo hands back: where the page lies, what held, what was measured; and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from facekeep.biometric import Detection, QualityReport
from facekeep.clock import to_rfc3339
from facekeep.demo.record import Comparison, Record, Search, Snapshot
from facekeep.demo.words import people

REPORT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Figures:
    """How recognition went, counted.

    Attributes:
        mated: (right, all) mated comparisons that were decided.
        non_mated: (right, all) non-mated comparisons that were decided.
        mated_searches: (right, all) searches for somebody in the gallery.
        non_mated_searches: (right, all) searches for somebody who is not.
        counted: (right, all) pictures whose number of faces was known.
        refused: pictures that were refused, at enrolment or before a comparison (failures to acquire).
        not_enrolled: (number, all) people who agreed and got no template (failures to enrol), of those who agreed.
    """

    mated: tuple[int, int]
    non_mated: tuple[int, int]
    mated_searches: tuple[int, int]
    non_mated_searches: tuple[int, int]
    counted: tuple[int, int]
    refused: int
    not_enrolled: tuple[int, int]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Outcome of `run_demo`.

    Attributes:
        page: the HTML page.
        report: the same as JSON.
        record: everything that happened.
    """

    page: Path
    report: Path
    record: Record = field(repr=False)

    @property
    def is_kept(self) -> bool:
        """Whether every promise held. Accuracy is measured, not promised."""
        return self.record.is_kept

    def render_text(self) -> str:
        """Return a few lines for a terminal."""
        record, figures = self.record, figures_of(self.record)
        lines = [f"{people(len(record.enrolled))} enrolled with {record.models.embedder} and {record.models.detector}."]
        if record.not_enrolled:
            reasons = ", ".join(f"{subject}: {code}" for subject, code in record.not_enrolled)
            lines.append(f"Not enrolled: {len(record.not_enrolled)} of {len(record.grants)} ({reasons}).")
        for words, (right, of) in (
            ("Mated comparisons that matched", figures.mated),
            ("Non-mated comparisons that were rejected", figures.non_mated),
            ("Searches for somebody enrolled that found them", figures.mated_searches),
            ("Searches for somebody not enrolled that answered unknown", figures.non_mated_searches),
            ("Pictures with the right number of faces", figures.counted),
        ):
            if of:
                lines.append(f"{words}: {right} of {of}.")
        if figures.refused:
            lines.append(f"Pictures refused: {figures.refused}.")
        if record.kind == "drawn":
            lines.append("These are drawn figures and stand-in models: they recognise no real face.")
        if record.kind == "synthetic":
            lines.append("These people do not exist. Error rates of real people are those of the packs, not these counts.")
        lines += record.remarks
        lines += [f"{'kept  ' if promise.is_kept else 'BROKEN'}  {promise.text} {promise.seen}" for promise in record.promises]
        return "\n".join([*lines, f"Page: {self.page}"])

    def to_json(self) -> dict[str, Any]:
        """Return what report.json holds."""
        return as_json(self.record)


def figures_of(record: Record) -> Figures:
    """Return the counts of a record. Searches after the withdrawal are counted as well."""
    comparisons, searches = record.comparisons, record.searches
    known = [snapshot for snapshot in record.snapshots if snapshot.faces is not None and snapshot.size_px is not None]
    return Figures(
        _rate(each for each in comparisons if each.is_mated),
        _rate(each for each in comparisons if not each.is_mated),
        _rate(each for each in searches if each.expected is not None),
        _rate(each for each in searches if each.expected is None),
        (sum(len(each.detections) == each.faces for each in known), len(known)),
        len(record.refused_pictures),
        (len(record.not_enrolled), len(record.grants)),
    )


def to_json(record: Record) -> bytes:
    """Return report.json."""
    return json.dumps(as_json(record), ensure_ascii=False, indent=1).encode("utf-8")


def as_json(record: Record) -> dict[str, Any]:
    """Return everything but the pictures as JSON values."""
    withdrawal, proof, models = record.withdrawal, record.proof, record.models
    return {
        "v": REPORT_VERSION,
        "kind": record.kind,
        "origin": record.origin,
        "remarks": list(record.remarks),
        "portraits": list(record.portraits),
        "started_at": to_rfc3339(record.started_at),
        "seconds": round(record.seconds, 3),
        "is_kept": record.is_kept,
        "promises": [asdict(promise) for promise in record.promises],
        "figures": asdict(figures_of(record)),
        "models": {
            "detector": models.detector,
            "embedder": models.embedder,
            "pads": list(models.pads),
            "are_stand_ins": models.are_stand_ins,
            "contract_id": models.contract_id,
            "operating_point": asdict(models.point) if models.point else None,
        },
        "pictures": [_picture(snapshot) for snapshot in record.snapshots],
        "refusals": [asdict(refusal) for refusal in record.refusals],
        "grants": [
            {
                "subject": grant.subject,
                "purposes": list(grant.purposes),
                "valid_until": to_rfc3339(grant.valid_until),
                "record_id": grant.record_id,
            }
            for grant in record.grants
        ],
        "declined": list(record.declined),
        "strangers": list(record.strangers),
        "not_enrolled": [{"subject": subject, "code": code} for subject, code in record.not_enrolled],
        "enrolments": [asdict(enrolment) for enrolment in record.enrolments],
        "comparisons": [asdict(comparison) | {"is_right": comparison.is_right} for comparison in record.comparisons],
        "searches": [asdict(search) | {"is_right": search.is_right} for search in record.searches],
        "withdrawal": {
            "subject": withdrawal.subject,
            "references": withdrawal.references,
            "key_epoch": withdrawal.key_epoch,
            "commitment": withdrawal.commitment,
            "checkpoint": withdrawal.checkpoint,
            "erased_at": to_rfc3339(withdrawal.erased_at),
            "refusals": [asdict(refusal) for refusal in withdrawal.refusals],
        },
        "proof": {
            "trail": list(proof.trail),
            "note": proof.note,
            "public_key": proof.public_key,
            "residue": asdict(proof.residue) | {"is_clean": proof.residue.is_clean},
            "backup": asdict(proof.backup),
        },
        "stages": {
            name: {"calls": len(times), "median_ms": round(median(times) * 1000, 3), "total_s": round(sum(times), 3)}
            for name, times in record.stage_seconds
        },
    }


def _picture(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "number": snapshot.number,
        "name": snapshot.name,
        "person": snapshot.person,
        "faces": snapshot.faces,
        "size_px": snapshot.size_px,
        "detections": [_detection(detection) for detection in snapshot.detections],
        "quality": _quality(snapshot.quality) if snapshot.quality else None,
    }


def _detection(detection: Detection) -> dict[str, Any]:
    return {
        "box_px": [round(value, 1) for value in detection.box_px],
        "landmarks_px": None if detection.landmarks_px is None else detection.landmarks_px.round(1).astype(float).tolist(),
        "confidence": round(detection.confidence, 4),
    }


def _quality(quality: QualityReport) -> dict[str, Any]:
    return {"score": quality.score, "components": dict(quality.components), "refused_for": list(quality.refused_for)}


def _rate(outcomes: Iterable[Comparison | Search]) -> tuple[int, int]:
    answers = [outcome.is_right for outcome in outcomes if outcome.is_right is not None]
    return sum(answers), len(answers)
