"""Aligned crops with a margin, and what the teacher says of each: made once, read by every epoch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import similarity_to_template
from facekeep.assembly import LoadedModels, ModelChoice, load_models
from facekeep.biometric import Detection, Frame
from facekeep.capture import as_frame
from facekeep.clock import SystemClock
from facekeep.errors import FacekeepError
from facekeep.packs import LoadPolicy, PackStore
from facekeep.ports import Embedder
from facekeep.resampling import warp_affine

CROP_PX: Final = 136
MARGIN_PX: Final = 12
NOBODY: Final = -1
_BATCH: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """A set of crops.

    Attributes:
        pixels: (N, 136, 136, 3) uint8 RGB: the ArcFace 112 crop with 12 px around it.
        teacher: (N, 256) float32 unit vectors, the mean of the teacher's answers to the crop and to its mirror image.
        person: (N,) int32, -1 where nobody said who it is.
        held_out: (N,) bool, people kept for validation and operating points; never trained on.
        invented: (N,) bool, faces of nobody made by `with_invented`.
    """

    pixels: NDArray[np.uint8]
    teacher: NDArray[np.float32]
    person: NDArray[np.int32]
    held_out: NDArray[np.bool_]
    invented: NDArray[np.bool_]


def open_teacher(packs: Path) -> LoadedModels:
    """Return yunet-s and reid-retail-0095 from a pack store.

    Raises:
        ModelError: "model.not_installed" if one of them is not there.
    """
    choice = ModelChoice("yunet-s/onnx-dynamic", "reid-retail-0095/onnx-fp32")
    return load_models(PackStore(packs), choice, policy=LoadPolicy())


def prepare_crops(
    data: Path, work: Path, packs: Path, *, held_out_people: int, seed: int, limit: int, say: Callable[[str], None]
) -> Crops:
    """Return the crops of `data`, from `work` where they were made before.

    Args:
        data: folder with `lfw-devtrain`, and where present `more-faces` and `synthetic_sfhq`.
        work: folder for what is made; made for its owner only, for it holds faces and embeddings.
        packs: store with yunet-s and reid-retail-0095.
        held_out_people: number of people of peopleDevTrain.txt kept for validation.
        seed: chooses them.
        limit: pictures of each source at the most, 0 for all.
        say: progress, one line at a time.
    """
    marker = work / "crops.json"
    wanted = {"held_out_people": held_out_people, "seed": seed, "limit": limit, "version": 1}
    if not marker.exists() or json.loads(marker.read_text()) != wanted:
        work.mkdir(mode=0o700, parents=True, exist_ok=True)
        models = open_teacher(packs)
        found = list(_gather(data, models.detector.detect, limit, say))
        pixels = np.stack([crop for crop, _ in found])
        names = sorted({name for _, name in found if name})
        number = {name: place for place, name in enumerate(names)}
        person = np.array([number.get(name, NOBODY) for _, name in found], np.int32)
        held = np.random.default_rng(seed).permutation(len(names))[:held_out_people]
        teacher = np.concatenate(
            [_ask(models.embedder, pixels[at : at + _BATCH], at, len(pixels), say) for at in range(0, len(pixels), _BATCH)]
        )
        for name, array in (("pixels", pixels), ("teacher", teacher), ("person", person), ("held_out", np.isin(person, held))):
            np.save(work / f"{name}.npy", array)
        marker.write_text(json.dumps(wanted))
    pixels, teacher, person, held_out = (np.load(work / f"{name}.npy") for name in ("pixels", "teacher", "person", "held_out"))
    return Crops(pixels, teacher, person, held_out, np.zeros(len(person), np.bool_))


def _ask(embedder: Embedder, pixels: NDArray[np.uint8], at: int, total: int, say: Callable[[str], None]) -> NDArray[np.float32]:
    if at % (_BATCH * 20) == 0:
        say(f"teacher: {at} of {total}")
    inner = pixels[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    answers = [np.stack([embedder.embed(crop) for crop in crops]) for crops in (inner, np.ascontiguousarray(inner[:, :, ::-1]))]
    mean = answers[0] + answers[1]
    result: NDArray[np.float32] = (mean / np.linalg.norm(mean, axis=1, keepdims=True)).astype(np.float32)
    return result


def _gather(
    data: Path, detect: Callable[[Frame], tuple[Detection, ...]], limit: int, say: Callable[[str], None]
) -> Iterator[tuple[NDArray[np.uint8], str]]:
    labelled = [(path, path.parent.name) for path in sorted((data / "lfw-devtrain" / "images").rglob("*.jpg"))]
    drawn = [(path, "") for path in sorted((data / "synthetic_sfhq").glob("*.jpg"))]
    cut = sorted((data / "more-faces").rglob("*.jpg"))
    stop = limit or None
    for place, (path, name) in enumerate([*labelled[:stop], *drawn[:stop]]):
        if place % 1000 == 0:
            say(f"crops: {place} of {len(labelled[:stop]) + len(drawn[:stop])}")
        frame = as_frame(path, SystemClock())
        try:
            crop = _crop(frame, detect(frame))
        except FacekeepError:
            continue
        if crop is not None:
            yield crop, name
    for path in cut[:stop]:
        pixels = as_frame(path, SystemClock()).pixels
        if pixels.shape == (CROP_PX, CROP_PX, 3):
            yield pixels, ""


def _crop(frame: Frame, faces: tuple[Detection, ...]) -> NDArray[np.uint8] | None:
    middle = np.array([frame.width, frame.height]) / 2
    found = [face.landmarks_px for face in faces if face.landmarks_px is not None]
    if not found:
        return None
    # The person that a picture is named after stands in the middle of it.
    landmarks = min(found, key=lambda points: float(np.linalg.norm(points.mean(axis=0) - middle)))
    forward = similarity_to_template(landmarks) + np.array([[0, 0, MARGIN_PX], [0, 0, MARGIN_PX]], np.float64)
    backward = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))[:2]
    return warp_affine(frame.pixels, backward, (CROP_PX, CROP_PX))
