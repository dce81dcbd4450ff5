"""The forms in which a secret might be written: layouts, channel orders, number types, scales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.resampling import box_reduce

# int8 scales of embeddings that are in use: full range of a signed byte, and those of encrypted comparison.
_INT8_SCALES: Final = (127.0, 128.0, 300.0, 600.0)
# A reduced picture smaller than this to a side shows nobody.
_SMALLEST_PX: Final = 16
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class Form:
    """One secret in one form.

    Attributes:
        label: which secret in which form, for the report.
        data: the bytes.
        stride: a window is taken every this many bytes.
    """

    label: str
    data: bytes
    stride: int


def picture_forms(name: str, pixels: NDArray[np.uint8]) -> Iterator[Form]:
    """Yield the byte forms of a picture: any run of 31 bytes of one of them is found.

    Args:
        name: what the picture is, for the report.
        pixels: (H, W, 3) uint8 RGB.
    """
    yield Form(f"{name} as RGB", pixels.tobytes(), 16)
    yield Form(f"{name} as BGR", pixels[:, :, ::-1].tobytes(), 16)
    yield Form(f"{name} as planes", pixels.transpose(2, 0, 1).tobytes(), 16)
    yield Form(f"{name} mirrored", pixels[:, ::-1].tobytes(), 16)
    grey = pixels.astype(np.float32) @ _LUMA
    yield Form(f"{name} as grey", np.rint(grey).astype(np.uint8).tobytes(), 16)
    yield Form(f"{name} as grey, cut off", grey.astype(np.uint8).tobytes(), 16)
    for factor in (2, 3, 4):
        if min(pixels.shape[:2]) // factor >= _SMALLEST_PX:
            yield Form(f"{name} reduced by {factor}", box_reduce(pixels, factor).tobytes(), 16)


def tensor_forms(name: str, pixels: NDArray[np.uint8]) -> Iterator[Form]:
    """Yield the float32 tensors that are usually made of a picture, both layouts and both channel orders.

    Args:
        name: what the picture is, for the report.
        pixels: (H, W, 3) uint8 RGB.
    """
    values = pixels.astype(np.float32)
    scaled = {"0 to 255": values, "0 to 1": values / np.float32(255), "-1 to 1": (values - np.float32(127.5)) / np.float32(127.5)}
    for scale, array in scaled.items():
        for order, channels in (("RGB", array), ("BGR", array[:, :, ::-1])):
            yield Form(f"{name} as float32 {scale} {order}", channels.tobytes(), 16)
            yield Form(f"{name} as float32 {scale} {order} planes", channels.transpose(2, 0, 1).tobytes(), 16)


def array_form(name: str, array: NDArray[Any]) -> Form:
    """Return the bytes of an array as they lie."""
    return Form(name, np.ascontiguousarray(array).tobytes(), 16)


def vector_forms(name: str, vector: NDArray[np.float32]) -> Iterator[Form]:
    """Yield the number types and scales of an embedding or a template: a run of 16 bytes on a component's border is found.

    Args:
        name: what the vector is, for the report.
        vector: (D,) float32.
    """
    for kind in ("<f4", ">f4", "<f8", ">f8", "<f2", ">f2"):
        yield Form(f"{name} as {kind}", vector.astype(kind).tobytes(), np.dtype(kind).itemsize)
    # The upper half of a float32.
    yield Form(f"{name} as bfloat16", (vector.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes(), 2)
    largest = float(np.abs(vector).max())
    for scale in (*_INT8_SCALES, 127.0 / largest if largest > 0 else 1.0):
        whole = np.clip(np.rint(vector * np.float32(scale)), -128, 127).astype(np.int8)
        yield Form(f"{name} as int8 scaled by {scale:.1f}", whole.tobytes(), 1)
        yield Form(f"{name} as uint8 scaled by {scale:.1f}", (whole.astype(np.int16) + 128).astype(np.uint8).tobytes(), 1)
