"""The ONNX graph of a traced network, node by node: what the network says and nothing else, the same bytes for the same weights."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.export.folding import Bend

OPSET: Final = 17
# The oldest that every ONNX Runtime since 1.14 reads.
IR_VERSION: Final = 8
_ARITHMETIC: Final[dict[Callable[..., Any], str]] = {
    operator.add: "Add",
    operator.sub: "Sub",
    operator.mul: "Mul",
    operator.truediv: "Div",
}


class _Graph:
    """Collects nodes and weights.

    Args:
        half: store the weights of convolutions and linear maps as float16, widened by a Cast that a runtime carries out once, when
            it loads the model.
    """

    def __init__(self, *, half: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._half = half

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: NDArray[Any] | float) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def weight(self, name: str, value: torch.Tensor) -> str:
        if not self._half:
            return self.constant(name, value.numpy())
        self.weights.append(numpy_helper.from_array(value.numpy().astype(np.float16), f"{name}_half"))
        return self.node("Cast", [f"{name}_half"], name, to=TensorProto.FLOAT)

    def layer(self, layer: nn.Module, x: str, name: str) -> str:
        if isinstance(layer, nn.Conv2d):
            return self._convolution(layer, x, name)
        if isinstance(layer, nn.Linear):
            inputs = [x, self.weight(f"{name}_weight", layer.weight)]
            if layer.bias is not None:
                inputs.append(self.constant(f"{name}_bias", layer.bias.numpy()))
            return self.node("Gemm", inputs, name, transB=1)
        if isinstance(layer, Bend):
            negative, rest = (self.constant(f"{name}_{key}", getattr(layer, key).numpy()) for key in ("negative", "rest"))
            kept = self.node("Mul", [self.node("Relu", [x], f"{name}_positive"), rest], f"{name}_kept")
            return self.node("Add", [self.node("Mul", [x, negative], f"{name}_all"), kept], name)
        if isinstance(layer, nn.ReLU):
            return self.node("Relu", [x], name)
        if isinstance(layer, nn.Identity):
            return x
        raise ExportError("export.unsupported_layer", f"There is no ONNX here for the layer {type(layer).__name__}.")

    def _convolution(self, layer: nn.Conv2d, x: str, name: str) -> str:
        if layer.padding_mode != "zeros" or not isinstance(layer.padding, tuple):
            raise ExportError("export.unsupported_layer", f"The convolution {name} pads with something other than zeros.")
        inputs = [x, self.weight(f"{name}_weight", layer.weight)]
        if layer.bias is not None:
            inputs.append(self.constant(f"{name}_bias", layer.bias.numpy()))
        sizes = {"kernel_shape": layer.kernel_size, "strides": layer.stride, "dilations": layer.dilation, "pads": layer.padding * 2}
        return self.node("Conv", inputs, name, group=layer.groups, **{key: list(value) for key, value in sizes.items()})

    def call(self, node: fx.Node, names: dict[fx.Node, str]) -> str:
        target: Any = node.target
        if target in _ARITHMETIC and len(node.args) == 2:
            inputs = [
                names[each] if isinstance(each, fx.Node) else self.constant(f"{node.name}_{place}", _number(each))
                for place, each in enumerate(node.args)
            ]
            return self.node(_ARITHMETIC[target], inputs, node.name)
        first = [names[each] for each in node.args[:1] if isinstance(each, fx.Node)]
        if target in {"flatten", torch.flatten} and node.args[1:] == (1,) and not node.kwargs:
            return self.node("Flatten", first, node.name, axis=1)
        if target in {torch.relu, nn.functional.relu, "relu"}:
            return self.node("Relu", first, node.name)
        raise ExportError("export.unsupported_layer", f"There is no ONNX here for the operation {node.name}.")


def onnx_model(network: fx.GraphModule, *, input_name: str, output_name: str, crop_px: int, half: bool) -> onnx.ModelProto:
    """Return (batch, 3, crop_px, crop_px) float32 to (batch, D) float32 as ONNX, opset 17.

    Args:
        network: of `folding.folded`, one input, one output.
        input_name: name of the input.
        output_name: name of the output.
        crop_px: height and width of the input.
        half: store weights as float16, after `folding.rounded_to_half` without loss.

    Raises:
        ExportError: "export.unsupported_layer".
    """
    graph = _Graph(half=half)
    names: dict[fx.Node, str] = {}
    result = ""
    for node in network.graph.nodes:
        if node.op == "placeholder":
            names[node] = input_name
        elif node.op == "call_module":
            names[node] = graph.layer(network.get_submodule(node.target), names[node.args[0]], node.name)
        elif node.op in {"call_function", "call_method"}:
            names[node] = graph.call(node, names)
        elif node.op == "output":
            result = graph.node("Identity", [names[node.args[0]]], output_name)
        else:
            raise ExportError("export.unsupported_layer", f"The network reads {node.target}, which no layer owns.")
    with torch.no_grad():
        dimension = network(torch.zeros(1, 3, crop_px, crop_px)).shape[1]
    inputs = [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", 3, crop_px, crop_px])]
    outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, ["batch", dimension])]
    made = helper.make_graph(graph.nodes, "facekeep", inputs, outputs, graph.weights)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="facekeep")
    onnx.checker.check_model(model, full_check=True)
    return model


def _number(value: Any) -> float:
    if isinstance(value, int | float):
        return float(value)
    raise ExportError("export.unsupported_layer", f"An operation takes a {type(value).__name__} where a number was expected.")
