"""Importing, the first decision of a cold process, and memory over many frames; each in processes of its own."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from facekeep import Device, KeyFile
from tests.bench.setting import ALL, DETECTOR, EMBEDDER, NOTICE, WEIGHTS, import_packs, real_device, report, single_face_frame

# Compiled once and kept, as it is after any ordinary installation; this environment may forbid it.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

_RSS = "int(next(l for l in open('/proc/self/status') if l.startswith('VmRSS')).split()[1]) / 1024"

_BARE = """
import json, sys
import numpy as np
import onnxruntime as ort
def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
pixels = np.load(sys.argv[1])
detector, embedder = session(sys.argv[2]), session(sys.argv[3])
detector.run(None, {detector.get_inputs()[0].name: np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)[None], np.float32)})
# Real pixels: on zeros this embedder takes half the time.
face = pixels[176:304, 256:384, ::-1].transpose(2, 0, 1)[None]
embedder.run(None, {embedder.get_inputs()[0].name: np.ascontiguousarray(face, np.float32)})
print(json.dumps(RSS), flush=True)
""".replace("RSS", _RSS)

_OURS = """
import json, sys
import numpy as np
from facekeep import Device, KeyFile, PackStore
pixels = np.load(sys.argv[1])
device = Device.open(sys.argv[2], key=KeyFile(sys.argv[3]), packs=PackStore(sys.argv[4]))
assert device.verify("alice", pixels).is_match
print(json.dumps(RSS), flush=True)
""".replace("RSS", _RSS)


def importing(shared: Path) -> None:
    """`import facekeep` against `import numpy`, in fresh processes, taken in turns."""
    del shared
    code = {
        "nothing": "pass",
        "import numpy": "import numpy",
        "import facekeep": "import facekeep",
        "from facekeep import Device": "from facekeep import Device",
    }
    best = dict.fromkeys(code, float("inf"))
    for _ in range(15):
        for name, text in code.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", text], check=True, env=ENVIRONMENT)
            best[name] = min(best[name], time.perf_counter() - start)
    base = best["import numpy"] - best["nothing"]
    for name in list(code)[1:]:
        seconds = best[name] - best["nothing"]
        target = " (<= 1.5)" if name == "import facekeep" else ""
        report(name, f"{1000 * seconds:.0f} ms", f"{seconds / base:.2f} x import numpy{target}")


def cold(shared: Path) -> None:
    """First decision of a cold process and memory after it, against a bare script that runs both models once."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = import_packs(shared, root)
        np.save(root / "frame.npy", pixels := single_face_frame(shared))
        with Device.open(root / "home", key=KeyFile(root / "key"), detector=DETECTOR, embedder=EMBEDDER, packs=store) as device:
            device.enrol("alice", pixels, device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE))
        models = [str(shared / "models" / name) for name in WEIGHTS]
        bare = [sys.executable, "-c", _BARE, str(root / "frame.npy"), *models]
        ours = [sys.executable, "-c", _OURS, str(root / "frame.npy"), str(root / "home"), str(root / "key"), str(root / "packs")]
        seconds: dict[str, float] = {"bare": float("inf"), "ours": float("inf")}
        # Processor time too: on a busy machine it is the steadier of the two.
        processor: dict[str, float] = dict(seconds)
        seen: dict[str, list[float]] = {"bare": [], "ours": []}
        for _ in range(15):
            for name, command in (("bare", bare), ("ours", ours)):
                start, used = time.perf_counter(), _children_seconds()
                with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
                    assert process.stdout is not None
                    seen[name].append(json.loads(process.stdout.readline()))
                    seconds[name] = min(seconds[name], time.perf_counter() - start)
                assert process.returncode == 0
                processor[name] = min(processor[name], _children_seconds() - used)
    memory = {name: statistics.median(values) for name, values in seen.items()}
    report("bare script: start to both models run once", f"{1000 * seconds['bare']:.0f} ms", f"{memory['bare']:.0f} MB")
    report("facekeep: start to first decision", f"{1000 * seconds['ours']:.0f} ms", f"{memory['ours']:.0f} MB")
    report("time", f"{seconds['ours'] / seconds['bare']:.2f} x", "<= 1.5")
    report("processor time, the whole process", f"{processor['ours'] / processor['bare']:.2f} x")
    report("resident memory", f"{memory['ours'] / memory['bare']:.2f} x", "<= 1.25")


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory(shared: Path, frames: int = 10_000) -> None:
    """Resident memory of this process over many verifications of frames of several sizes."""
    sizes = [single_face_frame(shared, width, height) for width, height in ((320, 240), (400, 304), (352, 288))]
    with real_device(shared) as device:
        device.enrol("alice", sizes[0], device.consents.grant("alice", purposes=ALL, valid_for="P1D", notice=NOTICE))
        seen = []
        for number in range(frames + 1):
            device.verify("alice", sizes[number % len(sizes)])
            if number % (frames // 10) == 0:
                seen.append(psutil.Process().memory_info().rss / 2**20)
                print(f"  {number:6d} frames: {seen[-1]:.1f} MB", flush=True)
    report(f"growth from {frames // 10} to {frames} frames", f"{seen[-1] - seen[1]:+.1f} MB", "flat")
