"""True accept rates on people who were never trained on, with intervals over people, and the share of a gain that is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facekeep_models.evaluation.comparisons import Comparisons, compare_all
from facekeep_models.evaluation.rates import Rates
from facekeep_models.training.federated.fleet import Scenes
from facekeep_models.training.federated.network import CROP, EMBEDDING, Network

# Template by one view, probe by another.
COMPARED: Final[Mapping[str, tuple[str, str]]] = {
    "day-night": ("day", "night"),
    "night-night": ("night", "night again"),
    "day-mask": ("day", "mask"),
    "day-day": ("day", "day"),
}
TARGETS: Final = (1e-2, 1e-3)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Measured:
    """What models do on people they do not know.

    Attributes:
        models: of each model its comparisons by the names of `COMPARED`. Most often one; devices that each trained by themselves
            are several, of which the mean is stated.
    """

    models: tuple[Mapping[str, Comparisons], ...]

    def tar(self, weights: NDArray[np.int64] | None = None) -> dict[str, float]:
        """Return the true accept rate of each comparison at each false match rate, of people counted as often as `weights` says."""
        return {
            f"{name} {target:.0e}": float(np.mean([Rates(each[name], weights).tar_at(target) for each in self.models]))
            for name in COMPARED
            for target in TARGETS
        }


@torch.no_grad()
def embed_all(network: Network, crops: NDArray[np.uint8], parameters: Tensor, *, batch: int = 256) -> Tensor:
    """Return (N, 256) unit vectors of (N, 112, 112, 3) uint8 RGB, on the device of the network."""
    if network.device == "cpu":
        session = network.session(parameters)
        raw = [
            session.run([EMBEDDING], {CROP: crops[start : start + 32].transpose(0, 3, 1, 2).astype(np.float32)})[0]
            for start in range(0, len(crops), 32)
        ]
        return functional.normalize(torch.from_numpy(np.concatenate(raw)), dim=1)
    parts = []
    for start in range(0, len(crops), batch):
        some = torch.from_numpy(crops[start : start + batch]).to(network.device).permute(0, 3, 1, 2).float()
        parts.append(network.embed(some, parameters))
    return torch.cat(parts)


def measure(network: Network, models: Sequence[Tensor], scenes: Scenes) -> Measured:
    """Return what models do on `scenes`."""
    found = []
    for parameters in models:
        views = {name: embed_all(network, crops, parameters).cpu().numpy() for name, crops in scenes.views.items()}
        found.append({name: compare_all(views[left], views[right], scenes.person) for name, (left, right) in COMPARED.items()})
    return Measured(tuple(found))


def quick(network: Network, parameters: Tensor, scenes: Scenes) -> dict[str, float]:
    """Return true accept rates without intervals: for curves."""
    views = {name: embed_all(network, crops, parameters) for name, crops in scenes.views.items()}
    person = torch.from_numpy(scenes.person).to(network.device)
    same = person[:, None] == person[None, :]
    itself = torch.eye(len(person), dtype=torch.bool, device=person.device)
    found = {}
    for name, (left, right) in COMPARED.items():
        scores = views[left] @ views[right].T
        other = torch.sort(scores[~same], descending=True).values
        for target in TARGETS:
            threshold = other[int(target * len(other))]
            found[f"{name} {target:.0e}"] = float((scores[same & ~itself] > threshold).float().mean())
    return found


def intervals(
    measured: Mapping[str, Measured],
    *,
    base: str,
    whole: Mapping[str, str],
    people: int,
    resamples: int,
    seed: int,
    workers: int = 1,
) -> tuple[dict[str, dict[str, tuple[float, float, float]]], dict[str, dict[str, tuple[float, float, float]]]]:
    """Return the figures of all rows, and the share that each reaches of the gain, each (value, low, high).

    A row whose gain cannot be told, since the row of the whole gain or the base was not measured, has figures and no share.

    The same people are drawn for all rows, so a share is as certain as the difference of two rows on the same people, not as each
    of them alone.

    Args:
        measured: by row.
        base: row of the model before training.
        whole: of each row, the row that counts as the whole gain.
        people: number of people measured on.
        resamples: draws of people with replacement; intervals are 95 %.
        seed: of the draws.
        workers: processes.
    """
    tables = partial(_drawn, people=people, resamples=resamples, seed=seed)
    if workers > 1:
        # A fresh process each: what a GPU is used by must not be copied.
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            values = dict(zip(measured, pool.map(tables, measured.values()), strict=True))
    else:
        values = {row: tables(each) for row, each in measured.items()}
    figures = {row: {name: _summary(found) for name, found in table.items()} for row, table in values.items()}
    shares = {}
    for row, table in values.items():
        if not {base, whole[row]} <= values.keys():
            continue
        full = values[whole[row]]
        with np.errstate(divide="ignore", invalid="ignore"):
            shares[row] = {
                name: _summary((found - values[base][name]) / (full[name] - values[base][name])) for name, found in table.items()
            }
    return figures, shares


def _drawn(measured: Measured, *, people: int, resamples: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return the figures of everyone, then of each draw: the same draws for every row."""
    random = np.random.default_rng(seed)
    rows = [measured.tar()]
    for _ in range(resamples):
        weights = np.bincount(random.integers(people, size=people), minlength=people).astype(np.int64)
        try:
            rows.append(measured.tar(weights))
        except ValueError:
            # Everyone drawn has one picture: the draw is left out, of all rows alike.
            rows.append(dict.fromkeys(rows[0], np.nan))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _summary(found: NDArray[np.float64]) -> tuple[float, float, float]:
    drawn = found[1:][np.isfinite(found[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (np.nan, np.nan)
    return float(found[0]), float(low), float(high)
