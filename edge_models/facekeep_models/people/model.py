"""The learnt model of synthetic people: what is in its file, and reading it. The file is checked before anything is believed."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import ModelError
from facekeep_models.catalogue import WEIGHTS
from facekeep_models.people.geometry import CANVAS_PX, FIELD_NODES, FIELD_STEP_PX, spline_matrix

FORMAT: Final = 1
FILE: Final = WEIGHTS / "people" / "people.npz"
CARD: Final = WEIGHTS / "people" / "people.json"
SHA256: Final = "3b5a16709d5c285220c2379c63d42d2f1ba71414b9c08a7a3155b5ed1f9c9ce3"
LARGEST_BYTES: Final = 4 * 1024 * 1024
# Unpacked, nothing that ships has more: a small file that unfolds into gigabytes is refused before it does.
_LARGEST_UNPACKED_BYTES: Final = 32 * 1024 * 1024
MESH_POINTS: Final = 468
COARSE_PX: Final = CANVAS_PX // 2
# Top, bottom, left and right of the fine layer on the canvas.
FINE_WINDOW: Final = (34, 140, 36, 124)
_FINE_SHAPE: Final = (FINE_WINDOW[1] - FINE_WINDOW[0], FINE_WINDOW[3] - FINE_WINDOW[2])

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False, repr=False)
class PeopleModel:
    """Directions of variation and how far people and pictures go along them.

    A vector z has a number for each direction, in the order shape even and odd, coarse even and odd, fine even and odd; 1 is a
    standard deviation over pictures. Even parts are their own mirror image; of both the left half is kept.

    Attributes:
        mean_shape: (468, 3) canvas pixels.
        shape: (K, 468, 3) what 1 adds.
        coarse_mean: (80, 80, 3) colours; coarse_even, coarse_odd (K, 80, 40, 3).
        fine_mean: (106, 88) brightness beyond them; fine_even, fine_odd (K, 106, 44).
        between: (D, R) a person is `between` times R standard normal numbers.
        within: (D, Q) a picture of theirs is `within` times Q such numbers away.
        expressions: (2, D) what one standard deviation of smile and of open mouth adds.
        tone: (D,) what one degree of skin tone (individual typology angle) adds.
        landmark_offsets: (5, 2) from points of the mesh to what YuNet calls the landmarks, canvas pixels.
        accepted: (N,) seeds of people who passed the privacy screen, in order; takes: (N, 4) which pictures of theirs did.
    """

    mean_shape: Floats
    shape: Floats
    coarse_mean: Floats
    coarse_even: Floats
    coarse_odd: Floats
    fine_mean: Floats
    fine_even: Floats
    fine_odd: Floats
    between: Floats
    within: Floats
    expressions: Floats
    tone: Floats
    landmark_offsets: Floats
    accepted: NDArray[np.int64]
    takes: NDArray[np.int64]

    @cached_property
    def spline(self) -> NDArray[np.float64]:
        """(FIELD_NODES**2, 468): displacements of points into a field."""
        return spline_matrix(self.mean_shape[:, :2].astype(np.float64))

    @cached_property
    def slopes(self) -> NDArray[np.float64]:
        """(FIELD_NODES, FIELD_NODES, 2) how depth changes to the right and down on the mean face: what light falls on."""
        depth = self.mean_shape[:, 2].astype(np.float64)
        field = (self.spline @ (depth - depth.max())).reshape(FIELD_NODES, FIELD_NODES)
        down, right = np.gradient(field, FIELD_STEP_PX)
        return np.stack((right, down), axis=2)

    def parts(self) -> tuple[slice, ...]:
        """Return which numbers of z belong to shape, coarse even and odd, fine even and odd."""
        ends = np.cumsum(
            [0, *(len(each) for each in (self.shape, self.coarse_even, self.coarse_odd, self.fine_even, self.fine_odd))]
        )
        return tuple(slice(first, last) for first, last in pairwise(ends.tolist()))


_SHAPES: Final[dict[str, tuple[int | None, ...]]] = {
    "mean_shape": (MESH_POINTS, 3),
    "shape": (None, MESH_POINTS, 3),
    "coarse_mean": (COARSE_PX, COARSE_PX, 3),
    "coarse_even": (None, COARSE_PX, COARSE_PX // 2, 3),
    "coarse_odd": (None, COARSE_PX, COARSE_PX // 2, 3),
    "fine_mean": _FINE_SHAPE,
    "fine_even": (None, _FINE_SHAPE[0], _FINE_SHAPE[1] // 2),
    "fine_odd": (None, _FINE_SHAPE[0], _FINE_SHAPE[1] // 2),
    "between": (None, None),
    "within": (None, None),
    "expressions": (2, None),
    "tone": (None,),
    "landmark_offsets": (5, 2),
    "accepted": (None,),
    "takes": (None, None),
}
# Kept as whole numbers from -127 to 127 with a scale for each direction.
_PACKED: Final = ("coarse_even", "coarse_odd", "fine_even", "fine_odd")


@lru_cache(maxsize=1)
def shipped_model() -> PeopleModel:
    """Return the model that ships.

    Raises:
        ModelError: "model.not_installed" if the file is not there, "model.io", "model.hash_mismatch".
    """
    return read_model(FILE, sha256=SHA256)


def read_model(path: Path, *, sha256: str | None = None) -> PeopleModel:
    """Read a model, and check it against its hash before anything in it is parsed.

    Raises:
        ModelError: "model.not_installed", "model.io", "model.hash_mismatch", "model.invalid_model".
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelError(
            "model.not_installed", f"The model of synthetic people is not at {path}. Install facekeep again."
        ) from error
    except OSError as error:
        raise ModelError("model.io", f"{path} cannot be read: {error.strerror or type(error).__name__}.") from error
    if len(data) > LARGEST_BYTES:
        raise ModelError("model.invalid_model", f"A model of people has at most {LARGEST_BYTES} bytes; {path.name} has more.")
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise ModelError(
            "model.hash_mismatch",
            f"{path.name} has SHA-256 {found[:16]}..., expected {sha256[:16]}...: damaged or replaced. Install facekeep again.",
        )
    return parse_model(data)


