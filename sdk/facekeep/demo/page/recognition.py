"""Steps 3, 4 and 5: enrolled, verified, identified and counted, picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from facekeep.demo.album import Role
from facekeep.demo.page.charts import point_in_words, score_matrix, score_plot
from facekeep.demo.page.consent import answer
from facekeep.demo.page.frames import GROUP_PX, Label, draw_frame, quality_bar
from facekeep.demo.page.markup import Child, Markup, join, paragraph, table, tag
from facekeep.demo.record import Comparison, EnrolmentOutcome, Record, Search, Snapshot
from facekeep.demo.words import people

_MOST_LINES: Final = 6
_FACES_ARE_COUNTED: Final = frozenset({"acquisition.no_face", "acquisition.several_faces"})


def enrolment_step(record: Record) -> Markup:
    """Return step 3: the pictures that made templates, and those that were refused."""
    cards = [_enrolment(record, enrolment) for enrolment in record.enrolments]
    with_others = {each.subject for each in record.comparisons if each.is_mated}
    alone = [subject for subject in record.enrolled if subject not in with_others]
    return join(
        paragraph(
            "From each picture: one face, aligned by its five landmarks, measured against the quality floor, embedded. The mean of "
            "a person's samples is sealed and stored; the pictures are not. The bar is the quality; in brackets its weakest part. "
            "Each part has its own floor: of two pictures with the same quality one may be admitted and the other refused for a "
            "part that lies below."
        ),
        tag("ul", *cards, class_="cards"),
        *(
            paragraph(f"{subject} was enrolled with the only picture there is: no mated comparison is possible.", class_="small")
            for subject in alone
        ),
        *(
            paragraph(
                f"{subject} could not be enrolled: no picture was admitted, the last one refused with ",
                tag("code", reason),
                ". There is no template to compare with or to find.",
            )
            for subject, reason in record.not_enrolled
        ),
    )


def _enrolment(record: Record, enrolment: EnrolmentOutcome) -> Markup:
    figures = []
    # Refused together, they have one reason; refused beside others, a picture has its own.
    is_shared = enrolment.reference_id is None and len(enrolment.frames) > 1
    for frame in enrolment.frames:
        snapshot = record.snapshots[frame.picture]
        admitted = frame.refused_with is None
        label = Label(f"{enrolment.subject}: {'enrolled' if admitted else 'refused'}", "good" if admitted else "bad")
        words = "admitted to enrolment" if admitted else f"refused with {frame.refused_with}: {frame.message}"
        reason = None if is_shared else _reason(frame.refused_with, frame.message)
        figures.append(_figure(snapshot, label, f"{_described(snapshot)}; {words}", reason))
    if enrolment.reference_id is not None:
        outcome = tag(
            "p",
            "reference ",
            tag("code", enrolment.reference_id.removeprefix("urn:uuid:")[:8], title=enrolment.reference_id),
            f", {enrolment.seconds * 1000:.0f} ms",
            class_="small",
        )
    else:
        outcome = join(
            _reason(enrolment.code, enrolment.message) if is_shared else None, paragraph("no template was made", class_="small")
        )
    # Side by side they need the room of two cards, or three, or the reason of a refusal becomes a narrow column.
    width = {1: None, 2: "two"}.get(len(figures), "three")
    return tag(
        "li", tag("h3", enrolment.subject), tag("div", *figures, class_=f"row {width}" if width else None), outcome, class_=width
    )


def verification_step(record: Record) -> Markup:
    """Return step 4: scores against the threshold, the table of all of them, and each probe."""
    point, subjects = record.models.point, list(dict.fromkeys(record.enrolled))
    if point is None or not any(each.score is not None for each in record.comparisons):
        return paragraph("There was nothing to compare.")
    probes = list(dict.fromkeys(each.picture for each in record.comparisons))
    cards = [_probe(record, probe, [each for each in record.comparisons if each.picture == probe]) for probe in probes]
    return join(
        paragraph(
            "Each picture is held against the template of its own person (mated) and of everybody else (non-mated). At and above "
            f"the threshold it is a match. The threshold comes with the rate it was measured at: {point_in_words(point)}, "
            f"{point.non_mated:,} non-mated comparisons, FNMR {point.fnmr * 100:.2g} %, measured on {point.dataset}."
        ),
        tag("h3", "Scores against the threshold"),
        tag(
            "figure",
            score_plot(subjects, record.comparisons, record.snapshots, point),
            tag(
                "figcaption",
                "Cosine of probe and template. ",
                tag("span", "Discs above each line", class_="key mated"),
                ": mated, should lie right of the threshold. ",
                tag("span", "Diamonds below", class_="key other"),
                ": non-mated, should lie left of it. A ring marks a wrong decision. The table has every number.",
            ),
            class_="chart",
        ),
        score_matrix(subjects, record.comparisons, record.snapshots),
        tag("h3", "Picture by picture"),
        tag("ul", *cards, class_="cards"),
    )


def _probe(record: Record, probe: int, comparisons: Sequence[Comparison]) -> Markup:
    snapshot = record.snapshots[probe]
    first = comparisons[0]
    if first.is_match is None:
        label, lines = Label("refused", "bad"), [_reason(first.code, first.message)]
        words = f"refused with {first.code}"
    else:
        label = _probe_label(comparisons)
        lines = [tag("ul", *(_line(each) for each in comparisons[:_MOST_LINES]), class_="lines")]
        if len(comparisons) > _MOST_LINES:
            lines.append(paragraph(f"and {len(comparisons) - _MOST_LINES} more claims in the table above", class_="small"))
        words = "; ".join(f"claimed to be {each.subject}: {_decision(each)} {each.score or 0.0:.2f}" for each in comparisons)
    return tag("li", _figure(snapshot, label, f"{_described(snapshot)}; {words}", *lines))


def _probe_label(comparisons: Sequence[Comparison]) -> Label:
    """Return what stands over the face: a wrong decision if there is one, else the mated one, else the nearest of the others."""
    wrong = next((each for each in comparisons if each.is_right is False), None)
    mated = next((each for each in comparisons if each.is_mated), None)
    shown = wrong or mated or max(comparisons, key=lambda each: each.score or -1.0)
    name = shown.subject if shown.is_mated else f"as {shown.subject}"
    text = f"{name}: {_decision(shown)} {shown.score or 0.0:.2f}"
    # Green is for who was recognised. A stranger who is kept apart is as right, but nobody was found.
    return Label(f"{text}, wrong", "bad") if wrong else Label(text, "good" if shown.is_match else "plain")


def identification_step(record: Record) -> Markup:
    """Return step 5: searches in an open set, and the faces of all other pictures counted."""
    searches = [search for search in record.searches if not search.is_after_withdrawal]
    compared = {each.picture for each in record.comparisons}
    named = [search for search in searches if record.snapshots[search.picture].person is not None]
    other = [search for search in searches if search.picture not in compared and search not in named]
    made = [search for search in searches if search.is_search]
    limited = [
        grant.subject for grant in record.grants if grant.role is Role.VERIFICATION_ONLY and grant.subject in record.enrolled
    ]
    threshold = next((search.threshold for search in made if search.threshold is not None), None)
    return join(
        paragraph(
            "Who is this, if anyone? The device searches the templates of those who agreed to identification, and nobody else's. "
            "It may answer “unknown”, or “ambiguous” where two people are too close to tell apart. ",
            f"{people(len(record.searchable))} with a template can be found; for a gallery of that size the threshold is "
            f"{threshold:.3f}. "
            if record.searchable and threshold is not None
            else None,
            f"{limited[0]} is enrolled but agreed to verification only: a search must not find them." if limited else None,
        ),
        table(
            "Every search with a picture of a known person",
            ("Picture", "Shows", "Right answer", "Answer", "Right"),
            [_search_row(record, search) for search in named],
        )
        if named
        else None,
        _everything_else(record, other) if other else None,
    )


def _everything_else(record: Record, searches: Sequence[Search]) -> Markup:
    return join(
        tag("h3", "Everything else in the album: faces counted"),
        paragraph(
            "Every picture without a person's name is shown to the same call. With one face it is a search; with none or several "
            "it is refused, and the faces that the detector found are counted."
        ),
        tag("ul", *(_count(record, search) for search in searches), class_="cards wide"),
    )


def _search_row(record: Record, search: Search) -> tuple[Child, ...]:
    snapshot = record.snapshots[search.picture]
    if search.is_right is None:
        verdict = tag("td", "refused" if not search.is_search else "not said", class_="none")
    else:
        verdict = tag("td", "yes" if search.is_right else "no", class_="yes" if search.is_right else "wrong")
    return (snapshot.name, snapshot.person or "not said", search.expected or "unknown", answer(search), verdict)


def _count(record: Record, search: Search) -> Markup:
    snapshot = record.snapshots[search.picture]
    found = len(snapshot.detections)
    label = None
    if found == 1 and search.is_search:
        label = Label(f"search: {answer(search)}")
    if snapshot.size_px is None:
        counted: Child = None
    elif snapshot.faces is None:
        counted = paragraph(tag("b", _faces(found)), " found. Nobody said how many there are.")
    else:
        right = found == snapshot.faces
        counted = paragraph(
            tag("span", "right" if right else "wrong", class_="mark good" if right else "mark bad"),
            tag("b", _faces(found)),
            f" found, {snapshot.faces} stated.",
        )
    reply: Markup | None
    if search.is_search or search.outcome in _FACES_ARE_COUNTED:
        reply = paragraph("identify: ", answer(search) if search.is_search else tag("code", search.outcome), class_="small")
    else:
        reply = _reason(search.outcome, search.message)
    return tag("li", _figure(snapshot, label, f"{snapshot.name}: {_faces(found)} found", counted, reply, fit=GROUP_PX))


def _figure(snapshot: Snapshot, label: Label | None, alt: str, *below: Child, fit: tuple[float, float] | None = None) -> Markup:
    drawing = draw_frame(snapshot, label, alt, fit) if fit else draw_frame(snapshot, label, alt)
    quality = quality_bar(snapshot.quality) if snapshot.quality is not None else None
    name = tag("span", snapshot.name, class_="name")
    return tag("figure", tag("div", drawing, class_="mat"), tag("figcaption", name, quality, *below))


def _line(comparison: Comparison) -> Markup:
    wrong = ", wrong" if comparison.is_right is False else ""
    kind = "mated" if comparison.is_mated else "other"
    return tag(
        "li",
        tag("span", f"as {comparison.subject}", class_=f"key {kind}"),
        tag("span", f"{_decision(comparison)} {comparison.score or 0.0:.3f}{wrong}", class_="wrong" if wrong else None),
    )


def _reason(refused_with: str | None, message: str | None) -> Markup | None:
    if refused_with is None:
        return None
    return paragraph(tag("span", refused_with, class_="code"), message, class_="refusal")


def _decision(comparison: Comparison) -> str:
    return "match" if comparison.is_match else "non-match"


def _described(snapshot: Snapshot) -> str:
    quality = f", quality {snapshot.quality.score} of 100" if snapshot.quality else ""
    return f"{snapshot.name}, {snapshot.person or 'not said who'}, {_faces(len(snapshot.detections))} found{quality}"


def _faces(count: int) -> str:
    return "no face" if count == 0 else "1 face" if count == 1 else f"{count} faces"
