"""The command of the recipe."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from facekeep_models.training.embedder.crops import prepare_crops
from facekeep_models.training.embedder.invented import with_invented
from facekeep_models.training.embedder.loop import Schedule, train
from facekeep_models.training.embedder.validation import validate


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    usual = Schedule()
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.embedder", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with lfw-devtrain, more-faces, synthetic_sfhq")
    parser.add_argument("--work", type=Path, required=True, help="folder for crops and checkpoints, outside the repository")
    parser.add_argument("--packs", type=Path, required=True, help="pack store with yunet-s and reid-retail-0095")
    parser.add_argument("--epochs", type=int, default=usual.epochs)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--held-out", type=int, default=400, help="people kept for validation")
    parser.add_argument("--limit", type=int, default=0, help="pictures of each source at the most, for a smoke run")
    parser.add_argument("--invented", type=int, default=50_000, help="bent and blended faces of nobody beside the pictures")
    parser.add_argument("--drawn", type=int, default=2_080, help="pictures of drawn people beside them")
    parser.add_argument("--fused", action="store_true", help="torch.compile: faster by a third, needs a C++ compiler")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; its own choice if left out")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    crops = prepare_crops(
        options.data,
        options.work,
        options.packs,
        held_out_people=options.held_out,
        seed=options.seed,
        limit=options.limit,
        say=_say,
    )
    _say(f"{len(crops.pixels)} crops, {int(crops.held_out.sum())} of them of held-out people")
    crops = with_invented(
        crops, options.work, options.packs, count=options.invented, drawn=options.drawn, seed=options.seed, say=_say
    )
    schedule = Schedule(epochs=options.epochs, batch=options.batch, seed=options.seed)
    student = train(crops, schedule, options.work, say=_say, fused=options.fused)
    figures = validate(student, crops, next(student.parameters()).device)
    torch.save(student.state_dict(), options.work / "student.pt")
    (options.work / "figures.json").write_text(json.dumps(asdict(figures), indent=2))
    _say(json.dumps(asdict(figures)))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
