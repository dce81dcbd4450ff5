"""Training that can be stopped at any moment and goes on where it was."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from facekeep_models.training.detector.appearance import disturb
from facekeep_models.training.detector.loss import detection_loss, strayed
from facekeep_models.training.detector.mosaic import Pool, draw_mosaic, pool_of
from facekeep_models.training.detector.network import Detector
from facekeep_models.training.detector.optimiser import Muon
from facekeep_models.training.detector.pictures import Pictures
from facekeep_models.training.detector.schedule import Schedule
from facekeep_models.training.detector.targets import Targets, targets_of
from facekeep_models.training.detector.validation import compare, held_out_cases, open_network
from facekeep_models.training.resuming import Checkpoint, move_average

Point = dict[str, float]


def train(
    pictures: Pictures,
    schedule: Schedule,
    work: Path,
    *,
    say: Callable[[str], None],
    start: Mapping[str, Tensor] | None = None,
    keep: Detector | None = None,
) -> tuple[Detector, list[Point]]:
    """Return the averaged network and the points of its curves, going on from `work`/checkpoint.pt where there is one.

    Args:
        pictures: what mosaics are made of.
        schedule: how long and how fast.
        work: folder for the checkpoint.
        say: progress, one line at a time.
        start: weights to begin with, those of an earlier stage; random ones unless told.
        keep: a network whose finds are to stay while landmarks change.

    Raises:
        ValueError: if the checkpoint belongs to another schedule.
    """
    torch.manual_seed(schedule.seed)
    network = Detector().to(memory_format=torch.channels_last)
    if start is not None:
        network.load_state_dict(start)
    average = copy.deepcopy(network).requires_grad_(requires_grad=False)
    optimiser = Muon(network.parameters(), matrix_rate=schedule.matrix_rate, other_rate=schedule.other_rate, decay=schedule.decay)
    pool, cases = pool_of(pictures, held_out=False), held_out_cases(pictures, schedule.check_pictures)
    checkpoint = Checkpoint(work / "checkpoint.pt", schedule.plain(), network=network, average=average, optimiser=optimiser)
    step, history = checkpoint.resume()
    if step:
        say(f"going on at step {step} of {schedule.steps}")
    first, begun = step, time.monotonic()
    saved_at, recent = begun, np.zeros(5)
    network.train()
    if schedule.frozen_norms:
        _freeze_norms(network)
    while step < schedule.steps:
        pixels, targets = draw_batch(pool, schedule, step)
        optimiser.set_rate(schedule.share_at(step))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=schedule.half):
            features = network.features(pixels)
        # Places in full precision: eight bits of a landmark would be felt.
        answers = network.answers([each.float() for each in features])
        loss, parts = detection_loss(answers, targets, landmark_weight=schedule.landmark_weight, together=schedule.together)
        if keep is not None:
            with torch.no_grad():
                kept = keep.answers(keep.features(pixels))
            loss = loss + schedule.keep_weight * strayed(answers, kept, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        move_average(average, network, min(schedule.averaging, (1 + step) / (10 + step)))
        step += 1
        recent = 0.98 * recent + 0.02 * np.array([loss.item(), *parts.values()])
        if step % 100 == 0:
            pace = (time.monotonic() - begun) / (step - first)
            left = pace * (schedule.steps - step) / 60
            values = ", ".join(f"{name} {value:.3f}" for name, value in zip(("loss", *parts), recent, strict=True))
            say(f"step {step}/{schedule.steps} {values}; {pace:.2f} s a step, {left:.0f} min left")
        if step % schedule.check_steps == 0 or step == schedule.steps:
            figures = compare(cases, open_network(average, confidence=0.5).detect, least_px=16)
            point = {"step": float(step), "loss": float(loss.item())} | parts
            history.append(point | {name: float(value) for name, value in asdict(figures).items()})
            say(
                f"check at {step}: recall {100 * figures.recall:.2f} % of {figures.faces} held-out faces, {figures.extra} extra on "
                f"{figures.pictures} pictures, landmarks {100 * figures.landmark_error:.2f} % of the eyes' distance"
            )
        if step == schedule.steps or time.monotonic() - saved_at > schedule.save_seconds:
            checkpoint.save(step, history)
            saved_at = time.monotonic()
    return average.eval(), history


def draw_batch(pool: Pool, schedule: Schedule, step: int) -> tuple[Tensor, Targets]:
    """Return (N, 3, S, S) float RGB, 0 to 255, channels last, and its targets: the same for the same step."""
    # From the step alone, not from what ran before: a resumed run is the run that was not stopped.
    random = np.random.default_rng([schedule.seed, step])
    side, count = schedule.sizes[int(random.integers(len(schedule.sizes)))]
    pixels, faces = [], []
    for _ in range(count):
        picture, found = draw_mosaic(pool, side, random, drawn_share=schedule.drawn_share, least_rectangle=schedule.least_rectangle)
        pixels.append(disturb(picture, found, random))
        faces.append(found)
    # Rows of pixels as they are: channels last without a copy.
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float(), targets_of(faces, side)


def _freeze_norms(network: Detector) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
