"""Drawn people and the two models that know them."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from facekeep.alignment import TEMPLATE_PX as ALIGNMENT_TEMPLATE
from facekeep.alignment import align
from facekeep.assembly import LoadedModels, ModelChoice, load_models
from facekeep.biometric import Frame
from facekeep.calibration import operating_point_for
from facekeep.packs import LoadPolicy, PackStore
from facekeep.quality import assess
from facekeep_models.catalogue import WEIGHTS
from facekeep_models.simulation import DrawnPerson, draw_frame
from facekeep_models.simulation.palette import MARKER_REACH, MARKERS_RGB, TEMPLATE_PX

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHOICE = ModelChoice("drawn-detector/onnx", "drawn-embedder/onnx")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> LoadedModels:
    return load_models(PackStore(tmp_path_factory.mktemp("store")), CHOICE, policy=LoadPolicy())


def embedded(models: LoadedModels, pixels: np.ndarray) -> np.ndarray:
    frame = Frame(pixels, NOW)
    faces = models.detector.detect(frame)
    assert len(faces) == 1
    return models.embedder.embed(align(frame, faces[0]))


def test_a_drawing_is_the_same_for_the_same_seeds() -> None:
    first, again = draw_frame(DrawnPerson(5), 2), draw_frame(DrawnPerson(5), 2)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.pixels.shape == (480, 640, 3)
    assert not np.array_equal(first.pixels, draw_frame(DrawnPerson(5), 3).pixels)
    assert not np.array_equal(first.pixels, draw_frame(DrawnPerson(6), 2).pixels)
    with pytest.raises(ValueError, match="120"):
        draw_frame(DrawnPerson(1), 1, (100, 640))


def test_the_drawing_follows_the_template_of_alignment() -> None:
    np.testing.assert_array_equal(TEMPLATE_PX, ALIGNMENT_TEMPLATE)


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (240, 320), (1080, 1920), (131, 257)])
def test_landmarks_are_found_where_they_were_drawn(models: LoadedModels, size: tuple[int, int]) -> None:
    for seed in range(8):
        drawn = draw_frame(DrawnPerson(seed), seed, size)
        (face,) = models.detector.detect(Frame(drawn.pixels, NOW))
        assert face.landmarks_px is not None
        assert np.abs(face.landmarks_px - drawn.landmarks_px).max() < 0.5 * max(1.0, max(size) / 640)
        assert face.confidence > 0.9


def test_drawn_people_are_told_apart(models: LoadedModels) -> None:
    people, each = 200, 4
    vectors = np.stack(
        [embedded(models, draw_frame(DrawnPerson(p), v, (240, 320)).pixels) for p in range(people) for v in range(each)]
    )
    scores = vectors @ vectors.T
    owner = np.repeat(np.arange(people), each)
    upper = np.triu(np.ones_like(scores, dtype=bool), 1)
    mated = scores[(owner[:, None] == owner) & upper]
    non_mated = scores[(owner[:, None] != owner) & upper]
    # At some threshold both error rates are below 2 %, so the equal error rate is.
    assert min(max(np.mean(mated < t), np.mean(non_mated >= t)) for t in np.linspace(0, 1, 101)) < 0.02
    point = operating_point_for(models.operating_points, 1e-3)
    assert np.mean(non_mated >= point.threshold) < 3e-3
    assert np.mean(mated < point.threshold) == 0


def test_compression_does_not_hide_a_drawing(models: LoadedModels) -> None:
    image = pytest.importorskip("PIL.Image")
    found, scores = 0, []
    for seed in range(20):
        pixels = draw_frame(DrawnPerson(seed), 0).pixels
        stream = io.BytesIO()
        image.fromarray(pixels).save(stream, "JPEG", quality=75)
        read = np.asarray(image.open(stream))
        found += len(models.detector.detect(Frame(read, NOW)))
        scores.append(float(embedded(models, read) @ embedded(models, draw_frame(DrawnPerson(seed), 1).pixels)))
    assert found == 20
    assert min(scores) > 0.95


def test_what_is_no_single_drawing_is_not_found(models: LoadedModels) -> None:
    random = np.random.default_rng(0)
    one, two = (draw_frame(DrawnPerson(seed), 0, (240, 320)).pixels for seed in (1, 2))
    hidden = one.copy()
    x, y = np.rint(draw_frame(DrawnPerson(1), 0, (240, 320)).landmarks_px[3]).astype(int)
    hidden[y - 8 : y + 9, x - 8 : x + 9] = 120
    for pixels in (
        np.zeros((240, 320, 3), np.uint8),
        np.full((240, 320, 3), 255, np.uint8),
        random.integers(0, 256, (240, 320, 3)).astype(np.uint8),
        np.hstack([one, two]),
        hidden,
    ):
        assert models.detector.detect(Frame(pixels, NOW)) == ()


@pytest.mark.shared
def test_no_photograph_is_taken_for_a_drawing(models: LoadedModels, shared_dir: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    paths = sorted((shared_dir / "data/photos").glob("*.jpg"))
    assert len(paths) > 10
    for path in paths:
        with image.open(path) as picture:
            picture.thumbnail((640, 640))
            assert models.detector.detect(Frame(np.asarray(picture.convert("RGB")), NOW)) == ()


def test_the_recipe_makes_the_weights_that_ship(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from facekeep_models.simulation.export import write

    picture = draw_frame(DrawnPerson(3), 1, (240, 320)).pixels
    inputs = [picture, picture[64:176, 100:212]]
    for path, pixels in zip(write(tmp_path), inputs, strict=True):
        shipped = WEIGHTS / path.relative_to(tmp_path)
        tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]).astype(np.float32)
        results = []
        for model in (path, shipped):
            session = onnxruntime.InferenceSession(model.read_bytes(), providers=["CPUExecutionProvider"])
            results.append(session.run(None, {session.get_inputs()[0].name: tensor}))
        for made, found in zip(*results, strict=True):
            np.testing.assert_allclose(made, found, rtol=1e-5, atol=1e-5)
        # Another version of onnx may write the same graph in other bytes; the same one must not.
        assert path.stat().st_size == pytest.approx(shipped.stat().st_size, rel=0.01)


def test_nothing_that_is_drawn_looks_like_a_marker() -> None:
    """Away from the markers no pixel comes within their reach, however it is lit."""
    for seed in range(40):
        drawn = draw_frame(DrawnPerson(seed), seed, (240, 320))
        rows, columns = np.indices(drawn.pixels.shape[:2])
        away = np.ones(drawn.pixels.shape[:2], dtype=bool)
        for x, y in drawn.landmarks_px:
            away &= np.hypot(columns - x, rows - y) > 10
        distance = np.linalg.norm(drawn.pixels[away][:, None, :] - MARKERS_RGB[None], axis=2)
        assert distance.min() > MARKER_REACH


def test_drawn_people_pass_the_quality_floors(models: LoadedModels) -> None:
    for seed in range(20):
        for size in ((480, 640), (240, 320)):
            frame = Frame(draw_frame(DrawnPerson(seed), seed, size).pixels, NOW)
            (face,) = models.detector.detect(frame)
            assert assess(frame, face, align(frame, face)).is_admissible
