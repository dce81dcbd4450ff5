"""The embedder with everything a federation may train in one row of float32 numbers, at one place of the file.

A device without a training framework, and without `onnx`, makes a released model by overwriting those bytes
(`facekeep.training.patching`). The function stays the same and so does its speed: ONNX Runtime carries out Split, Reshape and
`1 - slope` when it loads the file, and puts scale and offset into the convolution before them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facekeep.training import HEAD
from facekeep_models.training.export.errors import ExportError

PARAMETERS: Final = "parameters"
FEATURES: Final = "features"
# Names inside the file: short, for they are there a hundred times over.
_SIZES, _CHANNELS, _HEAD, _ONE = "sizes", "channels", "matrix", "one"


def patchable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with its trainable tensors in the initialiser `parameters`.

    For each convolution its scale and its offset, and the slope of each activation, in the order of the graph; then the last
    linear map. So each level of training is one run of numbers. The model gets the output `features` as well, what the last
    linear map is applied to.

    Args:
        model: of `graph.onnx_model`: convolutions with a bias, activations as `folding.Bend`, one linear map at the end.

    Raises:
        ExportError: "export.unsupported_layer" if it is of another form.
    """
    writer = _Writer(model)
    for node in model.graph.node:
        writer.add(node)
    return writer.finished()


