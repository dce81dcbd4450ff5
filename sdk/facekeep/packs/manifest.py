"""What a model pack says of itself: files and their hashes, input and output, licence, training data, operating points.

The values here are valid once they exist; `facekeep.packs.parsing` makes them out of JSON that nobody vouches for.
Format: docs/formats/model-pack.md.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final, Literal, get_args

from facekeep.address import is_permitted_address
from facekeep.biometric import OperatingPoint
from facekeep.canonical import HEX_DIGEST
from facekeep.contract import InputContract
from facekeep.errors import ModelError

MANIFEST_VERSION: Final = 1
# Far above any model a device would run, far below what would fill its memory before the hash is known.
LARGEST_FILE_BYTES: Final = 1 << 30
LARGEST_DIMENSION: Final = 8192

Task = Literal["detection", "embedding", "pad"]
Family = Literal["yunet", "rfb320", "blazeface", "points", "cosine", "minifas"]
RuntimeName = Literal["onnx", "litert", "openvino"]
Precision = Literal["fp32", "fp16", "int8"]
Use = Literal["research", "evaluation", "commercial", "simulation"]
Option = str | int | float | bool

FAMILIES_OF_TASK: Final[dict[str, tuple[str, ...]]] = {
    "detection": ("yunet", "rfb320", "blazeface", "points"),
    "embedding": ("cosine",),
    "pad": ("minifas",),
}
CROP_OF_TASK: Final[dict[str, str]] = {"detection": "frame", "embedding": "arcface-112", "pad": "box"}

_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
# No path separator and no leading dot: a manifest must not choose where on the disk it is written.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_LONGEST_ID = 64


@dataclass(frozen=True, slots=True)
class Licence:
    """Licence of the weights.

    Attributes:
        weights: SPDX identifier.
        source: where that licence is stated.
        note: what else is known of it, may be empty.
    """

    weights: str
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What the weights were trained on.

    Attributes:
        description: what is known, and what is not.
        consented: whether the people pictured agreed to this use; False unless it is documented.
    """

    description: str
    consented: bool


@dataclass(frozen=True, slots=True)
class Source:
    """Where the weights come from: repository, path and commit, each as far as it is known."""

    repository: str
    path: str
    commit: str


@dataclass(frozen=True, slots=True)
class OutputContract:
    """What the model gives back.

    Attributes:
        dimension: length of the embedding; None for the other tasks.
        landmarks: whether a detector gives the five landmarks that alignment needs.
        classes: for a PAD model, the meaning of each class in the order of its output.
    """

    dimension: int | None = None
    landmarks: bool = False
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackFile:
    """One file of a build.

    Attributes:
        name: file name, without a directory.
        size_bytes: exact size.
        sha256: hexadecimal SHA-256.
        url: official address, or None where the file has none and can only be imported.
    """

    name: str
    size_bytes: int
    sha256: str
    url: str | None = None

    def __post_init__(self) -> None:
        if not _FILE_NAME.fullmatch(self.name) or ".." in self.name:
            raise ValueError("a file name holds letters, digits, dots, hyphens and underscores, and no directory")
        if not 1 <= self.size_bytes <= LARGEST_FILE_BYTES:
            raise ValueError(f"a file has 1 to {LARGEST_FILE_BYTES} bytes")
        if not HEX_DIGEST.fullmatch(self.sha256):
            raise ValueError("a SHA-256 is 64 lower-case hexadecimal digits")
        if self.url is not None and not is_permitted_address(self.url):
            raise ValueError("an address is https (or http on the loopback interface)")


