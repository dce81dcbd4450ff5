"""The ONNX file of a trained detector: batch norms and the scale of the pixels folded in, any height and width that 32 divides.

Written node by node: the graph is what the network says and nothing else, the same bytes for the same weights.
"""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from facekeep_models.training.detector.network import HEAD_PARTS, LARGEST_LOG, OUTPUTS, STRIDES, Detector, Separable, Unit

OPSET: Final = 17
# The oldest that every ONNX Runtime since 1.14 reads.
IR_VERSION: Final = 8


class _Graph:
    """Collects nodes and weights; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._number = count()

    def node(self, kind: str, inputs: list[str], outputs: list[str] | None = None, **attributes: Any) -> str:
        made = outputs or [f"{kind.lower()}_{next(self._number)}"]
        self.nodes.append(helper.make_node(kind, inputs, made, **attributes))
        return made[0]

    def constant(self, array: NDArray[Any]) -> str:
        name = f"w_{next(self._number)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def split(self, x: str, widths: str, parts: int) -> list[str]:
        """Return the parts of the channels of a map."""
        made = [f"part_{next(self._number)}" for _ in range(parts)]
        self.node("Split", [x, widths], made, axis=1)
        return made

    def convolution(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32], convolution: nn.Conv2d) -> str:
        pad, stride = convolution.padding[0], convolution.stride[0]
        inputs = [x, self.constant(weight), self.constant(bias)]
        return self.node("Conv", inputs, pads=[pad] * 4, strides=[stride] * 2, group=convolution.groups)

    def unit(self, x: str, unit: Unit, gain: float = 1.0) -> str:
        weight, bias = folded(unit)
        x = self.convolution(x, np.asarray(weight * gain, np.float32), bias, unit[0])
        return self.node("Relu", [x]) if len(unit) > 2 else x

    def separable(self, x: str, block: Separable) -> str:
        made = self.unit(self.unit(x, block.depthwise), block.pointwise)
        return self.node("Relu", [self.node("Add", [made, x])]) if block.residual else made


def folded(unit: Unit) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight and bias of the one convolution that a unit is in use."""
    convolution, norm = unit[0], unit[1]
    weight, scale, shift, mean, variance = (
        value.detach().double().cpu().numpy()
        for value in (convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    factor = scale / np.sqrt(variance + norm.eps)
    return (weight * factor[:, None, None, None]).astype(np.float32), (shift - mean * factor).astype(np.float32)


def detector_model(network: Detector) -> onnx.ModelProto:
    """Return the model: (1, 3, height, width) float32 RGB, 0 to 255, to the outputs `Detector.forward` describes."""
    graph = _Graph()
    x = graph.unit("input", network.stem[0], 1 / 255)
    x = graph.unit(x, network.stem[1])
    features = []
    for stage in network.stages:
        for block in stage:
            x = graph.unit(x, block) if isinstance(block, Unit) else graph.separable(x, block)
        features.append(x)
    twice = graph.constant(np.array([1, 1, 2, 2], np.float32))
    head_widths, ones = (graph.constant(np.array(each, np.int64)) for each in (HEAD_PARTS, (1, 1)))
    wanted = {"cells": (1, sum(HEAD_PARTS), -1), "pairs": (1, 5, 2, -1), "rows": (1, 10, -1), "column": (1, -1, 1)}
    shapes = {name: graph.constant(np.array(each, np.int64)) for name, each in wanted.items()}
    largest = graph.constant(np.array(LARGEST_LOG, np.float32))
    above = ""
    for level in (2, 1, 0):
        here = graph.unit(features[level], network.laterals[level])
        if above:
            nearest: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            larger = graph.node("Resize", [above, "", twice], **nearest)
            here = graph.node("Add", [here, larger])
        above = here
        head = network.heads[level]
        weight, bias = (value.detach().cpu().numpy() for value in (head.weight, head.bias))
        found = graph.convolution(graph.separable(here, network.towers[level]), weight, bias, head)
        found = graph.node("Reshape", [found, shapes["cells"]])
        scores, centre, size, points = graph.split(found, head_widths, 4)
        size = graph.node("Min", [size, largest])
        # (1, 5, 2, cells): centre and size count for each of the five without being copied.
        points = graph.node("Mul", [graph.node("Reshape", [points, shapes["pairs"]]), graph.node("Exp", [size])])
        points = graph.node("Reshape", [graph.node("Add", [points, centre]), shapes["rows"]])
        stride = STRIDES[level]
        for name, score in zip(("cls", "obj"), graph.split(graph.node("Sigmoid", [scores]), ones, 2), strict=True):
            graph.node("Reshape", [score, shapes["column"]], [f"{name}_{stride}"])
        graph.node("Transpose", [graph.node("Concat", [centre, size], axis=1)], [f"bbox_{stride}"], perm=[0, 2, 1])
        graph.node("Transpose", [points], [f"kps_{stride}"], perm=[0, 2, 1])
    sizes = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, f"cells_{name.split('_')[1]}", sizes[name.split("_")[0]]])
        for name in OUTPUTS
    ]
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    made = helper.make_graph(graph.nodes, "facekeep_detector", [pixels], outputs, graph.weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="facekeep")
    onnx.checker.check_model(model, full_check=True)
    return model


def write_onnx(network: Detector, path: Path) -> None:
    """Write the model of a trained network to `path`, whose folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(detector_model(network.eval()).SerializeToString(deterministic=True))
