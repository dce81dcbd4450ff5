"""The whole way: pictures on a disk, models, cache, report, plot, and the command line."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facekeep.packs import PackStore
from facekeep_models import cli
from facekeep_models.evaluation import embedding, plotting
from facekeep_models.evaluation import evaluate as evaluate_module
from facekeep_models.evaluation.embedding import Embedded, EmbeddingCache
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.evaluate import Request, evaluate
from facekeep_models.evaluation.pictures import Picture
from facekeep_models.evaluation.progress import ShownProgress
from facekeep_models.people import draw_person, synthetic_person
from facekeep_models.simulation import DrawnPerson, draw_frame

PEOPLE, EACH = 12, 3


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn people, one folder each, and one picture without a face."""
    root = tmp_path_factory.mktemp("people")
    for seed in range(PEOPLE):
        (root / f"Person_{seed}").mkdir()
        for variation in range(EACH):
            pixels = draw_frame(DrawnPerson(seed), variation, (240, 320)).pixels
            Image.fromarray(pixels).save(root / f"Person_{seed}" / f"Person_{seed}_{variation + 1:04d}.png")
    Image.fromarray(np.full((240, 320, 3), 90, np.uint8)).save(root / "Person_3" / "Person_3_0002.png")
    return root


def view_1(path: Path, people: range = range(PEOPLE)) -> Path:
    names = [f"Person_{number}" for number in people]
    mated = [f"{name}\t1\t2" for name in names]
    other = [f"{one}\t1\t{two}\t3" for one, two in zip(names, names[1:] + names[:1], strict=True)]
    path.write_text("\n".join([str(len(names)), *mated, *other]) + "\n")
    return path


