"""What landmarks are measured by: a mesh read as the teacher would, a sheet to look at, frames to time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch is not installed: recipes are for those who train (extra build)")

from facekeep.biometric import Detection, Frame  # noqa: E402
from facekeep_models.people.drawing import LANDMARK_POINTS  # noqa: E402
from facekeep_models.training.detector.mesh import fitted_ruler  # noqa: E402
from facekeep_models.training.detector.speed import frame_ratio  # noqa: E402
from facekeep_models.training.landmarks.sheet import main as sheet  # noqa: E402

UPRIGHT = np.array([[30, 40], [70, 40], [50, 60], [35, 80], [65, 80]], np.float64)
# Where this mesh has the five, beside where the teacher has them, in units of the distance of the eyes.
AWAY = np.array([[0.02, 0.0], [-0.02, 0.0], [0.0, 0.05], [0.03, -0.04], [-0.03, -0.04]])
BLANK = np.zeros((200, 200, 3), np.uint8)


class Mesh:
    """Knows the points of a face that it is asked about; sees none of those that lie left of x = 20."""

    def find(self, pixels: NDArray[np.uint8], landmarks_px: NDArray[np.float32]) -> NDArray[np.float32] | None:
        assert pixels.shape == BLANK.shape
        if landmarks_px[0, 0] < 20:
            return None
        x, y = (landmarks_px[1] - landmarks_px[0]).astype(np.float64)
        found = landmarks_px + AWAY @ np.array([[x, -y], [y, x]]).T
        mesh = np.full((468, 3), np.nan, np.float32)
        for points, place in zip(LANDMARK_POINTS, found, strict=True):
            mesh[list(points), :2] = place
        return mesh


def row(scale: float, angle: float, x: float = 0.0, confidence: float = 0.9) -> NDArray[np.float32]:
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (UPRIGHT - 55) @ rotation.T * scale + [100 + x, 100]
    return np.concatenate(([0, 0, 200, 200, confidence], points.ravel())).astype(np.float32)


def test_a_ruler_fitted_to_the_teacher_has_the_landmarks_where_the_teacher_has_them_on_faces_of_any_size_and_turn() -> None:
    faces = [row(scale, angle) for scale, angle in ((0.5, 0), (1.0, 20), (1.5, -35))]
    ruler = fitted_ruler(Mesh(), [(BLANK, np.stack(faces))])
    for scale, angle in ((0.8, 10.0), (2.0, -25.0)):
        face = row(scale, angle)
        _, measured = ruler.measured((BLANK, face[None]))
        # The eyes of the mesh are a little closer together than those of the teacher, so sizes differ by a little.
        np.testing.assert_allclose(measured[0, 5:], face[5:], atol=0.01 * 40 * scale)
        assert measured[0, 4] == face[4]


def test_one_bad_label_does_not_move_the_ruler() -> None:
    faces = [row(1.0, angle) for angle in (0, 5, -5, 10)]
    right = fitted_ruler(Mesh(), [(BLANK, np.stack(faces))])

    class Once(Mesh):
        asked = 0

        def find(self, pixels: NDArray[np.uint8], landmarks_px: NDArray[np.float32]) -> NDArray[np.float32] | None:
            found = super().find(pixels, landmarks_px)
            self.asked += 1
            return found + 9 if found is not None and self.asked == 1 else found

    np.testing.assert_allclose(fitted_ruler(Once(), [(BLANK, np.stack(faces))]).offsets, right.offsets, atol=0.02)


def test_faces_without_a_mesh_or_only_suspected_are_not_asked_for() -> None:
    ruler = fitted_ruler(Mesh(), [(BLANK, row(1.0, 0)[None])])
    faces = np.stack([row(1.0, 0), row(1.0, 0, x=-80), row(1.0, 0, confidence=0.5)])
    _, measured = ruler.measured((BLANK, faces))
    assert (measured[:, 4] >= 0.8).tolist() == [True, False, False]
    assert np.array_equal(measured[1:, 5:], faces[1:, 5:])
    with pytest.raises(ValueError, match="mesh"):
        fitted_ruler(Mesh(), [(BLANK, row(1.0, 0, x=-80)[None])])


def test_whole_frames_are_timed_in_turns() -> None:
    asked: list[str] = []

    class Detector:
        def __init__(self, name: str) -> None:
            self.name = name

        def detect(self, frame: Frame) -> tuple[Detection, ...]:
            assert (frame.width, frame.height) == (320, 240)
            asked.append(self.name)
            return ()

    figures = frame_ratio({"a": Detector("a"), "b": Detector("b")}, rounds=3)
    assert asked == ["a", "b"] * 3
    assert list(figures) == ["frame with one face, a, ms", "frame with one face, b, ms"]


def test_the_sheet_shows_people_who_do_not_exist(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    sheet(["--out", str(tmp_path / "sheet.png")])
    assert (tmp_path / "sheet.png").stat().st_size > 50_000
