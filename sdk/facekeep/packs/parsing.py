"""Manifests as JSON: strict in both directions.

A manifest may come from anywhere, so nothing is guessed: an unknown field, a wrong type, a duplicate key, a NaN or a size
beyond reason is refused, always as "model.invalid_manifest" with the place in the document.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NoReturn, TypeVar, cast

from facekeep.biometric import OperatingPoint
from facekeep.contract import InputContract
from facekeep.errors import ModelError
from facekeep.packs.manifest import (
    MANIFEST_VERSION,
    Build,
    Licence,
    Manifest,
    Option,
    OutputContract,
    PackFile,
    Source,
    TrainingData,
)

LARGEST_MANIFEST_BYTES: Final = 256 * 1024
_LONGEST_TEXT = 4000
_LONGEST_LIST = 64
_LARGEST_SIDE_PX = 8192
_T = TypeVar("_T")


class _Refused(Exception):  # noqa: N818 -- never leaves this module
    """The document is not a manifest, and where."""


def parse_manifest(data: bytes) -> Manifest:
    """Return the manifest that `data` spells.

    Raises:
        ModelError: "model.invalid_manifest".
    """
    if len(data) > LARGEST_MANIFEST_BYTES:
        raise ModelError("model.invalid_manifest", f"A manifest has at most {LARGEST_MANIFEST_BYTES} bytes; found {len(data)}.")
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError, _Refused) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ModelError("model.invalid_manifest", f"The manifest is not strict JSON: {reason}.") from error
    try:
        return _manifest(_Reader(document, "manifest"))
    except _Refused as error:
        raise ModelError("model.invalid_manifest", f"The manifest is not valid: {error}.") from error


def manifest_to_bytes(manifest: Manifest) -> bytes:
    """Return `manifest` as indented JSON, the form that is committed and reviewed."""
    document = {
        "manifest_version": MANIFEST_VERSION,
        "id": manifest.id,
        "task": manifest.task,
        "family": manifest.family,
        "title": manifest.title,
        "licence": {
            "weights": manifest.licence.weights,
            "source": manifest.licence.source,
            "note": manifest.licence.note,
        },
        "training_data": {
            "description": manifest.training_data.description,
            "consented": manifest.training_data.consented,
        },
        "permitted_uses": list(manifest.permitted_uses),
        "source": {
            "repository": manifest.source.repository,
            "path": manifest.source.path,
            "commit": manifest.source.commit,
        },
        "input": _input_document(manifest.input),
        "output": {
            "dimension": manifest.output.dimension,
            "landmarks": manifest.output.landmarks,
            "classes": list(manifest.output.classes),
        },
        "options": dict(manifest.options),
        "builds": [_build_document(build) for build in manifest.builds],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"


class _Reader:
    """Takes the fields of one JSON object, and in the end wants that none is left."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _Refused(f"{where} is an object, found {type(value).__name__}")
        self._left: dict[str, object] = dict(value)
        self._where = where

    def refuse(self, message: str) -> NoReturn:
        raise _Refused(f"{self._where}: {message}")

    def take(self, name: str, *kinds: type) -> Any:
        if name not in self._left:
            self.refuse(f"{name!r} is missing")
        value = self._left.pop(name)
        # bool is an int to Python, and must not be one here.
        if (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            self.refuse(f"{name!r} is {wanted}, found {type(value).__name__}")
        if isinstance(value, str):
            self.require_text(name, value)
        if isinstance(value, list) and len(value) > _LONGEST_LIST:
            self.refuse(f"{name!r} has at most {_LONGEST_LIST} entries")
        return value

    def require_text(self, name: str, value: str) -> str:
        if len(value) > _LONGEST_TEXT or not value.isprintable():
            self.refuse(f"{name!r} is printable text of at most {_LONGEST_TEXT} characters")
        return value

    def text(self, name: str, *, may_be_empty: bool = False) -> str:
        value = cast("str", self.take(name, str))
        if not value and not may_be_empty:
            self.refuse(f"{name!r} is empty")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.take(name, list)
        if not all(isinstance(value, str) for value in values):
            self.refuse(f"{name!r} is a list of text")
        return tuple(self.require_text(name, value) for value in values)

    def whole(self, name: str, largest: int) -> int:
        value = cast("int", self.take(name, int))
        if not 0 <= value <= largest:
            self.refuse(f"{name!r} is a whole number from 0 to {largest}")
        return value

    def number(self, name: str) -> float:
        return self._finite(name, self.take(name, int, float))

    def numbers(self, name: str, count: int) -> tuple[float, ...]:
        values = self.take(name, list)
        if len(values) != count or any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
            self.refuse(f"{name!r} is a list of {count} numbers")
        return tuple(self._finite(name, value) for value in values)

    def reader(self, name: str) -> _Reader:
        return _Reader(self.take(name, dict), f"{self._where}.{name}")

    def readers(self, name: str) -> list[_Reader]:
        return [_Reader(value, f"{self._where}.{name}[{index}]") for index, value in enumerate(self.take(name, list))]

    def rest(self) -> Mapping[str, object]:
        left, self._left = self._left, {}
        return left

    def done(self) -> None:
        if self._left:
            self.refuse(f"unknown field {min(self._left)[:60]!r}")

    def _finite(self, name: str, value: float) -> float:
        # An integer of 400 digits is no float, and 1e400 is an infinity.
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.refuse(f"{name!r} is finite")
        return number


def _manifest(reader: _Reader) -> Manifest:
    version = reader.whole("manifest_version", 1 << 20)
    if version != MANIFEST_VERSION:
        reader.refuse(f"version {version} is not one this Facekeep reads (it reads {MANIFEST_VERSION}); a newer Facekeep may")
    licence, training, source, output = (reader.reader(name) for name in ("licence", "training_data", "source", "output"))
    dimension = output.take("dimension", int, type(None))
    fields: dict[str, Any] = {
        "id": reader.text("id"),
        "task": reader.text("task"),
        "family": reader.text("family"),
        "title": reader.text("title"),
        "licence": Licence(licence.text("weights"), licence.text("source"), licence.text("note", may_be_empty=True)),
        "training_data": TrainingData(training.text("description"), training.take("consented", bool)),
        "permitted_uses": reader.texts("permitted_uses"),
        "source": Source(source.text("repository"), source.text("path"), source.text("commit", may_be_empty=True)),
        "input": _input(reader.reader("input")),
        "output": OutputContract(dimension, output.take("landmarks", bool), output.texts("classes")),
        "options": _options(reader.reader("options")),
        "builds": tuple(_build(each) for each in reader.readers("builds")),
    }
    for each in (licence, training, source, output, reader):
        each.done()
    return _made(reader, Manifest, fields)


def _build(reader: _Reader) -> Build:
    own_input = reader.take("input", dict, type(None))
    fields: dict[str, Any] = {
        "id": reader.text("id"),
        "runtime": reader.text("runtime"),
        "precision": reader.text("precision"),
        "files": tuple(_file(each) for each in reader.readers("files")),
        "operating_points": tuple(_operating_point(each) for each in reader.readers("operating_points")),
        "input": None if own_input is None else _input(_Reader(own_input, "input of a build")),
        "note": reader.text("note", may_be_empty=True),
        "unusable_because": reader.take("unusable_because", str, type(None)),
    }
    reader.done()
    return _made(reader, Build, fields)


def _file(reader: _Reader) -> PackFile:
    fields: dict[str, Any] = {
        "name": reader.text("name"),
        "size_bytes": reader.whole("bytes", 1 << 53),
        "sha256": reader.text("sha256"),
        "url": reader.take("url", str, type(None)),
    }
    reader.done()
    return _made(reader, PackFile, fields)


def _operating_point(reader: _Reader) -> OperatingPoint:
    fields: dict[str, Any] = {
        "threshold": reader.number("threshold"),
        "fmr": reader.number("fmr"),
        "fmr_interval": reader.numbers("fmr_interval", 2),
        "fnmr": reader.number("fnmr"),
        "fnmr_interval": reader.numbers("fnmr_interval", 2),
        "dataset": reader.text("dataset"),
        "mated": reader.whole("mated", 1 << 53),
        "non_mated": reader.whole("non_mated", 1 << 53),
    }
    reader.done()
    return _made(reader, OperatingPoint, fields)


def _input(reader: _Reader) -> InputContract:
    choices = {"layout": ("NCHW", "NHWC"), "colour": ("RGB", "BGR"), "crop": ("frame", "arcface-112", "box")}
    fields: dict[str, Any] = {}
    for name, allowed in choices.items():
        fields[name] = reader.text(name)
        if fields[name] not in allowed:
            reader.refuse(f"{name!r} is one of {', '.join(allowed)}")
    size = reader.take("size_px", list, type(None))
    if size is not None:
        whole = len(size) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in size)
        if not whole or not all(1 <= v <= _LARGEST_SIDE_PX for v in size):
            reader.refuse(f"'size_px' is [height, width] of 1 to {_LARGEST_SIDE_PX}, or null")
        size = (size[0], size[1])
    fields["size_px"] = size
    fields["multiple_of"] = reader.whole("multiple_of", 1024)
    fields["mean"] = reader.numbers("mean", 3)
    fields["std"] = reader.numbers("std", 3)
    fields["crop_scale"] = reader.number("crop_scale")
    reader.done()
    return _made(reader, InputContract, fields)


