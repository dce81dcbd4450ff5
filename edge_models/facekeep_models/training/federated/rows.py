"""The rows of the table: what is compared, and how each is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from facekeep_models.training.federated.alone import train_alone, train_centrally
from facekeep_models.training.federated.figures import embed_all, quick
from facekeep_models.training.federated.fleet import Scenes, Split, build_fleet, build_scenes, split_people
from facekeep_models.training.federated.network import Level, Network
from facekeep_models.training.federated.objective import Lesson, lesson_of
from facekeep_models.training.federated.pictures import Album
from facekeep_models.training.federated.recommended import WITH_NOISE, WITHOUT_NOISE, Plan
from facekeep_models.training.federated.server import train_fleet

Fleet = Literal["whole", "two pictures", "synthetic"]
BASE: Final = "base"
# What the layers from the second stage on learnt is thrown away: on people the embedder does not know it does harm.
EARLY: Final = ", early layers"
WHOLE_GAIN: Final = "centralised"
_TWO_PICTURES: Final = "two pictures: centralised"
_EARLY_NOISE: Final = replace(WITH_NOISE, level="early")


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    Attributes:
        name: of the row.
        how: base, central, alone or fleet.
        fleet: whose captures are trained on: everybody's, only of people of two pictures and more, or of people who do not exist.
        plan: of a fleet.
        seed: of noise and drop-outs.
        whole: the row that counts as the whole gain; of early layers, the early layers of that row.
    """

    name: str
    how: Literal["base", "central", "alone", "fleet"]
    fleet: Fleet = "whole"
    plan: Plan = WITHOUT_NOISE
    seed: int = 1
    whole: str = WHOLE_GAIN


ROWS: Final = (
    Row(BASE, "base"),
    Row("public only", "central", "synthetic"),
    Row("local only", "alone", whole=WHOLE_GAIN + EARLY),
    Row(WHOLE_GAIN, "central"),
    Row("federated", "fleet"),
    Row("federated, epsilon 8", "fleet", plan=WITH_NOISE),
    Row("federated, epsilon 8, other noise", "fleet", plan=WITH_NOISE, seed=2),
    Row("federated, epsilon 2", "fleet", plan=replace(WITH_NOISE, epsilon=2.0)),
    Row("federated, head", "fleet", plan=replace(WITHOUT_NOISE, level="head")),
    Row(_TWO_PICTURES, "central", "two pictures", whole=_TWO_PICTURES),
    Row("two pictures: federated", "fleet", "two pictures", whole=_TWO_PICTURES),
    Row("two pictures: federated, epsilon 8", "fleet", "two pictures", plan=WITH_NOISE, whole=_TWO_PICTURES),
    # Only what is used afterwards is trained, sent and noised: it gains less.
    Row("two pictures: level early, epsilon 8", "fleet", "two pictures", plan=_EARLY_NOISE, whole=_TWO_PICTURES + EARLY),
)


class Bench:
    """Everything that rows are trained and measured on.

    Args:
        real: people of the data set.
        drawn: people who do not exist.
        folders: names of all people of the data set.
        work: folder for models and checkpoints.
        device: where it computes.
        seed: of fleet, cameras and captures.
        held_out: people kept back from the training of the embedder.
        validation: people for choosing settings.
    """

    def __init__(
        self,
        real: Album,
        drawn: Album,
        folders: Sequence[str],
        work: Path,
        *,
        device: str,
        seed: int,
        held_out: int,
        validation: int,
    ) -> None:
        self._real, self._drawn, self._device, self._seed, self.work = real, drawn, device, seed, work
        self.split: Split = split_people(real, folders, held_out=held_out, validation=validation, seed=seed)
        self.validation: Scenes = build_scenes(real, self.split.validation, seed=seed)
        self._networks: dict[Level, Network] = {}
        self._lessons: dict[tuple[Fleet, float], Lesson] = {}
        self._anchors: Tensor | None = None

    def network(self, level: Level) -> Network:
        """Return the embedder with this level to train."""
        if level not in self._networks:
            self._networks[level] = Network(level, self._device)
        return self._networks[level]

    def lesson(self, fleet: Fleet, day_weight: float = 1.0) -> Lesson:
        """Return the captures of a fleet as the model that ships sees them."""
        if (fleet, day_weight) not in self._lessons:
            network = self.network("channels")
            if self._anchors is None:
                everybody = self._drawn.crops(np.arange(len(self._drawn.ends)))
                self._anchors = embed_all(network, everybody, network.start)
            counts = np.bincount(self._real.person, minlength=len(self._real.names))
            if fleet == "synthetic":
                samples = build_fleet(self._drawn, range(len(self._drawn.names)), seed=self._seed + 1, single=True)
            else:
                least = 2 if fleet == "two pictures" else 1
                samples = build_fleet(self._real, [one for one in self.split.fleet if counts[one] >= least], seed=self._seed)
            self._lessons[fleet, day_weight] = lesson_of(network, samples, self._anchors, day_weight=day_weight)
        return self._lessons[fleet, day_weight]

    def train(self, row: Row, *, watch_every: int, say: Callable[[str], None]) -> tuple[list[Tensor], list[dict[str, float]]]:
        """Return the models of a row and what was watched: from `work` where they were made before."""
        network, home = self.network(row.plan.level), self.work / "rows"
        file, told, plan = home / f"{_slug(row.name)}.npy", home / f"{_slug(row.name)}.json", row.plan
        history: list[dict[str, float]] = []

        def watch(number: int, parameters: Tensor) -> dict[str, float]:
            if not watch_every or number % watch_every:
                return {}
            found = quick(network, parameters, self.validation)
            say(f"{row.name}, round {number}: " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
            return found

        if file.exists() and told.exists():
            models = [torch.from_numpy(each).to(self._device) for each in np.load(file)]
            return models, json.loads(told.read_text())
        if row.how == "fleet":
            lesson = self.lesson(row.fleet, plan.day_weight)
            at, history = train_fleet(
                network, lesson, plan, seed=row.seed, work=self.work / "rounds", name=_slug(row.name), watch=watch
            )
            models = [at]
        elif row.how == "base":
            models = [network.start]
        elif row.how == "central":
            lesson = self.lesson(row.fleet, plan.day_weight)
            models = [train_centrally(network, lesson, plan.objective, seed=self._seed)]
        else:
            models = train_alone(network, self.lesson(row.fleet), plan.objective, self.validation, devices=8, seed=self._seed)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        np.save(file, np.stack([each.cpu().numpy() for each in models]))
        told.write_text(json.dumps(history))
        return models, history

    def scenes(self) -> Scenes:
        """Return the views of the people that figures are of."""
        return build_scenes(self._real, self.split.evaluation, seed=self._seed)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
