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
from facekeep_models.training.detector.pictures import DRAWN_EACH, prepare_pictures
from facekeep_models.training.detector.publish import LANDMARK_FILE
from facekeep_models.training.landmarks.export import write_onnx
from facekeep_models.training.landmarks.loop import Schedule, train


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    usual = Schedule()
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.landmarks", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with lfw-devtrain, scenes, synthetic_sfhq")
    parser.add_argument("--work", type=Path, required=True, help="that of the detector's recipe, outside the repository")
    parser.add_argument("--packs", type=Path, required=True, help="pack store with yunet-s")
    parser.add_argument("--into", default="landmarks", help="folder in that of --work for checkpoint and results")
    parser.add_argument("--drawn-each", type=int, default=DRAWN_EACH, help="pictures of each drawn person, as in that recipe")
    parser.add_argument("--limit", type=int, default=0, help="pictures of each source at the most, as in that recipe")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; its own choice if left out")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    pictures = prepare_pictures(
        options.data, options.work, options.packs, limit=options.limit, say=_say, drawn_each=options.drawn_each
    )
    into = options.work / options.into
    into.mkdir(mode=0o700, exist_ok=True)
    network, history = train(pictures, replace(usual, steps=options.steps, seed=options.seed), into, say=_say)
    write_onnx(network, into / LANDMARK_FILE)
    shown = ["loss", *(name for name in history[-1] if name.endswith("_after"))]
    draw_curves(history, into / "curves.png", title="facekeep-detector, second look", along="step", figures=shown)
    (into / "history.json").write_text(json.dumps(history, indent=2))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
