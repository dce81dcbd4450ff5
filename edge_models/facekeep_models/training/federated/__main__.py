"""The command of the recipe: a table of figures, curves, and the models behind them.

    python -m facekeep_models.training.federated --data DIR --work DIR

Stopped, it goes on where it was. A round of the whole fleet takes ten minutes on one core, half a second on a GPU
(`--device cuda`).
`--people 60 --drawn 8 --rounds 2 --resamples 20` runs in a minute and says nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from facekeep.assembly import ModelChoice, load_models
from facekeep.packs import LoadPolicy, PackStore
from facekeep.ports import Detector
from facekeep_models.training.federated.figures import Measured, intervals, measure
from facekeep_models.training.federated.fleet import HELD_OUT, VALIDATION
from facekeep_models.training.federated.mechanism import Mechanism
from facekeep_models.training.federated.pictures import prepare_albums
from facekeep_models.training.federated.report import draw_rounds, write_table
from facekeep_models.training.federated.rows import BASE, EARLY, ROWS, Bench


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := set(options.rows or ()) - {row.name for row in ROWS}:
        parser.error(f"no such rows: {', '.join(sorted(unknown))}")
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    albums = prepare_albums(options.data, options.work, _detector, people=options.people, drawn=options.drawn, say=_say)
    bench = Bench(
        *albums,
        options.work,
        device=options.device,
        seed=options.seed,
        held_out=options.held_out,
        validation=options.validation,
    )
    split = bench.split
    _say(f"{len(split.fleet)} people of the fleet, {len(split.validation)} of validation, {len(split.evaluation)} of evaluation")
    scenes, curves = bench.scenes(), {}
    measured: dict[str, Measured] = {}
    costs: dict[str, dict[str, float]] = {}
    rows = [replace(row, plan=replace(row.plan, rounds=options.rounds or row.plan.rounds)) for row in ROWS]
    for row in [row for row in rows if not options.rows or row.name in options.rows]:
        begun = time.monotonic()
        models, history = bench.train(row, watch_every=options.watch, say=_say)
        network = bench.network(row.plan.level)
        measured[row.name] = measure(network, models, scenes)
        if row.how in {"central", "fleet"} and 0 < network.early < len(network.start):
            measured[row.name + EARLY] = measure(network, [network.without_late(each) for each in models], scenes)
        if history:
            curves[row.name] = history
        if row.how == "fleet":
            devices = int(bench.lesson(row.fleet, row.plan.day_weight).device.max()) + 1
            costs[row.name] = {"devices": devices, "rounds": row.plan.rounds}
            if row.plan.epsilon:
                mechanism = Mechanism.of(row.plan, devices=devices, length=len(models[0]))
                costs[row.name] |= {
                    "epsilon": mechanism.epsilon,
                    "delta": mechanism.delta,
                    "counted": mechanism.contributors,
                    "noise multiplier": mechanism.charge.noise_multiplier,
                    "variance of a device": mechanism.variance,
                }
        for name in (row.name, row.name + EARLY):
            if name in measured:
                found = {key: round(value, 4) for key, value in measured[name].tar().items()}
                _say(f"{name}: {time.monotonic() - begun:.0f} s, {json.dumps(found)}")
    people = int(scenes.person.max()) + 1
    figures, shares = intervals(
        measured,
        base=BASE,
        whole={row.name + suffix: row.whole + suffix for row in rows for suffix in ("", EARLY)},
        people=people,
        resamples=options.resamples,
        seed=options.seed,
        workers=options.workers,
    )
    if unknown_gain := [row for row in figures if row not in shares]:
        _say(f"no share of the gain, for want of the rows it is measured by: {'; '.join(unknown_gain)}")
    result = {"people": people, "pictures": len(scenes.person), "figures": figures, "shares": shares}
    (options.work / "figures.json").write_text(json.dumps(result | {"costs": costs, "curves": curves}, indent=1))
    write_table(result, options.work / "figures.md")
    draw_rounds(curves, options.work / "curves.png")
    _say(f"written: {options.work / 'figures.md'}")


def _detector() -> Detector:
    nowhere = PackStore("/nonexistent/facekeep")
    choice = ModelChoice("facekeep-detector", "facekeep-embedder/onnx-fp32")
    return load_models(nowhere, choice, policy=LoadPolicy()).detector


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.federated", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with lfw-devtrain")
    parser.add_argument("--work", type=Path, required=True, help="folder for crops, checkpoints and figures")
    parser.add_argument("--device", default="cpu", help="where it computes: cpu or cuda")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--people", type=int, default=0, help="people of the data set at the most, for a smoke run")
    parser.add_argument("--drawn", type=int, default=520, help="synthetic people: anchors, and the row `public only`")
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="people kept back from the training of the embedder")
    parser.add_argument("--validation", type=int, default=VALIDATION, help="people that settings are watched on")
    parser.add_argument("--rounds", type=int, default=0, help="of every fleet; those of the plans if left out")
    parser.add_argument("--watch", type=int, default=3, help="rounds between two looks at the validation people, 0 for none")
    parser.add_argument("--resamples", type=int, default=1000, help="draws of people for intervals")
    parser.add_argument("--rows", nargs="*", help="names of rows; all if left out")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw people")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; its own choice if left out")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
