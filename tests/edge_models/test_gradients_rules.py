"""Each rule of differentiation by itself, against PyTorch's autograd on the operator's own definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: recipes are for those who train (extra build)")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from facekeep.runtime import open_session  # noqa: E402
from facekeep_models.training.export.errors import ExportError  # noqa: E402
from facekeep_models.training.gradients.differentiation import backward  # noqa: E402
from facekeep_models.training.gradients.emitting import Emitter, shapes_of  # noqa: E402

Tensors = dict[str, NDArray[Any]]


def gradients(nodes: Sequence[Any], trained: Tensors, frozen: Tensors, seed: int) -> tuple[Tensors, NDArray[Any]]:
    """Return the gradients of <weights, last output> for random weights, by ONNX Runtime, and the weights."""
    last = nodes[-1].output[0]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in trained.items()]
    kept = [numpy_helper.from_array(value, name) for name, value in frozen.items()]
    opset = [helper.make_opsetid("", 17)]
    wanted = [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)]
    forward = helper.make_model(helper.make_graph(list(nodes), "f", given, wanted, kept), opset_imports=opset, ir_version=8)
    shapes = shapes_of(forward)
    weights = np.random.default_rng(seed).normal(size=shapes[last]).astype(np.float32)
    out = Emitter("_", shapes)
    found = backward(list(nodes), {last: "weights"}, list(trained), out)
    names = [out.node("Identity", [found[name]], output=f"d_{name}") for name in trained]
    graph = helper.make_graph(
        [*nodes, *out.nodes],
        "b",
        [*given, helper.make_tensor_value_info("weights", TensorProto.FLOAT, weights.shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        [*kept, *out.constants],
    )
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = open_session("onnx", {"b.onnx": model.SerializeToString()})
    results = session.run(trained | {"weights": weights})
    return dict(zip(trained, results, strict=True)), weights


def require_rule(nodes: Sequence[Any], trained: Tensors, frozen: Tensors, same: Callable[..., Any], seed: int) -> None:
    found, weights = gradients(nodes, trained, frozen, seed)
    leaves = {name: torch.from_numpy(value).double().requires_grad_() for name, value in trained.items()}
    result = same(**leaves, **{name: torch.from_numpy(value) for name, value in frozen.items()})
    (result * torch.from_numpy(weights)).sum().backward()
    for name, leaf in leaves.items():
        assert found[name].shape == tuple(leaf.shape)
        np.testing.assert_allclose(found[name], leaf.grad.numpy(), rtol=1e-4, atol=1e-4 * float(leaf.grad.abs().max()) + 1e-12)


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


PAIRS = st.sampled_from(
    [((2, 3, 4, 5), (3, 1, 1)), ((2, 3), (2, 3)), ((2, 3), (1,)), ((3, 1), (1, 4)), ((2, 3, 4), ()), ((1,), (5, 1))]
)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["Add", "Sub", "Mul", "Div"]),
    shapes=PAIRS,
    turned=st.booleans(),
    both=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_arithmetic_with_broadcasting(kind: str, shapes: tuple[Any, Any], turned: bool, both: bool, seed: int) -> None:
    first, second = shapes[::-1] if turned else shapes
    a, b = normal(seed, *first), normal(seed + 1, *second)
    b = np.where(np.abs(b) < 0.3, np.float32(0.7), b)
    function = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}[kind]
    trained, frozen = ({"a": a, "b": b}, {}) if both else ({"b": b}, {"a": a})
    require_rule([helper.make_node(kind, ["a", "b"], ["y"])], trained, frozen, lambda a, b: function(a, b), seed)


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 3),
    group=st.integers(1, 2),
    multiple=st.integers(1, 2),
    size=st.tuples(st.integers(4, 9), st.integers(4, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_convolutions_of_every_size(
    channels: int,
    group: int,
    multiple: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: int,
    pads: tuple[int, int, int, int],
    bias: bool,
    seed: int,
) -> None:
    top, left, bottom, right = pads
    if size[0] + top + bottom < (kernel[0] - 1) * dilation + 1 or size[1] + left + right < (kernel[1] - 1) * dilation + 1:
        return
    x = normal(seed, 2, channels * group, *size)
    weight = normal(seed + 1, multiple * group, channels, *kernel)
    sizes = {"kernel_shape": kernel, "strides": stride, "dilations": [dilation] * 2, "pads": pads, "group": group}
    trained = {"x": x} | ({"bias": normal(seed + 2, multiple * group)} if bias else {})

    def same(x: Any, weight: Any, bias: Any = None) -> Any:
        padded = torch.nn.functional.pad(x, (left, right, top, bottom))
        return torch.nn.functional.conv2d(padded, weight.double(), bias, stride, 0, dilation, group)

    node = helper.make_node("Conv", ["x", "weight", "bias"][: 3 if bias else 2], ["y"], **sizes)
    require_rule([node], trained, {"weight": weight}, same, seed)


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("bias", [(), (4,), (1, 4), (3, 1)])
def test_linear_maps_turned_or_not(turned: tuple[int, int], bias: tuple[int, ...]) -> None:
    a = normal(0, *((2, 3) if turned[0] else (3, 2)))
    b = normal(1, *((4, 2) if turned[1] else (2, 4)))

    def same(a: Any, b: Any, c: Any = 0.0) -> Any:
        return (a.T if turned[0] else a) @ (b.T if turned[1] else b) + c

    trained = {"a": a, "b": b} | ({"c": normal(2, *bias)} if bias else {})
    node = helper.make_node("Gemm", list(trained), ["y"], transA=turned[0], transB=turned[1])
    require_rule([node], trained, {}, same, 3)


def test_activations() -> None:
    x, slope = normal(0, 2, 3, 4, 4), normal(1, 3, 1, 1)
    require_rule([helper.make_node("Relu", ["x"], ["y"])], {"x": x}, {}, lambda x: torch.relu(x), 2)
    same = lambda x, slope: torch.where(x > 0, x, x * slope)  # noqa: E731
    require_rule([helper.make_node("PRelu", ["x", "slope"], ["y"])], {"x": x, "slope": slope}, {}, same, 3)
    require_rule(
        [helper.make_node("PRelu", ["x", "slope"], ["y"])], {"slope": slope}, {"x": x}, lambda slope, x: same(x.double(), slope), 4
    )


def test_shapes_and_parts() -> None:
    row = normal(0, 9)
    nodes = [
        helper.make_node("Split", ["row", "sizes"], ["first", "unused", "last"], axis=0),
        helper.make_node("Reshape", ["first", "square"], ["square_first"]),
        helper.make_node("Reshape", ["last", "square"], ["square_last"]),
        helper.make_node("Mul", ["square_first", "square_last"], ["product"]),
        helper.make_node("Identity", ["product"], ["copy"]),
        helper.make_node("Cast", ["copy"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["wide"], ["y"], axis=1),
    ]
    frozen = {"sizes": np.array([4, 1, 4]), "square": np.array([2, 2])}
    require_rule(nodes, {"row": row}, frozen, lambda row, sizes, square: (row[:4] * row[5:]).reshape(2, 2), 1)


def test_a_value_that_is_used_thrice_gets_all_its_gradients() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"]),
        helper.make_node("Add", ["square", "x"], ["more"]),
        helper.make_node("Mul", ["more", "x"], ["y"]),
    ]
    require_rule(nodes, {"x": normal(0, 3, 2)}, {}, lambda x: (x * x + x) * x, 1)


def test_what_has_no_rule_is_refused() -> None:
    x = {"x": normal(0, 1, 2, 6, 6)}
    weight = {"weight": normal(1, 2, 2, 3, 3)}
    convolution = helper.make_node("Conv", ["x", "weight"], ["y"])
    for nodes, trained, frozen, words in (
        ([helper.make_node("Tanh", ["x"], ["y"])], x, {}, "no gradient here for Tanh"),
        ([convolution], x | weight, {}, "weights of a convolution are not trained"),
        ([helper.make_node("Conv", ["x", "weight"], ["y"], auto_pad="SAME_UPPER")], x, weight, "pads by itself"),
        ([helper.make_node("Identity", ["a"], ["y"])], {"a": normal(0, 2), "b": normal(0, 2)}, {}, "does not depend on b"),
    ):
        with pytest.raises(ExportError, match=words) as caught:
            gradients(nodes, trained, frozen, 0)
        assert caught.value.code == "export.unsupported_layer"
