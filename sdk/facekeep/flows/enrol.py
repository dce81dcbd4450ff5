"""Enrolment: frames in, one sealed template in the vault.

Steps:
    0 require consent for enrolment; nothing below runs without it
    1 obtain each frame
    2 detect: exactly one face in each
    3 align, 4 assess quality, 5 examine presentation attack, 6 admit: refused frames are reported, not used
    7 embed
    8 require that the samples agree with one another
    9 keep the mean direction as the template, and the features it can follow a new model by
    10 seal and write it, with consent checked again, in one durable transaction
    11 append to the audit trail, success or error
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from facekeep.audit import AuditEvent
from facekeep.biometric import Features, QualityReport, Template
from facekeep.calibration import loosest_point
from facekeep.consent import ConsentGrant, Purpose
from facekeep.embedding import mean_direction
from facekeep.errors import AcquisitionError, ConsentError, EnrolmentError, FacekeepError
from facekeep.flows.acquisition import Acquired, Source, acquire_face, feature_base_of, find_single_face, obtain_frame
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import require_grant
from facekeep.identifiers import new_record_id


@dataclass(frozen=True, slots=True)
class FrameReport:
    """What became of one frame.

    Attributes:
        admitted: whether it went into the template.
        quality: its quality report when it was admitted.
        refused_with: the stable code of the reason when it was not.
        message: that reason in words.
    """

    admitted: bool
    quality: QualityReport | None
    refused_with: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class EnrolmentReceipt:
    """What an enrolment made.

    Attributes:
        reference_id: identifier of the new reference.
        contract_id: the contract it can be compared under.
        frames: one report for each frame, in order.
        enrolled_at: when.
    """

    reference_id: str
    contract_id: str
    frames: tuple[FrameReport, ...] = field(repr=False)
    enrolled_at: datetime

    @property
    def quality(self) -> int:
        """Worst unified quality among the admitted frames, 0 to 100."""
        return min(frame.quality.score for frame in self.frames if frame.quality is not None)


def enrol(context: FlowContext, subject: str, sources: Iterable[Source], grant: ConsentGrant) -> EnrolmentReceipt:
    """Return the receipt of a new reference of `subject`.

    Raises:
        ConsentError, AcquisitionError, EnrolmentError, ComparisonError, VaultError: with a stable code; nothing is kept.
    """
    commitment: str | None = None
    try:
        # 0 consent
        if not isinstance(grant, ConsentGrant) or grant.subject != subject:
            raise ConsentError("consent.wrong_subject", "The grant handed over is another subject's. Ask this subject.")
        with context.vault.transaction(durable=False) as transaction:
            current, handle = require_grant(context.vault, transaction, context.clock, subject, Purpose.ENROLMENT)
        commitment = handle.commitment
        models = context.load_models()

        # 1 to 7 every frame
        acquired: list[Acquired] = []
        reports: list[FrameReport] = []
        for source in sources:
            try:
                frame = obtain_frame(source, current, context.clock, context.settings)
                face = acquire_face(frame, find_single_face(frame, models, context.settings), models, context.settings)
            except AcquisitionError as refusal:
                reports.append(FrameReport(False, None, refusal.code, str(refusal.args[0])))
                continue
            acquired.append(face)
            reports.append(FrameReport(True, face.sample.quality))
        _require_samples(acquired, reports)

        # 8 agreement
        _require_agreement(acquired, loosest_point(models.operating_points).threshold)

        # 9 mean direction
        template = Template(
            mean_direction([face.embedding.vector for face in acquired]),
            models.contract_id,
            new_record_id(),
            context.clock.now(),
        )

        # 10 and 11: sealed, written and recorded together or not at all
        receipt = EnrolmentReceipt(template.reference_id, template.contract_id, tuple(reports), template.enrolled_at)
        with context.vault.transaction() as transaction:
            current, handle = require_grant(context.vault, transaction, context.clock, subject, Purpose.ENROLMENT)
            consent_id, features = current.record.record_id, _features(acquired, feature_base_of(models))
            transaction.add_template(handle, template, purpose=Purpose.ENROLMENT, consent_id=consent_id, features=features)
            details: dict[str, str | int | bool] = {
                "reference": template.reference_id,
                "contract": template.contract_id,
                "frames": len(acquired),
                "quality": receipt.quality,
            }
            transaction.append_event(AuditEvent("template.created", subject=handle.commitment, details=details))
    except FacekeepError as error:
        context.record_failure("template.created", error, commitment)
        raise
    return receipt


def _features(acquired: list[Acquired], base: str) -> Features | None:
    rows = [face.features for face in acquired]
    return Features(np.stack(rows), base) if all(len(row) for row in rows) else None


def _require_samples(acquired: list[Acquired], reports: list[FrameReport]) -> None:
    if acquired:
        return
    if not reports:
        raise EnrolmentError("enrolment.no_frames", "No frame was given. Hand over one to ten frames of the subject.")
    first = reports[0]
    if len(reports) == 1 and first.refused_with is not None:
        raise AcquisitionError(first.refused_with, first.message or "The frame was refused.")
    reasons = ", ".join(sorted({report.refused_with or "" for report in reports}))
    raise EnrolmentError("enrolment.no_usable_frame", f"None of {len(reports)} frames could be used: {reasons}.")


def _require_agreement(acquired: list[Acquired], threshold: float) -> None:
    # Two people in one template would let either of them in.
    vectors = np.stack([face.embedding.vector for face in acquired])
    if not float((vectors @ vectors.T).min()) >= threshold:
        raise EnrolmentError(
            "enrolment.samples_disagree", f"The {len(acquired)} frames do not show one and the same person. Enrol from one sitting."
        )
