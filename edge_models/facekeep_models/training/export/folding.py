"""The network as it runs on a device: normalisation folded into convolutions, PReLU in a form that runtimes are fast at."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from facekeep_models.training.export.errors import ExportError


class Bend(nn.Module):
    """PReLU as `a x + (1 - a) max(x, 0)`, which is the same function.

    ONNX Runtime 1.31 has no blocked kernel for PReLU: the embedder takes 7 ms with it and 2.3 ms in this form, and neither runtime
    has a fast one for 8 bits.
    """

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        negative = slopes.detach().clone().reshape(-1, 1, 1)
        self.negative = nn.Parameter(negative, requires_grad=False)
        self.rest = nn.Parameter(1 - negative, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) of (N, C, H, W)."""
        return self.negative * x + self.rest * torch.relu(x)


def folded(network: nn.Module) -> fx.GraphModule:
    """Return a copy of `network` for inference: every BatchNorm inside the convolution before it, every PReLU a `Bend`.

    Raises:
        ExportError: "export.unsupported_layer" where a path depends on data, or a BatchNorm follows no convolution.
    """
    try:
        traced = fx.symbolic_trace(copy.deepcopy(network).cpu().eval())
    except (fx.proxy.TraceError, TypeError) as error:
        raise ExportError("export.unsupported_layer", f"The network cannot be traced: {error}") from error
    for node in list(traced.graph.nodes):
        if node.op != "call_module":
            continue
        layer = traced.get_submodule(node.target)
        if isinstance(layer, nn.PReLU):
            traced.set_submodule(node.target, Bend(layer.weight))
        elif isinstance(layer, nn.BatchNorm2d):
            before = node.args[0]
            convolution = traced.get_submodule(before.target) if before.op == "call_module" else None
            if not isinstance(convolution, nn.Conv2d) or len(before.users) != 1:
                raise ExportError("export.unsupported_layer", f"The layer {node.target} follows no convolution of its own.")
            traced.set_submodule(before.target, cast("nn.Conv2d", fuse_conv_bn_eval(convolution, layer)))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.requires_grad_(requires_grad=False)


def rounded_to_half(network: fx.GraphModule) -> fx.GraphModule:
    """Return a copy whose weights of convolutions and linear maps are float32 numbers that float16 can hold.

    What is stored in half the bytes is then exactly what runs; biases and slopes are few and keep all their bits.

    Raises:
        ExportError: "export.invalid_weights" if a weight is beyond the range of float16, or is not a number.
    """
    rounded = copy.deepcopy(network)
    for name, layer in rounded.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.weight.data = layer.weight.data.half().float()
            if not torch.isfinite(layer.weight).all():
                raise ExportError("export.invalid_weights", f"A weight of {name} is not a number of float16.")
    return rounded
