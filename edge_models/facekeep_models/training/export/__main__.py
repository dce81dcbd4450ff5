"""The command of the exporter.

    python -m facekeep_models.training.export embedder --weights student.pt --work DIR --data DIR --packs STORE
    python -m facekeep_models.training.export detector --weights detector.pt --work DIR
    python -m facekeep_models.training.export people --work DIR --data DIR --into DIR

One JSON line for each build on standard output, progress on standard error. `people` makes a folder of links to the pictures of
the people who were held out, for `facekeep-models evaluate --images`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from facekeep.assembly import ModelChoice, load_models
from facekeep.errors import FacekeepError
from facekeep.packs import LoadPolicy, Manifest, PackStore, manifest_to_bytes
from facekeep.packs.files import write_atomically
from facekeep_models.catalogue import ROOT
from facekeep_models.evaluation.operating_points import write_points
from facekeep_models.training.export import network, pictures
from facekeep_models.training.export.builds import BUILDS, Written, write_builds
from facekeep_models.training.export.held_out import (
    IMAGES,
    TARGETS,
    aligned_faces,
    embedded_faces,
    held_out_people,
    held_out_pictures,
    measure,
)
from facekeep_models.training.export.manifest import UNSHIPPED, detector_manifest, embedder_manifest

_DETECTOR: Final = "yunet-s/onnx-dynamic"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    try:
        {"embedder": _embedder, "detector": _detector, "people": _people}[options.network](options)
    except FacekeepError as error:
        sys.exit(f"{error.code}: {error.args[0]}")


def _embedder(options: argparse.Namespace) -> None:
    from facekeep_models.training.embedder.network import Student

    # 1
    exported = network.embedder(network.with_weights(Student(), options.weights))
    # 2: the lot that calibrates is not the lot that compares.
    crops = pictures.training_crops(options.work, options.calibration + options.compared, seed=options.seed)
    mixed = np.random.default_rng(options.seed).permutation(len(crops))
    calibration, compared = crops[mixed[: options.calibration]], crops[mixed[options.calibration :]]
    everyone = np.concatenate([compared, pictures.drawn_crops(options.compared // 4)])
    written = _written(exported, options, pictures.as_tensors(calibration), pictures.as_tensors(everyone))
    # 5
    path = _write_manifest(embedder_manifest(written), options.root)
    # 6
    if options.packs is None or options.data is None:
        _tell("no operating points: --data and --packs were left out")
        return
    shown = held_out_pictures(options.data, held_out_people(options.data, options.work))
    people = len({picture.person for picture in shown})
    store = PackStore(options.packs, [options.root, ROOT])
    faces: list[NDArray[np.uint8] | None] = []
    for build in written:
        _tell(f"operating points of {build.build}")
        models = load_models(store, ModelChoice(_DETECTOR, f"{exported.pack}/{build.build}"), policy=LoadPolicy())
        faces = faces or aligned_faces(models.detector, shown)
        without = sum(face is None for face in faces)
        dataset = (
            f"LFW View 1 training split, people held out of training: {people} people, {len(shown)} pictures, {without} without a "
            f"face, all pairs; detector {_DETECTOR}; no quality gate"
        )
        points = measure(embedded_faces(models.embedder, faces), shown, TARGETS, dataset)
        write_points(path, build.build, points)
        _say({"build": build.build, "operating_points": [asdict(point) for point in points]})
    _set_aside(written, options, exported.pack)


def _people(options: argparse.Namespace) -> None:
    options.into.mkdir(parents=True, exist_ok=True)
    for picture in held_out_pictures(options.data, held_out_people(options.data, options.work)):
        link = options.into / picture.name
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to((options.data / IMAGES / picture.name).resolve())


def _set_aside(written: Sequence[Written], options: argparse.Namespace, pack: str) -> None:
    """Move what does not ship to the folder of the recipe."""
    for each in written:
        if (pack, each.build) in UNSHIPPED:
            folder = options.work / "builds" / pack / each.build
            folder.mkdir(parents=True, exist_ok=True)
            shutil.move(each.path, folder / each.path.name)
            each.path.parent.rmdir()
            _tell(f"{each.build} does not ship: {folder / each.path.name}")


def _detector(options: argparse.Namespace) -> None:
    from facekeep_models.training.detector.network import Detector

    size = (options.size_px[0], options.size_px[1])
    exported = network.detector(network.with_weights(Detector(), options.weights), size)
    frames = pictures.training_frames(options.work, options.calibration + options.compared, size, seed=options.seed)
    mixed = np.random.default_rng(options.seed).permutation(len(frames))
    compared = [frames[mixed[options.calibration :]], pictures.drawn_frames(options.compared // 4, size)]
    written = _written(exported, options, frames[mixed[: options.calibration]], np.concatenate(compared))
    _write_manifest(detector_manifest(written, size), options.root)


def _written(
    exported: network.Exportable,
    options: argparse.Namespace,
    calibration: NDArray[np.float32],
    compared: NDArray[np.float32],
) -> tuple[Written, ...]:
    """Steps 2 to 4, one JSON line for each build."""
    weights = options.root / "weights"
    written = write_builds(exported, options.builds, weights, calibration=calibration, compared=compared, say=_tell)
    for each in written:
        _say({"pack": exported.pack} | asdict(each) | {"path": str(each.path)})
    return written


def _write_manifest(manifest: Manifest, root: Path) -> Path:
    path = root / "manifests" / f"{manifest.id}.json"
    write_atomically(path, manifest_to_bytes(manifest))
    return path


def _say(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.export", description="Write the builds of a network.")
    several = parser.add_subparsers(dest="network", required=True)
    for name, calibration in (("embedder", 128), ("detector", 64)):
        one = several.add_parser(name)
        one.add_argument("--weights", type=Path, required=True, help="state dict, or a checkpoint of the recipe")
        one.add_argument("--work", type=Path, required=True, help="folder of the recipe, with the pictures it was trained on")
        one.add_argument("--root", type=Path, default=ROOT, help="where manifests/ and weights/ lie; what ships unless told")
        # LiteRT's 8 bits cost a detector more than the check allows: its heads give offsets and logits on one scale.
        usual = [build for build in BUILDS if name == "embedder" or build != "litert-int8"]
        one.add_argument("--builds", nargs="+", choices=BUILDS, default=usual)
        one.add_argument("--calibration", type=int, default=calibration, help="pictures to calibrate the 8-bit builds on")
        one.add_argument("--compared", type=int, default=64, help="pictures on which builds and network are compared")
        one.add_argument("--seed", type=int, default=1)
        if name == "embedder":
            one.add_argument("--data", type=Path, help="folder with lfw-devtrain, for operating points")
            one.add_argument("--packs", type=Path, help="pack store with yunet-s, for operating points")
        else:
            one.add_argument("--size-px", type=int, nargs=2, default=(320, 320), help="height and width of the LiteRT input")
    people = several.add_parser("people")
    people.add_argument("--work", type=Path, required=True, help="folder of the recipe of the embedder")
    people.add_argument("--data", type=Path, required=True, help="folder with lfw-devtrain")
    people.add_argument("--into", type=Path, required=True, help="folder to make")
    return parser


if __name__ == "__main__":
    main()
