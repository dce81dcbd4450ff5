"""The training graph's gradients against PyTorch's, on the model that ships and on small networks of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: recipes are for those who train (extra build)")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from facekeep.packs import PackStore  # noqa: E402
from facekeep.runtime import open_session  # noqa: E402
from facekeep_models.training.export.errors import ExportError  # noqa: E402
from facekeep_models.training.export.patchable import layout_of, patchable, with_features  # noqa: E402
from facekeep_models.training.gradients.torch_graph import TorchGraph, margin_loss, unit_rows  # noqa: E402
from facekeep_models.training.gradients.training_graph import parameters_of, training_graph, with_leaky  # noqa: E402

# The issue asks for 1e-4; in float32 against float64 it is some 2e-7 on the model that ships.
NEAR = 1e-4
SHIPPED = PackStore("/nonexistent/facekeep-test-store").read_files("facekeep-embedder", "onnx-fp32")


@pytest.fixture(scope="module")
def shipped() -> Any:
    return onnx.load_from_string(SHIPPED["facekeep_embedder.onnx"])


def unit(rows: NDArray[Any]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return result


def feeds_for(parameters: NDArray[np.float32], crops: NDArray[np.float32], dimension: int, seed: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)
    samples, classes = len(crops), int(random.integers(1, 9))
    return {
        "parameters": parameters,
        "crops": crops,
        "centres": unit(random.normal(size=(classes, dimension))),
        "labels": random.integers(0, classes, samples),
        "references": unit(random.normal(size=(samples, dimension))),
        "margin": np.array(random.uniform(0, 0.5), np.float32),
        "scale": np.array(random.uniform(1, 32), np.float32),
        "keep": np.array(random.uniform(0, 4), np.float32),
    }


def by_onnx(model: Any, feeds: dict[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Outputs of the training graph, and the side of zero on which it saw each activation."""
    graph = training_graph(model)
    asked = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "Greater"}
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.BOOL, None) for name in asked)
    session = open_session("onnx", {"train.onnx": graph.SerializeToString()})
    found = dict(zip(session.outputs, session.run(feeds), strict=True))
    return found, {asked[name]: value for name, value in found.items() if name in asked}


def by_torch(model: Any, feeds: dict[str, NDArray[Any]], sides: dict[str, NDArray[Any]]) -> tuple[float, NDArray[np.float64]]:
    """Loss and gradient of the same function, in float64."""
    network = TorchGraph(model, dtype=torch.float64)
    parameters = torch.from_numpy(feeds["parameters"]).double().requires_grad_()
    given = {"parameters": parameters, model.graph.input[0].name: torch.from_numpy(feeds["crops"])}
    raw = network(given, sides={name: torch.from_numpy(value) for name, value in sides.items()})[model.graph.output[0].name]
    centres, references = (torch.from_numpy(feeds[name]).double() for name in ("centres", "references"))
    numbers = {name: float(feeds[name]) for name in ("margin", "scale", "keep")}
    loss = margin_loss(unit_rows(raw), centres, torch.from_numpy(feeds["labels"]), references, **numbers)
    loss.backward()
    gradient: NDArray[np.float64] = parameters.grad.numpy()
    return loss.item(), gradient


def off(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))


