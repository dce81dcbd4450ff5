"""`facekeep log`: the transparency log that this device submits its trail to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import JsonOption, say
from facekeep.cli.reading import read_small_text
from facekeep.errors import LogError

if TYPE_CHECKING:
    from facekeep.flows.log import LogStatus

app = typer.Typer(help="The transparency log of this device. Only enrol, submit and sync use the network.", no_args_is_help=True)


@app.command()
def enrol(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Public address of the log server, https.")],
    policy: Annotated[Path, typer.Option(help="tlog-policy: keys of the log and of its witnesses, and how many of them.")],
    code_file: Annotated[
        Path | None,
        typer.Option(help='File with the one-time code, "-" for stdin; left out: enrolled already, address or policy change.'),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol this device at a log server, and follow its log from now on."""
    trust = _read(policy)
    # Not an argument: whoever lists the processes of the machine would see the code.
    code = None if code_file is None else (sys.stdin.readline() if str(code_file) == "-" else _read(code_file)).strip()
    with options_of(context).open_device() as device:
        _say(device.log.enrol(url, code, trust=trust), as_json=as_json)


@app.command()
def submit(context: typer.Context, as_json: JsonOption = False) -> None:
    """Submit what the log does not have yet, and verify what it answers."""
    with options_of(context).open_device() as device:
        _say(device.log.submit(), as_json=as_json)


@app.command()
def sync(context: typer.Context, as_json: JsonOption = False) -> None:
    """Fetch and apply the newest revocation list, then submit. Run this from a timer."""
    with options_of(context).open_device() as device:
        report = device.log.sync()
    found = report.revocations
    value = {
        "epoch": found.head.epoch if found else None,
        "withdrawn": found.withdrawn if found else 0,
        "erased": len(found.erasures) if found else 0,
        "submitted": report.log.submitted,
        "waiting": report.log.waiting,
    }
    news = (
        f"Revocation list of epoch {found.head.epoch}: {found.withdrawn} consent(s) ended, {len(found.erasures)} subject(s) erased."
        if found
        else "No newer revocation list."
    )
    say(f"{news} {report.log.submitted} entries proved to be in the log.", value, as_json=as_json)


@app.command()
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say where this device stands with its log. Asks nobody."""
    with options_of(context).open_device() as device:
        _say(device.log.status(), as_json=as_json)


def _say(status: LogStatus, *, as_json: bool) -> None:
    value = {
        "url": status.url,
        "submitted": status.submitted,
        "waiting": status.waiting,
        "checkpoint": status.checkpoint,
    }
    where = f"Log server {status.url}." if status.url else "This device is not enrolled with a log server."
    text = f"{where} {status.submitted} entries proved to be in the log, {status.waiting} waiting."
    say(f"{text}\n{status.checkpoint}" if status.checkpoint else text, value, as_json=as_json)


def _read(path: Path) -> str:
    try:
        return read_small_text(path)
    except (OSError, ValueError):
        raise LogError("log.io", "The policy or the code cannot be read: it is a text file of at most 1 MiB.") from None
