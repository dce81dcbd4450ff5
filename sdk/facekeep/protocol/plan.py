"""The plan of a round: everything that a device has to agree to, in one signed document."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import FederationError, TrustError
from facekeep.note import sign_note
from facekeep.privacy.noise import LARGEST_VARIANCE
from facekeep.privacy.ring import Scale
from facekeep.protocol.policy import Kind, Level
from facekeep.protocol.values import NAME, parse_decimal, require_digest, require_signed, require_whole, to_decimal
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey

PLAN_VERSION: Final = 1
RING_BITS: Final = 32
MOST_COHORT: Final = 1 << 16
MOST_NEIGHBOURS: Final = 128
MOST_COMMITTEE: Final = 512
MOST_PARAMETERS: Final = 1 << 24
MOST_EXTRAS: Final = 8
MOST_SETTINGS: Final = 64
START_SETTING: Final = "start"
LONGEST_ROUND: Final = timedelta(days=7)
# An extra takes at most one part in so many of the clipped norm.
EXTRA_SHARE: Final = 8
_SETTING: Final = re.compile(r"[a-z][a-z_]{0,31}")
_HEAD: Final = "facekeep.plan/"


@dataclass(frozen=True, slots=True)
class Extra:
    """A number that travels behind the update, masked and noised with it, such as the mean loss.

    Attributes:
        name: what it is.
        most: larger values count as this one.
    """

    name: str
    most: float

    def __post_init__(self) -> None:
        if not _SETTING.fullmatch(self.name) or not (math.isfinite(self.most) and self.most > 0):
            raise ValueError("an extra has a name and a positive bound")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """One round. A plan that exists is consistent; whether a device agrees is for `acceptance` to say.

    Attributes:
        federation: name of the federation.
        round: strictly increasing for ever.
        kind: what is computed.
        level: what training moves.
        roster_size: entries of the roster it was planned over.
        roster_root: its root, hexadecimal.
        drawn: how many devices of the roster `seed` draws; only those may be invited. Everybody if left out (0).
        cohort_size: number of devices invited.
        cohort_digest: SHA-256 of `Cohort.to_bytes`, hexadecimal.
        groups: into how many separately summed groups the cohort falls.
        neighbours: with how many devices of its group each is paired.
        threshold: how many shares open a secret.
        committee: how many devices confirm who survived; everybody, or drawn by the plan.
        quorum: how many of them have to.
        minimum: fewest devices in a sum.
        length: P, parameters of the update.
        extras: numbers behind it.
        clip_units: largest L2 norm of update and extras together, in units of the ring.
        step: size of one unit of the ring.
        noise_variance: variance of the discrete Gaussian noise of each device and coordinate, in squared units of the ring.
        base: hexadecimal SHA-256 of what is trained on: the release in use, or the model file where there is none.
        settings: of the kind: whole numbers and short texts. Of training, besides: `start`, see the property.
        issued: when it was made.
        deadline: when it is over.
        seed: 32 random bytes, hexadecimal: with everything else it decides graph, groups and committee.
        noise_multiplier: stated: standard deviation of the noise of `minimum` devices over the sensitivity.
        epsilon: stated: what this round alone costs one device, at `delta`.
        delta: stated.

    Raises:
        ValueError: with what is wrong.
    """

    federation: str
    round: int
    kind: Kind
    level: Level
    roster_size: int
    roster_root: str
    drawn: int = 0
    cohort_size: int
    cohort_digest: str
    groups: int = 1
    neighbours: int
    threshold: int
    committee: int
    quorum: int
    minimum: int
    length: int
    extras: tuple[Extra, ...] = ()
    clip_units: int
    step: float
    noise_variance: int
    base: str
    settings: Mapping[str, int | str] = field(default_factory=dict, hash=False)
    issued: datetime
    deadline: datetime
    seed: str
    noise_multiplier: float
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", Kind(self.kind))
        object.__setattr__(self, "level", Level(self.level))
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))
        if not NAME.fullmatch(self.federation) or (self.kind is Kind.TRAINING) == (self.level is Level.NONE):
            raise ValueError("a plan names its federation, and a level if and only if it trains")
        for digest in (self.roster_root, self.cohort_digest, self.base, self.seed):
            require_digest(digest)
        if self.kind is Kind.TRAINING and START_SETTING in self.settings:
            require_digest(self.settings[START_SETTING])
        require_whole("round", self.round, 1, 1 << 40)
        require_whole("roster_size", self.roster_size, 1, 1 << 24)
        object.__setattr__(self, "drawn", self.drawn or self.roster_size)
        require_whole("drawn", self.drawn, 3, self.roster_size)
        require_whole("cohort_size", self.cohort_size, 3, min(self.drawn, MOST_COHORT))
        require_whole("groups", self.groups, 1, self.cohort_size // 3)
        smallest = self.cohort_size // self.groups
        require_whole("neighbours", self.neighbours, 2, min(MOST_NEIGHBOURS, self.largest_group - 1))
        if self.neighbours % 2 and (smallest % 2 or self.largest_group % 2):
            raise ValueError("no graph of odd degree has an odd number of devices: take an even number of neighbours")
        if self.neighbours > smallest - 1:
            raise ValueError("neighbours does not fit into the smallest group")
        require_whole("threshold", self.threshold, 2, self.neighbours)
        require_whole("committee", self.committee, min(self.cohort_size, 3), min(self.cohort_size, MOST_COMMITTEE))
        require_whole("quorum", self.quorum, self.committee // 2 + 1, self.committee)
        require_whole("minimum", self.minimum, 3, smallest)
        require_whole("length", self.length, 1, MOST_PARAMETERS)
        require_whole("clip_units", self.clip_units, 1, 1 << 31)
        require_whole("noise_variance", self.noise_variance, 0, LARGEST_VARIANCE)
        names = [extra.name for extra in self.extras]
        if len(names) > MOST_EXTRAS or len(set(names)) != len(names):
            raise ValueError("extras are few and have different names")
        if not 0 < self.delta < 1:
            raise ValueError("delta lies between 0 and 1")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0 and math.isfinite(self.epsilon)):
            raise ValueError("the statement of privacy is made of finite numbers")
        try:
            self.scale.require_room(self.largest_group, self.noise_variance)
        except FederationError as error:
            raise ValueError(error.args[0]) from None
        if not timedelta(0) < self.deadline - self.issued <= LONGEST_ROUND:
            raise ValueError(f"the deadline comes after the plan, within {LONGEST_ROUND.days} days")
        if len(self.settings) > MOST_SETTINGS or not all(_is_setting(*item) for item in self.settings.items()):
            raise ValueError("settings are few: lower-case names, whole numbers of 53 bits or texts of at most 128 characters")

    @property
    def start(self) -> str | None:
        """Hexadecimal SHA-256 of the numbers that training begins with, little-endian float32; None: those of the model in use."""
        return str(self.settings[START_SETTING]) if self.kind is Kind.TRAINING and START_SETTING in self.settings else None

    @property
    def largest_group(self) -> int:
        """Devices in the largest group."""
        return -(-self.cohort_size // self.groups)

    @property
    def size(self) -> int:
        """Length of the masked vector: parameters and extras."""
        return self.length + len(self.extras)

    @property
    def scale(self) -> Scale:
        """How an update becomes whole numbers."""
        return Scale(self.step, self.clip_units, self.size)

    @property
    def update_clip(self) -> float:
        """Largest L2 norm of the update alone: what the extras at their largest leave of the clip."""
        return self.scale.clip * math.sqrt(1 - len(self.extras) / EXTRA_SHARE**2)

    def to_text(self) -> str:
        """Return the text of the note: a line that says what it is, and canonical JSON."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _PLAIN}
        fields |= {name: to_decimal(getattr(self, name)) for name in _DECIMALS}
        fields |= {
            "v": PLAN_VERSION,
            "ring_bits": RING_BITS,
            "kind": self.kind.value,
            "level": self.level.value,
            "extras": [[extra.name, to_decimal(extra.most)] for extra in self.extras],
            "settings": dict(self.settings),
            "issued": to_rfc3339(self.issued),
            "deadline": to_rfc3339(self.deadline),
        }
        return f"{_HEAD}{self.federation}\n{to_canonical(fields).decode()}\n"

    def sign(self, name: str, key: DeviceKey) -> str:
        """Return the signed note; `name` is that of the planner's note key."""
        return sign_note(self.to_text(), name, key)

    @classmethod
    def parse(cls, text: str) -> RoundPlan:
        """Return the plan of a note's text.

        Raises:
            TrustError: "trust.malformed".
        """
        try:
            _, body, _ = text.split("\n")
            fields = parse_canonical(body.encode())
            if fields.pop("v") != PLAN_VERSION or fields.pop("ring_bits") != RING_BITS:
                raise ValueError("its version is not this one")
            fields |= {name: parse_decimal(fields[name]) for name in _DECIMALS}
            fields["extras"] = tuple(Extra(name, parse_decimal(most)) for name, most in fields["extras"])
            fields |= {name: parse_rfc3339(fields[name]) for name in ("issued", "deadline")}
            plan = cls(**fields)
            if plan.to_text() != text:
                raise ValueError("it has another spelling")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise TrustError("trust.malformed", f"The note is not the plan of a round: {error}.") from None
        return plan


