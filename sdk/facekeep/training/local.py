"""Training on the device: samples in, a flat update out. The one door between what stays and what travels.

What comes out is still a function of the samples: it is clipped, noised and masked (`facekeep.privacy`) before it leaves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.training.anchors import hardest
from facekeep.training.head import embed_features, head_loss
from facekeep.training.loss import LossAndGradient
from facekeep.training.optimising import LocalOptimiser
from facekeep.training.parameters import ParameterTable
from facekeep.training.samples import TrainingSamples, require_units
from facekeep.training.settings import TrainingSettings

INPUTS: Final = ("parameters", "crops", "centres", "labels", "references", "margin", "scale", "keep")
OUTPUTS: Final = ("loss", "gradient", "embeddings")
# Crops that go through the graph together: each takes some 9 MiB, for everything on the way forward is kept for the way back.
_AT_ONCE: Final = 8


class TrainingSession(Protocol):
    """`train.onnx` in some runtime: the part of `facekeep.ports.Session` that training needs."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in the order `run` returns them."""
        ...

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """Return every output for these inputs."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class LocalResult:
    """What a training gave. Not fit to leave the device as it is.

    Attributes:
        update: (numbers of the level,) float32, read-only: what to add to the parameters the training began with.
        losses: of each step, before it.
        steps: how many were taken.
        stopped_early: whether the loss no longer fell.
    """

    update: NDArray[np.float32] = field(repr=False)
    losses: tuple[float, ...] = field(repr=False)
    steps: int
    stopped_early: bool


def train_locally(
    level: str,
    parameters: NDArray[np.float32],
    samples: TrainingSamples,
    centres: NDArray[np.float32],
    anchors: NDArray[np.float32],
    settings: TrainingSettings,
    *,
    table: ParameterTable,
    session: TrainingSession | None = None,
    seed: int = 0,
    length: int | None = None,
) -> LocalResult:
    """Return the update that training on `samples` gives: the same for the same arguments.

    Args:
        level: "channels", "head" or "deep".
        parameters: (P,) float32, the row of the model that the training begins with.
        samples: of the device's people.
        centres: (C, D) float32 unit vectors, one for each of these people; they never leave the device and are not trained.
        anchors: (A, D) float32 unit vectors of people who do not exist, of the training kit.
        settings: of the signed plan.
        table: layout of `parameters`.
        session: `train.onnx`; needed by every level but "head".
        seed: of the order of the samples.
        length: of the update: only the first so many numbers of the level are trained; all of them if left out.

    Raises:
        FederationError: "federation.invalid_update" where something is not finite or does not fit together;
            "federation.plan_refused" for a level or a length this model does not have; "federation.nothing_to_contribute" without
            what the level needs (crops, features).
        ModelError: "model.invalid_model" where the runtime refuses.
    """
    # 1 inputs
    part = table.range_of(level, length)
    # What the engine gives is of the head alone, or of the whole row.
    of_gradient = slice(0, part.stop - part.start) if level == "head" else part
    row = _finite(parameters, (table.length,), "parameters").astype(np.float64)
    require_units(centres, table.dimension, "centres")
    require_units(anchors, table.dimension, "anchors")
    if samples.labels.max() >= len(centres):
        raise FederationError("federation.invalid_update", "A sample is of nobody whose centre is given.")
    engine = _Engine(level, samples, table, session)
    # 2 what the old model says of every sample
    start = row.astype(np.float32)
    embeddings = engine.embeddings(start, settings)
    references = _references(samples, centres, embeddings, settings)
    require_units(references, table.dimension, "references")
    optimiser, batches = LocalOptimiser(settings, part.stop - part.start), _batches(len(samples), settings.batch, seed)
    losses: list[float] = []
    best, since_best = math.inf, 0
    chosen = hardest(anchors, embeddings, settings.negatives)
    for step in range(settings.steps):
        rows = next(batches)
        # 3 negatives: the anchors that the samples are nearest to now
        if settings.mine_every and step and step % settings.mine_every == 0:
            chosen = hardest(anchors, embeddings, settings.negatives)
        # 4 loss and gradient
        around = np.concatenate([centres, anchors[chosen]])
        seen = engine.look(row.astype(np.float32), rows, around, references, settings)
        embeddings[rows] = seen.embeddings
        if not math.isfinite(seen.loss):
            raise FederationError("federation.invalid_update", "The loss is not a number.")
        losses.append(seen.loss)
        # 5 early stop: nothing is gained by noise on top of noise
        improved = seen.loss < best - settings.least_improvement * abs(best) if math.isfinite(best) else True
        best, since_best = (seen.loss, 0) if improved else (best, since_best + 1)
        if settings.patience and since_best >= settings.patience:
            return LocalResult(_update(row, start, part), tuple(losses), step, stopped_early=True)
        # 6 step
        row[part] += optimiser.change(_finite(seen.gradient[of_gradient], None, "gradient"))
    return LocalResult(_update(row, start, part), tuple(losses), settings.steps, stopped_early=False)


class _Engine:
    """Loss and gradient of a batch, by NumPy for the head and by `train.onnx` for everything else."""

    def __init__(self, level: str, samples: TrainingSamples, table: ParameterTable, session: TrainingSession | None) -> None:
        self._samples, self._table, self._session, self._head = samples, table, session, level == "head"
        if self._head and samples.features is None:
            raise FederationError("federation.nothing_to_contribute", "The head is trained on features; the samples have none.")
        if not self._head and samples.crops is None:
            raise FederationError("federation.nothing_to_contribute", "This level is trained on crops; the samples have none.")
        if not self._head and (session is None or not set(OUTPUTS) <= set(session.outputs)):
            raise FederationError("federation.plan_refused", "This level is trained by the graph of a training kit; there is none.")
        if self._head and samples.features is not None:
            _finite(samples.features, (len(samples), table.features_dimension), "features")

    def embeddings(self, row: NDArray[np.float32], settings: TrainingSettings) -> NDArray[np.float32]:
        """Return the (N, D) float32 unit vectors of all samples."""
        if self._head and self._samples.features is not None:
            return embed_features(self._table.head_of(row), self._samples.features)
        vectors = np.zeros((len(self._samples), self._table.dimension), np.float32)
        vectors[:, 0] = 1
        # The labels and centres of this pass do not matter: only what it embeds is read.
        anyone = vectors[:1]
        for rows in _chunks(np.arange(len(vectors))):
            vectors[rows] = self._run(row, rows, anyone, np.zeros(len(rows), np.int64), vectors[rows], settings).embeddings
        return require_units(vectors, self._table.dimension, "embeddings")

    def look(
        self,
        row: NDArray[np.float32],
        rows: NDArray[np.int64],
        centres: NDArray[np.float32],
        references: NDArray[np.float32],
        settings: TrainingSettings,
    ) -> LossAndGradient:
        """Return loss, gradient and embeddings of the samples `rows`."""
        labels = self._samples.labels[rows]
        if self._head and self._samples.features is not None:
            head = self._table.head_of(row)
            return head_loss(head, self._samples.features[rows], centres, labels, references[rows], settings)
        # The loss is a mean over the samples, so a batch in parts gives the same gradient, in the memory of one part.
        loss, gradient, vectors = 0.0, np.zeros(self._table.length), []
        for part in _chunks(np.arange(len(rows))):
            seen = self._run(row, rows[part], centres, labels[part], references[rows[part]], settings)
            share = len(part) / len(rows)
            loss, gradient = loss + share * seen.loss, gradient + share * seen.gradient
            vectors.append(seen.embeddings)
        return LossAndGradient(loss, gradient.astype(np.float32), np.concatenate(vectors))

    def _run(
        self,
        row: NDArray[np.float32],
        rows: NDArray[np.int64],
        centres: NDArray[np.float32],
        labels: NDArray[np.int64],
        references: NDArray[np.float32],
        settings: TrainingSettings,
    ) -> LossAndGradient:
        assert self._session is not None and self._samples.crops is not None  # noqa: S101, PT018 checked above
        crops = np.ascontiguousarray(self._samples.crops[rows].transpose(0, 3, 1, 2), np.float32)
        numbers = [np.array(value, np.float32) for value in (settings.margin, settings.scale, settings.keep)]
        given: list[NDArray[Any]] = [row, crops, centres, labels, references, *numbers]
        feeds = dict(zip(INPUTS, given, strict=True))
        results = dict(zip(self._session.outputs, self._session.run(feeds), strict=True))
        embeddings = _finite(results["embeddings"], (len(rows), self._table.dimension), "embeddings")
        gradient = _finite(results["gradient"], (self._table.length,), "gradient")
        return LossAndGradient(float(results["loss"]), gradient, embeddings)


def _references(
    samples: TrainingSamples, centres: NDArray[np.float32], start: NDArray[np.float32], settings: TrainingSettings
) -> NDArray[np.float32]:
    if settings.keep_near == "centre":
        return centres[samples.labels]
    return start.copy() if samples.references is None else samples.references


def _chunks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[begin : begin + _AT_ONCE] for begin in range(0, len(rows), _AT_ONCE)]


def _batches(count: int, batch: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield rows without end: every sample once, then every sample again in another order."""
    random = np.random.default_rng(seed)
    if count <= batch:
        while True:
            yield np.arange(count)
    order = random.permutation(count)
    while True:
        while len(order) < batch:
            order = np.concatenate([order, random.permutation(count)])
        yield order[:batch]
        order = order[batch:]


def _finite(values: NDArray[Any], shape: tuple[int, ...] | None, what: str) -> NDArray[np.float32]:
    # NaN and infinity spread to everybody's model with the sum, and nobody could tell where they came from.
    if (shape is not None and values.shape != shape) or values.dtype != np.float32 or not np.isfinite(values).all():
        raise FederationError("federation.invalid_update", f"The {what} are not finite float32 numbers of the shape expected.")
    return values


def _update(row: NDArray[np.float64], start: NDArray[np.float32], part: slice) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        update = _finite((row - start)[part].astype(np.float32), None, "update")
    update.flags.writeable = False
    return update
