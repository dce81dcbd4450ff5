"""What the header of a picture says, without decoding it."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

# JPEG markers that begin a frame (ITU-T T.81, table B.1): C0 to CF without C4, C8 and CC.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def picture_size(content: bytes) -> tuple[int, int] | None:
    """Return (width, height) as the header of a JPEG, PNG, BMP or WebP says it, before any orientation; else None."""
    try:
        if content[:8] == b"\x89PNG\r\n\x1a\n" and content[12:16] == b"IHDR":
            width, height = struct.unpack(">II", content[16:24])
        elif content[:2] == b"\xff\xd8":
            width, height = _jpeg_size(content)
        elif content[:2] == b"BM":
            width, height = struct.unpack("<ii", content[18:26])
            height = abs(height)  # negative: rows from top to bottom
        elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
            width, height = _webp_size(content)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _jpeg_size(content: bytes) -> tuple[int, int]:
    position = 2
    while position < len(content):
        if content[position] != 0xFF:
            return 0, 0
        marker = content[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in _START_OF_FRAME:
            height, width = struct.unpack(">HH", content[position + 5 : position + 9])
            return width, height
        if marker in (0x01, 0xD8, *range(0xD0, 0xD8)):  # markers without a length
            position += 2
            continue
        (length,) = struct.unpack(">H", content[position + 2 : position + 4])
        position += 2 + length
    return 0, 0


def _webp_size(content: bytes) -> tuple[int, int]:
    kind = content[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + ((bits >> 14) & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", content[26:30])
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def orientation_applied(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return a picture turned upright by its EXIF orientation, 1 to 8 (EXIF 2.32, 4.6.4 A); any other value changes nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
