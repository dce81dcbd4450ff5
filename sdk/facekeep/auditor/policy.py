"""The policy to audit a log by: whose signatures count, and what the entries have to keep. Format: docs/compliance/audit.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from facekeep.durations import add_duration
from facekeep.errors import AuditError, LogError
from facekeep.tlog.policy import TrustPolicy

_TOP: Final = {"facekeep_audit_policy", "trust", "checkpoint", "time", "devices", "retention"}
_TABLES: Final[dict[str, set[str]]] = {
    "checkpoint": {"max_age", "unknown_signatures"},
    "time": {"tolerance"},
    "devices": {"listed", "silent_after"},
    "retention": {"inactivity", "maximum", "erase_within", "run_every"},
}
_DEVICE = re.compile(r"[0-9a-f]{32}")
_ANY_DAY = datetime(2001, 2, 1, tzinfo=UTC)  # the shortest month of a common year comes first: the least a term can last


@dataclass(frozen=True, slots=True)
class Term:
    """A duration such as "P3Y", compared by the calendar.

    Attributes:
        text: ISO 8601.
        least: no such term is shorter than this, save for a few days that months differ in.
        is_fixed: whether every such term lasts exactly `least`: it has neither years nor months.
    """

    text: str
    least: timedelta
    is_fixed: bool

    @classmethod
    def parse(cls, text: object) -> Term:
        """Return the term.

        Raises:
            ValueError: if it is not a positive ISO 8601 duration.
        """
        if not isinstance(text, str):
            raise ValueError('a term is text such as "P30D"')
        return cls(text, add_duration(_ANY_DAY, text) - _ANY_DAY, not set("YM") & set(text.partition("T")[0]))

    def is_over(self, start: datetime, now: datetime) -> bool:
        """Return whether the term that began at `start` has ended at `now`."""
        if self.is_fixed:
            return now - start >= self.least
        # Spares the calendar: from 1 February 2001 a year has 365 days and a month 28, and none is shorter.
        if now - start < self.least - timedelta(days=4):
            return False
        try:
            return add_duration(start, self.text) <= now
        except ValueError:  # past the year 9999
            return False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPolicy:
    """What an audit demands.

    Attributes:
        trust: keys of the log and the witnesses, and the quorum.
        max_age: how old the latest cosignature may be at the audit, or None for any age.
        refuse_unknown: whether a signature by a key that `trust` does not name is a finding.
        tolerance: by how much clocks may differ.
        devices: the only devices that may appear, or None for every one that was enrolled.
        silent_after: how long before the checkpoint a device may have been heard last, or None.
        inactivity: templates end this long after their subject's last use, or None.
        maximum: templates end this long after they were made, or None.
        erase_within: how soon after consent to enrolment ended its templates have to be gone.
        run_every: at most this long between two retention runs of a device that holds templates, or None.
    """

    trust: TrustPolicy
    max_age: Term | None = None
    refuse_unknown: bool = True
    tolerance: timedelta = timedelta(minutes=5)
    devices: frozenset[str] | None = None
    silent_after: Term | None = None
    inactivity: Term | None = None
    maximum: Term | None = None
    erase_within: Term = Term("P1D", timedelta(days=1), is_fixed=True)
    run_every: Term | None = None

    @classmethod
    def parse(cls, data: bytes | str) -> AuditPolicy:
        """Return the policy of a TOML file.

        Raises:
            AuditError: "audit.invalid_policy", with the reason: an unknown key is refused, for a misspelt rule would not be kept.
        """
        try:
            text = data.decode("utf-8") if isinstance(data, bytes) else data
            fields = tomllib.loads(text)
            if fields.get("facekeep_audit_policy") != 1 or not isinstance(fields.get("trust"), str):
                raise ValueError("it begins with facekeep_audit_policy = 1 and has a tlog-policy as trust")
            _require_known(fields)
            return cls._read(fields)
        except LogError as error:
            raise AuditError("audit.invalid_policy", f"The audit policy cannot be used: {error.args[0]}") from None
        except (ValueError, TypeError, RecursionError) as error:
            reason = str(error).splitlines()[0] if str(error) else "not TOML"
            raise AuditError("audit.invalid_policy", f"The audit policy cannot be used: {reason}.") from None

    @classmethod
    def _read(cls, fields: Mapping[str, Any]) -> AuditPolicy:
        checkpoint, time, devices, retention = (fields.get(name, {}) for name in _TABLES)
        unknown = checkpoint.get("unknown_signatures", "refuse")
        listed = devices.get("listed")
        if unknown not in ("refuse", "ignore"):
            raise ValueError("unknown_signatures is refuse or ignore")
        if listed is not None and (
            not isinstance(listed, list) or not all(isinstance(item, str) and _DEVICE.fullmatch(item) for item in listed)
        ):
            raise ValueError("listed is a list of device identifiers, 32 hexadecimal digits each")
        return cls(
            trust=TrustPolicy.parse(fields["trust"]),
            max_age=_term(checkpoint, "max_age"),
            refuse_unknown=unknown == "refuse",
            tolerance=Term.parse(time.get("tolerance", "PT5M")).least,
            devices=None if listed is None else frozenset(listed),
            silent_after=_term(devices, "silent_after"),
            inactivity=_term(retention, "inactivity"),
            maximum=_term(retention, "maximum"),
            erase_within=_term(retention, "erase_within") or Term.parse("P1D"),
            run_every=_term(retention, "run_every"),
        )


def _require_known(fields: Mapping[str, Any]) -> None:
    unknown = sorted(fields.keys() - _TOP)
    for name, keys in _TABLES.items():
        table = fields.get(name, {})
        if not isinstance(table, dict):
            raise ValueError(f"{name} is a table")
        unknown += sorted(f"{name}.{key}" for key in table.keys() - keys)
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)[:200]}")


def _term(table: Mapping[str, Any], key: str) -> Term | None:
    if key not in table:
        return None
    try:
        return Term.parse(table[key])
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
