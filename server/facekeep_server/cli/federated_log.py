"""`facekeep-server federate log | log-policy`: the coordinator in a transparency log, and releases that have to be in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facekeep.clock import SystemClock
from facekeep_server.cli.federated_releases import StateOption
from facekeep_server.cli.opening import JsonOption, say
from facekeep_server.errors import ServerError
from facekeep_server.federation.state import FederationState


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(log)
    app.command("log-policy")(log_policy)


def log(
    state: StateOption,
    enrol: Annotated[str | None, typer.Option(help="Address of the log server, the first time.")] = None,
    code_file: Annotated[Path | None, typer.Option(help="File with its one-time code, the first time.")] = None,
    policy: Annotated[Path | None, typer.Option(help="tlog-policy to believe it by, the first time.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Submit the coordinator's own trail to a transparency log."""
    from facekeep_server.federation.coordinator import open_trail
    from facekeep_server.federation.submitting import enrol_coordinator, submit_trail

    found, clock = FederationState.open(state), SystemClock()
    with found.locked():
        trail, key = open_trail(found, clock)
        if enrol is not None:
            if code_file is None or policy is None:
                raise ServerError("server.invalid_request", "--enrol goes with --code-file and --policy.")
            code, trust = read_text(code_file), read_text(policy)
            enrol_coordinator(found, key, clock, enrol, code.strip(), trust)
        standing = submit_trail(found, trail, key, clock)
    text = f"{standing.submitted} entries of the coordinator's trail are proved to be in the log."
    say(text, {"submitted": standing.submitted, "checkpoint": standing.kept}, as_json=as_json)


def log_policy(
    policy: Annotated[Path, typer.Argument(help="tlog-policy, such as `facekeep-server trust-policy` prints.")],
    state: StateOption,
    as_json: JsonOption = False,
) -> None:
    """Have devices adopt only releases that are in this log. Written into the policy for devices; those that joined join again."""
    from facekeep_server.federation.creation import require_log

    found = FederationState.open(state)
    with found.locked():
        made = require_log(found, read_text(policy))
    place = found.root / "device" / "policy.toml"
    text = f"Releases have to be logged by {made.coordinator}, this coordinator. Give {place} to devices."
    say(text, {"coordinator": made.coordinator, "policy": made.sha256}, as_json=as_json)


def read_text(path: Path) -> str:
    """Return the text of an operator's file.

    Raises:
        ServerError: "server.invalid_request" if it is not UTF-8.
    """
    from facekeep_server.federation.files import read_file

    try:
        return read_file(path).decode("utf-8")
    except UnicodeDecodeError:
        raise ServerError("server.invalid_request", f"{path} is not UTF-8 text.") from None
