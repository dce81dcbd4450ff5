"""The recipe of the synthetic people, run small on pictures of people who do not exist."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facekeep.biometric import Detection, Frame
from facekeep_models.people import Variation, draw_person, read_model, shipped_model, synthetic_person, unsafe_unscreened_person
from facekeep_models.people.facts import read_facts
from facekeep_models.training.people import FACTS_FILE, MODEL_FILE, Stages, make
from facekeep_models.training.people_bases import halved, principal
from facekeep_models.training.people_fit import factors, moments
from facekeep_models.training.people_learning import SMOKE
from facekeep_models.training.people_screen import linear_guess, nearest_of_others
from facekeep_models.training.people_textures import fit_shapes, without_bars

PEOPLE, EACH, SIDE_PX = 12, 3, 150


class Truth:
    """Detector, mesher and embedder that were told: they know every stand-in picture, and take others for the plain pose."""

    dimension = 64

    def __init__(self) -> None:
        self.landmarks: dict[bytes, NDArray[np.float32]] = {}
        self.meshes: dict[bytes, NDArray[np.float32]] = {}
        self.plain = draw_person(unsafe_unscreened_person(0), 0, Variation.none()).landmarks_px
        self.calls = 0

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        found = self.landmarks.get(frame.pixels.tobytes())
        if found is None:
            found = self.plain
        return (Detection((40.0, 40.0, 60.0, 60.0), found, 0.9),)

    def find(self, pixels: NDArray[np.uint8], landmarks_px: NDArray[np.float32]) -> NDArray[np.float32] | None:
        return self.meshes[pixels.tobytes()]

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls += 1
        cells = crop.reshape(8, 14, 8, 14, 3).mean(axis=(1, 3, 4)).ravel()
        cells -= cells.mean()
        return (cells / np.linalg.norm(cells)).astype(np.float32)

    def embed_batch(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.stack([self.embed(crop) for crop in crops])


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    pillow = pytest.importorskip("PIL.Image")
    images, truth = tmp_path_factory.mktemp("images"), Truth()
    depth = shipped_model().mean_shape[:, 2:] * SIDE_PX / 160
    for person in range(PEOPLE):
        home = images / f"Nobody_{person:02}"
        home.mkdir()
        for number in range(EACH):
            picture = draw_person(unsafe_unscreened_person(person), number, side_px=SIDE_PX)
            pillow.fromarray(picture.pixels).save(home / f"{number}.png")
            truth.landmarks[picture.pixels.tobytes()] = picture.landmarks_px
            truth.meshes[picture.pixels.tobytes()] = np.concatenate((picture.mesh_px, depth), axis=1).astype(np.float32)
    return images, truth


@pytest.fixture(scope="module")
def made(stand_ins: tuple[Path, Truth], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    out, cache = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("cache")
    return out, cache, run(stand_ins, out, cache)


def run(stand_ins: tuple[Path, Truth], out: Path, cache: Path) -> list[str]:
    images, truth = stand_ins
    said: list[str] = []
    make(images, out, Stages(truth, truth, truth), cache, said.append, counts=SMOKE, threshold=0.98)
    return said


def test_the_recipe_makes_a_model_that_draws(made: tuple[Path, Path, list[str]]) -> None:
    out, _, said = made
    assert [line[0] for line in said] == sorted(line[0] for line in said)
    model, facts = read_model(out / MODEL_FILE), read_facts(out / FACTS_FILE)
    assert facts.consented is False
    assert facts.screen["candidates_ranked"] == SMOKE.candidates
    assert len(model.coarse_even) == SMOKE.coarse[0]
    assert len(model.accepted) == facts.screen["people_accepted"]
    assert draw_person(unsafe_unscreened_person(1, model=model), 0, model=model).pixels.std() > 20
    for index in range(len(model.accepted)):
        assert draw_person(synthetic_person(index, model=model), 0, model=model).screened


def test_a_second_run_goes_on_from_the_cache_and_gives_the_same(
    stand_ins: tuple[Path, Truth], made: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    out, cache, _ = made
    before = stand_ins[1].calls
    said = run(stand_ins, tmp_path, cache)
    assert stand_ins[1].calls == before
    assert any("cache" in line for line in said)
    for name in (MODEL_FILE, FACTS_FILE):
        assert (out / name).read_bytes() == (tmp_path / name).read_bytes()


def test_nothing_of_one_picture_is_in_the_facts(made: tuple[Path, Path, list[str]]) -> None:
    text = (made[0] / FACTS_FILE).read_text()
    assert "Nobody" not in text
    assert set(json.loads(text)) == {
        "facts_version", "title", "trained_on", "consented", "permitted_uses", "must_not", "screen", "tone_degrees",
    }  # fmt: skip


def test_principal_directions_are_those_of_the_singular_values() -> None:
    random = np.random.default_rng(0)
    samples = (random.normal(size=(300, 40)) * np.linspace(6, 0.2, 40)).astype(np.float32)
    samples -= samples.mean(axis=0)
    found = principal(samples, np.ones(40, np.float32), 8, 1)
    exact = np.linalg.svd(samples, compute_uv=False)[:8] / np.sqrt(300)
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), exact, rtol=1e-2)
    np.testing.assert_allclose(found.coefficients.std(axis=0), 1.0, rtol=1e-2)


def test_halves_make_a_whole() -> None:
    values = np.random.default_rng(1).normal(size=(3, 6, 8)).astype(np.float32)
    even, odd = halved(values)
    np.testing.assert_allclose(np.concatenate((even + odd, (even - odd)[:, :, ::-1]), axis=2), values, atol=1e-6)


def test_both_covariances_are_found() -> None:
    random = np.random.default_rng(2)
    people = np.repeat(np.arange(3000), 4)
    between, within = np.array([2.0, 0.5, 1.0]), np.array([0.5, 1.5, 1.0])
    vectors = (random.normal(size=(3000, 3)) * between)[people] + random.normal(size=(12000, 3)) * within
    found = moments(vectors, people, np.zeros(3, bool))
    np.testing.assert_allclose(np.diag(found.within), within**2, rtol=0.08)
    # The mean of four pictures still carries a quarter of what pictures differ by; all pictures together carry it whole.
    np.testing.assert_allclose(np.diag(found.between), between**2, rtol=0.15, atol=0.15)
    factor, _ = factors(found)
    np.testing.assert_allclose(np.diag(factor @ factor.T), between**2, rtol=0.15, atol=0.3)


def test_shapes_lose_their_pose() -> None:
    from facekeep_models.people.geometry import rotation

    mean = shipped_model().mean_shape.astype(float)
    turns = [rotation(yaw, pitch, roll) for yaw, pitch, roll in ((20, 0, 0), (-20, 5, 10), (0, -10, -15), (0, 5, 5))]
    meshes = np.stack([(mean - mean.mean(axis=0)) @ turn.T * 0.7 + 60 for turn in turns]).astype(np.float32)
    shapes = fit_shapes(meshes)
    np.testing.assert_allclose(shapes.frontal, np.broadcast_to(shapes.frontal[0], shapes.frontal.shape), atol=0.05)
    np.testing.assert_allclose(shapes.mean, mean, atol=0.6)
    assert (shapes.mirror[shapes.mirror] == np.arange(468)).all()


def test_bars_are_cut_off() -> None:
    picture = np.full((100, 100, 3), 120, np.uint8)
    assert without_bars(picture)[0].shape == (100, 100, 3)
    picture[:10] = 0
    picture[:, 90:] = 0
    cut, left, top = without_bars(picture)
    assert (left, top) == (0, 11)
    assert cut.min() == 120
    assert without_bars(np.zeros((50, 50, 3), np.uint8))[0].shape == (50, 50, 3)


def test_a_linear_guess_learns_what_is_linear() -> None:
    random = np.random.default_rng(3)
    places, map_ = random.normal(size=(800, 5)), random.normal(size=(5, 7))
    vectors = places @ map_
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    guessed = linear_guess(places, vectors)(places[:50])
    assert (guessed * vectors[:50]).sum(axis=1).mean() > 0.97


def test_others_are_other_people() -> None:
    vectors = np.eye(3, dtype=np.float32)[[0, 0, 1]]
    np.testing.assert_allclose(nearest_of_others(vectors, np.array([0, 0, 1]), [0, 2]), [0.0, 0.0], atol=1e-6)
