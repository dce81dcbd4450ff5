"""Verification, 1:1: is this the person they claim to be?

Steps:
    0 require consent for verification; the camera and the models are not touched without it
    1 obtain the frame
    2 detect: exactly one face
    3 align, 4 assess quality, 5 examine presentation attack, 6 admit
    7 embed
    8 open the sealed templates of this subject and contract
    9 compare with each
    10 decide at the operating point for the target false match rate
    11 append to the audit trail, success or error; no entry, no result
"""

from __future__ import annotations

from facekeep.audit import AuditEvent
from facekeep.biometric import Decision
from facekeep.biometric.arrays import wipe
from facekeep.calibration import fmr_for_fpir, operating_point_for
from facekeep.comparison import best_of, decide
from facekeep.consent import Purpose
from facekeep.errors import EnrolmentError, FacekeepError
from facekeep.flows.acquisition import Source, acquire_face, find_single_face, obtain_frame
from facekeep.flows.context import FlowContext
from facekeep.flows.gate import require_grant


def verify(context: FlowContext, subject: str, source: Source, *, target_fmr: float) -> Decision:
    """Return the decision on the claim that the face in `source` is `subject`.

    Raises:
        ConsentError, AcquisitionError, EnrolmentError, ComparisonError, VaultError, ModelError: with a stable code.
    """
    commitment: str | None = None
    try:
        # 0 consent
        with context.vault.transaction(durable=False) as transaction:
            grant, handle = require_grant(context.vault, transaction, context.clock, subject, Purpose.VERIFICATION)
        commitment = handle.commitment
        models = context.load_models()
        operating_point_for(models.operating_points, target_fmr)  # refused before the camera opens, if at all

        # 1 frame, 2 detect
        frame = obtain_frame(source, grant, context.clock, context.settings)
        detection = find_single_face(frame, models, context.settings)

        # 3 to 7
        probe = acquire_face(frame, detection, models, context.settings).embedding

        # 8 open: consent is asked for again, since it may have been withdrawn while the camera looked
        with context.vault.transaction(durable=False) as transaction:
            _, handle = require_grant(context.vault, transaction, context.clock, subject, Purpose.VERIFICATION)
            templates = transaction.open_templates(handle, models.contract_id)
            if not templates:
                raise EnrolmentError(
                    "enrolment.not_enrolled", "The subject has no template under the contract of these models. Enrol first."
                )
            # 9 compare, 10 decide: each reference is a chance of a false match, so together they get the rate asked for
            try:
                point = operating_point_for(models.operating_points, fmr_for_fpir(target_fmr, len(templates)))
                decision = decide(subject, best_of(probe, templates), point)
            finally:
                for template in templates:
                    wipe(template.vector)
            # 11 audit
            details: dict[str, str | int | bool] = {
                "match": decision.is_match,
                "fmr": f"{point.fmr:g}",
                "references": len(templates),
                "contract": models.contract_id,
            }
            transaction.append_event(AuditEvent("verification", subject=handle.commitment, details=details))
    except FacekeepError as error:
        context.record_failure("verification", error, commitment)
        raise
    return decision
