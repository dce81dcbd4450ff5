"""The picture of an evaluation: DET curve and histograms of scores. Needs matplotlib, of the extra `eval`."""

from __future__ import annotations

import importlib
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from facekeep_models.evaluation.comparisons import Comparisons
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.report import Evaluation

_TICKS: Final = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.2, 0.5, 0.8)
_LEAST: Final = 1e-7
_BINS: Final = 120
_MATED, _NON_MATED, _LINE = "#1b6ca8", "#c2571a", "#444444"


def why_no_plot() -> str | None:
    """Return why nothing can be drawn, or None where matplotlib is installed."""
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        return "matplotlib is not installed, so nothing was drawn. Run: pip install 'facekeep[eval]'"
    return None


def draw_evaluation(evaluation: Evaluation, comparisons: Comparisons, path: Path) -> None:
    """Write a PNG with the DET curve on normal deviate scales (Martin et al. 1997) and both histograms.

    Raises:
        EvaluationError: "evaluation.io".
    """
    # The figure without pyplot: no display is looked for and no global state is left behind.
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(12, 5.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_det(left, evaluation)
    _draw_histograms(right, evaluation, comparisons)
    between = f" against {evaluation.probe_embedder}" if evaluation.is_cross_model else ""
    figure.suptitle(f"{evaluation.embedder}{between}\n{evaluation.dataset}", fontsize=10)
    try:
        figure.savefig(path, format="png", dpi=110)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EvaluationError("evaluation.io", f"The plot cannot be written: {reason}.") from None


def _draw_det(axes: Any, evaluation: Evaluation) -> None:
    deviate = NormalDist().inv_cdf
    seen = [point for point in evaluation.det if 0 < point.fmr < 1 and 0 < point.fnmr < 1]
    axes.plot([deviate(p.fmr) for p in seen], [deviate(p.fnmr) for p in seen], color=_MATED, linewidth=1.8)
    if 0 < evaluation.eer.rate < 1:
        meeting = deviate(evaluation.eer.rate)
        axes.plot([meeting], [meeting], "o", color=_LINE, markersize=5)
        label = f"EER {100 * evaluation.eer.rate:.3g} %"
        axes.annotate(label, (meeting, meeting), xytext=(-8, -14), textcoords="offset points", ha="right", color=_LINE)
    for point in evaluation.points:
        if point.origin == "target" and 0 < point.fmr.rate < 1 and 0 < point.fnmr.rate < 1:
            low, high = (min(max(bound, _LEAST), 1 - _LEAST) for bound in point.fnmr.people)
            axes.plot([deviate(point.fmr.rate)] * 2, [deviate(low), deviate(high)], color=_MATED, linewidth=1, alpha=0.7)
            axes.plot([deviate(point.fmr.rate)], [deviate(point.fnmr.rate)], "s", color=_MATED, markersize=4)
    limits = deviate(max(0.3 / evaluation.non_mated, _LEAST)), deviate(max(0.3 / evaluation.mated, _LEAST))
    ticks = [deviate(tick) for tick in _TICKS]
    labels = [f"{100 * tick:g}" for tick in _TICKS]
    axes.set(xlim=(limits[0], deviate(0.6)), ylim=(limits[1], deviate(0.6)), xlabel="FMR, %", ylabel="FNMR, %", title="DET")
    for axis, limit in ((axes.xaxis, limits[0]), (axes.yaxis, limits[1])):
        shown = [index for index, tick in enumerate(ticks) if limit <= tick <= deviate(0.6)]
        axis.set_ticks([ticks[index] for index in shown], [labels[index] for index in shown])
    axes.grid(alpha=0.3)
    axes.plot([deviate(_LEAST), deviate(0.6)], [deviate(_LEAST), deviate(0.6)], color=_LINE, linewidth=0.6, linestyle=":")


def _draw_histograms(axes: Any, evaluation: Evaluation, comparisons: Comparisons) -> None:
    both = (comparisons.mated, comparisons.non_mated)
    edges = np.linspace(min(float(each[0]) for each in both), max(float(each[-1]) for each in both) + 1e-6, _BINS + 1)
    for scores, colour, label in ((both[1], _NON_MATED, "non-mated"), (both[0], _MATED, "mated")):
        heights = np.histogram(scores, edges)[0] / len(scores)
        axes.stairs(100 * heights, edges, fill=True, color=colour, alpha=0.45, label=f"{label} ({len(scores):,})")
    top = axes.get_ylim()[1]
    for point in evaluation.points:
        if point.origin == "target":
            axes.axvline(point.threshold, color=_LINE, linewidth=0.8, linestyle="--")
            text = f"FMR {point.target_fmr:g}"
            axes.text(point.threshold, 0.98 * top, text, rotation=90, va="top", ha="right", fontsize=8, color=_LINE)
    axes.set(xlabel="cosine", ylabel="share of the comparisons, %", title="Scores", xlim=(edges[0], edges[-1]), ylim=(0, top))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=2, frameon=False)
    axes.grid(alpha=0.3)
