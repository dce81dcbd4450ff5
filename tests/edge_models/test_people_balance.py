"""How balanced the synthetic people look: the estimator's files and arithmetic, and the shares, on numbers worked out by hand."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")

from facekeep.biometric import Detection, Frame  # noqa: E402
from facekeep.errors import ModelError  # noqa: E402
from facekeep.packs.manifest import PackFile  # noqa: E402
from facekeep_models.evaluation.intervals import clopper_pearson  # noqa: E402
from facekeep_models.evaluation.pictures import Picture  # noqa: E402
from facekeep_models.people import draw_person, model_facts, screened_people, synthetic_person  # noqa: E402
from facekeep_models.training.people_balance import (  # noqa: E402
    balance_of,
    cheek_tone,
    main,
    screened_pictures,
    tone_of_look,
)
from facekeep_models.training.people_balance_shares import Balance, summary, table  # noqa: E402
from facekeep_models.training.people_estimator import Estimator, face_crop, padded, separable  # noqa: E402
from facekeep_models.training.people_estimator_files import (  # noqa: E402
    MANIFEST_FILE,
    PINNED,
    WEIGHTS_FILE,
    parse_weights,
    read_estimator,
)
from facekeep_models.training.people_fit import typology_angle  # noqa: E402

Arrays = dict[str, NDArray[np.float32]]
# Where package/model of @vladmandic/face-api 1.7.15 lies, for the tests with the real estimator.
REAL = os.environ.get("FACEKEEP_AGE_GENDER_MODEL", "")
PACKED = {"name": "a", "shape": [2, 2], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}}
PLAIN = {"name": "b", "shape": [2], "dtype": "float32"}
CONTENT = bytes([0, 1, 2, 255]) + np.array([0.25, -3.0], "<f4").tobytes()


def manifest_of(*entries: object) -> bytes:
    return json.dumps([{"weights": entries, "paths": [WEIGHTS_FILE]}]).encode()


def made_up(channels: int = 4) -> Arrays:
    """Weights of the same names, few channels, drawn by lot."""
    random, found = np.random.default_rng(5), Arrays()

    def put(name: str, *shape: int) -> None:
        found[name] = random.normal(0, 0.4, shape).astype(np.float32)

    def pair(name: str) -> None:
        put(f"{name}/depthwise_filter", 3, 3, channels, 1)
        put(f"{name}/pointwise_filter", 1, 1, channels, channels)
        put(f"{name}/bias", channels)

    put("entry_flow/conv_in/filters", 3, 3, 3, channels)
    put("entry_flow/conv_in/bias", channels)
    for block in ("entry_flow/reduction_block_0", "entry_flow/reduction_block_1", "exit_flow/reduction_block"):
        pair(f"{block}/separable_conv0")
        pair(f"{block}/separable_conv1")
        put(f"{block}/expansion_conv/filters", 1, 1, channels, channels)
        put(f"{block}/expansion_conv/bias", channels)
    for block in range(2):
        for step in range(3):
            pair(f"middle_flow/main_block_{block}/separable_conv{step}")
    pair("exit_flow/separable_conv")
    for head, width in (("age", 1), ("gender", 2)):
        put(f"fc/{head}/weights", channels, width)
        put(f"fc/{head}/bias", width)
    return found


def windows(x: NDArray[np.float64], kernel: int, stride: int, value: float = 0.0) -> NDArray[np.float64]:
    """Return (H', W', kernel, kernel, C): what each output of TensorFlow's "same" sees of (H, W, C), slowly."""
    sizes = [-(-length // stride) for length in x.shape[:2]]
    missing = [max((size - 1) * stride + kernel - length, 0) for size, length in zip(sizes, x.shape[:2], strict=True)]
    wide = np.pad(x, [(each // 2, each - each // 2) for each in missing] + [(0, 0)], constant_values=value)
    return np.stack(
        [
            [wide[y * stride : y * stride + kernel, x_ * stride : x_ * stride + kernel] for x_ in range(sizes[1])]
            for y in range(sizes[0])
        ]
    )


def slow_separable(w: Arrays, name: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    each = np.einsum("hwijc,ijc->hwc", windows(x, 3, 1), w[f"{name}/depthwise_filter"][..., 0])
    return np.asarray(each @ w[f"{name}/pointwise_filter"][0, 0] + w[f"{name}/bias"])


def slow(w: Arrays, crop: NDArray[np.uint8]) -> tuple[float, float]:
    """The whole network, written down a second time in NumPy."""

    def reduced(name: str, x: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
        inner = slow_separable(w, f"{name}/separable_conv0", first)
        inner = slow_separable(w, f"{name}/separable_conv1", np.maximum(inner, 0))
        around = x[::2, ::2] @ w[f"{name}/expansion_conv/filters"][0, 0] + w[f"{name}/expansion_conv/bias"]
        return np.asarray(windows(inner, 3, 2, -np.inf).max(axis=(2, 3)) + around)

    x = (crop.astype(np.float64) - [122.782, 117.001, 104.298]) / 255
    x = np.einsum("hwijc,ijco->hwo", windows(x, 3, 2), w["entry_flow/conv_in/filters"]) + w["entry_flow/conv_in/bias"]
    x = np.maximum(x, 0)
    x = reduced("entry_flow/reduction_block_0", x, x)
    x = reduced("entry_flow/reduction_block_1", x, np.maximum(x, 0))
    for block in range(2):
        inner = x
        for step in range(3):
            inner = slow_separable(w, f"middle_flow/main_block_{block}/separable_conv{step}", np.maximum(inner, 0))
        x = x + inner
    x = reduced("exit_flow/reduction_block", x, np.maximum(x, 0))
    pooled = np.maximum(slow_separable(w, "exit_flow/separable_conv", x), 0).mean(axis=(0, 1))
    age = pooled @ w["fc/age/weights"] + w["fc/age/bias"]
    male, female = pooled @ w["fc/gender/weights"] + w["fc/gender/bias"]
    return float(age[0]), float(1 / (1 + np.exp(female - male)))


def test_bytes_and_floats_are_read_in_order() -> None:
    found = parse_weights(manifest_of(PACKED, PLAIN), CONTENT)
    np.testing.assert_array_equal(found["a"], np.array([[-1.0, -0.5], [0.0, 126.5]], np.float32))
    np.testing.assert_array_equal(found["b"], np.array([0.25, -3.0], np.float32))
    assert {each.dtype for each in found.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("manifest", "content"),
    [
        (b"{", CONTENT),
        (b"[]", CONTENT),
        (b"[3]", CONTENT),
        (manifest_of({"name": "a"}), CONTENT),
        (manifest_of(PACKED, PLAIN), CONTENT[:-1]),
        (manifest_of(PACKED, PLAIN), CONTENT + b"\0"),
        (manifest_of(PACKED, PLAIN), b""),
        (manifest_of(PACKED, PLAIN | {"dtype": "int32"}), CONTENT),
        (manifest_of(PACKED, PLAIN | {"name": "a"}), CONTENT),
        (manifest_of(PACKED, PLAIN | {"shape": [-2]}), CONTENT),
        (manifest_of(PACKED, PLAIN | {"shape": []}), CONTENT),
        (manifest_of(PACKED | {"quantization": {"dtype": "uint16", "scale": 1, "min": 0}}, PLAIN), CONTENT),
        (manifest_of(PACKED | {"quantization": {"dtype": "uint8", "scale": 1}}, PLAIN), CONTENT),
        (manifest_of(PACKED, PLAIN), CONTENT[:4] + np.array([np.nan, 0], "<f4").tobytes()),
    ],
)
def test_damaged_weights_are_refused(manifest: bytes, content: bytes) -> None:
    with pytest.raises(ModelError) as refused:
        parse_weights(manifest, content)
    assert refused.value.code == "model.invalid_model"


def test_only_the_pinned_files_are_read(tmp_path: Path) -> None:
    files = {MANIFEST_FILE: manifest_of(PACKED, PLAIN), WEIGHTS_FILE: CONTENT}
    pinned = [PackFile(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert set(read_estimator(tmp_path, pinned).weights) == {"a", "b"}
    for code, change in (
        ("model.hash_mismatch", lambda path: path.write_bytes(CONTENT[:-4])),
        ("model.hash_mismatch", lambda path: path.write_bytes(CONTENT[:-1] + b"\x01")),
        ("model.not_installed", lambda path: path.unlink()),
        ("model.io", lambda path: path.mkdir()),
    ):
        change(tmp_path / WEIGHTS_FILE)
        with pytest.raises(ModelError) as refused:
            read_estimator(tmp_path, pinned)
        assert refused.value.code == code
    with pytest.raises(ModelError, match="npm pack"):
        read_estimator(tmp_path / "nowhere")


def test_the_command_says_what_is_missing_and_measures_nothing(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    with pytest.raises(SystemExit, match=r"model\.not_installed: age_gender_model"):
        main(["--estimator", str(tmp_path), "--packs", str(tmp_path), "--json", str(figures)])
    assert not figures.exists()


@pytest.mark.parametrize("size", [(7, 7), (8, 5)])
def test_a_separable_convolution_is_the_sum_written_out(size: tuple[int, int]) -> None:
    weights, name = made_up(), "exit_flow/separable_conv"
    x = np.random.default_rng(0).normal(size=(*size, 4))
    tensors = {key: torch.from_numpy(value) for key, value in weights.items()}
    fast = separable(tensors, name, torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32)))
    np.testing.assert_allclose(fast[0].numpy().transpose(1, 2, 0), slow_separable(weights, name, x), atol=1e-5)


def test_the_odd_pixel_of_the_border_lies_right_and_below() -> None:
    wide = padded(torch.ones(1, 1, 4, 4), 3, 2)
    assert wide.shape == (1, 1, 5, 5)
    assert float(wide[0, 0, 4].sum()) == float(wide[0, 0, :, 4].sum()) == 0.0
    assert padded(torch.ones(1, 1, 5, 5), 3, 2).shape == (1, 1, 7, 7)
    assert padded(torch.ones(1, 1, 4, 4), 1, 2).shape == (1, 1, 4, 4)


def test_the_network_is_the_one_written_out_slowly() -> None:
    weights = made_up()
    crops = np.random.default_rng(1).integers(0, 256, (2, 112, 112, 3), dtype=np.uint8)
    guesses = Estimator(weights).guess(crops)
    for crop, age, male in zip(crops, guesses.ages, guesses.male, strict=True):
        expected = slow(weights, crop)
        assert age == pytest.approx(expected[0], abs=1e-4)
        assert male == pytest.approx(expected[1], abs=1e-5)
    assert len(Estimator(weights).guess(crops[:0]).ages) == 0
    assert "0." not in repr(Estimator(weights))


def test_other_weights_are_not_taken_for_the_estimator() -> None:
    crops = np.zeros((1, 112, 112, 3), np.uint8)
    lacking = {name: value for name, value in made_up().items() if name != "fc/age/bias"}
    for wrong in (lacking, made_up() | {"fc/age/weights": np.zeros((3, 1), np.float32)}):
        with pytest.raises(ModelError) as refused:
            Estimator(wrong).guess(crops)
        assert refused.value.code == "model.invalid_model"


def test_a_crop_is_cut_at_the_border_and_made_square_with_black() -> None:
    pixels = np.full((100, 80, 3), 200, np.uint8)
    whole = face_crop(pixels, (10.0, 20.0, 50.0, 50.0))
    assert whole is not None
    assert whole.shape == (112, 112, 3)
    assert (whole == 200).all()
    # 28 of 56 columns lie in the picture: a quarter of black on either side.
    cut = face_crop(pixels, (52.0, 20.0, 56.0, 56.0))
    assert cut is not None
    assert (cut[:, :27] == 0).all()
    assert (cut[:, 30:82] == 200).all()
    assert (cut[:, 85:] == 0).all()
    large = face_crop(np.full((900, 900, 3), 7, np.uint8), (-5.0, -5.0, 1000.0, 1000.0))
    assert large is not None
    assert (large == 7).all()
    for outside in ((90.0, 20.0, 10.0, 10.0), (10.0, 20.0, 0.4, 10.0), (-20.0, -20.0, 15.0, 15.0)):
        assert face_crop(pixels, outside) is None


def counted(found: Balance, kind: str) -> dict[str, int]:
    return {share.band: share.people for share in found.shares if share.kind == kind}


def test_a_person_counts_once_at_the_median_of_the_pictures() -> None:
    person = np.array([4, 4, 4, 7, 9, 9])
    values = np.array(
        [[0.9, 20, -40], [0.8, 29.9, -31], [0.1, 60, 50], [0.5, 18, 10], [0.2, 44, 41], [0.3, 45.9, 55]],
    )
    found = summary("some", person, values, 2)
    assert (found.people, found.pictures, found.pictures_without_face) == (3, 6, 2)
    assert (found.of_several, found.contradicted, found.median_age) == (2, 1, 29.9)
    # Person 4 at 0.8, 29.9, -31; person 7 at 0.5, 18, 10; person 9 at 0.25, 44.95, 48.
    assert counted(found, "gender") == {"female": 1, "uncertain": 1, "male": 1}
    assert counted(found, "age") == {"under 18": 0, "18 to 29": 2, "30 to 44": 1, "45 to 59": 0, "60 and over": 0}
    assert counted(found, "skin tone") == {"dark": 1, "brown": 0, "tan": 1, "intermediate": 0, "light": 1, "very light": 0}
    assert found.shares[0].interval == clopper_pearson(1, 3)


def test_bands_begin_at_their_first_number() -> None:
    ages = [17.99, 18, 29.99, 30, 44.99, 45, 59.99, 60, 90]
    values = np.array([[male, age, 0.0] for male, age in zip(np.linspace(0, 1, 9), ages, strict=True)])
    found = summary("some", np.arange(9), values, 0)
    assert list(counted(found, "age").values()) == [1, 2, 2, 2, 2]
    assert list(counted(found, "gender").values()) == [3, 3, 3]
    assert sum(counted(found, "skin tone").values()) == 9
    assert (found.of_several, found.contradicted) == (0, 0)


def test_the_table_has_a_column_for_each_set() -> None:
    one = summary("one", np.arange(4), np.tile([0.9, 40.0, 20.0], (4, 1)), 0)
    two = summary("two", np.arange(2), np.tile([0.1, 20.0, 20.0], (2, 1)), 3)
    lines = table([one, two]).splitlines()
    assert lines[0] == "| Share of people, % | one: 4 people, 4 pictures | two: 2 people, 2 pictures |"
    assert {line.count("|") for line in lines} == {4}
    low, high = clopper_pearson(4, 4)
    assert f"| apparent gender: male | 100.0 ({100 * low:.1f} to {100 * high:.1f}) | 0.0 (0.0 to 84.2) |" in lines
    assert lines[-1] == "| pictures without a face, not counted | 0 | 3 |"


class Corner:
    """Finds one face in the middle of a picture; on a black one, none."""

    def detect(self, frame: Frame) -> tuple[Detection, ...]:
        if not frame.pixels.any():
            return ()
        marks = np.array([[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]], np.float32)
        return (Detection((20.0, 20.0, 72.0, 90.0), marks, 0.9),)


def test_pictures_without_a_face_are_counted_apart() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    skin, black = np.full((112, 112, 3), (224, 188, 160), np.uint8), np.zeros((112, 112, 3), np.uint8)
    pictures = [Picture(str(n), n // 2, lambda n=n: Frame(black if n == 3 else skin, now)) for n in range(4)]  # type: ignore[misc]
    seen: list[tuple[int, int]] = []
    estimator = Estimator(made_up())
    found = balance_of("some", pictures, Corner(), estimator, lambda done, total, what: seen.append((done, total)))
    assert (found.people, found.pictures, found.pictures_without_face) == (2, 3, 1)
    assert seen[-1] == (4, 4)
    expected = estimator.guess(np.stack([face_crop(skin, (20.0, 20.0, 72.0, 90.0))]))  # type: ignore[list-item]
    assert found.median_age == round(float(expected.ages[0]), 1)
    assert counted(found, "skin tone")["very light"] == 2
    known = balance_of("some", pictures, Corner(), estimator, lambda *_: None, [-50.0, 20.0].__getitem__)
    assert {band for band, people in counted(known, "skin tone").items() if people} == {"dark", "tan"}
    with pytest.raises(ValueError, match="no face"):
        balance_of("none", pictures[3:], Corner(), estimator, lambda *_: None)


def test_a_tone_is_that_of_the_cheeks() -> None:
    crop = np.zeros((112, 112, 3), np.uint8)
    crop[75:87, 29:41] = crop[75:87, 71:83] = (224, 188, 160)
    assert cheek_tone(crop) == pytest.approx(typology_angle(np.array([224, 188, 160])))


def test_the_pictures_are_the_screened_ones_evenly_over_all_people() -> None:
    pictures = screened_pictures(5, 3)
    assert [each.person for each in pictures] == [104 * number for number in range(5) for _ in range(3)]
    np.testing.assert_array_equal(pictures[4].load().pixels, draw_person(synthetic_person(104), 1).pixels)
    everybody = screened_pictures(None, 4)
    assert sorted({each.person for each in everybody}) == list(range(520))
    assert len(everybody) == len(screened_pictures(9999, 4)) == 2080


def test_the_tones_of_the_people_are_those_that_ship_with_the_model() -> None:
    tones = np.percentile([tone_of_look(person) for person in range(screened_people())], (5, 25, 50, 75, 95))
    np.testing.assert_allclose(tones, model_facts().tone_degrees["people"], atol=0.1)


@pytest.mark.skipif(not REAL, reason="FACEKEEP_AGE_GENDER_MODEL does not name package/model of @vladmandic/face-api 1.7.15")
def test_the_real_estimator_says_what_the_original_says() -> None:
    estimator = read_estimator(Path(REAL))
    assert sum(value.size for value in estimator.weights.values()) == 421_731
    # A grey ramp, as face-api 1.7.15 answers it in node 20 through WebAssembly.
    ramp = np.broadcast_to((np.arange(112) * 2).astype(np.uint8)[None, :, None], (112, 112, 3))
    guesses = estimator.guess(np.ascontiguousarray(ramp)[None])
    assert (float(guesses.ages[0]), float(guesses.male[0])) == pytest.approx((10.46232, 0.991412), abs=1e-3)
    assert {file.name for file in PINNED} == {MANIFEST_FILE, WEIGHTS_FILE}


@pytest.mark.skipif(not REAL, reason="FACEKEEP_AGE_GENDER_MODEL does not name package/model of @vladmandic/face-api 1.7.15")
def test_the_command_prints_and_writes_the_same_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    chosen = ["--detector", "facekeep-detector/onnx-fp32", "--people", "3", "--pictures", "2", "--json", str(figures)]
    main(["--estimator", REAL, "--packs", str(tmp_path), *chosen])
    written = json.loads(figures.read_text("utf-8"))
    assert written["balance_version"] == 1
    assert written["pictures_each"] == 2
    (found,) = written["sets"]
    assert sum(share["people"] for share in found["shares"] if share["kind"] == "age") == found["people"] == 3
    assert "| Share of people, % | synthetic people: 3 people, 6 pictures |" in capsys.readouterr().out
