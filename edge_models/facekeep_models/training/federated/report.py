"""The figures as a table and the rounds as a picture."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_COLOURS: Final = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad", "#b8860b", "#555555", "#d35400")


def write_table(found: Mapping[str, Any], path: Path) -> None:
    """Write Markdown: true accept rates in per cent with their intervals, then the shares of the gain.

    Args:
        found: of the recipe: "figures" and "shares", row -> comparison and false match rate -> (value, low, high); a row without
            a share has "-".
        path: the file.
    """
    lines = []
    for title, table in (("TAR, per cent", found["figures"]), ("share of the gain, per cent", found["shares"])):
        names = list(next(iter(found["figures"].values())))
        lines += [f"| {title} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for row in found["figures"]:
            cells = table.get(row)
            lines.append(f"| {row} | " + " | ".join("-" if cells is None else _cell(cells[name]) for name in names) + " |")
        lines.append("")
    path.write_text("\n".join(lines))


def draw_rounds(curves: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> bool:
    """Write a PNG with a chart for each comparison at FMR 1e-2, a line for each row, and return whether it was drawn."""
    try:
        make_figure = importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        return False
    if not curves:
        return False
    names = [name for name in next(iter(curves.values()))[0] if name.endswith("1e-02")]
    figure = make_figure(figsize=(3.4 * len(names), 3.6), layout="constrained")
    lines = []
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        lines = [
            axes.plot([one["round"] for one in history], [one[name] for one in history], marker=".", color=colour, label=row)[0]
            for (row, history), colour in zip(curves.items(), _COLOURS * 3, strict=False)
        ]
        axes.set_title(f"{name.removesuffix(' 1e-02')}, TAR at FMR 1e-2", fontsize=9)
        axes.set_xlabel("round", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    figure.legend(handles=lines, loc="outside lower center", ncols=4, fontsize=8)
    figure.suptitle("Validation people over the rounds", fontsize=10)
    figure.savefig(path, format="png", dpi=110)
    return True


def _cell(values: Sequence[float]) -> str:
    value, low, high = (100 * each for each in values)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"
