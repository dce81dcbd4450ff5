"""Training samples: kept only under the purpose of federated training, few of them, and not for long.

Steps:
    0 require that the device is in a federation, and consent for federated training; nothing below runs without it
    1 obtain each frame
    2 detect: exactly one face in each
    3 align, 4 assess quality, 5 examine presentation attack, 6 admit: refused frames are reported, not kept
    7 embed
    8 require that each is the subject: it matches a stored template
    9 in one durable transaction, consent checked again: seal and write, drop the oldest beyond the policy's number and age
    10 append to the audit trail, success or error
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from facekeep.audit import AuditEvent
from facekeep.biometric import Embedding, TrainingSample
from facekeep.biometric.arrays import wipe
from facekeep.calibration import loosest_point
from facekeep.comparison import best_of
from facekeep.consent import ConsentGrant, Purpose
from facekeep.errors import AcquisitionError, ConsentError, EnrolmentError, FacekeepError
from facekeep.flows.acquisition import Acquired, Source, acquire_face, feature_base_of, find_single_face, obtain_frame
from facekeep.flows.context import FlowContext, Models
from facekeep.flows.enrol import FrameReport
from facekeep.flows.gate import require_grant
from facekeep.flows.membership import require_membership
from facekeep.flows.sample_erasure import erased_events
from facekeep.flows.standing import Standing
from facekeep.identifiers import new_record_id
from facekeep.protocol.policy import FederationPolicy
from facekeep.vault import SubjectHandle, VaultTransaction


@dataclass(frozen=True, slots=True)
class SampleReceipt:
    """What a collection kept.

    Attributes:
        kept: number of samples kept.
        dropped: number of older samples destroyed to make room, or because of their age.
        frames: one report for each frame, in order.
    """

    kept: int
    dropped: int
    frames: tuple[FrameReport, ...] = field(repr=False)


def collect(
    context: FlowContext,
    subject: str,
    sources: Iterable[Source],
    grant: ConsentGrant,
    *,
    kind: str,
    unsafe_without_comparison: bool,
) -> SampleReceipt:
    """Return what was kept of these frames.

    Raises:
        FederationError: "federation.not_joined".
        ConsentError, AcquisitionError, EnrolmentError, ComparisonError, VaultError, ModelError: nothing is kept then.
    """
    commitment: str | None = None
    try:
        # 0 membership and consent
        if not isinstance(grant, ConsentGrant) or grant.subject != subject:
            raise ConsentError("consent.wrong_subject", "The grant handed over is another subject's. Ask this subject.")
        with context.vault.transaction(durable=False) as transaction:
            policy = require_membership(transaction).policy
            current, handle = require_grant(context.vault, transaction, context.clock, subject, Purpose.FEDERATED_TRAINING)
        commitment = handle.commitment
        models = context.load_models()

        # 1 to 8 every frame
        acquired: list[Acquired] = []
        reports: list[FrameReport] = []
        for source in sources:
            try:
                frame = obtain_frame(source, current, context.clock, context.settings)
                face = acquire_face(frame, find_single_face(frame, models, context.settings), models, context.settings)
                if not unsafe_without_comparison:
                    _require_subject(context, handle, face.embedding, models)
            except (AcquisitionError, EnrolmentError) as refusal:
                if refusal.code == "enrolment.not_enrolled":
                    raise
                reports.append(FrameReport(False, None, refusal.code, str(refusal.args[0])))
                continue
            acquired.append(face)
            reports.append(FrameReport(True, face.sample.quality))
        if not acquired:
            codes = ", ".join(sorted({report.refused_with or "" for report in reports})) or "no frame was given"
            raise EnrolmentError("enrolment.no_usable_frame", f"None of {len(reports)} frames could be kept: {codes}.")

        # 9 seal, write and bound, and 10 append: together or not at all
        dropped = _keep(context, subject, acquired, models, policy, kind)
    except FacekeepError as error:
        context.record_failure("sample.kept", error, commitment)
        raise
    return SampleReceipt(min(len(acquired), policy.most_samples), dropped, tuple(reports))


def _require_subject(context: FlowContext, handle: SubjectHandle, probe: Embedding, models: Models) -> None:
    # A bystander's face has nobody's consent, and would teach the model that two people are one.
    with context.vault.transaction(durable=False) as transaction:
        templates = transaction.open_templates(handle, models.contract_id)
    if not templates:
        raise EnrolmentError(
            "enrolment.not_enrolled", "The subject has no template to tell that the frames show them. Enrol first."
        )
    try:
        score = best_of(probe, templates).value
    finally:
        for template in templates:
            wipe(template.vector)
    if not score >= loosest_point(models.operating_points).threshold:
        raise EnrolmentError("enrolment.samples_disagree", "The frame does not show the subject, or not well enough to tell.")


def _keep(
    context: FlowContext, subject: str, acquired: Sequence[Acquired], models: Models, policy: FederationPolicy, kind: str
) -> int:
    dropped: list[tuple[SubjectHandle, int]] = []
    # More than may be kept are not even written: the newest count.
    chosen = acquired[-policy.most_samples :]

    def write(transaction: VaultTransaction) -> None:
        current, handle = require_grant(context.vault, transaction, context.clock, subject, Purpose.FEDERATED_TRAINING)
        require_membership(transaction)
        room = policy.most_samples - len(chosen)
        held = [item for item in transaction.stored_samples() if item.subject_slot == handle.slot]
        limit = Standing(transaction).judged(context.clock.now()) - policy.samples_term
        old = [item.slot for item in held if item.kept_at <= limit]
        young = [item.slot for item in held if item.kept_at > limit]
        # 9 drop the oldest first: a full disk ends here with nothing written
        count = transaction.drop_samples(handle, [*old, *young[: max(0, len(young) - room)]])
        dropped.append((handle, count))
        now, base = context.clock.now(), feature_base_of(models)
        for face in chosen:
            sample = TrainingSample(face.sample.pixels, face.features, base, kind, new_record_id(), now)
            consent_id = current.record.record_id
            transaction.add_sample(handle, sample, purpose=Purpose.FEDERATED_TRAINING, consent_id=consent_id)

    def events(epoch: int) -> list[AuditEvent]:
        handle = dropped[0][0]
        details: dict[str, str | int | bool] = {"count": len(chosen), "purposes": Purpose.FEDERATED_TRAINING.value}
        # 10 append
        kept = AuditEvent("sample.kept", subject=handle.commitment, details=details)
        return [*erased_events(dropped, epoch, "bound"), kept]

    context.vault.shred(write, events)
    return dropped[0][1]
