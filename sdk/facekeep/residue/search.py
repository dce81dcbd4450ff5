"""The search of what was written: every view of it, for every window of every secret."""

from __future__ import annotations

import base64
import hashlib
import secrets
import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from facekeep.residue.forms import Form
from facekeep.residue.needles import Needles
from facekeep.residue.views import holds_vector, numbers, picture_format, views

_MOST_NAMED = 3


class Searcher:
    """Searches bytes for secrets.

    Args:
        forms: every secret in every form.
        vectors: name -> embedding or template, which might be written as decimal numbers.
    """

    def __init__(self, forms: list[Form], vectors: dict[str, NDArray[np.float32]]) -> None:
        self._needles = Needles(forms)
        self._forms, self._vectors = forms, vectors
        self._clean: set[bytes] = set()

    @property
    def windows(self) -> int:
        """Number of windows that are searched for."""
        return self._needles.count

    def search(self, data: bytes) -> str | None:
        """Return what of which secret stands in `data` and how it was encoded, or None."""
        # Most files are the same after each step; what was searched once and clean is clean.
        fingerprint = hashlib.sha256(data).digest()
        if fingerprint in self._clean:
            return None
        found: dict[str, None] = {}
        for encoding, view in views(data):
            suffix = f", {encoding}" if encoding else ""
            for hit in self._needles.search(view):
                found[f"{hit.label}{suffix}, at byte {hit.offset}"] = None
            if name := picture_format(view):
                found[f"the beginning of a {name} file{suffix}"] = None
        values = numbers(data)
        for name, vector in self._vectors.items():
            if holds_vector(values, vector):
                found[f"{name} as decimal numbers"] = None
        if not found:
            self._clean.add(fingerprint)
            return None
        named = list(found)[:_MOST_NAMED]
        rest = len(found) - len(named)
        return "; ".join(named) + (f"; and {rest} more" if rest > 0 else "")

    def fault(self) -> str | None:
        """Search for planted secrets and return what was not found, or what was found where nothing is; None if all is well."""
        kinds: dict[str, Form] = {}
        for form in self._forms:
            # Of each kind of secret the first, and the first made of it that holds numbers of another type.
            kinds.setdefault(f"{form.label.split(' ', 1)[0]} {'float' in form.label or 'int8' in form.label}", form)
        for form in kinds.values():
            middle = len(form.data) // 2 // form.stride * form.stride
            piece = form.data[middle : middle + 96] if len(form.data) > 512 else form.data
            for name, data in _planted(piece):
                if self.search(data) is None:
                    return f"a planted {form.label} was not found when written {name}"
        for name, vector in self._vectors.items():
            if self.search(repr(vector.tolist()).encode("ascii")) is None:
                return f"a planted {name} was not found when written as numbers"
        if found := self.search(secrets.token_bytes(1 << 16)):
            return f"fresh random bytes were taken for {found}"
        return None


def _planted(piece: bytes) -> Iterable[tuple[str, bytes]]:
    before, after = secrets.token_bytes(1001), secrets.token_bytes(503)
    yield "plain", before + piece + after
    yield "in hexadecimal", before + b" " + piece.hex().encode("ascii") + b" " + after
    for shift in range(3):
        yield f"in Base64 at alignment {shift}", base64.b64encode(before[:shift] + piece + after[:10])
    yield "compressed", before + zlib.compress(piece) + after
