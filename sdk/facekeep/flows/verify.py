"""Verification, 1:1: is this the person they claim to be?

Steps:
    0 require consent for verification; the camera and the models are not touched without it
    1 obtain the frame
    2 detect: exactly one face
    3 align, 4 assess quality, 5 examine presentation attack, 6 admit
    7 embed
    8 open the sealed templates of this subject and contract; where there are none, those that wait under the contract of the model
      before, and embed the same sample with that model
    9 compare with each
    10 decide at the operating point for the target false match rate
    11 append to the audit trail, success or error; no entry, no result
    12 where templates of the subject wait for a newer model, and the match holds at a stricter rate, let one follow
"""

from __future__ import annotations

from collections.abc import Sequence

from facekeep.audit import AuditEvent
from facekeep.biometric import Decision, Embedding, FaceSample, OperatingPoint, Template
from facekeep.biometric.arrays import wipe
from facekeep.calibration import fmr_for_fpir, operating_point_for
from facekeep.comparison import best_of, decide
from facekeep.consent import Purpose
from facekeep.errors import EnrolmentError, FacekeepError
from facekeep.flows.acquisition import Source, acquire_face, embed_sample, find_single_face, obtain_frame
from facekeep.flows.context import FlowContext, Models
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
        acquired = acquire_face(frame, detection, models, context.settings)
        probe, own = acquired.embedding, models

        while True:
            # 8 open: consent is asked for again, since it may have been withdrawn while the camera looked
            with context.vault.transaction(durable=False) as transaction:
                _, handle = require_grant(context.vault, transaction, context.clock, subject, Purpose.VERIFICATION)
                templates = transaction.open_templates(handle, own.contract_id)
                if templates:
                    # 9 compare, 10 decide
                    decision = _decide(subject, probe, templates, own.operating_points, target_fmr)
                    # 11 audit
                    details: dict[str, str | int | bool] = {
                        "match": decision.is_match,
                        "fmr": f"{decision.operating_point.fmr:g}",
                        "references": len(templates),
                        "contract": own.contract_id,
                    }
                    transaction.append_event(AuditEvent("verification", subject=handle.commitment, details=details))
                    waits = transaction.reference_count(handle) > transaction.reference_count(handle, models.contract_id)
                    break
                contracts = {item.contract_id for item in transaction.templates_of(handle)}
            # 8 another process put a release to use meanwhile, or the templates wait for this verification to follow one
            if (fresh := context.load_models()) is not models:
                models = own = fresh
                probe, _ = embed_sample(acquired.sample, models)
                continue
            earlier = _earlier(context, acquired.sample, contracts) if own is models else None
            if earlier is None:
                raise EnrolmentError(
                    "enrolment.not_enrolled", "The subject has no template under the contract of these models. Enrol first."
                )
            probe, own = earlier
    except FacekeepError as error:
        context.record_failure("verification", error, commitment)
        raise
    # 12 follow
    if waits and decision.is_match:
        from facekeep.flows.migrate import follow_if_possible

        follow_if_possible(context, handle, acquired.sample, models, target_fmr=target_fmr)
    return decision


def _decide(
    subject: str, probe: Embedding, templates: Sequence[Template], points: Sequence[OperatingPoint], target_fmr: float
) -> Decision:
    # Each reference is a chance of a false match, so together they get the rate asked for.
    try:
        point = operating_point_for(points, fmr_for_fpir(target_fmr, len(templates)))
        return decide(subject, best_of(probe, templates), point)
    finally:
        for template in templates:
            wipe(template.vector)


def _earlier(context: FlowContext, sample: FaceSample, contracts: set[str]) -> tuple[Embedding, Models] | None:
    # A device that never adopted a release does not load what follows one.
    if not contracts:
        return None
    from facekeep.flows.migrate import earlier_probe

    return earlier_probe(context, sample, contracts)
