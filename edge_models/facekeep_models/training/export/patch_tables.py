"""The patch table of a build of the embedder: where the numbers lie that a release of a federation overwrites."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from facekeep.training import HEAD, PatchTable, parse_parameter_table, table_for
from facekeep_models.training.export.patchable import PARAMETERS, layout_of

# In 8 bits only the last linear map is left to train: everything before it is rounded to what calibration saw.
HALF_HEAD: Final = "head_weight_half"


def patch_table(build: str, model: bytes) -> PatchTable | None:
    """Return the patch table of a build, None where nothing of it can be trained (LiteRT).

    Raises:
        ExportError: "export.unsupported_layer" if the model is not of the form of `export.patchable`.
    """
    if build == "onnx-fp32":
        read = onnx.load_from_string(model)
        table = parse_parameter_table(layout_of(read))
        return table_for(model, table, _constant(read, PARAMETERS), "float32")
    if build == "onnx-int8":
        head = _constant(onnx.load_from_string(model), HALF_HEAD)
        return table_for(model, parse_parameter_table([[HEAD, list(head.shape)]]), head, "float16")
    return None


def _constant(model: onnx.ModelProto, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    (found,) = (each for each in model.graph.initializer if each.name == name)
    return numpy_helper.to_array(found).astype(np.float32)