def _options(reader: _Reader) -> tuple[tuple[str, Option], ...]:
    options: list[tuple[str, Option]] = []
    for name, value in sorted(reader.rest().items()):
        reader.require_text("a name", name)
        if isinstance(value, str):
            reader.require_text(name, value)
        elif not isinstance(value, bool | int | float) or not -1e15 <= value <= 1e15:
            reader.refuse(f"option {name[:60]!r} is text, a number or a truth value")
        options.append((name, value))
    if len(options) > _LONGEST_LIST or any(not 1 <= len(name) <= 64 or not name.isascii() for name, _ in options):
        reader.refuse(f"at most {_LONGEST_LIST} options, each with a short ASCII name")
    return tuple(options)


def _made(reader: _Reader, kind: type[_T], fields: dict[str, Any]) -> _T:
    """Construct a value; its own validation says what is wrong with it."""
    try:
        return kind(**fields)
    except ValueError as error:
        reader.refuse(str(error))


def _input_document(contract: InputContract) -> dict[str, object]:
    return {
        "layout": contract.layout,
        "colour": contract.colour,
        "size_px": list(contract.size_px) if contract.size_px else None,
        "multiple_of": contract.multiple_of,
        "mean": list(contract.mean),
        "std": list(contract.std),
        "crop": contract.crop,
        "crop_scale": contract.crop_scale,
    }


def _build_document(build: Build) -> dict[str, object]:
    return {
        "id": build.id,
        "runtime": build.runtime,
        "precision": build.precision,
        "files": [{"name": file.name, "bytes": file.size_bytes, "sha256": file.sha256, "url": file.url} for file in build.files],
        "operating_points": [
            {
                "threshold": point.threshold,
                "fmr": point.fmr,
                "fmr_interval": list(point.fmr_interval),
                "fnmr": point.fnmr,
                "fnmr_interval": list(point.fnmr_interval),
                "dataset": point.dataset,
                "mated": point.mated,
                "non_mated": point.non_mated,
            }
            for point in build.operating_points
        ],
        "input": _input_document(build.input) if build.input else None,
        "note": build.note,
        "unusable_because": build.unusable_because,
    }


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not a number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Refused("a key stands twice")
    return fields
