"""Collects the nodes of a graph under construction, and knows the shape of every value in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from facekeep_models.training.export.errors import ExportError

Shape = tuple[int | str, ...]


def shapes_of(model: onnx.ModelProto) -> dict[str, Shape]:
    """Return the shape of every value of a model; a free dimension is text.

    Raises:
        ExportError: "export.unsupported_layer" if ONNX cannot tell one.
    """
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    found: dict[str, Shape] = {each.name: tuple(each.dims) for each in graph.initializer}
    for each in (*graph.input, *graph.value_info, *graph.output):
        dimensions = each.type.tensor_type.shape.dim
        found[each.name] = tuple(one.dim_param or one.dim_value for one in dimensions)
    unknown = [name for node in graph.node for name in node.output if name and name not in found]
    if unknown:
        raise ExportError("export.unsupported_layer", f"The shape of {unknown[0]} cannot be told.")
    return found


class Emitter:
    """Nodes and constants, with names that no other value has.

    Args:
        prefix: of every name made here.
        shapes: of the values that exist already; grows with what is made where a shape is stated.
    """

    def __init__(self, prefix: str, shapes: dict[str, Shape]) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes = shapes
        self._prefix = prefix
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def node(self, kind: str, inputs: Sequence[str], *, output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return that output's name."""
        name = output or f"{self._prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: NDArray[Any]) -> str:
        """Return the name of a constant, one for each value."""
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = f"{self._prefix}constant{len(self._known)}"
            self.constants.append(numpy_helper.from_array(value, self._known[key]))
        return self._known[key]

    def number(self, value: float) -> str:
        """Return the name of a float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        """Return the name of a row of int64: axes, a shape."""
        return self.constant(np.array(values, np.int64))

    def sum(self, names: Sequence[str]) -> str:
        """Return the name of the sum of values of one shape."""
        return names[0] if len(names) == 1 else self.node("Sum" if len(names) > 2 else "Add", names)

    def summed_to(self, name: str, shape: Shape, wanted: Shape) -> str:
        """Return `name`, of `shape`, summed over what broadcasting from `wanted` repeated."""
        if shape == wanted:
            return name
        missing = len(shape) - len(wanted)
        padded = (1,) * missing + wanted
        axes = [place for place, size in enumerate(padded) if size == 1 and (place < missing or shape[place] != 1)]
        kept = self.node("ReduceSum", [name, self.integers(*axes)], keepdims=1) if axes else name
        return kept if not missing else self.node("Squeeze", [kept, self.integers(*range(missing))])

    def shaped_as(self, name: str, wanted: Shape) -> str:
        """Return `name` in the shape `wanted`, of which only the first dimension may be free."""
        if any(isinstance(size, str) for size in wanted[1:]):
            raise ExportError("export.unsupported_layer", f"Only the number of pictures may be free; found {wanted}.")
        # Zero: as it was.
        return self.node("Reshape", [name, self.integers(*(0 if isinstance(size, str) else size for size in wanted))])
