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
Embeddings are kept in a cache outside the repository, so that an interrupted run goes on where it stopped. They are
biometric data of the people pictured: delete the cache when done.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.assembly import Inference, LoadedModels, ModelChoice, load_models
from facekeep.biometric import Detection, Frame, OperatingPoint
from facekeep.calibration import measure_operating_points
from facekeep.capture import as_frame
from facekeep.clock import SystemClock
from facekeep.errors import AcquisitionError, ComparisonError
from facekeep.packs import LoadPolicy, PackStore, manifest_to_bytes, parse_manifest
from facekeep_models.catalogue import MANIFESTS
from facekeep_models.simulation import DrawnPerson, draw_frame

TARGETS: Final = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
_SAVE_EVERY = 500
# Pictures of one person that make mated pairs. In LFW one man has 530, and of all mated pairs two thirds.
_MOST_PICTURES = 10
# Takes no part: the same file stands under another name already, so one of the two names is wrong.
_NOBODY = -1
_DRAWINGS_EACH = 3
_DRAWING_SIZE = (240, 320)
_PICTURES = {".jpg", ".jpeg", ".png"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of a data set: a name that is stable, the person it is of, and how to get it."""

    name: str
    person: int
    load: Callable[[], Frame]


def pictures_of_directory(directory: Path) -> list[Picture]:
    """Return the pictures of DIR/<person>/<file>, by name.

    Errors that the names alone give away are mended, since at the strictest thresholds they are most of what is left: names of
    the same words in another order ("Nan_Wang", "Wang_Nan") are one person, a file that stands under two names counts once.
    """
    pictures: list[Picture] = []
    known: dict[tuple[str, ...], int] = {}
    seen: set[bytes] = set()
    for home in sorted(path for path in directory.iterdir() if path.is_dir()):
        person = known.setdefault(tuple(sorted(re.split("[_-]", home.name.lower()))), len(known))
        for path in sorted(each for each in home.iterdir() if each.suffix.lower() in _PICTURES):
            digest = hashlib.sha256(path.read_bytes()).digest()
            pictures.append(Picture(f"{home.name}/{path.name}", _NOBODY if digest in seen else person, _reader(path)))
            seen.add(digest)
    return pictures


def drawn_pictures(people: int) -> list[Picture]:
    """Return drawings of people who do not exist."""
    return [
        Picture(f"drawn/{seed}/{variation}", seed, _drawer(seed, variation))
        for seed in range(people)
        for variation in range(_DRAWINGS_EACH)
    ]


def embed_all(models: LoadedModels, pictures: Sequence[Picture], cache: Path, say: Callable[[str], None]) -> NDArray[np.float32]:
    """Return (N, D) float32 unit vectors, rows of NaN where no face was found; goes on from `cache`."""
    names = hashlib.sha256("\n".join(picture.name for picture in pictures).encode()).hexdigest()
    vectors = np.full((len(pictures), models.embedder.dimension), np.nan, dtype=np.float32)
    path = cache / f"{models.contract_id[:16]}-{names[:16]}.npz"
    done = 0
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            done = int(stored["done"])
            vectors[:done] = stored["vectors"]
        say(f"going on at picture {done}, from {path}")
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    begun, first = time.monotonic(), done
    for index in range(done, len(pictures)):
        vector = _embed(models, pictures[index])
        if vector is not None:
            vectors[index] = vector
        if (index + 1) % _SAVE_EVERY == 0 or index + 1 == len(pictures):
            _save(path, vectors[: index + 1])
            rate = (index + 1 - first) / (time.monotonic() - begun)
            say(f"{index + 1} of {len(pictures)} pictures, {rate:.1f} a second, {(len(pictures) - index - 1) / rate:.0f} s to go")
    return vectors


def measure(
    vectors: NDArray[np.float32], pictures: Sequence[Picture], targets: Sequence[float], dataset: str
) -> tuple[OperatingPoint, ...]:
    """Return the operating points of embedded pictures; pictures without a face take no part."""
    everyone = np.array([picture.person for picture in pictures])
    found = np.flatnonzero(np.isfinite(vectors[:, 0]) & (everyone != _NOBODY))
    people = everyone[found]
    _, first = np.unique(people, return_index=True)
    scores: list[NDArray[np.float32]] = []
    owners: list[NDArray[np.int64]] = []
    for person in np.unique(people):
        rows = vectors[found[people == person][:_MOST_PICTURES]]
        upper = np.triu_indices(len(rows), 1)
        scores.append((rows @ rows.T)[upper])
        owners.append(np.full(len(upper[0]), person))
    return measure_operating_points(
        vectors[found[first]], np.concatenate(scores), np.concatenate(owners), targets=targets, dataset=dataset
    )


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
    store = PackStore(options.packs)
    detector = options.detector or ("drawn-detector/onnx" if options.drawn else "yunet-s/onnx-dynamic")
    models = load_models(
        store, ModelChoice(detector, f"{options.pack}/{options.build}"), policy=LoadPolicy(), inference=Inference(options.threads)
    )
    vectors = embed_all(models, pictures, options.cache.expanduser(), _say)
    without = int(np.sum(~np.isfinite(vectors[:, 0])))
    people = len({picture.person for picture in pictures} - {_NOBODY})
    name = options.name or ("drawn people" if options.drawn else options.images.name)
    dataset = f"{name}: {people} people, {len(pictures)} pictures, {without} without a face; detector {detector}; no quality gate"
    points = measure(vectors, pictures, options.targets, dataset)
    for point in points:
        _say(
            f"FMR {point.fmr:g} {point.fmr_interval}: threshold {point.threshold:.4f}, "
            f"FNMR {point.fnmr:.4f} {point.fnmr_interval}, {point.non_mated} non-mated, {point.mated} mated"
        )
    if not options.dry_run:
        path = options.manifest or MANIFESTS / f"{options.pack}.json"
        write_points(path, options.build, points)
        _say(f"written into {path}")


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
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/facekeep/evaluation"))
    parser.add_argument("--manifest", type=Path, help="where to write; the shipped manifest of the pack unless told")
    parser.add_argument("--dry-run", action="store_true", help="print, and write nothing")
    return parser


def _embed(models: LoadedModels, picture: Picture) -> NDArray[np.float32] | None:
    try:
        frame = picture.load()
        faces = models.detector.detect(frame)
        return models.embedder.embed(align(frame, _central(faces, frame))) if faces else None
    except (AcquisitionError, ComparisonError):
        # A failure to acquire: counted, and part of no comparison.
        return None


def _central(faces: Sequence[Detection], frame: Frame) -> Detection:
    """Return the face nearest to the middle: data sets of single faces cut their pictures around the person named."""

    def distance(face: Detection) -> float:
        left, top, width, height = face.box_px
        return (left + width / 2 - frame.width / 2) ** 2 + (top + height / 2 - frame.height / 2) ** 2

    return min(faces, key=distance)


def _save(path: Path, vectors: NDArray[np.float32]) -> None:
    unfinished = path.with_suffix(".new")
    with unfinished.open("wb") as stream:
        np.savez(stream, done=np.array(len(vectors)), vectors=vectors)
    unfinished.replace(path)


def _reader(path: Path) -> Callable[[], Frame]:
    return lambda: as_frame(path, SystemClock())


def _drawer(seed: int, variation: int) -> Callable[[], Frame]:
    return lambda: Frame(draw_frame(DrawnPerson(seed), variation, _DRAWING_SIZE).pixels, datetime(2026, 1, 1, tzinfo=UTC))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
