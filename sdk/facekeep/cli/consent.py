"""`facekeep consent`: ask for, record, show and end consent; the policy it is judged by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from facekeep.cli import controller, receipts, revocations
from facekeep.cli.opening import options_of
from facekeep.cli.output import JsonOption, say, table
from facekeep.cli.reading import read_small_text
from facekeep.clock import to_rfc3339
from facekeep.consent import ConsentPolicy, Lifecycle, Notice, Purpose, WrittenRelease, proofs_of
from facekeep.errors import ConsentError

app = typer.Typer(help="Record, show, prove and end consent.", no_args_is_help=True)
policy_app = typer.Typer(help="What consents are judged by.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
receipts.add_commands(app)
app.add_typer(controller.app, name="controller")
app.add_typer(revocations.app, name="revocations")

SubjectArgument = Annotated[str, typer.Argument(help="Your identifier of the subject.")]
PurposeOption = Annotated[
    list[Purpose], typer.Option("--purpose", "-p", metavar="PURPOSE", help=f"One of {', '.join(Purpose)}; repeat for more.")
]
NoticeOption = Annotated[
    Path, typer.Option("--notice", help="Text file with the notice the subject was shown; only its hash is kept.")
]
LanguageOption = Annotated[str, typer.Option(help="BCP 47 tag of the notice's language.")]
GuardianOption = Annotated[
    str | None, typer.Option(help="Your identifier of the guardian who answers for a minor; only a pseudonym is kept.")
]
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
    guardian: GuardianOption = None,
    release: Annotated[
        Path | None, typer.Option(help="Text of the written release that was signed (BIPA); its hash is kept.")
    ] = None,
    release_term: Annotated[str, typer.Option(help="Term of the release, ISO 8601, at most P3Y.")] = "P3Y",
    as_json: JsonOption = False,
) -> None:
    """Record that a subject, shown the notice, agreed to the purposes named."""
    shown = read_notice(notice, language, notice_version)
    signed = None if release is None else WrittenRelease.of(_read_text(release, "release"), term=release_term)
    with options_of(context).open_device() as device:
        given = device.consents.grant(
            subject, purposes=purpose, valid_for=valid_for, notice=shown, guardian=guardian, release=signed
        )
    purposes = sorted(given.purposes)
    until = to_rfc3339(given.record.valid_until)
    value = {
        "record_id": given.record.record_id,
        "state": given.record.state,
        "purposes": purposes,
        "valid_from": to_rfc3339(given.record.valid_from),
        "valid_until": until,
        "notice_sha256": given.record.notice_sha256,
        "actor": given.record.actor.kind,
    }
    say(f"Consent {given.record.state} for {', '.join(purposes)} until {until}.", value, as_json=as_json)


@app.command()
def request(
    context: typer.Context,
    subject: SubjectArgument,
    notice: NoticeOption,
    purpose: PurposeOption,
    language: LanguageOption = "en",
    notice_version: VersionOption = "1",
    guardian: GuardianOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record that a subject was shown the notice and asked. It allows nothing."""
    shown = read_notice(notice, language, notice_version)
    with options_of(context).open_device() as device:
        record = device.consents.request(subject, purposes=purpose, notice=shown, guardian=guardian)
    value = {"requested": sorted(purpose), "record_id": record.record_id}
    say(f"Asked for {', '.join(sorted(purpose))}. Record the answer with grant or refuse.", value, as_json=as_json)


@app.command()
def refuse(
    context: typer.Context,
    subject: SubjectArgument,
    notice: NoticeOption,
    purpose: PurposeOption,
    language: LanguageOption = "en",
    notice_version: VersionOption = "1",
    guardian: GuardianOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record that a subject said no."""
    shown = read_notice(notice, language, notice_version)
    with options_of(context).open_device() as device:
        device.consents.refuse(subject, purposes=purpose, notice=shown, guardian=guardian)
    say(f"Refusal recorded for {', '.join(sorted(purpose))}.", {"refused": sorted(purpose)}, as_json=as_json)


@app.command()
def show(context: typer.Context, subject: SubjectArgument, as_json: JsonOption = False) -> None:
    """Show every record of a subject, oldest first, signatures checked."""
    with options_of(context).open_device() as device:
        records, chain = device.consents.records(subject), device.consents.chain(subject)
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
                "actor": record.actor.kind,
                "written_release": record.release is not None,
                "depends_on": record.dependence.issuer if record.dependence else None,
                "controller_signatures": [proof.controller for proof in proofs_of(signed)],
            }
            for record, signed in zip(records, chain, strict=True)
        ],
    }
    rows = [
        (
            to_rfc3339(record.recorded_at),
            record.state,
            ", ".join(sorted(record.purposes)),
            to_rfc3339(record.valid_until) if record.state in (Lifecycle.GIVEN, Lifecycle.RENEWED) else "",
            record.actor.kind,
            ", ".join(proof.controller for proof in proofs_of(signed)) or "none",
        )
        for record, signed in zip(records, chain, strict=True)
    ]
    head = ("recorded", "state", "purposes", "until", "by", "controller's signature")
    say(f"Now: {summary.state}.\n{table(head, rows)}", value, as_json=as_json)


@app.command()
def withdraw(
    context: typer.Context,
    subject: SubjectArgument,
    purpose: PurposeOption,
    guardian: GuardianOption = None,
    as_json: JsonOption = False,
) -> None:
    """End consent for some purposes, keeping the rest. To end all of it and erase: `facekeep withdraw`."""
    with options_of(context).open_device() as device:
        device.consents.withdraw(subject, purposes=purpose, guardian=guardian)
    say(f"Withdrawn: {', '.join(sorted(purpose))}.", {"withdrawn": sorted(purpose)}, as_json=as_json)


@app.command()
def expire(context: typer.Context, as_json: JsonOption = False) -> None:
    """Put the end of every consent that is over on record. The gate refuses them without it."""
    with options_of(context).open_device() as device:
        count = device.consents.record_expired()
    say(f"{count} consent(s) recorded as expired.", {"expired": count}, as_json=as_json)


@policy_app.command("set")
def set_policy(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="TOML file.")],
    as_json: JsonOption = False,
) -> None:
    """Put a consent policy in force."""
    policy = ConsentPolicy.parse_toml(_read_text(file, "policy"))
    with options_of(context).open_device() as device:
        device.consents.set_policy(policy)
    say("The consent policy is in force.", json.loads(policy.to_bytes()), as_json=as_json)


@policy_app.command("show")
def show_policy(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the consent policy in force."""
    with options_of(context).open_device() as device:
        value = json.loads(device.consents.policy().to_bytes())
    say(json.dumps(value, indent=2), value, as_json=as_json)


def read_notice(path: Path, language: str, version: str) -> Notice:
    """Return the notice in a text file.

    Raises:
        ConsentError: "consent.invalid_request".
    """
    return Notice(_read_text(path, "notice"), language, version)


def _read_text(path: Path, what: str) -> str:
    try:
        return read_small_text(path)
    except (OSError, ValueError):
        raise ConsentError(
            "consent.invalid_request", f"The {what} cannot be read from {path}: it is a text file in UTF-8."
        ) from None
