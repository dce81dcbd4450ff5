"""ONNX Runtime, the runtime of the base install."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from facekeep.errors import ModelError
from facekeep.runtime.description import Description

_ERROR_SEVERITY = 3


class OnnxSession(Description):
    """A model in ONNX Runtime. Safe to call from several threads: `InferenceSession.run` is.

    Args:
        model_bytes: the .onnx file.
        threads: threads inside an operator; operators run one after the other.
        providers: execution providers in order of preference; those not built into the installed ONNX Runtime are refused.

    Raises:
        ModelError: "model.runtime_missing" or "model.invalid_model".
    """

    def __init__(self, model_bytes: bytes, *, threads: int = 1, providers: Sequence[str] = ("CPUExecutionProvider",)) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError("model.runtime_missing", "ONNX Runtime does not import. Run: pip install onnxruntime") from error
        missing = [name for name in providers if name not in onnxruntime.get_available_providers()]
        if missing:
            # ONNX Runtime would warn and use another provider: a device that believes it runs on an accelerator must not.
            raise ModelError("model.runtime_missing", f"ONNX Runtime here has no {', '.join(missing)}.")
        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(_ERROR_SEVERITY)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERROR_SEVERITY
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A spinning worker burns a whole core of a small device between two frames.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Measured on YuNet-s at 640x480 and reid-0095, one thread: peak resident memory with arena and pattern 113 MB, arena
        # only 100 MB, neither 173 MB, same speed; with frames of changing size 125, 113 and 136 MB. A pattern is kept for
        # each input size ever seen, so a detector fed with pictures of any size would grow.
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(model_bytes, options, providers=list(providers))
        except Exception as error:
            raise ModelError("model.invalid_model", f"ONNX Runtime cannot load the model ({type(error).__name__}).") from error
        # The Python wrapper keeps the whole file for a fallback to other providers, which is refused above; a device has
        # better uses for those megabytes.
        if hasattr(self._session, "_model_bytes"):
            self._session._model_bytes = None
        self._inputs = MappingProxyType({node.name: tuple(node.shape) for node in self._session.get_inputs()})
        self._outputs = tuple(node.name for node in self._session.get_outputs())
        self._names = list(self._outputs)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Return every output.

        Raises:
            ModelError: "model.invalid_model": wrong names, types or shapes, or a fault inside the runtime.
        """
        try:
            results: Sequence[NDArray[Any]] = self._session.run(self._names, dict(feeds))
        except Exception as error:
            raise ModelError("model.invalid_model", f"ONNX Runtime cannot run the model ({type(error).__name__}).") from error
        return results

    def __repr__(self) -> str:
        return f"OnnxSession(inputs={dict(self._inputs)})"
