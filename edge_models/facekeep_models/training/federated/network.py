"""The shipped embedder in PyTorch with trainable numbers of each device's own: many devices in one batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import onnx
import torch
from onnx import numpy_helper
from onnxruntime import InferenceSession, SessionOptions
from torch import Tensor

from facekeep_models.catalogue import WEIGHTS
from facekeep_models.training.gradients.torch_graph import TorchGraph, unit_rows

SHIPPED: Final = WEIGHTS / "facekeep-embedder" / "onnx-fp32" / "facekeep_embedder.onnx"
Level = Literal["early", "channels", "head", "deep"]
HEAD: Final = "head.weight"
# Where the second stage begins: before it the network sees light and edges, behind it people.
_SECOND_STAGE: Final = "backbone_5"
CROP: Final = "crop"
EMBEDDING: Final = "embedding"
_PARAMETERS: Final = "parameters"


@dataclass(frozen=True, slots=True)
class Part:
    """One trainable tensor of the flat vector.

    Attributes:
        name: of the layer, and what of it: scale, offset, slope or weight.
        start: where it begins.
    """

    name: str
    start: int


class Network:
    """The embedder as a function of crops and of the flat vector of what is trained.

    Args:
        level: "early" (scales, offsets, slopes before the second stage), "channels" (all of them), "head" (the last linear map) or
            "deep" (both). A device trains "early" as the first numbers of its level "channels".
        device: where it computes.
        path: a patchable fp32 file.
    """

    def __init__(self, level: Level = "channels", device: str = "cpu", path: Path = SHIPPED) -> None:
        model = onnx.load(path)
        self._model = model
        self._graph = TorchGraph(model, device=device)
        self.device = device
        self.level = level
        (split,) = (node for node in model.graph.node if node.op_type == "Split")
        sizes = next(numpy_helper.to_array(each) for each in model.graph.initializer if each.name == split.input[1])
        parts: list[Part] = []
        chosen: list[Tensor] = []
        start = length_before = 0
        whole = self._graph.parameters
        late = False
        for name, length in zip(split.output, sizes.tolist(), strict=True):
            late = late or name.startswith((_SECOND_STAGE, HEAD))
            if not late if level == "early" else level == "deep" or (name == HEAD) == (level == "head"):
                parts.append(Part(name, length_before))
                length_before += length
                chosen.append(torch.arange(start, start + length, device=device))
            start += length
        self.parts = tuple(parts)
        # Where the trained numbers lie in the vector of the file.
        self.places = torch.cat(chosen)
        self.start = whole[self.places]
        self._whole = whole

    def whole(self, parameters: Tensor) -> Tensor:
        """Return (..., 54560) what the file holds, of (..., P) what is trained."""
        return self._whole.expand(*parameters.shape[:-1], -1).index_copy(-1, self.places, parameters)

    @property
    def early(self) -> int:
        """Return how many of the trained numbers, the first of them, belong to the layers before the second stage."""
        return next((part.start for part in self.parts if part.name.startswith((_SECOND_STAGE, HEAD))), len(self.start))

    def without_late(self, parameters: Tensor) -> Tensor:
        """Return (P,) with everything from the second stage on as it was before training."""
        return torch.cat([parameters[: self.early], self.start[self.early :]])

    def session(self, parameters: Tensor) -> InferenceSession:
        """Return a runtime with these parameters: on a CPU three times as fast as PyTorch."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        (place,) = (number for number, each in enumerate(model.graph.initializer) if each.name == _PARAMETERS)
        model.graph.initializer[place].CopyFrom(numpy_helper.from_array(self.whole(parameters).cpu().numpy(), _PARAMETERS))
        options = SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        return InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def embed(self, crops: Tensor, parameters: Tensor) -> Tensor:
        """Return (N, 256) unit vectors.

        Args:
            crops: (N, 3, 112, 112) RGB, 0 to 255.
            parameters: (P,) for all crops, or (N, P), of each its own.
        """
        if parameters.ndim == 1:
            return unit_rows(self._graph({CROP: crops, _PARAMETERS: self.whole(parameters)}, [EMBEDDING])[EMBEDDING])
        return torch.vmap(self._one)(crops, self.whole(parameters))

    def _one(self, crop: Tensor, whole: Tensor) -> Tensor:
        return unit_rows(self._graph({CROP: crop[None], _PARAMETERS: whole}, [EMBEDDING])[EMBEDDING])[0]
