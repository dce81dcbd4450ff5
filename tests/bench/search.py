"""1:N: exact search over 100,000 templates of 256 dimensions against the bare matrix product."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from facekeep.comparison import Gallery
from tests.bench.setting import interleaved, report


def identify(shared: Path) -> None:
    del shared
    generator = np.random.default_rng(0)
    for rows in (1_000, 10_000, 100_000):
        vectors = generator.standard_normal((rows, 256), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        probe = vectors[rows // 2].copy()
        labels = np.arange(rows)
        floats, bytes_ = Gallery(vectors, labels, precision="float32"), Gallery(vectors, labels, precision="int8")
        assert floats.search(probe)[0][0] == bytes_.search(probe)[0][0] == rows // 2
        bare, ours, small = interleaved(
            30, lambda v=vectors, p=probe: v @ p, lambda g=floats, p=probe: g.search(p), lambda g=bytes_, p=probe: g.search(p)
        )
        report(f"{rows} x 256, bare NumPy product", f"{1000 * bare:.2f} ms", f"{vectors.nbytes / 2**20:.0f} MB")
        report(f"{rows} x 256, float32 gallery", f"{ours / bare:.2f} x", f"<= 2   {floats.nbytes / 2**20:.0f} MB")
        report(f"{rows} x 256, int8 gallery", f"{small / bare:.2f} x", f"{bytes_.nbytes / 2**20:.0f} MB")
