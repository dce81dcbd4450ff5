"""Steps 1, 2 and 6: refused without consent, asked, withdrawn."""

from __future__ import annotations

from collections.abc import Sequence

from facekeep.clock import to_rfc3339
from facekeep.consent import Purpose
from facekeep.demo.album import Role
from facekeep.demo.page.markup import Child, Markup, join, paragraph, table, tag
from facekeep.demo.record import Record, Refusal, Search
from facekeep.demo.words import listed


def refused_step(record: Record) -> Markup:
    """Return step 1: what the device answers to those who were not asked."""
    return join(
        paragraph(
            "The device is new. Nobody was asked for anything yet, so every call ends before the camera opens and before a model "
            "is even loaded. A meter between the device, its camera and its models counted. Later calls that no consent covers end "
            "the same way."
        ),
        _calls(record.refusals),
    )


def consent_step(record: Record) -> Markup:
    """Return step 2: the notice, and who agreed to what."""
    rows: list[tuple[Child, ...]] = [
        (
            grant.subject,
            *(_tick(purpose in grant.purposes) for purpose in (Purpose.ENROLMENT, Purpose.VERIFICATION, Purpose.IDENTIFICATION)),
            f"{grant.valid_until:%d %B %Y}",
            tag("code", grant.record_id.removeprefix("urn:uuid:")[:8], title=grant.record_id),
        )
        for grant in record.grants
    ]
    limited = [grant.subject for grant in record.grants if grant.role is Role.VERIFICATION_ONLY]
    return join(
        paragraph("Everybody is shown this text and chooses each purpose separately. The device signs a record of it."),
        tag("blockquote", record.notice),
        table("Recorded consents", ("Person", "Enrolment", "Verification", "Identification", "Until", "Record"), rows),
        paragraph(
            f"{listed(limited)} agreed to be verified, not to be searched for",
            ": see step 5." if set(limited) & set(record.enrolled) else ".",
        )
        if limited
        else None,
        paragraph(
            f"{listed(record.declined)} {'was' if len(record.declined) == 1 else 'were'} asked and said no. That is on record too, "
            "so that nobody asks again by mistake."
        )
        if record.declined
        else None,
    )


def withdrawal_step(record: Record) -> Markup:
    """Return step 6: the erasure receipt, and what became of calls for the one who left."""
    withdrawal = record.withdrawal
    receipt = tag(
        "dl",
        *_entry("Subject", withdrawal.subject),
        *_entry("Templates destroyed", withdrawal.references),
        *_entry("Erased at", to_rfc3339(withdrawal.erased_at)),
        *_entry("Time taken", f"{withdrawal.seconds * 1000:.0f} ms"),
        *_entry("Key epoch since", withdrawal.key_epoch),
        *_entry("Named in the trail as", tag("code", withdrawal.commitment)),
        class_="facts",
    )
    after = [search for search in record.searches if search.is_after_withdrawal]
    return join(
        paragraph(
            f"{withdrawal.subject} withdraws. The data key of this person and everything sealed under it are destroyed, and the "
            "key that wraps all others is changed, so that an older copy of the vault stays shut. This is the receipt:"
        ),
        tag("div", tag("h3", "Erasure receipt"), receipt, _checkpoint(withdrawal.checkpoint), class_="receipt"),
        tag("h3", "From then on"),
        _calls(withdrawal.refusals),
        _searches_after(record, after, withdrawal.subject) if after else None,
    )


def _checkpoint(text: str) -> Markup:
    return tag(
        "figure",
        tag("figcaption", "Signed checkpoint. Keep this text elsewhere: it shows later that nothing was cut from the trail."),
        tag("pre", tag("code", text.strip())),
    )


def _searches_after(record: Record, after: Sequence[Search], subject: str) -> Markup:
    rows: list[tuple[Child, ...]] = [
        (
            record.snapshots[search.picture].name,
            record.snapshots[search.picture].person or "not said",
            _before(record, search.picture),
            answer(search),
        )
        for search in after
    ]
    return join(
        paragraph(f"Searches with pictures of {subject}, and with one of somebody who stayed:"),
        table("Searches before and after the withdrawal", ("Picture", "Shows", "Before", "After"), rows),
    )


def _before(record: Record, picture: int) -> str:
    earlier = next((each for each in record.searches if each.picture == picture and not each.is_after_withdrawal), None)
    return answer(earlier) if earlier else "enrolled with it"


def answer(search: Search) -> str:
    """Return the answer of a search in words."""
    if search.outcome == "identified":
        return f"{search.candidates[0][0]} ({search.candidates[0][1]:.3f})"
    if search.outcome == "ambiguous":
        return "ambiguous: " + ", ".join(f"{subject} ({score:.3f})" for subject, score in search.candidates)
    return search.outcome


def _calls(refusals: Sequence[Refusal]) -> Markup:
    return tag("ul", *(_call(refusal) for refusal in refusals), class_="calls")


def _call(refusal: Refusal) -> Markup:
    reading = refusal.reading
    asked = [
        ("camera", reading.captures),
        ("model loading", reading.model_loads),
        ("detector", reading.detections),
        ("embedder", reading.embeddings),
    ]
    return tag(
        "li",
        tag("code", refusal.call, class_="call"),
        tag("div", tag("span", refusal.code, class_="code"), tag("span", refusal.message)),
        tag("div", "Asked meanwhile: ", ", ".join(f"{name} {count}" for name, count in asked), class_="small"),
    )


def _tick(is_given: bool) -> Markup:
    return tag("td", "yes" if is_given else "no", class_="yes" if is_given else "no")


def _entry(name: str, value: Child) -> tuple[Markup, Markup]:
    return tag("dt", name), tag("dd", value)
