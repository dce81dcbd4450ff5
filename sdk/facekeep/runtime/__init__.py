"""Runtimes that execute a model, one adapter each, behind `facekeep.ports.Session`.

Importing this package imports no runtime: each is loaded when a session is opened.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from facekeep.errors import ModelError
from facekeep.ports import Session

RUNTIMES: Final = ("onnx", "litert", "openvino")
_SUFFIX: Final = {"onnx": (".onnx",), "litert": (".tflite",), "openvino": (".xml", ".bin")}

__all__ = ["RUNTIMES", "RuntimeStatus", "available_runtimes", "open_session"]


@dataclass(frozen=True, slots=True)
class RuntimeStatus:
    """Whether a runtime works here.

    Attributes:
        name: "onnx", "litert" or "openvino".
        works: whether a session can be opened.
        distribution: package that provides it, or would.
        version: its version, empty when it is not installed.
        reason: why it does not work and what to do; empty when it does.
    """

    name: str
    works: bool
    distribution: str
    version: str
    reason: str = ""


def open_session(
    runtime: str,
    files: Mapping[str, bytes],
    *,
    threads: int = 1,
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> Session:
    """Return a session over model files held in memory.

    Args:
        runtime: "onnx", "litert" or "openvino".
        files: file name -> content; one .onnx, one .tflite, or an .xml with its .bin.
        threads: number of threads an operator may use.
        providers: execution providers of ONNX Runtime in order of preference; the other runtimes ignore them.

    Raises:
        ModelError: "model.runtime_missing" or "model.invalid_model".
    """
    if runtime not in RUNTIMES:
        raise ModelError("model.runtime_missing", f"Runtimes are {', '.join(RUNTIMES)}; found {runtime!r}.")
    if threads < 1:
        raise ValueError("a session needs at least one thread")
    contents = [_one_file(runtime, files, suffix) for suffix in _SUFFIX[runtime]]
    if runtime == "onnx":
        from facekeep.runtime.onnx import OnnxSession

        return OnnxSession(contents[0], threads=threads, providers=providers)
    if runtime == "litert":
        from facekeep.runtime.litert import LiteRTSession

        return LiteRTSession(contents[0], threads=threads)
    from facekeep.runtime.openvino import OpenVINOSession

    return OpenVINOSession(contents[0], contents[1], threads=threads)


def _one_file(runtime: str, files: Mapping[str, bytes], suffix: str) -> bytes:
    found = [content for name, content in files.items() if name.lower().endswith(suffix)]
    if len(found) != 1:
        raise ModelError("model.invalid_model", f"A build for {runtime} has exactly one {suffix} file; found {len(found)}.")
    return found[0]


def available_runtimes() -> tuple[RuntimeStatus, ...]:
    """Return how each runtime stands here. Imports every runtime that is installed, so it costs seconds: for `doctor`."""
    return _onnx_status(), _litert_status(), _openvino_status()


def _status(name: str, distribution: str, import_it: Callable[[], object], extra: str) -> RuntimeStatus:
    version = installed_version(distribution)
    if not version:
        wanted = f"pip install 'facekeep[{extra}]'" if extra else f"pip install {distribution}"
        return RuntimeStatus(name, False, distribution, "", f"{distribution} is not installed: {wanted}")
    try:
        import_it()
    except Exception as error:  # noqa: BLE001
        # A wheel for another libc or another NumPy fails at import in ways of its own; all mean "does not work here".
        return RuntimeStatus(name, False, distribution, version, f"{distribution} does not import: {type(error).__name__}")
    return RuntimeStatus(name, True, distribution, version)


def _onnx_status() -> RuntimeStatus:
    return _status("onnx", "onnxruntime", lambda: importlib.import_module("onnxruntime"), "")


def _openvino_status() -> RuntimeStatus:
    from facekeep.runtime.openvino import import_openvino

    return _status("openvino", "openvino", import_openvino, "openvino")


def _litert_status() -> RuntimeStatus:
    from facekeep.runtime.litert import tflite_numpy_conflict

    status = _status("litert", "ai-edge-litert", lambda: importlib.import_module("ai_edge_litert.interpreter"), "litert")
    if status.works or not installed_version("tflite-runtime"):
        return status
    version = installed_version("tflite-runtime")
    # Asked before the import: against NumPy 2 the import succeeds and the first interpreter fails.
    reason = tflite_numpy_conflict()
    if reason:
        return RuntimeStatus("litert", False, "tflite-runtime", version, reason)
    return _status("litert", "tflite-runtime", lambda: importlib.import_module("tflite_runtime.interpreter"), "litert")


def installed_version(distribution: str) -> str:
    """Return the version of an installed distribution, or an empty string."""
    # Imported here: it brings the parsers of mail and of zip files along, 4 MB that inference has no use for.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
