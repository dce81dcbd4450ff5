"""The 8-bit ONNX build: static, per channel, calibrated on pictures; every choice here was measured.

On 844 pictures of 400 held-out people and 128 pictures for calibration, one thread of a processor with VNNI, against 2.5 ms of
fp32: convolutions and nothing else in 8 bits 1.3 ms; the additions of the short cuts as well, no faster, and twice as far from
fp32; the first convolution as well, 0.2 ms slower (its input has to be packed) and farther from fp32. Activations are cut at
99.999 % of what calibration saw: mean cosine to fp32 0.9995, against 0.9992 with the extremes or by entropy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facekeep_models.training.export.quiet import quiet

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PERCENTILE: Final = 99.999


def quantised(model: onnx.ModelProto, pictures: NDArray[np.float32]) -> onnx.ModelProto:
    """Return `model` with its convolutions but the first in 8 bits: unsigned activations, signed weights per channel.

    Weights use 7 of their 8 bits: x86 without VNNI adds two products in 16 bits, which overflows with 8, silently. With 7 every
    processor computes the same.

    Args:
        model: float32, one input.
        pictures: (N, 3, H, W) float32 as the model takes them, to calibrate on; never those it is measured on.

    Raises:
        ImportError: without ONNX Runtime's tools (its package brings them; they need `onnx`).
    """
    first = next(node.name for node in model.graph.node if node.op_type == "Conv")
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory(prefix="facekeep-export-") as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        before.write_bytes(model.SerializeToString(deterministic=True))
        with quiet():
            quantize_static(
                before,
                after,
                _reader(model.graph.input[0].name, pictures),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=[first],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": _PERCENTILE},
            )
        result = onnx.load(after)
    result.producer_name, result.producer_version = "facekeep", ""
    result.ir_version = model.ir_version
    # The tools add the domains they might have used.
    used = {node.domain for node in result.graph.node}
    kept = [each for each in result.opset_import if each.domain in used]
    del result.opset_import[:]
    result.opset_import.extend(kept)
    del result.metadata_props[:]
    _store_as_half(result)
    compacted(result)
    onnx.checker.check_model(result, full_check=True)
    return result


def compacted(model: onnx.ModelProto) -> None:
    """Leave out what says nothing: names of nodes, and the zero points of biases, which are zero by the format's rule."""
    constants = {each.name: each for each in model.graph.initializer}
    gone: set[str] = set()
    for node in model.graph.node:
        node.name = ""
        if node.op_type == "DequantizeLinear" and len(node.input) == 3:
            zero = constants.get(node.input[2])
            if zero is not None and zero.data_type == TensorProto.INT32 and not numpy_helper.to_array(zero).any():
                gone.add(zero.name)
                node.input[:] = node.input[:2]
    kept = [each for each in model.graph.initializer if each.name not in gone]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _store_as_half(model: onnx.ModelProto) -> None:
    """Store what is left of float32 weights as float16, widened by a Cast that a runtime carries out once, when it loads the model.

    Only where nothing is lost: the weights were rounded to float16 before anything was measured.
    """
    casts = []
    for weights in model.graph.initializer:
        if weights.data_type != TensorProto.FLOAT or len(weights.dims) < 2:
            continue
        wide = numpy_helper.to_array(weights)
        half = wide.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), wide):
            continue
        name = weights.name
        weights.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _reader(name: str, pictures: NDArray[np.float32]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[NDArray[np.float32]] = (pictures[at : at + 1] for at in range(len(pictures)))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            picture = next(self._left, None)
            return None if picture is None else {name: picture}

    return Reader()
