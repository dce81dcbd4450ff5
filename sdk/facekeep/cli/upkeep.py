"""`facekeep init | doctor | selftest | demo`, `facekeep audit` and `facekeep keys`."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import EXIT_CODES, KEEP_HEAD, JsonOption, say, table
from facekeep.clock import to_rfc3339

audit_app = typer.Typer(help="The audit trail.", no_args_is_help=True)
keys_app = typer.Typer(help="The keys of the vault.", no_args_is_help=True)

DetectorOption = Annotated[str | None, typer.Option(help="Detection pack, or pack/build.")]
EmbedderOption = Annotated[str | None, typer.Option(help="Embedding pack, or pack/build.")]
PadOption = Annotated[list[str] | None, typer.Option("--pad", help="PAD pack; repeat for more, all have to agree.")]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module that stand at the root."""
    app.command()(init)
    app.command()(status)
    app.command()(doctor)
    app.command()(selftest)
    app.command()(demo)


def init(context: typer.Context, as_json: JsonOption = False) -> None:
    """Create vault, device key and audit trail. Asks for a passphrase unless a key option is given."""
    options = options_of(context)
    with options.create_device() as device:
        info = device.info()
    say(
        f"Device {info.vault_id} created at {options.home}. Public key {info.public_key}.\n"
        "Keep the key away from the backups of this directory: whoever has both has the templates.",
        {"vault_id": info.vault_id, "public_key": info.public_key, "home": str(options.home)},
        as_json=as_json,
    )


def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say which device this is, which models it uses, and whose templates those can compare."""
    with options_of(context).open_device() as device:
        info, templates = device.info(), device.templates_by_contract()
    models = info.models
    value = {
        "vault_id": info.vault_id,
        "public_key": info.public_key,
        "detector": models.detector if models else None,
        "embedder": models.embedder if models else None,
        "pads": list(models.pads) if models else [],
        "templates_by_contract": templates,
    }
    used = (
        f"{models.detector}, {models.embedder}; PAD: {', '.join(models.pads) or 'none'}"
        if models
        else "chosen at the first enrolment"
    )
    stored = ", ".join(f"{count} under {contract[:12]}" for contract, count in templates.items()) or "none"
    say(f"Device {info.vault_id}, public key {info.public_key}\nModels: {used}\nTemplates: {stored}", value, as_json=as_json)


@keys_app.command()
def rotate(context: typer.Context, as_json: JsonOption = False) -> None:
    """Re-wrap every data key under a new wrap key and destroy the old one."""
    with options_of(context).open_device() as device:
        epoch = device.rotate_keys()
    say(f"Rotated to key epoch {epoch}.", {"key_epoch": epoch}, as_json=as_json)


@audit_app.command("verify")
def audit_verify(
    context: typer.Context,
    log: Annotated[str | None, typer.Argument(help="Directory or address of a transparency log; none: this device.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Policy to audit the log by.")] = None,
    kept: Annotated[list[Path] | None, typer.Option(help="Signed checkpoint seen before, to be continued; repeat.")] = None,
    proof: Annotated[list[Path] | None, typer.Option(help="Proof of an entry of the log (.tlog-proof); repeat.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with an auditor's token, for a log server.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the device's own trail, or a whole transparency log by a policy. Exit code 10 if anything is not as it has to be."""
    if log is not None:
        from facekeep.cli.logs import verify_log

        verify_log(log, policy, kept or [], proof or [], as_json=as_json, token_file=token_file)
        return
    if policy or kept or proof or token_file:
        raise typer.BadParameter("--policy, --kept, --proof and --token-file go with a log: give its directory or address.")
    with options_of(context).open_device() as device:
        report = device.verify_trail()
        device.verify_vault()
        note = device.trail_note()
    value = {
        "entries": report.size,
        "root": report.root,
        "first": to_rfc3339(report.first_time) if report.first_time else None,
        "last": to_rfc3339(report.last_time) if report.last_time else None,
        "checkpoint": note,
    }
    say(f"The trail of {report.size} entries and the vault verify. {KEEP_HEAD}\n{note}", value, as_json=as_json)


@audit_app.command("show")
def audit_show(
    context: typer.Context,
    last: Annotated[int, typer.Option(min=1, help="How many entries, counted from the end.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the last entries of the trail."""
    with options_of(context).open_device() as device:
        entries = [json.loads(entry) for entry in device.trail_entries()[-last:]]
    rows = [
        (entry["seq"], entry["time"], entry["event"], entry["outcome"], (entry["subject"] or "")[:12], _details(entry["details"]))
        for entry in entries
    ]
    say(table(("#", "time", "event", "outcome", "subject", "details"), rows), {"entries": entries}, as_json=as_json)


def doctor(
    context: typer.Context,
    detector: DetectorOption = None,
    embedder: EmbedderOption = None,
    pad: PadOption = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of one inference session.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Say what is installed, which runtimes and packs work, the time of each stage and memory. Exit code 1 with problems."""
    from facekeep.doctor import examine

    options = options_of(context)
    report = examine(
        options.home, options.pack_store(), detector=detector, embedder=embedder, pads=tuple(pad or ()), threads=threads
    )
    say(report.render_text(), report.to_dict(), as_json=as_json)
    if not report.healthy:
        raise typer.Exit(1)


def selftest(
    context: typer.Context,
    detector: DetectorOption = None,
    embedder: EmbedderOption = None,
    pad: PadOption = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder of pictures, for packs that see real faces.")] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder to keep what the run wrote, for a closer look.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the main job under watch and prove that nothing derived from a picture leaves memory unsealed."""
    from facekeep.selftest import run_selftest

    options = options_of(context)
    report = run_selftest(
        detector=detector,
        embedder=embedder,
        pads=tuple(pad or ()),
        pictures=pictures,
        keep=keep,
        packs=options.pack_store(),
        progress=None if as_json else _line,
    )
    say(report.render_text(), asdict(report), as_json=as_json)
    if not report.passed:
        raise typer.Exit(EXIT_CODES["selftest"])


def demo(
    context: typer.Context,
    photos: Annotated[Path | None, typer.Option(help="Folder of photographs; people who do not exist if left out.")] = None,
    people: Annotated[str | None, typer.Option(help="Without photographs: synthetic (for real models) or drawn.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page; must be empty or one of ours.")] = Path("facekeep-demo"),
    detector: DetectorOption = None,
    embedder: EmbedderOption = None,
    pad: PadOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the main job, consent, enrol, verify, identify, withdraw, proof, and draw what happened."""
    from facekeep.demo import CASTS, run_demo, shown_progress

    cast = next((each for each in CASTS if each == people), None)
    if people is not None and cast is None:
        raise typer.BadParameter(f"People are {' or '.join(CASTS)}.", param_hint="--people")
    if cast is not None and photos is not None:
        raise typer.BadParameter("Name --photos or --people, not both.", param_hint="--people")
    options = options_of(context)
    with nullcontext() if as_json else shown_progress() as progress:
        report = run_demo(
            out=out,
            photos=photos,
            people=cast,
            packs=options.pack_store(),
            detector=detector,
            embedder=embedder,
            pads=tuple(pad or ()),
            policy=options.policy,
            progress=progress,
        )
    say(report.render_text(), report.to_json(), as_json=as_json)
    if not report.is_kept:
        raise typer.Exit(EXIT_CODES["demo"])


def _details(details: dict[str, Any]) -> str:
    return " ".join(f"{key}={value if value != '' else 'none'}" for key, value in details.items())


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
