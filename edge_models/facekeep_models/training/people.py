"""The recipe of the synthetic people: one command from pictures of real people to the model of people who do not exist.

    python -m facekeep_models.training.people --images DIR --out DIR --packs STORE --mesh mediapipe_face_landmark.tflite

DIR holds a directory for each person. Steps:
    1 faces: the face of each picture, its landmarks, its mesh and its vector, for the screen
    2 shapes: pose taken out of every mesh
    3 textures: every picture carried onto a canvas where all faces have the same shape
    4 bases: directions in which shapes and textures vary
    5 people: how people differ, how pictures of one differ, axes of expression and skin tone; where a detector sees landmarks
    6 screen: seeds whose pictures resemble no training person
    7 files: the model, its facts, a picture of the spectra where matplotlib is installed
Needs no torch. About ten minutes on one core for 9,525 pictures, half of them for the screen, which stops at enough people. A run
that was interrupted goes on where it stopped. The cache holds biometric data of the people pictured: it lies outside the
repository and is deleted at the end unless told otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.assembly import Inference, ModelChoice, load_models
from facekeep.biometric import Frame
from facekeep.packs import LoadPolicy, PackStore
from facekeep.ports import Detector, Embedder
from facekeep.runtime import open_session
from facekeep_models.people.drawing import canvas_of, draw_person
from facekeep_models.people.facts import FACTS_VERSION, ModelFacts
from facekeep_models.people.geometry import CANVAS_PX
from facekeep_models.people.model import PeopleModel, model_to_bytes, parse_model
from facekeep_models.people.person import synthetic_person, unsafe_unscreened_person
from facekeep_models.training.people_faces import MediaPipeMesher, Mesher, read_faces
from facekeep_models.training.people_fit import cheek_tone
from facekeep_models.training.people_learning import SMOKE, Counts, Learnt, learn
from facekeep_models.training.people_screen import PICTURES_EACH, Examiner, Screened, screen

MODEL_FILE: Final = "people.npz"
FACTS_FILE: Final = "people.json"
SPECTRA_FILE: Final = "people-spectra.png"
# The threshold of FMR 1e-3 in the manifest of reid-retail-0095/onnx-fp32.
THRESHOLD: Final = 0.3406
DETECTOR: Final = "yunet-s/onnx-dynamic"
EMBEDDER: Final = "reid-retail-0095/onnx-fp32"
_PICTURES: Final = {".jpg", ".jpeg", ".png"}
_PERCENTILES: Final = (5, 25, 50, 75, 95)
_LOOKED_AT: Final = 300
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stages:
    """The models that the recipe looks through: teachers and judges, none of which ships."""

    detector: Detector
    embedder: Embedder
    mesher: Mesher


def make(
    images: Path,
    out: Path,
    stages: Stages,
    cache: Path,
    say: Callable[[str], None],
    *,
    counts: Counts,
    threshold: float = THRESHOLD,
) -> tuple[PeopleModel, ModelFacts]:
    """Run the recipe and write its files into `out`."""
    for directory in (cache, out):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700 if directory is cache else 0o755)
    paths = sorted(path for path in images.glob("*/*") if path.suffix.lower() in _PICTURES)
    names = {name: number for number, name in enumerate(sorted({path.parent.name for path in paths}))}
    people = np.array([names[path.parent.name] for path in paths], np.int64)
    # 1
    faces = read_faces(paths, stages.detector, stages.mesher, stages.embedder, cache, say)
    # 2 to 5
    learnt = learn(paths, people, faces, counts, cache, say)
    model = recalibrated(learnt.model, stages.detector, say)
    # 6
    seen = faces.vectors[np.isfinite(faces.vectors[:, 0])]
    progress = cache / f"screen-{_key(model)}"
    progress.mkdir(exist_ok=True)
    found = screen(
        model,
        Examiner(stages.detector, stages.embedder, seen),
        threshold=threshold,
        candidates=counts.candidates,
        wanted=counts.wanted,
        most_examined=counts.most_examined,
        cache=progress,
        say=say,
    )
    # 7
    data = model_to_bytes(
        replace(
            model, accepted=np.array(found.accepted, np.int64), takes=np.array(found.takes, np.int64).reshape(-1, PICTURES_EACH)
        )
    )
    model = parse_model(data)
    facts = _facts(model, learnt, found, len(names), len(paths))
    (out / MODEL_FILE).write_bytes(data)
    (out / FACTS_FILE).write_text(json.dumps({"facts_version": FACTS_VERSION, **asdict(facts)}, indent=2) + "\n", "utf-8")
    drawn = _draw_spectra(learnt, out / SPECTRA_FILE)
    say(
        f"7 files: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}" + ("" if drawn else "; no matplotlib, no picture")
    )
    return model, facts


def recalibrated(model: PeopleModel, detector: Detector, say: Callable[[str], None]) -> PeopleModel:
    """Return a model whose landmarks lie where the detector sees them on its own pictures: no bias in the median, up or down.

    A detector's bias changes with the size of the face, and training pictures are smaller. To the left and right it stays as
    the mesh has it: a face is symmetrical.
    """
    away = []
    for seed in range(_LOOKED_AT if model.between.shape[1] > 20 else 10):
        picture = draw_person(unsafe_unscreened_person(seed, model=model), 0, model=model)
        faces = detector.detect(Frame(picture.pixels, _NOW))
        if len(faces) == 1 and faces[0].landmarks_px is not None:
            away.append(faces[0].landmarks_px - picture.landmarks_px)
    if not away:
        return model
    bias = np.median(np.stack(away), axis=0) * CANVAS_PX / picture.pixels.shape[0]
    lower = (bias[:, 1] + bias[[1, 0, 2, 4, 3], 1]) / 2
    offsets = model.landmark_offsets + np.stack((np.zeros(5), lower), axis=1).astype(np.float32)
    say(f"5 landmarks: moved by {lower.mean():.2f} px of the canvas to where the detector sees them")
    return replace(model, landmark_offsets=offsets)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.people")
    parser.add_argument("--images", type=Path, required=True, help="a directory for each person")
    parser.add_argument("--out", type=Path, required=True, help="where the model is written")
    parser.add_argument("--packs", type=Path, default=Path("~/.facekeep/packs"), help="store with yunet-s and reid-retail-0095")
    parser.add_argument("--mesh", type=Path, required=True, help="mediapipe_face_landmark.tflite")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/facekeep/training-people"))
    parser.add_argument("--keep-cache", action="store_true", help="leave the biometric data of the people pictured where it is")
    parser.add_argument("--people", type=int, default=Counts().wanted, help="stop the screen at this many")
    parser.add_argument("--smoke", action="store_true", help="a few directions and people, in seconds: shows that the recipe runs")
    options = parser.parse_args(arguments)
    models = load_models(
        PackStore(options.packs.expanduser()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy(), inference=Inference(threads=1)
    )
    mesh = open_session("litert", {options.mesh.name: options.mesh.read_bytes()})
    counts = SMOKE if options.smoke else replace(Counts(), wanted=options.people)
    # A directory of its own: at the end it goes with all that is in it, and --cache may name one that holds other things.
    cache = options.cache.expanduser() / "people-recipe"
    make(options.images, options.out, Stages(models.detector, models.embedder, MediaPipeMesher(mesh)), cache, _say, counts=counts)
    if not options.keep_cache:
        shutil.rmtree(cache)


def _key(model: PeopleModel) -> str:
    """Return what the screen depends on: everything but where landmarks are said to be."""
    bare = replace(
        model,
        accepted=np.zeros(0, np.int64),
        takes=np.zeros((0, PICTURES_EACH), np.int64),
        landmark_offsets=np.zeros((5, 2), np.float32),
    )
    return hashlib.sha256(model_to_bytes(bare)).hexdigest()[:16]


def _facts(model: PeopleModel, learnt: Learnt, found: Screened, people: int, pictures: int) -> ModelFacts:
    usual = [
        cheek_tone(canvas_of(model, synthetic_person(index, model=model).look.astype(np.float32)))
        for index in range(len(model.accepted))
    ]
    return ModelFacts(
        title="Synthetic people: a linear model of shape and texture, between people and within",
        trained_on=(f"{len(learnt.used)} of {pictures} pictures of {people} people: LFW, View 1 training split; public figures"),
        consented=False,
        permitted_uses=("research", "evaluation"),
        must_not=("commercial use", "passing a picture off as a real person", "claims about groups of people: no label was learnt"),
        screen={
            "embedder": EMBEDDER,
            "threshold": found.threshold,
            "pictures_each": PICTURES_EACH,
            "candidates_ranked": found.ranked,
            "candidates_drawn": found.examined,
            "people_accepted": len(found.accepted),
            "pictures_drawn": found.drawn,
            "pictures_below": found.passed,
        },
        tone_degrees={"training": _percentiles(learnt.tones), "people": _percentiles(np.array(usual))},
    )


def _percentiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 1) for value in np.nanpercentile(values, _PERCENTILES)) if len(values) else ()


def _draw_spectra(learnt: Learnt, path: Path) -> bool:
    """Write the variances along every direction as a picture; False where matplotlib is not installed."""
    try:
        figures = importlib.import_module("matplotlib.figure")
    except ImportError:
        return False
    figure = figures.Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in zip(("between people", "within a person"), learnt.spectrum, strict=True):
        axes.semilogy(np.sort(values)[::-1], label=name)
    axes.set_xlabel("direction")
    axes.set_ylabel("variance")
    axes.legend()
    figure.savefig(path, dpi=110)
    return True


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
