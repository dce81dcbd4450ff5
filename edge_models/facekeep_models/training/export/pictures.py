"""Pictures to calibrate on and to compare builds with: of training people, never of held-out ones, and of people nobody is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.biometric import Detection, Frame
from facekeep.contract import InputContract
from facekeep.detection.fitting import fit_frame
from facekeep_models.people import Variation, draw_person, synthetic_person
from facekeep_models.training.export.errors import ExportError

_ONE_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def training_crops(work: Path, count: int, *, seed: int) -> NDArray[np.uint8]:
    """Return (N, 112, 112, 3) uint8 RGB: crops that the embedder was trained on, drawn by lot.

    Args:
        work: folder of `training.embedder`.
        count: N, fewer where there are fewer.
        seed: of the lot.

    Raises:
        ExportError: "export.no_pictures".
    """
    from facekeep_models.training.embedder.crops import MARGIN_PX

    pixels, held_out = _arrays(work, "pixels", "held_out")
    if len(pixels) != len(held_out):
        raise _no_pictures(work)
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(~held_out))[:count]
    inner = pixels[np.sort(chosen)][:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return np.ascontiguousarray(inner)


def training_frames(work: Path, count: int, size_px: tuple[int, int], *, seed: int) -> NDArray[np.float32]:
    """Return (N, 3, H, W) float32 RGB: pictures that the detector was trained on, fitted into `size_px` as a device fits them.

    Raises:
        ExportError: "export.no_pictures".
    """
    pixels, place, held_out = _arrays(work, "pixels", "place", "held_out")
    chosen = np.random.default_rng(seed).permutation(np.flatnonzero(~held_out))[:count]
    pictures = [
        np.asarray(pixels[start : start + height * width * 3]).reshape(height, width, 3)
        for start, height, width in place[np.sort(chosen)].tolist()
    ]
    return fitted_frames(pictures, size_px)


def drawn_crop(person: int, number: int, variation: Variation | None = None) -> NDArray[np.uint8]:
    """Return (112, 112, 3) uint8 RGB: an aligned crop of a person who does not exist, the same every time.

    Args:
        person: which of the synthetic people.
        number: which of their pictures.
        variation: what pictures of theirs differ in.
    """
    picture = draw_person(synthetic_person(person), number, variation)
    side = float(len(picture.pixels))
    return align(still_frame(picture.pixels), Detection((0.0, 0.0, side, side), picture.landmarks_px, 1.0))


def drawn_crops(people: int, *, first: int = 0) -> NDArray[np.uint8]:
    """Return (2 * people, 112, 112, 3) uint8 RGB: two aligned crops each of people who do not exist, the same every time.

    Args:
        people: how many.
        first: index of the first of them.
    """
    return np.stack([drawn_crop(index, number) for index in range(first, first + people) for number in range(2)])


def drawn_frames(people: int, size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Return (people, 3, H, W) float32 RGB: pictures of people who do not exist, the same every time."""
    return fitted_frames([draw_person(synthetic_person(index), 0).pixels for index in range(people)], size_px)


def fitted_frames(pictures: list[NDArray[np.uint8]], size_px: tuple[int, int]) -> NDArray[np.float32]:
    """Return (N, 3, H, W) float32 RGB, 0 to 255, of (h, w, 3) uint8 pictures, each fitted into `size_px` as a device does."""
    contract = InputContract("NCHW", "RGB", size_px, 32)
    return np.concatenate([fit_frame(Frame(pixels, _ONE_DAY), contract, max(size_px)).tensor for pixels in pictures])


def still_frame(pixels: NDArray[np.uint8]) -> Frame:
    """Return a frame of (h, w, 3) uint8 RGB pixels, taken on a fixed day."""
    return Frame(pixels, _ONE_DAY)


def as_tensors(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (N, 3, H, W) float32, 0 to 255, of (N, H, W, 3) uint8."""
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32)


def _arrays(work: Path, *names: str) -> tuple[NDArray[Any], ...]:
    try:
        return tuple(np.load(work / f"{name}.npy", mmap_mode="r" if name == "pixels" else None) for name in names)
    except (OSError, ValueError) as error:
        raise _no_pictures(work) from error


def _no_pictures(work: Path) -> ExportError:
    return ExportError("export.no_pictures", f"{work} does not hold the pictures of a recipe: run the training first.")
