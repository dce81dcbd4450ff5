"""The exporter: what it writes answers as the network does, and what does not is never written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")
onnx = pytest.importorskip("onnx", reason="onnx is not installed: recipes are for those who train (extra build)")

from facekeep.biometric import Frame  # noqa: E402
from facekeep.packs import manifest_to_bytes, parse_manifest  # noqa: E402
from facekeep.packs.manifest import PackFile  # noqa: E402
from facekeep.runtime import open_session  # noqa: E402
from facekeep.training import parse_patch_table  # noqa: E402
from facekeep_models.evaluation.pictures import Picture  # noqa: E402
from facekeep_models.training.embedder.network import Student  # noqa: E402
from facekeep_models.training.export.builds import BUILDS, Written, make_build, write_builds  # noqa: E402
from facekeep_models.training.export.checking import INT8, Agreement, agreement, require_agreement  # noqa: E402
from facekeep_models.training.export.errors import ExportError  # noqa: E402
from facekeep_models.training.export.folding import Bend, folded  # noqa: E402
from facekeep_models.training.export.graph import onnx_model  # noqa: E402
from facekeep_models.training.export.held_out import held_out_people, held_out_pictures, measure  # noqa: E402
from facekeep_models.training.export.litert import missing_converter  # noqa: E402
from facekeep_models.training.export.manifest import embedder_manifest  # noqa: E402
from facekeep_models.training.export.network import Exportable, embedder, with_weights  # noqa: E402
from facekeep_models.training.export.pictures import as_tensors, drawn_crops, training_crops  # noqa: E402

needs_converter = pytest.mark.skipif(
    bool(missing_converter()), reason=f"LiteRT builds cannot be made here: {missing_converter()} (extra build)"
)


def lived_in(seed: int) -> Student:
    """Return a Student with statistics and slopes as training leaves them: none of them at its starting value."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    student = Student().train()
    with torch.no_grad():
        for _ in range(3):
            student(torch.rand(8, 3, 112, 112) * 255)
        for layer in student.modules():
            if isinstance(layer, torch.nn.PReLU):
                layer.weight.uniform_(-0.2, 1.2)
    return student.eval()


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.float32]:
    return as_tensors(drawn_crops(8))


@pytest.fixture(scope="module")
def network() -> Exportable:
    return embedder(lived_in(0))


@pytest.fixture(scope="module")
def made(network: Exportable, pictures: NDArray[np.float32]) -> dict[str, bytes]:
    return {build: make_build(network, build, pictures[:8]) for build in ("onnx-fp32", "onnx-int8")}


def test_a_bend_is_a_prelu() -> None:
    prelu = torch.nn.PReLU(5)
    prelu.weight.data = torch.tensor([-0.5, 0.0, 0.25, 1.0, 1.5])
    x = torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0)) * 10
    torch.testing.assert_close(Bend(prelu.weight)(x), prelu(x))


def test_folding_changes_no_answer(network: Exportable, pictures: NDArray[np.float32]) -> None:
    x = torch.from_numpy(pictures)
    quick = folded(network.trained)
    assert not [layer for layer in quick.modules() if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.PReLU)]
    torch.testing.assert_close(quick(x), network.trained(x), rtol=0, atol=1e-4)


def test_onnx_equals_torch(network: Exportable, pictures: NDArray[np.float32], made: dict[str, bytes]) -> None:
    full = onnx_model(folded(network.trained), input_name="crop", output_name="embedding", crop_px=112, half=False)
    session = open_session("onnx", {"a.onnx": full.SerializeToString()})
    expected = network.trained(torch.from_numpy(pictures)).detach().numpy()
    (answered,) = session.run({"crop": pictures})
    assert np.abs(unit(answered) - unit(expected)).max() < 1e-4
    found = agreement(network, "onnx-fp32", made["onnx-fp32"], pictures)
    assert found.smallest_cosine > 0.9999
    assert found.pictures == len(pictures)


