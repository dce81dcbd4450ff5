"""`facekeep-models training-kit`: what it writes can be trained with, and holds nobody."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("onnx", reason="onnx is not installed: recipes are for those who train (extra build)")
from PIL import Image

from facekeep.packs import PackStore
from facekeep.runtime import open_session
from facekeep.training import (
    TrainingSamples,
    TrainingSettings,
    parse_patch_table,
    parse_training_kit,
    read_parameters,
    train_locally,
)
from facekeep_models import cli
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.pictures import drawn_pictures
from facekeep_models.people import draw_person, synthetic_person
from facekeep_models.training.export.pictures import drawn_crops
from facekeep_models.training.gradients.kit import KitRequest, make_kit

STORE = PackStore("/nonexistent/facekeep-test-store")


def run(*arguments: str) -> dict[str, object]:
    result = CliRunner().invoke(cli.app, ["training-kit", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    value: dict[str, object] = json.loads(result.stdout.splitlines()[-1])
    return value


@pytest.fixture(scope="module")
def kit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kit")
    said = run("--into", str(folder), "--people", "8")
    assert (said["parameters"], said["anchors"]) == (54_560, 8)
    return folder


def test_a_kit_trains_the_shipped_model(kit_folder: Path) -> None:
    contents = {path.name: path.read_bytes() for path in kit_folder.iterdir()}
    assert set(contents) == {"kit.json", "train.onnx", "anchors.f32"}
    kit = parse_training_kit(contents["kit.json"], contents, sha256=None)
    files = STORE.read_files("facekeep-embedder", "onnx-fp32")
    patch = parse_patch_table(files["facekeep_embedder.patch.json"])
    assert (kit.pack, kit.rest_sha256, kit.parameters) == ("facekeep-embedder/onnx-fp32", patch.rest_sha256, patch.parameters)
    assert "do not exist" in kit.made_of
    start = read_parameters(files["facekeep_embedder.onnx"], patch)
    # A person of whom no anchor is.
    crops = drawn_crops(1, first=20)
    centre = kit.anchors[:1]
    plan = TrainingSettings(steps=2, optimiser="adam", rate=1e-3, keep=0.0)
    session = open_session("onnx", {"train.onnx": kit.graph})
    samples = TrainingSamples(np.zeros(2, np.int64), crops=crops)
    result = train_locally("deep", start, samples, centre, kit.anchors[1:], plan, table=kit.parameters, session=session)
    assert result.losses[1] < result.losses[0]


def test_the_same_request_makes_the_same_kit(kit_folder: Path, tmp_path: Path) -> None:
    run("--into", str(tmp_path / "again"), "--people", "8")
    for path in kit_folder.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_build_of_8_bits_trains_its_head(tmp_path: Path) -> None:
    said = run("--into", str(tmp_path), "--people", "2", "--pack", "facekeep-embedder/onnx-int8")
    assert (said["parameters"], said["graph_bytes"]) == (49_152, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"kit.json", "anchors.f32"}


def test_a_folder_of_pictures_adds_its_people(kit_folder: Path, tmp_path: Path) -> None:
    for index in (30, 31):
        home = tmp_path / "pictures" / f"person_{index}"
        home.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(draw_person(synthetic_person(index), number).pixels).save(home / f"{number}.png")
    run("--into", str(tmp_path / "kit"), "--people", "8", "--images", str(tmp_path / "pictures"))
    contents = {path.name: path.read_bytes() for path in (tmp_path / "kit").iterdir()}
    kit = parse_training_kit(contents["kit.json"], contents, sha256=None)
    assert kit.anchors.shape == (10, 256)
    assert "2 people of a folder" in kit.made_of
    assert contents["anchors.f32"][: 8 * 1024] == (kit_folder / "anchors.f32").read_bytes()


def test_pictures_without_a_detector_are_refused_not_left_out(tmp_path: Path) -> None:
    drawn = tuple(drawn_pictures(1))
    with pytest.raises(EvaluationError) as caught:
        make_kit(KitRequest("facekeep-embedder/onnx-fp32", 2, drawn), STORE, tmp_path / "kit", detector=None, say=lambda line: None)
    assert caught.value.code == "evaluation.invalid_request"
    assert not (tmp_path / "kit").exists()


def test_what_cannot_be_trained_makes_no_kit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["facekeep-models", "training-kit", "--into", str(tmp_path / "kit"), "--pack", "facekeep-embedder/litert-int8"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 14
    assert "export.unsupported_layer" in capsys.readouterr().err
    assert not (tmp_path / "kit").exists()
