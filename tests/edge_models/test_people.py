"""Synthetic people: the same everywhere, varied as asked, and true to what is said beside them."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facekeep.errors import ModelError
from facekeep_models.people import (
    Scene,
    SyntheticPicture,
    Variation,
    draw_person,
    model_facts,
    read_model,
    screened_people,
    shipped_model,
    synthetic_person,
    unsafe_unscreened_person,
)
from facekeep_models.people.drawing import canvas_of
from facekeep_models.people.facts import read_facts
from facekeep_models.people.geometry import FIELD_NODES, FIELD_STEP_PX, field_nodes, inverted, sampled
from facekeep_models.people.model import FILE, LARGEST_BYTES, SHA256, model_to_bytes, parse_model
from facekeep_models.training.people_fit import cheek_tone, typology_angle

# Mean grey of 64x64 blocks of picture 0 of person 0: what another machine has to come to as well.
PERSON_0_PICTURE_0 = [
    [188.2, 131.1, 116.7, 166.8],
    [157.1, 102.9, 100.8, 165.7],
    [153.5, 115.4, 88.1, 195.3],
    [98.1, 137.8, 126.8, 180.8],
]


def plain(person: int = 0, **circumstances: object) -> SyntheticPicture:
    return draw_person(synthetic_person(person), 0, scene=Scene(**circumstances))  # type: ignore[arg-type]


def sharpness(pixels: NDArray[np.uint8]) -> float:
    return float(np.abs(np.diff(pixels[90:190, 80:176].astype(float).mean(axis=2), n=2, axis=1)).mean())


def test_a_picture_is_the_same_for_the_same_numbers() -> None:
    first, again = draw_person(synthetic_person(3), 2), draw_person(synthetic_person(3), 2)
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.landmarks_px, again.landmarks_px)
    assert first.pixels.shape == (256, 256, 3)
    assert first.pixels.dtype == np.uint8
    assert (first.person, first.number, first.screened) == (3, 2, True)
    assert not np.array_equal(first.pixels, draw_person(synthetic_person(3), 3).pixels)
    assert not np.array_equal(first.pixels, draw_person(synthetic_person(4), 2).pixels)


def test_a_picture_is_the_same_in_another_process_with_another_number_of_threads() -> None:
    code = (
        "import sys; from facekeep_models.people import *;"
        "sys.stdout.buffer.write(draw_person(synthetic_person(1), 1).pixels.tobytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        env={"OPENBLAS_NUM_THREADS": "1", "OPENBLAS_CORETYPE": "Prescott"},
    )
    elsewhere = np.frombuffer(done.stdout, np.uint8).reshape(256, 256, 3).astype(int)
    assert np.abs(elsewhere - draw_person(synthetic_person(1), 1).pixels).max() <= 1


def test_a_picture_is_the_same_on_the_machine_that_wrote_this_test() -> None:
    means = draw_person(synthetic_person(0), 0).pixels.reshape(4, 64, 4, 64, 3).mean(axis=(1, 3, 4))
    np.testing.assert_allclose(means, PERSON_0_PICTURE_0, atol=0.2)


def test_drawing_needs_numpy_alone() -> None:
    code = (
        "import sys; from facekeep_models.people import *; draw_person(synthetic_person(0), 0);"
        "print(sorted({'torch','cv2','PIL','scipy','onnxruntime','matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_truth_stays_inside_and_follows_the_size() -> None:
    small, large = (draw_person(synthetic_person(5), 1, side_px=side) for side in (128, 512))
    np.testing.assert_allclose((large.landmarks_px + 0.5) / 4, small.landmarks_px + 0.5, atol=1e-3)
    for number in range(30):
        picture = draw_person(synthetic_person(number), number)
        assert (picture.landmarks_px > 20).all()
        assert (picture.landmarks_px < 236).all()
        left, right, nose, mouth_left, mouth_right = picture.landmarks_px
        assert left[0] < right[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(left[1], right[1]) < nose[1] < max(mouth_left[1], mouth_right[1])
        assert picture.mesh_px.shape == (468, 2)


def test_without_variation_only_the_person_counts() -> None:
    person = unsafe_unscreened_person(9)
    first, second = (draw_person(person, number, Variation.none()) for number in (0, 1))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert not first.screened
    assert np.abs(first.pixels.astype(int) - draw_person(unsafe_unscreened_person(10), 0, Variation.none()).pixels).mean() > 5


def test_pose_moves_the_nose_as_it_says() -> None:
    def nose_off(picture: SyntheticPicture, axis: int) -> float:
        eyes, nose = picture.landmarks_px[:2].mean(axis=0), picture.landmarks_px[2]
        return float(nose[axis] - eyes[axis])

    yaws = [nose_off(plain(yaw_degrees=yaw), 0) for yaw in (-25, 0, 25)]
    assert yaws[0] < yaws[1] - 8
    assert yaws[2] > yaws[1] + 8
    pitches = [nose_off(plain(pitch_degrees=pitch), 1) for pitch in (-15, 0, 15)]
    assert pitches[0] > pitches[1] > pitches[2]
    left, right = plain(roll_degrees=20).landmarks_px[:2]
    assert np.degrees(np.arctan2(right[1] - left[1], right[0] - left[0])) == pytest.approx(20, abs=4)


def test_expression_moves_the_mouth_as_it_says() -> None:
    def width(picture: SyntheticPicture) -> float:
        return float(np.hypot(*(picture.landmarks_px[4] - picture.landmarks_px[3])))

    assert width(plain(smile=-2)) + 2 < width(plain()) < width(plain(smile=2)) - 2
    lips = [plain(mouth_open=much).mesh_px[[13, 14], 1] for much in (0, 2)]
    assert lips[1][1] - lips[1][0] > lips[0][1] - lips[0][0] + 2


def test_light_comes_from_where_it_says() -> None:
    dark = plain(light_strength=0.0).pixels.astype(float)

    def gain(**light: float) -> NDArray[np.float64]:
        return np.asarray(plain(**light).pixels.astype(float).mean(axis=2) - dark.mean(axis=2))

    right, above = gain(light_strength=1.0, light_degrees=0), gain(light_strength=1.0, light_degrees=90)
    assert right[110:170, 140:165].mean() > 3 + right[110:170, 90:115].mean()
    assert above[70:95, 100:156].mean() > 3 + above[150:185, 110:146].mean()
    red = plain(light_rgb=(1.3, 1.0, 0.8)).pixels.astype(float)
    assert red[..., 0].mean() > dark[..., 0].mean() * 1.15
    assert red[..., 2].mean() < dark[..., 2].mean() * 0.9


def test_the_camera_does_what_it_says() -> None:
    clean = plain().pixels
    assert sharpness(plain(blur_px=3.0).pixels) < 0.6 * sharpness(clean)
    assert plain(noise=12.0).pixels.astype(float)[:20, :20].std() > clean.astype(float)[:20, :20].std() + 4
    assert plain(darkness=0.7).pixels.mean() < 0.5 * clean.mean()
    assert np.abs(plain(jpeg_quality=90).pixels.astype(int) - clean).mean() < 3
    coarse = plain(jpeg_quality=5).pixels.astype(int)
    assert np.abs(coarse - clean).mean() > np.abs(plain(jpeg_quality=50).pixels.astype(int) - clean).mean()
    small, large = plain(zoom=0.7).landmarks_px, plain(zoom=1.3).landmarks_px
    assert np.hypot(*(large[1] - large[0])) / np.hypot(*(small[1] - small[0])) == pytest.approx(1.3 / 0.7, rel=1e-3)
    np.testing.assert_allclose(plain(shift=(0.1, -0.05)).landmarks_px - plain().landmarks_px, [[25.6, -12.8]] * 5, atol=0.01)


def test_a_mask_covers_mouth_and_nose_and_leaves_the_eyes() -> None:
    bare, masked = plain(), plain(masked=True, mask_rgb=(46, 48, 54))
    np.testing.assert_array_equal(bare.landmarks_px, masked.landmarks_px)
    change = np.abs(bare.pixels.astype(int) - masked.pixels).mean(axis=2)
    eyes, mouth = bare.landmarks_px[:2].mean(axis=0).astype(int), bare.landmarks_px[3:].mean(axis=0).astype(int)
    assert change[mouth[1] - 5 : mouth[1] + 5, mouth[0] - 15 : mouth[0] + 15].mean() > 20
    assert change[eyes[1] - 8 : eyes[1] + 4].mean() < 0.5
    shares = [Variation(masked_share=0.5).scene(0, number).masked for number in range(400)]
    assert 0.4 < np.mean(shares) < 0.6


def test_appearance_is_how_far_a_person_strays() -> None:
    person = synthetic_person(2)

    def strays(**much: float) -> float:
        pictures = [draw_person(person, number, scene=Scene(**much)).pixels.astype(float) for number in range(4)]  # type: ignore[arg-type]
        return float(np.std(pictures, axis=0).mean())

    assert strays() == 0.0
    assert 0 < strays(appearance=0.2) < strays(appearance=0.6)
    assert strays(surroundings=0.8) > 0


def test_switching_one_thing_off_leaves_the_rest() -> None:
    scene, still = Variation().scene(4, 1), dataclasses.replace(Variation(), yaw_degrees=0.0).scene(4, 1)
    assert scene.yaw_degrees != 0
    assert still == dataclasses.replace(scene, yaw_degrees=0.0)


def test_tone_shift_shifts_the_tone() -> None:
    model = shipped_model()

    def tone(shift: float) -> float:
        looks = [synthetic_person(index, tone_shift_degrees=shift).look.astype(np.float32) for index in range(20)]
        return float(np.mean([cheek_tone(canvas_of(model, look)) for look in looks]))

    middle = tone(0)
    assert tone(-30) < middle - 12
    assert tone(30) > middle + 8
    assert not draw_person(synthetic_person(0, tone_shift_degrees=5), 0).screened
    assert typology_angle(np.array([224, 188, 160])) > 40 > 0 > typology_angle(np.array([92, 60, 40]))


def test_what_was_not_screened_says_so() -> None:
    person = synthetic_person(0)
    assert draw_person(person, len(person.takes) - 1).screened
    assert not draw_person(person, len(person.takes)).screened
    assert not draw_person(person, 0, Variation(noise=0.0)).screened
    assert not draw_person(person, 0, side_px=200).screened
    assert not draw_person(unsafe_unscreened_person(person.seed), 0).screened


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: synthetic_person(-1),
        lambda: synthetic_person(screened_people()),
        lambda: synthetic_person(0, tone_shift_degrees=90),
        lambda: unsafe_unscreened_person(-1),
        lambda: draw_person(synthetic_person(0), -1),
        lambda: draw_person(synthetic_person(0), 0, side_px=95),
        lambda: draw_person(synthetic_person(0), 0, Variation(), scene=Scene()),
        lambda: Scene(yaw_degrees=41),
        lambda: Scene(noise=float("nan")),
        lambda: Scene(jpeg_quality=0),
        lambda: Scene(shift=(0.5, 0.0)),
        lambda: Variation(noise=-1),
        lambda: Variation(masked_share=1.5),
    ],
)
def test_what_cannot_be_drawn_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        wrong()  # type: ignore[operator]


def test_a_field_and_its_inverse_cancel() -> None:
    nodes = field_nodes().reshape(FIELD_NODES, FIELD_NODES, 2)
    bump = 6.0 * np.exp(-((nodes - 80) ** 2).sum(axis=2) / 800)[:, :, None] * np.array([1.0, -0.5])
    back = inverted(bump)
    around = back + sampled(bump, (nodes + back) / FIELD_STEP_PX)
    assert np.abs(around).max() < 0.05


def test_the_weights_are_the_ones_that_are_pinned_and_small() -> None:
    data = FILE.read_bytes()
    assert len(data) <= LARGEST_BYTES == 4 * 1024 * 1024
    assert hashlib.sha256(data).hexdigest() == SHA256
    model = shipped_model()
    assert screened_people() == len(model.accepted) >= 500
    assert len(set(model.accepted.tolist())) == len(model.accepted)
    assert repr(model).startswith("<facekeep_models.people.model.PeopleModel object")
    # Packed again, nothing changes: what was screened is what ships.
    assert hashlib.sha256(model_to_bytes(model)).hexdigest() == SHA256
    for array in (model.mean_shape, model.coarse_even, model.between, model.accepted):
        assert not array.flags.writeable


def test_facts_say_where_it_comes_from() -> None:
    facts = model_facts()
    assert facts.consented is False
    assert facts.permitted_uses == ("research", "evaluation")
    assert facts.screen["people_accepted"] == screened_people()
    assert len(facts.tone_degrees["training"]) == len(facts.tone_degrees["people"]) == 5


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    data = FILE.read_bytes()
    path = tmp_path / "people.npz"
    with pytest.raises(ModelError) as missing:
        read_model(path)
    assert missing.value.code == "model.not_installed"
    with pytest.raises(ModelError) as directory:
        read_model(tmp_path)
    assert directory.value.code == "model.io"
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelError) as changed:
        read_model(path, sha256=SHA256)
    assert changed.value.code == "model.hash_mismatch"
    random = np.random.default_rng(1)
    for length in (0, 3, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(ModelError) as cut:
            parse_model(data[:length])
        assert cut.value.code == "model.invalid_model"
    for _ in range(5):
        broken = bytearray(data)
        at = int(random.integers(len(data) // 2))
        broken[at : at + 64] = random.bytes(64)
        with pytest.raises(ModelError) as damaged:
            parse_model(bytes(broken))
        assert damaged.value.code == "model.invalid_model"
    path.write_bytes(b"\0" * (LARGEST_BYTES + 1))
    with pytest.raises(ModelError) as large:
        read_model(path)
    assert large.value.code == "model.invalid_model"


def rewritten(**changes: object) -> bytes:
    import io

    with np.load(io.BytesIO(FILE.read_bytes()), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays.update(changes)  # type: ignore[arg-type]
    stream = io.BytesIO()
    np.savez(stream, **{name: array for name, array in arrays.items() if array is not None})
    return stream.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"format": np.array(2)},
        {"format": None},
        {"tone": None},
        {"tone": np.zeros(3, np.float32)},
        {"mean_shape": np.zeros((467, 3), np.float32)},
        {"mean_shape": np.full((468, 3), np.nan, np.float32)},
        {"fine_odd_scale": np.zeros(2, np.float32)},
        {"takes": np.zeros((1, 4), np.int64)},
        {"tone": np.array([{}], dtype=object)},
        {"extra": np.zeros(40_000_000, np.int8)},
    ],
    ids=str,
)
def test_a_file_that_is_no_model_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ModelError) as refused:
        parse_model(rewritten(**changes))
    assert refused.value.code == "model.invalid_model"


def test_damaged_facts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.json"
    with pytest.raises(ModelError) as missing:
        read_facts(path)
    assert missing.value.code == "model.not_installed"
    for text in ("", "[]", '{"facts_version": 2}', '{"facts_version": 1, "title": "x"}'):
        path.write_text(text)
        with pytest.raises(ModelError) as refused:
            read_facts(path)
        assert refused.value.code == "model.invalid_model"
