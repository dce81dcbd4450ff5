"""Identification, 1:N, open set: who of those who consented is this, if anyone?

Steps:
    0 require that somebody consents to identification, and operators enough for the two-person rule where that is in force; the
      camera and the models are not touched otherwise
    1 obtain the frame
    2 detect: exactly one face
    3 align, 4 assess quality, 5 examine presentation attack, 6 admit
    7 embed
    8 open the gallery: the templates of those whose consent to identification holds now, and nobody else's; those that wait to
      follow the model in use are counted and not searched
    9 search all of it
    10 decide at the operating point for the gallery size, with a margin over the runner-up
    11 seal the result, where operators have to confirm it first: nothing of it is handed out or logged
    12 append to the audit trail, success or error; no entry, no result
"""

from __future__ import annotations

from facekeep.audit import AuditEvent
from facekeep.biometric import Candidate, ComparisonScore, Embedding, Identification
from facekeep.calibration import fmr_for_fpir, operating_point_for
from facekeep.clock import to_rfc3339
from facekeep.comparison import identify_among
from facekeep.confirmation import PendingIdentification
from facekeep.errors import FacekeepError
from facekeep.flows.acquisition import Source, acquire_face, embed_sample, find_single_face, obtain_frame
from facekeep.flows.context import FlowContext, Models
from facekeep.flows.gallery import OpenedGallery
from facekeep.flows.sealing_results import commit_to_input, require_rule_can_be_kept, seal_result
from facekeep.randomness import SystemRandomness

# The best subject and those that could be mistaken for it.
_SHORTLIST = 5


def identify(context: FlowContext, source: Source, *, target_fpir: float, margin: float) -> Identification | PendingIdentification:
    """Return who the face in `source` is, among those whose consent to identification holds; sealed under the two-person rule.

    Raises:
        ConsentError, AcquisitionError, ComparisonError, VaultError, ModelError, ConfirmationError: with a stable code.
    """
    started = context.clock.now()
    try:
        # 0 consent
        grant = context.gallery.require_consenting(context.vault, context.clock).grant
        rule = require_rule_can_be_kept(context)
        salt = SystemRandomness().token(32) if rule.confirmations else b""
        models = context.load_models()

        # 1 frame, 2 detect
        frame = obtain_frame(source, grant, context.clock, context.settings)
        detection = find_single_face(frame, models, context.settings)

        # 3 to 7
        acquired = acquire_face(frame, detection, models, context.settings)
        probe = acquired.embedding

        while True:
            if (fresh := context.load_models()) is not models:
                # Another process put a release to use meanwhile: the gallery is of another contract now.
                models = fresh
                probe, _ = embed_sample(acquired.sample, models)
            opened, result, found = _search(context, models, probe, target_fpir, margin)
            # With the fields of Article 12(3) of the AI Act; the input itself is not retained, by design.
            details: dict[str, str | int | bool] = {
                "fmr": f"{result.operating_point.fmr:g}",
                "fpir": f"{target_fpir:g}",
                "gallery": opened.size,
                "contract": models.contract_id,
                "waiting": result.waiting,
                "started": to_rfc3339(started),
                "ended": to_rfc3339(context.clock.now()),
                "database": f"vault:{context.vault.vault_id}:{opened.consenting.revision}",
                "input": commit_to_input(frame, salt) if salt else "not retained",
            }
            with context.vault.transaction(durable=bool(salt)) as transaction:
                if transaction.revision == opened.consenting.revision:
                    if salt:
                        # 11 seal
                        names = {handle.name: handle.commitment for handle in opened.consenting.handles.values()}
                        return seal_result(transaction, rule, result, names, details, salt, context.clock.now())
                    # 12 audit
                    details["result"] = result.outcome
                    transaction.append_event(AuditEvent("identification", subject=found, details=details))
                    break
            # Somebody withdrew, or was erased, while the search ran: what it found may be about them. Search again.
    except FacekeepError as error:
        context.record_failure("identification", error, None)
        raise
    return result


def _search(
    context: FlowContext, models: Models, probe: Embedding, target_fpir: float, margin: float
) -> tuple[OpenedGallery, Identification, str | None]:
    """Return the gallery searched, the outcome, and the commitment of whoever was identified: steps 8 to 10."""
    with context.gallery.lock:
        # 8 open
        opened = context.gallery.opened(context.vault, context.clock, models.contract_id)
        point = operating_point_for(models.operating_points, fmr_for_fpir(target_fpir, opened.templates))
        # 9 search
        ranked = opened.gallery.search(probe.vector, top=_SHORTLIST)
        # 10 decide
        outcome, kept = identify_among(ranked, point.threshold, margin)
        handles = opened.consenting.handles
        candidates = tuple(Candidate(handles[slot].name, ComparisonScore(score)) for slot, score in kept)
        result = Identification(outcome, candidates, point, target_fpir, opened.size, opened.waiting)
        return opened, result, handles[kept[0][0]].commitment if outcome == "identified" else None
