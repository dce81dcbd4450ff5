"""The LiteRT builds, made by `litert-torch` and `ai-edge-quantizer`: float with weights in 16 bits, and 8 bits."""

from __future__ import annotations

import importlib
import importlib.util
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.export.quiet import quiet

_IN_8_BITS: Final = ("CONV_2D", "DEPTHWISE_CONV_2D")
# BuiltinOperator of the schema, tensorflow/lite/schema/schema.fbs.
_CONV_2D: Final = 3


def missing_converter() -> str:
    """Return why LiteRT builds cannot be made here, or an empty string."""
    # Located, not imported: it brings JAX along, which takes seconds.
    absent = [name for name in ("litert_torch", "ai_edge_quantizer", "ai_edge_litert") if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} cannot be imported: pip install litert-torch" if absent else ""


def float_model(network: nn.Module, size_px: tuple[int, int], input_name: str, output_names: Sequence[str]) -> bytes:
    """Return (1, H, W, 3) float32 to the outputs of `network`, weights stored as float16, arithmetic in float32.

    Args:
        network: takes (N, 3, H, W).
        size_px: height and width.
        input_name: name of the input tensor.
        output_names: names of the outputs, in the order of the network.

    Raises:
        ExportError: "export.no_converter".
    """
    full = _converted(network, size_px)
    quantizer, types = _quantizer()
    tool = quantizer.Quantizer(full)
    halves = types.TensorQuantizationConfig(num_bits=16, dtype=types.TensorDataType.FLOAT)
    with quiet():
        tool.update_quantization_recipe(
            regex=".*",
            operation_name=types.TFLOperationName.ALL_SUPPORTED,
            op_config=types.OpQuantizationConfig(weight_tensor_config=halves, compute_precision=types.ComputePrecision.FLOAT),
            algorithm_key="float_casting",
        )
        result = tool.quantize().quantized_model
    return _named(bytes(result), input_name, output_names)


def int8_model(network: nn.Module, pictures: NDArray[np.float32], input_name: str, output_names: Sequence[str]) -> bytes:
    """Return the network with its convolutions but the first in 8 bits, weights per channel; input and output stay float32.

    Measured on one thread of a processor with VNNI, against 2.5 ms of the float build: so 0.9 ms; the first convolution in 8 bits
    as well 1.05 ms; everything in 8 bits 3.1 ms, for the runtime has no fast kernel for what lies between convolutions.

    Args:
        network: takes (N, 3, H, W).
        pictures: (N, 3, H, W) float32 to calibrate on; never those it is measured on.
        input_name: name of the input tensor.
        output_names: names of the outputs, in the order of the network.

    Raises:
        ExportError: "export.no_converter".
    """
    full = _converted(network, (pictures.shape[2], pictures.shape[3]))
    quantizer, types = _quantizer()
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_content=full)
    (signature, names) = next(iter(interpreter.get_signature_list().items()))
    feeds = [{names["inputs"][0]: np.ascontiguousarray(each.transpose(1, 2, 0))[None]} for each in pictures]
    tool = quantizer.Quantizer(full)
    with quiet():
        for operation in _IN_8_BITS:
            tool.add_static_config(
                regex=".*", operation_name=types.TFLOperationName(operation), activation_num_bits=8, weight_num_bits=8
            )
        tool.update_quantization_recipe(
            # A name alone would also match those that begin with it.
            regex=f"^{re.escape(_first_convolution(full))}(;|$)",
            operation_name=types.TFLOperationName("CONV_2D"),
            algorithm_key="no_quantize",
        )
        # Picture by picture: the tool's own way over many is a moving average, which cuts off what unusual faces need. The least
        # cosine to the network over 844 faces was 0.960 with it and is 0.994 with the extremes of all pictures.
        seen = [tool.calibrate({signature: [feed]}, num_threads=1) for feed in feeds]
        result = tool.quantize(_extremes(seen)).quantized_model
    return _named(bytes(result), input_name, output_names)


def _converted(network: nn.Module, size_px: tuple[int, int]) -> bytes:
    if reason := missing_converter():
        raise ExportError("export.no_converter", f"LiteRT builds need a converter. {reason}")
    with quiet():
        litert_torch = importlib.import_module("litert_torch")
        last = litert_torch.to_channel_last_io(network.eval(), args=[0])
        made = litert_torch.convert(last.eval(), (torch.zeros(1, *size_px, 3),))
        with tempfile.TemporaryDirectory(prefix="facekeep-export-") as folder:
            path = Path(folder, "model.tflite")
            made.export(str(path))
            return path.read_bytes()


def _extremes(seen: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the range of every tensor over all pictures, of its range in each."""
    joined = {name: dict(values) for name, values in seen[0].items()}
    for name, values in joined.items():
        for end, extreme in (("min", np.min), ("max", np.max)):
            if end in values:
                values[end] = np.asarray(extreme([each[name][end] for each in seen], axis=0), np.float32)
    return joined


def _first_convolution(model: bytes) -> str:
    """Return the name of what the first convolution gives, by which the quantiser knows an operation."""
    tools = importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")
    opened = tools.read_model_from_bytearray(bytearray(model))
    graph = opened.subgraphs[0]
    codes = [code.builtinCode for code in opened.operatorCodes]
    first = next(each for each in graph.operators if codes[each.opcodeIndex] == _CONV_2D)
    return str(graph.tensors[first.outputs[0]].name.decode())


def _named(model: bytes, input_name: str, output_names: Sequence[str]) -> bytes:
    """Return `model` with names for its tensors: a device asks for them by name, and the converter numbers them."""
    tools = importlib.import_module("ai_edge_litert.tools.flatbuffer_utils")
    opened = tools.read_model_from_bytearray(bytearray(model))
    graph = opened.subgraphs[0]
    for places, names in ((graph.inputs, (input_name,)), (graph.outputs, tuple(output_names))):
        for place, name in zip(places, names, strict=True):
            graph.tensors[place].name = name.encode()
    return bytes(tools.convert_object_to_bytearray(opened))


def _quantizer() -> tuple[Any, Any]:
    with quiet():
        return importlib.import_module("ai_edge_quantizer.quantizer"), importlib.import_module("ai_edge_quantizer.qtyping")