def test_halves_are_stored_and_floats_run(network: Exportable, pictures: NDArray[np.float32], made: dict[str, bytes]) -> None:
    full = network.onnx(False).SerializeToString()
    assert len(made["onnx-fp32"]) < 0.52 * len(full)
    assert len(made["onnx-fp32"]) < 3_600_000
    wide, narrow = (open_session("onnx", {"a.onnx": each}).run({"crop": pictures}) for each in (full, made["onnx-fp32"]))
    # Bit for bit: the weights were rounded before either was written, and what may be trained starts where it changes nothing.
    assert all(np.array_equal(*each) for each in zip(wide, narrow, strict=True))


def test_the_form_that_every_runtime_since_1_20_reads(made: dict[str, bytes]) -> None:
    for content in made.values():
        model = onnx.load_from_string(content)
        assert model.ir_version == 8
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
        assert [each.name for each in model.graph.input] == ["crop"]
        assert [each.name for each in model.graph.output] == ["embedding", "features"]
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_int8_is_near_small_and_within_seven_bits(
    network: Exportable, pictures: NDArray[np.float32], made: dict[str, bytes]
) -> None:
    found = require_agreement(network, "onnx-int8", made["onnx-int8"], pictures)
    assert found.smallest_cosine >= INT8.smallest_cosine
    assert len(made["onnx-int8"]) <= 2_600_000
    model = onnx.load_from_string(made["onnx-int8"])
    weights = [onnx.numpy_helper.to_array(each) for each in model.graph.initializer]
    eight = [each for each in weights if each.dtype == np.int8 and each.ndim == 4]
    assert len(eight) == 16
    assert max(int(np.abs(each.astype(int)).max()) for each in eight) <= 64
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    assert first.input[0] not in {out for node in model.graph.node if node.op_type == "DequantizeLinear" for out in node.output}


def test_the_same_weights_make_the_same_bytes(network: Exportable, pictures: NDArray[np.float32], made: dict[str, bytes]) -> None:
    again = embedder(lived_in(0))
    for build, content in made.items():
        assert hashlib.sha256(make_build(again, build, pictures[:8])).digest() == hashlib.sha256(content).digest()


@needs_converter
@pytest.mark.parametrize("build", ["litert-fp32", "litert-int8"])
def test_litert_answers_as_torch(network: Exportable, pictures: NDArray[np.float32], build: str) -> None:
    content = make_build(network, build, pictures[:8])
    require_agreement(network, build, content, pictures)
    session = open_session("litert", {"a.tflite": content})
    assert dict(session.inputs) == {"crop": (1, 112, 112, 3)}
    assert session.outputs == ("embedding",)
    assert len(content) <= (2_600_000 if build == "litert-int8" else 3_600_000)


@pytest.mark.skipif(not missing_converter(), reason="the converter is installed")
def test_without_a_converter_nothing_is_begun(network: Exportable, pictures: NDArray[np.float32], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"litert_torch.* pip install") as caught:
        write_builds(network, BUILDS, tmp_path, calibration=pictures, compared=pictures, say=said)
    assert caught.value.code == "export.no_converter"
    assert not list(tmp_path.iterdir())


