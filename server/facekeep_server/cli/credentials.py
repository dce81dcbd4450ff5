"""`device-code`, `token ...`, `device ...`: who may reach the server. Secrets are shown once."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated

import typer

from facekeep.clock import to_rfc3339
from facekeep_server.access.roles import Role
from facekeep_server.cli.opening import JsonOption, opened, say

token_app = typer.Typer(help="Tokens of auditors and administrators.", no_args_is_help=True)
device_app = typer.Typer(help="Devices of the fleet.", no_args_is_help=True)

LabelArgument = Annotated[str, typer.Argument(help="What to call it; no person's name.")]
_PAGE = 1000


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module that stand at the root."""
    app.command("device-code")(device_code)


def device_code(
    context: typer.Context,
    label: LabelArgument,
    hours: Annotated[
        float | None, typer.Option(min=0.01, max=720, help="How long it can be used; the configuration's if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a one-time code with which one device can enrol."""
    with opened(context) as server:
        valid_for = timedelta(hours=hours or server.configuration.access.enrolment_code_hours)
        code, expires = server.codes.create(label, valid_for)
    until = to_rfc3339(expires)
    say(f"{code}\nGood for one device until {until}. It is not shown again.", {"code": code, "expires_at": until}, as_json=as_json)


@token_app.command("create")
def create_token(
    context: typer.Context,
    role: Annotated[Role, typer.Argument(help="auditor reads, administrator lets devices in and out.")],
    label: LabelArgument,
    days: Annotated[
        float | None, typer.Option(min=0.01, max=366, help="How long it is good; the configuration's if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token. It is shown this once."""
    with opened(context) as server:
        valid_for = timedelta(days=days or server.configuration.access.token_days)
        token, expires = server.tokens.create(role, label, valid_for)
    until = to_rfc3339(expires)
    say(f"{token}\nRole {role}, good until {until}. It is not shown again.", {"token": token, "expires_at": until}, as_json=as_json)


@token_app.command("list")
def list_tokens(context: typer.Context, as_json: JsonOption = False) -> None:
    """List tokens, never their secrets."""
    with opened(context) as server:
        rows = server.tokens.list()
    text = "\n".join(
        f"{row.id}  {row.role:<13}  {row.expires_at}  {'revoked' if row.revoked_at else '':<7}  {row.label}" for row in rows
    )
    say(text or "No token was made yet.", {"tokens": [asdict(row) for row in rows]}, as_json=as_json)


@token_app.command("revoke")
def revoke_token(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(help="The middle part of the token.")],
    as_json: JsonOption = False,
) -> None:
    """End a token at once."""
    with opened(context) as server:
        server.tokens.revoke(token_id)
    say("Revoked.", {"revoked": token_id}, as_json=as_json)


@device_app.command("list")
def list_devices(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the fleet."""
    rows = []
    with opened(context) as server:
        after = ""
        while page := server.devices.list(after, _PAGE):
            rows += page
            after = page[-1].id
    text = "\n".join(f"{row.id}  {row.trail_size:>8}  {'revoked' if row.revoked_at else '':<7}  {row.label}" for row in rows)
    say(text or "No device is enrolled yet.", {"devices": [asdict(row) for row in rows]}, as_json=as_json)


@device_app.command("revoke")
def revoke_device(
    context: typer.Context, device: Annotated[str, typer.Argument(help="Its name in the log.")], as_json: JsonOption = False
) -> None:
    """Refuse everything this device says from now on."""
    with opened(context) as server:
        server.devices.revoke(device)
    say("Revoked.", {"revoked": device}, as_json=as_json)
