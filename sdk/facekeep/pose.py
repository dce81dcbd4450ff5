"""Head pose from five landmarks. Pure.

Scaled orthographic fit of an average five-point head in least squares, made orthonormal: D. DeMenthon and L. Davis,
"Model-based object pose in 25 lines of code", IJCV 1995, its first step. Five points of an average head bound how exact it can
be: yaw is good to about five degrees, pitch (which a long nose imitates) to about ten.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import HeadPose

# Average head, x to the viewer's right, y down, z away from the viewer, eyes 38.2 apart (so a unit is about 1.65 mm). Found by
# factorising YuNet's landmarks of 1,587 pictures of LFW View 1 (C. Tomasi and T. Kanade, "Shape and motion from image streams",
# IJCV 1992) and made symmetric. Its zero is the mean pose of those press photographs.
HEAD_POINTS: Final[NDArray[np.float64]] = np.array(
    [[-19.1, -19.6, 0.0], [19.1, -19.6, 0.0], [0.0, 1.9, -16.1], [-16.1, 18.65, 4.9], [16.1, 18.65, 4.9]]
)
HEAD_POINTS.flags.writeable = False
_CENTRED = HEAD_POINTS - HEAD_POINTS.mean(axis=0)
_SOLVER = np.linalg.pinv(_CENTRED)  # (3, 5)


def estimate_pose(landmarks_px: NDArray[np.float32]) -> HeadPose:
    """Return the pose of the head that the landmarks belong to.

    The head turns by yaw, after pitch, before roll: `rotation_of` is its exact inverse.

    Args:
        landmarks_px: (5, 2) in pixels of any picture.
    """
    points = landmarks_px.astype(np.float64)
    # Scale times the first two rows of the rotation, in least squares; then the nearest two orthonormal rows.
    rows = (_SOLVER @ (points - points.mean(axis=0))).T
    left, _, right = np.linalg.svd(rows, full_matrices=False)
    (xx, xy, xz), (yx, yy, yz) = (left @ right).tolist()
    # The direction the head faces: minus the third column, with the third row as their cross product.
    facing_x, facing_y, facing_z = -xz, -yz, -(xx * yy - xy * yx)
    roll = math.atan2(yx, xx)
    across = math.cos(roll) * facing_x + math.sin(roll) * facing_y
    down = math.cos(roll) * facing_y - math.sin(roll) * facing_x
    yaw = math.atan2(across, -facing_z)
    pitch = math.asin(min(1.0, max(-1.0, -down)))
    return HeadPose(math.degrees(yaw), math.degrees(pitch), math.degrees(roll))


def rotation_of(pose: HeadPose) -> NDArray[np.float64]:
    """Return the (3, 3) rotation of `HEAD_POINTS` into the axes of the picture (x right, y down, z away)."""
    yaw, pitch, roll = (math.radians(v) for v in (pose.yaw_degrees, pose.pitch_degrees, pose.roll_degrees))
    nod = np.array([[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]])
    turn = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]])
    lean = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = lean @ turn @ nod
    return rotation
