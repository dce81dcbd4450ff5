"""How fit a face sample is for recognition: six components, 0 to 100 each, the weakest decides. Pure.

In the spirit of ISO/IEC 29794-5 and of OFIQ, with measures of our own that cost a few tenths of a millisecond. Calibrated on LFW
View 1: the default floors admit at least 99.5 % of its pictures of one face.

What it does not see: a mask, sunglasses or a hand lower `visibility`, but seldom under its floor; pitch is understated (see
`facekeep.pose`); a sharp picture of a blurred print is sharp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import CROP_SIDE_PX, similarity_to_template
from facekeep.biometric import Detection, Frame, HeadPose, QualityReport
from facekeep.pose import estimate_pose

# Forehead to chin, cheek to cheek: no hair, no background. Even sides, so that blocks of two fit.
_INNER: Final = (slice(20, 104), slice(18, 94))

_BLOCK: Final = 7
_FACE_WINDOW: Final = (slice(3, 15), slice(2, 14))
# An upright face in local contrast: 12 x 12 blocks of `_FACE_WINDOW`, left half (the right mirrors it). Negative is darker
# than around: brows and eyes in rows 3 and 4, nostrils in row 7, the mouth in rows 9 and 10. Mean of 1,587 pictures of LFW.
_FACE_HALF: Final = np.array(
    [
        [-27, -6, 17, 35, 46, 47],
        [-26, 2, 35, 55, 64, 66],
        [-22, 13, 33, 34, 50, 75],
        [-19, -11, -37, -77, -80, -2],
        [-13, -19, -77, -110, -109, -19],
        [1, 34, 33, 0, -9, 45],
        [-7, 42, 77, 76, 44, 56],
        [-25, 8, 55, 41, -35, -9],
        [-28, -12, 13, 5, -14, -51],
        [-24, -3, 17, -19, -37, -23],
        [-30, -7, 27, 1, -63, -50],
        [-38, -30, -1, 33, 13, -22],
    ],
    np.float32,
)
_FACE: Final = np.concatenate((_FACE_HALF, _FACE_HALF[:, ::-1]), axis=1) / np.float32(math.sqrt(2 * float((_FACE_HALF**2).sum())))


@dataclass(frozen=True, slots=True)
class QualityFloors:
    """Least score of each component for a sample to be admitted, 0 to 100; 0 admits anything.

    Attributes:
        size: distance of the eyes in pixels of the frame, or of eyes to mouth where a turned head shortens it:
            100 at 60 px, falling linearly. The default is 12 px.
        sharpness: detail against coarser structure, in the direction that has least of it, noise subtracted.
        exposure: brightness, contrast and clipped pixels of the inner face.
        pose: 100 facing the camera, 0 at a yaw of 90 or a pitch of 60 degrees.
        framing: share of the crop's inner face inside the frame; 0 if a landmark lies outside.
        visibility: likeness of the local contrast to an upright face; low for what is upside down, turned away or no face.
    """

    size: int = 20
    sharpness: int = 30
    exposure: int = 25
    pose: int = 25
    framing: int = 80
    visibility: int = 12

    def __post_init__(self) -> None:
        if any(not 0 <= floor <= 100 for _, floor in self.by_name()):
            raise ValueError("a floor lies in 0 to 100")

    def by_name(self) -> tuple[tuple[str, int], ...]:
        """Return the floors by name, in the order of a report's components."""
        return (
            ("size", self.size),
            ("sharpness", self.sharpness),
            ("exposure", self.exposure),
            ("pose", self.pose),
            ("framing", self.framing),
            ("visibility", self.visibility),
        )


DEFAULT_FLOORS: Final = QualityFloors()


def assess(frame: Frame, detection: Detection, crop: NDArray[np.uint8], floors: QualityFloors = DEFAULT_FLOORS) -> QualityReport:
    """Return the quality of one face sample.

    Args:
        frame: the frame.
        detection: the face, with landmarks.
        crop: its aligned crop, (112, 112, 3) uint8 RGB.
        floors: least score of each component.

    Raises:
        AcquisitionError: "acquisition.no_landmarks" if the landmarks lie on one spot.
    """
    landmarks = detection.landmarks_px
    if landmarks is None:
        raise ValueError("quality is assessed on an aligned face, which has landmarks")
    luma = _luma(crop)
    inner = luma[_INNER]
    pose = estimate_pose(landmarks)
    scores = {
        "size": _size(landmarks),
        "sharpness": _sharpness(inner),
        "exposure": _exposure(inner),
        "pose": _pose(pose),
        "framing": _framing(frame, landmarks),
        "visibility": _visibility(luma),
    }
    components = tuple((name, _to_score(value)) for name, value in scores.items())
    short = [(score - floor, name) for (name, score), (_, floor) in zip(components, floors.by_name(), strict=True) if score < floor]
    return QualityReport(min(score for _, score in components), components, pose, tuple(name for _, name in sorted(short)))


