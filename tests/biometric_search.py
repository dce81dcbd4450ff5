"""Whether anything biometric, or a name, stands in what a scenario wrote: for any test that has logs, entries or a database.

    search = BiometricSearch(pictures={"frame": pixels}, vectors={"embedding": vector}, names=["Ann-Sofie"])
    assert search.in_tree(home) == [] and search.in_bytes("the log", log) == []

`fault` says whether the search itself is blind; a test that does not ask it proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facekeep.residue.blobs import dense_runs
from facekeep.residue.forms import picture_forms, tensor_forms, vector_forms
from facekeep.residue.search import Searcher
from facekeep.residue.views import views


class BiometricSearch:
    """Searches for pictures and vectors in every number format and encoding, for names, and for blobs of template size.

    Args:
        pictures: name -> (H, W, 3) uint8 RGB: frames and aligned crops.
        vectors: name -> (D,) float32: embeddings and templates.
        names: what subjects are called.
    """

    def __init__(
        self, *, pictures: Mapping[str, NDArray[np.uint8]], vectors: Mapping[str, NDArray[np.float32]], names: Sequence[str]
    ) -> None:
        forms = [form for name, pixels in pictures.items() for form in picture_forms(name, pixels)]
        forms += [form for name, pixels in pictures.items() if max(pixels.shape) <= 128 for form in tensor_forms(name, pixels)]
        forms += [form for name, vector in vectors.items() for form in vector_forms(name, vector)]
        self._searcher = Searcher(forms, dict(vectors))
        self._names = {name: (name.encode("utf-8"), name.encode("utf-16-le"), name.encode("unicode_escape")) for name in names}

    def fault(self) -> str | None:
        """Return why the search cannot be trusted, or None: it looks for what it plants itself."""
        for name in self._names:
            if not self.in_bytes("planted", b'{"subject":"' + name.encode() + b'"}'):
                return "a planted name was not found"
        return self._searcher.fault()

    def in_bytes(self, where: str, data: bytes, *, is_text: bool = True) -> list[str]:
        """Return what was found in `data`; of what is text, blobs of template size too."""
        found = [f"{where}: {what}"] if (what := self._searcher.search(data)) else []
        for encoding, view in views(data):
            found += [
                f"{where}: a name {encoding}" for spellings in self._names.values() if any(item in view for item in spellings)
            ]
        if is_text:
            found += [f"{where}: {run.size} bytes of noise at {run.offset}, {run.encoding or 'plain'}" for run in dense_runs(data)]
        return found

    def in_tree(self, root: Path, *, sealed: frozenset[str] = frozenset({"vault.db", "vault.db-wal", "keys.fkk"})) -> list[str]:
        """Return what was found in the files below `root`; those named `sealed` hold ciphertext and may look like noise."""
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        return [
            line
            for path in files
            for line in self.in_bytes(str(path.relative_to(root)), path.read_bytes(), is_text=path.name not in sealed)
        ]
