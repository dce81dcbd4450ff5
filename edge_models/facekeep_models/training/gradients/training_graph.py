"""The graph that a device trains with: what it embeds with, the loss on top, and the way back to `parameters`."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.export.patchable import PARAMETERS
from facekeep_models.training.gradients.differentiation import backward
from facekeep_models.training.gradients.emitting import Emitter, shapes_of
from facekeep_models.training.gradients.margin_loss import margin_loss

CROPS: Final = "crops"


def training_graph(patchable: onnx.ModelProto) -> onnx.ModelProto:
    """Return the training graph of a model.

    Inputs: `parameters` (P,); `crops` (N, ...), the input of the model under another name; `centres` (K, D) unit vectors; `labels`
    (N,) int64 rows of them; `references` (N, D) unit vectors of the old model; the scalars `margin`, `scale`, `keep`. All float32
    but `labels`.
    Outputs: `loss` (); `gradient` (P,) of it; `embeddings` (N, D) unit vectors before any step.

    Args:
        patchable: of `export.patchable`: one input, first output (N, D), the initialiser `parameters`.

    Raises:
        ExportError: "export.unsupported_layer" where an operator has no rule.
    """
    forward = onnx.ModelProto()
    forward.CopyFrom(patchable)
    nodes = with_leaky(list(forward.graph.node))
    taken = forward.graph.input[0]
    for node in nodes:
        node.input[:] = [CROPS if name == taken.name else name for name in node.input]
    taken.name = CROPS
    del forward.graph.node[:]
    forward.graph.node.extend(nodes)
    shapes = shapes_of(forward)
    raw = patchable.graph.output[0].name
    dimension = shapes[raw][1]
    if not isinstance(dimension, int):
        raise ExportError("export.unsupported_layer", "An embedding has a fixed number of numbers.")
    out = Emitter("_", shapes)
    loss = margin_loss(raw, out)
    found = backward(nodes, {raw: loss.gradient}, [PARAMETERS], out)
    for name, value in (("loss", loss.loss), ("gradient", found[PARAMETERS]), ("embeddings", loss.unit)):
        out.node("Identity", [value], output=name)
    kept = [each for each in patchable.graph.initializer if each.name != PARAMETERS]
    inputs = [
        helper.make_tensor_value_info(PARAMETERS, TensorProto.FLOAT, shapes[PARAMETERS]),
        taken,
        helper.make_tensor_value_info("centres", TensorProto.FLOAT, ["classes", dimension]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch"]),
        helper.make_tensor_value_info("references", TensorProto.FLOAT, ["batch", dimension]),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("margin", "scale", "keep")),
    ]
    outputs = [
        helper.make_tensor_value_info("loss", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("gradient", TensorProto.FLOAT, shapes[PARAMETERS]),
        helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", dimension]),
    ]
    graph = helper.make_graph([*nodes, *out.nodes], "facekeep-training", inputs, outputs, [*kept, *out.constants])
    opsets = [helper.make_opsetid(each.domain, each.version) for each in patchable.opset_import]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=patchable.ir_version, producer_name="facekeep")
    onnx.checker.check_model(model, full_check=True)
    return model


def with_leaky(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the nodes with each `folding.Bend` (Relu, two Mul, Sub, Add) as one PRelu: the same function.

    A device embeds fastest with a Bend; forwards and backwards together a PRelu passes over the numbers half as often.
    """
    made = {name: node for node in nodes for name in node.output}
    replaced: dict[str, onnx.NodeProto] = {}
    gone: set[str] = set()
    for node in nodes:
        if node.op_type != "Add" or not all(name in made for name in node.input):
            continue
        everything, kept = (made[name] for name in node.input)
        if not (everything.op_type == kept.op_type == "Mul" and all(name in made for name in kept.input)):
            continue
        positive, rest = (made[name] for name in kept.input)
        x, slope = everything.input
        if positive.op_type == "Relu" and positive.input[0] == x and rest.op_type == "Sub" and rest.input[1] == slope:
            replaced[node.output[0]] = helper.make_node("PRelu", [x, slope], [node.output[0]])
            gone |= {each.output[0] for each in (everything, kept, positive, rest)}
    return [replaced.get(node.output[0], node) for node in nodes if node.output[0] not in gone]


def parameters_of(patchable: onnx.ModelProto) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the (P,) float32 numbers that a patchable model was written with.

    Raises:
        ExportError: "export.unsupported_layer" if it is not patchable.
    """
    for each in patchable.graph.initializer:
        if each.name == PARAMETERS:
            return numpy_helper.to_array(each).astype(np.float32)
    raise ExportError("export.unsupported_layer", "The model has no row of trainable numbers.")
