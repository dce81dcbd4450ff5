"""`federate release`: an evaluated candidate becomes a release, signed by k of the n release keys, and a bundle for devices.

The gate: a candidate that its evaluation found worse than the model in use is not signed. The evaluation states what it measured
and its judgement; whoever signs can look at both in `evaluation.json`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from facekeep.audit import AuditEvent
from facekeep.errors import ReleaseError
from facekeep.privacy.accounting import spelled, spent
from facekeep.protocol import Account, RoundPlan, charge_of
from facekeep.protocol.release import ModelRelease, PrivacyStatement, ReleaseBundle, ReleasedPoint, cosign
from facekeep_server.errors import ServerError
from facekeep_server.federation.candidates import Candidate, newest_release
from facekeep_server.federation.creation import key_name, load_policy
from facekeep_server.federation.files import make_directory, read_file, replace_file
from facekeep_server.federation.fleet import read_roster
from facekeep_server.federation.keys import load_signing_key
from facekeep_server.federation.model import read_model
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.state import FederationState

TERM: Final = timedelta(days=180)


def publish(
    state: FederationState,
    candidate: Candidate,
    now: datetime,
    record: Callable[[AuditEvent], None],
    *,
    keys: Path | None = None,
    term: timedelta = TERM,
    account: Account = spent,
) -> Path:
    """Sign a candidate as the next release; return its directory, which holds the bundle for devices.

    Raises:
        ReleaseError: "release.gate" if the evaluation does not let it pass; "release.wrong_parent" if another release came between.
        ServerError: "server.no_key", "server.invalid_request".
    """
    newest, settings, policy = newest_release(state), state.settings, load_policy(state)
    parent = None if newest is None else newest[0].digest
    details: dict[str, str | int | bool] = {"federation": settings.name, "version": candidate.version}
    evaluation = candidate.evaluation()
    if candidate.parent != parent:
        raise ReleaseError("release.wrong_parent", "Another release was made since; make the candidate again.")
    if evaluation.get("passed") is not True:
        reason = str(evaluation.get("reason", "not passed"))[:128]
        record(AuditEvent("release.withheld", "release.gate", details=details | {"reason": _plain(reason)}))
        raise ReleaseError("release.gate", f"The evaluation does not let the candidate pass: {reason}.")
    vectors = read_file(candidate.folder / "vectors.f32") if (candidate.folder / "vectors.f32").is_file() else b""
    release = ModelRelease(
        federation=settings.name,
        version=candidate.version,
        parent=parent,
        level=candidate.level,
        base=read_model(state).sha256,
        parameters_sha256=hashlib.sha256(candidate.parameters).hexdigest(),
        parameters_length=len(candidate.parameters) // 4,
        model=hashlib.sha256(candidate.model).hexdigest(),
        contract=str(evaluation["contract"]),
        operating_points=_points(evaluation),
        privacy=_privacy(state, candidate, account),
        rounds=candidate.rounds,
        vectors_sha256=hashlib.sha256(vectors).hexdigest() if vectors else None,
        created=now,
        expires=now + term,
    )
    note = ""
    for number in range(1, policy.release_quorum + 1):
        name = f"release-{number}"
        key = load_signing_key(state.key_path(name, keys))
        signer = key_name(settings, name)
        note = release.sign(signer, key) if not note else cosign(note, signer, key)
    folder = state.folder("releases") / f"{release.version:05d}"
    make_directory(folder)
    replace_file(folder / "model", candidate.model)
    replace_file(folder / "bundle", ReleaseBundle(note, candidate.parameters, vectors).to_bytes(), mode=0o644)
    # Last: a directory with a note is a release.
    replace_file(folder / "note", note.encode(), mode=0o644)
    stated = {"release": release.digest, "parent": parent or "none", "level": release.level.value, "contract": release.contract}
    numbers: dict[str, str | int | bool] = {
        "rounds": len(release.rounds),
        "epsilon": spelled(release.privacy.epsilon),
        "delta": repr(release.privacy.delta),
        "signatures": policy.release_quorum,
    }
    record(AuditEvent("release.published", details=details | stated | numbers))
    return folder


def _points(evaluation: dict[str, Any]) -> tuple[ReleasedPoint, ...]:
    try:
        return tuple(ReleasedPoint.of_value(point) for point in evaluation["operating_points"])
    except (ValueError, KeyError, TypeError) as error:
        raise ServerError("server.invalid_request", f"The evaluation's operating points are not well formed: {error}.") from None


def _privacy(state: FederationState, candidate: Candidate, account: Account) -> PrivacyStatement:
    """Return what every training round so far costs a device that was in all of them."""
    policy, plans = load_policy(state), []
    for number in state.round_numbers:
        directory = round_directory(state, number)
        # An aborted round counts: a device may have sent its update before it was aborted.
        if directory.is_over and number <= max(candidate.rounds):
            plans.append(RoundPlan.parse(read_file(directory.path / "plan").decode().rpartition("\n\n")[0] + "\n"))
    charges = [charge_of(plan, policy.colluding_percent) for plan in plans]
    known = [charge for charge in charges if charge is not None]
    epsilon = account(known, policy.delta) if len(known) == len(charges) else math.inf
    return PrivacyStatement(epsilon, policy.delta, min(plan.minimum for plan in plans), len(read_roster(state).roster))


def _plain(text: str) -> str:
    return "".join(
        character if character.isalnum() or character in "._:/+,- " else " " for character in text if character.isascii()
    )
