"""What the gates in front of the embedder let pass: quality on real pictures, presentation attack detection on three."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from facekeep.alignment import align
from facekeep.assembly import Inference, ModelChoice
from facekeep.assembly.loading import Loader, load_models
from facekeep.capture import as_frame
from facekeep.clock import SystemClock
from facekeep.packs import LoadPolicy
from facekeep.quality import assess
from tests.bench.setting import DETECTOR, EMBEDDER, WEIGHTS, import_packs, report, temporary_folder

PADS = ("minifas-v2", "minifas-celebaspoof")
PAD_WEIGHTS = ("liveness/2.7_80x80_MiniFASNetV2.onnx", "liveness/minifas_celebaspoof_98.20.onnx")


def quality(shared: Path) -> None:
    """Share of LFW pictures with one face that the default floors admit, and why the others are refused."""
    models = load_models(import_packs(shared, temporary_folder()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
    reasons: Counter[str] = Counter()
    seen = 0
    for path in sorted((shared / "data/lfw-devtrain/images").rglob("*.jpg"))[::5]:
        frame = as_frame(path, SystemClock())
        faces = models.detector.detect(frame)
        if len(faces) != 1:
            continue
        seen += 1
        reasons.update(assess(frame, faces[0], align(frame, faces[0])).refused_for[:1])
    refused = sum(reasons.values())
    report("LFW pictures with one face", str(seen))
    report("admitted at the default floors", f"{100 * (1 - refused / seen):.2f} %", f"refused: {dict(reasons) or 'none'}")


def pad(shared: Path) -> None:
    """What each PAD pack says of the one bona fide and the two attack pictures, and of ordinary photographs of one person."""
    store = import_packs(shared, temporary_folder(), (*WEIGHTS, *PAD_WEIGHTS))
    models = load_models(store, ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
    loader = Loader(store, LoadPolicy(), Inference())
    photos = sorted((shared / "data/photos").glob("compreface_*_[ABC].jpg"))
    for name in PADS:
        detector = loader.pad(name)

        def outcome(path: Path, detector: object = detector) -> str:
            frame = as_frame(path, SystemClock())
            face = max(models.detector.detect(frame), key=lambda found: found.box_px[2] * found.box_px[3])
            return str(detector.examine(frame, face).outcome)  # type: ignore[attr-defined]

        for path, truth in (("image_T1.jpg", "bona fide"), ("image_F1.jpg", "attack"), ("image_F2.jpg", "attack")):
            report(f"{name}: data/spoof/{path}, truth {truth}", outcome(shared / "data/spoof" / path))
        report(f"{name}: {len(photos)} photographs of one person", str(dict(Counter(outcome(path) for path in photos))))
