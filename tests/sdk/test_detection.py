from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekeep.contract import InputContract
from facekeep.detection import non_maximum_suppression, open_detector
from facekeep.detection.blazeface import anchor_centres, five_landmarks
from facekeep.detection.fitting import fit_frame
from facekeep.detection.rfb import priors_px
from facekeep.detection.suppression import intersection_over_union
from facekeep.errors import AcquisitionError, ModelError
from tests.sdk.fake_sessions import FakeSession, blank_frame, noise_frame

YUNET = InputContract("NCHW", "BGR", None, 32)
NAMES = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
WIDTHS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}


def yunet_outputs(tensor: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    """All outputs of a picture without faces."""
    _, _, height, width = tensor.shape
    return {
        f"{kind}_{stride}": np.zeros((1, (height // stride) * (width // stride), size), np.float32)
        for kind, size in WIDTHS.items()
        for stride in (8, 16, 32)
    }


def yunet_with(cell: tuple[int, int], stride: int, score: float = 0.9, **changes: float) -> FakeSession:
    def answer(tensor: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        outputs = yunet_outputs(tensor)
        column, row = cell
        index = row * (tensor.shape[3] // stride) + column
        outputs[f"cls_{stride}"][0, index] = score
        outputs[f"obj_{stride}"][0, index] = score
        outputs[f"bbox_{stride}"][0, index] = [0.5, 0.25, np.log(2.0), np.log(3.0)]
        outputs[f"kps_{stride}"][0, index] = np.arange(10) / 10
        for name, value in changes.items():
            outputs[name][0, index, 0] = value
        return outputs

    return FakeSession(NAMES, answer)


def test_yunet_decodes_one_cell_exactly() -> None:
    session = yunet_with((3, 2), 16)
    (found,) = open_detector("yunet", session, YUNET).detect(blank_frame(320, 256))
    assert session.seen[0].shape == (1, 3, 256, 320)
    # Centre (3.5, 2.25) * 16, size (2, 3) * 16.
    np.testing.assert_allclose(found.box_px, (40, 12, 32, 48), atol=1e-4)
    assert found.confidence == pytest.approx(0.9, abs=1e-6)
    assert found.landmarks_px is not None
    np.testing.assert_allclose(found.landmarks_px, (np.arange(10).reshape(5, 2) / 10 + [3, 2]) * 16, atol=1e-4)


def test_yunet_maps_back_from_a_reduced_frame() -> None:
    (found,) = open_detector("yunet", yunet_with((3, 2), 16), YUNET).detect(blank_frame(1280, 1024))
    # Twice the size: the outer corner (-0.5, -0.5) stays in place.
    np.testing.assert_allclose(found.box_px, ((40 + 0.5) * 2 - 0.5, (12 + 0.5) * 2 - 0.5, 64, 96), atol=1e-3)


def test_yunet_pads_to_the_stride_and_keeps_small_frames_as_they_are() -> None:
    session = yunet_with((0, 0), 32)
    open_detector("yunet", session, YUNET).detect(blank_frame(50, 40))
    assert session.seen[0].shape == (1, 3, 64, 64)
    assert not session.seen[0][:, :, 40:].any()
    assert not session.seen[0][:, :, :, 50:].any()


def test_yunet_of_a_fixed_size_gets_that_size() -> None:
    session = yunet_with((0, 0), 32)
    open_detector("yunet", session, InputContract("NCHW", "BGR", (640, 640), 32)).detect(blank_frame(800, 533))
    assert session.seen[0].shape == (1, 3, 640, 640)


@pytest.mark.parametrize(
    "changes",
    [{"cls_16": np.nan}, {"obj_16": np.inf}, {"bbox_16": np.nan}, {"kps_16": np.inf}, {"bbox_16": 3e38}],
)
def test_outputs_that_are_no_numbers_are_a_broken_model(changes: dict[str, float]) -> None:
    with pytest.raises(ModelError) as caught:
        open_detector("yunet", yunet_with((3, 2), 16, **changes), YUNET).detect(blank_frame(320, 256))
    assert caught.value.code == "model.invalid_model"


def test_overflowing_size_is_a_broken_model() -> None:
    def answer(tensor: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        outputs = yunet_outputs(tensor)
        outputs["cls_8"][0, 0] = outputs["obj_8"][0, 0] = 1
        outputs["bbox_8"][0, 0] = 1000
        return outputs

    with pytest.raises(ModelError):
        open_detector("yunet", FakeSession(NAMES, answer), YUNET).detect(blank_frame(64, 64))


def three_cells(tensor: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
    """One face found by two cells, and a third cell with a much smaller box, which suppression also gives to it."""
    outputs = yunet_outputs(tensor)
    columns = tensor.shape[3] // 16
    for cell, score, size, shift in (((3, 3), 0.9, 4.0, 0.0), ((4, 3), 0.8, 4.0, 1.0), ((3, 4), 0.8, 2.5, 9.0)):
        index = cell[1] * columns + cell[0]
        outputs["cls_16"][0, index] = outputs["obj_16"][0, index] = score
        # All boxes are centred at (3.5, 3.5) cells; landmarks at the corner of the cell (3, 3), moved by `shift` cells.
        outputs["bbox_16"][0, index] = [3.5 - cell[0], 3.5 - cell[1], np.log(size), np.log(size)]
        outputs["kps_16"][0, index] = np.tile([3 - cell[0], 3 - cell[1]], 5) + np.arange(10) / 10 + shift
    return outputs


def test_cells_of_one_face_share_its_landmarks_where_the_pack_asks_for_it() -> None:
    session = FakeSession(NAMES, three_cells)
    (alone,), (shared,) = (
        open_detector("yunet", session, YUNET, confidence=0.5, options=options).detect(blank_frame(320, 256))
        for options in ({}, {"landmark_power": "4"})
    )
    base = (np.arange(10).reshape(5, 2) / 10 + [3, 3]) * 16
    assert alone.landmarks_px is not None
    assert shared.landmarks_px is not None
    np.testing.assert_allclose(alone.landmarks_px, base, atol=1e-4)
    # The second cell moves them by its share of the weight; the third has another face's box and no say.
    moved = 0.8**4 / (0.9**4 + 0.8**4) * 16
    np.testing.assert_allclose(shared.landmarks_px, base + moved, atol=1e-3)
    assert (shared.box_px, shared.confidence) == (alone.box_px, alone.confidence)


def test_a_face_of_one_cell_keeps_its_landmarks() -> None:
    one, other = (
        open_detector("yunet", yunet_with((3, 2), 16), YUNET, options=options).detect(blank_frame(320, 256))[0]
        for options in ({}, {"landmark_power": "4"})
    )
    np.testing.assert_allclose(one.landmarks_px, other.landmarks_px, atol=1e-4)


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 2**32 - 1))
def test_intersection_over_union_against_counted_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (6, 2))
    boxes = np.concatenate((corner, corner + rng.integers(0, 9, (6, 2))), axis=1)
    grids = np.zeros((6, 24, 24), bool)
    for grid, (left, top, right, bottom) in zip(grids, boxes, strict=True):
        grid[top:bottom, left:right] = True
    expected = [(grids[0] & grid).sum() / max((grids[0] | grid).sum(), 1) for grid in grids]
    found = intersection_over_union(boxes[0].astype(np.float32), boxes.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_model_of_another_family_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        open_detector("yunet", FakeSession(["scores", "boxes"], lambda _: {}), YUNET)
    assert caught.value.code == "model.invalid_model"
    wrong = FakeSession(NAMES, lambda tensor: yunet_outputs(np.zeros((1, 3, 64, 64), np.float32)))
    with pytest.raises(ModelError):
        open_detector("yunet", wrong, YUNET).detect(blank_frame(320, 256))


@pytest.mark.parametrize(
    ("family", "arguments"),
    [
        ("retina", {}),
        ("yunet", {"confidence": 0.0}),
        ("yunet", {"confidence": 1.5}),
        ("yunet", {"longest_side": 8}),
        ("yunet", {"options": {"overlap": "much"}}),
        ("yunet", {"options": {"overlap": "2"}}),
        ("yunet", {"options": {"nms": "0.3"}}),
        ("yunet", {"options": {"landmark_power": "-1"}}),
        ("yunet", {"options": {"landmark_power": "nan"}}),
        ("yunet", {"options": {"landmark_power": "high"}}),
        ("points", {"options": {"landmark_power": "4"}}),
    ],
)
def test_settings_out_of_range_are_refused(family: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ModelError) as caught:
        open_detector(family, yunet_with((0, 0), 8), YUNET, **arguments)
    assert caught.value.code == "model.invalid_manifest"


@pytest.mark.parametrize(("width", "height"), [(8, 8), (15, 400), (5000, 1)])
def test_frames_too_small_for_a_face_are_refused(width: int, height: int) -> None:
    with pytest.raises(AcquisitionError) as caught:
        open_detector("yunet", yunet_with((0, 0), 8), YUNET).detect(blank_frame(width, height))
    assert caught.value.code == "acquisition.too_small"


@pytest.mark.parametrize(("width", "height"), [(16, 16), (17, 4000), (9000, 16), (641, 640), (2561, 1441)])
def test_odd_sizes_work(width: int, height: int) -> None:
    session = FakeSession(NAMES, yunet_outputs)
    assert open_detector("yunet", session, YUNET).detect(noise_frame(width, height)) == ()
    shape = session.seen[0].shape
    assert shape[2] % 32 == shape[3] % 32 == 0
    assert max(shape) <= 640


@settings(deadline=None, max_examples=60)
@given(width=st.integers(200, 900), height=st.integers(200, 900), longest=st.integers(64, 700))
def test_fitting_maps_the_corners_of_the_picture_onto_the_frame(width: int, height: int, longest: int) -> None:
    fitted = fit_frame(blank_frame(width, height), YUNET, longest)
    right, bottom = (np.array([width, height]) / np.array(fitted.scale)) - 0.5
    corners = fitted.to_frame(np.array([[-0.5, -0.5], [right, bottom]], np.float32))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [width - 0.5, height - 0.5]], atol=0.01)
    # Proportions are kept, but for the last incomplete block and the rounding of the reduced picture.
    assert fitted.scale[0] == pytest.approx(fitted.scale[1], rel=0.13)


def slow_suppression(boxes: NDArray[np.float32], scores: NDArray[np.float32], overlap: float) -> list[int]:
    order = sorted(range(len(boxes)), key=lambda index: (-scores[index], index))
    kept: list[int] = []
    for index in order:
        for other in kept:
            width = min(boxes[index][2], boxes[other][2]) - max(boxes[index][0], boxes[other][0])
            height = min(boxes[index][3], boxes[other][3]) - max(boxes[index][1], boxes[other][1])
            shared = max(width, 0) * max(height, 0)
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[index], boxes[other])]
            if shared > np.float32(overlap) * (areas[0] + areas[1] - shared):
                break
        else:
            kept.append(index)
    return kept


@settings(deadline=None, max_examples=150)
@given(count=st.integers(0, 40), seed=st.integers(0, 2**32 - 1), overlap=st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_suppression_equals_the_slow_reference(count: int, seed: int, overlap: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 40, (count, 2))
    boxes = np.concatenate((corner, corner + rng.integers(1, 30, (count, 2))), axis=1).astype(np.float32)
    scores = (rng.integers(0, 20, count) / 20).astype(np.float32)
    groups = non_maximum_suppression(boxes, scores, overlap)
    assert [group[0] for group in groups] == slow_suppression(boxes, scores, overlap)
    assert sorted(index for group in groups for index in group) == list(range(count))


def test_suppression_of_a_hostile_picture_is_bounded() -> None:
    boxes = np.tile(np.arange(20000, dtype=np.float32)[:, None] * 10, (1, 4)) + np.array([0, 0, 5, 5], np.float32)
    assert len(non_maximum_suppression(boxes, np.ones(20000, np.float32), 0.3)) == 2000


def test_blazeface_has_the_anchors_of_mediapipe() -> None:
    anchors = anchor_centres()
    assert anchors.shape == (896, 2)
    np.testing.assert_allclose(anchors[[0, 1, 2, 511, 512, 517, 518, 895]] * 16, [
        [0.5, 0.5], [0.5, 0.5], [1.5, 0.5], [15.5, 15.5], [1, 1], [1, 1], [3, 1], [15, 15],
    ])  # fmt: skip


def test_blazeface_decodes_and_averages() -> None:
    def answer(tensor: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        logits = np.full((1, 896, 1), -50, np.float32)
        values = np.zeros((1, 896, 16), np.float32)
        logits[0, [600, 601]] = 3
        values[0, 600] = [10, 10, 40, 40, 2, 2, 18, 2, 10, 10, 10, 16, 0, 0, 20, 0]
        values[0, 601] = values[0, 600] + [4, 0, 0, 0, *([4, 0] * 6)]
        return {"classificators": logits, "regressors": values}

    session = FakeSession(["regressors", "classificators"], answer, (1, 128, 128, 3))
    contract = InputContract("NHWC", "RGB", (128, 128), mean=(127.5,) * 3, std=(127.5,) * 3)
    (found,) = open_detector("blazeface", session, contract).detect(blank_frame(128, 128))
    x, y = anchor_centres()[600] * 128
    np.testing.assert_allclose(found.box_px, (x + 12 - 20 - 0.5, y + 10 - 20 - 0.5, 40, 40), atol=1e-3)
    assert found.landmarks_px is not None
    np.testing.assert_allclose(found.landmarks_px[0], (x + 4 - 0.5, y + 2 - 0.5), atol=1e-3)
    assert found.confidence == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-5)


def test_mouth_corners_follow_the_line_of_the_eyes() -> None:
    points = five_landmarks(np.array([[[0, 0], [0, 10], [5, 5], [-8, 5]]], np.float32))[0]
    np.testing.assert_allclose(points[3:], [[-8, 5 - 4.14], [-8, 5 + 4.14]], atol=1e-5)


def test_rfb_decodes_against_its_priors() -> None:
    priors = priors_px()
    assert priors.shape == (4420, 3)

    def answer(tensor: NDArray[Any]) -> Mapping[str, NDArray[Any]]:
        scores = np.tile(np.array([1, 0], np.float32), (1, 4420, 1))
        scores[0, 4000] = [0.05, 0.95]
        boxes = np.zeros((1, 4420, 4), np.float32)
        boxes[0, 4000] = [1, -1, np.log(2) / 0.2, 0]
        return {"scores": scores, "boxes": boxes}

    contract = InputContract("NCHW", "RGB", (240, 320), mean=(127.0,) * 3, std=(128.0,) * 3)
    (found,) = open_detector("rfb320", FakeSession(["scores", "boxes"], answer), contract).detect(blank_frame(320, 240))
    x, y, side = priors[4000]
    expected = (x + 0.1 * side - side - 0.5, y - 0.1 * side - side / 2 - 0.5, 2 * side, side)
    np.testing.assert_allclose(found.box_px, expected, atol=1e-3)
    assert found.landmarks_px is None


@pytest.mark.parametrize(("score", "faces"), [(0.9, 1), (0.1, 0)])
def test_points_reads_at_most_one_face(score: float, faces: int) -> None:
    points = np.array([[[30, 40], [60, 40], [45, 60], [33, 75], [57, 75]]], np.float32)
    answer = {"score": np.array([score], np.float32), "landmarks": points}
    found = open_detector("points", FakeSession(["score", "landmarks"], lambda _: answer), YUNET).detect(blank_frame(100, 120))
    assert len(found) == faces
    if faces:
        np.testing.assert_allclose(found[0].landmarks_px, points[0])
        left, top, width, height = found[0].box_px
        assert left < 30
        assert top < 40
        assert left + width > 60
        assert top + height > 75
