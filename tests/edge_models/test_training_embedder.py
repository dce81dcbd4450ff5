"""The recipe of the embedder on a handful of drawn crops: it learns, resumes exactly, and keeps to its limits."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")

from facekeep.packs import PackStore  # noqa: E402
from facekeep_models.simulation import DrawnPerson, draw_frame  # noqa: E402
from facekeep_models.training.curves import draw_curves  # noqa: E402
from facekeep_models.training.embedder import invented  # noqa: E402
from facekeep_models.training.embedder.__main__ import main  # noqa: E402
from facekeep_models.training.embedder.augmentation import augment, centre_crop  # noqa: E402
from facekeep_models.training.embedder.crops import NOBODY, Crops  # noqa: E402
from facekeep_models.training.embedder.invented import with_invented  # noqa: E402
from facekeep_models.training.embedder.loop import Order, Schedule, train  # noqa: E402
from facekeep_models.training.embedder.loss import distillation_loss  # noqa: E402
from facekeep_models.training.embedder.network import DIMENSION, Student  # noqa: E402
from facekeep_models.training.embedder.validation import draw_pairs, validate  # noqa: E402

SCHEDULE = Schedule(epochs=2, batch=8, save_seconds=1e9)


@pytest.fixture(scope="module")
def crops() -> Crops:
    """Six people, four pictures each; the teacher knows each of them by a direction of their own."""
    pixels = np.stack([draw_frame(DrawnPerson(p), n, (136, 136)).pixels for p in range(6) for n in range(4)])
    person = np.repeat(np.arange(6), 4).astype(np.int32)
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((DIMENSION, 6)))[0].T.astype(np.float32)
    return Crops(pixels, directions[person], person, person >= 4, np.zeros(24, np.bool_))


def test_the_student_is_small_enough_and_takes_raw_pixels() -> None:
    student = Student().eval()
    assert sum(parameter.numel() for parameter in student.parameters()) <= 2_500_000
    assert student(torch.full((2, 3, 112, 112), 200.0)).shape == (2, DIMENSION)


def test_a_resumed_run_is_the_run_that_was_not_stopped(crops: Crops, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = train(crops, SCHEDULE, _folder(tmp_path / "whole"), say=lambda _: None)

    class StoppedError(Exception):
        pass

    def stop(text: str) -> None:
        if text.startswith("epoch 1:"):
            raise StoppedError

    broken = _folder(tmp_path / "broken")
    with pytest.raises(StoppedError):
        train(crops, replace(SCHEDULE, save_seconds=0.0), broken, say=stop)
    said: list[str] = []
    resumed = train(crops, replace(SCHEDULE, save_seconds=0.0), broken, say=said.append)
    assert said[0].startswith("going on at step")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_a_checkpoint_of_another_schedule_is_refused(crops: Crops, tmp_path: Path) -> None:
    train(crops, replace(SCHEDULE, epochs=1), tmp_path, say=lambda _: None)
    with pytest.raises(ValueError, match="another schedule"):
        train(crops, SCHEDULE, tmp_path, say=lambda _: None)


def test_it_learns_what_the_teacher_says(crops: Crops, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    before = validate(Student(), replace(crops, held_out=crops.person < 4), torch.device("cpu"))
    student = train(crops, Schedule(epochs=25, batch=16, averaging=0.8, save_seconds=1e9), tmp_path, say=lambda _: None)
    after = validate(student, replace(crops, held_out=crops.person < 4), torch.device("cpu"))
    assert after.cosine > before.cosine + 0.3


def test_held_out_people_never_reach_the_student(crops: Crops, tmp_path: Path) -> None:
    poisoned = crops.teacher.copy()
    poisoned[crops.held_out] = np.nan
    student = train(replace(crops, teacher=poisoned), replace(SCHEDULE, epochs=1), tmp_path, say=lambda _: None)
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())


def test_augmentation_keeps_range_and_repeats_with_its_seed(crops: Crops) -> None:
    pixels = torch.from_numpy(crops.pixels)
    first = augment(pixels, torch.Generator().manual_seed(1))
    assert first.shape == (24, 3, 112, 112)
    assert 0 <= float(first.min()) <= float(first.max()) <= 255
    assert torch.equal(first, augment(pixels, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, augment(pixels, torch.Generator().manual_seed(2)))
    assert torch.equal(centre_crop(pixels)[0, 0], pixels[0, 12:-12, 12:-12, 0].float())


def test_the_loss_is_zero_for_the_teachers_answer_and_two_for_its_opposite() -> None:
    teacher = torch.nn.functional.normalize(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert float(distillation_loss(3 * teacher, teacher, relation=4.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(distillation_loss(-teacher, teacher, relation=4.0)) == pytest.approx(2.0, abs=1e-6)


def test_invented_faces_stand_beside_the_real_ones_and_come_from_nobody_held_out(
    crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[np.ndarray] = []

    class Teacher:
        def embed(self, crop: np.ndarray) -> np.ndarray:
            asked.append(crop)
            return np.eye(1, DIMENSION, dtype=np.float32)[0]

    monkeypatch.setattr(invented, "open_teacher", lambda _: SimpleNamespace(embedder=Teacher()))
    flat = crops.pixels.copy()
    # Whoever is held out is pure black: no bending or blending of anybody else can give that.
    flat[~crops.held_out], flat[crops.held_out] = 200, 0

    def make() -> Crops:
        return with_invented(replace(crops, pixels=flat), tmp_path, tmp_path, count=40, drawn=3, seed=1, say=lambda _: None)

    made = make()
    assert made.pixels.shape == (24 + 43, 136, 136, 3)
    assert len(asked) == 43
    assert asked[0].shape == (112, 112, 3)
    assert made.invented.sum() == 43
    assert not made.invented[:24].any()
    assert not made.held_out[24:].any()
    assert (made.person[24:] == NOBODY).all()
    assert (made.pixels[24:64] == 200).all()
    assert made.pixels[64:].std() > 10
    again = make()
    assert len(asked) == 43, "what was made before is read"
    assert (again.pixels == made.pixels).all()


def test_bending_moves_a_face_and_keeps_it_a_face(crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invented, "open_teacher", lambda _: SimpleNamespace(embedder=None))
    monkeypatch.setattr(invented, "_ask", lambda *_: np.zeros((16, DIMENSION), np.float32))
    made = with_invented(crops, tmp_path, tmp_path, count=16, drawn=0, seed=1, say=lambda _: None).pixels[24:].astype(float)
    nearest = [min(np.abs(face - real).mean() for real in crops.pixels.astype(float)) for face in made]
    assert min(nearest) > 0.5, "none is a copy"
    assert np.median(nearest) < 45, "most are still like somebody"


def test_each_step_takes_half_of_what_was_invented_and_no_held_out_face(crops: Crops) -> None:
    invented_ones = np.concatenate([np.zeros(20, np.bool_), np.ones(4, np.bool_)])
    held_out = np.arange(24) < 4
    order = Order(replace(crops, held_out=held_out, invented=invented_ones), 8, seed=1)
    seen = [order.of(epoch, place) for epoch in range(3) for place in range(order.steps)]
    assert order.steps == 4
    assert all((invented_ones[step].sum(), held_out[step].sum()) == (4, 0) for step in seen)
    real = np.concatenate([step[~invented_ones[step]] for step in seen[:4]])
    assert sorted(real) == list(range(4, 20)), "every real crop once an epoch"
    assert all((order.of(1, place) == seen[4 + place]).all() for place in range(4))


def test_curves_are_a_picture_with_one_chart_for_each_figure(tmp_path: Path) -> None:
    history = [{"epoch": 1, "loss": 1.0, "accuracy": 0.5}, {"epoch": 2, "loss": 0.5, "accuracy": 0.7}]
    assert draw_curves(history, tmp_path / "curves.png", title="two epochs")
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert not draw_curves([], tmp_path / "nothing.png", title="none")


def test_pairs_are_drawn_once_and_leave_nameless_people_out() -> None:
    person = np.array([0, 0, 1, 1, 2, 2, NOBODY, NOBODY], np.int32)
    first, second, mated = draw_pairs(person)
    assert (mated == (person[first] == person[second])).all()
    assert NOBODY not in person[np.concatenate([first, second])]
    assert mated.sum() == 3
    assert all((a == b).all() for a, b in zip(draw_pairs(person), (first, second, mated), strict=True))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.shared
def test_the_recipe_runs_from_the_command_line(shared_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    store = PackStore(tmp_path / "packs")
    for name in ("detectors/yunet_s_dynamic.onnx", "embedders/face_reid_retail_0095.onnx"):
        store.import_file(shared_dir / "models" / name)
    # Thirty pictures of a data set of its own: whom the recipe holds back must be left with pairs to compare.
    source, data = shared_dir / "data/lfw-devtrain/images", tmp_path / "data"
    people = [folder for folder in sorted(source.iterdir()) if len(list(folder.iterdir())) in (3, 4)][:10]
    for folder in people:
        shutil.copytree(folder, data / "lfw-devtrain/images" / folder.name)
    folders = ["--data", str(data), "--work", str(tmp_path / "work"), "--packs", str(tmp_path / "packs")]
    sizes = ["--epochs", "1", "--batch", "8", "--held-out", "4", "--invented", "8", "--drawn", "4", "--threads", "1"]
    main([*folders, *sizes])
    work = tmp_path / "work"
    figures = json.loads((work / "figures.json").read_text())
    assert 0.4 <= figures["accuracy"] <= 1.0
    assert (work / "curves.png").stat().st_size > 1000
    Student().load_state_dict(torch.load(work / "student.pt", weights_only=True))
