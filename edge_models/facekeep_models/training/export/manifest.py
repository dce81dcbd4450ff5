"""The manifests of the packs that are exported: what they are, what they learnt from, and which files they consist of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from facekeep.contract import InputContract
from facekeep.packs.manifest import (
    Build,
    Licence,
    Manifest,
    OutputContract,
    PackFile,
    Precision,
    RuntimeName,
    Source,
    TrainingData,
    Use,
)
from facekeep_models.training.export.builds import Written
from facekeep_models.training.export.network import DETECTOR_PACK, EMBEDDER_PACK

# What neither network may be used for, nobody having been asked: see `_LEARNT_FROM`.
PERMITTED: Final[tuple[Use, ...]] = ("research", "evaluation")
_LICENCE: Final = Licence(
    "Apache-2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    "Made by the Facekeep project; ships with it. The licence of the weights says nothing of the pictures they were learnt from.",
)
_LEARNT_FROM: Final = {
    EMBEDDER_PACK: (
        "Nobody pictured was asked. Labeled Faces in the Wild, View 1 training split without the people held out of it: public "
        "figures, photographs of news agencies, a data set for research. Some 9,000 aligned crops out of public repositories "
        "(more-faces), most of them without a stated licence. Synthetic faces: a sample of SFHQ, crops bent and blended into faces "
        "of nobody, and Facekeep's drawn people, whose model was learnt from LFW. Taught by reid-retail-0095 (Apache-2.0), whose "
        "own training data is not published. The operating points are of the people held out, whom neither training nor "
        "calibration saw."
    ),
    DETECTOR_PACK: (
        "Nobody pictured was asked. Labeled Faces in the Wild, View 1 training split: public figures, photographs of news "
        "agencies, a data set for research. Pictures with several faces and without any out of public repositories (scenes), most "
        "of them without a stated licence. A sample of SFHQ (synthetic) and Facekeep's drawn people, whose model was learnt from "
        "LFW. Taught by YuNet-s (MIT), which was trained on WIDER FACE."
    ),
}
_EMBEDDER_INPUT: Final = InputContract("NCHW", "RGB", (112, 112), crop="arcface-112")
_DETECTOR_INPUT: Final = InputContract("NCHW", "RGB", None, 32, crop="frame")
# What ships stays under 10 MB.
UNSHIPPED: Final = frozenset({(EMBEDDER_PACK, "litert-fp32")})
_SHIPS: Final = "Ships with Facekeep."
_IS_MADE: Final = (
    "Not in the package, which stays small: the exporter writes it from a training of one's own, and it can be imported."
)
_HALVES: Final = (
    "The weights of convolutions and of the last layer are stored as float16, to which they were rounded before anything was "
    "measured; {how}, arithmetic is float32."
)
_NOTES: Final = {
    "onnx-fp32": (
        "The weights of convolutions are stored as float16, to which they were rounded before anything was measured; ONNX Runtime "
        "widens them once, when it loads the model, arithmetic is float32. What a federation may train (scales, offsets, slopes, "
        "the last layer) is float32 in one row, whose place the patch table states."
    ),
    "litert-fp32": _HALVES.format(how="LiteRT widens them when it loads the model"),
    "onnx-int8": (
        "Static INT8 of ONNX Runtime (QDQ, weights per channel in 7 bits, so that no x86 overflows), calibrated on crops of people "
        "it was trained on. The first convolution, the activations and the last layer are float32; the last layer is stored as "
        "float16, and the patch table states where, for a federation may train it."
    ),
    "litert-int8": (
        "Static INT8 of ai-edge-quantizer (weights per channel), calibrated on crops of people it was trained on. The first "
        "convolution, the activations and the last layer are float32."
    ),
}
_DETECTOR_NOTES: Final = {
    "onnx-fp32": "",
    "litert-fp32": _HALVES.format(how="LiteRT widens them when it loads the model"),
    "onnx-int8": "Static INT8 of ONNX Runtime (QDQ, weights per channel in 7 bits), calibrated on pictures it was trained on.",
    "litert-int8": "Static INT8 of ai-edge-quantizer (weights per channel), calibrated on pictures it was trained on.",
}


def embedder_manifest(written: Sequence[Written]) -> Manifest:
    """Return the manifest of the embedder with the builds `written`, no operating points yet."""
    return Manifest(
        id=EMBEDDER_PACK,
        task="embedding",
        family="cosine",
        title="Facekeep's own embedder: 256 numbers, plain 3x3 residual blocks, in the space of reid-retail-0095",
        licence=_LICENCE,
        training_data=TrainingData(_LEARNT_FROM[EMBEDDER_PACK], consented=False),
        permitted_uses=PERMITTED,
        source=Source("facekeep (this distribution)", "edge_models/facekeep_models/training", ""),
        input=_EMBEDDER_INPUT,
        output=OutputContract(dimension=256),
        builds=tuple(_build(EMBEDDER_PACK, each, _EMBEDDER_INPUT, (112, 112), _NOTES[each.build]) for each in written),
    )


def detector_manifest(written: Sequence[Written], size_px: tuple[int, int]) -> Manifest:
    """Return the manifest of the detector with the builds `written`.

    Args:
        written: the builds.
        size_px: (height, width) of the input of the LiteRT builds, whose size is fixed.
    """
    return Manifest(
        id=DETECTOR_PACK,
        task="detection",
        family="yunet",
        title="Facekeep's own detector: three strides, five landmarks",
        licence=_LICENCE,
        training_data=TrainingData(_LEARNT_FROM[DETECTOR_PACK], consented=False),
        permitted_uses=PERMITTED,
        source=Source("facekeep (this distribution)", "edge_models/facekeep_models/training", ""),
        input=_DETECTOR_INPUT,
        output=OutputContract(landmarks=True),
        builds=tuple(_build(DETECTOR_PACK, each, _DETECTOR_INPUT, size_px, _DETECTOR_NOTES[each.build]) for each in written),
    )


def _build(pack: str, written: Written, contract: InputContract, size_px: tuple[int, int], note: str) -> Build:
    runtime: RuntimeName = "onnx" if written.build.startswith("onnx") else "litert"
    precision: Precision = "int8" if written.build.endswith("int8") else "fp32"
    layout: Literal["NHWC"] = "NHWC"
    return Build(
        written.build,
        runtime,
        precision,
        (PackFile(written.path.name, written.size_bytes, written.sha256), *([written.table] if written.table else [])),
        input=None if runtime == "onnx" else replace(contract, layout=layout, size_px=size_px, multiple_of=1),
        note=f"{note} {_IS_MADE if (pack, written.build) in UNSHIPPED else _SHIPS}".strip(),
    )
