"""What ships: every manifest valid, true to its sources, and careful with what it permits."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

from facekeep.calibration import operating_point_for
from facekeep.detection import DEFAULT_CONFIDENCE
from facekeep.errors import ModelError
from facekeep.packs import LoadPolicy, Manifest, PackStore, manifest_to_bytes
from facekeep.pad import MiniFASDetector
from facekeep_models.catalogue import MANIFESTS, WEIGHTS

STORE = PackStore("/nonexistent/facekeep-test-store")
ALL = STORE.manifests()
SIMULATION = {"drawn-detector", "drawn-embedder"}
# Trained by the project itself; their weights ship.
OWN = {"facekeep-detector", "facekeep-embedder"}
# Files of ../shared/models that no pack uses.
UNUSED = {"models/other/landmarks_regression_retail_0009.onnx", "models/other/mediapipe_face_landmark.tflite"}


def by_id(manifest: Manifest) -> str:
    return manifest.id


def test_every_pack_is_there() -> None:
    assert {manifest.id for manifest in ALL} == SIMULATION | OWN | {
        "yunet-s",
        "yunet-n",
        "rfb-320",
        "blazeface-short-range",
        "reid-retail-0095",
        "mobilefacenet-foamliu",
        "sface",
        "minifas-v2",
        "minifas-celebaspoof",
    }


@pytest.mark.parametrize("manifest", ALL, ids=by_id)
def test_manifests_are_written_as_the_tools_write_them(manifest: Manifest) -> None:
    assert (MANIFESTS / f"{manifest.id}.json").read_bytes() == manifest_to_bytes(manifest)


@pytest.mark.parametrize("manifest", ALL, ids=by_id)
def test_what_a_manifest_owes(manifest: Manifest) -> None:
    assert manifest.training_data.consented == (manifest.id in SIMULATION)
    assert manifest.is_simulation == (manifest.id in SIMULATION)
    assert manifest.licence.weights in {"Apache-2.0", "MIT"}
    assert manifest.licence.source.startswith("https://")
    for build in manifest.builds:
        for file in build.files:
            # A build that can be had nowhere says so.
            assert file.url is not None or build.note
    if manifest.task == "detection":
        assert manifest.family in DEFAULT_CONFIDENCE


def test_policies_on_what_ships() -> None:
    commercial = {one.id for one in ALL if _passes(LoadPolicy(commercial_only=True), one)}
    assert commercial == {
        "yunet-s",
        "yunet-n",
        "rfb-320",
        "blazeface-short-range",
        "reid-retail-0095",
        "sface",
        "minifas-v2",
    }
    # Trained on data that is for research only, whatever licence the weights were given.
    assert not commercial & ({"mobilefacenet-foamliu", "minifas-celebaspoof"} | OWN)
    assert {one.id for one in ALL if _passes(LoadPolicy(consented_only=True), one)} == SIMULATION


def _passes(policy: LoadPolicy, manifest: Manifest) -> bool:
    try:
        policy.require(manifest)
    except ModelError:
        return False
    return True


@pytest.mark.parametrize(
    ("pack", "build"),
    [
        ("reid-retail-0095", "onnx-fp32"),
        ("reid-retail-0095", "onnx-int8"),
        ("reid-retail-0095", "openvino-fp16"),
        ("mobilefacenet-foamliu", "onnx-fp32"),
        ("drawn-embedder", "onnx"),
    ],
)
def test_operating_points(pack: str, build: str) -> None:
    points = STORE.manifest(pack).build(build).operating_points
    assert [one.fmr for one in points] == [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    assert [one.threshold for one in points] == sorted(one.threshold for one in points)
    assert [one.fnmr for one in points] == sorted(one.fnmr for one in points)
    for one in points:
        assert one.fmr_interval[0] <= one.fmr
        assert one.fnmr_interval[0] <= one.fnmr <= one.fnmr_interval[1]
        assert "detector" in one.dataset
    assert operating_point_for(points, 1e-3).fmr == 1e-3


def test_a_threshold_belongs_to_its_build() -> None:
    pack = STORE.manifest("reid-retail-0095")
    fp32, int8 = (operating_point_for(pack.build(name).operating_points, 1e-3) for name in ("onnx-fp32", "onnx-int8"))
    assert int8.threshold - fp32.threshold > 0.1


def test_minifas_options_are_what_its_detector_takes() -> None:
    for pack in ("minifas-v2", "minifas-celebaspoof"):
        options = dict(STORE.manifest(pack).options)
        assert set(options) == {"accept_at", "reject_at", "recipe"}
        assert 0 < float(options["reject_at"]) < float(options["accept_at"]) < 1
        assert options["recipe"] in {"minivision", "celebaspoof"}
    assert MiniFASDetector.__doc__ is not None
    assert STORE.manifest("minifas-v2").output.classes.index("bona_fide") == 1
    assert STORE.manifest("minifas-celebaspoof").output.classes.index("bona_fide") == 0


def test_the_weights_that_ship_are_ours_and_whole() -> None:
    shipped = {str(path.relative_to(WEIGHTS)) for path in WEIGHTS.rglob("*") if path.is_file()}
    assert shipped == {
        "drawn-detector/onnx/drawn_detector.onnx",
        "drawn-embedder/onnx/drawn_embedder.onnx",
        "facekeep-detector/onnx-fp32/facekeep_detector.onnx",
        "facekeep-detector/onnx-fp32/facekeep_landmarks.onnx",
        "facekeep-embedder/litert-int8/facekeep_embedder_int8.tflite",
        "facekeep-embedder/onnx-fp32/facekeep_embedder.onnx",
        "facekeep-embedder/onnx-fp32/facekeep_embedder.patch.json",
        "facekeep-embedder/onnx-int8/facekeep_embedder_int8.onnx",
        "facekeep-embedder/onnx-int8/facekeep_embedder_int8.patch.json",
        "people/people.json",
        "people/people.npz",
    }
    assert {(check.pack_id, check.state) for check in STORE.verify()} == {(pack, "ok") for pack in SIMULATION | OWN}
    assert sum((WEIGHTS / name).stat().st_size for name in shipped) <= 10_000_000


@pytest.mark.shared
def test_manifests_agree_with_their_sources(shared_dir: Path) -> None:
    with (shared_dir / "SOURCES.tsv").open(encoding="utf-8") as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream, delimiter="\t") if row["file"].startswith("models/")}
    with (shared_dir / "UPSTREAM_PINS.tsv").open(encoding="utf-8") as stream:
        pins = {row["sha256"]: row for row in csv.DictReader(stream, delimiter="\t")}
    by_hash = {row["sha256"]: row for row in rows.values()}
    used: set[str] = set()
    for manifest in ALL:
        for build in manifest.builds if manifest.id not in SIMULATION | OWN else ():
            for file in build.files:
                row = by_hash.get(file.sha256)
                if row is None:
                    pin = pins[file.sha256]
                    assert (file.name, file.size_bytes) == (pin["file"], int(pin["bytes"]))
                    continue
                used.add(row["file"])
                assert file.size_bytes == int(row["bytes"])
                assert row["licence_as_stated"].startswith(manifest.licence.weights)
                if file.url is None:
                    assert row["path"].startswith("DERIVED")
                elif file.url.startswith("https://raw.githubusercontent.com/"):
                    assert file.url.endswith(f"/{row['repo']}/{row['commit']}/{row['path']}")
                if row["repo"] in manifest.source.repository:
                    assert manifest.source.commit == row["commit"]
    assert used == set(rows) - UNUSED


@pytest.mark.shared
def test_every_shared_weight_imports(shared_dir: Path, tmp_path: Path) -> None:
    store = PackStore(tmp_path)
    complete: set[str] = set()
    for path in sorted((shared_dir / "models").rglob("*.*")):
        if f"models/{path.parent.name}/{path.name}" not in UNUSED:
            complete |= set(store.import_file(path).complete)
    expected = {f"{one.id}/{build.id}" for one in ALL if one.id not in {"sface"} | SIMULATION | OWN for build in one.builds}
    assert complete == expected
    assert {check.state for check in store.verify()} == {"ok"}


@pytest.mark.shared
def test_the_pulled_name_of_a_file_need_not_be_that_of_the_copy(shared_dir: Path) -> None:
    copy = (shared_dir / "models/embedders/face-reidentification-retail-0095_fp16.bin").read_bytes()
    file = STORE.manifest("reid-retail-0095").build("openvino-fp16").files[1]
    assert hashlib.sha256(copy).hexdigest() == file.sha256
    assert file.name == "face-reidentification-retail-0095.bin"
