"""Training that can be stopped at any moment and goes on where it was."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from facekeep_models.training.detector.optimiser import Muon
from facekeep_models.training.detector.pictures import SOURCES, Pictures
from facekeep_models.training.landmarks.crops import Faces, draw_crops, faces_of, seen
from facekeep_models.training.landmarks.network import EYES_PX, TEMPLATE, LandmarkNetwork, in_crop
from facekeep_models.training.resuming import Checkpoint, move_average

Point = dict[str, float]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: batches in all.
        batch: crops in each.
        matrix_rate: highest rate of Muon; a warm-up, then a cosine down to a hundredth.
        other_rate: the same of Adam, for what is no matrix.
        warm_up: steps of it.
        decay: weight decay.
        bend: distance, in units of the eyes', from which on errors count less and less: labels are off by about as much.
        averaging: decay of the moving average of weights a step; the average is what is kept.
        seed: of weights and crops.
        check_steps: figures on held-out faces, and a point of the curves, every so many steps.
        check_faces: at most so many of each kind of picture.
        save_seconds: a checkpoint at least this often.
    """

    steps: int = 24_000
    batch: int = 64
    matrix_rate: float = 0.03
    other_rate: float = 3e-3
    warm_up: int = 200
    decay: float = 0.01
    bend: float = 0.05
    averaging: float = 0.998
    seed: int = 1
    check_steps: int = 1000
    check_faces: int = 500
    save_seconds: float = 120.0

    def share_at(self, step: int) -> float:
        """Return the share of the highest rates at a step."""
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return min(1.0, (step + 1) / self.warm_up) * cosine


def train(pictures: Pictures, schedule: Schedule, work: Path, *, say: Callable[[str], None]) -> tuple[LandmarkNetwork, list[Point]]:
    """Return the averaged network and the points of its curves, going on from `work`/checkpoint.pt where there is one.

    Args:
        pictures: of the detector's recipe; some are held out.
        schedule: how long and how fast.
        work: folder for the checkpoint.
        say: progress, one line at a time.

    Raises:
        ValueError: if the checkpoint belongs to another schedule, or no picture to be trained on has a face.
    """
    torch.manual_seed(schedule.seed)
    network = LandmarkNetwork().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(requires_grad=False).eval()
    optimiser = Muon(network.parameters(), matrix_rate=schedule.matrix_rate, other_rate=schedule.other_rate, decay=schedule.decay)
    faces, others = (faces_of(pictures, held_out=each) for each in (False, True))
    if not any(faces.by_source):
        raise ValueError("no picture that is trained on has a face")
    checkpoint = Checkpoint(work / "checkpoint.pt", asdict(schedule), network=network, average=average, optimiser=optimiser)
    step, history = checkpoint.resume()
    if step:
        say(f"going on at step {step} of {schedule.steps}")
    first, begun = step, time.monotonic()
    saved_at = begun
    network.train()
    while step < schedule.steps:
        # From the step alone, not from what ran before: a resumed run is the run that was not stopped.
        crops, wanted = draw_crops(faces, schedule.batch, np.random.default_rng([schedule.seed, step]))
        optimiser.set_rate(schedule.share_at(step))
        loss = bent(network(torch.from_numpy(crops).permute(0, 3, 1, 2).float()) - torch.from_numpy(wanted), schedule.bend)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        move_average(average, network, min(schedule.averaging, (1 + step) / (10 + step)))
        step += 1
        if step % schedule.check_steps == 0 or step == schedule.steps:
            history.append({"step": float(step), "loss": float(loss.item())} | errors_on(average, others, schedule.check_faces))
            left = (time.monotonic() - begun) / (step - first) * (schedule.steps - step) / 60
            say(f"step {step}/{schedule.steps} {_line(history[-1])}; {left:.0f} min left")
        if step == schedule.steps or time.monotonic() - saved_at > schedule.save_seconds:
            checkpoint.save(step, history)
            saved_at = time.monotonic()
    return average, history


def bent(arrows: Tensor, bend: float) -> Tensor:
    """Return the mean over (N, 5, 2) errors of bend * log(1 + length / bend).

    Z. Feng et al., "Wing Loss for Robust Facial Landmark Localisation", CVPR 2018, without its straight part.
    """
    lengths = (arrows.square().sum(dim=2) + 1e-8).sqrt()
    return (bend * torch.log1p(lengths / bend)).mean()


@torch.no_grad()
def errors_on(network: LandmarkNetwork, faces: Faces, limit: int) -> Point:
    """Return the median error before and after the second look, in units of the eyes' distance, for each source that has faces.

    Args:
        network: in eval mode.
        faces: seen by landmarks that are off, the same each time.
        limit: at most so many of each source.
    """
    found: Point = {}
    for name, among in zip(SOURCES, faces.by_source, strict=True):
        if not among:
            continue
        random = np.random.default_rng(0)
        pairs = [seen(faces.pictures, each, random) for each in among[:limit]]
        pixels = torch.from_numpy(np.stack([crop for crop, _ in pairs])).permute(0, 3, 1, 2).float()
        truth = np.stack([points for _, points in pairs])
        for when, answer in (("before", TEMPLATE), ("after", in_crop(network(pixels)).numpy())):
            found[f"{name}_{when}"] = float(np.median(np.linalg.norm(answer - truth, axis=2).mean(axis=1)) / EYES_PX)
    return found


def _line(point: Point) -> str:
    return ", ".join(f"{name} {100 * value:.2f} %" for name, value in point.items() if name not in ("step", "loss"))
