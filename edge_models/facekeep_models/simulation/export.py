"""The recipe of the two simulation models, made by hand out of ordinary ONNX operators: nothing is trained.

    python -m facekeep_models.simulation.export DIR

writes `drawn-detector/onnx/drawn_detector.onnx` and `drawn-embedder/onnx/drawn_embedder.onnx`. Needs the extra `build`.

Steps of the detector:
    1 distance of every pixel to each marker colour, by one 1x1 convolution
    2 weight of every pixel for each marker, 1 at its colour and 0 beyond its reach
    3 mass, centre and spread of each weight map
    4 score: 1 if every marker has mass and is as compact as a disc, towards 0 otherwise
Steps of the embedder:
    1 average over cells of the crop
    2 divide by the mean brightness of the face, subtract the mean of each channel
    3 project on a seeded orthogonal basis of the smooth fields that a face can have
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facekeep_models.simulation.palette import CROP_PX, FIELD_ORDER, MARKER_RADIUS, MARKER_REACH, MARKERS_RGB, TEMPLATE_PX, cosines

OPSET: Final = 17
# The oldest that every ONNX Runtime since 1.14 reads.
IR_VERSION: Final = 8
DETECTOR_FILE: Final = "drawn_detector.onnx"
EMBEDDER_FILE: Final = "drawn_embedder.onnx"
DIMENSION: Final = 64
_PROJECTION_SEED: Final = 0x51D
# Weights are whole multiples of this, so that the last bits of a mathematics library do not change the file.
_GRAIN: Final = 1 / 4096

_CELL_PX: Final = 7
_CELLS: Final = CROP_PX // _CELL_PX
# Part of the head that alignment errors do not reach, as centre and half axes in crop pixels.
_FACE: Final = (56.0, 62.0, 43.0, 55.0)

# Less weight than this many full pixels is noise. Compactness: the mean square distance from the centre of a disc of mass m is
# m / (2 pi); a marker blurred by compression stays within three times that, two people in a frame do not.
_LEAST_MASS: Final = 6.0
_LOOSEST_SPREAD: Final = 3.0


def detector_model() -> onnx.ModelProto:
    """Return the detector: (1, 3, H, W) float32 RGB, 0 to 255 -> score (1,), landmarks (1, 5, 2) in pixels of the input."""
    reach = MARKER_REACH**2
    # 1 and 2: 1 - |p - c|^2 / reach^2, spread out: the convolution gives 2 p.c - |c|^2, the sum of squares is subtracted.
    kernel = (2.0 / reach * MARKERS_RGB).reshape(5, 3, 1, 1)
    bias = 1.0 - (MARKERS_RGB**2).sum(axis=1) / reach
    constants = {
        "kernel": kernel,
        "bias": bias,
        "scale": np.array(1.0 / np.sqrt(reach)),
        "tiny": np.array(1e-6),
        "least_mass": np.array(_LEAST_MASS),
        "looseness": np.array(_LOOSEST_SPREAD / (2 * np.pi)),
        "ten": np.array(10.0),
        "one": np.array(1.0),
        "zero": np.array(0.0),
    }
    indices: dict[str, Any] = {
        "channel": [1],
        "row": [2],
        "column": [3],
        "last": [2],
        "zero_index": 0,
        "one_index": 1,
        "two": 2,
        "three": 3,
    }
    node = helper.make_node
    nodes = [
        node("Mul", ["frame", "scale"], ["scaled"]),
        node("Mul", ["scaled", "scaled"], ["squares"]),
        node("ReduceSum", ["squares", "channel"], ["length"]),
        node("Conv", ["frame", "kernel", "bias"], ["towards"]),
        node("Sub", ["towards", "length"], ["closeness"]),
        node("Relu", ["closeness"], ["weight"]),
        # 3
        node("Shape", ["frame"], ["shape"]),
        *_positions("height", "two", "rows"),
        *_positions("width", "three", "columns"),
        node("ReduceSum", ["weight", "row"], ["by_column"], keepdims=0),
        node("ReduceSum", ["weight", "column"], ["by_row"], keepdims=0),
        node("ReduceSum", ["by_row", "last"], ["mass"], keepdims=1),
        node("Max", ["mass", "tiny"], ["divisor"]),
        *_moments("x", "by_column", "columns"),
        *_moments("y", "by_row", "rows"),
        node("Concat", ["x", "y"], ["landmarks"], axis=2),
        # 4
        node("Add", ["x_spread", "y_spread"], ["spread"]),
        node("Mul", ["divisor", "looseness"], ["allowed"]),
        node("Div", ["allowed", "spread_safe"], ["compactness"]),
        node("Max", ["spread", "one"], ["spread_safe"]),
        node("Div", ["mass", "least_mass"], ["presence"]),
        # A step with a short ramp: below the limit 0, a tenth above it 1.
        *_step("presence", "present"),
        *_step("compactness", "compact"),
        node("Mul", ["present", "compact"], ["marker_score"]),
        node("ReduceMin", ["marker_score"], ["score_of_frame"], axes=[1, 2], keepdims=0),
        node("Identity", ["score_of_frame"], ["score"]),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.FLOAT, [1, 3, "height", "width"])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, [1])
    landmarks = helper.make_tensor_value_info("landmarks", TensorProto.FLOAT, [1, 5, 2])
    initializers = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    initializers += [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in indices.items()]
    return _model("drawn_detector", _in_order(nodes, {"frame", *constants, *indices}), [frame], [score, landmarks], initializers)


def embedder_model() -> onnx.ModelProto:
    """Return the embedder: (N, 3, 112, 112) float32 RGB, 0 to 255 -> (N, 64), to be compared by cosine."""
    kept = face_cells()
    projection = projection_matrix(kept)
    mask = np.where(kept, 1.0 / kept.sum(), 0.0).reshape(1, 1, _CELLS, _CELLS)
    constants = {
        "mask": np.round(mask / _GRAIN**2) * _GRAIN**2,
        "projection": projection,
        "tiny": np.array(1.0),
    }
    indices: dict[str, Any] = {"cells": [2, 3], "all": [1, 2, 3], "flat": [0, -1]}
    node = helper.make_node
    nodes = [
        node("AveragePool", ["crop"], ["pooled"], kernel_shape=[_CELL_PX, _CELL_PX], strides=[_CELL_PX, _CELL_PX]),
        node("Mul", ["pooled", "mask"], ["masked"]),
        node("ReduceSum", ["masked", "cells"], ["mean_of_channel"], keepdims=1),
        node("ReduceSum", ["mean_of_channel", "all"], ["brightness"], keepdims=1),
        node("Max", ["brightness", "tiny"], ["light"]),
        node("Sub", ["pooled", "mean_of_channel"], ["deviation"]),
        node("Div", ["deviation", "light"], ["field"]),
        node("Reshape", ["field", "flat"], ["features"]),
        node("MatMul", ["features", "projection"], ["embedding"]),
    ]
    crop = helper.make_tensor_value_info("crop", TensorProto.FLOAT, ["batch", 3, CROP_PX, CROP_PX])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIMENSION])
    initializers = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    initializers += [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in indices.items()]
    return _model("drawn_embedder", nodes, [crop], [embedding], initializers)


def face_cells() -> NDArray[np.bool_]:
    """Return which of the cells lie on the face and clear of the markers, (rows, columns)."""
    middles = (np.arange(_CELLS) + 0.5) * _CELL_PX - 0.5
    x, y = np.meshgrid(middles, middles)
    kept = np.hypot((x - _FACE[0]) / _FACE[2], (y - _FACE[1]) / _FACE[3]) < 1.0
    for marker in TEMPLATE_PX:
        kept &= np.maximum(np.abs(x - marker[0]), np.abs(y - marker[1])) > MARKER_RADIUS + _CELL_PX / 2 + 1
    return np.asarray(kept)


def projection_matrix(kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the (3 * cells, 64) projection, zero where a cell is not kept.

    Rows of the basis are the cosines of the field on the cells, made orthogonal, once for each of two directions in RGB at
    right angles to grey, so that light and shade drop out. A seeded rotation then takes 64 of these 70 directions, so that no
    number of an embedding is one colour of one place.
    """
    middles = np.asarray((np.arange(_CELLS) + 0.5) * _CELL_PX - 0.5, dtype=np.float64)
    waves = cosines(middles)
    basis = np.einsum("ay,bx->abyx", waves, waves).reshape(FIELD_ORDER**2, -1)[1:]
    basis = np.where(kept.reshape(1, -1), basis, 0.0)
    basis -= np.where(kept.reshape(1, -1), basis.sum(axis=1, keepdims=True) / kept.sum(), 0.0)
    smooth, _ = np.linalg.qr(basis.T)
    differences = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.sqrt([[2.0], [6.0]])
    channels = np.kron(differences.T, smooth)
    random = np.random.default_rng(_PROJECTION_SEED)
    rotation, _ = np.linalg.qr(random.normal(size=(channels.shape[1], channels.shape[1])))
    projection: NDArray[np.float64] = np.round(channels @ rotation[:, :DIMENSION] / _GRAIN) * _GRAIN
    return projection


