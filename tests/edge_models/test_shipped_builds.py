"""The builds of the embedder that ship: one network, three files, nearly the same answers. Needs no PyTorch."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.biometric import Detection, Frame
from facekeep.calibration import operating_point_for
from facekeep.embedding import CosineEmbedder
from facekeep.packs import PackStore
from facekeep.runtime import open_session
from facekeep_models.catalogue import WEIGHTS
from facekeep_models.people import draw_person, synthetic_person

PACK = "facekeep-embedder"
BUILDS = ("onnx-fp32", "onnx-int8", "litert-fp32", "litert-int8")
SHIPPED = {"onnx-fp32", "onnx-int8", "litert-int8"}
STORE = PackStore("/nonexistent/facekeep-test-store")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def crops() -> list[NDArray[np.uint8]]:
    """Two crops each of twelve people who do not exist."""
    pictures = [draw_person(synthetic_person(index), number) for index in range(12) for number in range(2)]
    return [align(Frame(one.pixels, NOW), Detection((0.0, 0.0, 256.0, 256.0), one.landmarks_px, 1.0)) for one in pictures]


@pytest.fixture(scope="module")
def answers(crops: list[NDArray[np.uint8]]) -> dict[str, NDArray[np.float32]]:
    manifest = STORE.manifest(PACK)
    found = {}
    for build in STORE.installed(PACK):
        if build.runtime == "litert":
            pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra litert)")
        session = open_session(build.runtime, STORE.read_files(PACK, build.id))
        found[build.id] = CosineEmbedder(session, manifest.input_of(build), 256).embed_batch(crops)
    return found


def test_what_ships_is_small() -> None:
    assert tuple(build.id for build in STORE.manifest(PACK).builds) == BUILDS
    assert {build.id for build in STORE.installed(PACK)} == SHIPPED
    for build in STORE.manifest(PACK).builds:
        assert sum(file.size_bytes for file in build.files) <= (2_600_000 if build.precision == "int8" else 3_600_000)
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) <= 10_000_000


@pytest.mark.parametrize(("build", "least", "mean"), [("onnx-int8", 0.95, 0.99), ("litert-int8", 0.95, 0.99)])
def test_builds_answer_alike(answers: dict[str, NDArray[np.float32]], build: str, least: float, mean: float) -> None:
    cosines = (answers[build] * answers["onnx-fp32"]).sum(axis=1)
    assert cosines.min() >= least
    assert cosines.mean() >= mean


def test_two_pictures_of_one_person_are_nearer_than_of_two(answers: dict[str, NDArray[np.float32]]) -> None:
    people = np.arange(24) // 2
    for vectors in answers.values():
        scores = vectors @ vectors.T
        same = people[:, None] == people[None, :]
        mated, other = scores[same & ~np.eye(24, dtype=bool)], scores[~same]
        assert np.median(mated) > np.quantile(other, 0.95)


@pytest.mark.parametrize("build", BUILDS)
def test_every_build_has_its_thresholds(build: str) -> None:
    points = STORE.manifest(PACK).build(build).operating_points
    assert [point.fmr for point in points] == [1e-2, 1e-3, 1e-4]
    assert [point.threshold for point in points] == sorted(point.threshold for point in points)
    assert all("held out of training" in point.dataset and point.non_mated > 300_000 for point in points)
    assert operating_point_for(points, 1e-3).fmr == 1e-3
