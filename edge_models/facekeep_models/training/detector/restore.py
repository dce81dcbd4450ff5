"""The network out of an ONNX file of this recipe, so that a further stage can begin with what ships when its checkpoint is gone.

Batch norms are folded into the convolutions there and cannot be told apart again. They come back as the identity, and a stage
that begins so leaves them alone (`Schedule.frozen_norms`): statistics of single batches would undo what was folded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from facekeep.errors import ModelError
from facekeep.ports import Session
from facekeep.runtime import open_session
from facekeep_models.training.detector.network import OUTPUTS, Detector, Separable, Unit

# How far any output may be from that of the file; float32 in another order of sums differs by some 1e-5.
TOLERANCE: Final = 1e-4
_CHECKED_PX: Final = (160, 224)


def restored(content: bytes) -> Detector:
    """Return the network, in eval mode, that gives what the file gives.

    Args:
        content: an ONNX file that `export.write_onnx` wrote.

    Raises:
        ModelError: "model.invalid_model" if it is another graph, or an output differs by more than `TOLERANCE`.
    """
    network = Detector().eval()
    # First of all it is a model: this refuses what is none.
    session = open_session("onnx", {"model.onnx": content})
    try:
        graph = onnx.load_from_string(content).graph
        weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        # Kept in half precision and widened: by a name of its own.
        weights |= {node.output[0]: weights[node.input[0]].astype(np.float32) for node in graph.node if node.op_type == "Cast"}
        convolutions = [[weights[name] for name in node.input[1:]] for node in graph.node if node.op_type == "Conv"]
        with torch.no_grad():
            for place, ((weight, bias), part) in enumerate(zip(convolutions, _parts(network), strict=True)):
                # The first convolution holds the scale of the pixels too, which the network applies itself.
                _put(part, weight * np.float32(255) if place == 0 else weight, bias)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ModelError("model.invalid_model", "The file is not one of this recipe.") from error
    _require_same(network, session)
    return network


def _parts(network: Detector) -> Iterator[Unit | nn.Conv2d]:
    """Yield what becomes a convolution, in the order in which `export.detector_model` writes them."""
    yield from (each for each in network.stem if isinstance(each, Unit))
    for stage in network.stages:
        for block in stage.children():
            yield from _units(block)
    for level in (2, 1, 0):
        yield from _units(network.laterals[level])
        yield from _units(network.towers[level])
        head = network.heads[level]
        if isinstance(head, nn.Conv2d):
            yield head


def _units(block: nn.Module) -> tuple[Unit, ...]:
    if isinstance(block, Separable):
        return block.depthwise, block.pointwise
    return (block,) if isinstance(block, Unit) else ()


def _put(part: Unit | nn.Conv2d, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    if isinstance(part, nn.Conv2d):
        _copy(part.weight, weight)
        if part.bias is not None:
            _copy(part.bias, bias)
        return
    convolution, norm = part[0], part[1]
    _copy(convolution.weight, weight)
    _copy(norm.bias, bias)
    norm.weight.fill_(1)
    norm.running_mean.zero_()
    # With what the norm adds for safety exactly one, so that the norm is the identity to the last bit.
    norm.running_var.fill_(1 - norm.eps)


def _copy(parameter: Tensor, value: NDArray[np.float32]) -> None:
    if tuple(parameter.shape) != value.shape:
        raise ValueError(f"{tuple(parameter.shape)} wanted, {value.shape} found")
    parameter.copy_(torch.from_numpy(value.copy()))


def _require_same(network: Detector, session: Session) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 3, *_CHECKED_PX)).astype(np.float32)
    with torch.no_grad():
        wanted = dict(zip(OUTPUTS, network(torch.from_numpy(pixels)), strict=True))
    for name, found in zip(session.outputs, session.run({next(iter(session.inputs)): pixels}), strict=True):
        if name not in wanted or not np.allclose(found, wanted[name].numpy(), rtol=TOLERANCE, atol=TOLERANCE):
            raise ModelError("model.invalid_model", f"The output {name} of the file is not that of the network it was read into.")
