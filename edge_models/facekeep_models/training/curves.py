"""The curves of a training run as a picture: what was measured along the way, one small chart for each figure."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path


def draw_curves(
    history: Sequence[Mapping[str, float]], path: Path, *, title: str, along: str = "epoch", figures: Sequence[str] = ()
) -> bool:
    """Write a PNG with one chart for each figure of `history` and return whether it was drawn.

    Args:
        history: one mapping for each time that was measured.
        path: where the picture goes.
        title: what was trained.
        along: the figure that all others are drawn over.
        figures: which; all of them if left out.

    Returns:
        False where matplotlib (extra `eval`) is not installed or there is nothing to draw: figures.json has the same numbers.
    """
    try:
        # The figure without pyplot: no display is looked for and no global state is left behind.
        make_figure = importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        return False
    names = list(figures or (name for name in history[0] if name != along)) if history else []
    if not names:
        return False
    figure = make_figure(figsize=(3.2 * len(names), 3.0), layout="constrained")
    places = [row[along] for row in history]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        axes.plot(places, [row[name] for row in history], marker="." if len(history) < 60 else "", color="#1b6ca8")
        axes.set_title(name.replace("_", " "), fontsize=9)
        axes.set_xlabel(along, fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, format="png", dpi=110)
    return True
