"""What plans of the kinds "calibration" and "demographic" ask for: settings that device and server read alike. Pure.

Format, and what the sums are worth: docs/compliance/federated-statistics.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.protocol.plan import Extra
from facekeep.protocol.values import parse_decimal, require_whole, to_decimal

MOST_BINS: Final = 1024
MOST_GROUPS: Final = 8
# Of each group: subjects, mated comparisons, false non-matches, non-mated comparisons (in units of `ratio`), false matches.
GROUP_FIELDS: Final = ("subjects", "mated", "non_matches", "non_mated", "false_matches")
CALIBRATION_EXTRAS: Final = (Extra("clipped", 1.0), Extra("pairs", 65_536.0))
_GROUP: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
_CALIBRATION: Final = {"low", "high", "bins", "gain", "anchors"}
_DEMOGRAPHIC: Final = {"groups", "threshold", "comparisons", "ratio", "anchors"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings:
    """The histogram of non-mated scores that each device contributes.

    Only scores from `low` on are told: what lies below no threshold would be set at, and telling it would use up the clip.

    Attributes:
        low: lower edge of the first bin.
        high: upper edge of the last one; higher scores are counted in it.
        bins: how many, all of one width.
        gain: by what a device's shares are multiplied before they are clipped. Few pairs score high, so shares are far below the
            clip; the larger the gain the less the noise weighs, and the more devices are clipped, which the extra "clipped" tells.
        anchors: whether templates are also compared with the anchors of the training kit.
    """

    low: float
    high: float
    bins: int
    gain: int
    anchors: bool

    def __post_init__(self) -> None:
        require_whole("bins", self.bins, 2, MOST_BINS)
        require_whole("gain", self.gain, 1, 1 << 20)
        if not (math.isfinite(self.low) and math.isfinite(self.high) and -1.0 <= self.low < self.high <= 1.0):
            raise ValueError("a histogram of cosines lies between -1 and 1")

    @property
    def edges(self) -> NDArray[np.float64]:
        """(bins,) lower edge of each bin."""
        return np.asarray(self.low + np.arange(self.bins) * ((self.high - self.low) / self.bins), np.float64)

    def to_settings(self) -> dict[str, int | str]:
        """Return them as the settings of a plan."""
        return {
            "low": to_decimal(self.low),
            "high": to_decimal(self.high),
            "bins": self.bins,
            "gain": self.gain,
            "anchors": int(self.anchors),
        }

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> CalibrationSettings:
        """Return the settings of a plan.

        Raises:
            FederationError: "federation.plan_refused".
        """
        try:
            _require_members(settings, _CALIBRATION)
            return cls(
                low=parse_decimal(settings["low"]),
                high=parse_decimal(settings["high"]),
                bins=settings["bins"],
                gain=settings["gain"],
                anchors=_flag(settings["anchors"]),
            )
        except (ValueError, TypeError) as error:
            raise _refused(error) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemographicSettings:
    """The counts that each device contributes for each group that its subjects declared.

    Attributes:
        groups: their names; whoever declared none of them, or nothing, is not counted.
        threshold: the operating threshold in use.
        comparisons: most mated comparisons counted for one subject, so that nobody weighs more than others.
        ratio: non-mated comparisons are counted in units of so many, at most `comparisons` units for one subject.
        anchors: whether templates are also compared with the anchors of the training kit.
    """

    groups: tuple[str, ...]
    threshold: float
    comparisons: int
    ratio: int
    anchors: bool

    def __post_init__(self) -> None:
        if not 1 <= len(self.groups) <= MOST_GROUPS or len(set(self.groups)) != len(self.groups):
            raise ValueError(f"there are 1 to {MOST_GROUPS} different groups")
        for name in self.groups:
            require_group(name)
        require_whole("comparisons", self.comparisons, 1, 4096)
        require_whole("ratio", self.ratio, 1, 1 << 16)
        if not -1.0 <= self.threshold <= 1.0:
            raise ValueError("a threshold is a cosine")

    @property
    def length(self) -> int:
        """Numbers in a contribution."""
        return len(GROUP_FIELDS) * len(self.groups)

    def to_settings(self) -> dict[str, int | str]:
        """Return them as the settings of a plan."""
        return {
            "groups": ",".join(self.groups),
            "threshold": to_decimal(self.threshold),
            "comparisons": self.comparisons,
            "ratio": self.ratio,
            "anchors": int(self.anchors),
        }

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> DemographicSettings:
        """Return the settings of a plan.

        Raises:
            FederationError: "federation.plan_refused".
        """
        try:
            _require_members(settings, _DEMOGRAPHIC)
            return cls(
                groups=tuple(str(settings["groups"]).split(",")),
                threshold=parse_decimal(settings["threshold"]),
                comparisons=settings["comparisons"],
                ratio=settings["ratio"],
                anchors=_flag(settings["anchors"]),
            )
        except (ValueError, TypeError) as error:
            raise _refused(error) from None


def require_group(name: object) -> str:
    """Return the name of a group.

    Raises:
        ValueError: if it is not 1 to 24 lower-case letters, digits and hyphens.
    """
    if not isinstance(name, str) or not _GROUP.fullmatch(name):
        raise ValueError("a group is named by 1 to 24 lower-case letters, digits and hyphens")
    return name


def _require_members(settings: Mapping[str, Any], names: set[str]) -> None:
    if settings.keys() != names:
        raise ValueError("other settings than this kind of round has")


def _flag(value: object) -> bool:
    return bool(require_whole("anchors", value, 0, 1))


def _refused(error: Exception) -> FederationError:
    return FederationError("federation.plan_refused", f"The plan is refused: {error}.")
