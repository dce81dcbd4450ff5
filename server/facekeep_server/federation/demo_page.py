"""The page of the demo: accuracy, privacy spent, bytes and time of each round. One file, no script, nothing fetched."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from facekeep_server.federation.demo import Demo, DemoRound

_WIDTH, _HEIGHT = 520, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 34
# False match rate that the page shows accuracy at.
TARGET: Final = 1e-2
_STEPS: Final = ("prepare", "train", "confirm", "unmask")
# Okabe and Ito's palette: told apart by everybody.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff }
body { max-width: 1120px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem }
h2 { font-size: 1.05rem; margin: 0 0 .2rem }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(480px, 1fr)); gap: 1.5rem; margin: 1.5rem 0 }
figure { margin: 0; border: 1px solid #ddd; border-radius: 8px; padding: 1rem }
figcaption { font-size: .9rem; color: #444 }
svg { width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: #444 }
table { border-collapse: collapse; width: 100%; font-size: .95rem }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #ddd }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
.legend span { margin-right: 1rem; white-space: nowrap }
.legend i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em }
"""


def write_page(demo: Demo) -> None:
    """Write the page."""
    demo.page.write_text(_page(demo), encoding="utf-8")


def _page(demo: Demo) -> str:
    done = [item for item in demo.rounds if item.report["aborted"] is None]
    charts = [
        _accuracy(demo.rounds),
        _privacy(demo.rounds),
        _stacked("Time of each round", "seconds", [_seconds(item) for item in demo.rounds], _time_words()),
        _stacked("Bytes of each round", "kilobytes", [_kilobytes(item) for item in demo.rounds], _byte_words(demo)),
    ]
    adopted = next((item.adopted for item in reversed(demo.rounds) if item.adopted is not None), 0)
    released = sum(item.outcome == "released" for item in demo.rounds)
    summary = (
        f"{demo.devices} devices, each a real SuperNode with a vault of its own; {len(done)} of {len(demo.rounds)} rounds "
        f"completed; releases, each signed by two of three keys: {released}, the last adopted by {adopted} devices. "
        f"{demo.seconds / 60:.0f} minutes on this machine, everything on 127.0.0.1."
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Facekeep: a federation on one machine</title><style>{_STYLE}</style>"
        f"<h1>A federation on one machine</h1><p>{html.escape(summary)} The people do not exist.</p>"
        f'<div class="charts">{"".join(charts)}</div>{_table(demo.rounds)}{_memory(demo)}</html>\n'
    )


def _accuracy(rounds: Sequence[DemoRound]) -> str:
    judged = [item.evaluation for item in rounds if item.evaluation is not None]
    if not judged:
        return _figure("Accuracy", "No round was completed.", "", ())
    series = {}
    for name, words in (("poor", "poor camera, and against day"), ("day", "day against day")):
        # Each is compared with the model in use; one that was withheld is on the line too, and nobody uses it.
        found = [item["figures"][f"{name} {TARGET:g}"] for item in judged]
        series[words] = [found[0]["before"][0], *(each["after"][0] for each in found)]
    low = min(min(values) for values in series.values())
    body = _axes(0, len(judged), max(0.0, low - 0.06), 1.0, "share recognised", "round", is_share=True)
    for colour, values in zip(_COLOURS, series.values(), strict=False):
        points = [(_x(n, 0, len(judged)), _y(value, max(0.0, low - 0.06), 1.0)) for n, value in enumerate(values)]
        body += _line(points, colour)
        body += "".join(
            f'<text x="{x:.0f}" y="{y - 8:.0f}" text-anchor="middle">{value:.3f}</text>'
            for (x, y), value in zip(points, values, strict=True)
        )
    crops = " and ".join(f"{item['crops']} crops ({item['name']})" for item in judged[0]["measured_on"])
    words = (
        "True matches at a false match rate of 1 in 100. Round 0 is the model that shipped. "
        f"Measured on {crops}, of people on no device; a step of 0.01 is chance."
    )
    return _figure("Accuracy of the candidate after each round", words, body, tuple(series))


def _privacy(rounds: Sequence[DemoRound]) -> str:
    spent, total = [0.0], 0.0
    for item in rounds:
        # Rounds of one noise compose in rho; epsilon of the sum follows from the statement of each.
        # Of an aborted round in which nobody trained, nobody is charged.
        if item.report["prepared"]:
            total += _rho(float(item.report["epsilon"]), float(item.report["delta"]))
        spent.append(total + 2 * math.sqrt(total * math.log(1 / float(item.report["delta"]))))
    high = max(spent) * 1.15 or 1.0
    body = _axes(0, len(rounds), 0, high, "epsilon spent", "round")
    points = [(_x(n, 0, len(rounds)), _y(value, 0, high)) for n, value in enumerate(spent)]
    body += _line(points, _COLOURS[3])
    body += "".join(
        f'<text x="{x:.0f}" y="{y - 8:.0f}" text-anchor="middle">{value:,.0f}</text>'
        for (x, y), value in zip(points, spent, strict=True)
    )
    told = next((item.spent for item in reversed(rounds) if item.spent is not None), None)
    words = (
        (f"What the plans state, added up; the devices' own ledgers say {told:,.0f} in the end. " if told is not None else "")
        + "That is no privacy, and the page says so: noise that hides one of five drowns the sum of five. With 500 devices in a "
        "sum the same privacy costs the mean a hundredth of that error (docs/models/federated.md has the figures for epsilon 8)."
    )
    return _figure("Privacy spent by one device", words, body, ())


