"""What the SDK adds to the bare inference calls it makes, stage by stage, and how that grows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort

from facekeep.alignment import align
from facekeep.assembly import ModelChoice, load_models
from facekeep.biometric import Frame
from facekeep.clock import SystemClock
from facekeep.packs import LoadPolicy
from facekeep.quality import assess
from tests.bench.setting import (
    ALL,
    DETECTOR,
    EMBEDDER,
    NOTICE,
    import_packs,
    interleaved,
    real_device,
    report,
    single_face_frame,
    temporary_folder,
)


def bare_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])


def overhead(shared: Path) -> None:
    """One 640x480 frame through Device.verify against the two bare session.run calls, one thread."""
    pixels = single_face_frame(shared)
    detector = bare_session(shared / "models/detectors/yunet_s_dynamic.onnx")
    embedder = bare_session(shared / "models/embedders/face_reid_retail_0095.onnx")
    frame_tensor = np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)[None], np.float32)
    crop_tensor = np.random.default_rng(0).uniform(0, 255, (1, 3, 128, 128)).astype(np.float32)
    frame_name, crop_name = detector.get_inputs()[0].name, embedder.get_inputs()[0].name

    def bare() -> None:
        detector.run(None, {frame_name: frame_tensor})
        embedder.run(None, {crop_name: crop_tensor})

    with real_device(shared) as device:
        grant = device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE)
        device.enrol("alice", pixels, grant)
        ours, theirs = interleaved(120, lambda: device.verify("alice", pixels).require_match(), bare)
    report("bare session.run of YuNet-s 640x480 and reid-0095", f"{1000 * theirs:.2f} ms")
    report("Device.verify, consent to audit entry", f"{1000 * ours:.2f} ms")
    report("overhead of the SDK", f"{100 * (ours / theirs - 1):.1f} %", "<= 15 %")


def stages(shared: Path) -> None:
    """Each stage as a share of one verification."""
    models = load_models(import_packs(shared, temporary_folder()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
    frame = Frame(single_face_frame(shared), SystemClock().now())
    face = models.detector.detect(frame)[0]
    crop = align(frame, face)
    names = ("detect", "align", "quality and pose", "embed")
    found = interleaved(
        60,
        lambda: models.detector.detect(frame),
        lambda: align(frame, face),
        lambda: assess(frame, face, crop),
        lambda: models.embedder.embed(crop),
    )
    for name, seconds in zip(names, found, strict=True):
        report(name, f"{1000 * seconds:.2f} ms", f"{100 * seconds / sum(found):.1f} % of these stages")


def growth(shared: Path) -> None:
    """How detection grows with pixels, and everything after it with faces."""
    models = load_models(import_packs(shared, temporary_folder()), ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())
    base = 0.0
    for width, height in ((320, 240), (640, 480), (1280, 960), (2560, 1920), (4000, 3000)):
        frame = Frame(single_face_frame(shared, width, height), SystemClock().now())
        (seconds,) = interleaved(10, lambda frame=frame: models.detector.detect(frame))
        base = base or seconds
        report(f"detect, {width}x{height}", f"{1000 * seconds:.1f} ms", f"{seconds / base:.1f} x 320x240")
    from facekeep.capture import as_frame

    for name, faces in (("compreface_002_A.jpg", 1), ("compreface_012_4.jpg", 4), ("compreface_016_8.jpg", 8)):
        frame = as_frame(shared / "data/photos" / name, SystemClock())
        found = models.detector.detect(frame)
        (seconds,) = interleaved(5, lambda frame=frame, found=found: [models.embedder.embed(align(frame, face)) for face in found])
        report(f"align and embed, {faces} face(s)", f"{1000 * seconds:.1f} ms", f"{1000 * seconds / len(found):.1f} ms a face")
