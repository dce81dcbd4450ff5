"""The ONNX file of a trained detector: batch norms and the scale of the pixels folded in, any height and width that 32 divides.

Written node by node: the graph is what the network says and nothing else, the same bytes for the same weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from facekeep_models.training.detector.graph import Graph
from facekeep_models.training.detector.network import HEAD_PARTS, LARGEST_LOG, OUTPUTS, STRIDES, Detector, Unit


def _write_outputs(graph: Graph, answers: list[str]) -> None:
    """Write what `Detector.answers` and `Detector.forward` do with the (1, 16, cells) maps of the heads, finest stride first.

    All strides together: on maps this small a node costs more than its arithmetic.
    """
    head_widths, ones = (graph.constant(np.array(each, np.int64)) for each in (HEAD_PARTS, (1, 1)))
    wanted = {"pairs": (1, 5, 2, -1), "rows": (1, 10, -1), "column": (1, -1, 1)}
    shapes = {name: graph.constant(np.array(each, np.int64)) for name, each in wanted.items()}
    counts = graph.node("Concat", [graph.node("Shape", [each], start=2, end=3) for each in answers], axis=0)
    scores, centre, size, points = graph.split(graph.node("Concat", answers, axis=2), head_widths, 4)
    size = graph.node("Min", [size, graph.constant(np.array(LARGEST_LOG, np.float32))])
    # (1, 5, 2, cells): centre and size count for each of the five without being copied.
    points = graph.node("Mul", [graph.node("Reshape", [points, shapes["pairs"]]), graph.node("Exp", [size])])
    points = graph.node("Reshape", [graph.node("Add", [points, centre]), shapes["rows"]])
    quality, presence = graph.split(graph.node("Sigmoid", [scores]), ones, 2)
    rows = {
        "cls": graph.node("Reshape", [quality, shapes["column"]]),
        "obj": graph.node("Reshape", [presence, shapes["column"]]),
        "bbox": graph.node("Transpose", [graph.node("Concat", [centre, size], axis=1)], perm=[0, 2, 1]),
        "kps": graph.node("Transpose", [points], perm=[0, 2, 1]),
    }
    for name, each in rows.items():
        graph.node("Split", [each, counts], [f"{name}_{stride}" for stride in STRIDES], axis=1)


def detector_model(network: Detector, *, half: bool = True) -> onnx.ModelProto:
    """Return the model: (1, 3, height, width) float32 RGB, 0 to 255, to the outputs `Detector.forward` describes.

    Args:
        network: a trained one, in eval mode.
        half: keep weights in 16 bits; what runs is computed in 32.
    """
    graph = Graph(half=half)
    x = graph.unit("input", network.stem[0], 1 / 255)
    x = graph.unit(x, network.stem[1])
    features = []
    for stage in network.stages:
        for block in stage:
            x = graph.unit(x, block) if isinstance(block, Unit) else graph.separable(x, block)
        features.append(x)
    twice = graph.constant(np.array([1, 1, 2, 2], np.float32))
    cells = graph.constant(np.array((1, sum(HEAD_PARTS), -1), np.int64))
    answers: dict[int, str] = {}
    above = ""
    for level in (2, 1, 0):
        here = graph.unit(features[level], network.laterals[level])
        if above:
            nearest: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            larger = graph.node("Resize", [above, "", twice], **nearest)
            here = graph.node("Add", [here, larger])
        above = here
        head = network.heads[level]
        found = graph.head(graph.separable(here, network.towers[level]), head)
        answers[level] = graph.node("Reshape", [found, cells])
    _write_outputs(graph, [answers[level] for level in range(len(STRIDES))])
    sizes = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, f"cells_{name.split('_')[1]}", sizes[name.split("_")[0]]])
        for name in OUTPUTS
    ]
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    return graph.model("facekeep_detector", pixels, outputs)


def write_onnx(network: Detector, path: Path) -> None:
    """Write the model of a trained network to `path`, whose folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(detector_model(network.eval()).SerializeToString(deterministic=True))
