"""LiteRT (TensorFlow Lite): `ai-edge-litert`, else `tflite-runtime` where NumPy is older than 2."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import ModelError
from facekeep.runtime.description import Description

_INSTALL = "Run: pip install 'facekeep[litert]'"


def tflite_numpy_conflict() -> str:
    """Return why `tflite-runtime` cannot run beside this NumPy, or an empty string.

    Its last release (2.14, Python 3.11) was built for NumPy 1: it imports beside NumPy 2 and fails at the first interpreter.
    """
    if int(np.__version__.split(".", 1)[0]) < 2:
        return ""
    return f"tflite-runtime works only with numpy<2, found {np.__version__}: pip install ai-edge-litert, or numpy<2"


def _interpreter_class() -> Any:
    try:
        return importlib.import_module("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        pass
    from facekeep.runtime import installed_version

    if not installed_version("tflite-runtime"):
        raise ModelError("model.runtime_missing", f"LiteRT is not installed. {_INSTALL}")
    if reason := tflite_numpy_conflict():
        raise ModelError("model.runtime_missing", reason)
    try:
        return importlib.import_module("tflite_runtime.interpreter").Interpreter
    except ImportError as error:
        raise ModelError("model.runtime_missing", f"tflite-runtime does not import. {_INSTALL}") from error


class LiteRTSession(Description):
    """A model in LiteRT. One interpreter with one set of tensors, so a lock lets one caller in at a time.

    Args:
        model_bytes: the .tflite file.
        threads: threads of the interpreter.

    Raises:
        ModelError: "model.runtime_missing" or "model.invalid_model".
    """

    def __init__(self, model_bytes: bytes, *, threads: int = 1) -> None:
        interpreter_class = _interpreter_class()
        # The identifier of the flatbuffer schema: LiteRT checks it too, but says so on standard error.
        if model_bytes[4:8] != b"TFL3":
            raise ModelError("model.invalid_model", "The file is not a TensorFlow Lite model.")
        try:
            self._interpreter = interpreter_class(model_content=model_bytes, num_threads=threads)
            self._interpreter.allocate_tensors()
            inputs = self._interpreter.get_input_details()
            outputs = self._interpreter.get_output_details()
        except Exception as error:
            raise ModelError("model.invalid_model", f"LiteRT cannot load the model ({type(error).__name__}).") from error
        self._lock = threading.Lock()
        self._input_details = {detail["name"]: detail for detail in inputs}
        self._inputs = MappingProxyType(
            {detail["name"]: tuple(int(n) if n >= 0 else None for n in detail["shape_signature"]) for detail in inputs}
        )
        self._output_indices = tuple(detail["index"] for detail in outputs)
        self._outputs = tuple(detail["name"] for detail in outputs)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Return a copy of every output.

        Raises:
            ModelError: "model.invalid_model": wrong names, types or shapes, or a fault inside the runtime.
        """
        if set(feeds) != set(self._inputs):
            raise ModelError("model.invalid_model", f"The model takes {sorted(self._inputs)}; found {sorted(feeds)}.")
        with self._lock:
            try:
                self._resize(feeds)
                for name, array in feeds.items():
                    self._interpreter.set_tensor(self._input_details[name]["index"], array)
                self._interpreter.invoke()
                return [self._interpreter.get_tensor(index) for index in self._output_indices]
            except Exception as error:
                raise ModelError("model.invalid_model", f"LiteRT cannot run the model ({type(error).__name__}).") from error

    def _resize(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Fit free dimensions to the feeds; a fixed dimension of another size is left for the runtime to refuse."""
        changed = False
        for name, array in feeds.items():
            detail, signature = self._input_details[name], self._inputs[name]
            if None in signature and tuple(detail["shape"]) != array.shape:
                self._interpreter.resize_tensor_input(detail["index"], array.shape, strict=True)
                changed = True
        if changed:
            self._interpreter.allocate_tensors()
            self._input_details = {detail["name"]: detail for detail in self._interpreter.get_input_details()}

    def __repr__(self) -> str:
        return f"LiteRTSession(inputs={dict(self._inputs)})"
