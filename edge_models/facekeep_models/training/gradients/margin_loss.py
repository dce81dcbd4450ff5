"""The loss of a device that knows one or a few people, and its gradient, as ONNX operators.

CosFace (Wang et al. 2018, equation 4) of the sample against its own person's centre and anchors that ship: people who do not
exist. The device needs no other person's face, and its own people's centres are constants that never leave it. `keep` holds the
embedding near the old model's (less forgetting: Li and Hoiem 2016), so that what a device cannot see does not fall apart.

    loss = mean CE(scale * (cos - margin * own)) + keep * mean(1 - <unit, reference>)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facekeep_models.training.gradients.emitting import Emitter


@dataclass(frozen=True, slots=True)
class Loss:
    """Names of values.

    Attributes:
        loss: scalar.
        unit: (N, D) unit vectors.
        gradient: (N, D) of the loss with respect to the vectors before they were brought to unit length.
    """

    loss: str
    unit: str
    gradient: str


def margin_loss(raw: str, out: Emitter) -> Loss:
    """Add the nodes of loss and gradient, and return what to read.

    Reads the inputs `centres` (K, D), `labels` (N,) int64, `references` (N, D), and the scalars `margin`, `scale`, `keep`.

    Args:
        raw: (N, D) vectors of any length.
        out: where nodes go.
    """
    rows, all_rows = out.integers(1), out.integers(0)
    # 1 unit vectors
    squares = out.node("ReduceSum", [out.node("Mul", [raw, raw]), rows], keepdims=1)
    length = out.node("Sqrt", [squares])
    unit = out.node("Div", [raw, length])
    # 2 logits: the own person has to win by the margin
    across = out.node("Transpose", ["centres"], perm=[1, 0])
    cosines = out.node("MatMul", [unit, across])
    classes = out.node("Gather", [out.node("Shape", ["centres"]), out.integers(0)], axis=0)
    onehot = out.node("OneHot", ["labels", classes, out.constant(np.array([0, 1], np.float32))], axis=-1)
    logits = out.node("Mul", ["scale", out.node("Sub", [cosines, out.node("Mul", ["margin", onehot])])])
    # 3 cross entropy and its gradient, softmax - own
    log_chances = out.node("LogSoftmax", [logits], axis=1)
    crossed = out.node("Neg", [out.node("ReduceSum", [out.node("Mul", [onehot, log_chances]), rows], keepdims=0)])
    near = out.node("ReduceSum", [out.node("Mul", [unit, "references"]), rows], keepdims=0)
    far = out.node("Mul", ["keep", out.node("Sub", [out.number(1), near])])
    loss = out.node("ReduceMean", [out.node("Add", [crossed, far])], keepdims=0)
    samples = out.node("Cast", [out.node("Gather", [out.node("Shape", [raw]), all_rows], axis=0)], to=1)
    share = out.node("Div", ["scale", samples])
    wrong = out.node("Mul", [share, out.node("Sub", [out.node("Exp", [log_chances]), onehot])])
    pulled = out.node("Mul", [out.node("Div", ["keep", samples]), "references"])
    towards = out.node("Sub", [out.node("MatMul", [wrong, "centres"]), pulled])
    # 4 back through the division by the length: what is along the vector is lost
    along = out.node("ReduceSum", [out.node("Mul", [towards, unit]), rows], keepdims=1)
    gradient = out.node("Div", [out.node("Sub", [towards, out.node("Mul", [unit, along])]), length])
    return Loss(loss, unit, gradient)
