"""The command of the recipe."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from facekeep_models.training.curves import draw_curves
from facekeep_models.training.detector.export import write_onnx
from facekeep_models.training.detector.loop import Schedule, train
from facekeep_models.training.detector.pictures import prepare_pictures
from facekeep_models.training.detector.publish import FILE


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    usual = Schedule()
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.detector", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with lfw-devtrain, scenes, synthetic_sfhq")
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and checkpoints, outside the repository")
    parser.add_argument("--packs", type=Path, required=True, help="pack store with yunet-s")
    parser.add_argument("--into", default=".", help="folder in that of --work for checkpoint and results, for a further stage")
    parser.add_argument("--start", type=Path, help="student.pt of an earlier stage to begin with")
    parser.add_argument("--share", type=float, default=usual.share, help="of the usual learning rates")
    parser.add_argument("--landmarks", type=float, default=usual.landmark_weight, help="weight of the landmarks in the loss")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--limit", type=int, default=0, help="pictures of each source at the most, for a smoke run")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; its own choice if left out")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    pictures = prepare_pictures(options.data, options.work, options.packs, limit=options.limit, say=_say)
    _say(f"{len(pictures.place)} pictures, {len(pictures.faces)} faces, {int(pictures.held_out.sum())} pictures held out")
    schedule = replace(usual, steps=options.steps, seed=options.seed, share=options.share, landmark_weight=options.landmarks)
    start = torch.load(options.start, weights_only=True) if options.start else None
    into = options.work / options.into
    into.mkdir(mode=0o700, exist_ok=True)
    network, history = train(pictures, schedule, into, say=_say, start=start)
    torch.save(network.state_dict(), into / "student.pt")
    write_onnx(network, into / FILE)
    draw_curves(history, into / "curves.png", title="facekeep-detector", along="step", figures=("loss", "recall", "landmark_error"))
    (into / "history.json").write_text(json.dumps(history, indent=2))
    _say(json.dumps(history[-1]))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
