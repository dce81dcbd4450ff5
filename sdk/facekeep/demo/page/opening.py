"""The top of the page: what this is, what held, what was measured, and what the page holds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from facekeep.demo.page.markup import Child, Markup, join, paragraph, tag
from facekeep.demo.page.story import story
from facekeep.demo.record import Record
from facekeep.demo.report import Figures, figures_of
from facekeep.demo.words import counted, listed, people

_MOST_NAMED: Final = 2


def opening(record: Record, where: Path) -> Markup:
    """Return the header, the verdict and the warnings."""
    figures = figures_of(record)
    return tag(
        "header",
        paragraph("Facekeep demo", class_="kicker"),
        tag("h1", _verdict(record)),
        paragraph(_recognition(figures), class_="lead"),
        paragraph(_origin(record), class_="small"),
        _stand_ins(record) if record.models.are_stand_ins else None,
        story(record),
        _synthetic(record) if record.kind == "synthetic" else None,
        _tiles(record, figures),
        _promises(record),
        _pictures(record, where),
    )


def _verdict(record: Record) -> str:
    broken = sum(not promise.is_kept for promise in record.promises)
    if broken:
        return f"{broken} of {len(record.promises)} promises did not hold"
    return f"All {len(record.promises)} promises held"


def _recognition(figures: Figures) -> str:
    wrong = sum(of - right for right, of in (figures.mated, figures.non_mated, figures.mated_searches, figures.non_mated_searches))
    made = sum(of for _, of in (figures.mated, figures.non_mated, figures.mated_searches, figures.non_mated_searches))
    if not made:
        answers = "Nothing could be compared"
    elif wrong == 0:
        answers = f"All {made} answers were right" if made > 1 else "The one answer was right"
    else:
        answers = f"{made - wrong} of {made} answers {'was' if made - wrong == 1 else 'were'} right"
    failures = []
    if figures.not_enrolled[0]:
        failures.append(f"{figures.not_enrolled[0]} of {people(figures.not_enrolled[1])} could not be enrolled")
    if figures.refused:
        failures.append(counted(figures.refused, "picture was refused", "pictures were refused"))
    return f"{answers}{'; ' if failures else ''}{' and '.join(failures)}."


def _origin(record: Record) -> Markup:
    models = record.models
    return join(
        f"{counted(len(record.snapshots), 'picture', 'pictures')} ({record.origin}), ",
        f"{record.started_at:%d %B %Y %H:%M} UTC, {record.seconds:.1f} seconds. ",
        f"Models {models.detector} and {models.embedder}",
        f", presentation attack detection {', '.join(models.pads)}." if models.pads else ", no presentation attack detection.",
        *(f" {remark}" for remark in record.remarks),
    )


def _stand_ins(record: Record) -> Markup:
    return tag(
        "aside",
        tag("h2", "These are drawings, and the models are stand-ins"),
        paragraph(
            "The people on this page do not exist: they are drawn figures with coloured dots for eyes, nose and mouth. The "
            "stand-in models that ship with Facekeep find coloured dots and tell drawn figures apart by their colours. They "
            "recognise no real face. Everything else is what runs on a device: consent, sealing, decisions, erasure, audit trail.",
        ),
        paragraph("For real faces, fetch real models and show the demo your photographs:"),
        tag("pre", tag("code", "\n".join(record.models.real_ones))),
        paragraph(
            tag("code", "facekeep models list"),
            " shows every pack with its licence and what it was trained on; ",
            tag("code", "facekeep models import FILE"),
            " brings in weights that you have already.",
        ),
        class_="note warn",
    )


def _synthetic(record: Record) -> Markup:
    invented = [grant.subject for grant in record.grants] + list(record.declined)
    return tag(
        "aside",
        tag("h2", f"{listed(invented)} do not exist"),
        paragraph(
            "Their faces are drawn from the statistics of thousands of press pictures (LFW). Those pictured were never asked, "
            "so these people are for research and evaluation only. Names, room and camera are invented.",
        ),
        paragraph(
            "They are easier than photographs, and were chosen to be unlike each other: the counts say that the parts fit, not how "
            "often a model errs. Models, threshold and refusals are those of a device.",
        ),
        _portraits(record),
        paragraph("With your own photographs: ", tag("code", "facekeep demo --photos DIR")),
        class_="note",
    )


def _portraits(record: Record) -> Markup | None:
    if not record.portraits:
        return None
    return paragraph(
        f"Real, on the other hand: {'; '.join(record.portraits)}. Found on this machine and used here only, as strangers whom a "
        "search must not find. Nobody enrols them."
    )


def _tiles(record: Record, figures: Figures) -> Markup:
    tiles = [
        _failures_to_enrol(record),
        _tile("Verification, mated", figures.mated, "matched the person's own template"),
        _tile("Verification, non-mated", figures.non_mated, "rejected against other people"),
        _tile("Searches, enrolled", figures.mated_searches, "found the right person"),
        _tile("Searches, not enrolled", figures.non_mated_searches, "answered “unknown”"),
        _tile("Faces counted", figures.counted, _miscounted(record) or "pictures with the right count"),
    ]
    return tag("ul", *(tile for tile in tiles if tile is not None), class_="tiles")


def _failures_to_enrol(record: Record) -> Markup | None:
    if not record.not_enrolled:
        return None
    reasons = ", ".join(f"{subject}: {code.rpartition('.')[2]}" for subject, code in record.not_enrolled)
    return tag(
        "li",
        tag("span", "Not enrolled", class_="small"),
        tag("span", tag("b", len(record.not_enrolled)), " of ", len(record.grants), class_="figure short"),
        tag("span", reasons, class_="small"),
    )


def _miscounted(record: Record) -> str | None:
    wrong = [each.name for each in record.snapshots if each.size_px and each.faces not in (None, len(each.detections))]
    return f"right but for {listed([f'“{name}”' for name in wrong])}" if 0 < len(wrong) <= _MOST_NAMED else None


def _tile(title: str, figure: tuple[int, int], words: str) -> Markup | None:
    right, of = figure
    if not of:
        return None
    number = join(tag("b", right), " of ", of)
    return tag(
        "li",
        tag("span", title, class_="small"),
        tag("span", number, class_="figure" if right == of else "figure short"),
        tag("span", words, class_="small"),
    )


def _promises(record: Record) -> Markup:
    rows = [
        tag(
            "li",
            tag("span", "kept" if promise.is_kept else "broken", class_="mark good" if promise.is_kept else "mark bad"),
            tag("div", tag("b", promise.text), " ", tag("span", promise.seen)),
        )
        for promise in sorted(record.promises, key=lambda promise: promise.is_kept)
    ]
    return tag("section", tag("h2", "What was promised"), tag("ul", *rows, class_="promises"), id="promises")


def _pictures(record: Record, where: Path) -> Child:
    if record.kind != "photos":
        return None
    return tag(
        "aside",
        tag("h2", "This page holds your pictures"),
        paragraph(
            "It shows reduced copies of the pictures you pointed at, with the scores of the faces on them. It was written for "
            "you alone (the directory is closed to other users), uses nothing from outside and sends nothing. Delete it when you "
            "have seen enough:"
        ),
        tag("pre", tag("code", f"rm -r {_quoted(where)}")),
        paragraph(
            "The consents below were recorded by the demo in the names of the labels, to show what the device does with them. "
            "Nobody on the pictures was asked."
        ),
        class_="note",
    )


def _quoted(where: Path) -> str:
    import shlex

    return shlex.quote(str(where))
