"""The audit trail of a device: append-only, hash-chained, with a signed head. Pure: it computes, the vault stores."""

from facekeep.audit.event import EVENTS, AuditEvent
from facekeep.audit.trail import TrailHead, TrailReport, append_event, open_head, sign_head, verify_trail

__all__ = [
    "EVENTS",
    "AuditEvent",
    "TrailHead",
    "TrailReport",
    "append_event",
    "open_head",
    "sign_head",
    "verify_trail",
]