def with_features(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` with the output `features`: what its one linear map, at the end, is applied to.

    Raises:
        ExportError: "export.unsupported_layer" if there is no such map.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    linear = [node for node in result.graph.node if node.op_type == "Gemm"]
    if len(linear) != 1:
        raise ExportError("export.unsupported_layer", "One linear map is expected at the end.")
    old = linear[0].input[0]
    for node in result.graph.node:
        _renamed(node, old, FEATURES)
    sizes = {each.name: list(each.dims) for each in result.graph.initializer}
    stored = {node.output[0]: node.input[0] for node in result.graph.node if node.op_type == "Cast"}
    name = linear[0].input[1]
    shape = ["batch", sizes[stored.get(name, name)][1]]
    result.graph.output.append(helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, shape))
    onnx.checker.check_model(result, full_check=True)
    return result


def layout_of(model: onnx.ModelProto) -> list[object]:
    """Return name and shape of each tensor in `parameters`, as `facekeep.training.parse_parameter_table` reads them.

    Raises:
        ExportError: "export.unsupported_layer" if the model is not of `patchable`.
    """
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    split = [node for node in model.graph.node if node.op_type == "Split" and list(node.input) == [PARAMETERS, _SIZES]]
    if len(split) != 1:
        raise ExportError("export.unsupported_layer", "The model has no row of trainable numbers.")
    sizes = zip(split[0].output, constants[_SIZES].tolist(), strict=True)
    return [[name, constants[_HEAD].tolist() if name == HEAD else [size]] for name, size in sizes]


class _Writer:
    """Rewrites a graph node by node."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self._widened = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Cast"}
        linear = [node for node in model.graph.node if node.op_type == "Gemm"]
        if len(linear) != 1 or len(linear[0].input) != 2:
            raise ExportError("export.unsupported_layer", "One linear map without a bias is expected at the end.")
        self._linear = linear[0]
        self._pieces: list[tuple[str, str, NDArray[np.float32]]] = []
        self._nodes: list[onnx.NodeProto] = []
        self._gone: set[str] = set()

    def add(self, node: onnx.NodeProto) -> None:
        """Take over a node of the graph, with what is trained as values instead of constants."""
        if node.op_type == "Conv":
            self._scaled(node)
        elif node.op_type == "Mul" and node.input[1].endswith("_rest"):
            self._bent(node)
        elif node.op_type == "Gemm":
            name = node.input[1]
            stored = self._widened.get(name, name)
            self._gone.add(stored)
            self._trained(name, HEAD, self._constants[stored].astype(np.float32))
            self._plain(node)
        elif not (node.op_type == "Cast" and node.output[0] == self._linear.input[1]):
            self._plain(node)

    def finished(self) -> onnx.ModelProto:
        """Return the model."""
        graph, old = self._model.graph, {each.name: each for each in self._model.graph.initializer}
        values = [piece for _, _, piece in self._pieces]
        flat = np.concatenate([value.ravel() for value in values]).astype(np.float32)
        cut = [label for _, label, _ in self._pieces]
        first = [helper.make_node("Split", [PARAMETERS, _SIZES], cut, axis=0)]
        for (name, _, value), part in zip(self._pieces, cut, strict=True):
            first.append(helper.make_node("Reshape", [part, _HEAD if value.ndim == 2 else _CHANNELS], [name]))
        constants = [
            # First, so that its place in the file depends on nothing else.
            numpy_helper.from_array(flat, PARAMETERS),
            numpy_helper.from_array(np.array([value.size for value in values], np.int64), _SIZES),
            numpy_helper.from_array(np.array([-1, 1, 1], np.int64), _CHANNELS),
            numpy_helper.from_array(np.array(values[-1].shape, np.int64), _HEAD),
            numpy_helper.from_array(np.float32(1), _ONE),
            *(each for name, each in old.items() if name not in self._gone),
        ]
        features = self._linear.input[0]
        nodes = [_renamed(node, features, FEATURES) for node in (*first, *self._nodes)]
        outputs = [*graph.output, helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", values[-1].shape[1]])]
        made = helper.make_graph(nodes, graph.name, list(graph.input), outputs, constants)
        opsets = [helper.make_opsetid(each.domain, each.version) for each in self._model.opset_import]
        result = helper.make_model(made, opset_imports=opsets, ir_version=self._model.ir_version, producer_name="facekeep")
        onnx.checker.check_model(result, full_check=True)
        return result

    def _scaled(self, node: onnx.NodeProto) -> None:
        if len(node.input) != 3:
            raise ExportError("export.unsupported_layer", f"The convolution {node.output[0]} has no bias.")
        x, weight, bias = node.input
        name, scale, offset = node.output[0], f"{node.output[0]}_scale", f"{node.output[0]}_offset"
        plain, scaled = f"{name}_plain", f"{name}_scaled"
        self._gone.add(bias)
        self._trained(scale, f"{name}.scale", np.ones_like(self._constants[bias]))
        self._trained(offset, f"{name}.offset", self._constants[bias])
        convolution = onnx.NodeProto()
        convolution.CopyFrom(node)
        convolution.name = ""
        convolution.input[:], convolution.output[:] = [x, weight], [plain]
        self._nodes.append(convolution)
        self._nodes.append(helper.make_node("Mul", [plain, scale], [scaled]))
        self._nodes.append(helper.make_node("Add", [scaled, offset], [name]))

    def _bent(self, node: onnx.NodeProto) -> None:
        rest = node.input[1]
        negative = f"{rest.removesuffix('_rest')}_negative"
        if negative not in self._constants or not np.array_equal(self._constants[rest], 1 - self._constants[negative]):
            raise ExportError("export.unsupported_layer", f"{rest} is not one minus the slope of an activation.")
        self._gone |= {rest, negative}
        self._trained(negative, f"{rest.removesuffix('_rest')}.slope", self._constants[negative])
        self._nodes.append(helper.make_node("Sub", [_ONE, negative], [rest]))
        self._plain(node)

    def _trained(self, name: str, label: str, value: NDArray[Any]) -> None:
        self._pieces.append((name, label, value if value.ndim == 2 else value.reshape(-1)))

    def _plain(self, node: onnx.NodeProto) -> None:
        copied = onnx.NodeProto()
        copied.CopyFrom(node)
        copied.name = ""
        self._nodes.append(copied)


def _renamed(node: onnx.NodeProto, old: str, new: str) -> onnx.NodeProto:
    for names in (node.input, node.output):
        names[:] = [new if name == old else name for name in names]
    return node