@dataclass(frozen=True)
class SignedPlan:
    """A plan with the note it came in.

    Attributes:
        note: the signed note.
        plan: what it says.
    """

    note: str
    plan: RoundPlan

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the note's text: what every message of the round is signed over. Signatures do not change it."""
        return hashlib.sha256(self.plan.to_text().encode()).digest()

    @classmethod
    def open(cls, note: str, planners: Sequence[NoteKey]) -> SignedPlan:
        """Return the plan of a note that one of the planners signed.

        Raises:
            TrustError: "trust.malformed", "trust.bad_signature".
        """
        return cls(note, RoundPlan.parse(require_signed(note, planners)))


_DECIMALS: Final = ("step", "noise_multiplier", "epsilon", "delta")
_PLAIN: Final = (
    "federation",
    "round",
    "roster_size",
    "roster_root",
    "drawn",
    "cohort_size",
    "cohort_digest",
    "groups",
    "neighbours",
    "threshold",
    "committee",
    "quorum",
    "minimum",
    "length",
    "clip_units",
    "noise_variance",
    "base",
    "seed",
)


def _is_setting(name: object, value: object) -> bool:
    if not isinstance(name, str) or not _SETTING.fullmatch(name):
        return False
    if isinstance(value, str):
        return len(value) <= 128
    return isinstance(value, int) and abs(value) < 1 << 53
