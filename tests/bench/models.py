"""The models that Facekeep ships: what they weigh, and how fast they are beside the public ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facekeep_models.catalogue import WEIGHTS
from tests.bench.setting import interleaved, report
from tests.bench.speed import bare_session

MEGABYTE = 1e6


def shipped(shared: Path) -> None:
    """Sizes of the weights in the package, and the speed of ours against YuNet-s and reid-0095: one thread, in turns."""
    total = 0
    for path in sorted(WEIGHTS.rglob("*")):
        if path.is_file():
            total += path.stat().st_size
            if path.parts[-3].startswith("facekeep-"):
                report("/".join(path.parts[-3:]), f"{path.stat().st_size / MEGABYTE:.2f} MB")
    report("everything shipped", f"{total / MEGABYTE:.2f} MB", "<= 10 MB")
    random = np.random.default_rng(0)
    detectors = {
        "yunet-s, 320x320": (shared / "models/detectors/yunet_s_dynamic.onnx", (1, 3, 320, 320)),
        "facekeep-detector onnx-fp32, 320x240": (_file("facekeep-detector", "onnx-fp32"), (1, 3, 256, 320)),
        "facekeep-detector onnx-fp32, 320x320": (_file("facekeep-detector", "onnx-fp32"), (1, 3, 320, 320)),
    }
    embedders = {
        "reid-retail-0095 fp32": (shared / "models/embedders/face_reid_retail_0095.onnx", (1, 3, 128, 128)),
        "mobilefacenet-foamliu": (shared / "models/embedders/mobilefacenet_foamliu.onnx", (1, 3, 112, 112)),
        "facekeep-embedder onnx-fp32": (_file("facekeep-embedder", "onnx-fp32"), (1, 3, 112, 112)),
        "facekeep-embedder onnx-int8": (_file("facekeep-embedder", "onnx-int8"), (1, 3, 112, 112)),
    }
    for group in (detectors, embedders):
        runs = []
        for path, shape in group.values():
            session = bare_session(path)
            pixels = random.uniform(0, 255, shape).astype(np.float32)
            name = session.get_inputs()[0].name
            runs.append(lambda session=session, name=name, pixels=pixels: session.run(None, {name: pixels}))
        base, *others = interleaved(150, *runs)
        report(next(iter(group)), f"{1000 * base:.2f} ms")
        wanted = ">= 1.5 x" if group is detectors else ">= 4 x for int8"
        for what, seconds in zip(list(group)[1:], others, strict=True):
            report(f"{what}, times as fast", f"{base / seconds:.2f} x", wanted)


def _file(pack: str, build: str) -> Path:
    return next((WEIGHTS / pack / build).glob(f"{pack.replace('-', '_')}*.onnx"))