@dataclass(frozen=True, slots=True)
class Build:
    """The pack in one runtime and precision.

    Attributes:
        id: name of the build within its pack.
        runtime: which runtime reads it.
        precision: of the weights. Says nothing about speed: that is measured.
        files: every file it needs.
        operating_points: thresholds measured with exactly this build; quantisation moves them.
        input: the input contract where it differs from the pack's.
        note: what else there is to know, may be empty.
        unusable_because: why no runtime loads it, or None.
    """

    id: str
    runtime: RuntimeName
    precision: Precision
    files: tuple[PackFile, ...]
    operating_points: tuple[OperatingPoint, ...] = ()
    input: InputContract | None = None
    note: str = ""
    unusable_because: str | None = None

    def __post_init__(self) -> None:
        require_id(self.id)
        if self.runtime not in get_args(RuntimeName) or self.precision not in get_args(Precision):
            raise ValueError("the runtime or the precision is not one this version knows")
        names = [file.name.lower() for file in self.files]
        if not names or len(set(names)) != len(names):
            # Lower case: two names that differ by case are one file on some disks.
            raise ValueError("a build has files of different names")

    @property
    def can_be_pulled(self) -> bool:
        """Whether every file has an official address and a runtime loads it."""
        return self.unusable_because is None and all(file.url for file in self.files)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a pack says of itself.

    Attributes:
        id: name of the pack.
        task: "detection", "embedding" or "pad".
        family: which decoder reads the output.
        title: one line for people.
        licence: of the weights.
        training_data: what they were trained on.
        permitted_uses: "research", "evaluation", "commercial", "simulation".
        source: where they come from.
        input: how pixels become the input tensor.
        output: what comes out.
        options: settings of the family, such as a score floor.
        builds: the pack in each runtime and precision.
    """

    id: str
    task: Task
    family: Family
    title: str
    licence: Licence
    training_data: TrainingData
    permitted_uses: tuple[Use, ...]
    source: Source
    input: InputContract
    output: OutputContract
    builds: tuple[Build, ...]
    options: tuple[tuple[str, Option], ...] = ()

    def __post_init__(self) -> None:
        require_id(self.id)
        if self.task not in FAMILIES_OF_TASK or self.family not in FAMILIES_OF_TASK[self.task]:
            raise ValueError(f"family {self.family!r} does not do task {self.task!r}")
        if not self.permitted_uses or not set(self.permitted_uses) <= set(get_args(Use)):
            raise ValueError(f"permitted uses are some of {', '.join(get_args(Use))}")
        if len(set(self.permitted_uses)) != len(self.permitted_uses):
            raise ValueError("a permitted use stands once")
        if "simulation" in self.permitted_uses and len(self.permitted_uses) > 1:
            raise ValueError("a pack for simulation is for nothing else")
        if (self.task == "embedding") != (self.output.dimension is not None):
            raise ValueError("an embedding has a dimension, and nothing else has")
        if self.output.dimension is not None and not 1 <= self.output.dimension <= LARGEST_DIMENSION:
            raise ValueError(f"an embedding has 1 to {LARGEST_DIMENSION} dimensions")
        if (self.task == "pad") != bool(self.output.classes):
            raise ValueError("a PAD model names its classes, and nothing else does")
        if len(set(self.output.classes)) != len(self.output.classes) or (
            self.output.classes and "bona_fide" not in self.output.classes
        ):
            raise ValueError("classes have different names, and one of them is bona_fide")
        if self.output.landmarks and self.task != "detection":
            raise ValueError("only a detector gives landmarks")
        ids = [build.id for build in self.builds]
        if not ids or len(set(ids)) != len(ids):
            raise ValueError("a pack has builds of different ids")
        for build in self.builds:
            if build.operating_points and self.task != "embedding":
                raise ValueError("only embeddings have operating points")
            if self.input_of(build).crop != CROP_OF_TASK[self.task]:
                raise ValueError(f"the input of a {self.task} model is cropped {CROP_OF_TASK[self.task]!r}")
        if any(isinstance(value, float) and not math.isfinite(value) for _, value in self.options):
            raise ValueError("options are finite")

    @property
    def is_simulation(self) -> bool:
        """Whether the pack knows drawn figures only and must never be taken for real use."""
        return "simulation" in self.permitted_uses

    def build(self, build_id: str) -> Build:
        """Return the build of this id.

        Raises:
            ModelError: "model.unknown_pack".
        """
        for build in self.builds:
            if build.id == build_id:
                return build
        known = ", ".join(build.id for build in self.builds)
        raise ModelError("model.unknown_pack", f"Pack {self.id!r} has no build {build_id[:_LONGEST_ID]!r}; it has {known}.")

    def input_of(self, build: Build) -> InputContract:
        """Return the input contract of `build`."""
        return build.input or self.input


def require_id(name: str) -> str:
    """Return `name` if it can name a pack or a build: it becomes a directory, so it holds nothing but a-z, 0-9 and hyphens.

    Raises:
        ValueError: otherwise.
    """
    if len(name) > _LONGEST_ID or not _ID.fullmatch(name):
        raise ValueError(f"an id is up to {_LONGEST_ID} lower-case letters and digits, with single hyphens between them")
    return name
