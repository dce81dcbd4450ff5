"""What the exporter has to know of a network: one small interface for the embedder and for the detector."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import torch
from torch import nn

from facekeep.training import PatchTable
from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.export.folding import folded, rounded_to_half
from facekeep_models.training.export.graph import onnx_model
from facekeep_models.training.export.patch_tables import patch_table
from facekeep_models.training.export.patchable import patchable, with_features

EMBEDDER_PACK: Final = "facekeep-embedder"
DETECTOR_PACK: Final = "facekeep-detector"


@dataclass(frozen=True, slots=True, eq=False)
class Exportable:
    """A trained network and how it is written down.

    Attributes:
        pack: id of the pack.
        file_stem: file name of every build, without its suffix.
        trained: what was trained, (N, 3, H, W) RGB 0 to 255 to its outputs: what builds are compared with.
        converted: what the LiteRT builds are made of: the same function, in the form that converts best.
        onnx: the float32 ONNX model, the weights of which are stored as float16 where asked for and worth it.
        size_px: (height, width) of pictures for calibration and comparison, and of the input of LiteRT builds.
        input_name: name of the input in every build.
        output_names: names of the outputs of `trained` in every build, in its order; builds may have more.
        table: the patch table of a build's file, None where nothing of it can be trained.
    """

    pack: str
    file_stem: str
    trained: nn.Module
    converted: nn.Module
    onnx: Callable[[bool], onnx.ModelProto]
    size_px: tuple[int, int]
    input_name: str
    output_names: tuple[str, ...]
    table: Callable[[str, bytes], PatchTable | None] = lambda _build, _model: None


def embedder(student: nn.Module) -> Exportable:
    """Return a trained `training.embedder.network.Student` for export.

    Raises:
        ExportError: "export.unsupported_layer", "export.invalid_weights".
    """
    from facekeep_models.training.embedder.network import INPUT_PX

    trained = student.eval()
    converted = rounded_to_half(folded(trained))

    def write(half: bool) -> onnx.ModelProto:
        model = onnx_model(converted, input_name="crop", output_name="embedding", crop_px=INPUT_PX, half=half)
        # What is stored ships and may be patched; what is quantised keeps its biases, and only its features go out.
        return patchable(model) if half else with_features(model)

    size_px = (INPUT_PX, INPUT_PX)
    return Exportable(
        EMBEDDER_PACK, "facekeep_embedder", trained, converted, write, size_px, "crop", ("embedding",), table=patch_table
    )


def detector(network: nn.Module, size_px: tuple[int, int]) -> Exportable:
    """Return a trained `training.detector.network.Detector` for export; its ONNX takes any size that 32 divides."""
    from facekeep_models.training.detector.export import detector_model
    from facekeep_models.training.detector.network import OUTPUTS, Detector

    if not isinstance(network, Detector):
        raise ExportError("export.invalid_weights", f"A Detector was expected; found {type(network).__name__}.")
    trained = network.eval()
    return Exportable(
        DETECTOR_PACK,
        "facekeep_detector",
        trained,
        trained,
        lambda half: detector_model(trained, half=half),
        size_px,
        "input",
        OUTPUTS,
    )


def with_weights(network: nn.Module, path: Path) -> nn.Module:
    """Return `network` with the weights of a file: a state dict, or a checkpoint whose moving average is taken.

    Raises:
        ExportError: "export.invalid_weights" for a file that is none, or whose weights are those of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        raise ExportError("export.invalid_weights", f"{path.name} cannot be read as weights ({type(error).__name__}).") from error
    if isinstance(state, Mapping) and "average" in state:
        state = state["average"]
    if not isinstance(state, Mapping):
        raise ExportError("export.invalid_weights", f"{path.name} holds a {type(state).__name__}; names with weights are expected.")
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        wanted = sorted(set(network.state_dict()) ^ {str(name) for name in state})
        reason = f"names differ, {wanted[0]} the first" if wanted else "shapes differ"
        raise ExportError(
            "export.invalid_weights", f"{path.name} holds the weights of another network than {type(network).__name__}: {reason}."
        ) from error
    return network
