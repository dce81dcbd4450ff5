from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.biometric import HeadPose
from facekeep.pose import HEAD_POINTS, estimate_pose, rotation_of

angles = st.floats(-65, 65)


@given(yaw=angles, pitch=angles, roll=st.floats(-170, 170), scale=st.floats(0.2, 30))
def test_a_projected_rotation_is_recovered(yaw: float, pitch: float, roll: float, scale: float) -> None:
    points = (HEAD_POINTS @ rotation_of(HeadPose(yaw, pitch, roll)).T)[:, :2] * scale + [300, 200]
    found = estimate_pose(points.astype(np.float32))
    assert found.yaw_degrees == pytest.approx(yaw, abs=0.2)
    assert found.pitch_degrees == pytest.approx(pitch, abs=0.2)
    assert found.roll_degrees == pytest.approx(roll, abs=0.2)


def test_signs_are_those_of_the_value() -> None:
    frontal = HEAD_POINTS[:, :2].astype(np.float32)
    nose_right, nose_up = frontal.copy(), frontal.copy()
    nose_right[2, 0] += 5
    nose_up[2, 1] -= 5
    assert estimate_pose(nose_right).yaw_degrees > 5
    assert estimate_pose(nose_up).pitch_degrees > 5
    turn = np.radians(20)
    clockwise = frontal @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    assert clockwise[1, 1] > clockwise[0, 1]  # the image-right eye is lower
    assert estimate_pose(clockwise.astype(np.float32)).roll_degrees == pytest.approx(20, abs=0.1)


@given(yaw=angles, pitch=angles, roll=angles)
def test_a_mirror_turns_yaw_and_roll(yaw: float, pitch: float, roll: float) -> None:
    points = (HEAD_POINTS @ rotation_of(HeadPose(yaw, pitch, roll)).T)[:, :2]
    mirrored = (points * [-1, 1])[[1, 0, 2, 4, 3]]
    found = estimate_pose(mirrored.astype(np.float32))
    assert found.yaw_degrees == pytest.approx(-yaw, abs=0.2)
    assert found.pitch_degrees == pytest.approx(pitch, abs=0.2)
    assert found.roll_degrees == pytest.approx(-roll, abs=0.2)


def test_landmarks_on_one_spot_still_give_numbers() -> None:
    assert np.isfinite(estimate_pose(np.full((5, 2), 7, np.float32)).yaw_degrees)
