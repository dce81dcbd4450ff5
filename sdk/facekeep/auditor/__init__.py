"""The auditor: judges a whole transparency log by a policy. Pure: `facekeep.logfiles` reads, this computes."""

from facekeep.auditor.policy import AuditPolicy
from facekeep.auditor.verdict import Finding, Verdict
from facekeep.auditor.verification import LogAudit

__all__ = ["AuditPolicy", "Finding", "LogAudit", "Verdict"]