def require_equal(model: Any, parameters: NDArray[np.float32], crops: NDArray[np.float32], seed: int) -> None:
    dimension = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    feeds = feeds_for(parameters, crops, dimension, seed)
    found, sides = by_onnx(model, feeds)
    loss, gradient = by_torch(model, feeds, sides)
    assert float(found["loss"]) == pytest.approx(loss, rel=1e-5, abs=1e-6)
    assert found["gradient"].shape == gradient.shape
    assert off(found["gradient"], gradient) < NEAR
    np.testing.assert_allclose(np.linalg.norm(found["embeddings"], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_gradients_of_the_shipped_model(shipped: Any, seed: int) -> None:
    random = np.random.default_rng(seed)
    torch.set_num_threads(1)
    start = parameters_of(shipped)
    moved = (start * (1 + 0.1 * random.normal(size=start.shape)) + 0.01 * random.normal(size=start.shape)).astype(np.float32)
    crops = random.uniform(0, 255, (3, 3, 112, 112)).astype(np.float32)
    feeds = feeds_for(moved, crops, 256, seed)
    answered, sides = by_onnx(shipped, feeds)
    assert len(sides) == 13
    found = answered["gradient"]
    loss, expected = by_torch(shipped, feeds, sides)
    begin = 0
    # Each tensor by itself: a wrong slope of one layer would drown in the norm of the head.
    for name, shape in layout_of(shipped):
        part = slice(begin, begin := begin + int(np.prod(shape)))
        assert off(found[part], expected[part]) < NEAR / 10, name
    assert begin == len(start)
    assert np.isfinite(loss)


def test_the_graph_holds_its_embeddings(shipped: Any) -> None:
    random = np.random.default_rng(5)
    crops = random.uniform(0, 255, (2, 3, 112, 112)).astype(np.float32)
    session = open_session("onnx", {"train.onnx": training_graph(shipped).SerializeToString()})
    found = dict(zip(session.outputs, session.run(feeds_for(parameters_of(shipped), crops, 256, 5)), strict=True))
    embedded = open_session("onnx", SHIPPED).run({"crop": crops})[0]
    np.testing.assert_allclose(found["embeddings"], unit(embedded), atol=1e-5)


@dataclass(frozen=True)
class Net:
    """A small network of the embedder's kind."""

    size: int
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    strides: tuple[int, ...]
    dilated: bool
    depthwise: bool
    short: bool
    uneven: bool
    dimension: int


nets = st.builds(
    Net,
    size=st.integers(7, 13),
    widths=st.lists(st.sampled_from([2, 3, 4]), min_size=1, max_size=3).map(tuple),
    kernels=st.lists(st.sampled_from([1, 2, 3]), min_size=3, max_size=3).map(tuple),
    strides=st.lists(st.integers(1, 3), min_size=3, max_size=3).map(tuple),
    dilated=st.booleans(),
    depthwise=st.booleans(),
    short=st.booleans(),
    uneven=st.booleans(),
    dimension=st.integers(2, 6),
)


class Builder:
    """Writes such a network as the exporter writes the embedder: a bias on every convolution, every activation a Bend."""

    def __init__(self, net: Net, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.net = net

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def convolution(
        self, x: str, name: str, before: int, after: int, kernel: int, stride: int, group: int = 1, **sizes: Any
    ) -> str:
        weight = self.constant(f"{name}_weight", self.random.normal(size=(after, before // group, kernel, kernel)))
        bias = self.constant(f"{name}_bias", self.random.normal(size=after))
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "group": group} | sizes
        self.nodes.append(helper.make_node("Conv", [x, weight, bias], [name], **sizes))
        return name

    def bend(self, x: str, name: str, width: int) -> str:
        negative = self.random.uniform(-0.5, 1.2, (width, 1, 1)).astype(np.float32)
        self.constant(f"{name}_negative", negative)
        self.constant(f"{name}_rest", 1 - negative)
        for kind, inputs, output in (
            ("Relu", [x], f"{name}_positive"),
            ("Mul", [f"{name}_positive", f"{name}_rest"], f"{name}_kept"),
            ("Mul", [x, f"{name}_negative"], f"{name}_all"),
            ("Add", [f"{name}_all", f"{name}_kept"], name),
        ):
            self.nodes.append(helper.make_node(kind, inputs, [output]))
        return name

    def model(self) -> tuple[Any, int]:
        net = self.net
        middle, width = self.constant("middle", np.float32(0.5)), self.constant("width", np.float32(0.25))
        self.nodes.append(helper.make_node("Sub", ["picture", middle], ["centred"]))
        self.nodes.append(helper.make_node("Div", ["centred", width], ["x0"]))
        x, before, size = "x0", 3, net.size
        for place, (after, kernel, stride) in enumerate(zip(net.widths, net.kernels, net.strides, strict=False)):
            dilation = 2 if net.dilated and (kernel - 1) * 2 < size else 1
            pads = [kernel // 2, kernel // 2, kernel // 2, kernel // 2 + net.uneven]
            reach = (kernel - 1) * dilation + 1
            if min(size + pads[0] + pads[2], size + pads[1] + pads[3]) < reach:
                continue
            sizes = {"pads": pads, "dilations": [dilation] * 2}
            group = before if net.depthwise and after % before == 0 else 1
            made = self.convolution(x, f"c{place}", before, after, kernel, stride, group, **sizes)
            if net.short:
                beside = self.convolution(x, f"s{place}", before, after, kernel, stride, 1, **sizes)
                self.nodes.append(helper.make_node("Add", [made, beside], [f"a{place}"]))
                made = f"a{place}"
            x, before = self.bend(made, f"b{place}", after), after
            size = (size + pads[0] + pads[2] - reach) // stride + 1
        self.convolution(x, "gather", before, before, 1, 1, before)
        self.nodes.append(helper.make_node("Flatten", ["gather"], ["flat"], axis=1))
        wide = self.flat_width()
        self.constant("head_weight", self.random.normal(size=(net.dimension, wide)))
        self.nodes.append(helper.make_node("Gemm", ["flat", "head_weight"], ["head"], transB=1))
        self.nodes.append(helper.make_node("Identity", ["head"], ["vector"]))
        return self.finished("vector", net.dimension), size

    def flat_width(self) -> int:
        shaped = onnx.shape_inference.infer_shapes(self.finished("flat", None)).graph.output[0]
        return int(shaped.type.tensor_type.shape.dim[1].dim_value)

    def finished(self, output: str, dimension: int | None) -> Any:
        size = self.net.size
        given = [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["batch", 3, size, size])]
        shape = ["batch", dimension] if dimension else None
        graph = helper.make_graph(
            self.nodes, "small", given, [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)], self.weights
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@settings(max_examples=60, deadline=None)
@given(net=nets, seed=st.integers(0, 2**31))
def test_gradients_of_small_networks(net: Net, seed: int) -> None:
    made, _ = Builder(net, seed).model()
    model = patchable(made)
    random = np.random.default_rng(seed + 1)
    start = parameters_of(model)
    moved = (start + 0.3 * random.normal(size=start.shape)).astype(np.float32)
    crops = random.normal(size=(int(random.integers(1, 4)), 3, net.size, net.size)).astype(np.float32)
    require_equal(model, moved, crops, seed)


@settings(max_examples=30, deadline=None)
@given(net=nets, seed=st.integers(0, 2**31))
def test_a_patchable_model_is_the_same_function(net: Net, seed: int) -> None:
    made, _ = Builder(net, seed).model()
    crops = np.random.default_rng(seed).normal(size=(2, 3, net.size, net.size)).astype(np.float32)
    (before,) = open_session("onnx", {"a.onnx": made.SerializeToString()}).run({"picture": crops})
    after, features = open_session("onnx", {"a.onnx": patchable(made).SerializeToString()}).run({"picture": crops})
    assert np.array_equal(before, after)
    plain, same = open_session("onnx", {"a.onnx": with_features(made).SerializeToString()}).run({"picture": crops})
    assert np.array_equal(before, plain)
    assert np.array_equal(features, same)


def test_every_bend_trains_as_one_activation(shipped: Any) -> None:
    kinds = [node.op_type for node in with_leaky(list(shipped.graph.node))]
    assert (kinds.count("PRelu"), kinds.count("Relu")) == (13, 0)
    # The Mul that are left are the scales.
    assert kinds.count("Mul") == kinds.count("Conv") == 17


def test_what_cannot_be_trained_is_refused() -> None:
    made, _ = Builder(Net(8, (2,), (3, 3, 3), (1, 1, 1), False, False, False, False, 2), 0).model()
    unlike = onnx.ModelProto()
    unlike.CopyFrom(made)
    rest = next(each for each in unlike.graph.initializer if each.name == "b0_rest")
    rest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(rest) + 1, "b0_rest"))
    with pytest.raises(ExportError, match="one minus the slope"):
        patchable(unlike)
    bare = onnx.ModelProto()
    bare.CopyFrom(made)
    first = next(node for node in bare.graph.node if node.op_type == "Conv")
    first.input[:] = first.input[:2]
    with pytest.raises(ExportError, match="no bias"):
        patchable(bare)
    for function in (training_graph, parameters_of, layout_of):
        with pytest.raises((ExportError, KeyError)):
            function(made)