def parse_model(data: bytes) -> PeopleModel:
    """Return the model in the bytes of a file; docs/models/people.md describes the format.

    Raises:
        ModelError: "model.invalid_model".
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(each.file_size for each in archive.infolist()) > _LARGEST_UNPACKED_BYTES:
                raise _invalid("it unfolds into more than a model of people has")
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in stored.files}
    except ModelError:
        raise
    # What zipfile, lzma and numpy raise on damaged bytes is no closed list: KeyError and NotImplementedError among it.
    except Exception as error:
        raise _invalid(f"it cannot be unpacked ({type(error).__name__})") from error
    version = arrays.get("format")
    if version is None or version.shape != () or int(version) != FORMAT:
        raise _invalid(f"format {FORMAT} is expected")
    values: dict[str, NDArray[Any]] = {}
    for name, shape in _SHAPES.items():
        array = arrays.get(name)
        if (
            array is None
            or array.ndim != len(shape)
            or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True))
        ):
            raise _invalid(f"{name} is missing or has another shape")
        if name in _PACKED:
            scale = arrays.get(f"{name}_scale")
            if scale is None or scale.shape != (len(array),) or array.dtype != np.int8:
                raise _invalid(f"{name} is not packed as expected")
            array = array * scale.astype(np.float32).reshape(-1, *([1] * (array.ndim - 1)))
        if array.dtype.kind not in "if" or not np.isfinite(array).all():
            raise _invalid(f"{name} holds what is not a finite number")
        values[name] = array.astype(np.int64 if name in ("accepted", "takes") else np.float32)
        values[name].flags.writeable = False
    model = PeopleModel(**values)
    size = model.parts()[-1].stop
    if (
        any(each.shape[0] != size for each in (model.between, model.within, model.tone))
        or model.expressions.shape[1] != size
        or len(model.takes) != len(model.accepted)
    ):
        raise _invalid("its parts do not fit each other")
    return model


def model_to_bytes(model: PeopleModel) -> bytes:
    """Return the file of a model; the same model gives the same bytes."""
    arrays: dict[str, NDArray[Any]] = {"format": np.array(FORMAT)}
    for field in fields(model):
        array = getattr(model, field.name)
        if field.name in _PACKED:
            scale = np.maximum(np.abs(array).reshape(len(array), -1).max(axis=1), 1e-6) / 127
            arrays[f"{field.name}_scale"] = scale.astype(np.float32)
            arrays[field.name] = np.rint(array / scale.reshape(-1, *([1] * (array.ndim - 1)))).astype(np.int8)
        elif field.name in ("shape", "between", "within", "expressions"):
            arrays[field.name] = array.astype(np.float16)
        else:
            arrays[field.name] = array
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.asarray(array, order="C"), allow_pickle=False)
            # A fixed date: the bytes do not depend on the day.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (2026, 1, 1, 0, 0, 0)), part.getvalue(), zipfile.ZIP_LZMA)
    return stream.getvalue()


def _invalid(reason: str) -> ModelError:
    return ModelError("model.invalid_model", f"This is not a model of synthetic people: {reason}. Install facekeep again.")
