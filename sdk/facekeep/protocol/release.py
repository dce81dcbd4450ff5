"""A model release: what a federation's sum became, signed by k of n keys; and the bundle that it travels in.

Format: docs/formats/release.md.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from facekeep.canonical import parse_canonical, to_canonical
from facekeep.clock import parse_rfc3339, to_rfc3339
from facekeep.errors import FederationError, ReleaseError, TrustError
from facekeep.note import sign_note
from facekeep.protocol.codec import Reader, Writer
from facekeep.protocol.policy import Level
from facekeep.protocol.values import NAME, parse_decimal, require_digest, require_whole, to_decimal
from facekeep.signing import DeviceKey
from facekeep.tlog.notes import LARGEST_NOTE_BYTES

RELEASE_VERSION: Final = 1
MOST_PARAMETER_BYTES: Final = 1 << 24
MOST_VECTOR_BYTES: Final = 1 << 20
MOST_PROOF_BYTES: Final = 1 << 18
_MOST_ROUNDS: Final = 1024
_MOST_POINTS: Final = 32
_HEAD: Final = "facekeep.release/"
_BUNDLE: Final = 0x50
_RATES: Final = ("threshold", "fmr", "fnmr")
_INTERVALS: Final = ("fmr_interval", "fnmr_interval")


@dataclass(frozen=True, slots=True)
class ReleasedPoint:
    """A threshold that was measured with the released model: `facekeep.biometric.OperatingPoint`, as it travels.

    Attributes:
        threshold: cosine at and above which a comparison matches.
        fmr: false match rate at it.
        fmr_interval: 95 % interval.
        fnmr: false non-match rate at it.
        fnmr_interval: 95 % interval.
        dataset: what it was measured on.
        mated: number of mated comparisons.
        non_mated: number of non-mated comparisons.

    Raises:
        ValueError: with what is wrong.
    """

    threshold: float
    fmr: float
    fmr_interval: tuple[float, float]
    fnmr: float
    fnmr_interval: tuple[float, float]
    dataset: str
    mated: int
    non_mated: int

    def __post_init__(self) -> None:
        rates = (self.fmr, *self.fmr_interval, self.fnmr, *self.fnmr_interval)
        if not all(0.0 <= rate <= 1.0 for rate in rates) or not -1.0 <= self.threshold <= 1.0 or not 0.0 < self.fmr < 1.0:
            raise ValueError("rates lie in 0 to 1, thresholds in -1 to 1")
        require_whole("mated", self.mated, 1, 1 << 50)
        require_whole("non_mated", self.non_mated, 1, 1 << 50)
        if not isinstance(self.dataset, str) or not 0 < len(self.dataset) <= 512:
            raise ValueError("an operating point says what it was measured on")

    def to_value(self) -> dict[str, object]:
        """Return the fields, real numbers as text."""
        return {
            **{name: to_decimal(getattr(self, name)) for name in _RATES},
            **{name: [to_decimal(rate) for rate in getattr(self, name)] for name in _INTERVALS},
            "dataset": self.dataset,
            "mated": self.mated,
            "non_mated": self.non_mated,
        }

    @classmethod
    def of_value(cls, value: dict[str, Any]) -> ReleasedPoint:
        """Return the point of `to_value`.

        Raises:
            ValueError, KeyError, TypeError: if it is none.
        """
        return cls(
            threshold=parse_decimal(value["threshold"]),
            fmr=parse_decimal(value["fmr"]),
            fmr_interval=_interval(value["fmr_interval"]),
            fnmr=parse_decimal(value["fnmr"]),
            fnmr_interval=_interval(value["fnmr_interval"]),
            dataset=value["dataset"],
            mated=value["mated"],
            non_mated=value["non_mated"],
        )


@dataclass(frozen=True, slots=True)
class PrivacyStatement:
    """What all rounds behind a release, and behind those it continues, cost one device at the most.

    Attributes:
        epsilon: differential privacy with one device as the unit; infinity, spelled "inf", where no noise was added.
        delta: at this delta.
        cohort: fewest devices in a sum.
        fleet: devices in the roster.
    """

    epsilon: float
    delta: float
    cohort: int
    fleet: int

    def __post_init__(self) -> None:
        if math.isnan(self.epsilon) or self.epsilon < 0 or not 0 <= self.delta < 1:
            raise ValueError("epsilon is not negative, and delta lies between 0 and 1")
        require_whole("cohort", self.cohort, 0, 1 << 24)
        require_whole("fleet", self.fleet, 0, 1 << 24)

    def to_value(self) -> dict[str, object]:
        """Return the fields."""
        epsilon = "inf" if math.isinf(self.epsilon) else to_decimal(self.epsilon)
        return {"epsilon": epsilon, "delta": to_decimal(self.delta), "unit": "device", "cohort": self.cohort, "fleet": self.fleet}

    @classmethod
    def of_value(cls, value: dict[str, Any]) -> PrivacyStatement:
        """Return the statement of `to_value`.

        Raises:
            ValueError, KeyError, TypeError: if it is none.
        """
        epsilon = math.inf if value["epsilon"] == "inf" else parse_decimal(value["epsilon"])
        return cls(epsilon, parse_decimal(value["delta"]), value["cohort"], value["fleet"])


@dataclass(frozen=True, kw_only=True)
class ModelRelease:
    """One release. What it says is believed only once `facekeep.trust` has accepted it.

    Attributes:
        federation: name of the federation.
        version: strictly increasing for ever.
        parent: digest of the release it continues; None for the first, which continues the model that shipped.
        level: which numbers it sets.
        base: hexadecimal SHA-256 of the model file that shipped, which the first release was made of.
        parameters_sha256: of the numbers, little-endian float32.
        parameters_length: how many numbers.
        model: SHA-256 of the model file after the patch.
        contract: contract id of the embeddings it makes.
        operating_points: thresholds measured with it, loosest false match rate first.
        privacy: what it cost.
        rounds: rounds behind it and not behind its parent.
        vectors_sha256: of the embeddings it is to give for the reference crops; None where the bundle has none.
        created: when it was made.
        expires: first instant at which it may not be adopted any more.

    Raises:
        ValueError: with what is wrong.
    """

    federation: str
    version: int
    parent: str | None
    level: Level
    base: str
    parameters_sha256: str
    parameters_length: int
    model: str
    contract: str
    operating_points: tuple[ReleasedPoint, ...] = field(repr=False)
    privacy: PrivacyStatement
    rounds: tuple[int, ...]
    vectors_sha256: str | None
    created: datetime
    expires: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "level", Level(self.level))
        if not NAME.fullmatch(self.federation) or self.level is Level.NONE:
            raise ValueError("a release names its federation and the level it sets")
        require_whole("version", self.version, 1, 1 << 40)
        require_whole("parameters length", self.parameters_length, 1, MOST_PARAMETER_BYTES // 4)
        for digest in (self.base, self.parameters_sha256, self.model, self.contract):
            require_digest(digest)
        for optional in (self.parent, self.vectors_sha256):
            if optional is not None:
                require_digest(optional)
        if not 1 <= len(self.operating_points) <= _MOST_POINTS:
            raise ValueError(f"a release has 1 to {_MOST_POINTS} operating points")
        if sorted({point.fmr for point in self.operating_points}, reverse=True) != [p.fmr for p in self.operating_points]:
            raise ValueError("operating points have different rates, the loosest first")
        for number in self.rounds:
            require_whole("round", number, 1, 1 << 40)
        if len(self.rounds) > _MOST_ROUNDS or list(self.rounds) != sorted(set(self.rounds)):
            raise ValueError(f"rounds are at most {_MOST_ROUNDS}, in order")
        if self.created >= self.expires:
            raise ValueError("a release expires after it was made")

    @cached_property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the note's text: what the next release names as its parent, and a plan as its base."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def for_trail(self) -> dict[str, str | int | bool]:
        """Return what an entry of a trail says of this release, whoever writes it: the coordinator, or a device that adopts it."""
        return {
            "federation": self.federation,
            "release": self.digest,
            "version": self.version,
            "parent": self.parent or "",
            "level": self.level.value,
            "contract": self.contract,
        }

    def to_text(self) -> str:
        """Return the text of the note: a line that says what it is, and canonical JSON."""
        fields: dict[str, Any] = {
            "v": RELEASE_VERSION,
            "federation": self.federation,
            "version": self.version,
            "parent": self.parent,
            "level": self.level.value,
            "base": self.base,
            "parameters": {"sha256": self.parameters_sha256, "length": self.parameters_length},
            "model": self.model,
            "contract": self.contract,
            "operating_points": [point.to_value() for point in self.operating_points],
            "privacy": self.privacy.to_value(),
            "rounds": list(self.rounds),
            "vectors": self.vectors_sha256,
            "created": to_rfc3339(self.created),
            "expires": to_rfc3339(self.expires),
        }
        return f"{_HEAD}{self.federation}\n{to_canonical(fields).decode()}\n"

    def sign(self, name: str, key: DeviceKey) -> str:
        """Return the note signed by one key; further keys add their lines (`facekeep.protocol.release.cosign`)."""
        return sign_note(self.to_text(), name, key)

    @classmethod
    def parse(cls, text: str) -> ModelRelease:
        """Return the release of a note's text.

        Raises:
            ReleaseError: "release.malformed".
        """
        try:
            _, body, _ = text.split("\n")
            fields = parse_canonical(body.encode())
            release = cls(
                federation=fields["federation"],
                version=fields["version"],
                parent=fields["parent"],
                level=Level(fields["level"]),
                base=fields["base"],
                parameters_sha256=fields["parameters"]["sha256"],
                parameters_length=fields["parameters"]["length"],
                model=fields["model"],
                contract=fields["contract"],
                operating_points=tuple(ReleasedPoint.of_value(point) for point in fields["operating_points"]),
                privacy=PrivacyStatement.of_value(fields["privacy"]),
                rounds=tuple(fields["rounds"]),
                vectors_sha256=fields["vectors"],
                created=parse_rfc3339(fields["created"]),
                expires=parse_rfc3339(fields["expires"]),
            )
            # Field by field the same, in the one spelling: nothing unknown stands between, and no version but this one.
            if release.to_text() != text:
                raise ValueError("it has another spelling, or another version")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ReleaseError("release.malformed", f"The note is not a release: {error}.") from None
        return release


def cosign(note: str, name: str, key: DeviceKey) -> str:
    """Return the note of a release with one more signature.

    Raises:
        ReleaseError: "release.malformed" for a note that is none of a release.
    """
    text, separator, lines = note.rpartition("\n\n")
    if not separator:
        raise ReleaseError("release.malformed", "A signed release is a text, an empty line and signature lines.")
    text += "\n"
    ModelRelease.parse(text)
    return f"{text}\n{lines}" + sign_note(text, name, key).rpartition("\n\n")[2]


@dataclass(frozen=True, slots=True)
class ReleaseBundle:
    """A release with everything a device needs to adopt it. Nothing in it is believed yet.

    Attributes:
        note: signed note.
        parameters: the numbers, little-endian float32.
        vectors: the embeddings for the reference crops, little-endian float32; empty where the release has none.
        proof: that it is in the transparency log (`facekeep.trust.logged`); empty where the federation has no log.
    """

    note: str = field(repr=False)
    parameters: bytes = field(repr=False)
    vectors: bytes = field(default=b"", repr=False)
    proof: bytes = field(default=b"", repr=False)

    def to_bytes(self) -> bytes:
        """Return the bytes that travel."""
        writer = Writer(_BUNDLE).sized(self.note.encode()).sized(self.proof)
        return writer.sized(self.vectors).sized(self.parameters).to_bytes()

    @classmethod
    def parse(cls, data: bytes) -> ReleaseBundle:
        """Return the bundle of its bytes.

        Raises:
            ReleaseError: "release.malformed".
        """
        most = LARGEST_NOTE_BYTES + MOST_PROOF_BYTES + MOST_VECTOR_BYTES + MOST_PARAMETER_BYTES + 64
        try:
            reader = Reader(data, _BUNDLE, most)
            note, proof = reader.text(LARGEST_NOTE_BYTES), reader.sized(MOST_PROOF_BYTES)
            vectors, parameters = reader.sized(MOST_VECTOR_BYTES), reader.sized(MOST_PARAMETER_BYTES)
            reader.end()
        except (FederationError, TrustError) as error:
            raise ReleaseError("release.malformed", f"The bundle of a release is not well formed: {error.args[0]}") from None
        return cls(note, parameters, vectors, proof)


def _interval(value: Any) -> tuple[float, float]:
    low, high = value
    return parse_decimal(low), parse_decimal(high)
