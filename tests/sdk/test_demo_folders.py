"""The demo on folders of pictures with any name, its output directory, and what an interrupt leaves behind: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from facekeep.biometric import Frame
from facekeep.demo import Limits, run_demo
from facekeep.demo.album import Person, Picture, Role, cast_roles
from facekeep.demo.drawn import DETECTOR, EMBEDDER
from facekeep.demo.output import MARKER_NAME, OutputDirectory
from facekeep.demo.photos import read_album
from facekeep.demo.report import figures_of
from facekeep.demo.run import SCRATCH_PREFIX
from facekeep.errors import AcquisitionError, DemoError, ModelError
from facekeep.packs import PackStore
from tests.sdk.demo_setting import Page, page_of, run_on, save_drawings, stand_ins_only

HOSTILE = "<script>alert('x')<"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for temporary files, watched."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


# Folders of pictures


def test_a_folder_for_each_person_with_hostile_names(tmp_path: Path) -> None:
    names = {f"{HOSTILE}/\"onload='x'&{number}.png": ("Ada", number) for number in range(4)}
    names |= {f"bob/{number}.png": ("Ben", number) for number in range(3)}
    names |= {"carl/1.png": ("Cem", 0), "nobody.png": ("Eve", 0)}
    report = run_on(save_drawings(tmp_path / "album", names), tmp_path / "out")
    assert report.is_kept, report.render_text()
    figures = figures_of(report.record)
    assert figures.mated == (5, 5)
    text = report.page.read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text.lower()
    assert HOSTILE in page.text
    assert "carl was enrolled with the only picture there is" in page.text
    assert "This page holds your pictures" in page.text
    assert f"rm -r {tmp_path / 'out'}" in page.text
    assert "Nobody on the pictures was asked" in page.text


def test_a_flat_folder(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    names = {f"party_{number:03}_A.png": ("Ada", number) for number in range(3)}
    names |= {f"party_{number + 10:03}_B.png": ("Ben", number) for number in range(2)}
    album = save_drawings(tmp_path / "album", names | {"party_020_1.png": ("Cem", 1), "stray.png": ("Cem", 2)})
    image.new("RGB", (320, 240), "grey").save(album / "party_021_0.jpg")
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (album / "notes.txt").write_text("not a picture")
    report = run_on(album, tmp_path / "out")
    assert report.is_kept, report.render_text()
    assert figures_of(report.record).counted == (2, 2)
    outcomes = {report.record.snapshots[search.picture].name: search.outcome for search in report.record.searches}
    assert outcomes["stray.png"] == "unknown"
    assert outcomes["party_021_0.jpg"] == "acquisition.no_face"
    assert outcomes["broken.jpg"] == "acquisition.unreadable"
    assert "could not be read" in page_of(report).text


def test_one_person_alone(tmp_path: Path) -> None:
    report = run_on(save_drawings(tmp_path / "album", {"alice/1.png": ("Ada", 0)}), tmp_path / "out")
    assert report.is_kept, report.render_text()
    assert {search.outcome for search in report.record.searches} == {"consent.none"}
    assert "1 person enrolled" in report.render_text()
    assert "There was nothing to compare" in page_of(report).text


def test_a_refused_picture_is_shown_and_replaced_by_the_next(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    album = save_drawings(tmp_path / "album", {"alice/2.png": ("Ada", 0), "alice/3.png": ("Ada", 1)})
    image.new("RGB", (320, 240), "grey").save(album / "alice" / "1.png")
    report = run_on(album, tmp_path / "out")
    assert [attempt.code for attempt in report.record.enrolments] == ["acquisition.no_face", "ok"]
    assert "no template was made" in page_of(report).text


@pytest.mark.parametrize(
    ("name", "person", "faces"),
    [
        ("compreface_002_A.jpg", "A", None),
        ("compreface_000_5.jpg", None, 5),
        ("x_ALICE.png", "ALICE", None),
        ("ultralight_12.jpg", None, None),
        ("DSC_0007.jpg", None, None),
        ("trip_2023_05.jpg", None, None),
        ("trip_001_100.jpg", None, None),
        ("beach_sunset.jpg", None, None),
        ("trip_001_alice.jpg", None, None),
    ],
)
def test_what_a_file_name_says(tmp_path: Path, name: str, person: str | None, faces: int | None) -> None:
    (tmp_path / name).touch()
    (tmp_path / "z_Z.jpg").touch()
    album = read_album(tmp_path, _never_read, Limits())
    found = [*album.others, *(picture for each in album.people for picture in each.pictures)]
    assert [(picture.person, picture.faces) for picture in found if picture.name == name] == [(person, faces)]


def test_large_folders_are_cut_and_it_is_said(tmp_path: Path) -> None:
    for person in range(5):
        for number in range(4):
            path = tmp_path / f"person{person}" / f"{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    for number in range(4):
        (tmp_path / f"{number}.jpg").touch()
    album = read_album(tmp_path, _never_read, Limits(people=3, pictures=2, others=1))
    assert [len(person.pictures) for person in album.people] == [2, 2, 2]
    assert len(album.others) == 1
    assert len(album.remarks) == 3


def test_names_that_cannot_be_written_are_replaced(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/bad\xff name "
    os.mkdir(folder)  # noqa: PTH102 - pathlib takes no bytes
    open(folder + b"/a\xfe\n.jpg", "wb").close()  # noqa: PTH123
    album = read_album(tmp_path, _never_read, Limits())
    assert album.people[0].label == "person 1"
    assert album.people[0].pictures[0].name.isprintable()
    album.people[0].pictures[0].name.encode()
    assert album.remarks


def test_a_folder_that_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    with pytest.raises(DemoError, match="sub-folder per person") as caught:
        read_album(tmp_path, _never_read, Limits())
    assert caught.value.code == "demo.no_people"


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(AcquisitionError, match="not a folder"):
        run_on(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_photographs_need_real_models(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "x_A.jpg").touch()
    with pytest.raises(ModelError, match="facekeep models pull") as caught:
        run_demo(
            out=tmp_path / "out",
            photos=tmp_path / "album",
            packs=PackStore(tmp_path / "packs", catalogue=[stand_ins_only(tmp_path)]),
        )
    assert caught.value.code == "model.not_installed"
    assert not (tmp_path / "out").exists()
    assert not list(scratch.iterdir())


def test_photographs_are_not_shown_to_stand_ins(tmp_path: Path) -> None:
    album = save_drawings(tmp_path / "album", {"alice/1.png": ("Ada", 0)})
    for named in ({"detector": DETECTOR}, {"embedder": f"{EMBEDDER}/onnx"}, {"detector": DETECTOR, "embedder": EMBEDDER}):
        with pytest.raises(ModelError, match="knows drawn figures only") as caught:
            run_demo(out=tmp_path / "out", photos=album, **named)  # type: ignore[arg-type]
        assert caught.value.code == "model.wrong_task"
        assert not (tmp_path / "out").exists()


def test_a_person_who_cannot_be_enrolled_is_named_and_not_counted(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    names = {f"anna/{number}.png": ("Ada", number) for number in range(4)} | {f"ben/{n}.png": ("Ben", n) for n in range(3)}
    album = save_drawings(tmp_path / "album", names)
    (album / "carl").mkdir()
    image.new("RGB", (320, 240), "grey").save(album / "carl" / "1.png")
    told: list[tuple[int, int, str]] = []
    report = run_on(album, tmp_path / "out", progress=lambda *step: told.append(step))
    assert report.is_kept, report.render_text()
    assert report.record.not_enrolled == (("carl", "acquisition.no_face"),)
    assert figures_of(report.record).not_enrolled == (1, 3)
    assert "Not enrolled: 1 of 3 (carl: acquisition.no_face)." in report.render_text()
    text = page_of(report).text
    assert "1 of 3 people could not be enrolled and 1 picture was refused." in text
    assert "carl: no_face" in text
    assert "carl is enrolled" not in text
    assert "2 people with a template can be found" in text
    assert "Everything else in the album" not in text
    # Forwards, and to the end.
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert told[-2][:2] == (told[-1][1] - 1, told[-1][1])
    assert told[-1] == (told[-1][1], told[-1][1], "done")


def test_roles() -> None:
    def roles(*counts: int) -> list[Role]:
        pictures = [tuple(Picture("x", _no_frame) for _ in range(count)) for count in counts]
        return [person.role for person in cast_roles(tuple(Person(str(n), each) for n, each in enumerate(pictures)))]

    everything, verification, none = Role.EVERYTHING, Role.VERIFICATION_ONLY, Role.NOT_ENROLLED
    assert roles(1, 1) == [everything, everything]
    assert roles(4, 2, 1) == [everything, everything, verification]
    assert roles(4, 1, 3, 2, 5) == [everything, verification, everything, none, everything]


# The output directory


def test_a_foreign_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("somebody's work")
    with pytest.raises(DemoError, match="not made by a demo"):
        run_demo(out=tmp_path)
    assert (tmp_path / "index.html").read_text() == "somebody's work"
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]


@pytest.mark.parametrize("content", ["", "something else"])
def test_a_marker_of_somebody_elses_is_no_marker(tmp_path: Path, content: str) -> None:
    (tmp_path / MARKER_NAME).write_text(content)
    with pytest.raises(DemoError):
        OutputDirectory(tmp_path)


def test_a_file_or_a_missing_permission_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for where in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DemoError) as caught:
            OutputDirectory(where)
        assert caught.value.code == "demo.refused_directory"


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    first = OutputDirectory(tmp_path / "a" / "b")
    first.write("index.html", b"old")
    OutputDirectory(tmp_path / "a" / "b").write("index.html", b"new")
    assert (tmp_path / "a" / "b" / "index.html").read_bytes() == b"new"


def test_a_link_in_the_directory_is_replaced_not_followed(tmp_path: Path) -> None:
    output = OutputDirectory(tmp_path / "out")
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out" / "index.html").symlink_to(tmp_path / "precious")
    output.write("index.html", b"page")
    assert (tmp_path / "precious").read_text() == "precious"


# Interrupted


@pytest.mark.parametrize("step", [0, 1, 3, 8, 25])
def test_an_interrupt_leaves_nothing_behind(tmp_path: Path, scratch: Path, step: int) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if done >= step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_demo(out=tmp_path / "out", people="drawn", progress=interrupt)
    assert not list(scratch.iterdir())
    assert not (tmp_path / "out").exists()


def test_an_interrupt_keeps_the_page_of_an_earlier_demo(tmp_path: Path, scratch: Path) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    OutputDirectory(tmp_path / "out").write("index.html", b"earlier")
    with pytest.raises(KeyboardInterrupt):
        run_demo(out=tmp_path / "out", people="drawn", progress=interrupt)
    assert (tmp_path / "out" / "index.html").read_bytes() == b"earlier"


def test_ctrl_c_in_a_real_process(tmp_path: Path) -> None:
    # It waits where it is to be interrupted: on a busy machine it would be over before the signal is sent. And it listens: whoever
    # runs the tests in the background has its children ignore the signal.
    script = (
        "import signal, time; from pathlib import Path; from facekeep.demo import run_demo\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def progress(done, total, what):\n"
        "    print(what, flush=True)\n"
        "    time.sleep(60 if what.startswith('recognising') else 0)\n"
        f"run_demo(out=Path({str(tmp_path / 'out')!r}), people='drawn', progress=progress)"
    )
    (tmp_path / "scratch").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "scratch")}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"recognising"):
                break
        homes = list((tmp_path / "scratch").glob(f"{SCRATCH_PREFIX}*"))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert len(homes) == 1
    assert process.returncode != 0
    assert not homes[0].exists()
    assert not (tmp_path / "out").exists()


def _never_read(path: Path) -> Frame:
    raise AssertionError(f"{path} was read")


def _no_frame() -> Frame:
    raise AssertionError("read")
