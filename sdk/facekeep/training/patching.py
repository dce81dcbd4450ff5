"""Making the model of a release out of the one that shipped: overwriting numbers at a stated place of the file. Pure bytes.

No reader of ONNX is needed, so none can be attacked. Format of the table: docs/formats/patch-table.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from facekeep.canonical import HEX_DIGEST, parse_canonical, to_canonical
from facekeep.errors import ReleaseError
from facekeep.training.parameters import ParameterTable, parse_parameter_table

PATCH_SUFFIX: Final = ".patch.json"
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
_KEYS: Final = {"v", "bytes", "offset", "rest", "stored", "tensors"}


@dataclass(frozen=True, slots=True)
class PatchTable:
    """Where in a model file its trainable numbers lie.

    Attributes:
        parameters: their layout.
        offset: of the first of them, in bytes from the beginning of the file.
        stored: "float32", or "float16" in a build of 8 bits, to which a release's numbers are rounded.
        size_bytes: of the file.
        rest_sha256: hexadecimal SHA-256 of the file with zeros in the place of these numbers: the same before and after any patch.
    """

    parameters: ParameterTable
    offset: int
    stored: Literal["float32", "float16"]
    size_bytes: int
    rest_sha256: str

    def __post_init__(self) -> None:
        if self.stored not in _DTYPES or not HEX_DIGEST.fullmatch(self.rest_sha256):
            raise ValueError("numbers are stored as float32 or float16, and a hash has 64 hexadecimal digits")
        if not 0 <= self.offset <= self.size_bytes - self.parameters.length * self.item_bytes:
            raise ValueError("the numbers lie inside the file")

    @property
    def item_bytes(self) -> int:
        """Bytes of one number in the file."""
        return _DTYPES[self.stored].itemsize

    def to_bytes(self) -> bytes:
        """Return the canonical JSON."""
        return to_canonical(
            {
                "v": 1,
                "bytes": self.size_bytes,
                "offset": self.offset,
                "rest": self.rest_sha256,
                "stored": self.stored,
                "tensors": self.parameters.to_value(),
            }
        )


def parse_patch_table(content: bytes) -> PatchTable:
    """Return the table of `PatchTable.to_bytes`.

    Raises:
        ReleaseError: "release.malformed".
    """
    try:
        value = parse_canonical(content)
        if not isinstance(value, dict) or set(value) != _KEYS or value["v"] != 1:
            raise ValueError("other members, or another version")
        if not all(type(value[name]) is int for name in ("v", "bytes", "offset")):
            raise ValueError("sizes are whole numbers")
        if not all(isinstance(value[name], str) for name in ("rest", "stored")):
            raise ValueError("hash and type are text")
        table = parse_parameter_table(value["tensors"])
        return PatchTable(table, value["offset"], value["stored"], value["bytes"], value["rest"])
    except ValueError as error:
        raise ReleaseError("release.malformed", f"The patch table is not well formed: {error}.") from error


def table_for(
    model: bytes, parameters: ParameterTable, values: NDArray[np.float32], stored: Literal["float32", "float16"]
) -> PatchTable:
    """Return the table of a model file that holds `values` in one run, for those who make models.

    Raises:
        ValueError: if they are not there, or more than once.
    """
    run = values.astype(_DTYPES[stored]).tobytes()
    offset = model.find(run)
    if offset < 0 or model.find(run, offset + 1) >= 0:
        raise ValueError("the numbers of the table are not in the file exactly once")
    blank = model[:offset] + bytes(len(run)) + model[offset + len(run) :]
    return PatchTable(parameters, offset, stored, len(model), hashlib.sha256(blank).hexdigest())


def read_parameters(model: bytes, table: PatchTable) -> NDArray[np.float32]:
    """Return the (P,) float32 numbers that a model file holds now.

    Raises:
        ReleaseError: "release.wrong_model" if the file is not the table's.
    """
    _require_ours(model, table)
    return _row(model, table).astype(np.float32)


def patched(model: bytes, table: PatchTable, level: str, parameters: bytes, *, sha256: str | None) -> bytes:
    """Return the model file of a release.

    Args:
        model: the file, as it shipped or as an earlier release made it.
        table: of that file.
        level: of the release; numbers outside it stay what they are in `model`.
        parameters: the release's numbers of this level, little-endian float32.
        sha256: what the release states for the result; None only for whoever makes the release and is about to state it.

    Raises:
        ReleaseError: "release.malformed" for numbers of another count or range; "release.wrong_model" if `model` is not the
            table's or the result is not the one stated.
        FederationError: "federation.plan_refused" for a level that this model does not have.
    """
    # 1 the right file, byte for byte apart from the numbers
    _require_ours(model, table)
    part, item = table.parameters.range_of(level), table.item_bytes
    # 2 numbers that a model can be made of: a NaN would make every comparison false, silently
    if len(parameters) != 4 * (part.stop - part.start):
        raise ReleaseError(
            "release.malformed", f"The release has {len(parameters)} bytes of numbers; {4 * (part.stop - part.start)} are expected."
        )
    values = np.frombuffer(parameters, _DTYPES["float32"])
    with np.errstate(over="ignore"):
        stored = values.astype(_DTYPES[table.stored])
    if not np.isfinite(stored).all():
        raise ReleaseError("release.malformed", f"A number of the release is not one of {table.stored}.")
    # 3 into their place
    begin, end = table.offset + item * part.start, table.offset + item * part.stop
    made = b"".join((model[:begin], stored.tobytes(), model[end:]))
    # 4 what the signatures are for is this file and no other
    if sha256 is not None and hashlib.sha256(made).hexdigest() != sha256:
        raise ReleaseError("release.wrong_model", "The release states another model than its numbers make of this one.")
    return made


def _require_ours(model: bytes, table: PatchTable) -> None:
    if len(model) == table.size_bytes:
        run = table.parameters.length * table.item_bytes
        rest = hashlib.sha256(memoryview(model)[: table.offset])
        rest.update(bytes(run))
        rest.update(memoryview(model)[table.offset + run :])
        if rest.hexdigest() == table.rest_sha256:
            return
    raise ReleaseError("release.wrong_model", "The model file is not the one that the patch table was made for.")


def _row(model: bytes, table: PatchTable) -> NDArray[Any]:
    return np.frombuffer(model, _DTYPES[table.stored], table.parameters.length, table.offset)
