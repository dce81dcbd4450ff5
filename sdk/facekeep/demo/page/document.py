"""The whole page: one file that needs nothing else, no script and no network."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from facekeep.demo.page.consent import consent_step, refused_step, withdrawal_step
from facekeep.demo.page.markup import Markup, join, tag, unsafe_raw
from facekeep.demo.page.opening import opening
from facekeep.demo.page.proof import cost_step, proof_step
from facekeep.demo.page.recognition import enrolment_step, identification_step, verification_step
from facekeep.demo.record import Record

# Enforced by the browser as well: were a name ever to become markup, it still could not load or run anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STEPS = (
    ("refused", "Without consent, nothing", refused_step),
    ("consent", "Notice and consent", consent_step),
    ("enrol", "Enrol", enrolment_step),
    ("verify", "Verify, 1:1", verification_step),
    ("identify", "Identify, 1:N", identification_step),
    ("withdraw", "Withdraw", withdrawal_step),
    ("proof", "Proof", proof_step),
)


def render_page(record: Record, where: Path) -> str:
    """Return the page of a demo.

    Args:
        record: what happened.
        where: directory the page will lie in, for the command that deletes it.
    """
    contents = tag(
        "nav",
        tag("ol", *(tag("li", tag("a", title, href=f"#{anchor}")) for anchor, title, _ in _STEPS)),
        aria_label="Steps",
    )
    steps = [_step(number, anchor, title, make(record)) for number, (anchor, title, make) in enumerate(_STEPS, start=1)]
    body = tag(
        "body",
        opening(record, where),
        contents,
        tag("main", *steps, tag("section", tag("h2", "What it cost"), cost_step(record), id="cost", class_="cost")),
        tag(
            "footer",
            "Drawn by ",
            tag("code", "facekeep demo"),
            ". The same as data: ",
            tag("code", "report.json"),
            " beside this file.",
        ),
        class_=record.kind,
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="robots", content="noindex"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", "Facekeep demo"),
        tag("style", _style()),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"


def _step(number: int, anchor: str, title: str, content: Markup) -> Markup:
    heading = tag("h2", tag("span", number, class_="number", aria_hidden="true"), join(title))
    return tag("section", heading, content, id=anchor, class_="step")


def _style() -> Markup:
    return unsafe_raw(resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
