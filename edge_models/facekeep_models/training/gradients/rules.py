"""One rule for each operator: from the gradient of its output to the gradients of those inputs that lead to what is trained.

The mathematics is that of https://onnx.ai/onnx/operators/ read backwards; every rule is compared with PyTorch's autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx

from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.gradients.emitting import Emitter, Shape


@dataclass(frozen=True, slots=True)
class Step:
    """A node on the way back.

    Attributes:
        node: of the forward graph.
        gradients: of its outputs, None where nothing comes from.
        needed: for each input, whether its gradient is wanted.
        out: where new nodes go.
    """

    node: onnx.NodeProto
    gradients: tuple[str | None, ...]
    needed: tuple[bool, ...]
    out: Emitter

    @property
    def gradient(self) -> str:
        """Of the one output."""
        (only,) = self.gradients
        assert only is not None  # noqa: S101 a node is visited only when a gradient reached it
        return only

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Of the node."""
        return {one.name: onnx.helper.get_attribute_value(one) for one in self.node.attribute}

    def shape(self, name: str) -> Shape:
        """Of a value of the forward graph."""
        return self.out.shapes[name]

    def refuse(self, why: str) -> ExportError:
        """Return the error for what no rule covers."""
        return ExportError("export.unsupported_layer", f"No gradient of {self.node.op_type} {self.node.output[0]}: {why}.")


Rule = Callable[[Step], "list[str | None]"]


def _convolution(step: Step) -> list[str | None]:
    if step.needed[1]:
        raise step.refuse("the weights of a convolution are not trained, its scales and offsets are")
    found: list[str | None] = [None] * len(step.node.input)
    if step.needed[0]:
        found[0] = _to_input(step)
    if len(found) == 3 and step.needed[2]:
        summed = step.out.node("ReduceSum", [step.gradient, step.out.integers(0, 2, 3)], keepdims=0)
        found[2] = summed
    return found


def _to_input(step: Step) -> str:
    x, weight = step.node.input[:2]
    attributes, out = step.attributes, step.out
    if attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise step.refuse("it pads by itself")
    before, after, kernel = step.shape(x)[2:], step.shape(step.node.output[0])[2:], step.shape(weight)[2:]
    strides, dilations = (list(attributes.get(name, [1, 1])) for name in ("strides", "dilations"))
    pads = list(attributes.get("pads", [0, 0, 0, 0]))
    reach = [(int(size) - 1) * step_px + 1 for size, step_px in zip(kernel, dilations, strict=True)]
    group = attributes.get("group", 1)
    if strides == [1, 1] and group == 1 and all(pads[place] < reach[place % 2] for place in range(4)):
        # A convolution again, with the weights turned round and its channels exchanged: the runtime's quickest kernel. The weights
        # are constant, so it turns them once, when it loads the graph.
        turned = out.node("Transpose", [weight], perm=[1, 0, 2, 3])
        if tuple(kernel) != (1, 1):
            turned = out.node(
                "Slice", [turned, out.integers(-1, -1), out.integers(*[-(2**31)] * 2), out.integers(2, 3), out.integers(-1, -1)]
            )
        around = [reach[place % 2] - 1 - pads[place] for place in range(4)]
        return out.node("Conv", [step.gradient, turned], kernel_shape=kernel, dilations=dilations, pads=around)
    # Stride s leaves up to s - 1 rows at the far edge that no output saw: they get them back, as zeros (`output_padding`).
    reached = [(int(after[side]) - 1) * strides[side] + reach[side] - pads[side] - pads[side + 2] for side in range(2)]
    unseen = [int(before[side]) - reached[side] for side in range(2)]
    return out.node(
        "ConvTranspose",
        [step.gradient, weight],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=group,
        output_padding=unseen,
    )


