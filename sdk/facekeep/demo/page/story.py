"""The demo in a few pictures, at the top of the page: the first example of everything that happened, right or wrong."""

from __future__ import annotations

from dataclasses import dataclass

from facekeep.demo.album import Role
from facekeep.demo.page.frames import Label, draw_frame
from facekeep.demo.page.markup import Child, Markup, code, join, paragraph, tag
from facekeep.demo.record import Comparison, Record, Search
from facekeep.demo.words import counted


@dataclass(frozen=True, slots=True)
class _Card:
    """One picture of the story.

    Attributes:
        title: what happened, in a few words.
        step: anchor of the step that has more.
        text: a sentence or two.
        picture: number of the snapshot; None where no picture was taken.
        label: what stands over the face.
    """

    title: str
    step: str
    text: Child
    picture: int | None = None
    label: Label | None = None


def story(record: Record) -> Markup | None:
    """Return the strip, or None where too little happened to tell."""
    made = (
        _refused_unasked(record),
        _enrolled(record),
        _verified(record),
        _stranger(record),
        _not_searched_for(record),
        _bad_picture(record),
        _crowd(record),
        _withdrawn(record),
    )
    cards = [card for card in made if card is not None]
    if len(cards) < 3:
        return None
    return tag(
        "section",
        tag("h2", "What happened"),
        paragraph("The first example of each, right or wrong; the steps below have all of them.", class_="small"),
        tag("ol", *(_drawn(record, card) for card in cards), class_="story"),
        id="story",
    )


def _drawn(record: Record, card: _Card) -> Markup:
    if card.picture is None:
        picture = tag("div", "no picture was taken", class_="unread")
    else:
        snapshot = record.snapshots[card.picture]
        said = f": {card.label.text}" if card.label else ""
        picture = draw_frame(snapshot, card.label, f"{card.title}. {snapshot.name}{said}")
    heading = tag("h3", tag("a", card.title, href=f"#{card.step}"))
    return tag("li", tag("div", picture, class_="mat"), heading, paragraph(card.text))


def _refused_unasked(record: Record) -> _Card | None:
    first = next(iter(record.refusals), None)
    if first is None:
        return None
    seen = "neither the camera nor a model is asked" if first.reading.is_nothing else "yet camera or model were asked"
    return _Card("Nobody was asked yet", "refused", join("Every call ends in ", code(first.code), f": {seen}."))


def _enrolled(record: Record) -> _Card | None:
    enrolment = next((each for each in record.enrolments if each.reference_id is not None), None)
    if enrolment is None:
        return None
    frame = next(frame for frame in enrolment.frames if frame.refused_with is None)
    return _Card(
        f"{enrolment.subject} agrees and is enrolled",
        "enrol",
        "One face, five landmarks, quality measured. The template is sealed; the picture is not kept.",
        frame.picture,
        Label(f"{enrolment.subject}: enrolled", "good"),
    )


def _verified(record: Record) -> _Card | None:
    comparison = next((each for each in record.comparisons if each.is_mated and each.score is not None), None)
    point = record.models.point
    if comparison is None or point is None:
        return None
    return _Card(
        f"Is this {comparison.subject}?",
        "verify",
        f"Score {_score(comparison)}, threshold {point.threshold:.2f}: {_decision(comparison)}. The threshold was measured: "
        f"about one stranger in {1 / point.fmr:,.0f} gets over it.",
        comparison.picture,
        Label(f"{comparison.subject}: {_decision(comparison)} {_score(comparison)}", "good" if comparison.is_match else "bad"),
    )


def _stranger(record: Record) -> _Card | None:
    outsiders = {*record.strangers, *record.declined}
    search = _first_search(record, outsiders, prefer=record.strangers)
    if search is None:
        return None
    person = record.snapshots[search.picture].person or ""
    why = "was never asked" if person in record.strangers else "said no"
    return _Card(
        f"Who is this? {_answered(search)}",
        "identify",
        f"{person} {why} and has no template. The search compares, finds nobody near enough and says so."
        if search.is_right
        else f"{person} {why} and has no template, yet the search named somebody: a false match.",
        search.picture,
        _label(search),
    )


def _not_searched_for(record: Record) -> _Card | None:
    limited = {grant.subject for grant in record.grants if grant.role is Role.VERIFICATION_ONLY} & set(record.enrolled)
    search = _first_search(record, limited)
    if search is None:
        return None
    person = record.snapshots[search.picture].person or ""
    return _Card(
        f"Enrolled, still {_answered(search).lower()}",
        "identify",
        f"{person} agreed to be verified, not to be searched for. A search does not even look at this template.",
        search.picture,
        _label(search),
    )


def _bad_picture(record: Record) -> _Card | None:
    refused = next((each for each in record.comparisons if each.is_match is None), None)
    if refused is None:
        return None
    name = record.snapshots[refused.picture].name
    text = join(f"{name}: ", code(refused.code), ". Too poor to compare, so nothing is compared.")
    return _Card("A picture is refused", "verify", text, refused.picture, Label("refused", "bad"))


def _crowd(record: Record) -> _Card | None:
    search = next((each for each in record.searches if each.outcome == "acquisition.several_faces"), None)
    if search is None:
        return None
    found = len(record.snapshots[search.picture].detections)
    text = f"{counted(found, 'face', 'faces')} found, which one is meant? Nobody is recognised in passing."
    return _Card("Several people at once", "identify", text, search.picture)


def _withdrawn(record: Record) -> _Card | None:
    subject = record.withdrawal.subject
    search = next(
        (
            each
            for each in record.searches
            if each.is_after_withdrawal and each.is_search and record.snapshots[each.picture].person == subject
        ),
        None,
    )
    if search is None:
        return None
    before = next((each for each in record.searches if each.picture == search.picture and not each.is_after_withdrawal), None)
    then = f"The same picture was found as {before.candidates[0][0]} before. " if before and before.candidates else ""
    return _Card(
        f"{subject} withdraws: {_answered(search).lower()}",
        "withdraw",
        f"{then}The template and its key are destroyed; an older copy of the vault stays shut.",
        search.picture,
        _label(search),
    )


def _first_search(record: Record, people: set[str], prefer: tuple[str, ...] = ()) -> Search | None:
    made = [each for each in record.searches if each.is_search and record.snapshots[each.picture].person in people]
    return next((each for each in made if record.snapshots[each.picture].person in prefer), next(iter(made), None))


def _label(search: Search) -> Label:
    return Label(f"search: {_answered(search).lower()}", "plain" if search.is_right is not False else "bad")


def _answered(search: Search) -> str:
    return search.candidates[0][0] if search.outcome == "identified" else search.outcome.capitalize()


def _decision(comparison: Comparison) -> str:
    return "match" if comparison.is_match else "non-match, wrong"


def _score(comparison: Comparison) -> str:
    return f"{comparison.score or 0.0:.2f}"
