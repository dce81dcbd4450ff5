"""Scores against the threshold: a plot for each person, and a table of every comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from facekeep.biometric import OperatingPoint
from facekeep.demo.page.markup import Markup, join, tag
from facekeep.demo.record import Comparison, Snapshot

# The plot has no view box: what is across is in per cent and follows the page, what is down and all text keeps its size.
_LEFT, _RIGHT = 2.0, 98.0
_HEAD_PX: Final = 60.0
_STEP_PX: Final = 9.0
# Marks nearer than this, in per cent of the width, are stacked.
_NEAR: Final = 1.7

_Across: TypeAlias = Callable[[float], float]


def percent(rate: float) -> str:
    """Return a rate as per cent, to two digits."""
    return f"{rate * 100:.2g} %"


def point_in_words(point: OperatingPoint) -> str:
    """Return false match rate and interval of an operating point."""
    low, high = point.fmr_interval
    return f"FMR {percent(point.fmr)}, 95 % interval {percent(low)} to {percent(high)}"


def score_plot(
    subjects: Sequence[str], comparisons: Sequence[Comparison], snapshots: Sequence[Snapshot], point: OperatingPoint
) -> Markup:
    """Return the scores of every comparison with each person's template, on one axis with the threshold."""
    decided = [each for each in comparisons if each.score is not None]
    lowest = min([-0.2, *(math.floor(each.score * 10) / 10 for each in decided if each.score is not None)])

    def across(score: float) -> float:
        return _LEFT + (score - lowest) / (1.0 - lowest) * (_RIGHT - _LEFT)

    rows: list[Markup] = []
    top = _HEAD_PX
    for subject in subjects:
        own = [each for each in decided if each.subject == subject]
        row, depth = _row(subject, own, snapshots, across, top)
        rows.append(row)
        top += depth
    threshold = f"{across(point.threshold):.2f}%"
    return tag(
        "svg",
        *_axis(lowest, across, top),
        tag("line", x1=threshold, x2=threshold, y1=_HEAD_PX - 8, y2=top, class_="threshold"),
        *_threshold_label(point, across(point.threshold)),
        *rows,
        width="100%",
        height=top + 26,
        role="img",
        aria_label=_in_words(subjects, decided, point),
        class_="plot",
    )


def score_matrix(subjects: Sequence[str], comparisons: Sequence[Comparison], snapshots: Sequence[Snapshot]) -> Markup:
    """Return a table of probes by people: every score and every decision."""
    probes = list(dict.fromkeys(each.picture for each in comparisons))
    by_cell = {(each.picture, each.subject): each for each in comparisons}
    body = []
    for probe in probes:
        snapshot = snapshots[probe]
        name = join(snapshot.name, tag("span", f"shows {snapshot.person}", class_="small") if snapshot.person else None)
        refusal = next((each for each in comparisons if each.picture == probe and each.is_match is None), None)
        if refusal is not None:
            cells = [tag("td", tag("code", refusal.code), colspan=len(subjects), class_="refused")]
        else:
            cells = [_cell(by_cell.get((probe, subject))) for subject in subjects]
        body.append(tag("tr", tag("th", name, scope="row"), *cells))
    caption = "Cosine and decision of every comparison"
    inner = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", tag("th", "Picture", scope="col"), *(tag("th", subject, scope="col") for subject in subjects))),
        tag("tbody", *body),
        class_="matrix",
    )
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _cell(comparison: Comparison | None) -> Markup:
    if comparison is None or comparison.score is None:
        return tag("td", "–", class_="none")
    decision = "match" if comparison.is_match else "non-match"
    wrong = comparison.is_right is False
    kind = "mated" if comparison.is_mated else "other"
    return tag(
        "td",
        tag("b", f"{comparison.score:.3f}"),
        tag("span", f"{decision}, wrong" if wrong else decision, class_="small"),
        class_=f"{kind} {'wrong' if wrong else decision}",
    )


