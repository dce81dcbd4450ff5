"""How long what is kept: the policy, the plan that follows from it, and the signed record of what it destroyed. Pure.

Formats: docs/formats/retention-policy.md.
"""

from facekeep.retention.certificate import Gone, RetentionCertificate, SignedCertificate, verify_certificate
from facekeep.retention.plan import Due, Holding, Kind, PlannedItem, Reason, RetentionPlan, due_at, make_plan
from facekeep.retention.policy import RetentionPolicy
from facekeep.retention.receipt import ErasureMark, ErasureReceipt, Inclusion

__all__ = [
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
