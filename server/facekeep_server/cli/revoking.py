"""`revocations publish` and `list`: signed lists of withdrawals that devices fetch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facekeep.clock import to_rfc3339
from facekeep_server.cli.opening import JsonOption, opened, say
from facekeep_server.errors import ServerError

app = typer.Typer(help="Signed revocation lists that devices fetch.", no_args_is_help=True)


@app.command()
def publish(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A list, as `facekeep consent controller revoke` signs it.")],
    as_json: JsonOption = False,
) -> None:
    """Publish a list: every device gets it with its next sync. An older list is refused."""
    from facekeep.consent.revocation import LARGEST_LIST_BYTES

    try:
        with file.open("rb") as stream:
            data = stream.read(LARGEST_LIST_BYTES + 1)
    except OSError as error:
        raise ServerError("server.invalid_request", f"{file} cannot be read: {error.strerror}.") from None
    with opened(context) as server:
        head, is_newer = server.revocations.publish(data)
    value = {"issuer": head.issuer, "epoch": head.epoch, "entries": head.entries, "is_new": is_newer}
    say(f"Epoch {head.epoch} of {head.issuer}{'' if is_newer else ', published before'}.", value, as_json=as_json)


@app.command("list")
def list_revocations(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the newest list of every issuer."""
    with opened(context) as server:
        heads = [(row.to_head(), row.received_at) for row in server.revocations.list()]
    rows = [
        {
            "issuer": head.issuer,
            "epoch": head.epoch,
            "entries": head.entries,
            "issued_at": to_rfc3339(head.issued_at),
            "next_update": to_rfc3339(head.next_update),
            "received_at": received,
        }
        for head, received in heads
    ]
    text = "\n".join(f"{row['issuer']}  epoch {row['epoch']}  {row['entries']} entries  next {row['next_update']}" for row in rows)
    say(text or "No revocation list was published yet.", {"revocations": rows}, as_json=as_json)
