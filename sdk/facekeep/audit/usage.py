"""When each subject's templates last served, told from the trail: what a term of inactivity is counted from. Pure.

The trail is authenticated, monotonic and kept longer than any template, so that nothing else has to remember it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from facekeep.audit.event import OK
from facekeep.audit.trail import parse_entry
from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339
from facekeep.errors import AuditError

_VERSION: Final = 1
# Entries of older versions do not say which contract was used: they count for every template of the subject.
_ANY_CONTRACT: Final = ""
# What a training sample serves: a round. Told apart from every contract id by its length.
SAMPLES: Final = "samples"
_MARKERS: Final = (
    b'"event":"verification"',
    b'"event":"identification"',
    b'"event":"template.migrated"',
    b'"event":"round.joined"',
)


@dataclass(slots=True)
class LastUses:
    """The last use of each subject under each contract.

    Only what shows that the subject was there counts: a comparison that matched. A claim that did not match may be anybody's,
    and must not prolong what is held of its victim.

    Attributes:
        size: number of entries of the trail that were read.
        times: commitment -> contract id, or "" for any -> RFC 3339 instant.
    """

    size: int = 0
    times: dict[str, dict[str, str]] = field(default_factory=dict)

    def read(self, entries: Iterable[bytes]) -> None:
        """Take in further entries, which follow those read before.

        Raises:
            AuditError: "audit.broken_chain" if they do not.
        """
        for body in entries:
            # Most of a long trail is told apart without parsing it.
            if any(marker in body for marker in _MARKERS):
                self._take(parse_entry(body))
            self.size += 1

    def last_use(self, commitment: str, contract_id: str) -> datetime | None:
        """Return when a subject was last recognised under a contract, or None."""
        times = self.times.get(commitment, {})
        # The spelling of instants sorts as they do: one length, UTC.
        last = max(times.get(contract_id, ""), times.get(_ANY_CONTRACT, ""))
        return parse_rfc3339(last) if last else None

    def keep_only(self, commitments: Collection[str]) -> None:
        """Forget whoever is not among `commitments`."""
        self.times = {name: times for name, times in self.times.items() if name in commitments}

    def to_bytes(self) -> bytes:
        """Return canonical JSON."""
        return to_canonical({"v": _VERSION, "size": self.size, "times": self.times})

    @classmethod
    def parse(cls, body: bytes) -> LastUses:
        """Return what `to_bytes` wrote.

        Raises:
            AuditError: "audit.broken_chain".
        """
        try:
            fields = parse_canonical(body)
            uses = cls(fields["size"], {name: dict(times) for name, times in fields["times"].items()})
            if fields["v"] != _VERSION or not isinstance(uses.size, int) or uses.size < 0:
                raise ValueError("unknown form")
            for times in uses.times.values():
                for time in times.values():
                    parse_rfc3339(time)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise AuditError("audit.broken_chain", "The record of last uses is not of the form expected.") from None
        return uses

    def _take(self, fields: dict[str, Any]) -> None:
        details, subject = fields["details"], fields["subject"]
        if subject is not None and fields["outcome"] == OK and fields["event"] in ("template.migrated", "round.joined"):
            self._carry(subject, fields)
            return
        # An identification names a subject only when it found one.
        recognised = details.get("match") is True or fields["event"] == "identification"
        if subject is None or fields["outcome"] != OK or not recognised:
            return
        contract = details.get("contract", _ANY_CONTRACT)
        self.times.setdefault(subject, {})[contract] = fields["time"]

    def _carry(self, subject: str, fields: Any) -> None:
        times = self.times.setdefault(subject, {})
        if fields["event"] == "round.joined":
            times[SAMPLES] = fields["time"]
            return
        # A template that moved to another contract was last used when it was: else it would look as if never used at all.
        contract, parent = fields["details"]["contract"], fields["details"]["parent"]
        if last := max(times.get(contract, ""), times.get(parent, "")):
            times[contract] = last