def write(directory: Path) -> tuple[Path, Path]:
    """Write both models below `directory` and return their paths."""
    paths = (directory / "drawn-detector" / "onnx" / DETECTOR_FILE, directory / "drawn-embedder" / "onnx" / EMBEDDER_FILE)
    for path, model in zip(paths, (detector_model(), embedder_model()), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString(deterministic=True))
    return paths


def _positions(name: str, axis: str, out: str) -> list[onnx.NodeProto]:
    """Return nodes that make 0, 1, 2 ... up to a side of the frame."""
    node = helper.make_node
    return [
        node("Gather", ["shape", axis], [name]),
        node("Range", ["zero_index", name, "one_index"], [f"{out}_whole"]),
        node("Cast", [f"{out}_whole"], [out], to=TensorProto.FLOAT),
    ]


def _moments(name: str, sums: str, positions: str) -> list[onnx.NodeProto]:
    """Return nodes for the centre (1, 5, 1) and the mean square distance from it, (1, 5, 1), along one axis."""
    node = helper.make_node
    return [
        node("Mul", [sums, positions], [f"{name}_weighted"]),
        node("ReduceSum", [f"{name}_weighted", "last"], [f"{name}_sum"], keepdims=1),
        node("Div", [f"{name}_sum", "divisor"], [name]),
        node("Sub", [positions, name], [f"{name}_off"]),
        node("Mul", [f"{name}_off", f"{name}_off"], [f"{name}_off2"]),
        node("Mul", [f"{name}_off2", sums], [f"{name}_off2_weighted"]),
        node("ReduceSum", [f"{name}_off2_weighted", "last"], [f"{name}_off2_sum"], keepdims=1),
        node("Div", [f"{name}_off2_sum", "divisor"], [f"{name}_spread"]),
    ]


def _step(name: str, out: str) -> list[onnx.NodeProto]:
    node = helper.make_node
    return [
        node("Sub", [name, "one"], [f"{out}_over"]),
        node("Mul", [f"{out}_over", "ten"], [f"{out}_ramp"]),
        node("Clip", [f"{out}_ramp", "zero", "one"], [out]),
    ]


def _in_order(nodes: list[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """Return nodes so that each comes after those it reads, as the format wants."""
    ordered: list[onnx.NodeProto] = []
    left = list(nodes)
    while left:
        ready = next(each for each in left if set(each.input) <= known)
        left.remove(ready)
        ordered.append(ready)
        known |= set(ready.output)
    return ordered


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    initializers: list[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="facekeep")
    model.ir_version = IR_VERSION
    model.doc_string = "Simulation only: reads drawn figures, no real face."
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m facekeep_models.simulation.export DIR")
    for written in write(Path(sys.argv[1])):
        sys.stdout.write(f"{written} {written.stat().st_size} bytes\n")