def test_builds_are_written_with_what_they_are(network: Exportable, pictures: NDArray[np.float32], tmp_path: Path) -> None:
    (written,) = write_builds(network, ["onnx-fp32"], tmp_path, calibration=pictures, compared=pictures, say=said)
    assert written.path == tmp_path / "facekeep-embedder" / "onnx-fp32" / "facekeep_embedder.onnx"
    content = written.path.read_bytes()
    assert (written.size_bytes, written.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert written.agreement.largest_difference < 1e-3
    table = written.path.with_name("facekeep_embedder.patch.json").read_bytes()
    assert written.table == PackFile("facekeep_embedder.patch.json", len(table), hashlib.sha256(table).hexdigest())
    layout = parse_patch_table(table).parameters
    assert (layout.length, layout.dimension, layout.features_dimension) == (54_560, 256, 192)
    assert (layout.tensors[0].name, layout.tensors[-1].name) == ("backbone_0.scale", "head.weight")


def test_what_answers_otherwise_is_not_written(network: Exportable, pictures: NDArray[np.float32], tmp_path: Path) -> None:
    other = embedder(lived_in(1)).onnx
    # Only the second build is wrong, and the first is not written either.
    wrong = replace(network, onnx=lambda half: network.onnx(half) if half else other(half))
    with pytest.raises(ExportError, match="Nothing was written") as caught:
        write_builds(wrong, ["onnx-fp32", "onnx-int8"], tmp_path, calibration=pictures, compared=pictures, say=said)
    assert caught.value.code == "export.differs"
    assert not list(tmp_path.iterdir())


def test_an_unknown_build_and_an_unknown_layer(network: Exportable, pictures: NDArray[np.float32]) -> None:
    with pytest.raises(ExportError, match="Builds are") as caught:
        make_build(network, "onnx-fp4", pictures)
    assert caught.value.code == "export.unknown_build"
    for layer in (torch.nn.GELU(), torch.nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")):
        strange = folded(torch.nn.Sequential(layer, torch.nn.Flatten()))
        with pytest.raises(ExportError, match=r"There is no ONNX|pads") as caught:
            onnx_model(strange, input_name="x", output_name="y", crop_px=8, half=False)
        assert caught.value.code == "export.unsupported_layer"
    with pytest.raises(ExportError, match="follows no convolution"):
        folded(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(3)))


def test_weights_of_another_network(tmp_path: Path) -> None:
    student = lived_in(2)
    path = tmp_path / "student.pt"
    torch.save(student.state_dict(), path)
    torch.testing.assert_close(with_weights(Student(), path).state_dict(), student.state_dict())
    torch.save({"average": student.state_dict(), "step": 3}, path)
    torch.testing.assert_close(with_weights(Student(), path).state_dict(), student.state_dict())
    narrower = {name: value[:1] for name, value in student.state_dict().items() if value.ndim}
    cases: list[Any] = [torch.nn.Linear(2, 2).state_dict(), student.state_dict() | narrower, [1, 2]]
    for case in cases:
        torch.save(case, path)
        refused(path)
    path.write_bytes(b"not weights")
    refused(path)
    refused(tmp_path / "absent.pt")


def refused(path: Path) -> None:
    with pytest.raises(ExportError) as caught:
        with_weights(Student(), path)
    assert caught.value.code == "export.invalid_weights"


def test_weights_that_are_no_numbers() -> None:
    broken = lived_in(3)
    broken.head.weight.data[0, 0] = float("nan")
    with pytest.raises(ExportError, match="head is not a number"):
        embedder(broken)


def test_calibration_sees_no_held_out_person(tmp_path: Path) -> None:
    held_out = np.arange(20) % 3 == 0
    pixels = np.where(held_out, 255, 7).astype(np.uint8)[:, None, None, None] * np.ones((1, 136, 136, 3), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "held_out.npy", held_out)
    crops = training_crops(tmp_path, 100, seed=0)
    assert crops.shape == (13, 112, 112, 3)
    assert (crops == 7).all()
    assert len(training_crops(tmp_path, 5, seed=0)) == 5
    with pytest.raises(ExportError) as caught:
        training_crops(tmp_path / "absent", 5, seed=0)
    assert caught.value.code == "export.no_pictures"


@pytest.fixture
def recipe(tmp_path: Path) -> tuple[Path, Path]:
    """A data set of twelve people with two pictures each, and the notes of a recipe that held four of them out."""
    data, work = tmp_path / "data", tmp_path / "work"
    work.mkdir()
    for index in range(12):
        for number in range(2):
            path = data / "lfw-devtrain" / "images" / f"Person_{index:02d}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{index} {number}".encode())
    held = np.random.default_rng(5).permutation(12)[:4]
    person = np.repeat(np.arange(12), 2).astype(np.int32)
    np.save(work / "person.npy", np.append(person, -1).astype(np.int32))
    np.save(work / "held_out.npy", np.append(np.isin(person, held), False))
    (work / "crops.json").write_text(json.dumps({"held_out_people": 4, "seed": 5}))
    return data, work


