"""The model that a federation trains, as far as the coordinator needs it: the file that shipped and where its numbers lie.

model/base          the model file, as it shipped in the devices' pack
      table.json    its patch table (docs/formats/patch-table.md)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from facekeep.training.patching import PatchTable, parse_patch_table, read_parameters
from facekeep_server.errors import ServerError
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


def read_model(state: FederationState) -> BaseModel:
    """Return the model.

    Raises:
        ServerError: "server.invalid_configuration" if none was imported.
    """
    folder = state.root / "model"
    if not (folder / "base").is_file():
        raise ServerError("server.invalid_configuration", "No model was imported: run `facekeep-server federate model`.")
    return BaseModel(read_file(folder / "base"), parse_patch_table(read_file(folder / "table.json")))
