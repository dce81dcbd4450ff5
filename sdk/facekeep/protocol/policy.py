"""The federation policy: what a device's operator allows, given to the device by hand and never by the server."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.durations import add_duration
from facekeep.errors import FederationError, LogError
from facekeep.protocol.values import NAME, parse_decimal, require_digest, require_keys, require_whole, to_decimal
from facekeep.tlog import NoteKey, TrustPolicy

POLICY_VERSION: Final = 1
MOST_POLICY_BYTES: Final = 1 << 16
# Beyond a third of colluders neither quorum nor threshold can be met by those who are left.
MOST_COLLUDING_PERCENT: Final = 30
_COORDINATOR: Final = re.compile(r"[0-9a-f]{32}")
_EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Kind(StrEnum):
    """What a round computes."""

    TRAINING = "training"
    CALIBRATION = "calibration"
    DEMOGRAPHIC = "demographic"


class Level(StrEnum):
    """What a round of training moves; NONE in every other kind of round."""

    NONE = "none"
    HEAD = "head"
    CHANNELS = "channels"
    DEEP = "deep"


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationPolicy:
    """What this device takes part in. Format: docs/formats/round.md.

    Attributes:
        name: the federation: 1 to 63 of a-z, 0-9, dot, hyphen.
        authority_keys: any of them signs the roster.
        planner_keys: any of them signs plans.
        release_keys: `release_quorum` of them sign a release.
        release_quorum: how many.
        log_policy: a tlog-policy whose log has to say that a release was published, or None.
        coordinator: name in that log of the coordinator, who alone can say so (`facekeep.audit.entry.device_id` of its key); None
            without a log policy.
        minimum_cohort: fewest devices whose sum may be opened.
        epsilon: most privacy this device spends in all, as the unit.
        delta: at this delta.
        most_rounds: most rounds this device answers.
        kinds: what rounds may compute.
        levels: what training may move.
        colluding_percent: share of the fleet that may side with the server: threshold and quorum have to withstand it.
        most_samples: most training samples kept for one subject.
        samples_age: ISO 8601 duration after which a sample is destroyed.
        most_parameters: longest update a plan may ask for.
        training_kit: hexadecimal SHA-256 of the description of the training kit (`facekeep.training.kit`) that this device trains
            with; without one it answers no round of training.
        unsafe_without_noise: whether rounds that add no noise are allowed: for research on data that is nobody's.

    Raises:
        FederationError: "federation.invalid_policy", with the reason.
    """

    name: str
    authority_keys: tuple[NoteKey, ...]
    planner_keys: tuple[NoteKey, ...]
    release_keys: tuple[NoteKey, ...]
    release_quorum: int = 1
    log_policy: str | None = None
    coordinator: str | None = None
    minimum_cohort: int = 100
    epsilon: float = 8.0
    delta: float = 1e-5
    most_rounds: int = 100
    kinds: frozenset[Kind] = frozenset(Kind)
    levels: frozenset[Level] = frozenset({Level.HEAD, Level.CHANNELS, Level.DEEP})
    colluding_percent: int = 5
    most_samples: int = 50
    samples_age: str = "P90D"
    most_parameters: int = 1 << 20
    training_kit: str | None = None
    unsafe_without_noise: bool = False

    def __post_init__(self) -> None:
        try:
            if not NAME.fullmatch(self.name):
                raise ValueError("the name is 1 to 63 of a-z, 0-9, dot and hyphen, and begins with a letter or digit")
            for label in ("authority_keys", "planner_keys", "release_keys"):
                object.__setattr__(self, label, require_keys(label, getattr(self, label)))
            require_whole("release_quorum", self.release_quorum, 1, len(self.release_keys))
            # A sum of one is the update itself; of two, each of the two learns the other's.
            require_whole("minimum_cohort", self.minimum_cohort, 3, 1 << 24)
            require_whole("most_rounds", self.most_rounds, 1, 1 << 24)
            require_whole("colluding_percent", self.colluding_percent, 0, MOST_COLLUDING_PERCENT)
            require_whole("most_samples", self.most_samples, 1, 10_000)
            require_whole("most_parameters", self.most_parameters, 1, 1 << 24)
            if not (math.isfinite(self.epsilon) and self.epsilon > 0 and 0 < self.delta < 1):
                raise ValueError("epsilon is positive and finite, and delta lies between 0 and 1")
            object.__setattr__(self, "kinds", frozenset(Kind(item) for item in self.kinds))
            object.__setattr__(self, "levels", frozenset(Level(item) for item in self.levels) - {Level.NONE})
            if not self.kinds:
                raise ValueError("there is at least one kind of round")
            self._require_log()
            if self.training_kit is not None:
                require_digest(self.training_kit)
            if not isinstance(self.unsafe_without_noise, bool):
                raise ValueError("unsafe_without_noise is true or false")
            _ = self.samples_term
        except (ValueError, TypeError) as error:
            raise FederationError("federation.invalid_policy", f"The federation policy is not valid: {error}.") from None

    def _require_log(self) -> None:
        # One without the other would look like a protection and be none: anybody in the log could say what was published.
        if (self.log_policy is None) != (self.coordinator is None):
            raise ValueError("log_policy and coordinator go together")
        if self.log_policy is None or self.coordinator is None:
            return
        if not isinstance(self.log_policy, str) or len(self.log_policy) > MOST_POLICY_BYTES // 2:
            raise ValueError("log_policy is a tlog-policy, not too long")
        if not _COORDINATOR.fullmatch(self.coordinator):
            raise ValueError("coordinator is 32 hexadecimal digits")
        try:
            TrustPolicy.parse(self.log_policy)
        except LogError as error:
            raise ValueError(f"log_policy: {error.args[0]}") from None

    @property
    def samples_term(self) -> timedelta:
        """How long a training sample is kept."""
        return add_duration(_EPOCH, self.samples_age) - _EPOCH

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the canonical bytes: what the trail names the policy by."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the canonical JSON that the vault keeps."""
        fields: dict[str, Any] = {
            "v": POLICY_VERSION,
            "name": self.name,
            "authority_keys": [key.to_vkey() for key in self.authority_keys],
            "planner_keys": [key.to_vkey() for key in self.planner_keys],
            "release_keys": [key.to_vkey() for key in self.release_keys],
            "release_quorum": self.release_quorum,
            "log_policy": self.log_policy,
            "minimum_cohort": self.minimum_cohort,
            "epsilon": to_decimal(self.epsilon),
            "delta": to_decimal(self.delta),
            "most_rounds": self.most_rounds,
            "kinds": sorted(self.kinds),
            "levels": sorted(self.levels),
            "colluding_percent": self.colluding_percent,
            "most_samples": self.most_samples,
            "samples_age": self.samples_age,
            "most_parameters": self.most_parameters,
            "training_kit": self.training_kit,
            "unsafe_without_noise": self.unsafe_without_noise,
        }
        # Left out where there is none: policies from before there was this field keep their bytes, and their digest.
        return to_canonical(fields if self.coordinator is None else fields | {"coordinator": self.coordinator})

    @classmethod
    def parse(cls, data: bytes) -> FederationPolicy:
        """Return the policy of canonical JSON.

        Raises:
            FederationError: "federation.invalid_policy".
        """
        try:
            if len(data) > MOST_POLICY_BYTES:
                raise ValueError("it is too long")
            fields = parse_canonical(data)
            for name in ("epsilon", "delta"):
                fields[name] = parse_decimal(fields[name])
            policy = cls._of(fields)
            if policy.to_bytes() != data:
                raise ValueError("it is not in its one form")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FederationError("federation.invalid_policy", f"The federation policy cannot be read: {error}.") from None
        return policy

    @classmethod
    def parse_toml(cls, text: str) -> FederationPolicy:
        """Return the policy of a TOML file: the fields of the class by name, keys as vkeys; what is left out has its default.

        Raises:
            FederationError: "federation.invalid_policy".
        """
        # Imported here: only whoever joins reads TOML.
        import tomllib

        try:
            return cls._of(tomllib.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise FederationError("federation.invalid_policy", f"The federation policy cannot be read: {error}.") from None

    @classmethod
    def _of(cls, fields: Mapping[str, Any]) -> FederationPolicy:
        values = dict(fields)
        if values.pop("v", None) != POLICY_VERSION:
            raise ValueError(f"v is not {POLICY_VERSION}")
        try:
            for name in ("authority_keys", "planner_keys", "release_keys"):
                values[name] = tuple(NoteKey.parse(vkey) for vkey in values[name])
        except LogError as error:
            raise ValueError(error.args[0]) from None
        for name in ("epsilon", "delta"):
            if name in values:
                values[name] = float(values[name])
        for name in ("kinds", "levels"):
            if name in values:
                values[name] = frozenset(values[name])
        # A misspelt field would silently leave a protection at its default.
        return cls(**values)
