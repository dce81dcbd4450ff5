"""The recipe of the second look at landmarks: crops show what they say, it learns, resumes exactly, exports what it trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")

from facekeep.packs import PackStore  # noqa: E402
from facekeep.runtime import open_session  # noqa: E402
from facekeep_models.people import draw_person, synthetic_person  # noqa: E402
from facekeep_models.training.detector.pictures import Pictures, join_pictures  # noqa: E402
from facekeep_models.training.detector.teacher import box_of_landmarks  # noqa: E402
from facekeep_models.training.landmarks.__main__ import main  # noqa: E402
from facekeep_models.training.landmarks.crops import draw_crops, faces_of, seen  # noqa: E402
from facekeep_models.training.landmarks.export import landmark_model, write_onnx  # noqa: E402
from facekeep_models.training.landmarks.loop import Schedule, bent, errors_on, train  # noqa: E402
from facekeep_models.training.landmarks.network import EYES_PX, SIDE_PX, TEMPLATE, LandmarkNetwork, in_crop  # noqa: E402

SCHEDULE = Schedule(steps=4, batch=4, warm_up=2, check_steps=2, check_faces=3, save_seconds=1e9)


def joined(people: range, held_out: int = -1, *, spots: bool = False) -> Pictures:
    def rows() -> Iterator[tuple[str, bool, NDArray[np.uint8], NDArray[np.float32]]]:
        for index in people:
            drawn = draw_person(synthetic_person(index), 0, side_px=128)
            pixels = drawn.pixels.copy()
            if spots:
                pixels[:] = 0
                for x, y in np.rint(drawn.landmarks_px).astype(int).tolist():
                    pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
            yield "people", index == held_out, pixels, box_of_landmarks(drawn.landmarks_px)[None]

    return join_pictures(rows())


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Four drawn people, one of them held out."""
    return joined(range(4), 3)


def trained(network: LandmarkNetwork) -> LandmarkNetwork:
    """Statistics and a head that are not those of the beginning, so that folding is not folding ones and zeros."""
    torch.manual_seed(0)
    network.body(torch.rand(8, 3, SIDE_PX, SIDE_PX))
    torch.nn.init.normal_(network.head.weight, std=0.02)
    torch.nn.init.normal_(network.head.bias, std=0.1)
    return network.eval().requires_grad_(requires_grad=False)


def test_the_network_is_small() -> None:
    assert sum(parameter.numel() for parameter in LandmarkNetwork().parameters()) <= 23_000


def test_the_exported_file_says_what_the_network_says_in_pixels_of_the_crop(tmp_path: Path) -> None:
    network = trained(LandmarkNetwork())
    write_onnx(network, tmp_path / "a.onnx")
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == landmark_model(network).SerializeToString(deterministic=True)
    assert len(content) <= 60_000
    session = open_session("onnx", {"a.onnx": content})
    for count in (1, 3):
        pixels = np.random.default_rng(count).uniform(0, 255, (count, 3, SIDE_PX, SIDE_PX)).astype(np.float32)
        (found,) = session.run({"input": pixels})
        wanted = in_crop(network(torch.from_numpy(pixels)))
        # Weights are stored in 16 bits: hundredths of a pixel.
        np.testing.assert_allclose(found, wanted.numpy(), atol=0.05)


def test_a_network_that_says_nothing_says_the_template() -> None:
    network = LandmarkNetwork().eval()
    torch.nn.init.zeros_(network.head.weight)
    found = in_crop(network(torch.rand(2, 3, SIDE_PX, SIDE_PX)))
    np.testing.assert_allclose(found.detach().numpy()[1], TEMPLATE, atol=1e-5)
    assert pytest.approx(float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))) == EYES_PX


