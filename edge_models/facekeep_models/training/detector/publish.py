"""The last step of the recipe: the trained file into the package, with the manifest that speaks for it.

    python -m facekeep_models.training.detector.publish --work DIR --confidence NUMBER

`calibrate` proposes the confidence; docs/models/detector.md says why the one that ships is a step higher.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Final

from facekeep.packs import manifest_to_bytes
from facekeep.packs.manifest import Build, Licence, Manifest, OutputContract, PackFile, Source, TrainingData
from facekeep_models.catalogue import MANIFESTS, WEIGHTS
from facekeep_models.training.detector.validation import CONTRACT, LANDMARK_POWER

PACK: Final = "facekeep-detector"
BUILD: Final = "onnx-fp32"
FILE: Final = "facekeep_detector.onnx"
_DATA: Final = (
    "The development part of LFW (press pictures of public figures, collected from the web for research), scenes with crowds and "
    "scenes without people (pictures of research data sets and of the web, most without a stated licence), a few rendered faces "
    "(SFHQ) and drawn people of facekeep_models.people, which was itself learnt from LFW. Nobody pictured was asked. Where the "
    "faces are was said by YuNet-s, which was trained on WIDER FACE (pictures from the web, nobody asked), for drawn people by "
    "the program that drew them."
)


def manifest_of(content: bytes, confidence: float) -> Manifest:
    """Return the manifest of a trained file.

    Args:
        content: the ONNX file.
        confidence: from which a detection counts.
    """
    file = PackFile(FILE, len(content), hashlib.sha256(content).hexdigest())
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
        builds=(Build(BUILD, "onnx", "fp32", (file,), note="Any size that 32 divides. Ships with the package."),),
        options=(("confidence", confidence), ("landmark_power", LANDMARK_POWER)),
    )


def publish(content: bytes, confidence: float, *, manifests: Path = MANIFESTS, weights: Path = WEIGHTS) -> Manifest:
    """Write file and manifest to where the catalogue reads them, and return the manifest."""
    manifest = manifest_of(content, confidence)
    folder = weights / PACK / BUILD
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(content)
    (manifests / f"{PACK}.json").write_bytes(manifest_to_bytes(manifest))
    return manifest


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.detector.publish", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that the recipe wrote to")
    parser.add_argument("--confidence", type=float, required=True, help="from which a detection counts, 0 to 1")
    parser.add_argument("--into", default=".", help="as of the recipe")
    options = parser.parse_args(arguments)
    publish((options.work / options.into / FILE).read_bytes(), options.confidence)


if __name__ == "__main__":
    main()
