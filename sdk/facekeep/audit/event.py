"""What the trail may hold: codes, counts and commitments; never a name, a score or a vector."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from facekeep.canonical import HEX_DIGEST
from facekeep.errors import CODES, AuditError

OK = "ok"

# Event code -> the details it may carry. A closed list: what is not here cannot be logged, not even by mistake.
EVENTS: Final[dict[str, frozenset[str]]] = {
    "vault.created": frozenset({"provider"}),
    "vault.upgraded": frozenset({"from", "to"}),
    "key.rotated": frozenset({"epoch"}),
    "model.activated": frozenset({"contract", "detector", "embedder", "pad"}),
    "consent.requested": frozenset({"record", "purposes"}),
    "consent.given": frozenset({"record", "purposes", "until"}),
    "consent.renewed": frozenset({"record", "purposes", "until"}),
    "consent.refused": frozenset({"record", "purposes"}),
    "consent.withdrawn": frozenset({"record", "purposes"}),
    "consent.expired": frozenset({"record", "purposes"}),
    "consent.countersigned": frozenset({"record", "controller", "delegated"}),
    "revocation.imported": frozenset({"issuer", "epoch", "entries", "named", "sha256"}),
    "template.created": frozenset({"reference", "contract", "frames", "quality"}),
    "verification": frozenset({"match", "fmr", "references", "contract"}),
    "identification": frozenset(
        {
            "contract",
            "result",
            "fmr",
            "fpir",
            "gallery",
            "waiting",
            "started",
            "ended",
            "database",
            "input",
            "pending",
            "operators",
        }
    ),
    "identification.sealed": frozenset(
        {
            "pending",
            "commitment",
            "required",
            "until",
            "contract",
            "fmr",
            "fpir",
            "gallery",
            "waiting",
            "started",
            "ended",
            "database",
            "input",
        }
    ),
    "identification.confirmed": frozenset({"pending", "operator", "count"}),
    "identification.destroyed": frozenset({"pending", "count"}),
    "operator.added": frozenset({"operator", "key"}),
    "operator.removed": frozenset({"operator", "key"}),
    "log.enrolled": frozenset({"log", "number"}),
    "log.distrusted": frozenset({"kept", "shown", "evidence"}),
    "template.erased": frozenset({"references", "epoch"}),
    "template.expired": frozenset({"references", "epoch", "reason", "due", "subject_erased"}),
    "receipt.expired": frozenset({"records", "principal", "due"}),
    "trail.pruned": frozenset({"entries", "size", "root", "due"}),
    "retention.run": frozenset(
        {"policy", "trigger", "as_of", "first", "templates", "samples", "receipts", "entries", "groups", "certificate"}
    ),
    "policy.changed": frozenset({"kind", "policy"}),
    # Federated: on a device; `subject` is set once for each subject whose samples a round used.
    "federation.joined": frozenset({"federation", "policy", "key"}),
    "federation.left": frozenset({"federation"}),
    "sample.kept": frozenset({"count", "purposes"}),
    "sample.erased": frozenset({"count", "epoch", "reason", "due"}),
    "round.joined": frozenset({"federation", "round", "kind", "plan", "level", "epsilon", "delta", "spent"}),
    "round.answered": frozenset({"federation", "round", "plan", "step"}),
    "round.refused": frozenset({"federation", "round", "plan", "step"}),
    "release.adopted": frozenset({"federation", "release", "version", "parent", "level", "contract", "migrated", "waiting"}),
    "release.refused": frozenset({"federation", "release", "version"}),
    "release.rolled_back": frozenset({"federation", "release", "version", "to"}),
    "group.declared": frozenset({"held", "count", "reason", "due"}),
    "template.migrated": frozenset({"references", "contract", "parent", "reference"}),
    # Federated: in the coordinator's trail.
    "round.planned": frozenset({"federation", "round", "kind", "plan", "level", "cohort", "minimum", "epsilon", "delta"}),
    "round.completed": frozenset({"federation", "round", "plan", "cohort", "prepared", "survivors", "result", "suspects"}),
    "round.aborted": frozenset({"federation", "round", "plan", "step", "prepared", "survivors"}),
    "reply.refused": frozenset({"federation", "round", "step", "device"}),
    "release.published": frozenset(
        {"federation", "release", "version", "parent", "level", "contract", "rounds", "epsilon", "delta", "signatures"}
    ),
    "release.offered": frozenset({"federation", "release", "version", "canaries", "adopted"}),
    "release.withheld": frozenset({"federation", "release", "version", "parent", "reason"}),
}

_TEXT = re.compile(r"[A-Za-z0-9._:/+,\- ]{0,128}")


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing that happened on the device.

    Attributes:
        code: one of `EVENTS`.
        outcome: "ok" or the stable code of the error it ended in.
        subject: commitment to the subject (64 hexadecimal digits; HMAC under a salt shredded on erasure), or None.
        details: only the keys that `EVENTS` allows; short plain text, integers and booleans.

    Raises:
        AuditError: "audit.invalid_event".
    """

    code: str
    outcome: str = OK
    subject: str | None = None
    details: Mapping[str, str | int | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        allowed = EVENTS.get(self.code)
        if allowed is None or (self.outcome != OK and self.outcome not in CODES):
            raise AuditError("audit.invalid_event", "The event or its outcome is not one the trail knows.")
        if self.subject is not None and not HEX_DIGEST.fullmatch(self.subject):
            raise AuditError("audit.invalid_event", "A subject appears in the trail as a commitment only.")
        for key, value in self.details.items():
            plain = isinstance(value, int) or (isinstance(value, str) and _TEXT.fullmatch(value) is not None)
            if key not in allowed or not plain:
                raise AuditError("audit.invalid_event", f"The event {self.code} cannot carry {key!r} with such a value.")