def _luma(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (112, 112) float32 luma, ITU-R BT.601."""
    luma = crop[:, :, 0] * np.float32(0.299)
    luma += crop[:, :, 1] * np.float32(0.587)
    luma += crop[:, :, 2] * np.float32(0.114)
    return luma


def _size(landmarks: NDArray[np.float32]) -> float:
    (left_x, left_y), (right_x, right_y), _, (mouth_left_x, mouth_left_y), (mouth_right_x, mouth_right_y) = landmarks.tolist()
    eyes = math.hypot(right_x - left_x, right_y - left_y)
    # As far apart as the eyes in the template, but not shortened by yaw; the lesser error of the two counts.
    down = math.hypot(mouth_left_x + mouth_right_x - left_x - right_x, mouth_left_y + mouth_right_y - left_y - right_y) / 2
    return max(eyes, 0.87 * down) / 60.0


def _sharpness(inner: NDArray[np.float32]) -> float:
    """Return 0 to 1 from the ratio of second to first differences at half resolution, in the worst of four directions.

    Blur of any kind removes second differences first; motion removes them along its direction only, so the worst direction
    counts. Noise would pass for detail: its variance is measured where a face has least of its own, in the diagonal
    difference of 2 x 2 pixels, and subtracted.
    """
    even, odd = inner[::2], inner[1::2]
    total, difference = even + odd, even - odd
    half = (total[:, ::2] + total[:, 1::2]) * np.float32(0.25)
    diagonal = difference[:, ::2] - difference[:, 1::2]
    # The diagonal is a sum of four pixels, `half` a mean of four: 16 times its noise variance.
    noise = _mean_square(diagonal) / 16
    middle = half[1:-1, 1:-1]
    worst = math.inf
    for before, after in (
        (half[:-2, 1:-1], half[2:, 1:-1]),
        (half[1:-1, :-2], half[1:-1, 2:]),
        (half[:-2, :-2], half[2:, 2:]),
        (half[:-2, 2:], half[2:, :-2]),
    ):
        first, next_first = after - middle, middle - before
        second = max(_mean_square(first - next_first) - 6 * noise, 0.0)
        worst = min(worst, second / max(_mean_square(first) - 2 * noise, 1.0))
    # Of LFW the dullest thousandth has a ratio of 0.5 and the median 1.0; a Gaussian blur of 3 px of the crop leaves 0.5.
    return (math.sqrt(worst) - 0.47) / 0.5


def _mean_square(values: NDArray[np.float32]) -> float:
    flat = values.ravel()
    total: float = np.einsum("i,i->", flat, flat)
    return float(total) / int(flat.size)


def _exposure(inner: NDArray[np.float32]) -> float:
    mean = float(inner.mean())
    contrast = math.sqrt(max(_mean_square(inner) - mean * mean, 0.0))
    clipped = float(np.count_nonzero(inner > 248)) / inner.size
    crushed = float(np.count_nonzero(inner < 6)) / inner.size
    # Clipped highlights cost more than crushed shadows: black hair and beards are crushed in good pictures too.
    parts = ((mean - 12) / 60, (250 - mean) / 40, (contrast - 4) / 16, 1 - 2 * clipped, 1.4 - 2 * crushed)
    return float(min(parts))


def _pose(pose: HeadPose) -> float:
    return 1 - max(abs(pose.yaw_degrees) / 90, abs(pose.pitch_degrees) / 60)


# A grid over the inner face of the crop, as (x, y, 1).
_GRID: Final = np.array([[x, y, 1] for y in np.linspace(20, 103, 10) for x in np.linspace(18, 93, 10)]).T


def _framing(frame: Frame, landmarks: NDArray[np.float32]) -> float:
    if not _inside(landmarks.T, frame).all():
        return 0.0
    (a, minus_b, x), (b, _, y) = similarity_to_template(landmarks).tolist()
    # Inverse of a similarity: back-rotation over the squared scale.
    shifted = _GRID[:2] - np.array([[x], [y]])
    back = np.array([[a, b], [minus_b, a]]) / (a * a + b * b)
    return int(np.count_nonzero(_inside(back @ shifted, frame))) / int(_GRID.shape[1])


def _inside(points: NDArray[np.floating], frame: Frame) -> NDArray[np.bool_]:
    x, y = points
    inside: NDArray[np.bool_] = (x >= -0.5) & (x <= frame.width - 0.5) & (y >= -0.5) & (y <= frame.height - 0.5)
    return inside


def _visibility(luma: NDArray[np.float32]) -> float:
    """Return 0 to 1 from the correlation of the local contrast with `_FACE`."""
    cells = CROP_SIDE_PX // _BLOCK
    blocks = np.add.reduceat(np.add.reduceat(luma, _BLOCK_STARTS, axis=0), _BLOCK_STARTS, axis=1) / np.float32(_BLOCK * _BLOCK)
    padded = np.zeros((cells + 5, cells + 5), np.float32)
    padded[1:, 1:] = blocks[_EDGE_PADDED][:, _EDGE_PADDED].cumsum(axis=0).cumsum(axis=1)
    around = (padded[5:, 5:] - padded[:-5, 5:] - padded[5:, :-5] + padded[:-5, :-5]) / np.float32(25)
    contrast = (blocks - around)[_FACE_WINDOW]
    # Squashed, so that one highlight or a dark frame of glasses does not outweigh the face.
    contrast /= np.float32(8) + np.abs(contrast)
    contrast -= contrast.mean()
    correlation = float((contrast * _FACE).sum()) / math.sqrt(float((contrast * contrast).sum()) + 1e-6)
    # Upside-down and sideways faces lie around -0.1 to 0; of LFW the least thousandth reaches 0.0, the median 0.5.
    return (correlation + 0.05) / 0.45


_BLOCK_STARTS: Final = np.arange(0, CROP_SIDE_PX, _BLOCK)
_EDGE_PADDED: Final = np.clip(np.arange(-2, CROP_SIDE_PX // _BLOCK + 2), 0, CROP_SIDE_PX // _BLOCK - 1)


def _to_score(value: float) -> int:
    # A comparison with NaN is false: what cannot be computed scores nothing.
    return round(100 * min(value, 1.0)) if value > 0 else 0
