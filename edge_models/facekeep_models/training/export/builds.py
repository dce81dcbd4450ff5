"""The four builds of a network: made, checked, written whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.packs.files import write_atomically
from facekeep.packs.manifest import PackFile
from facekeep.training import PATCH_SUFFIX
from facekeep_models.training.export.checking import Agreement, require_agreement
from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.export.litert import float_model, int8_model, missing_converter
from facekeep_models.training.export.network import Exportable
from facekeep_models.training.export.quantising import quantised

BUILDS: Final = ("onnx-fp32", "onnx-int8", "litert-fp32", "litert-int8")


@dataclass(frozen=True, slots=True)
class Written:
    """A build on the disk.

    Attributes:
        build: its id.
        path: its model file.
        size_bytes: of that file.
        sha256: of that file.
        agreement: how near it is to the trained network.
        table: its patch table, where a federation may train it.
    """

    build: str
    path: Path
    size_bytes: int
    sha256: str
    agreement: Agreement
    table: PackFile | None = None


def make_build(network: Exportable, build: str, calibration: NDArray[np.float32]) -> bytes:
    """Return the file of one build.

    Args:
        network: the network.
        build: one of `BUILDS`.
        calibration: (N, 3, H, W) float32 RGB, 0 to 255, used by the 8-bit builds only.

    Raises:
        ExportError: "export.unknown_build", "export.no_converter", "export.unsupported_layer".
    """
    makers: dict[str, Callable[[], bytes]] = {
        "onnx-fp32": lambda: network.onnx(True).SerializeToString(deterministic=True),
        "onnx-int8": lambda: quantised(network.onnx(False), calibration).SerializeToString(deterministic=True),
        "litert-fp32": lambda: float_model(network.converted, network.size_px, network.input_name, network.output_names),
        "litert-int8": lambda: int8_model(network.converted, calibration, network.input_name, network.output_names),
    }
    if build not in makers:
        raise ExportError("export.unknown_build", f"Builds are {', '.join(BUILDS)}; found {build!r}.")
    return makers[build]()


def write_builds(
    network: Exportable,
    builds: Sequence[str],
    weights: Path,
    *,
    calibration: NDArray[np.float32],
    compared: NDArray[np.float32],
    say: Callable[[str], None],
) -> tuple[Written, ...]:
    """Make and check builds, then write them to `weights`/<pack>/<build>/<file>: all of them, or none.

    Args:
        network: the network.
        builds: some of `BUILDS`.
        weights: folder of packs.
        calibration: (N, 3, H, W) float32 RGB, 0 to 255, for the 8-bit builds.
        compared: (N, 3, H, W) float32 RGB, 0 to 255, on which each build is compared with the trained network.
        say: progress, one line at a time.

    Raises:
        ExportError: "export.differs" or as `make_build`, before anything is written.
        ModelError: "model.disk_full", "model.io", "model.runtime_missing".
    """
    # Asked before minutes are spent on the other builds.
    if any(build.startswith("litert") for build in builds) and (reason := missing_converter()):
        raise ExportError("export.no_converter", f"{reason}, or ask for the ONNX builds only (--builds onnx-fp32 onnx-int8).")
    made: dict[str, tuple[bytes, Agreement]] = {}
    for build in builds:
        say(f"{network.pack}/{build}")
        model = make_build(network, build, calibration)
        made[build] = model, require_agreement(network, build, model, compared)
    written = []
    for build, (model, near) in made.items():
        suffix = ".onnx" if build.startswith("onnx") else ".tflite"
        path = weights / network.pack / build / f"{network.file_stem}{'_int8' if 'int8' in build else ''}{suffix}"
        table = network.table(build, model)
        described = None
        if table is not None:
            beside = path.with_name(path.stem + PATCH_SUFFIX)
            content = table.to_bytes()
            write_atomically(beside, content)
            described = PackFile(beside.name, len(content), hashlib.sha256(content).hexdigest())
        write_atomically(path, model)
        written.append(Written(build, path, len(model), hashlib.sha256(model).hexdigest(), near, described))
    return tuple(written)
