"""What the trained detector does, beside its teacher, on pictures it was never trained on: every figure of its card.

    python -m facekeep_models.training.detector.evaluate --data DIR --packs DIR

The detector is the pack that ships unless `--model FILE --landmarks FILE --confidence NUMBER` name others. Pictures: photographs
and counts of `photos`; drawn people that are held out; the held-out part of the scenes; frames of two sizes for speed.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame
from facekeep.capture import read_picture
from facekeep.detection import DEFAULT_LONGEST_SIDE_PX, open_detector
from facekeep.detection.refining import RefiningDetector
from facekeep.packs import PackStore
from facekeep.ports import Detector
from facekeep.runtime import open_session
from facekeep_models.people import draw_person, screened_people, synthetic_person
from facekeep_models.training.detector.mesh import fitted_ruler
from facekeep_models.training.detector.pictures import FIRST_HELD_OUT_PERSON, held_out_scene, scene_files
from facekeep_models.training.detector.publish import FILE, LANDMARK_FILE
from facekeep_models.training.detector.speed import frame_ratio, speed_ratio
from facekeep_models.training.detector.teacher import TEACHER, Teacher, box_of_landmarks, open_teacher, row_of
from facekeep_models.training.detector.validation import CONTRACT, OPTIONS, Figures, compare
from facekeep_models.training.people_faces import MediaPipeMesher

PACK: Final = ("facekeep-detector", "onnx-fp32")
# Faces this large in the photograph itself are asked for.
LEAST_FACE_PX: Final = 40.0
_PICTURES_EACH: Final = 2
# What the teacher suspects is no false find of ours, and no face that is asked for either.
_SUSPECTS: Final = 0.5
_COUNTED: Final = re.compile(r"compreface_\d+_(\d+|[A-Z])")
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
Case = tuple[NDArray[np.uint8], NDArray[np.float32]]


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.detector.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with photos and scenes")
    parser.add_argument("--packs", type=Path, required=True, help="pack store with yunet-s")
    parser.add_argument("--model", type=Path, help="an ONNX file in place of that of the pack that ships")
    parser.add_argument("--landmarks", type=Path, help="the same for the second look at landmarks")
    parser.add_argument("--confidence", type=float, help="least confidence; that of the pack unless told")
    parser.add_argument("--mesh", type=Path, help="mediapipe_face_landmark.tflite, another ruler for landmarks on photographs")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    store = PackStore(options.packs)
    shipped = store.read_files(*PACK)
    content = options.model.read_bytes() if options.model else shipped[FILE]
    landmarks = options.landmarks.read_bytes() if options.landmarks else shipped[LANDMARK_FILE]
    confidence = options.confidence or float(dict(store.manifest(PACK[0]).options)["confidence"])
    figures = evaluate(options.data, options.packs, content, landmarks, confidence, options.mesh)
    for name, value in figures.items():
        print(f"{name:<58} {value}")  # noqa: T201
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def evaluate(
    data: Path, packs: Path, content: bytes, landmarks: bytes, confidence: float, mesh: Path | None = None
) -> dict[str, str | float]:
    """Return every figure by name.

    Args:
        data: folder with photos and scenes.
        packs: store with yunet-s.
        content: the ONNX file of the detector.
        landmarks: that of the second look.
        confidence: least confidence of a face.
        mesh: file of MediaPipe's face mesh; photographs are not measured by it without.
    """
    session, second = (open_session("onnx", {"model.onnx": each}) for each in (content, landmarks))
    first_look = open_detector("yunet", session, CONTRACT, confidence=confidence, options=OPTIONS)
    ours = RefiningDetector(first_look, second)
    theirs = open_teacher(packs, longest_side=DEFAULT_LONGEST_SIDE_PX)
    figures: dict[str, str | float] = {"files, bytes": len(content) + len(landmarks), "confidence": confidence}
    photographs = [read_picture(path) for path in sorted((data / "photos").glob("*.jpg"))]
    labelled = list(teacher_cases(photographs, packs))
    figures |= _named("photos, YuNet's faces of 40 px and more", compare(labelled, ours.detect, least_px=LEAST_FACE_PX))
    # YuNet asked once strays from itself: what it says at several sizes, agreed, is the better measure of landmarks.
    teacher = Teacher(packs)
    agreed = list(_agreed(photographs, teacher))
    for name, detector in (("ours", ours), ("ours, first look", first_look), ("YuNet asked once", theirs)):
        figures |= _named(f"photos, YuNet's agreed answer, {name}", compare(agreed, detector.detect, least_px=LEAST_FACE_PX))
    if mesh is not None:
        mesher = MediaPipeMesher(open_session("litert", {mesh.name: mesh.read_bytes()}))
        # Every twentieth picture of LFW: where the ruler learns what YuNet calls a landmark.
        files = sorted((data / "lfw-devtrain" / "images").rglob("*.jpg"))[::20]
        ruler = fitted_ruler(mesher, _agreed((read_picture(path) for path in files), teacher))
        measured = [ruler.measured(case) for case in agreed]
        for name, detector in (("ours", ours), ("ours, first look", first_look), ("YuNet asked once", theirs)):
            figures |= _named(f"photos, MediaPipe's mesh, {name}", compare(measured, detector.detect, least_px=LEAST_FACE_PX))
    figures |= counts(data / "photos", {"ours": ours, "YuNet": theirs})
    drawn = list(drawn_cases())
    for name, detector in (("ours", ours), ("ours, first look", first_look), ("YuNet", theirs)):
        figures |= _named(f"drawn people held out, truth, {name}", compare(drawn, detector.detect, least_px=0))
    for kind in ("crowd", "empty"):
        files = [path for number, path in enumerate(scene_files(data, kind)) if held_out_scene(number)]
        cases = list(teacher_cases([read_picture(path) for path in files], packs))
        if kind == "crowd":
            figures |= _named("crowds held out, YuNet's faces of 16 px and more", compare(cases, ours.detect, least_px=16))
            continue
        nobody = [(pixels, np.zeros((0, 15), np.float32)) for pixels, _ in cases]
        for name, detector in (("ours", ours), ("YuNet", theirs)):
            figures[f"scenes without people held out, false faces, {name}"] = compare(nobody, detector.detect, least_px=0).extra
            figures["scenes without people held out, pictures"] = len(nobody)
    figures |= speed_ratio(content, PackStore(packs).read_files(*TEACHER))
    return figures | frame_ratio({"first look": first_look, "ours": ours, "YuNet-s": theirs})


def teacher_cases(pictures: list[NDArray[np.uint8]], packs: Path) -> Iterator[Case]:
    """Yield pictures with what YuNet finds at the size a device uses: sure ones, and suspects that are not asked for."""
    suspicious = open_teacher(packs, confidence=_SUSPECTS, longest_side=DEFAULT_LONGEST_SIDE_PX)
    for pixels in pictures:
        rows = [row_of(face) for face in suspicious.detect(Frame(pixels, _NOW))]
        yield pixels, np.array(rows, np.float32).reshape(-1, 15)


def _agreed(pictures: Iterable[NDArray[np.uint8]], teacher: Teacher) -> Iterator[Case]:
    """Yield pictures with what the teacher agrees on, asked at all sizes and mirrored."""
    for pixels in pictures:
        yield pixels, teacher.label(pixels, empty=False)


def drawn_cases() -> Iterator[Case]:
    """Yield drawn people who are held out, with the truth."""
    for index in range(FIRST_HELD_OUT_PERSON, screened_people()):
        for number in range(_PICTURES_EACH):
            drawn = draw_person(synthetic_person(index), number)
            yield drawn.pixels, box_of_landmarks(drawn.landmarks_px)[None]


def counts(photos: Path, detectors: dict[str, Detector]) -> dict[str, str | float]:
    """Return how many of the counted photographs have the right number of faces, and how many faces too many."""
    made: dict[str, str | float] = {}
    for name, detector in detectors.items():
        right, total, spare, wrong = 0, 0, 0, []
        for path in sorted(photos.glob("compreface_*.jpg")):
            label = _COUNTED.fullmatch(path.stem)
            if label is None:
                continue
            expected = int(label[1]) if label[1].isdigit() else 1
            found = len(detector.detect(Frame(read_picture(path), _NOW)))
            right, total, spare = right + (found == expected), total + 1, spare + max(found - expected, 0)
            if found != expected:
                wrong.append(f"{path.stem}: {found}")
        made[f"counted photos right, {name}"] = f"{right} of {total}" + (f" ({', '.join(wrong)})" if wrong else "")
        made[f"counted photos, faces too many, {name}"] = spare
    return made


def _named(name: str, figures: Figures) -> dict[str, str | float]:
    values: dict[str, str | float] = {f"{name}: {key}": value for key, value in asdict(figures).items()}
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}


if __name__ == "__main__":
    main()
