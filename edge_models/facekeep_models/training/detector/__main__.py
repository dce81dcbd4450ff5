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
from facekeep_models.training.detector.loop import train
from facekeep_models.training.detector.network import STRIDES
from facekeep_models.training.detector.pictures import DRAWN_EACH, prepare_pictures
from facekeep_models.training.detector.publish import FILE
from facekeep_models.training.detector.restore import restored
from facekeep_models.training.detector.schedule import Schedule


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    usual = Schedule()
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.detector", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with lfw-devtrain, scenes, synthetic_sfhq")
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and checkpoints, outside the repository")
    parser.add_argument("--packs", type=Path, required=True, help="pack store with yunet-s")
    parser.add_argument("--into", default=".", help="folder in that of --work for checkpoint and results, for a further stage")
    parser.add_argument("--start", type=Path, help="student.pt or exported .onnx of an earlier stage to begin with")
    parser.add_argument("--keep", type=Path, help="exported .onnx whose finds are to stay while landmarks change")
    parser.add_argument("--frozen-norms", action="store_true", help="keep the statistics of batch norms; always so after an .onnx")
    parser.add_argument("--share", type=float, default=usual.share, help="of the usual learning rates")
    parser.add_argument("--landmarks", type=float, default=usual.landmark_weight, help="weight of the landmarks in the loss")
    parser.add_argument("--together", type=float, default=usual.together, help="share of it asked of the mean over a face's cells")
    parser.add_argument("--drawn-share", type=float, default=usual.drawn_share, help="of rectangles, filled with drawn people")
    parser.add_argument("--drawn-each", type=int, default=DRAWN_EACH, help="pictures of each drawn person")
    parser.add_argument("--least-rectangle", type=float, default=usual.least_rectangle, help="share of the side of a mosaic")
    parser.add_argument("--float32", action="store_true", help="for a processor without bfloat16, where it is much faster")
    parser.add_argument("--sizes", type=_size, nargs="+", default=usual.sizes, help="of mosaics: side in px x pictures a batch")
    parser.add_argument("--averaging", type=float, default=usual.averaging, help="decay of the average of weights a step")
    parser.add_argument("--steps", type=int, default=usual.steps)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--limit", type=int, default=0, help="pictures of each source at the most, for a smoke run")
    parser.add_argument("--threads", type=int, default=0, help="threads of PyTorch; its own choice if left out")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
        cv2.setNumThreads(options.threads)
    pictures = prepare_pictures(
        options.data, options.work, options.packs, limit=options.limit, say=_say, drawn_each=options.drawn_each
    )
    _say(f"{len(pictures.place)} pictures, {len(pictures.faces)} faces, {int(pictures.held_out.sum())} pictures held out")
    exported = options.start is not None and options.start.suffix == ".onnx"
    schedule = replace(
        usual,
        steps=options.steps,
        seed=options.seed,
        share=options.share,
        landmark_weight=options.landmarks,
        together=options.together,
        drawn_share=options.drawn_share,
        least_rectangle=options.least_rectangle,
        frozen_norms=options.frozen_norms or exported,
        half=not options.float32,
        sizes=tuple(options.sizes),
        averaging=options.averaging,
    )
    if exported:
        start = restored(options.start.read_bytes()).state_dict()
    else:
        start = torch.load(options.start, weights_only=True) if options.start else None
    keep = restored(options.keep.read_bytes()) if options.keep else None
    into = options.work / options.into
    into.mkdir(mode=0o700, exist_ok=True)
    network, history = train(pictures, schedule, into, say=_say, start=start, keep=keep)
    torch.save(network.state_dict(), into / "student.pt")
    write_onnx(network, into / FILE)
    draw_curves(history, into / "curves.png", title="facekeep-detector", along="step", figures=("loss", "recall", "landmark_error"))
    (into / "history.json").write_text(json.dumps(history, indent=2))
    _say(json.dumps(history[-1]))


def _size(text: str) -> tuple[int, int]:
    side, count = (int(each) for each in text.split("x"))
    if side % STRIDES[-1] or side <= 0 or count <= 0:
        raise ValueError(text)
    return side, count


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
