"""Training on the device: how near its gradients are to PyTorch's, and what a step costs beside embedding the same crops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.packs import PackStore
from facekeep.runtime import open_session
from facekeep.training import ParameterTable, TrainingSettings, head_loss, parse_patch_table, read_parameters
from tests.bench.setting import interleaved, report, temporary_folder

BATCH, CLASSES, DRAWS = 8, 129, 20
_MEMORY = """
import json, sys
import numpy as np
from facekeep.runtime import open_session
session = open_session("onnx", {"a.onnx": open(sys.argv[1], "rb").read()})
feeds = dict(np.load(sys.argv[2]))
for _ in range(3):
    session.run(feeds)
print(json.dumps(int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024))
"""


def training(_: Path) -> None:
    """Gradient error, processor time and memory of a step, one thread."""
    import onnx
    import torch

    from facekeep_models.training.gradients.training_graph import training_graph

    torch.set_num_threads(1)
    files = PackStore("/nonexistent/facekeep-bench-store").read_files("facekeep-embedder", "onnx-fp32")
    model = files["facekeep_embedder.onnx"]
    patch = parse_patch_table(files["facekeep_embedder.patch.json"])
    read = onnx.load_from_string(model)
    graph = training_graph(read).SerializeToString(deterministic=True)
    session, embedder = (open_session("onnx", {"a.onnx": each}) for each in (graph, model))
    start = read_parameters(model, patch)
    worst, tensor = _errors(read, start, patch.parameters)
    report(f"gradient against torch in float64, relative: worst of {DRAWS} draws", f"{worst:.1e}", "<= 1e-4")
    report("  worst tensor of any draw, relative to its own norm", f"{tensor:.1e}", "<= 1e-4")
    feeds = _feeds(start, BATCH, 0)
    crops = feeds["crops"]
    head, settings = patch.parameters.head_of(start), TrainingSettings()
    features = dict(zip(embedder.outputs, embedder.run({"crop": crops}), strict=True))["features"]
    rows = (feeds["centres"], feeds["labels"], feeds["references"])
    one, together, step, in_numpy = interleaved(
        30,
        lambda: embedder.run({"crop": crops[:1]}),
        lambda: embedder.run({"crop": crops}),
        lambda: session.run(feeds),
        lambda: head_loss(head, features, *rows, settings),
    )
    report(f"embedding {BATCH} crops, in one run", f"{1000 * together:.0f} ms")
    report("a step of `deep` beside that", f"{step / together:.2f} x")
    report(f"a step of `deep` beside embedding {BATCH} crops one by one", f"{step / one / BATCH:.2f} x")
    report(f"a step of `head` on {BATCH} stored features, beside embedding one crop", f"{in_numpy / one:.2f} x")
    folder = temporary_folder()
    (folder / "embed.onnx").write_bytes(model)
    (folder / "train.onnx").write_bytes(graph)
    np.savez(folder / "one.npz", crop=crops[:1])
    for count in (1, BATCH):
        np.savez(folder / f"{count}.npz", **_feeds(start, count, 0))
    embedding = _peak(folder / "embed.onnx", folder / "one.npz")
    report("peak resident memory of a process that embeds", f"{embedding:.0f} MiB")
    for count in (1, BATCH):
        report(
            f"  that trains `deep`, batch {count}, more",
            f"{_peak(folder / 'train.onnx', folder / f'{count}.npz') - embedding:.0f} MiB",
        )


def _errors(model: Any, start: NDArray[np.float32], table: ParameterTable) -> tuple[float, float]:
    # Here: those who benchmark something else may have no PyTorch.
    from tests.edge_models.test_gradients import by_onnx, by_torch, feeds_for

    whole, tensors = [], []
    for seed in range(DRAWS):
        random = np.random.default_rng(seed)
        moved = (start + 0.1 * start * random.normal(size=len(start)) + 0.01 * random.normal(size=len(start))).astype(np.float32)
        crops = random.uniform(0, 255, (3, 3, 112, 112)).astype(np.float32)
        feeds = feeds_for(moved, crops, 256, seed)
        answered, sides = by_onnx(model, feeds)
        found, (_, expected) = answered["gradient"], by_torch(model, feeds, sides)
        whole.append(_off(found, expected))
        parts = [slice(tensor.start, tensor.start + tensor.length) for tensor in table.tensors]
        tensors.append(max(_off(found[part], expected[part]) for part in parts))
    return max(whole), max(tensors)


def _off(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _feeds(parameters: NDArray[np.float32], count: int, seed: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed)

    def units(rows: int) -> NDArray[np.float32]:
        drawn = random.normal(size=(rows, 256))
        return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)

    return {
        "parameters": parameters,
        "crops": random.uniform(0, 255, (count, 3, 112, 112)).astype(np.float32),
        "centres": units(CLASSES),
        "labels": np.zeros(count, np.int64),
        "references": units(count),
        "margin": np.array(0.2, np.float32),
        "scale": np.array(16, np.float32),
        "keep": np.array(1, np.float32),
    }


def _peak(model: Path, feeds: Path) -> float:
    done = subprocess.run([sys.executable, "-c", _MEMORY, model, feeds], check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))