def _rho(epsilon: float, delta: float) -> float:
    root = math.log(1 / delta)
    return (math.sqrt(root + epsilon) - math.sqrt(root)) ** 2


def _stacked(title: str, unit: str, columns: Sequence[dict[str, float]], words: str) -> str:
    high = max((sum(column.values()) for column in columns), default=1.0) * 1.15 or 1.0
    body = _axes(0.5, len(columns) + 0.5, 0, high, unit, "round")
    for number, column in enumerate(columns, 1):
        below = 0.0
        x = _x(number, 0.5, len(columns) + 0.5)
        width = min(70.0, 0.6 * (_WIDTH - _LEFT - _RIGHT) / max(1, len(columns)))
        for colour, step in zip(_COLOURS, _STEPS, strict=True):
            value = column.get(step, 0.0)
            top, bottom = _y(below + value, 0, high), _y(below, 0, high)
            body += f'<rect x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}" fill="{colour}"/>'
            below += value
        body += f'<text x="{x:.0f}" y="{_y(below, 0, high) - 6:.0f}" text-anchor="middle">{below:,.0f}</text>'
    return _figure(title, words, body, _STEPS)


def _seconds(item: DemoRound) -> dict[str, float]:
    return {step["step"]: float(step["seconds"]) for step in item.report["steps"]}


def _kilobytes(item: DemoRound) -> dict[str, float]:
    return {step["step"]: (step["sent"] + step["received"]) / 1000 for step in item.report["steps"]}


def _time_words() -> str:
    return "Almost all of it is Flower: a process is started for each message, and both sides poll every second or so."


def _byte_words(demo: Demo) -> str:
    carried = "The step train carries the masked updates: four bytes for each number."
    return f"To and from all {demo.devices} devices, without Flower's frame. {carried}"


def _table(rounds: Sequence[DemoRound]) -> str:
    rows = []
    for number, item in enumerate(rounds, 1):
        extras = item.report.get("extras") or {}
        loss = f"{extras['loss']:.3f}" if "loss" in extras else ""
        cells = [
            (str(number), True),
            (f"{item.report['contributors']} of {item.report['cohort']}", True),
            (loss, True),
            (f"{item.report['epsilon']:,.0f}", True),
            (item.outcome, False),
            ("" if item.adopted is None else f"{item.adopted} of {item.report['cohort']}", True),
        ]
        rows.append(
            "<tr>" + "".join(f"<td{' class=number' if right else ''}>{html.escape(cell)}</td>" for cell, right in cells) + "</tr>"
        )
    heads = [
        ("Round", True),
        ("In the sum", True),
        ("Mean loss", True),
        ("Epsilon of the round", True),
        ("Candidate", False),
        ("Adopted", True),
    ]
    head = "".join(f"<th{' class=number' if right else ''}>{name}</th>" for name, right in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _memory(demo: Demo) -> str:
    if not demo.memory:
        return ""
    listed = ", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in sorted(demo.memory.items()))
    return f"<p>Memory of one process at rest: {html.escape(listed)}.</p>"


def _figure(title: str, words: str, body: str, legend: Sequence[str]) -> str:
    named = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>'
        for colour, name in zip(_COLOURS, legend, strict=False)
    )
    drawing = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">{body}</svg>' if body else ""
    told = f'<div class="legend">{named}</div><figcaption>{html.escape(words)}</figcaption>'
    return f"<figure><h2>{html.escape(title)}</h2>{drawing}{told}</figure>"


def _axes(first: float, last: float, low: float, high: float, unit: str, below: str, *, is_share: bool = False) -> str:
    parts = []
    for place in range(5):
        value = low + (high - low) * place / 4
        y = _y(value, low, high)
        told = f"{value:.2f}" if is_share else f"{value:,.0f}"
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e3e3"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{told}</text>')
    whole = range(int(first + 0.5), int(last + 0.5) + 1) if first else range(int(last) + 1)
    parts += [
        f'<text x="{_x(n, first, last):.1f}" y="{_HEIGHT - 16}" text-anchor="middle">{n}</text>'
        for n in whole
        if first <= n <= last
    ]
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 2}" text-anchor="middle">{below}</text>')
    parts.append(
        f'<text x="12" y="{_HEIGHT / 2:.0f}" transform="rotate(-90 12 {_HEIGHT / 2:.0f})" text-anchor="middle">{unit}</text>'
    )
    return "".join(parts)


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _x(value: float, first: float, last: float) -> float:
    return _LEFT + 14 + (_WIDTH - _LEFT - _RIGHT - 28) * (value - first) / max(1e-9, last - first)


def _y(value: float, low: float, high: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM - 12) * (value - low) / max(1e-9, high - low)


def describe_rounds(demo: Demo) -> list[dict[str, Any]]:
    """Return what the page shows, for programs."""
    return [
        {"round": number, "outcome": item.outcome, "report": item.report, "evaluation": item.evaluation, "adopted": item.adopted}
        for number, item in enumerate(demo.rounds, 1)
    ]
