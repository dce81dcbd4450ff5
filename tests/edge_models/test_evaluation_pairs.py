"""Which pictures are compared: files of pairs in LFW's formats, drawn pairs, all pairs, folders of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from facekeep_models.evaluation import comparisons as comparisons_module
from facekeep_models.evaluation.comparisons import Comparisons, Pair, compare_all, compare_listed
from facekeep_models.evaluation.errors import CODES, EvaluationError
from facekeep_models.evaluation.pairing import draw_pairs, in_folds, parse_pairs, spread_out
from facekeep_models.evaluation.pictures import NOBODY, Picture, pictures_of_directory, pictures_of_pairs, some_of

VIEW_1 = b"2\nAnn_Lee\t1\t2\nBo\t3\t1\nAnn_Lee\t1\tBo\t2\nBo\t1\tCy_Dee\t4\n"
VIEW_2 = b"2\t1\nAnn\t1\t2\nAnn\t1\tBo\t2\nCy\t1\t2\nCy\t2\tDi\t1\n"


def refused(data: bytes) -> str:
    with pytest.raises(EvaluationError) as caught:
        parse_pairs(data)
    assert caught.value.code == "evaluation.malformed_pairs"
    return str(caught.value)


# Files of pairs


def test_view_1() -> None:
    listed = parse_pairs(VIEW_1)
    assert (listed.sets, listed.has_sets, [pair.is_mated for pair in listed.pairs]) == (1, False, [True, True, False, False])
    last = listed.pairs[-1]
    assert (last.reference.person, last.reference.number, last.probe.person, last.probe.number) == ("Bo", 1, "Cy_Dee", 4)
    assert (last.fold, last.line) == (0, 5)
    assert parse_pairs(VIEW_1.replace(b"\n", b"\r\n")) == listed
    assert parse_pairs(VIEW_1 + b"\n\n") == listed


def test_view_2() -> None:
    listed = parse_pairs(VIEW_2)
    assert (listed.sets, listed.has_sets) == (2, True)
    assert [(pair.is_mated, pair.fold) for pair in listed.pairs] == [(True, 0), (False, 0), (True, 1), (False, 1)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "Line 1"),
        (b"\n", "Line 1"),
        (b"two\nA\t1\t2\n", "Line 1"),
        (b"1\t2\t3\n", "Line 1"),
        (b"0\n", "Line 1"),
        (b"0\t5\n", "Line 1"),
        (b"-1\n", "Line 1"),
        (b"9999999\n", "no more than"),
        (b"\xb2\n", "Line 1 is not text"),
        (VIEW_1.replace(b"Cy_Dee", b"Cy\xff"), "Line 5 is not text"),
        (VIEW_1[: VIEW_1.rindex(b"Bo")], "the file ends here"),
        (VIEW_1 + b"Bo\t1\tAnn_Lee\t1\n", "the file ends here"),
        (VIEW_1.replace(b"2\n", b"3\n", 1), "the file ends here"),
        (VIEW_1.replace(b"Bo\t3\t1", b"Bo\t3\tAnn_Lee\t1"), "Line 3"),
        (VIEW_1.replace(b"Ann_Lee\t1\tBo\t2", b"Ann_Lee\t1\t2"), "Line 4"),
        (VIEW_1.replace(b"Ann_Lee\t1\t2", b"Ann_Lee 1 2"), "Line 2"),
        (VIEW_1.replace(b"Bo\t3\t1", b""), "Line 3"),
        (VIEW_1.replace(b"Bo\t3\t1", b"Bo\t0\t1"), "whole number from 1"),
        (VIEW_1.replace(b"Bo\t3\t1", b"Bo\t3.0\t1"), "whole number from 1"),
        (VIEW_1.replace(b"Bo\t3\t1", "Bo\t٣\t1".encode()), "whole number from 1"),
        (VIEW_1.replace(b"Bo\t3\t1", b"Bo\t3\t3"), "with itself"),
        (VIEW_1.replace(b"Ann_Lee\t1\tBo\t2", b"Bo\t1\tBo\t2"), "two people"),
        (VIEW_1.replace(b"Bo\t3\t1", b"../Bo\t3\t1"), "without slashes"),
        (VIEW_1.replace(b"Bo\t3\t1", b"..\t3\t1"), "leading dots"),
        (VIEW_1.replace(b"Bo\t3\t1", b" Bo\t3\t1"), "spaces"),
        (VIEW_1.replace(b"Bo\t3\t1", b"\t3\t1"), "a name is"),
        (VIEW_1.replace(b"Bo\t3\t1", b"B\x00\t3\t1"), "a name is"),
    ],
)
def test_malformed_files(data: bytes, says: str) -> None:
    message = refused(data)
    assert says in message
    # Names of people are not repeated.
    assert "Ann_Lee" not in message
    assert "Cy_Dee" not in message


@given(st.binary(max_size=80) | st.lists(st.sampled_from([b"1", b"2", b"A", b"\t", b"\n", b"."]), max_size=40).map(b"".join))
def test_any_bytes_parse_or_are_refused_by_code(data: bytes) -> None:
    try:
        listed = parse_pairs(data)
    except EvaluationError as error:
        listed, code = None, error.code
    if listed is None:
        assert code == "evaluation.malformed_pairs"
    else:
        assert sum(pair.is_mated for pair in listed.pairs) * 2 == len(listed.pairs)


def test_an_error_has_a_code_of_the_list() -> None:
    with pytest.raises(ValueError, match="not a code"):
        EvaluationError("evaluation.sneezed", "")
    page = (Path(__file__).parents[2] / "docs" / "models" / "evaluation.md").read_text()
    for code, meaning in CODES.items():
        assert f"| `{code}` | {meaning} |" in page


@pytest.mark.shared
def test_the_file_of_lfw_parses(shared_dir: Path) -> None:
    data = (shared_dir / "data/lfw-devtrain/pairsDevTrain.txt").read_bytes()
    listed = parse_pairs(data)
    assert [sum(pair.is_mated is kind for pair in listed.pairs) for kind in (True, False)] == [1100, 1100]


# Choosing among pairs


def test_fewer_pairs_are_spread_over_the_file() -> None:
    pairs = [Pair(index, index + 100, True) for index in range(100)] + [Pair(index, index + 1, False) for index in range(3)]
    kept = spread_out(pairs, 4)
    assert [pair.reference for pair in kept] == [0, 25, 50, 75, 0, 1, 2]


def test_pairs_are_dealt_out_in_turn() -> None:
    pairs = [Pair(0, 1, True)] * 5 + [Pair(0, 2, False)] * 4
    assert [pair.fold for pair in in_folds(pairs, 3)] == [0, 1, 2, 0, 1, 0, 1, 2, 0]


@given(st.lists(st.integers(0, 9), min_size=20, max_size=60), st.integers(1, 6), st.integers(0, 5))
@settings(max_examples=50)
def test_drawn_pairs_are_what_they_say(people: list[int], count: int, seed: int) -> None:
    owners = np.array(people)
    try:
        pairs = draw_pairs(owners, count, seed)
    except EvaluationError:
        sizes = np.bincount(owners)
        assert min(np.sum(sizes * (sizes - 1) // 2), len(owners)) < 3 * count or len(set(people)) == 1
        return
    assert pairs == draw_pairs(owners, count, seed)
    assert sum(pair.is_mated for pair in pairs) == count == sum(not pair.is_mated for pair in pairs)
    assert len({(pair.reference, pair.probe) for pair in pairs}) == 2 * count
    for pair in pairs:
        assert (owners[pair.reference] == owners[pair.probe]) is np.bool_(pair.is_mated)
        assert pair.reference < pair.probe


def test_pairs_that_cannot_be_drawn() -> None:
    with pytest.raises(EvaluationError, match="cannot be drawn"):
        draw_pairs(np.arange(10), 1, 0)
    with pytest.raises(EvaluationError, match="cannot be drawn"):
        draw_pairs(np.zeros(10, dtype=int), 1, 0)


# Comparing


def vectors_of(random: np.random.Generator, count: int, missing: float = 0.0) -> NDArray[np.float32]:
    vectors = random.normal(size=(count, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[random.random(count) < missing] = np.nan
    return vectors


def as_sets(found: Comparisons) -> tuple[list[tuple[float, int]], list[tuple[float, int, int]]]:
    mated = [(round(float(score), 5), int(who)) for score, who in zip(found.mated, found.mated_people, strict=True)]
    other = [
        (round(float(score), 5), int(a), int(b)) for score, (a, b) in zip(found.non_mated, found.non_mated_people, strict=True)
    ]
    return sorted(mated), sorted(other)


@pytest.mark.parametrize("both", [False, True], ids=["one model", "two models"])
@pytest.mark.parametrize("seed", range(4))
def test_all_pairs_against_two_loops(seed: int, both: bool) -> None:
    random = np.random.default_rng(seed)
    people = np.sort(random.integers(0, 12, 30))
    references = vectors_of(random, 30, 0.1)
    probes = vectors_of(random, 30, 0.1) if both else references
    found = compare_all(references, probes, people)
    mated, other, missed = [], [], {True: 0, False: 0}
    for one in range(30):
        for two in range(30) if both else range(one + 1, 30):
            if one == two:
                continue
            same = bool(people[one] == people[two])
            # A picture that one of two models cannot embed takes part on neither side.
            if not np.isfinite([references[[one, two]], probes[[one, two]]]).all():
                missed[same] += 1
            elif same:
                mated.append((round(float(references[one] @ probes[two]), 5), int(people[one])))
            else:
                other.append((round(float(references[one] @ probes[two]), 5), int(people[one]), int(people[two])))
    ours = as_sets(found)
    assert [who for _, who in ours[0]] == pytest.approx([who for _, who in sorted(mated)])
    assert np.allclose([score for score, _ in ours[0]], [score for score, _ in sorted(mated)], atol=2e-5)
    assert np.allclose([row[0] for row in ours[1]], [row[0] for row in sorted(other)], atol=2e-5)
    assert sorted(row[1:] for row in ours[1]) == sorted(row[1:] for row in other)
    assert (found.not_made_mated, found.not_made_non_mated) == (missed[True], missed[False])


def test_one_picture_each_for_the_non_mated() -> None:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(5), 3)
    vectors = vectors_of(random, 15)
    vectors[0] = np.nan
    found = compare_all(vectors, vectors, people, one_each=True)
    assert (len(found.mated), len(found.non_mated)) == (1 + 4 * 3, 10)
    # The first usable picture stands for its person.
    assert np.any(np.isclose(found.non_mated, vectors[1] @ vectors[3], atol=1e-6))


def test_failures_to_acquire_are_no_false_non_matches() -> None:
    """A model that misses half of the faces and is perfect on the rest has an FNMR of nought and an FTA of one half."""
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(10), 4)
    vectors = np.repeat(np.eye(10, dtype=np.float32), 4, axis=0)
    pairs = [Pair(index, index + 1, True) for index in range(0, 40, 2)] + [
        Pair(index, (index + 9) % 40, False) for index in range(40)
    ]
    whole = compare_listed(vectors, vectors, people, pairs)
    assert (len(whole.mated), len(whole.non_mated), whole.not_made_mated, whole.not_made_non_mated) == (20, 40, 0, 0)
    vectors[random.permutation(40)[:20]] = np.nan
    half = compare_listed(vectors, vectors, people, pairs)
    assert len(half.mated) + half.not_made_mated == 20
    assert len(half.non_mated) + half.not_made_non_mated == 40
    assert half.not_made_mated > 5
    assert (half.mated.min(), half.non_mated.max()) == (1.0, 0.0)


def test_comparisons_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, people = vectors_of(np.random.default_rng(0), 6), np.array([0, 0, 1, 1, 2, 2])
    with pytest.raises(EvaluationError, match="different_spaces"):
        compare_all(vectors, vectors[:, :5], people)
    with pytest.raises(EvaluationError, match="different_spaces"):
        compare_listed(vectors, vectors[:, :5], people, [Pair(0, 1, True)])
    with pytest.raises(EvaluationError, match="too_few_comparisons"):
        compare_all(vectors[:2], vectors[:2], people[:2])
    with pytest.raises(EvaluationError, match="too_few_comparisons"):
        compare_listed(vectors, vectors, people, [Pair(0, 1, True)])
    with pytest.raises(ValueError, match="mated exactly"):
        compare_listed(vectors, vectors, people, [Pair(0, 2, True)])
    monkeypatch.setattr(comparisons_module, "MOST_COMPARISONS", 10)
    with pytest.raises(EvaluationError, match="too_many_comparisons"):
        compare_all(vectors, vectors, people)


def test_a_repr_shows_no_score() -> None:
    vectors = vectors_of(np.random.default_rng(0), 6)
    found = compare_all(vectors, vectors, np.array([0, 0, 1, 1, 2, 2]))
    assert repr(found) == "Comparisons(mated=3, non_mated=12, people=3)"


# Folders


def folders(root: Path, names: dict[str, list[int]]) -> Path:
    for name, numbers in names.items():
        (root / name).mkdir(parents=True)
        for number in numbers:
            (root / name / f"{name}_{number:04d}.jpg").write_bytes(f"{name} {number}".encode())
    return root


def test_pictures_of_listed_pairs(tmp_path: Path) -> None:
    root = folders(tmp_path / "lfw", {"Ann_Lee": [1, 2], "Bo": [1, 2, 3], "Cy_Dee": [4]})
    pictures, pairs = pictures_of_pairs(root, parse_pairs(VIEW_1).pairs)
    assert len(pictures) == 6  # each once
    assert len({picture.person for picture in pictures}) == 3
    assert [(pair.reference, pair.probe, pair.is_mated) for pair in pairs][:2] == [(0, 1, True), (2, 3, True)]
    (root / "Bo" / "Bo_0003.jpg").rename(root / "Bo" / "Bo_0003.png")
    assert len(pictures_of_pairs(root, parse_pairs(VIEW_1).pairs)[0]) == 6
    (root / "Bo" / "Bo_0003.png").unlink()
    with pytest.raises(EvaluationError) as caught:
        pictures_of_pairs(root, parse_pairs(VIEW_1).pairs)
    assert caught.value.code == "evaluation.missing_picture"
    assert "Line 3" in str(caught.value)
    assert "Bo" not in str(caught.value)


@pytest.mark.parametrize("kind", ["absent", "file", "empty", "flat"])
def test_directories_without_people(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "people"
    if kind == "file":
        path.write_bytes(b"")
    elif kind != "absent":
        path.mkdir()
        (path / ".hidden").mkdir()
    if kind == "flat":
        (path / "a.jpg").write_bytes(b"1")
    with pytest.raises(EvaluationError, match="no_pictures"):
        pictures_of_directory(path)
    if kind in {"absent", "file"}:
        with pytest.raises(EvaluationError, match="no_pictures"):
            pictures_of_pairs(path, parse_pairs(VIEW_1).pairs)


def test_some_people_and_some_pictures_of_each() -> None:
    owners = [0, 0, 0, 1, NOBODY, 2, 3, 3]
    pictures = [Picture(str(index), owner, lambda: None) for index, owner in enumerate(owners)]  # type: ignore[arg-type,return-value]
    kept = some_of(pictures, most_of_each=2, people=2)
    assert [(picture.name, picture.person) for picture in kept] == [("0", 0), ("1", 0), ("5", 1)]
    everyone = some_of(pictures, most_of_each=9, people=None)
    assert [picture.person for picture in everyone] == [0, 0, 0, 1, 2, 3, 3]
