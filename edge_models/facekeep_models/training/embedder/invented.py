"""More faces than there are pictures: crops bent and blended into faces of nobody, and what the teacher says of each.

Nineteen thousand pictures are soon known by heart. A face bent by a smooth field, or joined with another one along a soft edge, is
a face the teacher has an opinion of and the student has not seen; the drawn people of `facekeep_models.people` are others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facekeep.alignment import similarity_to_template
from facekeep.ports import Embedder
from facekeep.resampling import warp_affine
from facekeep_models.people import draw_person, screened_people, synthetic_person
from facekeep_models.training.embedder.crops import CROP_PX, MARGIN_PX, NOBODY, Crops, open_teacher

_BATCH = 64
# Displacements are drawn on this many points a side, in pixels, and joined smoothly: noses and jaws move, hairs do not tear.
_POINTS = 6
_BEND_PX = 4.0
_BLENDED = 0.5
_PICTURES_OF_EACH = 4


def with_invented(crops: Crops, work: Path, packs: Path, *, count: int, drawn: int, seed: int, say: Callable[[str], None]) -> Crops:
    """Return `crops` with invented faces after them, from `work` where they were made before.

    Args:
        crops: the real ones; held-out people are not used.
        work: folder of `prepare_crops`.
        packs: store with yunet-s and reid-retail-0095.
        count: number of bent and blended faces.
        drawn: number of pictures of drawn people, at the most all of them with four pictures each.
        seed: chooses and bends.
        say: progress, one line at a time.
    """
    if count + drawn == 0:
        return crops
    marker = work / "invented.json"
    wanted = {"count": count, "drawn": drawn, "seed": seed, "of": len(crops.pixels), "version": 1}
    if not marker.exists() or json.loads(marker.read_text()) != wanted:
        pixels = np.concatenate([*_bent(crops, count, seed), *_drawn(drawn)])
        teacher = _ask(open_teacher(packs).embedder, pixels, say)
        np.save(work / "invented_pixels.npy", pixels)
        np.save(work / "invented_teacher.npy", teacher)
        marker.write_text(json.dumps(wanted))
    pixels, teacher = np.load(work / "invented_pixels.npy"), np.load(work / "invented_teacher.npy")
    return Crops(
        np.concatenate([crops.pixels, pixels]),
        np.concatenate([crops.teacher, teacher]),
        np.concatenate([crops.person, np.full(len(pixels), NOBODY, np.int32)]),
        np.concatenate([crops.held_out, np.zeros(len(pixels), np.bool_)]),
        np.concatenate([crops.invented, np.ones(len(pixels), np.bool_)]),
    )


def _bent(crops: Crops, count: int, seed: int) -> Iterator[NDArray[np.uint8]]:
    usable = np.flatnonzero(~crops.held_out)
    random = np.random.default_rng([seed, 1])
    generator = torch.Generator().manual_seed(seed)
    for at in range(0, count, _BATCH):
        size = min(_BATCH, count - at)
        pair = [_bend(_tensor(crops.pixels[np.sort(random.choice(usable, size))]), generator) for _ in range(2)]
        # One face passes into another along a soft edge that runs anywhere.
        edge = _smooth(size, 1, 4, generator)
        share = torch.sigmoid(6 * (edge + 0.4 * torch.randn((size, 1, 1, 1), generator=generator)))
        blended = (torch.rand((size, 1, 1, 1), generator=generator) < _BLENDED).float()
        share = share * blended + 1 - blended
        # Partners come in the order of the file, where neighbours are one person: mixed anew.
        partner = pair[1][torch.randperm(size, generator=generator)]
        mixed = share * pair[0] + (1 - share) * partner
        yield mixed.clamp(0, 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def _bend(batch: Tensor, generator: torch.Generator) -> Tensor:
    count = len(batch)
    still = torch.eye(2, 3).expand(count, 2, 3)
    grid = functional.affine_grid(still, [count, 3, CROP_PX, CROP_PX], align_corners=False)
    strength = _BEND_PX * 2 / CROP_PX * (0.4 + 0.6 * torch.rand((count, 1, 1, 1), generator=generator))
    field = _smooth(count, 2, _POINTS, generator) * strength
    return functional.grid_sample(batch, grid + field.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def _smooth(count: int, channels: int, points: int, generator: torch.Generator) -> Tensor:
    coarse = torch.randn((count, channels, points, points), generator=generator)
    return functional.interpolate(coarse, size=(CROP_PX, CROP_PX), mode="bicubic", align_corners=True)


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()


def _drawn(count: int) -> Iterator[NDArray[np.uint8]]:
    for place in range(min(count, _PICTURES_OF_EACH * screened_people())):
        picture = draw_person(synthetic_person(place // _PICTURES_OF_EACH), place % _PICTURES_OF_EACH)
        forward = similarity_to_template(picture.landmarks_px) + np.array([[0, 0, MARGIN_PX], [0, 0, MARGIN_PX]], np.float64)
        backward = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))[:2]
        yield warp_affine(picture.pixels, backward, (CROP_PX, CROP_PX))[None]


def _ask(embedder: Embedder, pixels: NDArray[np.uint8], say: Callable[[str], None]) -> NDArray[np.float32]:
    inner = pixels[:, MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    answers = []
    # A session may be asked by several threads; each of its answers takes one.
    with ThreadPoolExecutor(2) as pool:
        for place, answer in enumerate(pool.map(lambda crop: embedder.embed(np.ascontiguousarray(crop)), inner)):
            if place % 1000 == 0:
                say(f"teacher: {place} of {len(pixels)} invented faces")
            answers.append(answer)
    return np.stack(answers).astype(np.float32)
