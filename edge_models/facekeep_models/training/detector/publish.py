"""The last step of the recipe: the trained file into the package, with the manifest that speaks for it.

    python -m facekeep_models.training.detector.publish --work DIR --confidence NUMBER

Both files of it: the detector, and the second look at landmarks (`training.landmarks`). `calibrate` proposes the confidence;
docs/models/detector.md says why the one that ships is another.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from facekeep.packs import manifest_to_bytes
from facekeep.packs.manifest import Build, Licence, Manifest, OutputContract, PackFile, Source, TrainingData
from facekeep_models.catalogue import MANIFESTS, WEIGHTS
from facekeep_models.training.detector.validation import CONTRACT, LANDMARK_POWER

PACK: Final = "facekeep-detector"
BUILD: Final = "onnx-fp32"
FILE: Final = "facekeep_detector.onnx"
LANDMARK_FILE: Final = "facekeep_landmarks.onnx"
_NOTE: Final = "Any size that 32 divides; weights are stored in 16 bits and computed in 32. Ships with the package."
_DATA: Final = (
    "The development part of LFW (press pictures of public figures, collected from the web for research), scenes with crowds and "
    "scenes without people (pictures of research data sets and of the web, most without a stated licence), a few rendered faces "
    "(SFHQ) and drawn people of facekeep_models.people, which was itself learnt from LFW. Nobody pictured was asked. Where the "
    "faces are was said by YuNet-s, which was trained on WIDER FACE (pictures from the web, nobody asked), for drawn people by "
    "the program that drew them."
)


def manifest_of(files: Mapping[str, bytes], confidence: float) -> Manifest:
    """Return the manifest of trained files.

    Args:
        files: the ONNX files of the detector and of the second look, by name.
        confidence: from which a detection counts.
    """
    packed = tuple(PackFile(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items())
    return Manifest(
        id=PACK,
        task="detection",
        family="yunet",
        title="Facekeep's own face detector with five landmarks, taught by YuNet-s",
        licence=Licence(
            "Apache-2.0",
            "https://www.apache.org/licenses/LICENSE-2.0",
            "Made by the Facekeep project; ships with it. The pictures it was trained on allow research and evaluation only.",
        ),
        training_data=TrainingData(_DATA, consented=False),
        permitted_uses=("research", "evaluation"),
        source=Source("facekeep (this distribution)", "edge_models/facekeep_models/training/detector", ""),
        input=CONTRACT,
        output=OutputContract(landmarks=True),
        builds=(Build(BUILD, "onnx", "fp32", packed, note=_NOTE),),
        options=(
            ("confidence", confidence),
            ("landmark_model", LANDMARK_FILE.rpartition(".")[0]),
            ("landmark_power", LANDMARK_POWER),
        ),
    )


def publish(
    content: bytes, landmarks: bytes, confidence: float, *, manifests: Path = MANIFESTS, weights: Path = WEIGHTS
) -> Manifest:
    """Write the files of detector and second look and the manifest to where the catalogue reads them, and return the manifest."""
    files = {FILE: content, LANDMARK_FILE: landmarks}
    manifest = manifest_of(files, confidence)
    folder = weights / PACK / BUILD
    folder.mkdir(parents=True, exist_ok=True)
    for name, each in files.items():
        (folder / name).write_bytes(each)
    (manifests / f"{PACK}.json").write_bytes(manifest_to_bytes(manifest))
    return manifest


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.detector.publish", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that the recipe wrote to")
    parser.add_argument("--confidence", type=float, required=True, help="from which a detection counts, 0 to 1")
    parser.add_argument("--into", default=".", help="as of the recipe")
    parser.add_argument("--landmarks-into", default="landmarks", help="--into of the recipe of the second look")
    options = parser.parse_args(arguments)
    landmarks = (options.work / options.landmarks_into / LANDMARK_FILE).read_bytes()
    publish((options.work / options.into / FILE).read_bytes(), landmarks, options.confidence)


if __name__ == "__main__":
    main()
