"""`facekeep consent`: record, show and end consent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import JsonOption, say, table
from facekeep.cli.reading import read_small_text
from facekeep.clock import to_rfc3339
from facekeep.consent import Lifecycle, Notice, Purpose
from facekeep.errors import ConsentError

app = typer.Typer(help="Record, show and end consent.", no_args_is_help=True)

SubjectArgument = Annotated[str, typer.Argument(help="Your identifier of the subject.")]
PurposeOption = Annotated[
    list[Purpose], typer.Option("--purpose", "-p", metavar="PURPOSE", help=f"One of {', '.join(Purpose)}; repeat for more.")
]
NoticeOption = Annotated[
    Path, typer.Option("--notice", help="Text file with the notice the subject was shown; only its hash is kept.")
]
LanguageOption = Annotated[str, typer.Option(help="BCP 47 tag of the notice's language.")]
VersionOption = Annotated[str, typer.Option("--notice-version", help="Your version mark of the notice.")]


@app.command()
def grant(
    context: typer.Context,
    subject: SubjectArgument,
    notice: NoticeOption,
    purpose: PurposeOption,
    valid_for: Annotated[str, typer.Option(help="ISO 8601 duration, such as P30D.")],
    language: LanguageOption = "en",
    notice_version: VersionOption = "1",
    as_json: JsonOption = False,
) -> None:
    """Record that a subject, shown the notice, agreed to the purposes named."""
    shown = _read_notice(notice, language, notice_version)
    with options_of(context).open_device() as device:
        given = device.consents.grant(subject, purposes=purpose, valid_for=valid_for, notice=shown)
    purposes = sorted(given.purposes)
    until = to_rfc3339(given.record.valid_until)
    value = {
        "record_id": given.record.record_id,
        "state": given.record.state,
        "purposes": purposes,
        "valid_from": to_rfc3339(given.record.valid_from),
        "valid_until": until,
        "notice_sha256": given.record.notice_sha256,
    }
    say(f"Consent {given.record.state} for {', '.join(purposes)} until {until}.", value, as_json=as_json)


@app.command()
def refuse(
    context: typer.Context,
    subject: SubjectArgument,
    notice: NoticeOption,
    purpose: PurposeOption,
    language: LanguageOption = "en",
    notice_version: VersionOption = "1",
    as_json: JsonOption = False,
) -> None:
    """Record that a subject said no."""
    shown = _read_notice(notice, language, notice_version)
    with options_of(context).open_device() as device:
        device.consents.refuse(subject, purposes=purpose, notice=shown)
    say(f"Refusal recorded for {', '.join(sorted(purpose))}.", {"refused": sorted(purpose)}, as_json=as_json)


@app.command()
def show(context: typer.Context, subject: SubjectArgument, as_json: JsonOption = False) -> None:
    """Show every record of a subject, oldest first, signatures checked."""
    with options_of(context).open_device() as device:
        records = device.consents.records(subject)
        summary = device.consents.summary(subject)
    value = {
        "state": summary.state,
        "in_force": sorted(summary.purposes),
        "agreed": sorted(summary.agreed),
        "records": [
            {
                "record_id": record.record_id,
                "state": record.state,
                "purposes": sorted(record.purposes),
                "valid_from": to_rfc3339(record.valid_from),
                "valid_until": to_rfc3339(record.valid_until),
                "recorded_at": to_rfc3339(record.recorded_at),
                "notice_sha256": record.notice_sha256,
                "notice_language": record.notice_language,
                "notice_version": record.notice_version,
            }
            for record in records
        ],
    }
    rows = [
        (
            to_rfc3339(record.recorded_at),
            record.state,
            ", ".join(sorted(record.purposes)),
            to_rfc3339(record.valid_until) if record.state in (Lifecycle.GIVEN, Lifecycle.RENEWED) else "",
        )
        for record in records
    ]
    say(f"Now: {summary.state}.\n{table(('recorded', 'state', 'purposes', 'until'), rows)}", value, as_json=as_json)


@app.command()
def withdraw(context: typer.Context, subject: SubjectArgument, purpose: PurposeOption, as_json: JsonOption = False) -> None:
    """End consent for some purposes, keeping the rest. To end all of it and erase: `facekeep withdraw`."""
    with options_of(context).open_device() as device:
        device.consents.withdraw(subject, purposes=purpose)
    say(f"Withdrawn: {', '.join(sorted(purpose))}.", {"withdrawn": sorted(purpose)}, as_json=as_json)


def _read_notice(path: Path, language: str, version: str) -> Notice:
    try:
        return Notice(read_small_text(path), language, version)
    except (OSError, ValueError):
        raise ConsentError(
            "consent.invalid_request", f"The notice cannot be read from {path}: it is a text file in UTF-8."
        ) from None
