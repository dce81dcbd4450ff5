"""The contract of an embedding: which detector, alignment, embedder and preprocessing made it.

Two embeddings may be compared only if their contract ids are equal. Pure.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from facekeep.canonical import to_canonical

ALIGNMENT_ID = "arcface-112/similarity-umeyama/bilinear/1"


@dataclass(frozen=True, slots=True)
class InputContract:
    """How pixels become the input tensor of a model. Belongs to the model pack, not to the caller.

    A model sees `(pixel - mean) / std`, per channel in its own colour order, pixels 0 to 255.

    Attributes:
        layout: "NCHW" or "NHWC".
        colour: "RGB" or "BGR".
        size_px: (height, width), or None when any size that `multiple_of` divides is accepted.
        multiple_of: stride a free size has to be a multiple of.
        mean: three values on the 0 to 255 scale.
        std: three values on the 0 to 255 scale, none of them zero.
        crop: "frame" (whole frame), "arcface-112" (aligned crop, resized to `size_px`) or "box" (square around the box).
        crop_scale: for "box", side of the square in units of the longer side of the box.
    """

    layout: Literal["NCHW", "NHWC"]
    colour: Literal["RGB", "BGR"]
    size_px: tuple[int, int] | None
    multiple_of: int = 1
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop: Literal["frame", "arcface-112", "box"] = "frame"
    crop_scale: float = 1.0

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std, self.crop_scale)
        if not all(math.isfinite(number) for number in numbers) or 0.0 in self.std or self.crop_scale <= 0:
            raise ValueError("mean, std and crop scale are finite, std and crop scale not zero")
        if self.multiple_of < 1 or (self.size_px is not None and min(self.size_px) < 1):
            raise ValueError("sizes are positive")
        if self.size_px is None and self.crop != "frame":
            raise ValueError("a cropped input has a fixed size")

    def describe(self) -> dict[str, object]:
        """Return the contract as canonical-JSON values (numbers that may have a fraction as text)."""
        return {
            "layout": self.layout,
            "colour": self.colour,
            "size_px": list(self.size_px) if self.size_px else None,
            "multiple_of": self.multiple_of,
            "mean": [repr(float(value)) for value in self.mean],
            "std": [repr(float(value)) for value in self.std],
            "crop": self.crop,
            "crop_scale": repr(float(self.crop_scale)),
        }


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """One build of one pack, as far as it shapes an embedding.

    Attributes:
        pack_id: id of the pack.
        build_id: id of the build.
        family: which decoder or embedder code reads its output.
        files: file name -> hexadecimal SHA-256.
        input: the input contract.
        options: further settings that change the result (size of the detector's input, thresholds), as text.
    """

    pack_id: str
    build_id: str
    family: str
    files: Mapping[str, str]
    input: InputContract
    options: Sequence[tuple[str, str]] = ()

    def made_of(self, *sha256: str) -> ModelIdentity:
        """Return the identity of the same build made of other files, named by their hashes alone."""
        return replace(self, files={str(place): digest for place, digest in enumerate(sha256)})

    def describe(self) -> dict[str, object]:
        """Return what the contract hashes. Pack and build ids are labels, so they are left out: the bytes decide."""
        return {
            "family": self.family,
            "files": sorted(self.files.values()),
            "input": self.input.describe(),
            "options": [[name, value] for name, value in sorted(self.options)],
        }


def describe_contract(detector: ModelIdentity, embedder: ModelIdentity) -> dict[str, object]:
    """Return everything that decides whether two embeddings may be compared, as canonical-JSON values."""
    return {
        "v": 1,
        "detector": detector.describe(),
        "alignment": ALIGNMENT_ID,
        "embedder": embedder.describe(),
    }


def contract_id(detector: ModelIdentity, embedder: ModelIdentity) -> str:
    """Return the contract id: 64 hexadecimal digits, SHA-256 over the canonical description."""
    return hashlib.sha256(to_canonical(describe_contract(detector, embedder))).hexdigest()


def contract_id_with(description: Mapping[str, Any], model_sha256: str) -> str:
    """Return the contract id of what `describe_contract` describes, with another model file in the embedder's place.

    For whoever makes releases without having the packs.
    """
    embedder = dict(description["embedder"]) | {"files": [model_sha256]}
    return hashlib.sha256(to_canonical({**description, "embedder": embedder})).hexdigest()
