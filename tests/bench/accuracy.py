"""Parity: what the pipeline makes of real pictures, against the numbers of the models' own references."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np

from facekeep import FacekeepError, Settings
from facekeep.alignment import align
from facekeep.assembly import ModelChoice, load_models
from facekeep.capture import as_frame
from facekeep.clock import SystemClock
from facekeep.packs import LoadPolicy
from facekeep.quality import QualityFloors
from tests.bench.setting import ALL, DETECTOR, EMBEDDER, NOTICE, WEIGHTS, import_packs, real_device, report, temporary_folder
from tests.reference.lfw import best_accuracy, read_pairs
from tests.reference.pipeline import OpenCVPipeline


def counts(shared: Path) -> None:
    """Faces found on every counted photograph."""
    models = load_models(import_packs(shared, temporary_folder()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
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
    """Embeddings against the reference path: FaceDetectorYN, warpAffine and resize of OpenCV, bare runtime."""
    models = load_models(import_packs(shared, temporary_folder()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
    pipeline = OpenCVPipeline(*(shared / "models" / name for name in WEIGHTS))
    cosines = []
    for path in sorted((shared / "data/lfw-devtrain/images").rglob("*.jpg"))[::47]:
        frame = as_frame(path, SystemClock())
        bgr = np.ascontiguousarray(frame.pixels[:, :, ::-1])
        ours, theirs = models.detector.detect(frame), pipeline.faces(bgr)
        if not ours or not len(theirs):
            continue
        reference_vector = pipeline.embed(pipeline.align(bgr, theirs[0, 4:14]))
        cosines.append(float(models.embedder.embed(align(frame, ours[0])) @ reference_vector))
        if len(cosines) == 200:
            break
    report("pictures compared", str(len(cosines)), "200")
    report("smallest cosine to the reference path", f"{min(cosines):.5f}", ">= 0.999")
    report("median cosine to the reference path", f"{np.median(cosines):.5f}")


def accuracy(shared: Path) -> None:
    """LFW View 1 training pairs through Device.enrol and Device.verify: every picture, then with the default quality floors."""
    everything = QualityFloors(**{field.name: 0 for field in fields(QualityFloors)})
    for name, floors in (("without quality floors", everything), ("with the default quality floors", QualityFloors())):
        # LFW pictures are cut around the named person and often show others behind.
        _verify_pairs(shared, name, Settings(bystanders="ignored", quality=floors))


def _verify_pairs(shared: Path, name: str, settings: Settings) -> None:
    pairs = read_pairs(shared / "data/lfw-devtrain")
    scores: list[float] = []
    mated: list[bool] = []
    matched_at: list[bool] = []
    failures: dict[str, int] = {}
    with real_device(shared, settings) as device:
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
    best, threshold = best_accuracy(value, labels)
    print(f"  {name}:")
    report("pairs compared", f"{len(scores)} of {len(pairs)}")
    report("failures to acquire or enrol, by code", str(failures or "none"))
    report(f"accuracy at the best threshold ({threshold:.3f})", f"{100 * best:.2f} %", ">= 99.3 %")
    report("at the pack's own operating point for FMR 1e-3: FMR", f"{decided[~labels].mean():.5f}")
    report("at the pack's own operating point for FMR 1e-3: FNMR", f"{1 - decided[labels].mean():.5f}")
