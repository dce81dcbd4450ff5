"""What every session can say of its model."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


class Description:
    """Names and shapes of a model's inputs, names of its outputs: the part of `ports.Session` that all runtimes share."""

    _inputs: Mapping[str, tuple[int | str | None, ...]] = MappingProxyType({})
    _outputs: tuple[str, ...] = ()

    @property
    def inputs(self) -> Mapping[str, tuple[int | str | None, ...]]:
        """Name and shape of each input; text or None marks a free dimension."""
        return self._inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the order `run` returns them."""
        return self._outputs
