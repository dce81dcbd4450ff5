"""The files of the estimator, which are not part of the repository: pinned, and refused where they are anything else.

npm pack @vladmandic/face-api@1.7.15 && tar -xzf vladmandic-face-api-1.7.15.tgz    # the directory is package/model
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import ModelError
from facekeep_models.training.people_estimator import Estimator

MANIFEST_FILE: Final = "age_gender_model-weights_manifest.json"
WEIGHTS_FILE: Final = "age_gender_model.bin"
# SHA-256 of the files of @vladmandic/face-api 1.7.15.
PINNED: Final[Mapping[str, str]] = {
    MANIFEST_FILE: "74b60bf3ebf981bf4e661e9cca3a185614e10b25d797118b62e2a68d3ff2569f",
    WEIGHTS_FILE: "49f92bbc0afef2342c4385e4a2b0acb6d7a727c6f0aa539499719a81acf9abaa",
}
# More than either file has.
_LARGEST_BYTES: Final = 1024 * 1024


def read_estimator(directory: Path, pinned: Mapping[str, str] = PINNED) -> Estimator:
    """Read the estimator from its two files; nothing is parsed that is not the pinned file.

    Raises:
        ModelError: "model.not_installed", "model.io", "model.hash_mismatch", "model.invalid_model".
    """
    found: dict[str, bytes] = {}
    for name, expected in pinned.items():
        try:
            with (directory / name).open("rb") as stream:
                found[name] = stream.read(_LARGEST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            raise ModelError(
                "model.not_installed",
                f"{name} is expected in {directory}. It is other people's work and does not ship with Facekeep: "
                "npm pack @vladmandic/face-api@1.7.15, unpack it, and name its directory package/model.",
            ) from None
        except OSError as error:
            raise ModelError("model.io", f"{directory / name} cannot be read: {error.strerror or type(error).__name__}.") from None
        if hashlib.sha256(found[name]).hexdigest() != expected:
            raise ModelError(
                "model.hash_mismatch",
                f"{name} is not the file of @vladmandic/face-api 1.7.15, cut short perhaps: SHA-256 {expected} was expected, "
                f"another was found over {len(found[name])} bytes. Unpack the package again.",
            )
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