def _row(
    subject: str,
    comparisons: Sequence[Comparison],
    snapshots: Sequence[Snapshot],
    across: _Across,
    top: float,
) -> tuple[Markup, float]:
    """Return one person's marks, mated above the line and non-mated below, and the depth they need."""
    mated = _stack([(across(each.score or 0.0), each) for each in comparisons if each.is_mated])
    other = _stack([(across(each.score or 0.0), each) for each in comparisons if not each.is_mated])
    above = 12 + _STEP_PX * (1 + max((lane for _, _, lane in mated), default=0))
    below = _STEP_PX * (1 + max((lane for _, _, lane in other), default=0))
    line = top + 10 + above
    marks = [_mark(x, line - 8 - lane * _STEP_PX, each, snapshots) for x, each, lane in mated]
    marks += [_mark(x, line + 8 + lane * _STEP_PX, each, snapshots) for x, each, lane in other]
    counts = f"{len(mated)} mated, {len(other)} non-mated"
    row = join(
        tag("text", tag("tspan", subject, class_="strong"), tag("tspan", counts, dx=8), x=f"{_LEFT}%", y=top + 8),
        tag("line", x1=f"{_LEFT}%", x2=f"{_RIGHT}%", y1=line, y2=line, class_="rail"),
        *marks,
    )
    return row, 10 + above + below + 14


def _stack(points: list[tuple[float, Comparison]]) -> list[tuple[float, Comparison, int]]:
    """Give each mark the lowest lane in which it touches nobody."""
    ends: list[float] = []
    placed: list[tuple[float, Comparison, int]] = []
    for x, comparison in sorted(points, key=lambda point: point[0]):
        lane = next((number for number, end in enumerate(ends) if x - end >= _NEAR), len(ends))
        if lane == len(ends):
            ends.append(x)
        ends[lane] = x
        placed.append((x, comparison, lane))
    return placed


def _mark(x: float, y: float, comparison: Comparison, snapshots: Sequence[Snapshot]) -> Markup:
    decision = "match" if comparison.is_match else "non-match"
    title = f"{snapshots[comparison.picture].name} claimed to be {comparison.subject}: {comparison.score:.3f}, {decision}"
    disc, diamond = tag("circle", r=4.5, class_="mated"), tag("path", d="M0-5 5 0 0 5-5 0z", class_="other")
    shape = disc if comparison.is_mated else diamond
    wrong = tag("circle", r=9, class_="wrong") if comparison.is_right is False else None
    return tag("svg", tag("title", title), shape, wrong, x=f"{x:.2f}%", y=y, overflow="visible")


def _axis(lowest: float, across: _Across, bottom: float) -> list[Markup]:
    parts = []
    for step in range(math.ceil(lowest * 5), 6):
        score = step / 5
        x = f"{across(score):.2f}%"
        parts.append(tag("line", x1=x, x2=x, y1=_HEAD_PX - 8, y2=bottom, class_="grid"))
        anchor = "end" if step == 5 else "middle" if across(score) > 6 else "start"
        parts.append(tag("text", f"{score:.1f}", x=x, y=bottom + 18, text_anchor=anchor, class_="tick"))
    return parts


def _threshold_label(point: OperatingPoint, x: float) -> list[Markup]:
    low, high = point.fmr_interval
    anchor, shift = ("start", -1.0) if x < 50 else ("end", 1.0)
    where = f"{x + shift:.2f}%"
    return [
        tag("text", f"threshold {point.threshold:.3f}", x=where, y=13, text_anchor=anchor, class_="strong"),
        tag("text", f"FMR {percent(point.fmr)}", x=where, y=29, text_anchor=anchor),
        tag("text", f"95 %: {percent(low)} to {percent(high)}", x=where, y=45, text_anchor=anchor),
    ]


def _in_words(subjects: Sequence[str], decided: Sequence[Comparison], point: OperatingPoint) -> str:
    def span(values: list[float]) -> str:
        return f"{min(values):.2f} to {max(values):.2f}" if values else "none"

    parts = []
    for subject in subjects:
        mated = [each.score for each in decided if each.subject == subject and each.is_mated and each.score is not None]
        other = [each.score for each in decided if each.subject == subject and not each.is_mated and each.score is not None]
        parts.append(f"{subject}: {len(mated)} mated scores, {span(mated)}; {len(other)} non-mated scores, {span(other)}")
    return f"Scores of every comparison. {'. '.join(parts)}. Threshold {point.threshold:.3f}: {point_in_words(point)}."
