"""Whether a build answers as the trained network does, asked through the runtime that a device would use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from facekeep.runtime import open_session
from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.export.network import Exportable


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a build may be from the trained network.

    Attributes:
        smallest_cosine: of the answers to any one picture.
        mean_cosine: over all pictures.
    """

    smallest_cosine: float
    mean_cosine: float


# Weights rounded to float16 move an answer by 0.0002 at the most, so a cosine of 0.99999 leaves no room for a wrong graph. Eight
# bits gave 0.990 at the least and 0.999 on average over 844 faces; what is far below has gone wrong, not been rounded.
FLOAT: Final = Tolerance(0.9999, 0.99999)
INT8: Final = Tolerance(0.95, 0.99)
TOLERANCES: Final = {"onnx-fp32": FLOAT, "litert-fp32": FLOAT, "onnx-int8": INT8, "litert-int8": INT8}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How near a build is to the trained network.

    Attributes:
        pictures: how many were compared.
        smallest_cosine: of the answers to any one picture.
        mean_cosine: over all pictures.
        largest_difference: of any number of the answers, each answer of an embedder scaled to unit length.
    """

    pictures: int
    smallest_cosine: float
    mean_cosine: float
    largest_difference: float


def require_agreement(network: Exportable, build: str, model: bytes, pictures: NDArray[np.float32]) -> Agreement:
    """Return how near a build is to the trained network.

    Args:
        network: the network.
        build: id of the build, a key of `TOLERANCES`; its first word is the runtime.
        model: the file.
        pictures: (N, 3, H, W) float32 RGB, 0 to 255.

    Raises:
        ExportError: "export.differs" if it is not near enough.
        ModelError: "model.invalid_model", "model.runtime_missing".
    """
    found = agreement(network, build, model, pictures)
    tolerance = TOLERANCES[build]
    # Not the other way round: a NaN compares false.
    if not (found.smallest_cosine >= tolerance.smallest_cosine and found.mean_cosine >= tolerance.mean_cosine):
        raise ExportError(
            "export.differs",
            f"{network.pack}/{build} does not answer as the network it was made of: cosine {found.smallest_cosine:.5f} at the "
            f"least and {found.mean_cosine:.5f} on average over {found.pictures} pictures, at least {tolerance.smallest_cosine} "
            f"and {tolerance.mean_cosine} are expected. Nothing was written.",
        )
    return found


def agreement(network: Exportable, build: str, model: bytes, pictures: NDArray[np.float32]) -> Agreement:
    """Return how near a build is to the trained network, as `require_agreement`, whatever comes out."""
    runtime = build.split("-", 1)[0]
    session = open_session(runtime, {f"{network.file_stem}.{'onnx' if runtime == 'onnx' else 'tflite'}": model})
    places = [session.outputs.index(name) for name in network.output_names]
    expected, answered = [], []
    for picture in pictures:
        feed = picture.transpose(1, 2, 0) if runtime == "litert" else picture
        outputs = session.run({network.input_name: np.ascontiguousarray(feed)[None]})
        answered.append(_row([outputs[place] for place in places], network))
        expected.append(trained_answer(network, picture))
    given, wanted = np.stack(answered), np.stack(expected)
    lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(wanted, axis=1)
    cosines = (given * wanted).sum(axis=1) / lengths
    return Agreement(len(pictures), float(cosines.min()), float(cosines.mean()), float(np.abs(given - wanted).max()))


@torch.no_grad()
def trained_answer(network: Exportable, picture: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what the trained network says of a (3, H, W) float32 picture: all outputs in a row, of unit length if it embeds."""
    made = network.trained(torch.from_numpy(np.ascontiguousarray(picture))[None])
    return _row([each.numpy() for each in (made if isinstance(made, tuple) else (made,))], network)


def _row(outputs: Sequence[NDArray[Any]], network: Exportable) -> NDArray[np.float64]:
    row = np.concatenate([np.asarray(each, np.float64).ravel() for each in outputs])
    # An embedding is a direction; the numbers of a detector are what they are.
    return row / np.linalg.norm(row) if network.output_names == ("embedding",) else row
