"""Parity: what the pipeline makes of real pictures, against the numbers of the models' own references."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np

from facekeep import FacekeepError, Settings
from facekeep.assembly import ModelChoice, load_models
from facekeep.capture import as_frame
from facekeep.clock import SystemClock
from facekeep.packs import LoadPolicy
from tests.bench.setting import ALL, DETECTOR, EMBEDDER, NOTICE, import_packs, real_device, report


def counts(shared: Path) -> None:
    """Faces found on every counted photograph."""
    store_home = _temporary()
    models = load_models(import_packs(shared, store_home), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
    right = total = 0
    for path in sorted((shared / "data/photos").glob("compreface_*")):
        label = re.fullmatch(r"compreface_\d+_(\d+|[A-Z])", path.stem)
        if label is None:
            continue
        expected = int(label[1]) if label[1].isdigit() else 1
        found = len(models.detector.detect(as_frame(path, SystemClock())))
        right, total = right + (found == expected), total + 1
        if found != expected:
            print(f"  {path.name}: expected {expected}, found {found}")
    report("photographs with the right number of faces", f"{right} of {total}", "all")


def reference(shared: Path) -> None:
    """Embeddings against the reference path: OpenCV alignment, bare runtime, the same landmarks."""
    from facekeep.alignment import align
    from tests.reference.opencv_path import reference_embedding

    models = load_models(import_packs(shared, _temporary()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
    weights = (shared / "models/embedders/face_reid_retail_0095.onnx").read_bytes()
    cosines = []
    for path in sorted((shared / "data/lfw-devtrain/images").rglob("*.jpg"))[:8000:40]:
        frame = as_frame(path, SystemClock())
        faces = models.detector.detect(frame)
        if not faces or faces[0].landmarks_px is None:
            continue
        ours = models.embedder.embed(align(frame, faces[0]))
        cosines.append(float(ours @ reference_embedding(frame.pixels, faces[0].landmarks_px, weights)))
    report("pictures compared", str(len(cosines)), "200")
    report("smallest cosine to the reference path", f"{min(cosines):.5f}", ">= 0.999")
    report("median cosine to the reference path", f"{np.median(cosines):.5f}")


def accuracy(shared: Path) -> None:
    """LFW View 1 training pairs through Device.enrol and Device.verify."""
    pairs = read_pairs(shared / "data/lfw-devtrain")
    scores: list[float] = []
    mated: list[bool] = []
    matched_at: list[bool] = []
    failures: dict[str, int] = {}
    # LFW pictures are cut around the named person and often show others behind: the largest face is the one meant.
    with real_device(shared, Settings(bystanders="ignored")) as device:
        for number, (reference_path, probe_path, same) in enumerate(pairs):
            if number % 200 == 0:
                print(f"  {number} of {len(pairs)} pairs", file=sys.stderr, flush=True)
            subject = f"pair-{number}"
            grant = device.consents.grant(subject, purposes=ALL, valid_for="P1D", notice=NOTICE)
            try:
                device.enrol(subject, reference_path, grant)
                decision = device.verify(subject, probe_path, target_fmr=1e-3)
            except FacekeepError as error:
                failures[error.code] = failures.get(error.code, 0) + 1
                continue
            scores.append(decision.score.value)
            mated.append(same)
            matched_at.append(decision.is_match)
    value, labels, decided = np.array(scores), np.array(mated), np.array(matched_at)
    thresholds = np.unique(value)
    best = max(float(((value >= threshold) == labels).mean()) for threshold in thresholds)
    report("pairs compared", f"{len(scores)} of {len(pairs)}")
    report("failures to acquire or enrol, by code", str(failures or "none"))
    report("accuracy at the best threshold", f"{100 * best:.2f} %", ">= 99.3 %")
    report("at the pack's own operating point for FMR 1e-3: FMR", f"{decided[~labels].mean():.5f}")
    report("at the pack's own operating point for FMR 1e-3: FNMR", f"{1 - decided[labels].mean():.5f}")


def read_pairs(folder: Path) -> list[tuple[Path, Path, bool]]:
    lines = (folder / "pairsDevTrain.txt").read_text().splitlines()
    count = int(lines[0])
    images = folder / "images"

    def picture(person: str, number: str) -> Path:
        return images / person / f"{person}_{int(number):04d}.jpg"

    pairs = []
    for line in lines[1 : 2 * count + 1]:
        fields = line.split("\t")
        if len(fields) == 3:
            pairs.append((picture(fields[0], fields[1]), picture(fields[0], fields[2]), True))
        else:
            pairs.append((picture(fields[0], fields[1]), picture(fields[2], fields[3]), False))
    return pairs


def _temporary() -> Path:
    import atexit
    import tempfile

    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)
