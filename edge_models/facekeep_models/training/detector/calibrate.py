"""The confidence from which a find counts, proposed on held-out pictures only: the photographs of the card take no part.

    python -m facekeep_models.training.detector.calibrate --work DIR

prints, for each confidence, the recall of the faces YuNet is sure of and the false finds; then a proposal: the
lowest at which pictures of faces and scenes without anyone together hold at most one false find in a hundred pictures.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from facekeep.biometric import Detection, Frame
from facekeep.detection import open_detector
from facekeep.runtime import open_session
from facekeep_models.training.detector.pictures import Pictures, read_pictures
from facekeep_models.training.detector.publish import FILE
from facekeep_models.training.detector.validation import CONTRACT, OPTIONS, Figures, compare, held_out_cases

LADDER: Final = tuple(np.arange(0.40, 0.91, 0.02).round(2).tolist())
FALSE_FINDS_A_PICTURE: Final = 0.01
_LEAST_PX: Final = 20.0
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rung:
    """One confidence and its figures."""

    confidence: float
    figures: Figures


def calibrate(content: bytes, pictures: Pictures) -> tuple[Rung, ...]:
    """Return the figures on all held-out pictures for every confidence, rising.

    Args:
        content: the ONNX file.
        pictures: with the labels of the teacher.
    """
    detector = open_detector(
        "yunet", open_session("onnx", {"model.onnx": content}), CONTRACT, confidence=LADDER[0], options=OPTIONS
    )
    cases = held_out_cases(pictures, len(pictures.place))
    # Suppression starts from the most confident: leaving the faint ones out afterwards is what a higher confidence does.
    every = [detector.detect(Frame(np.ascontiguousarray(pixels), _NOW)) for pixels, _ in cases]
    return tuple(Rung(each, compare(cases, _Replay(every, each), least_px=_LEAST_PX)) for each in LADDER)


def chosen(rungs: tuple[Rung, ...]) -> float:
    """Return the lowest confidence whose false finds are few enough, the highest of all where none is."""
    for rung in rungs:
        if rung.figures.extra <= FALSE_FINDS_A_PICTURE * rung.figures.pictures:
            return rung.confidence
    return rungs[-1].confidence


class _Replay:
    """Gives what was found before, picture by picture, without what is less confident."""

    def __init__(self, found: list[tuple[Detection, ...]], confidence: float) -> None:
        self._left = iter(found)
        self._confidence = confidence

    def __call__(self, frame: Frame) -> tuple[Detection, ...]:
        return tuple(face for face in next(self._left) if face.confidence >= self._confidence)


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.detector.calibrate", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder that the recipe wrote to")
    parser.add_argument("--into", default=".", help="as of the recipe")
    options = parser.parse_args(arguments)
    rungs = calibrate((options.work / options.into / FILE).read_bytes(), read_pictures(options.work))
    for rung in rungs:
        figures = rung.figures
        print(  # noqa: T201
            f"{rung.confidence:.2f}  recall {100 * figures.recall:6.2f} % of {figures.faces}, "
            f"{figures.extra} false finds on {figures.pictures} pictures"
        )
    print(f"proposed: --confidence {chosen(rungs)}")  # noqa: T201


if __name__ == "__main__":
    main()
