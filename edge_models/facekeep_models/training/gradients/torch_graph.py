"""An ONNX graph as a PyTorch function: what gradients are compared with, and what experiments on a workstation run.

Written from the operators' specification (https://onnx.ai/onnx/operators/), not from the gradient rules beside it, so that
a mistake in a rule does not hide. Pure: works under `torch.func.grad`, `torch.func.vmap` and `torch.compile`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from facekeep_models.training.export.errors import ExportError

_TYPES: Final = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.FLOAT16: torch.float32}
_NO_SIDES: Final[Mapping[str, Tensor]] = MappingProxyType({})
Attributes = Mapping[str, Any]


class TorchGraph:
    """The graph of an ONNX model, callable on tensors.

    Args:
        model: with the operators of the embedder.
        device: where weights are kept.
        dtype: of frozen weights and of activations; float32, or bfloat16 for speed. What was trained (`parameters`) is read as
            float32 and rounded where it meets an activation.
        trained: name of the initialiser that a call may replace.

    Raises:
        ExportError: "export.unsupported_layer".
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        trained: str = "parameters",
    ) -> None:
        self._nodes = list(model.graph.node)
        self._attributes = [{one.name: onnx.helper.get_attribute_value(one) for one in node.attribute} for node in self._nodes]
        self.inputs = tuple(each.name for each in model.graph.input)
        self.outputs = tuple(each.name for each in model.graph.output)
        self.dtype = dtype
        self.trained = trained
        self._constants: dict[str, Tensor] = {}
        for each in model.graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(each).copy()).to(device)
            if value.is_floating_point():
                value = value.to(torch.float32 if each.name == trained else dtype)
            self._constants[each.name] = value
        unknown = {node.op_type for node in self._nodes} - set(_OPERATORS)
        if unknown:
            raise ExportError("export.unsupported_layer", f"There is no PyTorch here for {', '.join(sorted(unknown))}.")
        self._fold()

    @property
    def parameters(self) -> Tensor:
        """(P,) float32: a copy of what the model was written with."""
        return self._constants[self.trained].clone()

    def __call__(
        self, feeds: Mapping[str, Tensor], wanted: Sequence[str] | None = None, *, sides: Mapping[str, Tensor] = _NO_SIDES
    ) -> dict[str, Tensor]:
        """Return the outputs by name.

        Args:
            feeds: inputs, converted to `dtype` where they are floating-point; may replace initialisers, `parameters` above all.
            wanted: values to return instead of the outputs.
            sides: for values that a Relu is applied to, which of their numbers count as positive. Of a million numbers one lies
                so near zero that another order of summation moves it across, and its gradient jumps: with the sides of the other
                runtime both differentiate the same function.

        Returns:
            float32 or wider.
        """
        values: dict[str, Tensor] = dict(self._constants)
        for name, value in feeds.items():
            values[name] = value.to(self.dtype) if value.is_floating_point() and name != self.trained else value
        for node, attributes in zip(self._nodes, self._attributes, strict=True):
            inputs = [values[name] if name else None for name in node.input]
            if node.op_type == "Relu" and node.input[0] in sides:
                made: tuple[Tensor, ...] = (values[node.input[0]] * sides[node.input[0]],)
            else:
                made = _OPERATORS[node.op_type](inputs, attributes, self.dtype)
            values.update(zip(node.output, made, strict=True))
        results = {name: values[name] for name in (self.outputs if wanted is None else wanted)}
        wide = torch.promote_types(self.dtype, torch.float32)
        return {name: value.to(wide) if value.is_floating_point() else value for name, value in results.items()}

    def _fold(self) -> None:
        """Carry out what depends on frozen weights only, once."""
        left, attributes_left = [], []
        for node, attributes in zip(self._nodes, self._attributes, strict=True):
            frozen = all(name in self._constants and name != self.trained for name in node.input if name)
            if not frozen:
                left.append(node)
                attributes_left.append(attributes)
                continue
            made = _OPERATORS[node.op_type](
                [self._constants[name] if name else None for name in node.input], attributes, self.dtype
            )
            self._constants.update(zip(node.output, made, strict=True))
        self._nodes, self._attributes = left, attributes_left


