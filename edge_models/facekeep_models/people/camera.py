"""What a camera does to a picture: blur, too little light, noise, compression. Pure; (H, W, 3) float32, 0 to 255."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_GAMMA: Final = 2.2
# What is left of the light at darkness 1, and how much noise the amplifier then adds, in grey levels.
_LEAST_LIGHT: Final = 0.02
_NIGHT_NOISE: Final = 14.0
# ISO/IEC 10918-1, tables K.1 and K.2: luminance and chrominance.
_LUMINANCE: Final = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
_CHROMINANCE: Final = np.full((8, 8), 99, np.float32)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
# ITU-T T.871: RGB to YCbCr.
_TO_YCC: Final = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_TO_RGB: Final = np.linalg.inv(_TO_YCC.astype(np.float64)).astype(np.float32)
_CHROMA_ZERO: Final = np.array([128, 0, 0], np.float32)
_WAVES: Final = np.array(
    [[math.sqrt((1 if u == 0 else 2) / 8) * math.cos((2 * x + 1) * u * math.pi / 16) for x in range(8)] for u in range(8)],
    np.float32,
)


def blurred(pixels: Floats, deviation_px: float) -> Floats:
    """Return a picture under a Gaussian blur; edges repeat."""
    if deviation_px < 0.1:
        return pixels
    reach = math.ceil(3 * deviation_px)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation_px) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if each == axis else (0, 0) for each in range(3)]
        padded = np.pad(pixels, padding, mode="edge")
        size = pixels.shape[axis]
        pixels = np.zeros_like(pixels)
        for offset, tap in enumerate(taps.tolist()):
            pixels += np.float32(tap) * (padded[offset : offset + size] if axis == 0 else padded[:, offset : offset + size])
    return pixels


def darkened(pixels: Floats, darkness: float) -> Floats:
    """Return a picture as less light leaves it: the light falls, then grey levels are read out as ever."""
    if darkness <= 0:
        return pixels
    gain = _LEAST_LIGHT**darkness
    return np.asarray(pixels * np.float32(gain ** (1 / _GAMMA)), np.float32)


def noisy(pixels: Floats, noise: float, darkness: float, random: np.random.Generator) -> Floats:
    """Return a picture with a sensor's noise, partly the same in all channels; darkness adds the amplifier's."""
    deviation = math.hypot(noise, _NIGHT_NOISE * darkness)
    height, width = pixels.shape[:2]
    # Drawn even where it is not used: the rest of the stream stays the same.
    grain = random.standard_normal((height, width, 4), dtype=np.float32)
    if deviation <= 0:
        return pixels
    return np.asarray(pixels + np.float32(deviation) * (0.8 * grain[:, :, 3:] + 0.6 * grain[:, :, :3]), np.float32)


def compressed(pixels: Floats, quality: int) -> Floats:
    """Return a picture after the loss of a JPEG without subsampling: cosines of 8x8 blocks, rounded.

    The only step that can turn a difference in the last bit into a visible one: a number at the edge of two steps may fall on
    either side on another machine.
    """
    height, width = pixels.shape[:2]
    padded = np.pad(np.rint(np.clip(pixels, 0, 255)), ((0, -height % 8), (0, -width % 8), (0, 0)), mode="edge")
    rows, columns = padded.shape[0] // 8, padded.shape[1] // 8
    blocks = (padded @ _TO_YCC.T - _CHROMA_ZERO).reshape(rows, 8, columns, 8, 3).transpose(0, 2, 4, 1, 3)
    # The scale of the Independent JPEG Group's library.
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    steps = np.stack([np.clip(np.floor((table * scale + 50) / 100), 1, 255) for table in (_LUMINANCE, _CHROMINANCE, _CHROMINANCE)])
    steps = steps.astype(np.float32)
    waves = np.rint(_WAVES @ blocks @ _WAVES.T / steps) * steps
    back = (_WAVES.T @ waves @ _WAVES).transpose(0, 3, 1, 4, 2).reshape(rows * 8, columns * 8, 3)
    return np.asarray(((back + _CHROMA_ZERO) @ _TO_RGB.T)[:height, :width], np.float32)