def test_true_landmarks_lie_in_the_crop_where_the_face_has_them() -> None:
    marked = joined(range(2), spots=True)
    for face in faces_of(marked, held_out=False).by_source[3]:
        for seed in range(6):
            crop, points = seen(marked, face, np.random.default_rng(seed))
            row, column = np.mgrid[:SIDE_PX, :SIDE_PX]
            for x, y in points.tolist():
                near = np.where(np.maximum(abs(column - x), abs(row - y)) <= 3, crop[:, :, 0].astype(np.float64), 0)
                middle = np.array([(column * near).sum(), (row * near).sum()]) / near.sum()
                np.testing.assert_allclose(middle, (x, y), atol=0.6)


def test_crops_repeat_with_their_seed_and_none_is_of_who_is_held_out(pictures: Pictures) -> None:
    faces = faces_of(pictures, held_out=False)
    assert [len(each) for each in faces.by_source] == [0, 0, 0, 3, 0]
    first, again, other = (draw_crops(faces, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (5, SIDE_PX, SIDE_PX, 3)
    # A detector is off by some share of the eyes' distance, and so is what has to be learnt.
    wanted = np.linalg.norm(draw_crops(faces, 300, np.random.default_rng(3))[1], axis=2)
    assert 0.05 < float(np.median(wanted)) < 0.25
    assert [len(each) for each in faces_of(pictures, held_out=True).by_source] == [0, 0, 0, 1, 0]


def test_large_errors_count_less_and_less() -> None:
    arrows = torch.zeros(1, 5, 2)
    arrows[..., 0] = 0.3
    arrows[..., 1] = 0.4
    assert bent(arrows, 0.05).item() == pytest.approx(0.05 * np.log1p(0.5 / 0.05), rel=1e-4)
    small, large = bent(arrows * 0.02, 0.05), bent(arrows * 2, 0.05)
    assert large / small < 30


def test_a_resumed_run_is_the_run_that_was_not_stopped(pictures: Pictures, tmp_path: Path) -> None:
    said: list[str] = []
    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder in folders:
        folder.mkdir()
    whole, history = train(pictures, SCHEDULE, folders[0], say=said.append)

    def stop(line: str) -> None:
        if "step 2/" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(pictures, replace(SCHEDULE, save_seconds=-1.0), folders[1], say=stop)
    # Stopped before it could save what the check came with: it goes on at the step before.
    parts, again = train(pictures, replace(SCHEDULE, save_seconds=-1.0), folders[1], say=said.append)
    assert any("going on at step 1" in line for line in said)
    assert [row["step"] for row in history] == [2.0, 4.0] == [row["step"] for row in again]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=0, atol=0)


def test_a_checkpoint_of_another_schedule_is_refused(pictures: Pictures, tmp_path: Path) -> None:
    train(pictures, SCHEDULE, tmp_path, say=lambda _: None)
    with pytest.raises(ValueError, match="another schedule"):
        train(pictures, replace(SCHEDULE, seed=9), tmp_path, say=lambda _: None)


def test_without_a_face_there_is_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="face"):
        train(joined(range(1), 0), SCHEDULE, tmp_path, say=lambda _: None)


def test_it_learns(pictures: Pictures, tmp_path: Path) -> None:
    network, _ = train(pictures, replace(SCHEDULE, steps=200, batch=16, averaging=0.9), tmp_path, say=lambda _: None)
    errors = errors_on(network, faces_of(pictures, held_out=False), 3)
    assert errors["people_after"] < 0.7 * errors["people_before"]
    assert not network.training


@pytest.mark.shared
def test_the_recipe_runs_from_the_command_line(shared_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    PackStore(tmp_path / "packs").import_file(shared_dir / "models/detectors/yunet_s_dynamic.onnx")
    folders = ["--data", str(shared_dir / "data"), "--work", str(tmp_path / "work"), "--packs", str(tmp_path / "packs")]
    main([*folders, "--steps", "2", "--limit", "2", "--threads", "1"])
    into = tmp_path / "work/landmarks"
    assert (into / "curves.png").stat().st_size > 1000
    assert json.loads((into / "history.json").read_text())[-1]["step"] == 2
    open_session("onnx", {"a.onnx": (into / "facekeep_landmarks.onnx").read_bytes()})
