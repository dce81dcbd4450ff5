"""The model that a federation trains, as far as the coordinator needs it: the file that shipped and where its numbers lie.

model/base          the model file, as it shipped in the devices' pack
      table.json    its patch table (docs/formats/patch-table.md)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import ReleaseError
from facekeep.protocol.policy import FederationPolicy
from facekeep.training.kit import ANCHORS_FILE, DESCRIPTION_FILE, GRAPH_FILE, parse_training_kit
from facekeep.training.patching import PatchTable, parse_patch_table, read_parameters
from facekeep_server.errors import ServerError
from facekeep_server.federation.creation import load_policy, write_policy
from facekeep_server.federation.files import read_file, replace_file
from facekeep_server.federation.state import FederationState


@dataclass(frozen=True, slots=True)
class BaseModel:
    """The model file that shipped.

    Attributes:
        content: of the file.
        table: where its trainable numbers lie.
    """

    content: bytes = field(repr=False)
    table: PatchTable

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the file: the base of every release, and of the plans before the first."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def parameters(self) -> NDArray[np.float32]:
        """The (P,) numbers that it shipped with."""
        return read_parameters(self.content, self.table)


def import_model(state: FederationState, content: bytes, table: bytes) -> BaseModel:
    """Keep the model file that shipped and its patch table.

    Raises:
        ReleaseError: "release.malformed", "release.wrong_model" if they do not belong together.
        ServerError: "server.invalid_request" if the federation trains another one.
    """
    model = BaseModel(content, parse_patch_table(table))
    _ = model.parameters
    folder = state.folder("model")
    if (folder / "base").is_file() and read_file(folder / "base") != content:
        raise ServerError("server.invalid_request", "This federation trains another model; releases continue the one that shipped.")
    replace_file(folder / "table.json", table)
    replace_file(folder / "base", content)
    return model


def import_kit(state: FederationState, folder: Path) -> FederationPolicy:
    """Keep the training kit among what every device gets, and state its hash in their policy; return the policy.

    Kits that were made for devices before are changed as well; a device that joined before has to join again to train.

    Raises:
        ReleaseError: "release.malformed", "release.wrong_model" if it is none, or of another model.
    """
    names = (DESCRIPTION_FILE, ANCHORS_FILE, GRAPH_FILE)
    files = {name: read_file(folder / name) for name in names if (folder / name).is_file()}
    kit = parse_training_kit(files.pop(DESCRIPTION_FILE, b""), files, sha256=None)
    if kit.rest_sha256 != read_model(state).table.rest_sha256:
        raise ReleaseError("release.wrong_model", "The training kit is of another model than the one this federation trains.")
    target = state.folder("device/training-kit")
    for name, content in (*files.items(), (DESCRIPTION_FILE, read_file(folder / DESCRIPTION_FILE))):
        replace_file(target / name, content, mode=0o644)
    policy = replace(load_policy(state), training_kit=kit.sha256)
    write_policy(state, policy)
    return policy


def read_model(state: FederationState) -> BaseModel:
    """Return the model.

    Raises:
        ServerError: "server.invalid_configuration" if none was imported.
    """
    folder = state.root / "model"
    if not (folder / "base").is_file():
        raise ServerError("server.invalid_configuration", "No model was imported: run `facekeep-server federate model`.")
    return BaseModel(read_file(folder / "base"), parse_patch_table(read_file(folder / "table.json")))