def _linear(step: Step) -> list[str | None]:
    attributes, out, gradient = step.attributes, step.out, step.gradient
    a, b = step.node.input[:2]
    ta, tb = attributes.get("transA", 0), attributes.get("transB", 0)
    if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise step.refuse("it scales its inputs")
    found: list[str | None] = [None] * len(step.node.input)
    # Y = A' B'  ->  dA' = dY B'^T, dB' = A'^T dY, each turned once more where the input came turned.
    if step.needed[0]:
        found[0] = (
            out.node("Gemm", [b, gradient], transA=tb, transB=1) if ta else out.node("Gemm", [gradient, b], transB=0 if tb else 1)
        )
    if step.needed[1]:
        found[1] = (
            out.node("Gemm", [gradient, a], transA=1, transB=ta) if tb else out.node("Gemm", [a, gradient], transA=0 if ta else 1)
        )
    if len(found) == 3 and step.needed[2]:
        found[2] = out.summed_to(gradient, step.shape(step.node.output[0]), step.shape(step.node.input[2]))
    return found


def _rectifier(step: Step) -> list[str | None]:
    zero = step.out.number(0)
    passed = step.out.node("Greater", [step.node.input[0], zero])
    return [step.out.node("Where", [passed, step.gradient, zero])]


def _leaky(step: Step) -> list[str | None]:
    (x, slope), out = step.node.input, step.out
    found: list[str | None] = [None, None]
    if step.needed[0]:
        factor = out.node("Where", [out.node("Greater", [x, out.number(0)]), out.number(1), slope])
        found[0] = out.node("Mul", [step.gradient, factor])
    if step.needed[1]:
        below = out.node("Mul", [step.gradient, out.node("Min", [x, out.number(0)])])
        found[1] = out.summed_to(below, step.shape(step.node.output[0]), step.shape(slope))
    return found


def _elementwise(towards: Callable[[Step], tuple[Callable[[], str], Callable[[], str]]]) -> Rule:
    def rule(step: Step) -> list[str | None]:
        shape = step.shape(step.node.output[0])
        sides = zip(step.node.input, step.needed, towards(step), strict=True)
        return [step.out.summed_to(make(), shape, step.shape(name)) if needed else None for name, needed, make in sides]

    return rule


def _quotient(step: Step) -> tuple[Callable[[], str], Callable[[], str]]:
    (_, divisor), out = step.node.input, step.out

    def of_divisor() -> str:
        whole = out.node("Mul", [step.gradient, step.node.output[0]])
        return out.node("Neg", [out.node("Div", [whole, divisor])])

    return lambda: out.node("Div", [step.gradient, divisor]), of_divisor


def _split(step: Step) -> list[str | None]:
    axis = step.attributes.get("axis", 0)
    parts = []
    for name, gradient in zip(step.node.output, step.gradients, strict=True):
        shape = step.shape(name)
        if gradient is None and any(isinstance(size, str) for size in shape):
            raise step.refuse("a part of free size is not used")
        parts.append(gradient or step.out.constant(np.zeros(tuple(int(size) for size in shape), np.float32)))
    return [step.out.node("Concat", parts, axis=axis), None]


def _reshaped(step: Step) -> list[str | None]:
    found: list[str | None] = [None] * len(step.node.input)
    found[0] = step.out.shaped_as(step.gradient, step.shape(step.node.input[0]))
    return found


RULES: Final[dict[str, Rule]] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "Relu": _rectifier,
    "PRelu": _leaky,
    "Add": _elementwise(lambda step: (lambda: step.gradient, lambda: step.gradient)),
    "Sub": _elementwise(lambda step: (lambda: step.gradient, lambda: step.out.node("Neg", [step.gradient]))),
    "Mul": _elementwise(
        lambda step: (
            lambda: step.out.node("Mul", [step.gradient, step.node.input[1]]),
            lambda: step.out.node("Mul", [step.gradient, step.node.input[0]]),
        )
    ),
    "Div": _elementwise(_quotient),
    "Flatten": _reshaped,
    "Reshape": _reshaped,
    "Split": _split,
    "Identity": lambda step: [step.gradient],
    # What is widened from float16 is not trained: a number that could not hold its own gradient.
    "Cast": lambda step: [step.out.node("Cast", [step.gradient], to=onnx.TensorProto.FLOAT)],
}