def test_held_out_people_get_their_names_back(recipe: tuple[Path, Path]) -> None:
    data, work = recipe
    names = held_out_people(data, work)
    assert names == {f"Person_{index:02d}" for index in np.random.default_rng(5).permutation(12)[:4]}
    found = held_out_pictures(data, names)
    assert {picture.name.split("/")[0] for picture in found} == names
    assert (len(found), {picture.person for picture in found}) == (8, {0, 1, 2, 3})


def test_who_was_trained_on_under_another_name_is_not_measured(recipe: tuple[Path, Path]) -> None:
    data, work = recipe
    names = held_out_people(data, work)
    known = min(names)
    path = data / "lfw-devtrain" / "images" / "_".join(reversed(known.split("_"))) / "0.jpg"
    path.parent.mkdir()
    path.write_bytes(b"the same person")
    assert {picture.name.split("/")[0] for picture in held_out_pictures(data, names)} == names - {known}


def test_another_data_set_is_refused(recipe: tuple[Path, Path]) -> None:
    data, work = recipe
    more = data / "lfw-devtrain" / "images" / "Another_One" / "0.jpg"
    more.parent.mkdir()
    more.write_bytes(b"new")
    with pytest.raises(ExportError) as caught:
        held_out_people(data, work)
    assert caught.value.code == "export.unknown_people"
    with pytest.raises(ExportError, match="crops of the recipe"):
        held_out_people(data, data)


def test_points_count_every_pair_once() -> None:
    """Against the slow obvious way, on people of one to four pictures, one of whom was never found."""
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 1 + np.arange(40) % 4)
    centres = random.normal(size=(40, 24))
    vectors = unit(centres[people] + 0.6 * random.normal(size=(len(people), 24))).astype(np.float32)
    vectors[people == 3] = np.nan
    listed = [Picture(str(place), int(person), never) for place, person in enumerate(people)]
    (point,) = measure(vectors, listed, (0.01, 1e-6), "made up")
    mated, other = [], []
    for first in range(len(people)):
        for second in range(first):
            score = float(vectors[first] @ vectors[second])
            if not np.isnan(score):
                (mated if people[first] == people[second] else other).append(score)
    assert (point.mated, point.non_mated) == (len(mated), len(other))
    assert (
        np.mean(np.array(other) >= point.threshold) <= 0.01 < np.mean(np.array(other) >= point.threshold - 0.0002) + 1 / len(other)
    )
    assert point.fnmr == pytest.approx(np.mean(np.array(mated) < point.threshold), rel=1e-3)
    assert point.fmr_interval[0] < 0.01 < point.fmr_interval[1]


def said(_text: str) -> None:
    """Progress that nobody reads."""


def never() -> Frame:
    raise AssertionError


def test_the_manifest_says_what_it_owes(tmp_path: Path) -> None:
    written = [
        Written(build, tmp_path / f"model{'.onnx' if 'onnx' in build else '.tflite'}", 7, "0" * 64, Agreement(1, 1.0, 1.0, 0.0))
        for build in BUILDS
    ]
    manifest = parse_manifest(manifest_to_bytes(embedder_manifest(written)))
    assert [build.id for build in manifest.builds] == list(BUILDS)
    assert manifest.permitted_uses == ("research", "evaluation")
    assert not manifest.training_data.consented
    assert {build.id: manifest.input_of(build).layout for build in manifest.builds} == {
        "onnx-fp32": "NCHW",
        "onnx-int8": "NCHW",
        "litert-fp32": "NHWC",
        "litert-int8": "NHWC",
    }


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    result: NDArray[Any] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return result
