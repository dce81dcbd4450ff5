"""The demo on synthetic people: the album, its portraits, and end to end with the models that ship."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facekeep.assembly import PREFERRED_DETECTORS, PREFERRED_EMBEDDERS, ModelChoice
from facekeep.biometric import Frame
from facekeep.capture import as_frame
from facekeep.clock import SystemClock
from facekeep.demo import DemoReport, Limits, portraits, run_demo
from facekeep.demo.album import Album, Picture, Role
from facekeep.demo.material import Asked, gather
from facekeep.demo.portraits import PORTRAITS, altered, find_portrait, portrait_people
from facekeep.demo.report import figures_of
from facekeep.demo.room import FRAME_PX, Place, empty_room, side_by_side, standing
from facekeep.demo.synthetic import CAST, synthetic_album
from facekeep.errors import ModelError
from facekeep.flows.context import Settings
from facekeep.packs import LoadPolicy, PackStore
from facekeep_models.people import screened_people
from tests.sdk.demo_setting import page_of, stand_ins_only, with_ours

CLOCK = SystemClock()
MOST_PIXELS = 50_000_000


def read(path: Path) -> Frame:
    return as_frame(path, CLOCK, max_pixels=MOST_PIXELS)


@pytest.fixture
def no_portraits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portraits, "PORTRAITS", ())


@pytest.fixture
def album(no_portraits: None) -> Album:
    return synthetic_album(CLOCK, read, LoadPolicy())


def pictures(album: Album) -> dict[str, Picture]:
    named = [*(picture for person in album.people for picture in person.pictures), *album.others]
    return {picture.name: picture for picture in named}


def luma(pixels: NDArray[np.uint8]) -> float:
    return float(pixels.mean())


# The album


def test_the_cast_is_screened_and_has_a_part_for_everybody() -> None:
    assert all(member.index < screened_people() for member in CAST)
    assert len({member.index for member in CAST}) == len({member.name for member in CAST}) == len(CAST)
    assert {member.role for member in CAST} == set(Role) - {Role.STRANGER}


def test_an_album_says_what_it_is(album: Album) -> None:
    assert album.kind == "synthetic"
    assert album.origin == "5 synthetic people in front of a synthetic camera"
    assert album.portraits == ()
    found = pictures(album)
    assert len(found) == sum(len(person.pictures) for person in album.people) + len(album.others)
    assert {picture.faces for picture in album.others} == {0, 2}


def test_frames_are_those_of_a_webcam_and_the_same_each_time(album: Album) -> None:
    again = pictures(synthetic_album(CLOCK, read, LoadPolicy()))
    for name in ("Alex, at the door", "Jo, with a mask", "Kim, far from the camera", "Alex and Jo together", "empty room"):
        frame = pictures(album)[name].load().pixels
        assert frame.shape == (*FRAME_PX, 3)
        assert frame.dtype == np.uint8
        assert np.array_equal(frame, again[name].load().pixels)
        assert np.array_equal(frame, pictures(album)[name].load().pixels)


def test_what_is_special_about_a_picture_shows(album: Album) -> None:
    frames = {name: picture.load().pixels for name, picture in pictures(album).items() if name.startswith(("Alex", "Jo"))}
    assert frames["Alex, head cut off"].shape[0] < FRAME_PX[0] * 0.75
    assert luma(frames["Alex, almost dark"]) < 0.4 * luma(frames["Alex, at the door"])
    sharp, soft = (np.abs(np.diff(frames[name].astype(float), axis=1)).mean() for name in ("Jo, at the door", "Jo, out of focus"))
    assert soft < sharp
    # The mask covers the lower face only: the upper third of the frame is as it was.
    masked, plain = frames["Jo, with a mask"].astype(int), frames["Jo, in the evening"].astype(int)
    assert np.abs(masked - plain)[180:300, 280:400].mean() > 10


def test_the_album_respects_the_policy() -> None:
    for policy, words in ((LoadPolicy(commercial_only=True), "commercial"), (LoadPolicy(consented_only=True), "--people drawn")):
        with pytest.raises(ModelError, match=words) as caught:
            synthetic_album(CLOCK, read, policy)
        assert caught.value.code == "model.not_permitted"


# The room


def test_somebody_stands_where_told() -> None:
    square = np.zeros((256, 256, 3), np.uint8)
    square[100:140, 110:146] = 255
    place = Place(200, 1.5)
    frame = standing(square, place)
    corners = place.in_frame(np.array([(110, 100), (145, 139)], np.float32), 256)
    (left, top), (right, bottom) = corners.round().astype(int)
    assert frame[top + 4 : bottom - 4, left + 4 : right - 4].min() > 240
    assert frame[top:bottom, right + 6 : right + 20].max() < 20
    # Far from the person there is nothing but room.
    assert np.allclose(frame[:100, -60:] / empty_room()[:100, -60:], (frame / empty_room())[0, -1], atol=0.02)


def test_two_stand_side_by_side() -> None:
    left, right = np.full((*FRAME_PX, 3), 50, np.float32), np.full((*FRAME_PX, 3), 200, np.float32)
    both = side_by_side(left, right)
    assert both[0, 0, 0] == 50
    assert both[0, -1, 0] == 200
    assert np.all(np.diff(both[0, :, 0]) >= 0)


# Portraits


def put(root: Path, data: bytes) -> ModuleSpec:
    path = root.joinpath(*PORTRAITS[0].path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    spec = ModuleSpec(PORTRAITS[0].package, None, is_package=True)
    spec.submodule_search_locations = [str(root)]
    return spec


@pytest.mark.parametrize("kind", ["absent", "another file", "no file", "damaged package"])
def test_a_portrait_that_is_not_the_known_file_is_no_portrait(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = put(tmp_path / "package", b"somebody else") if kind == "another file" else None
    if kind == "no file":
        spec = put(tmp_path / "package", b"")
        tmp_path.joinpath("package", *PORTRAITS[0].path).unlink()

    def find(name: str) -> ModuleSpec | None:
        if kind == "damaged package":
            raise ValueError(name)
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert find_portrait(PORTRAITS[0]) is None
    assert portrait_people(read) == ()


def test_portraits_are_strangers_with_two_pictures() -> None:
    found = portrait_people(read)
    if not found:
        pytest.skip("neither matplotlib nor scikit-image is installed here: they bring the portraits along")
    for person in found:
        assert person.role is Role.STRANGER
        plain, other = (picture.load() for picture in person.pictures)
        assert "altered by the demo" in person.pictures[1].name
        assert plain.pixels.shape == other.pixels.shape
        assert luma(other.pixels) < luma(plain.pixels)


def test_a_portrait_is_altered_by_mirror_and_shade() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
    assert np.array_equal(altered(altered(pixels)[:, ::-1])[:, ::-1], altered(altered(pixels)))
    assert altered(pixels)[0, 0, 0] == round(90 * 0.55)


# Which people are shown


def shown(store: PackStore, policy: LoadPolicy | None = None, **asked: Any) -> tuple[Album, ModelChoice]:
    """Return what a demo would show that is asked for this."""
    models = ModelChoice(asked.pop("detector", None), asked.pop("embedder", None), ())
    return gather(
        Asked(None, asked.pop("people", None), models),
        store=store,
        policy=policy or LoadPolicy(),
        settings=Settings(),
        limits=Limits(),
        clock=CLOCK,
    )


def test_without_models_of_real_faces_figures_are_drawn(tmp_path: Path) -> None:
    bare = PackStore(tmp_path / "packs", catalogue=[stand_ins_only(tmp_path)])
    album, choice = shown(bare)
    assert album.kind == "drawn"
    assert choice.detector == "drawn-detector/onnx"
    with pytest.raises(ModelError) as caught:
        run_demo(out=tmp_path / "out", people="synthetic", packs=bare)
    assert caught.value.code == "model.not_installed"
    assert not (tmp_path / "out").exists()


def test_with_models_of_real_faces_people_are_synthetic(tmp_path: Path) -> None:
    store = PackStore(tmp_path / "packs", catalogue=[with_ours(tmp_path)])
    album, choice = shown(store)
    assert album.kind == "synthetic"
    assert (choice.detector, choice.embedder) == ("facekeep-detector/onnx", "facekeep-embedder/onnx")
    assert shown(store, people="drawn")[0].kind == "drawn"
    assert shown(store, detector="drawn-detector")[0].kind == "drawn"


def test_synthetic_people_are_not_shown_to_stand_ins(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="knows drawn figures only") as caught:
        shown(PackStore(tmp_path), people="synthetic", detector="drawn-detector", embedder="drawn-embedder")
    assert caught.value.code == "model.wrong_task"


def test_a_policy_against_synthetic_people_leaves_drawn_figures_and_says_why(tmp_path: Path) -> None:
    store = PackStore(tmp_path / "packs", catalogue=[with_ours(tmp_path)])
    album, _ = shown(store, LoadPolicy(consented_only=True))
    assert album.kind == "drawn"
    assert "not learnt on documented consent" in album.remarks[-1]
    with pytest.raises(ModelError, match="commercial use") as caught:
        shown(store, LoadPolicy(commercial_only=True))
    assert caught.value.code == "model.not_permitted"


def test_photographs_and_people_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not both"):
        run_demo(out=tmp_path / "out", photos=tmp_path, people="drawn")


# End to end


def require_a_good_demo(report: DemoReport) -> None:
    """What any models of real faces have to show on these people: every promise kept, everybody enrolled, few errors."""
    record = report.record
    assert report.is_kept, report.render_text()
    assert record.kind == "synthetic"
    assert record.enrolled == ("Alex", "Jo", "Kim", "Robin")
    assert record.declined == ("Sam",)
    figures = figures_of(record)
    for right, of in (figures.mated, figures.non_mated, figures.mated_searches, figures.non_mated_searches, figures.counted):
        assert right >= 0.8 * of > 0, report.render_text()
    outcomes = {record.snapshots[each.picture].name: each.code for each in record.comparisons if each.is_match is None}
    assert outcomes["Alex, head cut off"].startswith("acquisition.")
    assert outcomes["Jo, out of focus"].startswith("acquisition.")
    searches = {record.snapshots[each.picture].name: each.outcome for each in record.searches}
    assert searches["Alex and Jo together"] == "acquisition.several_faces"
    assert searches["empty room"] == "acquisition.no_face"
    page = page_of(report)
    assert "Alex, Jo, Kim, Robin and Sam do not exist" in page.text
    assert "These are drawings" not in page.text
    assert "holds your pictures" not in page.text
    for stranger in record.strangers:
        assert stranger in page.text
        assert stranger not in {grant.subject for grant in record.grants}


@pytest.mark.slow
def test_the_demo_of_a_fresh_machine(tmp_path: Path) -> None:
    packs = PackStore(tmp_path / "packs")
    report = run_demo(out=tmp_path / "out", packs=packs)
    assert report.record.models.detector.startswith(f"{PREFERRED_DETECTORS[-1]}/")
    assert report.record.models.embedder.startswith(f"{PREFERRED_EMBEDDERS[-1]}/")
    require_a_good_demo(report)


@pytest.mark.shared
@pytest.mark.slow
def test_the_demo_with_larger_packs(shared_dir: Path, tmp_path: Path) -> None:
    packs = PackStore(tmp_path / "packs")
    packs.import_file(shared_dir / "models" / "detectors" / "yunet_s_dynamic.onnx")
    packs.import_file(shared_dir / "models" / "embedders" / "face_reid_retail_0095.onnx")
    report = run_demo(out=tmp_path / "out", packs=packs)
    assert report.record.models.embedder.startswith("reid-retail-0095/")
    require_a_good_demo(report)
