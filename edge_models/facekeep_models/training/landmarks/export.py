"""The ONNX file of a trained network: crops in, landmarks in pixels of the crop out, any number at once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper

from facekeep_models.training.detector.graph import Graph
from facekeep_models.training.detector.network import Separable, Unit
from facekeep_models.training.landmarks.network import EYES_PX, SIDE_PX, TEMPLATE, LandmarkNetwork

OUTPUT: Final = "landmarks"


def landmark_model(network: LandmarkNetwork) -> onnx.ModelProto:
    """Return the model: (N, 3, 48, 48) float32 RGB, 0 to 255, to (N, 5, 2) float32 (x, y) in pixels of the crop."""
    graph = Graph()
    x, gain = "input", 1 / 255
    for block in network.body:
        if isinstance(block, Unit):
            x, gain = graph.unit(x, block, gain), 1.0
        elif isinstance(block, Separable):
            x = graph.separable(x, block)
    shape = graph.constant(np.array((-1, 5, 2), np.int64))
    answer = graph.node("Reshape", [graph.head(x, network.head), shape])
    scaled = graph.node("Mul", [answer, graph.constant(np.array(EYES_PX, np.float32))])
    graph.node("Add", [scaled, graph.constant(TEMPLATE.astype(np.float32))], [OUTPUT])
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["faces", 3, SIDE_PX, SIDE_PX])
    return graph.model("facekeep_landmarks", pixels, [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["faces", 5, 2])])


def write_onnx(network: LandmarkNetwork, path: Path) -> None:
    """Write the model of a trained network."""
    path.write_bytes(landmark_model(network.eval()).SerializeToString(deterministic=True))
