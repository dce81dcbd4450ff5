"""Measures the operating points of one build of an embedder and writes them into its manifest.

    python -m facekeep_models.evaluation.operating_points --pack reid-retail-0095 --build onnx-fp32 \\
        --packs STORE --images DIR --name "LFW development set"
    python -m facekeep_models.evaluation.operating_points --pack drawn-embedder --build onnx --drawn 3300

DIR holds a directory for each person. Steps:
    1 embed every picture: the face nearest to the middle, aligned, no quality gate
    2 non-mated: all pairs of people, one picture each; mated: all pairs among up to ten pictures of one person, so that those
      with hundreds do not speak for everyone
    3 for each target that the counts support, the threshold that keeps it, with 95 % intervals
    4 write them into the manifest
Embeddings are kept in a cache outside the repository (`facekeep_models.evaluation.embedding` says how), so that an interrupted
run goes on where it stopped and other targets need no second run. They are biometric data of the people pictured: delete the
cache when done, or run with --delete-cache.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.assembly import Inference, ModelChoice, load_models
from facekeep.biometric import OperatingPoint
from facekeep.calibration import measure_operating_points
from facekeep.packs import LoadPolicy, PackStore, manifest_to_bytes, parse_manifest
from facekeep_models.catalogue import MANIFESTS
from facekeep_models.evaluation.comparisons import has_embedding, mated_scores
from facekeep_models.evaluation.embedding import DEFAULT_CACHE, EmbeddingCache, embed_pictures
from facekeep_models.evaluation.pictures import NOBODY, Picture, drawn_pictures, pictures_of_directory
from facekeep_models.evaluation.progress import ShownProgress

__all__ = ["TARGETS", "Picture", "main", "measure", "pictures_of_directory", "write_points"]

TARGETS: Final = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
# Pictures of one person that make mated pairs. In LFW one man has 530, and of all mated pairs two thirds.
MOST_PICTURES: Final = 10


def measure(
    vectors: NDArray[np.float32], pictures: Sequence[Picture], targets: Sequence[float], dataset: str
) -> tuple[OperatingPoint, ...]:
    """Return the operating points of embedded pictures; pictures without a face take no part."""
    everyone = np.array([picture.person for picture in pictures])
    found = np.flatnonzero(has_embedding(vectors) & (everyone != NOBODY))
    people = everyone[found]
    _, first = np.unique(people, return_index=True)
    few = np.concatenate([found[people == person][:MOST_PICTURES] for person in np.unique(people)])
    scores, owners = mated_scores(vectors, vectors, everyone, few)
    return measure_operating_points(vectors[found[first]], scores, owners, targets=targets, dataset=dataset)


def write_points(manifest_path: Path, build_id: str, points: tuple[OperatingPoint, ...]) -> None:
    """Replace the operating points of one build in a manifest file."""
    manifest = parse_manifest(manifest_path.read_bytes())
    manifest.build(build_id)
    builds = tuple(replace(build, operating_points=points) if build.id == build_id else build for build in manifest.builds)
    manifest_path.write_bytes(manifest_to_bytes(replace(manifest, builds=builds)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    options = _parser().parse_args(arguments)
    pictures = drawn_pictures(options.drawn) if options.drawn else pictures_of_directory(options.images)
    store, cache, shown = PackStore(options.packs), EmbeddingCache(options.cache), ShownProgress(sys.stdout)
    detector = options.detector or ("drawn-detector/onnx" if options.drawn else "yunet-s/onnx-dynamic")
    models = load_models(
        store, ModelChoice(detector, f"{options.pack}/{options.build}"), policy=LoadPolicy(), inference=Inference(options.threads)
    )
    embedded = embed_pictures(models, pictures, cache, progress=shown, say=shown.say)
    without = sum(code != "" for code in embedded.failures)
    people = len({picture.person for picture in pictures} - {NOBODY})
    name = options.name or ("drawn people" if options.drawn else options.images.name)
    dataset = f"{name}: {people} people, {len(pictures)} pictures, {without} without a face; detector {detector}; no quality gate"
    points = measure(embedded.vectors, pictures, options.targets, dataset)
    for point in points:
        shown.say(
            f"FMR {point.fmr:g} {point.fmr_interval}: threshold {point.threshold:.4f}, "
            f"FNMR {point.fnmr:.4f} {point.fnmr_interval}, {point.non_mated} non-mated, {point.mated} mated"
        )
    if not options.dry_run:
        path = options.manifest or MANIFESTS / f"{options.pack}.json"
        write_points(path, options.build, points)
        shown.say(f"written into {path}")
    if options.delete_cache:
        cache.delete()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.evaluation.operating_points")
    parser.add_argument("--pack", required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--packs", type=Path, default=Path("~/.facekeep/packs"), help="store that the packs are installed in")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, help="a directory for each person")
    source.add_argument("--drawn", type=int, help="this many people who do not exist")
    parser.add_argument("--name", help="what the data set is called in the manifest")
    parser.add_argument("--detector", help="pack/build; yunet-s/onnx-dynamic unless told")
    parser.add_argument("--targets", type=float, nargs="+", default=list(TARGETS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--delete-cache", action="store_true", help="delete the embeddings when done")
    parser.add_argument("--manifest", type=Path, help="where to write; the shipped manifest of the pack unless told")
    parser.add_argument("--dry-run", action="store_true", help="print, and write nothing")
    return parser


if __name__ == "__main__":
    main()
