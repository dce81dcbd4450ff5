"""The recipe of the detector on a handful of drawn people: it learns, resumes exactly, exports what it trained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")

from facekeep.assembly import Inference  # noqa: E402
from facekeep.assembly.loading import Loader  # noqa: E402
from facekeep.biometric import Frame  # noqa: E402
from facekeep.detection import open_detector  # noqa: E402
from facekeep.errors import ModelError  # noqa: E402
from facekeep.packs import LoadPolicy, PackStore, parse_manifest  # noqa: E402
from facekeep.runtime import open_session  # noqa: E402
from facekeep_models.people import draw_person, synthetic_person  # noqa: E402
from facekeep_models.training.detector.__main__ import main  # noqa: E402
from facekeep_models.training.detector.appearance import disturb  # noqa: E402
from facekeep_models.training.detector.calibrate import Rung, calibrate, chosen  # noqa: E402
from facekeep_models.training.detector.evaluate import drawn_cases  # noqa: E402
from facekeep_models.training.detector.export import detector_model  # noqa: E402
from facekeep_models.training.detector.loop import draw_batch, train  # noqa: E402
from facekeep_models.training.detector.loss import detection_loss, strayed  # noqa: E402
from facekeep_models.training.detector.mix import main as mix  # noqa: E402
from facekeep_models.training.detector.mix import mixed  # noqa: E402
from facekeep_models.training.detector.mosaic import draw_mosaic, pool_of  # noqa: E402
from facekeep_models.training.detector.network import OUTPUTS, STRIDES, Detector  # noqa: E402
from facekeep_models.training.detector.optimiser import orthogonal  # noqa: E402
from facekeep_models.training.detector.pictures import Pictures, join_pictures  # noqa: E402
from facekeep_models.training.detector.publish import publish  # noqa: E402
from facekeep_models.training.detector.restore import restored  # noqa: E402
from facekeep_models.training.detector.schedule import Schedule  # noqa: E402
from facekeep_models.training.detector.speed import speed_ratio  # noqa: E402
from facekeep_models.training.detector.targets import targets_of  # noqa: E402
from facekeep_models.training.detector.teacher import Teacher, box_of_landmarks, mirrored  # noqa: E402
from facekeep_models.training.detector.validation import CONTRACT, OPTIONS, Figures, compare, held_out_cases, open_network, overlaps  # noqa: E402

SCHEDULE = Schedule(steps=4, sizes=((64, 2), (96, 2)), warm_up=2, check_steps=2, check_pictures=2, save_seconds=1e9)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY = np.zeros((0, 15), np.float32)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    """Four drawn people, one of them held out, and two scenes of noise."""

    def rows() -> Iterator[tuple[str, bool, NDArray[np.uint8], NDArray[np.float32]]]:
        for index in range(4):
            drawn = draw_person(synthetic_person(index), 0, side_px=128)
            yield "people", index == 3, drawn.pixels, box_of_landmarks(drawn.landmarks_px)[None]
        for seed in range(2):
            noise = np.random.default_rng(seed).integers(0, 256, (80, 100, 3)).astype(np.uint8)
            yield "empty", seed == 1, noise, NOBODY

    return join_pictures(rows())


def face(left: float, top: float, side: float, *, asked: bool = True) -> NDArray[np.float32]:
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]]) * side + [left, top]
    return np.array([left, top, left + side, top + side, float(asked), *points.ravel()], np.float32)


def test_the_network_is_small_and_gives_what_the_decoder_reads() -> None:
    network = Detector().eval()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 88_000
    network.requires_grad_(requires_grad=False)
    outputs = dict(zip(OUTPUTS, network(torch.full((2, 3, 96, 128), 200.0)), strict=True))
    for stride in STRIDES:
        cells = 96 // stride * (128 // stride)
        assert [tuple(outputs[f"{kind}_{stride}"].shape) for kind in ("cls", "obj", "bbox", "kps")] == [
            (2, cells, width) for width in (1, 1, 4, 10)
        ]
        assert 0 <= float(outputs[f"obj_{stride}"].min()) <= float(outputs[f"obj_{stride}"].max()) <= 1


def test_the_exported_file_is_the_network() -> None:
    torch.manual_seed(0)
    network = Detector()
    # A few steps' worth of statistics, so that folding the norms is not folding ones and zeros.
    network.features(torch.rand(4, 3, 96, 96) * 255)
    content = detector_model(network.eval(), half=False).SerializeToString(deterministic=True)
    assert content == detector_model(network, half=False).SerializeToString(deterministic=True)
    assert len(content) <= 360_000
    session = open_session("onnx", {"model.onnx": content})
    assert set(session.outputs) == set(OUTPUTS)
    for height, width in ((64, 96), (160, 128)):
        pixels = np.random.default_rng(1).uniform(0, 255, (1, 3, height, width)).astype(np.float32)
        expected = dict(zip(OUTPUTS, network(torch.from_numpy(pixels)), strict=True))
        for name, found in zip(session.outputs, session.run({"input": pixels}), strict=True):
            np.testing.assert_allclose(found, expected[name].detach().numpy(), atol=2e-4)


def test_what_ships_keeps_its_weights_in_half_the_bytes() -> None:
    torch.manual_seed(0)
    network = Detector().eval()
    whole, half = (detector_model(network, half=each).SerializeToString() for each in (False, True))
    assert len(half) <= 0.56 * len(whole)
    for found, wanted in zip(restored(half).parameters(), restored(whole).parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=2**-11, atol=2e-5)


def test_a_file_becomes_the_network_it_was_written_from() -> None:
    torch.manual_seed(0)
    network = Detector()
    network.features(torch.rand(4, 3, 96, 96) * 255)
    content = detector_model(network.eval(), half=False).SerializeToString()
    again = restored(content)
    pixels = torch.rand(1, 3, 64, 96) * 255
    for found, wanted in zip(again(pixels), network(pixels), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert restored(detector_model(again).SerializeToString()).state_dict().keys() == network.state_dict().keys()


def test_what_is_no_file_of_the_recipe_becomes_no_network() -> None:
    # The same weights in another graph: only what it gives tells it from the recipe's.
    swapped = detector_model(Detector().eval())
    outputs = {name: name.replace("cls", "x").replace("obj", "cls").replace("x", "obj") for name in OUTPUTS}
    for node in swapped.graph.node:
        node.output[:] = [outputs.get(name, name) for name in node.output]
    shorter = detector_model(Detector().eval())
    del shorter.graph.node[0]
    for content in (b"", b"no model", swapped.SerializeToString(), shorter.SerializeToString()):
        with pytest.raises(ModelError):
            restored(content)


def test_a_mean_of_two_lies_between_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Detector()
    paths = [tmp_path / "begun.onnx", tmp_path / "ended.onnx"]
    paths[0].write_bytes(detector_model(network.eval()).SerializeToString())
    with torch.no_grad():
        network.heads[0].bias += 4
    paths[1].write_bytes(detector_model(network).SerializeToString())
    for share, wanted in ((1.0, 0.0), (0.25, 3.0), (0.0, 4.0)):
        mix(["--from", str(paths[0]), "--and", str(paths[1]), "--share", str(share), "--work", str(tmp_path), "--into", "mixed"])
        found = restored((tmp_path / "mixed/facekeep_detector.onnx").read_bytes()).heads[0].bias
        torch.testing.assert_close(found, network.heads[0].bias - 4 + wanted)
    with pytest.raises(ValueError, match="share"):
        mixed(b"", b"", 1.5)


def test_a_stage_with_frozen_norms_keeps_their_statistics(pictures: Pictures, tmp_path: Path) -> None:
    begun = restored(detector_model(Detector().eval()).SerializeToString()).state_dict()
    for frozen in (True, False):
        schedule = replace(SCHEDULE, frozen_norms=frozen, together=0.5)
        ended, _ = train(pictures, schedule, _folder(tmp_path / str(frozen)), say=lambda _: None, start=begun)
        same = [torch.equal(ended.state_dict()[name], value) for name, value in begun.items() if "running_" in name]
        assert all(same) == frozen
        assert not torch.equal(ended.state_dict()["heads.0.weight"], begun["heads.0.weight"])


def test_a_stage_can_keep_to_the_finds_of_another_network(pictures: Pictures, tmp_path: Path) -> None:
    torch.manual_seed(0)
    keep = Detector().eval().requires_grad_(requires_grad=False)
    batch, targets = draw_batch(pool_of(pictures, held_out=False), SCHEDULE, 0)
    maps = keep.answers(keep.features(batch))
    moved = [part.clone() for part in maps]
    assert float(strayed(moved, maps, targets)) == pytest.approx(0.0, abs=1e-5)
    for part in moved:
        part[:, 2:] += 1
    # Boxes and landmarks are free.
    assert float(strayed(moved, maps, targets)) == pytest.approx(0.0, abs=1e-5)
    for part in moved:
        part[:, 1] += 1
    assert float(strayed(moved, maps, targets)) > 0.01

    def distance(weight: float) -> float:
        schedule = replace(SCHEDULE, steps=30, share=0.1, frozen_norms=True, averaging=0.5, check_steps=30, keep_weight=weight)
        folder = _folder(tmp_path / str(weight))
        ended, _ = train(pictures, schedule, folder, say=lambda _: None, start=keep.state_dict(), keep=keep)
        with torch.no_grad():
            return float(strayed(ended.answers(ended.features(batch)), maps, targets))

    assert distance(100.0) < distance(0.0) / 2


def test_cells_that_err_apart_are_not_charged_together() -> None:
    wanted = face(40, 50, 36)
    targets = targets_of([wanted[None]], 128)
    assert len(targets.rows) > 1
    assert len(set(targets.owners.tolist())) == 1

    def landmarks(errors: list[float], together: float) -> float:
        maps = []
        for stride in STRIDES:
            part = torch.zeros(1, 16, 128 // stride, 128 // stride)
            row, column = np.mgrid[: 128 // stride, : 128 // stride]
            for channel, value in enumerate(wanted[5:]):
                part[0, 6 + channel] = torch.from_numpy(value / stride - (row if channel % 2 else column)).float()
            maps.append(part)
        # The error of each cell, in pixels, one after the other; each cell is as sure as the others.
        total = torch.cat([part.flatten(2) for part in maps], dim=2)
        strides = torch.cat([torch.full((part.shape[-1] ** 2,), float(s)) for s, part in zip(STRIDES, maps, strict=True)])
        for number, place in enumerate(targets.rows.tolist()):
            total[0, 6:, place] += errors[number % len(errors)] / strides[place]
        sizes = [128 // stride for stride in STRIDES]
        maps = [part.reshape(1, 16, n, n) for part, n in zip(total.split([n * n for n in sizes], dim=2), sizes, strict=True)]
        return detection_loss(maps, targets, together=together)[1]["landmarks"]

    assert landmarks([3.6], 0.0) == pytest.approx(0.1, abs=1e-4)
    assert landmarks([3.6], 1.0) == pytest.approx(0.1 / 2**0.5, abs=1e-3)
    count = len(targets.rows)
    assert landmarks([3.6, -3.6], 1.0) == pytest.approx(0.1 / 2**0.5 * (count % 2) / count, abs=1e-3)
    assert landmarks([3.6, -3.6], 0.0) == pytest.approx(0.1, abs=1e-4)


def test_a_resumed_run_is_the_run_that_was_not_stopped(pictures: Pictures, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole, curve = train(pictures, SCHEDULE, _folder(tmp_path / "whole"), say=lambda _: None)

    class StoppedError(Exception):
        pass

    def stop(text: str) -> None:
        if text.startswith("check at 4"):
            raise StoppedError

    broken, said = _folder(tmp_path / "broken"), list[str]()
    # Each step is saved, so that it stops with some of them done.
    eager = replace(SCHEDULE, save_seconds=0.0)
    with pytest.raises(StoppedError):
        train(pictures, eager, broken, say=stop)
    resumed, points = train(pictures, eager, broken, say=said.append)
    assert said[0] == "going on at step 3 of 4"
    assert points == curve
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_a_checkpoint_of_another_schedule_is_refused(pictures: Pictures, tmp_path: Path) -> None:
    train(pictures, replace(SCHEDULE, steps=1), tmp_path, say=lambda _: None)
    with pytest.raises(ValueError, match="another schedule"):
        train(pictures, SCHEDULE, tmp_path, say=lambda _: None)


def test_it_learns(pictures: Pictures, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    schedule = replace(SCHEDULE, steps=60, sizes=((64, 4),), averaging=0.5, check_steps=60)
    pool = pool_of(pictures, held_out=False)
    # The same unseen mosaics for both: the loss of one step depends on which mosaic it drew.
    batches = [draw_batch(pool, schedule, step) for step in range(1000, 1016)]

    def loss_after(steps: int) -> float:
        network, points = train(pictures, replace(schedule, steps=steps), tmp_path / str(steps), say=lambda _: None)
        assert points[-1]["step"] == steps
        # As in training, with the statistics of the batch: sixty steps are too few for those of the average to settle.
        network.train()
        with torch.no_grad():
            losses = [detection_loss(network.answers(network.features(pixels)), targets)[0] for pixels, targets in batches]
        return float(torch.stack(losses).mean())

    for steps in (1, 60):
        _folder(tmp_path / str(steps))
    assert loss_after(60) < 0.95 * loss_after(1)


def test_mosaics_repeat_with_their_seed_and_hold_out_who_is_held_out(pictures: Pictures) -> None:
    first, again, other = (draw_batch(pool_of(pictures, held_out=False), SCHEDULE, step) for step in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].faces, again[1].faces)
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])
    for held_out in (False, True):
        drawn = np.concatenate(pool_of(pictures, held_out=held_out).by_source)
        assert (pictures.held_out[drawn] == held_out).all()


def test_faces_of_mosaics_lie_where_they_are_drawn(pictures: Pictures) -> None:
    random, pool = np.random.default_rng(3), pool_of(pictures, held_out=False)
    asked = 0
    for _ in range(40):
        pixels, faces = draw_mosaic(pool, 96, random)
        assert pixels.shape == (96, 96, 3)
        assert set(faces[:, 4].tolist()) <= {0.0, 1.0}
        for row in faces[faces[:, 4] > 0]:
            points = row[5:].reshape(5, 2)
            down = points[3:].mean(axis=0) - points[:2].mean(axis=0)
            across = points[1] - points[0]
            # Mirrored or not, the first eye is the one on the left as the viewer sees an upright face.
            assert across[0] * down[1] - across[1] * down[0] > 0
            assert (points.mean(axis=0) >= row[:2]).all()
            assert (points.mean(axis=0) <= row[2:4]).all()
            asked += 1
        disturbed = disturb(pixels, faces, random)
        assert disturbed.shape == pixels.shape
        assert disturbed.dtype == np.uint8
    assert asked > 20


@pytest.mark.parametrize(("size", "strides"), [(16.0, {8}), (36.0, {8, 16}), (60.0, {16}), (110.0, {16, 32}), (200.0, {32})])
def test_a_face_is_asked_of_the_strides_that_suit_its_size(size: float, strides: set[int]) -> None:
    targets = targets_of([np.stack([face(128 - size / 2, 128 - size / 2, size)]), NOBODY], 256)
    ends = np.cumsum([(256 // stride) ** 2 for stride in STRIDES])
    found = {STRIDES[int(np.searchsorted(ends, int(row), side="right"))] for row in targets.rows}
    assert found == strides
    assert float(targets.presence[1].abs().max()) == 0
    assert torch.equal(targets.presence.flatten()[targets.rows], torch.ones(len(targets.rows)))


def test_what_is_only_suspected_is_neither_asked_nor_punished() -> None:
    targets = targets_of([np.stack([face(64, 64, 64, asked=False)])], 128)
    assert len(targets.rows) == 0
    assert set(targets.presence.unique().tolist()) == {-1.0, 0.0}


def test_the_loss_of_the_right_answer_is_that_of_the_decoder() -> None:
    wanted = face(40, 50, 36)
    targets = targets_of([wanted[None]], 128)
    maps = [torch.zeros(1, 16, 128 // stride, 128 // stride) for stride in STRIDES]
    for stride, part in zip(STRIDES, maps, strict=True):
        part[:, 0], part[:, 1] = 20.0, -20.0
        row, column = np.mgrid[: 128 // stride, : 128 // stride]
        values = [*(wanted[:2] + wanted[2:4]) / 2, *np.log((wanted[2:4] - wanted[:2]) / stride), *wanted[5:]]
        for channel, value in enumerate(values):
            corner = 0 if channel in (2, 3) else (row if channel % 2 else column)
            part[0, 2 + channel] = torch.from_numpy(np.asarray(value / (1 if channel in (2, 3) else stride) - corner)).float()
    total = torch.cat([part.flatten(2) for part in maps], dim=2)
    total[0, 1, targets.rows] = 20.0
    sizes = [128 // stride for stride in STRIDES]
    maps = [part.reshape(1, 16, n, n) for part, n in zip(total.split([n * n for n in sizes], dim=2), sizes, strict=True)]
    _, parts = detection_loss(maps, targets)
    assert parts == pytest.approx(dict.fromkeys(parts, 0.0), abs=1e-4)

    class Answer(Detector):
        def answers(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
            return maps

    (found,) = open_network(Answer(), confidence=0.5).detect(Frame(np.zeros((128, 128, 3), np.uint8), NOW))
    np.testing.assert_allclose(found.box_px, (40, 50, 36, 36), atol=1e-3)
    np.testing.assert_allclose(found.landmarks_px, wanted[5:].reshape(5, 2), atol=1e-3)


def test_figures_count_what_was_asked_and_what_is_extra() -> None:
    truth = np.stack([face(10, 10, 50), face(100, 10, 50), face(10, 100, 50, asked=False), face(120, 120, 10)])

    class Answers:
        def __call__(self, frame: Frame) -> tuple[object, ...]:
            from facekeep.biometric import Detection

            rows = [truth[0] + np.float32([2, 0, 2, 0, 0, *[2, 0] * 5]), truth[2], face(200, 200, 30)]
            return tuple(
                Detection((float(r[0]), float(r[1]), float(r[2] - r[0]), float(r[3] - r[1])), r[5:].reshape(5, 2), 0.9)
                for r in rows
            )

    figures = compare([(np.zeros((256, 256, 3), np.uint8), truth)], Answers(), least_px=40)  # type: ignore[arg-type]
    assert (figures.faces, figures.recall, figures.extra, figures.pictures) == (2, 0.5, 1, 1)
    assert figures.landmark_error == pytest.approx(2 / 20)


def test_the_box_of_landmarks_holds_them_and_turns_with_the_face() -> None:
    upright = np.array([[30, 40], [60, 40], [45, 58], [33, 75], [57, 75]], np.float32)
    row = box_of_landmarks(upright)
    assert (row[:2] < upright.min(axis=0)).all()
    assert (row[2:4] > upright.max(axis=0)).all()
    profile = (upright - [45, 57]) * [0.5, 1] + [45, 57]
    assert float(overlaps(row[None, :4], box_of_landmarks(profile.astype(np.float32))[None, :4])[0, 0]) > 0.9


def test_muon_brings_singular_values_to_about_one() -> None:
    random = torch.Generator().manual_seed(0)
    for shape in ((8, 27), (48, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=random)))
        assert 0.3 < float(values.min()) <= float(values.max()) < 1.3


def test_the_confidence_is_the_lowest_with_few_false_finds() -> None:
    rungs = tuple(Rung(c, Figures(100, 1.0, extra, 0.05, 200)) for c, extra in ((0.4, 9), (0.5, 2), (0.6, 0)))
    assert chosen(rungs) == 0.5
    assert chosen(rungs[:1]) == 0.4


def test_calibration_counts_what_a_detector_of_each_confidence_would(pictures: Pictures) -> None:
    network = Detector().eval()
    for head in network.heads:
        torch.nn.init.normal_(head.weight, std=0.3, generator=torch.Generator().manual_seed(1))
        torch.nn.init.zeros_(head.bias)
    content = detector_model(network).SerializeToString()
    rungs = calibrate(content, pictures)
    assert [rung.confidence for rung in rungs] == sorted(rung.confidence for rung in rungs)
    cases = held_out_cases(pictures, 9)
    for rung in rungs[::5]:
        session = open_session("onnx", {"model.onnx": content})
        detector = open_detector("yunet", session, CONTRACT, confidence=rung.confidence, options=OPTIONS)
        assert compare(cases, detector.detect, least_px=20) == rung.figures
    assert rungs[0].figures.extra > rungs[-1].figures.extra


def test_what_is_published_is_found_by_the_store(tmp_path: Path) -> None:
    content = detector_model(Detector().eval()).SerializeToString()
    manifest = publish(content, b"second look", 0.6, manifests=_folder(tmp_path / "manifests"), weights=tmp_path / "weights")
    assert parse_manifest((tmp_path / "manifests/facekeep-detector.json").read_bytes()) == manifest
    folder = tmp_path / "weights/facekeep-detector/onnx-fp32"
    assert (folder / "facekeep_detector.onnx").read_bytes() == content
    assert (folder / "facekeep_landmarks.onnx").read_bytes() == b"second look"
    assert not manifest.training_data.consented
    assert manifest.permitted_uses == ("research", "evaluation")


def test_the_file_that_ships_finds_drawn_people_it_has_never_seen() -> None:
    store = PackStore("/nonexistent/facekeep-test-store")
    content = store.read_files("facekeep-detector", "onnx-fp32")
    assert sum(len(each) for each in content.values()) <= 220_000
    detector, _ = Loader(store, LoadPolicy(), Inference()).detector("facekeep-detector")
    cases = islice(drawn_cases(), 0, 240, 6)
    figures = compare(cases, detector.detect, least_px=0)
    assert figures.pictures == 40
    assert figures.recall >= 0.975
    assert figures.extra == 0
    # The card says 1.9 % over all of them, 5.4 % without the second look.
    assert figures.landmark_error <= 0.03


def test_speed_is_measured_in_turns() -> None:
    content = detector_model(Detector().eval()).SerializeToString()
    figures = speed_ratio(content, {"model.onnx": content}, rounds=3)
    assert all(isinstance(value, float) and value > 0 for value in figures.values())


@pytest.mark.shared
def test_the_recipe_runs_from_the_command_line(shared_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    store = PackStore(tmp_path / "packs")
    store.import_file(shared_dir / "models/detectors/yunet_s_dynamic.onnx")
    folders = ["--data", str(shared_dir / "data"), "--work", str(tmp_path / "work"), "--packs", str(tmp_path / "packs")]
    main([*folders, "--steps", "1", "--limit", "2", "--threads", "1"])
    first = str(tmp_path / "work/student.pt")
    main([*folders, "--steps", "1", "--limit", "2", "--start", first, "--share", "0.0", "--into", "second"])
    shipped = str(tmp_path / "work/facekeep_detector.onnx")
    stage = ["--start", shipped, "--keep", shipped, "--share", "0.0", "--into", "third", "--float32", "--sizes", "64x2"]
    main([*folders, "--steps", "1", "--limit", "2", *stage])
    assert len((tmp_path / "work/third/facekeep_detector.onnx").read_bytes()) == len(Path(shipped).read_bytes())
    work = tmp_path / "work/second"
    assert (work / "curves.png").stat().st_size > 1000
    assert json.loads((work / "history.json").read_text())[-1]["step"] == 1
    begun, ended = (torch.load(path, weights_only=True) for path in (first, work / "student.pt"))
    # At no learning rate a further stage ends where it began.
    torch.testing.assert_close(ended["heads.0.weight"], begun["heads.0.weight"])
    session = open_session("onnx", {"model.onnx": (work / "facekeep_detector.onnx").read_bytes()})
    open_detector("yunet", session, CONTRACT)


@pytest.mark.shared
def test_the_teacher_agrees_with_the_truth_of_drawn_people(shared_dir: Path, tmp_path: Path) -> None:
    store = PackStore(tmp_path)
    store.import_file(shared_dir / "models/detectors/yunet_s_dynamic.onnx")
    teacher = Teacher(tmp_path)
    for index in range(3):
        drawn = draw_person(synthetic_person(index), 0)
        truth = box_of_landmarks(drawn.landmarks_px)
        best = max(teacher.label(drawn.pixels, empty=False), key=lambda row: float(row[4]))
        assert float(overlaps(best[None, :4], truth[None, :4])[0, 0]) > 0.7
        # Asked about the mirror image as well, it says the same of it.
        turned = teacher.label(np.ascontiguousarray(drawn.pixels[:, ::-1]), empty=False)
        np.testing.assert_allclose(mirrored(turned[0], 256), teacher.label(drawn.pixels, empty=False)[0], atol=0.05)
    assert not len(teacher.label(np.full((96, 96, 3), 90, np.uint8), empty=True))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
