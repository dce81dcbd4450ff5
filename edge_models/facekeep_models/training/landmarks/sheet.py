"""The first and the second look at people who do not exist, as a picture: where both put the landmarks, and where they are.

python -m facekeep_models.training.landmarks.sheet --out FILE
"""

from __future__ import annotations

import argparse
import importlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.biometric import Frame
from facekeep.detection import open_detector
from facekeep.detection.refining import RefiningDetector
from facekeep.packs import PackStore
from facekeep.ports import Detector
from facekeep.runtime import open_session
from facekeep_models.people import SyntheticPicture, draw_person, synthetic_person
from facekeep_models.training.detector.evaluate import PACK
from facekeep_models.training.detector.pictures import FIRST_HELD_OUT_PERSON
from facekeep_models.training.detector.publish import FILE, LANDMARK_FILE
from facekeep_models.training.detector.validation import CONTRACT, OPTIONS

_COLUMNS, _ROWS = 6, 2
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Marker, colour and name of each, in the order in which they are drawn.
_MARKS: Final = (("o", "#ffb000", "first look"), ("x", "#00c2ff", "second look"), ("+", "#ffffff", "truth"))


def draw_sheet(path: Path) -> None:
    """Write a picture of twelve held-out drawn people with both looks of the pack that ships, and the error of each.

    Raises:
        ImportError: where matplotlib (extra `eval`) is not installed.
    """
    files = PackStore("/nonexistent/facekeep-no-store").read_files(*PACK)
    session, second = (open_session("onnx", {name: files[name]}) for name in (FILE, LANDMARK_FILE))
    first = open_detector("yunet", session, CONTRACT, confidence=0.5, options=OPTIONS)
    looks = (first, RefiningDetector(first, second))
    # The figure without pyplot: no display is looked for and no global state is left behind.
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(2.2 * _COLUMNS, 2.4 * _ROWS), layout="constrained")
    for place, axes in enumerate(figure.subplots(_ROWS, _COLUMNS).ravel()):
        drawn = draw_person(synthetic_person(FIRST_HELD_OUT_PERSON + 10 * place), 0)
        _draw(axes, drawn, [_landmarks(look, drawn) for look in looks])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=len(_MARKS), facecolor="#808080")
    figure.savefig(path, dpi=80)


def _landmarks(detector: Detector, drawn: SyntheticPicture) -> NDArray[np.float32]:
    found = detector.detect(Frame(drawn.pixels, _NOW))
    points = found[0].landmarks_px if found else None
    return np.full((5, 2), np.nan, np.float32) if points is None else points


def _draw(axes: Any, drawn: SyntheticPicture, looks: list[NDArray[np.float32]]) -> None:
    truth = drawn.landmarks_px
    axes.imshow(drawn.pixels)
    for points, (marker, colour, name) in zip((*looks, truth), _MARKS, strict=True):
        face = {"facecolors": "none", "edgecolors": colour} if marker == "o" else {"c": colour}
        axes.scatter(*points.T, marker=marker, s=26, linewidths=1.1, label=name, **face)
    eyes = float(np.linalg.norm(truth[1] - truth[0]))
    errors = [100 * float(np.linalg.norm(points - truth, axis=1).mean()) / eyes for points in looks]
    axes.set_title(f"{errors[0]:.1f} % → {errors[1]:.1f} %", fontsize=9)
    # The face alone: that is where a pixel can be seen.
    middle, reach = truth.mean(axis=0), 1.5 * eyes
    axes.set_xlim(middle[0] - reach, middle[0] + reach)
    axes.set_ylim(middle[1] + reach, middle[1] - reach)
    axes.axis("off")


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m facekeep_models.training.landmarks.sheet", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a .png or .webp")
    draw_sheet(parser.parse_args(arguments).out)


if __name__ == "__main__":
    main()
