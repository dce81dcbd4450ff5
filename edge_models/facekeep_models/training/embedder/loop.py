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
from numpy.typing import NDArray

from facekeep_models.training.curves import draw_curves
from facekeep_models.training.embedder.augmentation import augment
from facekeep_models.training.embedder.crops import Crops
from facekeep_models.training.embedder.loss import distillation_loss
from facekeep_models.training.embedder.network import Student
from facekeep_models.training.embedder.validation import Figures, validate
from facekeep_models.training.resuming import Checkpoint, move_average


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: passes over the real crops; each step takes as many invented ones, of which each epoch sees others.
        batch: crops a step.
        rate: highest learning rate of AdamW; a warm-up, then a cosine down to a hundredth.
        decay: weight decay.
        relation: weight of the relational part of the loss.
        averaging: decay of the moving average of weights a step; the average is what is kept.
        seed: of weights, order and augmentation.
        save_seconds: a checkpoint at least this often.
    """

    epochs: int = 40
    batch: int = 128
    rate: float = 2e-3
    decay: float = 0.02
    relation: float = 4.0
    averaging: float = 0.998
    seed: int = 1
    save_seconds: float = 300.0


def train(crops: Crops, schedule: Schedule, work: Path, *, say: Callable[[str], None], fused: bool = False) -> Student:
    """Return the averaged student after the whole schedule, going on from `work`/checkpoint.pt where there is one.

    Args:
        crops: what to learn from; held-out people only measure.
        schedule: how long and how fast.
        work: folder for the checkpoint.
        say: progress, one line at a time.
        fused: let torch.compile join the small operations; needs a C++ compiler, takes a minute at first and then saves a third
            of the time. The last bits differ.

    Raises:
        ValueError: if the checkpoint belongs to another schedule.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(schedule.seed)
    student = Student().to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(student).requires_grad_(requires_grad=False)
    optimiser = torch.optim.AdamW(student.parameters(), lr=schedule.rate, weight_decay=schedule.decay)
    network = torch.compile(student) if fused else student
    order = Order(crops, schedule.batch, schedule.seed)
    steps = order.steps
    checkpoint = Checkpoint(work / "checkpoint.pt", asdict(schedule), student=student, average=average, optimiser=optimiser)
    step, history = checkpoint.resume(device)
    if step:
        say(f"going on at step {step} of {steps * schedule.epochs}")
    saved_at, begun = time.monotonic(), time.monotonic()
    total = steps * schedule.epochs
    first = step
    student.train()
    while step < total:
        epoch, place = divmod(step, steps)
        # Order and augmentation come from the step, not from what ran before: a resumed run is the run that was not stopped.
        chosen = order.of(epoch, place)
        generator = torch.Generator(device=device).manual_seed(schedule.seed * 1_000_003 + step)
        pixels = augment(torch.from_numpy(np.ascontiguousarray(crops.pixels[chosen])).to(device), generator)
        teacher = torch.from_numpy(crops.teacher[chosen]).to(device)
        for group in optimiser.param_groups:
            group["lr"] = _rate(step, total, steps, schedule.rate)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            output = network(pixels.contiguous(memory_format=torch.channels_last))
        loss = distillation_loss(output, teacher, relation=schedule.relation)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 5.0)
        optimiser.step()
        move_average(average, student, min(schedule.averaging, (1 + step) / (10 + step)))
        step += 1
        if step % 50 == 0:
            pace = (time.monotonic() - begun) / (step - first)
            left = pace * (total - step) / 60
            say(f"epoch {epoch + 1} step {step}/{total} loss {loss.item():.4f} {pace:.2f} s a step, {left:.0f} min left")
        if place + 1 == steps:
            figures = validate(average, crops, device)
            history.append({"epoch": epoch + 1, "loss": float(loss.item())} | asdict(figures))
            say(_line(epoch + 1, figures))
        if place + 1 == steps or time.monotonic() - saved_at > schedule.save_seconds:
            checkpoint.save(step, history)
            saved_at = time.monotonic()
    if history and draw_curves(history, work / "curves.png", title=f"facekeep-embedder, {schedule.epochs} epochs"):
        say(f"curves: {work / 'curves.png'}")
    return average


class Order:
    """Which crops a step takes: real and invented ones half and half, real ones alone where nothing was invented."""

    def __init__(self, crops: Crops, batch: int, seed: int) -> None:
        self._seed = seed
        usable = ~crops.held_out
        self._real, self._invented = np.flatnonzero(usable & ~crops.invented), np.flatnonzero(usable & crops.invented)
        self._of_real = batch - batch // 2 if len(self._invented) else batch
        self._of_invented = batch - self._of_real
        self.steps = max(len(self._real) // self._of_real, 1)
        self._shuffled: tuple[int, NDArray[np.intp]] = (-1, self._real)

    def of(self, epoch: int, place: int) -> NDArray[np.intp]:
        """Return the places of the crops of a step of an epoch."""
        if self._shuffled[0] != epoch:
            self._shuffled = (epoch, np.random.default_rng([self._seed, epoch]).permutation(self._real))
        chosen = self._shuffled[1][place * self._of_real : (place + 1) * self._of_real]
        random = np.random.default_rng([self._seed, epoch, place])
        return np.concatenate([chosen, random.choice(self._invented, self._of_invented)]) if self._of_invented else chosen


def _rate(step: int, total: int, warm_up: int, highest: float) -> float:
    if step < warm_up:
        return highest * (step + 1) / warm_up
    done = (step - warm_up) / max(total - warm_up, 1)
    return highest * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _line(epoch: int, figures: Figures) -> str:
    return (
        f"epoch {epoch}: held-out accuracy {100 * figures.accuracy:.2f} %, TAR {figures.tar_at_1e_2:.3f} at FMR 1e-2, "
        f"across models {100 * figures.cross_accuracy:.2f} %, cosine to the teacher {figures.cosine:.3f}"
    )
