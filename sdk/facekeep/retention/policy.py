"""The retention policy: a small declarative file that says how long templates, samples, receipts and log entries are kept.

Format: docs/formats/retention-policy.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.durations import add_duration
from facekeep.errors import RetentionError

POLICY_VERSION: Final = 1
# AI Act, articles 19 and 26(6): logs are kept for at least six months: half a year, rounded up to whole days.
SHORTEST_LOG_DAYS: Final = 183
LARGEST_POLICY_BYTES: Final = 65_536
# section -> its keys; all of them have to be there, and no other may.
_SECTIONS: Final[dict[str, tuple[str, ...]]] = {
    "templates": ("inactivity", "maximum"),
    "training_samples": ("inactivity", "maximum"),
    "receipts": ("after_end",),
    "log": ("keep",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How long what is kept. Every term is an ISO 8601 duration such as "P1Y" or "P90D".

    Attributes:
        templates_inactivity: a template not used for this long is due.
        templates_maximum: a template this old is due, whatever its use: the statutory maximum.
        samples_inactivity: likewise for training samples.
        samples_maximum: likewise.
        receipts_after_end: a chain of consent records is due this long after the consent ended.
        log_keep: an entry of the audit trail this old is due.

    Raises:
        RetentionError: "retention.invalid_policy", with the reason.
    """

    templates_inactivity: str
    templates_maximum: str
    samples_inactivity: str
    samples_maximum: str
    receipts_after_end: str
    log_keep: str

    def __post_init__(self) -> None:
        terms = {f"{section}.{key}": self._term(section, key) for section, keys in _SECTIONS.items() for key in keys}
        days = {name: _days(name, term) for name, term in terms.items()}
        shortest_log = days["log.keep"][0]
        if shortest_log < timedelta(days=SHORTEST_LOG_DAYS):
            raise _refused(
                f"log.keep is {self.log_keep}, which can be as short as {shortest_log.days} days: "
                f"log entries are kept for at least {SHORTEST_LOG_DAYS} days"
            )
        for section in ("templates", "training_samples"):
            longest = days[f"{section}.maximum"][1]
            if shortest_log <= longest:
                # The log has to tell of the whole life of a template, its end included.
                raise _refused(
                    f"log.keep is {self.log_keep} ({shortest_log.days} days at least) and {section}.maximum is "
                    f"{terms[f'{section}.maximum']} ({longest.days} days at most): the log has to outlast what it tells of"
                )

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the canonical bytes: what certificates and the trail name the policy by."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that is stored and hashed: the same for every spelling of the same terms in TOML."""
        sections = {section: {key: self._term(section, key) for key in keys} for section, keys in _SECTIONS.items()}
        return to_canonical({"version": POLICY_VERSION, **sections})

    @classmethod
    def parse(cls, body: bytes) -> RetentionPolicy:
        """Return the policy of canonical JSON.

        Raises:
            RetentionError: "retention.invalid_policy".
        """
        try:
            return cls._of(parse_canonical(body))
        except ValueError:
            raise _refused("the stored policy is not canonical JSON") from None

    @classmethod
    def parse_toml(cls, text: str) -> RetentionPolicy:
        """Return the policy of a TOML file.

        Raises:
            RetentionError: "retention.invalid_policy": not TOML, a key missing, unknown or of another type, or terms that
                contradict one another.
        """
        # Imported here: a device reads its policy as JSON and never needs it.
        import tomllib

        if len(text.encode("utf-8", "replace")) > LARGEST_POLICY_BYTES:
            raise _refused(f"it has more than {LARGEST_POLICY_BYTES} bytes")
        try:
            fields = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            where = str(error).rpartition("(at ")[2].rstrip(")") if "(at " in str(error) else "somewhere"
            raise _refused(f"it is not TOML (at {where})") from None
        return cls._of(fields)

    @classmethod
    def _of(cls, fields: Any) -> RetentionPolicy:
        _require_keys("the file", fields, ("version", *_SECTIONS))
        # True is 1 in Python, and no version.
        if type(fields["version"]) is not int or fields["version"] != POLICY_VERSION:
            raise _refused(f"version is {POLICY_VERSION} in this format")
        for section, keys in _SECTIONS.items():
            _require_keys(f"[{section}]", fields[section], keys)
        return cls(
            templates_inactivity=fields["templates"]["inactivity"],
            templates_maximum=fields["templates"]["maximum"],
            samples_inactivity=fields["training_samples"]["inactivity"],
            samples_maximum=fields["training_samples"]["maximum"],
            receipts_after_end=fields["receipts"]["after_end"],
            log_keep=fields["log"]["keep"],
        )

    def _term(self, section: str, key: str) -> Any:
        return getattr(self, f"{'samples' if section == 'training_samples' else section}_{key}")


def _require_keys(where: str, table: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(table, Mapping):
        raise _refused(f"{where} is not a table")
    if missing := [key for key in keys if key not in table]:
        raise _refused(f"{where} lacks {', '.join(missing)}")
    if unknown := [key for key in table if key not in keys]:
        # A misspelt term that was passed over would be a term that nobody keeps. Only its place is shown: keys are input.
        raise _refused(f"{where} has {len(unknown)} key(s) that are not known; known are {', '.join(keys)}")


@lru_cache(maxsize=64)
def _span(term: str) -> tuple[timedelta, timedelta]:
    # A calendar's months differ: the ends of each month of eight years, 2096 to 2104, which the leap year 2100 is not among.
    firsts = [datetime(year, month, 1, tzinfo=UTC) for year in range(2096, 2105) for month in range(1, 13)]
    starts = [*firsts, *(first - timedelta(days=1) for first in firsts)]
    lengths = [add_duration(start, term) - start for start in starts]
    return min(lengths), max(lengths)


def _days(name: str, term: Any) -> tuple[timedelta, timedelta]:
    """Return the shortest and the longest that a term can be."""
    if not isinstance(term, str):
        raise _refused(f'{name} is not a duration: write it as text, such as "P1Y"')
    try:
        return _span(term)
    except ValueError as error:
        raise _refused(f"{name} cannot be used: {error}") from None


def _refused(reason: str) -> RetentionError:
    return RetentionError("retention.invalid_policy", f"The retention policy is refused: {reason}.")
