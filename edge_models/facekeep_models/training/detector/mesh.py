"""Another ruler for landmarks than the teacher: MediaPipe's face mesh, read where YuNet would put its five points.

The teacher cannot say how far its student is off on photographs: asked twice it does not agree with itself. The mesh was made by
others from other data (`mediapipe_face_landmark.tflite`, Apache-2.0, not part of the repository). Nothing is trained by it here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facekeep_models.people.drawing import LANDMARK_POINTS
from facekeep_models.training.detector.teacher import SURE
from facekeep_models.training.people_faces import Mesher

Case = tuple[NDArray[np.uint8], NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class MeshRuler:
    """Puts landmarks where the mesh has them.

    Attributes:
        mesher: finds the mesh of a face.
        offsets: (5, 2) float64, from points of the mesh to what YuNet calls the landmarks: along the eyes and across, in units of
            their distance.
    """

    mesher: Mesher
    offsets: NDArray[np.float64]

    def measured(self, case: Case) -> Case:
        """Return a picture with the landmarks of the mesh; faces without one are not asked for."""
        pixels, faces = case
        found = faces.copy()
        for row in found:
            points = _five(self.mesher, pixels, row) if row[4] >= SURE else None
            if points is None:
                row[4] = min(row[4], np.float32(SURE - 0.01))
            else:
                row[5:] = (points + self.offsets @ _axes(points).T).ravel()
        return pixels, found


def fitted_ruler(mesher: Mesher, cases: Iterable[Case]) -> MeshRuler:
    """Return the ruler whose landmarks lie, in the median over the faces of `cases`, where their labels say.

    Raises:
        ValueError: if no face has a mesh.
    """
    away = []
    for pixels, faces in cases:
        for row in faces[faces[:, 4] >= SURE]:
            points = _five(mesher, pixels, row)
            if points is not None:
                away.append(np.linalg.solve(_axes(points), (row[5:].reshape(5, 2) - points).T).T)
    if not away:
        raise ValueError("the mesh finds none of the faces")
    return MeshRuler(mesher, np.median(away, axis=0))


def _five(mesher: Mesher, pixels: NDArray[np.uint8], row: NDArray[np.float32]) -> NDArray[np.float64] | None:
    mesh = mesher.find(pixels, row[5:].reshape(5, 2))
    return None if mesh is None else np.stack([mesh[list(each), :2].mean(axis=0) for each in LANDMARK_POINTS]).astype(np.float64)


def _axes(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (2, 2) map from units of the eyes' distance, along and across, to pixels."""
    x, y = points[1] - points[0]
    return np.array([[x, -y], [y, x]])
