"""The measuring of operating points, on people who do not exist."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from facekeep.packs import PackStore, parse_manifest
from facekeep_models.catalogue import MANIFESTS
from facekeep_models.evaluation import operating_points
from facekeep_models.evaluation.operating_points import Picture, main, measure, pictures_of_directory
from facekeep_models.simulation import DrawnPerson, draw_frame


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "drawn-embedder.json"
    path.write_bytes((MANIFESTS / path.name).read_bytes())
    return path


def arguments(tmp_path: Path, manifest: Path, *more: str) -> list[str]:
    pack = ["--pack", "drawn-embedder", "--build", "onnx", "--manifest", str(manifest)]
    return [*pack, "--packs", str(tmp_path / "store"), "--cache", str(tmp_path / "cache"), *more]


def test_measure_write_and_go_on(tmp_path: Path, manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(tmp_path, manifest, "--drawn", "60", "--targets", "0.02", "0.05", "0.0001"))
    points = parse_manifest(manifest.read_bytes()).builds[0].operating_points
    # 60 people make 1,770 pairs: nothing can be said of 1e-4.
    assert [one.fmr for one in points] == [0.05, 0.02]
    assert (points[0].non_mated, points[0].mated) == (1770, 180)
    assert "drawn people: 60 people, 180 pictures, 0 without a face; detector drawn-detector/onnx" in points[0].dataset
    assert "180 of 180 pictures" in capsys.readouterr().out
    main(arguments(tmp_path, manifest, "--drawn", "60", "--targets", "0.02", "0.05"))
    assert "going on at picture 180" in capsys.readouterr().out
    assert parse_manifest(manifest.read_bytes()).builds[0].operating_points == points


def test_the_shipped_points_are_those_of_the_recipe(tmp_path: Path, manifest: Path) -> None:
    """A twentieth of the drawings that made them: the loosest threshold agrees within what that many can tell."""
    shipped = PackStore(tmp_path).manifest("drawn-embedder").builds[0].operating_points
    main(arguments(tmp_path, manifest, "--drawn", "150", "--targets", "0.01"))
    measured = parse_manifest(manifest.read_bytes()).builds[0].operating_points
    assert measured[0].threshold == pytest.approx(shipped[0].threshold, abs=0.04)


def test_a_dry_run_writes_nothing(tmp_path: Path, manifest: Path) -> None:
    before = manifest.read_bytes()
    main(arguments(tmp_path, manifest, "--drawn", "30", "--targets", "0.02", "--dry-run"))
    assert manifest.read_bytes() == before


def test_names_that_give_away_their_error(tmp_path: Path) -> None:
    for name, data in [("Nan_Wang", b"1"), ("Wang_Nan", b"2"), ("Other_One", b"1"), ("Some-One", b"3"), ("Some-One/x.txt", b"")]:
        if name.endswith(".txt"):
            (tmp_path / name).write_bytes(data)
            continue
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(data)
    pictures = pictures_of_directory(tmp_path)
    assert [(one.name, one.person) for one in pictures] == [
        ("Nan_Wang/a.jpg", 0),
        ("Other_One/a.jpg", -1),
        ("Some-One/a.jpg", 2),
        ("Wang_Nan/a.jpg", 0),
    ]


def test_pictures_without_a_face_and_long_series() -> None:
    random = np.random.default_rng(0)
    owners = [0] * 30 + list(range(1, 60)) + [-1]
    vectors = random.normal(size=(len(owners), 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[3] = np.nan
    vectors[40] = np.nan

    def never() -> None:
        raise AssertionError

    pictures = [Picture(str(index), owner, never) for index, owner in enumerate(owners)]  # type: ignore[arg-type]
    (point,) = measure(vectors, pictures, (0.05,), "made up")
    # One of 60 people was never found, and ten pictures of one person make 45 pairs.
    assert (point.non_mated, point.mated) == (59 * 58 // 2, 45)


def test_pictures_of_a_directory_are_read(tmp_path: Path, manifest: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for seed in range(12):
        (tmp_path / "people" / f"person{seed}").mkdir(parents=True)
        for variation in range(2):
            pixels = draw_frame(DrawnPerson(seed), variation, (240, 320)).pixels
            image.fromarray(pixels).save(tmp_path / "people" / f"person{seed}" / f"{variation}.png")
    more = ("--images", str(tmp_path / "people"), "--detector", "drawn-detector/onnx", "--targets", "0.1")
    main(arguments(tmp_path, manifest, *more))
    (point,) = json.loads(manifest.read_bytes())["builds"][0]["operating_points"]
    assert (point["mated"], point["non_mated"]) == (12, 66)
    assert operating_points.TARGETS[0] == 1e-2
