"""`facekeep consent revocations`: lists of withdrawals made elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import JsonOption, say
from facekeep.cli.receipts import read_file
from facekeep.clock import to_rfc3339
from facekeep.consent.revocation import LARGEST_LIST_BYTES

app = typer.Typer(help="Signed revocation lists.", no_args_is_help=True)


@app.command("import")
def import_list(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A signed revocation list.")],
    as_json: JsonOption = False,
) -> None:
    """Apply a list: end the consents it withdraws and erase whom it says. An older list is refused."""
    data = read_file(file, LARGEST_LIST_BYTES)
    with options_of(context).open_device() as device:
        report = device.revocations.import_list(data)
    value = {
        "issuer": report.head.issuer,
        "epoch": report.head.epoch,
        "entries": report.head.entries,
        "is_new": report.is_new,
        "withdrawn": report.withdrawn,
        "erased": len(report.erasures),
    }
    what = f"{report.withdrawn} consent(s) ended, {len(report.erasures)} subject(s) erased"
    say(f"Revocation list of epoch {report.head.epoch}{'' if report.is_new else ', seen before'}: {what}.", value, as_json=as_json)


@app.command()
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the newest list seen and how many consents depend on a fresh one."""
    with options_of(context).open_device() as device:
        status = device.revocations.status()
    newest = status.newest
    value = {
        "issuer": status.issuer,
        "max_age": status.max_age,
        "epoch": newest.epoch if newest else None,
        "issued_at": to_rfc3339(newest.issued_at) if newest else None,
        "next_update": to_rfc3339(newest.next_update) if newest else None,
        "entries": newest.entries if newest else None,
        "dependent": status.dependent,
        "stale": status.stale,
    }
    seen = (
        f"Newest list: epoch {newest.epoch}, issued {to_rfc3339(newest.issued_at)}, next due {to_rfc3339(newest.next_update)}."
        if newest
        else "No list has been seen."
    )
    asked = f"Issuer {status.issuer}, at most {status.max_age} old." if status.issuer else "The policy names no issuer."
    stale = f"{status.dependent} consent(s) depend on lists; {status.stale} refused for want of a fresh one."
    say(f"{asked} {seen}\n{stale}", value, as_json=as_json)
