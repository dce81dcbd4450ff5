"""Choosing negatives: the anchors that ship which the device's own samples are taken for most easily."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def hardest(anchors: NDArray[np.float32], embeddings: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the rows of the `count` anchors nearest to any of the embeddings, the nearest first; equal ones in their order.

    Far anchors have no weight in a softmax; leaving them out makes a step cheaper and changes next to nothing.

    Args:
        anchors: (A, D) unit vectors.
        embeddings: (N, D) unit vectors.
        count: how many; all of them where there are fewer.
    """
    nearness = (anchors @ embeddings.T).max(axis=1)
    return np.argsort(-nearness, kind="stable")[:count].astype(np.int64)