@pytest.fixture
def run(
    tmp_path: Path, people: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run `facekeep-models evaluate` and return exit code, output and error output."""

    def run_it(*more: str, images: Path | None = people, pack: str = "drawn-embedder") -> tuple[int, str, str]:
        paths = ["--images", str(images), "--packs", str(tmp_path / "packs"), "--cache", str(tmp_path / "cache")]
        monkeypatch.setattr(sys, "argv", ["facekeep-models", "evaluate", "--pack", pack, *paths, "--resamples", "50", *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run_it


Run = Callable[..., tuple[int, str, str]]


def test_all_pairs(run: Run, tmp_path: Path) -> None:
    code, out, err = run("--json", "--target-fmr", "0.1", "--target-fmr", "1e-5", "--threshold", "0.5")
    value = json.loads(out)
    assert (code, value["version"], value["embedder"], value["detector"]) == (0, 1, "drawn-embedder/onnx", "drawn-detector/onnx")
    # One picture of the 36 shows nobody: a failure to acquire, of nobody's enrolment, and of no comparison.
    assert value["fta"] | {"interval_exact": None} == {
        "rate": 1 / 36,
        "errors": 1,
        "trials": 36,
        "interval_exact": None,
        "by_code": {"acquisition.no_face": 1},
    }
    assert value["fte"]["errors"] == 0
    assert value["comparisons"] == {"mated": 34, "non_mated": 35 * 34 // 2 - 34, "not_made_mated": 2, "not_made_non_mated": 33}
    assert value["unsupported_fmr"] == [1e-5]
    assert value["accuracy"] is None
    assert value["eer"]["rate"] < 0.1
    origins = [(point["origin"], point["target_fmr"]) for point in value["points"]]
    assert origins[0] == ("target", 0.1)
    assert origins[1:-1] == [("manifest", rate) for rate in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)]
    assert origins[-1] == ("asked", None)
    for point in value["points"]:
        assert point["tar"] == pytest.approx(1 - point["fnmr"]["rate"])
        assert point["single_attempt"]["frr"] == pytest.approx(1 / 36 + 35 / 36 * point["fnmr"]["rate"])
        assert point["single_attempt"]["far"] == pytest.approx(35 / 36 * point["fmr"]["rate"])
    assert "36 of 36 pictures" in err
    assert not (tmp_path / "cache").exists()  # gone with the embeddings in it
    assert "Person_" not in out + err


def test_listed_pairs_as_text(run: Run, tmp_path: Path) -> None:
    pairs = view_1(tmp_path / "pairs.txt")
    code, out, _ = run("--pairs", str(pairs), "--folds", "4", "--target-fmr", "0.5", "--name", "drawn")
    assert code == 0
    assert "drawn: 12 people, 36 pictures; pairs of pairs.txt (format of LFW View 1)" in out
    assert "11 mated and 12 non-mated comparisons; 1 and 0 not made for want of a face" in out
    assert "over 4 sets dealt out" in out
    assert "FTA 2.778 % (1 of 36 pictures, acquisition.no_face 1)" in out


def test_view_1_with_the_threshold_of_other_pairs_and_view_2(run: Run, tmp_path: Path) -> None:
    test, train = view_1(tmp_path / "test.txt", range(6, 12)), view_1(tmp_path / "train.txt", range(6))
    value = json.loads(run("--pairs", str(test), "--threshold-pairs", str(train), "--folds", "0", "--json")[1])
    assert value["accuracy"]["folds"] is None
    assert value["accuracy"]["threshold_from_other_pairs"]["accuracy"] >= 0.8
    assert value["comparisons"]["mated"] == 6  # those of the other file are not among them
    first, second = (path.read_text().splitlines()[1:] for path in (train, test))
    (tmp_path / "view2.txt").write_text("\n".join(["2\t6", *first, *second]) + "\n")
    value = json.loads(run("--pairs", str(tmp_path / "view2.txt"), "--json")[1])
    assert value["accuracy"]["folds"]["sets"] == "file"
    assert len(value["accuracy"]["folds"]["accuracies"]) == 2
    assert "LFW View 2, 2 sets" in value["protocol"]


def test_drawn_pairs_and_limits(run: Run) -> None:
    first = json.loads(run("--draw", "20", "--seed", "5", "--json")[1])
    assert first == json.loads(run("--draw", "20", "--seed", "5", "--json")[1])
    made = first["comparisons"]
    assert made["mated"] + made["not_made_mated"] == 20 == made["non_mated"] + made["not_made_non_mated"]
    value = json.loads(run("--limit", "5", "--most-pictures", "2", "--one-each", "--json")[1])
    assert value["fta"]["trials"] == 10
    assert value["comparisons"]["non_mated"] == 10


def test_references_and_probes_of_two_packs(run: Run) -> None:
    """The same pack on both sides is the simplest pair of models of one space."""
    value = json.loads(run("--probe-pack", "drawn-embedder/onnx", "--json")[1])
    assert (value["probe_embedder"], value["cross_model"]) == ("drawn-embedder/onnx", False)
    # Either direction counts, and no threshold was measured between two builds.
    assert value["comparisons"]["mated"] == 68
    assert {point["origin"] for point in value["points"]} == {"target"}
    plain = json.loads(run("--json")[1])
    assert value["eer"]["rate"] == pytest.approx(plain["eer"]["rate"])


# What can go wrong


def test_models_of_different_lengths_are_refused_before_anything_is_embedded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    load = evaluate_module.load_models

    def longer(*arguments: object, **named: object) -> object:
        models = load(*arguments, **named)  # type: ignore[arg-type]
        lengths.append(models.embedder.dimension)
        return replace(models, embedder=Longer()) if len(lengths) == 2 else models

    class Longer:
        dimension = 999

    lengths: list[int] = []
    monkeypatch.setattr(evaluate_module, "load_models", longer)
    code, out, err = run("--probe-pack", "drawn-embedder", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (14, "evaluation.different_spaces")
    assert "pictures" not in err


@pytest.mark.parametrize(
    ("more", "code", "exit_code"),
    [
        (["--draw", "5", "--pairs", "x"], "evaluation.invalid_request", 14),
        (["--threshold-pairs", "x"], "evaluation.invalid_request", 14),
        (["--one-each", "--draw", "5"], "evaluation.invalid_request", 14),
        (["--target-fmr", "1.5"], "evaluation.invalid_request", 14),
        (["--threshold", "2"], "evaluation.invalid_request", 14),
        (["--pairs", "/nonexistent/pairs.txt"], "evaluation.io", 14),
        (["--pairs", os.devnull], "evaluation.malformed_pairs", 14),
        (["--limit", "1"], "evaluation.too_few_comparisons", 14),
        (["--draw", "500"], "evaluation.too_few_comparisons", 14),
        (["--commercial-only"], "model.not_permitted", 9),
        (["--detector", "yunet-s"], "model.not_installed", 9),
        (["--probe-pack", "nobody"], "model.unknown_pack", 9),
    ],
)
def test_errors_by_code(run: Run, more: list[str], code: str, exit_code: int) -> None:
    found, out, _ = run("--json", *more)
    assert (found, json.loads(out)["error"]["code"]) == (exit_code, code)
    found, out, err = run(*more)
    assert (found, out) == (exit_code, "")
    assert f"{code}: " in err


def test_a_fresh_machine_evaluates_what_ships_with_the_detector_that_ships(run: Run, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / "real" / str(number)).mkdir(parents=True)
        for picture in range(2):
            pixels = draw_person(synthetic_person(number), picture).pixels
            Image.fromarray(pixels).save(tmp_path / "real" / str(number) / f"{picture}.png")
    code, out, err = run("--json", images=tmp_path / "real", pack="facekeep-embedder/onnx-int8")
    assert code == 0
    assert json.loads(out)["detector"] == "facekeep-detector/onnx-fp32"
    assert "facekeep models pull yunet-s" in err
    # A policy that rules both out names the one whose reason helps.
    code, out, _ = run("--json", "--consented-only", images=tmp_path / "real", pack="facekeep-embedder/onnx-int8")
    assert (code, json.loads(out)["error"]["code"]) == (9, "model.not_permitted")


def test_usage_errors_and_directories(run: Run, tmp_path: Path) -> None:
    assert run("--limit", "0")[0] == 2
    assert run("--what")[0] == 2
    assert run(images=tmp_path / "absent")[0] == 14
    assert run(pack="reid-retail-0095")[0] == 9


def test_a_cache_is_private_and_outside_repositories(tmp_path: Path, run: Run) -> None:
    EmbeddingCache(tmp_path / "deep" / "cache")
    assert stat.S_IMODE((tmp_path / "deep" / "cache").stat().st_mode) == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(EvaluationError, match="Others may use"):
        EmbeddingCache(tmp_path / "open")
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "repository")
    for path in ("repository/cache", "link/cache"):
        with pytest.raises(EvaluationError, match="git repository"):
            EmbeddingCache(tmp_path / path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EvaluationError, match="refused_cache"):
        EmbeddingCache(tmp_path / "file" / "cache")
    code, _, err = run("--cache", str(Path(__file__).parent / "cache"))
    assert (code, "evaluation.refused_cache" in err) == (14, True)


def test_an_interrupted_run_goes_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run("--json")[1]
    embed, calls = embedding._embed, 0

    def interrupted(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 11:
            raise KeyboardInterrupt
        return embed(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(embedding, "_embed", interrupted)
    code, out, err = run("--json")
    assert (code, out) == (130, "")
    assert "goes on from here" in err
    (file,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    code, out, err = run("--json", "--keep-cache")
    assert (code, out) == (0, whole)
    assert "going on at picture 10" in err
    assert "biometric data" in err
    assert file.exists()
    assert "going on at picture 36" in run("--json")[2]
    assert not file.exists()


def test_a_damaged_or_foreign_cache_counts_as_none(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache")
    pictures = [Picture("a", 0, lambda: None)]  # type: ignore[arg-type,return-value]
    path = cache.path_for("c" * 64, pictures)
    assert cache.path_for("c" * 64, [Picture("a", 0, pictures[0].load, "other content")]) != path
    assert cache.path_for("d" * 64, pictures) != path
    found = Embedded(np.ones((2, 4), np.float32), ("", "acquisition.no_face"))
    cache.write(path, found)
    assert cache.read(path, 4).failures == found.failures
    assert np.array_equal(cache.read(path, 4).vectors, found.vectors)
    assert cache.read(path, 5).failures == ()
    whole = path.read_bytes()
    for damaged in (b"", whole[:-30], b"PK\x03\x04" + whole[4:40], whole[:200] + b"\0" * 60 + whole[260:]):
        path.write_bytes(damaged)
        assert cache.read(path, 4).failures in ((), found.failures)
    for foreign in (
        {"done": np.array(1), "vectors": found.vectors},
        {"version": np.array(3), "vectors": found.vectors, "failures": found.failures},
    ):
        np.savez(path, **foreign)
        assert cache.read(path, 4).failures == ()
    with path.open("wb") as stream:
        np.save(stream, found.vectors)  # no archive at all
    assert cache.read(path, 4).failures == ()
    (tmp_path / "cache" / "of another run.npz").write_bytes(b"")
    cache.delete()
    assert [one.name for one in (tmp_path / "cache").iterdir()] == ["of another run.npz"]


# Showing


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_and_elsewhere() -> None:
    for stream in (Terminal(), io.StringIO()):
        seconds = iter(range(0, 1000, 4))
        shown = ShownProgress(stream, clock=lambda seconds=seconds: float(next(seconds)))  # type: ignore[misc]
        for done in range(11):
            shown(done, 10, "pictures")
        shown.say("a line")
        text = stream.getvalue()
        if stream.isatty():
            assert "\r[################................] 5 of 10 pictures, 0.2 a second, 20 s to go" in text
            assert text.count("\n") == 2
        else:
            # Every ten seconds a line, and one at the end.
            assert text.splitlines() == [
                "3 of 10 pictures, 0.2 a second, 28 s to go",
                "6 of 10 pictures, 0.2 a second, 16 s to go",
                "9 of 10 pictures, 0.2 a second, 4 s to go",
                "10 of 10 pictures",
                "a line",
            ]


def test_a_plot(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plot.png"
    code, out, _ = run("--plot", str(path), "--json", "--target-fmr", "0.1")
    assert (code, json.loads(out)["plot"], json.loads(out)["plot_skipped"]) == (0, str(path), None)
    with Image.open(path) as picture:
        assert picture.width > 1000
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    code, out, _ = run("--plot", str(tmp_path / "absent" / "plot.png"), "--json")
    assert (code, json.loads(out)["error"]["code"]) == (14, "evaluation.io")


def test_without_matplotlib_nothing_is_drawn_and_it_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = plotting.importlib.import_module

    def absent(name: str) -> object:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return find(name)

    monkeypatch.setattr(plotting.importlib, "import_module", absent)
    code, out, err = run("--plot", str(tmp_path / "plot.png"), "--json")
    assert (code, json.loads(out)["plot"]) == (0, None)
    assert "facekeep[eval]" in err
    assert "facekeep[eval]" in json.loads(out)["plot_skipped"]
    assert not (tmp_path / "plot.png").exists()


def test_flow_numbers_stand_in_the_code() -> None:
    source = Path(evaluate_module.__file__).read_text()
    for number in range(1, 6):
        assert source.count(f"    {number} ") == 1
        assert f"    # {number} " in source


@pytest.mark.shared
def test_reid_on_lfw(shared_dir: Path, tmp_path: Path) -> None:
    store = PackStore(tmp_path / "packs")
    for name in ("detectors/yunet_s_dynamic.onnx", "embedders/face_reid_retail_0095.onnx"):
        store.import_file(shared_dir / "models" / name)
    data = shared_dir / "data/lfw-devtrain"
    request = Request(
        images=data / "images", embedder="reid-retail-0095/onnx-fp32", pairs=data / "pairsDevTrain.txt", limit=150, resamples=100
    )
    shown = ShownProgress(io.StringIO())
    found, comparisons = evaluate(request, store, EmbeddingCache(tmp_path / "cache"), progress=shown, say=shown.say)
    assert (len(comparisons.mated), len(comparisons.non_mated), found.acquisition.failed) == (150, 150, 0)
    assert found.accuracy is not None
    assert found.accuracy.folds is not None
    assert found.accuracy.best.accuracy >= 0.99
    assert found.accuracy.folds.mean >= 0.985
    assert found.eer.rate <= 0.015
