from __future__ import annotations

import importlib
import importlib.metadata
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from facekeep.errors import ModelError
from facekeep.runtime import RUNTIMES, available_runtimes, litert, open_session


def require(distribution: str, *, reason: str) -> None:
    """Skip without importing: importing OpenVINO calls home."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(reason)


def doubling_model() -> bytes:
    """An ONNX model that doubles pictures of any size."""
    shape = ["batch", 3, "height", "width"]
    value = helper.make_tensor_value_info
    node = helper.make_node("Add", ["x", "x"], ["y"])
    graph = helper.make_graph([node], "double", [value("x", TensorProto.FLOAT, shape)], [value("y", TensorProto.FLOAT, shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def doubling_ir() -> dict[str, bytes]:
    """The same as OpenVINO's intermediate representation, which has no weights here."""
    port = "<dim>1</dim><dim>3</dim><dim>-1</dim><dim>-1</dim>"
    xml = f"""<?xml version="1.0"?><net name="double" version="11"><layers>
    <layer id="0" name="x" type="Parameter" version="opset1"><data shape="1,3,?,?" element_type="f32"/>
      <output><port id="0" precision="FP32" names="x">{port}</port></output></layer>
    <layer id="1" name="y" type="Add" version="opset1"><data auto_broadcast="numpy"/>
      <input><port id="0" precision="FP32">{port}</port><port id="1" precision="FP32">{port}</port></input>
      <output><port id="2" precision="FP32" names="y">{port}</port></output></layer>
    <layer id="2" name="r" type="Result" version="opset1">
      <input><port id="0" precision="FP32">{port}</port></input></layer></layers>
    <edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/>
      <edge from-layer="0" from-port="0" to-layer="1" to-port="1"/>
      <edge from-layer="1" from-port="2" to-layer="2" to-port="0"/></edges></net>"""
    return {"double.xml": xml.encode(), "double.bin": b""}


def test_onnx_runs_from_bytes_at_any_size() -> None:
    session = open_session("onnx", {"double.onnx": doubling_model()})
    assert dict(session.inputs) == {"x": ("batch", 3, "height", "width")}
    assert session.outputs == ("y",)
    for side in (32, 96):
        x = np.full((1, 3, side, side), 1.5, np.float32)
        np.testing.assert_array_equal(session.run({"x": x})[0], x * 2)


def test_openvino_runs_from_bytes_and_leaves_nothing_in_the_home_directory(tmp_path: Path) -> None:
    require("openvino", reason="the extra openvino is not installed")
    # In a process of its own: the import would write a client id to ~/intel and call home.
    script = (
        "import sys, numpy as np; from tests.sdk.test_runtime_sessions import doubling_ir;"
        "from facekeep.runtime import open_session; s = open_session('openvino', doubling_ir());"
        "assert s.outputs == ('y',), s.outputs; assert dict(s.inputs) == {'x': (1, 3, None, None)}, s.inputs;"
        "assert (s.run({'x': np.ones((1, 3, 4, 5), np.float32)})[0] == 2).all();"
        "assert not [m for m in sys.modules if m.startswith('openvino_telemetry')]"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("runtime", "files"),
    [
        ("onnx", {"a.onnx": b""}),
        ("onnx", {"a.onnx": b"not a model" * 50}),
        ("onnx", {"a.onnx": doubling_model()[:-20]}),
        ("onnx", {}),
        ("onnx", {"a.onnx": b"1", "b.onnx": b"2"}),
        ("litert", {"a.tflite": b""}),
        ("litert", {"a.tflite": b"1234TFL3" + bytes(200)}),
        ("openvino", {"a.xml": b"<net/>"}),
    ],
)
def test_what_is_no_model_is_refused(runtime: str, files: dict[str, bytes]) -> None:
    with pytest.raises(ModelError) as caught:
        open_session(runtime, files)
    assert caught.value.code == "model.invalid_model"


def test_an_unknown_runtime_or_provider_is_missing() -> None:
    for call in (
        lambda: open_session("tensorrt", {}),
        lambda: open_session("onnx", {"a.onnx": doubling_model()}, providers=["NoSuchExecutionProvider"]),
    ):
        with pytest.raises(ModelError) as caught:
            call()
        assert caught.value.code == "model.runtime_missing"
    with pytest.raises(ValueError, match="thread"):
        open_session("onnx", {"a.onnx": doubling_model()}, threads=0)


@pytest.mark.parametrize(
    "feeds", [{}, {"z": np.zeros(3)}, {"x": np.zeros((1, 3, 4, 4))}, {"x": np.zeros((1, 4, 4, 4), np.float32)}]
)
def test_wrong_feeds_are_typed_errors(feeds: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        open_session("onnx", {"a.onnx": doubling_model()}).run(feeds)
    assert caught.value.code == "model.invalid_model"


def test_statuses_name_every_runtime() -> None:
    statuses = {status.name: status for status in available_runtimes()}
    assert tuple(statuses) == RUNTIMES
    assert statuses["onnx"].works
    assert all(status.works != bool(status.reason) for status in statuses.values())


def without(*missing: str) -> Callable[[str], Any]:
    real = importlib.import_module

    def import_module(name: str) -> Any:
        if name.split(".")[0] in missing:
            raise ImportError(name)
        return real(name)

    return import_module


def test_tflite_runtime_beside_numpy_2_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert.importlib, "import_module", without("ai_edge_litert"))
    monkeypatch.setattr(litert.importlib.metadata, "version", lambda name: "2.14.0")
    monkeypatch.setattr(litert.np, "__version__", "2.1.0")
    with pytest.raises(ModelError) as caught:
        open_session("litert", {"a.tflite": b"1234TFL3"})
    assert caught.value.code == "model.runtime_missing"
    assert "numpy<2" in str(caught.value)


def test_importing_the_package_loads_no_runtime() -> None:
    script = "import sys, facekeep.runtime; print([m for m in ('onnxruntime', 'openvino', 'ai_edge_litert') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.shared
def test_litert_is_safe_from_several_threads(shared_dir: Path) -> None:
    require("ai-edge-litert", reason="the extra litert is not installed")
    session = open_session("litert", {"b.tflite": (shared_dir / "models/detectors/blazeface_short_range.tflite").read_bytes()})
    pictures = [np.full((1, 128, 128, 3), value, np.float32) for value in (-1.0, 0.0, 1.0)]
    expected = [session.run({"input": picture})[0] for picture in pictures]
    wrong: list[int] = []

    def work(index: int) -> None:
        found = [session.run({"input": pictures[index]})[0] for _ in range(10)]
        wrong.extend(index for output in found if not np.array_equal(output, expected[index]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    with pytest.raises(ModelError):
        session.run({"input": np.zeros((1, 64, 64, 3), np.float32)})


@pytest.mark.shared
def test_openvino_and_onnx_agree(shared_dir: Path) -> None:
    require("openvino", reason="the extra openvino is not installed")
    folder = shared_dir / "models/embedders"
    names = [f"face-reidentification-retail-0095_fp16.{suffix}" for suffix in ("xml", "bin")]
    vino = open_session("openvino", {name: (folder / name).read_bytes() for name in names})
    onnx_session = open_session("onnx", {"r.onnx": (folder / "face_reid_retail_0095.onnx").read_bytes()})
    x = np.random.default_rng(0).uniform(0, 255, (1, 3, 128, 128)).astype(np.float32)
    first, second = vino.run({next(iter(vino.inputs)): x})[0], onnx_session.run({"input": x})[0]
    assert np.abs(first - second).max() < 1e-4