def unit_rows(raw: Tensor) -> Tensor:
    """Return (N, D) unit vectors of (N, D)."""
    return raw / raw.square().sum(dim=1, keepdim=True).sqrt()


def margin_loss(
    unit: Tensor, centres: Tensor, labels: Tensor, references: Tensor, *, margin: float, scale: float, keep: float
) -> Tensor:
    """Return the loss of `margin_loss.py` for (N, D) unit vectors, as autograd sees it.

    Args:
        unit: (N, D) unit vectors.
        centres: (K, D) unit vectors.
        labels: (N,) int64 rows of `centres`.
        references: (N, D) unit vectors of the old model.
        margin: taken from the cosine to the own centre.
        scale: of the cosines.
        keep: weight of staying near `references`.
    """
    cosines = unit @ centres.T
    own = functional.one_hot(labels, len(centres)).to(cosines)
    crossed = functional.cross_entropy(scale * (cosines - margin * own), labels)
    return crossed + keep * (1 - (unit * references).sum(dim=1)).mean()


def _convolution(inputs: list[Any], attributes: Attributes, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x, weight, bias = (*inputs, None)[:3]
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if (top, left) != (bottom, right):
        x, top, left = functional.pad(x, (left, right, top, bottom)), 0, 0
    return (
        functional.conv2d(
            x,
            weight,
            bias if bias is None else bias.to(dtype),
            stride=tuple(attributes.get("strides", (1, 1))),
            padding=(top, left),
            dilation=tuple(attributes.get("dilations", (1, 1))),
            groups=attributes.get("group", 1),
        ),
    )


def _gemm(inputs: list[Any], attributes: Attributes, dtype: torch.dtype) -> tuple[Tensor, ...]:
    a, b = (each.to(dtype) for each in inputs[:2])
    product = (a.T if attributes.get("transA") else a) @ (b.T if attributes.get("transB") else b)
    product = product * attributes.get("alpha", 1.0)
    return (product if len(inputs) < 3 or inputs[2] is None else product + attributes.get("beta", 1.0) * inputs[2].to(dtype),)


def _reshape(inputs: list[Any], attributes: Attributes, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x, shape = inputs
    return (x.reshape([x.shape[place] if size == 0 else size for place, size in enumerate(shape.tolist())]),)


def _split(inputs: list[Any], attributes: Attributes, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(torch.split(inputs[0], inputs[1].tolist(), dim=attributes.get("axis", 0)))


def _flatten(inputs: list[Any], attributes: Attributes, dtype: torch.dtype) -> tuple[Tensor, ...]:
    return (inputs[0].flatten(attributes.get("axis", 1)),)


def _cast(inputs: list[Any], attributes: Attributes, dtype: torch.dtype) -> tuple[Tensor, ...]:
    # A narrow weight is widened to what is computed in.
    return (inputs[0].to(dtype if attributes["to"] in _TYPES else torch.int64),)


def _elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, ...]]:
    def operate(inputs: list[Any], attributes: Attributes, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return (function(inputs[0].to(dtype), inputs[1].to(dtype)),)

    return operate


_OPERATORS: Final[dict[str, Callable[[list[Any], Attributes, torch.dtype], tuple[Tensor, ...]]]] = {
    "Conv": _convolution,
    "Gemm": _gemm,
    "Reshape": _reshape,
    "Split": _split,
    "Flatten": _flatten,
    "Cast": _cast,
    "Add": _elementwise(torch.add),
    "Sub": _elementwise(torch.sub),
    "Mul": _elementwise(torch.mul),
    "Div": _elementwise(torch.div),
    "Relu": lambda inputs, _attributes, _dtype: (torch.relu(inputs[0]),),
    "Identity": lambda inputs, _attributes, _dtype: (inputs[0],),
}
