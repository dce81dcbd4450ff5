"""The training kit of a federation: the training graph and the anchors of one model, as bytes whose hashes one description states.

The graph is a program that the device will run, and anchors decide what it learns: a policy states the SHA-256 of the description
(`TrainingKit.sha256`), so that nobody else can exchange either. Format: docs/formats/training-kit.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.canonical import HEX_DIGEST, parse_canonical, to_canonical
from facekeep.errors import ReleaseError
from facekeep.training.parameters import ParameterTable, parse_parameter_table
from facekeep.training.samples import UNIT_TOLERANCE

# Folder of a device's home in which the kit lies.
KIT_DIRECTORY: Final = "training-kit"
DESCRIPTION_FILE: Final = "kit.json"
GRAPH_FILE: Final = "train.onnx"
ANCHORS_FILE: Final = "anchors.f32"
MOST_ANCHORS: Final = 65_536
_KEYS: Final = {"v", "pack", "rest", "tensors", "anchors", "made_of", "files"}
_PACK: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}/[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True, slots=True, eq=False)
class TrainingKit:
    """A kit whose bytes were checked against its description.

    Attributes:
        pack: "pack/build" of the model.
        rest_sha256: as in the model's `PatchTable`: the kit is for this model, whatever its trainable numbers are.
        parameters: layout of the trainable numbers.
        graph: `train.onnx`; empty for a build of which the last linear map alone is trained.
        anchors: (A, D) float32 unit vectors, read-only.
        made_of: what the anchors are embeddings of, for people.
        sha256: of the description.
    """

    pack: str
    rest_sha256: str
    parameters: ParameterTable
    graph: bytes = field(repr=False)
    anchors: NDArray[np.float32] = field(repr=False)
    made_of: str
    sha256: str


def describe_kit(
    pack: str, rest_sha256: str, parameters: ParameterTable, anchors: NDArray[np.float32], graph: bytes, made_of: str
) -> tuple[bytes, dict[str, bytes]]:
    """Return the description of a kit and its other files by name, for those who make kits."""
    files = {ANCHORS_FILE: anchors.astype("<f4").tobytes()} | ({GRAPH_FILE: graph} if graph else {})
    described = {
        "v": 1,
        "pack": pack,
        "rest": rest_sha256,
        "tensors": parameters.to_value(),
        "anchors": len(anchors),
        "made_of": made_of,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return to_canonical(described), files


def parse_training_kit(description: bytes, files: Mapping[str, bytes], *, sha256: str | None) -> TrainingKit:
    """Return a kit.

    Args:
        description: `kit.json`.
        files: the others by name: "anchors.f32", and "train.onnx" where the description names it.
        sha256: of the description, as the policy states it; None only for whoever has just made the kit.

    Raises:
        ReleaseError: "release.wrong_model" where a hash differs; "release.malformed" otherwise.
    """
    found = hashlib.sha256(description).hexdigest()
    if sha256 is not None and found != sha256:
        raise ReleaseError("release.wrong_model", "The training kit is not the one that the policy states.")
    try:
        value = _checked(parse_canonical(description))
    except ValueError as error:
        raise ReleaseError("release.malformed", f"The description of the training kit is not well formed: {error}.") from error
    table = parse_parameter_table(value["tensors"])
    for name, stated in value["files"].items():
        if name not in files or hashlib.sha256(files[name]).hexdigest() != stated:
            raise ReleaseError("release.wrong_model", f"The {name} of the training kit is not the one that it describes.")
    content = files[ANCHORS_FILE]
    if len(content) != 4 * value["anchors"] * table.dimension:
        raise ReleaseError("release.malformed", "The training kit has anchors of another count or length.")
    anchors = np.frombuffer(content, "<f4").reshape(value["anchors"], table.dimension).astype(np.float32)
    anchors.flags.writeable = False
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(anchors.astype(np.float64), axis=1)
    if not (np.abs(lengths - 1) <= UNIT_TOLERANCE).all():
        raise ReleaseError("release.malformed", "An anchor of the training kit is not a finite unit vector.")
    graph = files[GRAPH_FILE] if GRAPH_FILE in value["files"] else b""
    return TrainingKit(value["pack"], value["rest"], table, graph, anchors, value["made_of"], found)


def kit_hashes(description: bytes, *, sha256: str) -> frozenset[str]:
    """Return the SHA-256 of every file of a kit, its description included; none if it is not the kit of this hash."""
    if hashlib.sha256(description).hexdigest() != sha256:
        return frozenset()
    try:
        return frozenset({sha256, *_checked(parse_canonical(description))["files"].values()})
    except ValueError:
        return frozenset()


def _checked(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != _KEYS or type(value["v"]) is not int or value["v"] != 1:
        raise ValueError("other members, or another version")
    texts = (value["pack"], value["rest"], value["made_of"])
    if not all(isinstance(text, str) for text in texts) or not _PACK.fullmatch(value["pack"]) or len(value["made_of"]) > 400:
        raise ValueError('the model is "pack/build"')
    if type(value["anchors"]) is not int or not 1 <= value["anchors"] <= MOST_ANCHORS:
        raise ValueError(f"there are 1 to {MOST_ANCHORS} anchors")
    files = value["files"]
    if not isinstance(files, dict) or ANCHORS_FILE not in files or not set(files) <= {ANCHORS_FILE, GRAPH_FILE}:
        raise ValueError(f"files are {ANCHORS_FILE} and perhaps {GRAPH_FILE}")
    hashes = [value["rest"], *files.values()]
    if not all(isinstance(each, str) and HEX_DIGEST.fullmatch(each) for each in hashes):
        raise ValueError("a hash has 64 hexadecimal digits")
    return value
