"""From a candidate to the text that release keys sign.

Steps:
    1 the candidate: the mean updates of completed rounds, taken by the server optimiser from the model in use, step after step
    2 the gate looks at its numbers
    3 the gate looks at its accuracy: measured here on crops, or in an evaluation made elsewhere
    4 a candidate that does not pass is withheld, and recorded
    5 the privacy of every round so far, and the text to sign
Files of a candidate beside those of `facekeep_server.federation.candidates`: `optimiser`, the state after it; `release`, the text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.audit import AuditEvent
from facekeep.errors import ReleaseError
from facekeep.privacy.accounting import spent
from facekeep.protocol import Account
from facekeep.protocol.release import ModelRelease, ReleasedPoint
from facekeep.training.patching import read_parameters
from facekeep.trust.vectors import vectors_to_bytes
from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import Candidate, make_candidate, model_in_use, newest_release, write_candidate
from facekeep_server.federation.files import read_file, replace_file
from facekeep_server.federation.model import read_model
from facekeep_server.federation.state import FederationState
from facekeep_server.releases.chaining import OPTIMISER_FILE, Steering
from facekeep_server.releases.contracts import ContractDescription
from facekeep_server.releases.evaluating import EvaluationCrops, ModelRunner, accuracy_of, operating_points, point_at
from facekeep_server.releases.gate import VERSION, GateLimits, Verdict, judge_accuracy, judge_change
from facekeep_server.releases.optimising import ServerOptimiser
from facekeep_server.releases.privacy import privacy_of
from facekeep_server.releases.rollout import withheld
from facekeep_server.statistics.calibrating import CalibratedPoint

TERM: Final = timedelta(days=180)
TEXT_FILE: Final = "release"
Record = Callable[[AuditEvent], None]


@dataclass(frozen=True, slots=True)
class Evaluating:
    """What the gate measures with.

    Attributes:
        sets: crops; the first gives the operating points.
        contract: of the fleet's packs.
        calibrated: thresholds from a federated calibration of exactly this model, in place of those of the crops.
    """

    sets: Sequence[EvaluationCrops]
    contract: ContractDescription
    calibrated: Sequence[CalibratedPoint] = ()


def make_steered(state: FederationState, rounds: Sequence[int], optimiser: ServerOptimiser, *, first: int = 0) -> Candidate:
    """Return the candidate that the optimiser makes of completed rounds; what it remembers goes on from the release in use.

    Rounds that began where others left off are steps of their own, in order; those before them need not be named. `first`: as of
    `make_candidate`.

    Raises:
        ServerError: "server.invalid_request" for rounds that do not go together; "server.invalid_configuration".
    """
    # 1 candidate
    steering = Steering(state, optimiser)
    found = make_candidate(state, rounds, steer=steering, first=first)
    replace_file(found.folder / OPTIMISER_FILE, steering.kept[-1].to_bytes(optimiser))
    return found


def make_recalibrated(state: FederationState, calibration: int) -> Candidate:
    """Return the model in use as a candidate once more, to be released with thresholds that a calibration gave.

    Raises:
        ServerError: "server.invalid_request" before the first release: thresholds of the model that shipped are its pack's.
    """
    newest = newest_release(state)
    if newest is None:
        raise ServerError("server.invalid_request", "Thresholds of the model that shipped belong to its pack; release one first.")
    release, table, content = newest[0], read_model(state).table, model_in_use(state)
    part = table.parameters.range_of(release.level.value)
    numbers = read_parameters(content, table)[part].astype("<f4").tobytes()
    return write_candidate(state, release.digest, release.level, (calibration,), numbers, content)


def evaluate(state: FederationState, candidate: Candidate, evaluating: Evaluating, limits: GateLimits) -> Verdict:
    """Measure a candidate against the model in use, and write `evaluation.json` and `vectors.f32` beside it (3).

    Raises:
        ReleaseError: "release.gate" if the model does not even run.
    """
    content = candidate.model
    old = ModelRunner(model_in_use(state), evaluating.contract.input)
    new = ModelRunner(content, evaluating.contract.input)
    before, after, vectors = {}, {}, {}
    for crops in evaluating.sets:
        vectors[crops.name] = new.embed(crops.crops)
        before[crops.name] = accuracy_of(old.embed(crops.crops), crops.people, tuple(limits.most_fall))
        after[crops.name] = accuracy_of(vectors[crops.name], crops.people, tuple(limits.most_fall))
    verdict = judge_accuracy(before, after, limits)
    first = evaluating.sets[0]
    points = _points(evaluating, first, vectors[first.name])
    if not points:
        verdict = Verdict((*verdict.reasons, "too few people to measure any operating point"), verdict.figures)
    sha256 = hashlib.sha256(content).hexdigest()
    value: dict[str, Any] = {
        "v": VERSION,
        "model": sha256,
        "contract": evaluating.contract.contract_of(sha256),
        "operating_points": [point.to_value() for point in points],
        "passed": verdict.passed,
        "reason": "; ".join(verdict.reasons) or "no worse than the model in use",
        "figures": verdict.figures,
        "measured_on": [{"name": item.name, "crops": len(item.crops), "sha256": item.sha256} for item in evaluating.sets],
    }
    replace_file(candidate.folder / "vectors.f32", vectors_to_bytes(new.references()))
    replace_file(candidate.folder / "evaluation.json", (json.dumps(value, indent=1) + "\n").encode())
    return verdict


def make_release(
    state: FederationState,
    candidate: Candidate,
    now: datetime,
    record: Record,
    *,
    evaluating: Evaluating | None = None,
    limits: GateLimits | None = None,
    term: timedelta = TERM,
    account: Account = spent,
) -> ModelRelease:
    """Return the release that a candidate becomes; its text waits for signatures beside the candidate.

    Args:
        state: of the federation.
        candidate: which.
        now: the present instant.
        record: writes to the coordinator's trail.
        evaluating: what to measure with; left out: the evaluation that somebody else wrote beside the candidate counts.
        limits: of the gate.
        term: how long it may be adopted.
        account: what charges cost.

    Raises:
        ReleaseError: "release.gate" if it does not pass: it is recorded as withheld; "release.wrong_parent" if another release came
            since the candidate was made.
        ServerError: "server.invalid_request" without an evaluation of exactly this candidate, and for one that was published, or
            logged to be.
    """
    newest, limits = newest_release(state), limits or GateLimits()
    if candidate.parent != (None if newest is None else newest[0].digest):
        raise ReleaseError("release.wrong_parent", "Another release was made since; make the candidate again.")
    try:
        # 2 numbers
        _require(judge_change(*_numbers(state, candidate), limits))
        # 3 accuracy
        if evaluating is not None:
            evaluate(state, candidate, evaluating, limits)
        evaluation = candidate.evaluation()
        if evaluation.get("passed") is not True:
            _require(Verdict((str(evaluation.get("reason", "not passed")),), {}))
    except ReleaseError as error:
        # 4 withheld
        (candidate.folder / TEXT_FILE).unlink(missing_ok=True)
        record(withheld(state, candidate.version, candidate.parent, "", error))
        raise
    # 5 privacy and text
    if (state.root / "releases" / f"{candidate.version:05d}").exists():
        # Its text may be in the log already: a second one of the same version would show two releases where there is one.
        told = f"Version {candidate.version} is used up. Publish what was signed, or make the candidate again, as the next one."
        raise ServerError("server.invalid_request", told)
    path = candidate.folder / "vectors.f32"
    vectors = read_file(path) if path.is_file() else b""
    release = ModelRelease(
        federation=state.settings.name,
        version=candidate.version,
        parent=candidate.parent,
        level=candidate.level,
        base=read_model(state).sha256,
        parameters_sha256=hashlib.sha256(candidate.parameters).hexdigest(),
        parameters_length=len(candidate.parameters) // 4,
        model=hashlib.sha256(candidate.model).hexdigest(),
        contract=str(evaluation["contract"]),
        operating_points=_read_points(evaluation),
        privacy=privacy_of(state, account),
        rounds=candidate.rounds,
        vectors_sha256=hashlib.sha256(vectors).hexdigest() if vectors else None,
        created=now,
        expires=now + term,
    )
    replace_file(candidate.folder / TEXT_FILE, release.to_text().encode(), mode=0o644)
    return release


def _numbers(state: FederationState, candidate: Candidate) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    table = read_model(state).table
    part = table.parameters.range_of(candidate.level.value)
    return read_parameters(model_in_use(state), table)[part], np.frombuffer(candidate.parameters, "<f4").astype(np.float32)


def _points(evaluating: Evaluating, crops: EvaluationCrops, vectors: NDArray[np.float32]) -> tuple[ReleasedPoint, ...]:
    people = len(np.unique(crops.people))
    named = f"{people} people, {len(crops.crops)} crops of {crops.name}, SHA-256 {crops.sha256[:16]}"
    if not evaluating.calibrated:
        return operating_points(vectors, crops.people, named)
    found = []
    for point in sorted(evaluating.calibrated, key=lambda item: item.target_fmr, reverse=True):
        told = f"false matches: federated calibration of {point.devices} devices; false non-matches: {named}"
        of_fleet = (point.threshold, point.target_fmr, point.fmr_interval, point.comparisons)
        found.append(point_at(vectors, crops.people, *of_fleet, told))
    return tuple(found)


def _read_points(evaluation: dict[str, Any]) -> tuple[ReleasedPoint, ...]:
    try:
        return tuple(ReleasedPoint.of_value(point) for point in evaluation["operating_points"])
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError("server.invalid_request", f"The evaluation's operating points are not well formed: {error}.") from None


def _require(verdict: Verdict) -> None:
    if not verdict.passed:
        raise ReleaseError("release.gate", f"The gate does not let the candidate pass: {'; '.join(verdict.reasons)}.")
