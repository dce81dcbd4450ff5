"""The model that ships, as files: what a coordinator imports."""

from __future__ import annotations

from pathlib import Path

from facekeep.packs import PackStore
from facekeep_models.federating.people import EMBEDDER


def write_shipped(folder: Path) -> Path:
    """Write the embedder that ships and its patch table into a folder; return the path of the model.

    Raises:
        ModelError: "model.not_installed" where the distribution was stripped of it.
    """
    pack, _, build = EMBEDDER.partition("/")
    folder.mkdir(parents=True, exist_ok=True)
    model = None
    for name, content in PackStore(folder).read_files(pack, build).items():
        (folder / name).write_bytes(content)
        if name.endswith(".onnx"):
            model = folder / name
    if model is None:
        raise AssertionError("the build that ships is an ONNX file")
    return model
