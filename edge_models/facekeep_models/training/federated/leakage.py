"""What leaks: a face out of what the server receives, and who took part out of what is released.

    python -m facekeep_models.training.federated.leakage --work DIR --into leakage.json

Reads the folder of the recipe. Half of the devices make a fleet, the other half never train: both are alike in everything else. The
attacker has the released parameters, the old ones, and the captures of the device it asks about.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facekeep_models.training.federated.attacks import area_under_curve, best_case_area, chance_cosine, recovered_cosines
from facekeep_models.training.federated.fleet import HELD_OUT, VALIDATION
from facekeep_models.training.federated.local import LocalPlan, device_changes
from facekeep_models.training.federated.mechanism import Mechanism
from facekeep_models.training.federated.network import Network
from facekeep_models.training.federated.objective import Lesson, losses
from facekeep_models.training.federated.pictures import prepare_albums
from facekeep_models.training.federated.recommended import WITH_NOISE, WITHOUT_NOISE, Plan
from facekeep_models.training.federated.rows import Bench
from facekeep_models.training.federated.server import train_fleet

_STREAM: Final = 0x1EAC
_RIDGES: Final = (1e-3, 1e-2, 1e-1)


def changes_of(network: Network, lesson: Lesson, parameters: Tensor, plan: Plan) -> NDArray[np.float32]:
    """Return (D, P) what every device would send of a round that begins with `parameters`, without noise."""
    devices, size = int(lesson.device.max()) + 1, 192 if network.device == "cuda" else 12
    local = LocalPlan(plan.local_steps, plan.local_rate, plan.clip)
    parts = [
        device_changes(network, parameters, lesson, low, min(devices, low + size), plan.objective, local).cpu().numpy()
        for low in range(0, devices, size)
    ]
    return np.concatenate(parts)


@torch.no_grad()
def device_losses(network: Network, lesson: Lesson, parameters: Tensor, plan: Plan) -> NDArray[np.float64]:
    """Return (D,) the mean loss of each device's captures."""
    total = np.zeros(int(lesson.device.max()) + 1)
    for places in torch.arange(len(lesson), device=lesson.device.device).split(256):
        found = losses(network.embed(lesson.crops[places].float(), parameters), lesson, places, plan.objective)
        np.add.at(total, lesson.device[places].cpu().numpy(), (found * lesson.share[places]).double().cpu().numpy())
    return total


def membership(network: Network, lesson: Lesson, plan: Plan, *, trials: int, work: Path) -> dict[str, list[float]]:
    """Return the areas under the curve of each attack in each trial."""
    devices = int(lesson.device.max()) + 1
    before = device_losses(network, lesson, network.start, plan)
    found: dict[str, list[float]] = {"loss": [], "fall of the loss": [], "gradient": []}
    for trial in range(trials):
        members = np.zeros(devices, np.bool_)
        members[np.random.default_rng([_STREAM, trial]).permutation(devices)[: devices // 2]] = True
        name = f"members-{trial}-{plan.epsilon}"
        released, _ = train_fleet(network, lesson, plan, seed=trial, work=work, name=name, members=members, exact=False)
        after = device_losses(network, lesson, released, plan)
        # A member's own direction should point along what was learnt more than that of a stranger.
        along = changes_of(network, lesson, network.start, plan) @ (released - network.start).cpu().numpy()
        for attack, scores in (("loss", -after), ("fall of the loss", before - after), ("gradient", along)):
            found[attack].append(area_under_curve(scores[members], scores[~members]))
    return found


def recovery(network: Network, lesson: Lesson, plan: Plan, *, seed: int) -> dict[str, float]:
    """Return the mean cosine between a device's template and the guess at it, by what the attacker sees."""
    random = np.random.default_rng([_STREAM, seed])
    changes = changes_of(network, lesson, network.start, plan)
    devices, length = changes.shape
    mechanism = Mechanism.of(plan, devices=devices, length=length)
    first = np.unique(lesson.owner.cpu().numpy(), return_index=True)[1]
    secrets = lesson.templates[torch.from_numpy(first)].double().cpu().numpy()
    noise = np.sqrt(mechanism.contributors * mechanism.variance) * mechanism.scale.step
    views = {
        # What secure aggregation shows of one device: numbers that are uniform modulo 2**32.
        "masked change": random.integers(-(2**31), 2**31, size=changes.shape).astype(np.float32) * mechanism.scale.step,
        # The sum, by an attacker who knows the change of every other device and takes it away.
        "noised sum, all others known": changes + random.normal(0, noise, changes.shape).astype(np.float32),
        "all rounds, all others known": changes + random.normal(0, noise / np.sqrt(plan.rounds), changes.shape).astype(np.float32),
        "noised sum": changes.sum(axis=0) + random.normal(0, noise, changes.shape).astype(np.float32),
        "without masks and noise": changes,
    }
    known = devices * 3 // 4
    found = {}
    for name, seen in views.items():
        tried = [float(recovered_cosines(changes, seen, secrets, known=known, ridge=ridge).mean()) for ridge in _RIDGES]
        found[name] = max(tried)
    return found | {"chance, mean absolute": chance_cosine(secrets.shape[1])}


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.federated.leakage", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder of the recipe")
    parser.add_argument("--into", type=Path, help="file for the figures; leakage.json in the folder unless told")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--people", type=int, default=0)
    parser.add_argument("--drawn", type=int, default=520)
    parser.add_argument("--held-out", type=int, default=HELD_OUT)
    parser.add_argument("--validation", type=int, default=VALIDATION)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    albums = prepare_albums(options.work, options.work, _nobody, people=options.people, drawn=options.drawn, say=_say)
    bench = Bench(
        *albums, options.work, device=options.device, seed=options.seed, held_out=options.held_out, validation=options.validation
    )
    network, lesson = bench.network(WITH_NOISE.level), bench.lesson("whole")
    result: dict[str, object] = {"recovery": recovery(network, lesson, WITH_NOISE, seed=options.seed)}
    _say(json.dumps(result))
    for name, plan, trials in (
        ("epsilon 8", WITH_NOISE, options.trials),
        ("without noise", WITHOUT_NOISE, max(1, options.trials // 4)),
    ):
        shortened = replace(plan, rounds=options.rounds or plan.rounds)
        found = membership(network, lesson, shortened, trials=trials, work=options.work / "members")
        result[f"membership, {name}"] = {key: [float(np.mean(each)), min(each), max(each)] for key, each in found.items()}
        if plan.epsilon:
            devices = (int(lesson.device.max()) + 1) // 2
            mechanism = Mechanism.of(shortened, devices=devices, length=len(network.start))
            result["membership, all others known"] = best_case_area(mechanism.charge.noise_multiplier, shortened.rounds)
        _say(json.dumps(result))
    (options.into or options.work / "leakage.json").write_text(json.dumps(result, indent=1))


def _nobody() -> NoReturn:
    raise SystemExit("run the recipe first: it makes the folder")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
