"""An ONNX graph written node by node: what the network says and nothing else, the same bytes for the same weights."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from facekeep_models.training.detector.network import Separable, Unit

OPSET: Final = 17
# The oldest that every ONNX Runtime since 1.14 reads.
IR_VERSION: Final = 8


class Graph:
    """Collects nodes and weights; every method returns the name of what it made.

    Args:
        half: keep the weights of convolutions in 16 bits, widened once when a runtime opens the file: half the bytes, same speed.
    """

    def __init__(self, *, half: bool = True) -> None:
        self._half = half
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._number = count()

    def node(self, kind: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> str:
        """Add a node and return its first output."""
        made = outputs or [f"{kind.lower()}_{next(self._number)}"]
        self.nodes.append(helper.make_node(kind, inputs, made, **attributes))
        return made[0]

    def constant(self, array: NDArray[Any]) -> str:
        """Add a constant."""
        name = f"w_{next(self._number)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def split(self, x: str, widths: str, parts: int) -> list[str]:
        """Return the parts of the channels of a map."""
        made = [f"part_{next(self._number)}" for _ in range(parts)]
        self.node("Split", [x, widths], made, axis=1)
        return made

    def convolution(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32], convolution: nn.Conv2d) -> str:
        """Add a convolution of these weights, with stride, border and groups of one of torch."""
        pad, stride = convolution.padding[0], convolution.stride[0]
        kept = self.constant(weight.astype(np.float16) if self._half else weight)
        inputs = [x, self.node("Cast", [kept], to=TensorProto.FLOAT) if self._half else kept, self.constant(bias)]
        return self.node("Conv", inputs, pads=[pad] * 4, strides=[stride] * 2, group=convolution.groups)

    def unit(self, x: str, unit: Unit, gain: float = 1.0) -> str:
        """Add a unit, its norm folded in; `gain` multiplies what it reads."""
        weight, bias = folded(unit)
        x = self.convolution(x, np.asarray(weight * gain, np.float32), bias, unit[0])
        return self.node("Relu", [x]) if len(unit) > 2 else x

    def separable(self, x: str, block: Separable) -> str:
        """Add a separable block."""
        made = self.unit(self.unit(x, block.depthwise), block.pointwise)
        return self.node("Relu", [self.node("Add", [made, x])]) if block.residual else made

    def head(self, x: str, head: nn.Conv2d) -> str:
        """Return what a convolution without a norm behind it makes of a map."""
        bias = np.zeros(head.out_channels, np.float32) if head.bias is None else head.bias.detach().cpu().numpy()
        return self.convolution(x, head.weight.detach().cpu().numpy(), bias, head)

    def model(self, name: str, pixels: onnx.ValueInfoProto, outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        """Return the checked model of all that was made."""
        made = helper.make_graph(self.nodes, name, [pixels], outputs, self.weights)
        model = helper.make_model(
            made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="facekeep"
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def folded(unit: Unit) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight and bias of the one convolution that a unit is in use."""
    convolution, norm = unit[0], unit[1]
    weight, scale, shift, mean, variance = (
        value.detach().double().cpu().numpy()
        for value in (convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    factor = scale / np.sqrt(variance + norm.eps)
    return (weight * factor[:, None, None, None]).astype(np.float32), (shift - mean * factor).astype(np.float32)
