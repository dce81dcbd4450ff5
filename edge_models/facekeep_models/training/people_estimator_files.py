"""The files of the estimator, which are not part of the repository: pinned, and refused where they are anything else.

npm pack @vladmandic/face-api@1.7.15 && tar -xzf vladmandic-face-api-1.7.15.tgz    # the directory is package/model
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import ModelError
from facekeep.packs.files import read_checked
from facekeep.packs.manifest import PackFile
from facekeep_models.training.people_estimator import Estimator

MANIFEST_FILE: Final = "age_gender_model-weights_manifest.json"
WEIGHTS_FILE: Final = "age_gender_model.bin"
# The files of @vladmandic/face-api 1.7.15.
PINNED: Final = (
    PackFile(MANIFEST_FILE, 8_392, "74b60bf3ebf981bf4e661e9cca3a185614e10b25d797118b62e2a68d3ff2569f"),
    PackFile(WEIGHTS_FILE, 429_708, "49f92bbc0afef2342c4385e4a2b0acb6d7a727c6f0aa539499719a81acf9abaa"),
)


def read_estimator(directory: Path, pinned: Sequence[PackFile] = PINNED) -> Estimator:
    """Read the estimator from its two files; nothing is parsed that is not the pinned file.

    Raises:
        ModelError: "model.not_installed", "model.io", "model.hash_mismatch", "model.invalid_model".
    """
    try:
        found = {file.name: read_checked(directory / file.name, file) for file in pinned}
    except FileNotFoundError as error:
        raise ModelError(
            "model.not_installed",
            f"{MANIFEST_FILE} and {WEIGHTS_FILE} are expected in {directory}. They are other people's work and do not ship with "
            "Facekeep: npm pack @vladmandic/face-api@1.7.15, unpack it, and name its directory package/model.",
        ) from error
    return Estimator(parse_weights(found[MANIFEST_FILE], found[WEIGHTS_FILE]))


def parse_weights(manifest: bytes, content: bytes) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of a weights manifest of TensorFlow.js: one after the other, float32 or a byte for each number.

    A byte b stands for b * scale + min. https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/types.ts

    Raises:
        ModelError: "model.invalid_model".
    """
    arrays: dict[str, NDArray[np.float32]] = {}
    place = 0
    try:
        (group,) = json.loads(manifest)
        for entry in group["weights"]:
            name, shape, packing = str(entry["name"]), tuple(map(int, entry["shape"])), entry.get("quantization")
            if entry["dtype"] != "float32" or (packing and packing["dtype"] != "uint8") or name in arrays or min(shape) < 1:
                raise ValueError(name)
            count = math.prod(shape)
            if packing:
                packed = np.frombuffer(content, np.uint8, count, place)
                values = (packed * float(packing["scale"]) + float(packing["min"])).astype(np.float32)
            else:
                values = np.frombuffer(content, "<f4", count, place).astype(np.float32)
            place += count * (1 if packing else 4)
            if not np.isfinite(values).all():
                raise ValueError(name)
            arrays[name] = values.reshape(shape)
        if place != len(content):
            raise ValueError("length")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            "model.invalid_model", "Manifest and weights of the estimator do not belong together or are damaged."
        ) from error
    return arrays
