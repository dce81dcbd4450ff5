"""The layout of what a federation trains: one flat row of numbers, which part of it is which tensor, and what each level trains."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError, ReleaseError

Level = Literal["channels", "head", "deep"]
# "channels": scale and offset of every convolution, slope of every activation; "head": the last linear map; "deep": all of them.
LEVELS: Final[tuple[Level, ...]] = ("channels", "head", "deep")
HEAD: Final = "head.weight"
_NAME: Final = re.compile(r"[a-z0-9_]{1,80}\.(scale|offset|slope|weight)")
# A plan for more would not fit the memory of a device, and a table that claims more is no table.
MOST_PARAMETERS: Final = 4_000_000
_MOST_TENSORS: Final = 4096


@dataclass(frozen=True, slots=True)
class TrainableTensor:
    """One tensor of the row.

    Attributes:
        name: such as "backbone_0.scale"; the last is "head.weight".
        start: place of its first number in the row.
        shape: numbers lie in row-major order.
    """

    name: str
    start: int
    shape: tuple[int, ...]

    @property
    def length(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class ParameterTable:
    """Layout of the row: tensors without gaps, the last linear map (D, F) at its end, so that every level is one run of numbers.

    Attributes:
        tensors: in the order of the row.
    """

    tensors: tuple[TrainableTensor, ...]

    def __post_init__(self) -> None:
        names = [tensor.name for tensor in self.tensors]
        if not 1 <= len(names) <= _MOST_TENSORS or names[-1] != HEAD or len(set(names)) != len(names):
            raise ValueError(f'a table has tensors with different names, "{HEAD}" the last')
        end = 0
        for tensor in self.tensors:
            if not _NAME.fullmatch(tensor.name) or not tensor.shape or min(tensor.shape) < 1 or tensor.start != end:
                raise ValueError(f"tensors follow each other without a gap; {tensor.name[:80]!r} does not")
            end += tensor.length
        if len(self.tensors[-1].shape) != 2 or end > MOST_PARAMETERS:
            raise ValueError(f"the last linear map is a matrix, and a table has {MOST_PARAMETERS} numbers at the most")

    @property
    def length(self) -> int:
        """P: how many numbers the whole row has."""
        return self.tensors[-1].start + self.tensors[-1].length

    @property
    def dimension(self) -> int:
        """D: length of an embedding."""
        return self.tensors[-1].shape[0]

    @property
    def features_dimension(self) -> int:
        """F: how many features the last linear map is applied to."""
        return self.tensors[-1].shape[1]

    @property
    def levels(self) -> tuple[Level, ...]:
        """What can be trained of this model: a build of 8 bits has its last linear map only."""
        return LEVELS if len(self.tensors) > 1 else ("head",)

    def range_of(self, level: str, length: int | None = None) -> slice:
        """Return which part of the row a level trains.

        Args:
            level: which.
            length: only its first so many numbers, which are the layers nearest to the picture; all of them if left out.

        Raises:
            FederationError: "federation.plan_refused" for a level that this model does not have, or a length at which none of its
                tensors ends.
        """
        if level not in self.levels:
            raise FederationError(
                "federation.plan_refused", f"This model can train {', '.join(self.levels)}; asked for another level."
            )
        head = self.tensors[-1].start
        whole = {"channels": slice(0, head), "head": slice(head, self.length), "deep": slice(0, self.length)}[level]
        if length is None:
            return whole
        # Half a tensor trained is nothing that anybody meant.
        stop = whole.start + length
        if stop > whole.stop or all(tensor.start + tensor.length != stop for tensor in self.tensors):
            raise FederationError(
                "federation.plan_refused", f"No tensor of the level {level} ends after its first {length} numbers."
            )
        return slice(whole.start, stop)

    def length_of(self, level: str) -> int:
        """Return how many numbers a level trains.

        Raises:
            FederationError: "federation.plan_refused".
        """
        part = self.range_of(level)
        return int(part.stop - part.start)

    def head_of(self, parameters: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the last linear map, (D, F), of the (P,) row or of the row of the level "head" alone."""
        last = self.tensors[-1]
        if parameters.shape not in {(self.length,), (last.length,)}:
            raise ValueError(f"a row of {self.length} or {last.length} numbers was expected; found shape {parameters.shape}")
        return parameters[-last.length :].reshape(last.shape)

    def to_value(self) -> list[object]:
        """Return the table as a canonical-JSON value: name and shape of each tensor."""
        return [[tensor.name, list(tensor.shape)] for tensor in self.tensors]


def parse_parameter_table(value: object) -> ParameterTable:
    """Return the table of `ParameterTable.to_value`.

    Raises:
        ReleaseError: "release.malformed".
    """
    try:
        tensors, start = [], 0
        for name, shape in cast("list[tuple[object, object]]", _listed(value)):
            sizes = tuple(_listed(shape))
            if not isinstance(name, str) or not all(type(size) is int for size in sizes):
                raise ValueError("a tensor is a name and a shape")
            tensors.append(TrainableTensor(name, start, cast("tuple[int, ...]", sizes)))
            start += tensors[-1].length
        return ParameterTable(tuple(tensors))
    except (ValueError, TypeError) as error:
        raise ReleaseError("release.malformed", f"The table of parameters is not well formed: {error}.") from error


def _listed(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > _MOST_TENSORS:
        raise ValueError("a list was expected")
    return value
