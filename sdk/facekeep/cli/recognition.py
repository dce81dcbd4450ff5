"""`facekeep enrol | verify | identify | withdraw | list`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facekeep.capture import OpenCVCamera, expand_sources
from facekeep.cli.confirmations import say_identification, say_pending
from facekeep.cli.opening import options_of
from facekeep.cli.output import EXIT_CODES, EXIT_NON_MATCH, KEEP_HEAD, JsonOption, say, table
from facekeep.clock import to_rfc3339
from facekeep.confirmation import PendingIdentification
from facekeep.consent import Purpose
from facekeep.errors import AcquisitionError
from facekeep.flows.acquisition import Source

SubjectArgument = Annotated[str, typer.Argument(help="Your identifier of the subject.")]
SourcesArgument = Annotated[list[str], typer.Argument(help="Picture files, directories of pictures, or camera:0.")]
SourceArgument = Annotated[str, typer.Argument(help="A picture file, or camera:0.")]
DetectorOption = Annotated[str | None, typer.Option(help="Detection pack, or pack/build.")]
EmbedderOption = Annotated[str | None, typer.Option(help="Embedding pack, or pack/build.")]
PadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--pad", metavar="PACK", help='PAD pack for every call from now on; repeat for more, all have to agree; "none" for none.'
    ),
]
SwitchOption = Annotated[
    bool, typer.Option("--switch-models", help="Use other models although templates are stored; those are of no use then.")
]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command()(enrol)
    app.command()(verify)
    app.command()(identify)
    app.command()(withdraw)
    app.command("list")(list_subjects)


def enrol(
    context: typer.Context,
    subject: SubjectArgument,
    sources: SourcesArgument,
    detector: DetectorOption = None,
    embedder: EmbedderOption = None,
    pad: PadOption = None,
    switch_models: SwitchOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a sealed template of a subject who consented to it."""
    pictures = pictures_of(sources)
    pads = [] if pad == ["none"] else pad
    choices = {"detector": detector, "embedder": embedder, "pads": pads, "switch_models": switch_models}
    with options_of(context).open_device(**choices) as device:
        grant = device.consents.require(subject, Purpose.ENROLMENT)
        receipt = device.enrol(subject, pictures, grant)
        models = device.info().models
    frames = [
        {
            "admitted": frame.admitted,
            "quality": frame.quality.score if frame.quality else None,
            "refused_with": frame.refused_with,
            "message": frame.message,
        }
        for frame in receipt.frames
    ]
    used = sum(frame.admitted for frame in receipt.frames)
    text = f"Enrolled from {used} of {len(frames)} frames, quality {receipt.quality} of 100. Reference {receipt.reference_id}."
    refused = [f"  frame {number}: {frame.message}" for number, frame in enumerate(receipt.frames, 1) if not frame.admitted]
    if models is not None:
        refused.append(f"Models: {models.detector}, {models.embedder}; PAD: {', '.join(models.pads) or 'none'}.")
    value = {
        "reference_id": receipt.reference_id,
        "contract_id": receipt.contract_id,
        "enrolled_at": to_rfc3339(receipt.enrolled_at),
        "quality": receipt.quality,
        "frames": frames,
    }
    say("\n".join([text, *refused]), value, as_json=as_json)


def verify(
    context: typer.Context,
    subject: SubjectArgument,
    source: SourceArgument,
    target_fmr: Annotated[float, typer.Option(min=1e-9, max=0.5, help="False match rate to decide at.")] = 1e-3,
    as_json: JsonOption = False,
) -> None:
    """Decide whether the face in a picture is the subject. Exit code 0: match; 3: non-match."""
    with options_of(context).open_device() as device:
        decision = device.verify(subject, _single_source(source), target_fmr=target_fmr)
    point = decision.operating_point
    value = {
        "match": decision.is_match,
        "fmr": point.fmr,
        "fmr_interval": point.fmr_interval,
        "fnmr": point.fnmr,
        "measured_on": point.dataset,
    }
    data = point.dataset.split(":", 1)[0]
    text = (
        f"{'Match' if decision.is_match else 'Non-match'} at a false match rate of {point.fmr:g} (FNMR {point.fnmr:.2%} on {data})."
    )
    say(text, value, as_json=as_json)
    if not decision.is_match:
        raise typer.Exit(EXIT_NON_MATCH)


def identify(
    context: typer.Context,
    source: SourceArgument,
    target_fpir: Annotated[float, typer.Option(min=1e-9, max=0.5, help="False positive identification rate of the search.")] = 1e-2,
    margin: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lead over the runner-up, in cosine.")] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Find who this is among those who consented to it. Exit code 0: identified; 3: ambiguous or unknown; 17: sealed."""
    with options_of(context).open_device() as device:
        result = device.identify(_single_source(source), target_fpir=target_fpir, margin=margin)
    if isinstance(result, PendingIdentification):
        say_pending(result, as_json=as_json)
        raise typer.Exit(EXIT_CODES["confirmation"])
    say_identification(result, as_json=as_json)


def withdraw(
    context: typer.Context,
    subject: SubjectArgument,
    receipt: Annotated[Path | None, typer.Option(help="File to write the erasure receipt to.")] = None,
    as_json: JsonOption = False,
) -> None:
    """End every consent of a subject at once and destroy what was stored under it."""
    with options_of(context).open_device() as device:
        erased = device.withdraw(subject)
    value = erased.to_json()
    if receipt is not None:
        _write_receipt(receipt, value)
    say(
        f"Withdrawn and erased: {erased.references} template(s) destroyed, keys rotated to epoch {erased.key_epoch}.\n"
        f"{KEEP_HEAD}\n{erased.checkpoint}",
        value,
        as_json=as_json,
    )


def list_subjects(context: typer.Context, as_json: JsonOption = False) -> None:
    """List everyone on record: purposes in force now, until when, how many templates."""
    with options_of(context).open_device() as device:
        subjects = device.subjects()
    value = {
        "subjects": [
            {
                "subject": summary.subject,
                "state": summary.state,
                "purposes": sorted(summary.purposes),
                "agreed": sorted(summary.agreed),
                "valid_until": to_rfc3339(summary.valid_until) if summary.valid_until else None,
                "references": summary.references,
            }
            for summary in subjects
        ]
    }
    rows = [
        (
            summary.subject,
            summary.state,
            ", ".join(sorted(summary.agreed)),
            to_rfc3339(summary.valid_until) if summary.valid_until else "",
            summary.references,
        )
        for summary in subjects
    ]
    say(
        table(("subject", "state", "purposes", "until", "templates"), rows) if rows else "Nobody is on record.",
        value,
        as_json=as_json,
    )


def pictures_of(arguments: list[str]) -> list[Source]:
    """Return the pictures that arguments name: files, directories, cameras."""
    return [picture for argument in arguments for picture in _sources(argument)]


def _sources(argument: str) -> list[Source]:
    return [_source(item) for item in expand_sources(argument)]


def _single_source(argument: str) -> Source:
    found = _sources(argument)
    if len(found) != 1:
        raise AcquisitionError("acquisition.unreadable", f"One picture is expected; {argument} holds {len(found)}.")
    return found[0]


def _source(item: str | Path) -> Source:
    if isinstance(item, str) and item.startswith("camera:"):
        return OpenCVCamera(int(item.removeprefix("camera:")))
    return item


def _write_receipt(path: Path, value: dict[str, object]) -> None:
    import json

    try:
        path.expanduser().write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        # The erasure is done and in the trail; only the copy of its receipt could not be written.
        typer.echo(f"The erasure is done, but its receipt cannot be written to {path}: {error.strerror}.", err=True)
