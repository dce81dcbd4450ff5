"""OpenVINO (extra `openvino`), CPU only, from files in memory."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from facekeep.errors import ModelError
from facekeep.runtime.description import Description


class OpenVINOSession(Description):
    """A model in OpenVINO. Each thread gets an inference request of its own.

    Args:
        xml_bytes: the graph of the intermediate representation.
        bin_bytes: its weights.
        threads: threads of the CPU plug-in.

    Raises:
        ModelError: "model.runtime_missing" or "model.invalid_model".
    """

    def __init__(self, xml_bytes: bytes, bin_bytes: bytes, *, threads: int = 1) -> None:
        openvino = import_openvino()
        try:
            core = openvino.Core()
            model = core.read_model(model=xml_bytes, weights=bin_bytes)
            # No CACHE_DIR: a compiled model is never written to disk. f32, so that bf16 hardware does not move scores.
            self._model = core.compile_model(
                model,
                "CPU",
                {
                    "INFERENCE_NUM_THREADS": threads,
                    "NUM_STREAMS": 1,
                    "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_PRECISION_HINT": "f32",
                },
            )
            self._inputs = MappingProxyType(
                {port.get_any_name(): tuple(_dimension(d) for d in port.get_partial_shape()) for port in self._model.inputs}
            )
            self._outputs = tuple(port.get_any_name() for port in self._model.outputs)
        except Exception as error:
            raise ModelError("model.invalid_model", f"OpenVINO cannot load the model ({type(error).__name__}).") from error
        self._local = threading.local()

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Return a copy of every output.

        Raises:
            ModelError: "model.invalid_model": wrong names, types or shapes, or a fault inside the runtime.
        """
        if set(feeds) != set(self._inputs):
            raise ModelError("model.invalid_model", f"The model takes {sorted(self._inputs)}; found {sorted(feeds)}.")
        try:
            request = getattr(self._local, "request", None)
            if request is None:
                request = self._local.request = self._model.create_infer_request()
            results = request.infer(dict(feeds))
            return [results[index].copy() for index in range(len(self._outputs))]
        except Exception as error:
            raise ModelError("model.invalid_model", f"OpenVINO cannot run the model ({type(error).__name__}).") from error

    def __repr__(self) -> str:
        return f"OpenVINOSession(inputs={dict(self._inputs)})"


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry.

    The import itself would write a client identifier to ~/intel and send an event to Google Analytics through the package
    openvino-telemetry, which it depends on. Where that package cannot be imported it uses a stub that does nothing.

    Raises:
        ModelError: "model.runtime_missing".
    """
    silenced = "openvino" not in sys.modules and "openvino_telemetry" not in sys.modules
    if silenced:
        # None makes `import openvino_telemetry` raise ModuleNotFoundError; lifted again below for the application's own use.
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    except Exception as error:
        message = "OpenVINO is not installed or does not import. Run: pip install 'facekeep[openvino]'"
        raise ModelError("model.runtime_missing", message) from error
    finally:
        if silenced:
            sys.modules.pop("openvino_telemetry", None)


def _dimension(dimension: Any) -> int | None:
    return int(dimension.get_length()) if dimension.is_static else None
