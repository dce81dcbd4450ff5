"""How long what is kept: the policy, the plan that follows from it, and the signed record of what it destroyed. Pure.

Formats: docs/formats/retention-policy.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

# A vault needs the mark of an erasure and no more; making a dataclass takes a good part of a millisecond of a cold start.
if TYPE_CHECKING:
    from facekeep.retention.certificate import GONE_EVENTS, Gone, RetentionCertificate, SignedCertificate, verify_certificate
    from facekeep.retention.plan import Due, Holding, Kind, PlannedItem, Reason, RetentionPlan, due_at, make_plan
    from facekeep.retention.policy import RetentionPolicy
    from facekeep.retention.receipt import ErasureMark, ErasureReceipt, Inclusion

_NAMES_OF: Final = {
    "certificate": ("GONE_EVENTS", "Gone", "RetentionCertificate", "SignedCertificate", "verify_certificate"),
    "plan": ("Due", "Holding", "Kind", "PlannedItem", "Reason", "RetentionPlan", "due_at", "make_plan"),
    "policy": ("RetentionPolicy",),
    "receipt": ("ErasureMark", "ErasureReceipt", "Inclusion"),
}
_HOME_OF: Final = {name: home for home, names in _NAMES_OF.items() for name in names}

__all__ = [
    "GONE_EVENTS",
    "Due",
    "ErasureMark",
    "ErasureReceipt",
    "Gone",
    "Holding",
    "Inclusion",
    "Kind",
    "PlannedItem",
    "Reason",
    "RetentionCertificate",
    "RetentionPlan",
    "RetentionPolicy",
    "SignedCertificate",
    "due_at",
    "make_plan",
    "verify_certificate",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
