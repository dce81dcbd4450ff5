"""Reverse-mode differentiation of an ONNX graph: nodes that compute the gradient of one value from that of another."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx

from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.gradients.emitting import Emitter
from facekeep_models.training.gradients.rules import RULES, Step


def backward(nodes: list[onnx.NodeProto], seeds: Mapping[str, str], trained: Collection[str], out: Emitter) -> dict[str, str]:
    """Add the nodes that carry gradients from `seeds` back to `trained`, and return value -> gradient.

    Args:
        nodes: the forward graph in the order of its computation; it computes every value of `seeds`.
        seeds: value of the forward graph -> gradient of the loss with respect to it.
        trained: values whose gradients are wanted.
        out: where nodes go; it knows the shape of every value of the forward graph.

    Raises:
        ExportError: "export.unsupported_layer" where an operator on the way has no rule, or a wanted value has no way to `seeds`.
    """
    # What depends on `trained`: nothing else needs a gradient, so nothing is computed for frozen weights and for the picture.
    moving = set(trained)
    for node in nodes:
        if any(name in moving for name in node.input):
            moving.update(name for name in node.output if name)
    arrived: dict[str, list[str]] = {value: [gradient] for value, gradient in seeds.items()}
    done: dict[str, str] = {}

    def gradient_of(value: str) -> str | None:
        if value not in arrived:
            return None
        if value not in done:
            done[value] = out.sum(arrived[value])
        return done[value]

    for node in reversed(nodes):
        needed = tuple(name in moving for name in node.input)
        gradients = tuple(gradient_of(name) for name in node.output)
        if not any(needed) or all(gradient is None for gradient in gradients):
            continue
        if node.op_type not in RULES:
            raise ExportError("export.unsupported_layer", f"There is no gradient here for {node.op_type}.")
        for name, needs, found in zip(node.input, needed, RULES[node.op_type](Step(node, gradients, needed, out)), strict=True):
            if needs and found is not None:
                arrived.setdefault(name, []).append(found)
    missing = [name for name in trained if name not in arrived]
    if missing:
        raise ExportError("export.unsupported_layer", f"The loss does not depend on {missing[0]}.")
    return {name: gradient for name in trained if (gradient := gradient_of(name)) is not None}
