"""`serve`, `migrate`, `rotate-log-key`, `log-keys`, `trust-policy`, `openapi`."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from facekeep.clock import to_rfc3339
from facekeep_server.cli.opening import JsonOption, opened, options_of, say
from facekeep_server.errors import ServerError
from facekeep_server.journal import set_up_journal


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(serve)
    app.command("migrate")(migrate)
    app.command("rotate-log-key")(rotate_log_key)
    app.command("log-keys")(log_keys)
    app.command("trust-policy")(trust_policy)
    app.command("openapi")(openapi)


def serve(context: typer.Context) -> None:
    """Serve until told to stop. Ends with what waits committed."""
    # Imported here: every other command does without a web framework.
    import uvicorn

    from facekeep_server.api import create_app
    from facekeep_server.assembly import assemble

    configuration = options_of(context).configuration()
    http = configuration.http
    if (http.tls_certificate is None) != (http.tls_key is None):
        raise ServerError("server.invalid_configuration", "http.tls_certificate and http.tls_key go together.")
    for path in (http.tls_certificate, http.tls_key):
        if path is not None and not path.is_file():
            raise ServerError("server.invalid_configuration", f"There is no file at {path}.")
    server = assemble(configuration)
    # Tried before anything listens, so that what is wrong is said in one line and not in a server's log.
    server.check()
    set_up_journal()
    uvicorn.run(
        create_app(server),
        host=http.listen,
        port=http.port,
        ssl_certfile=http.tls_certificate,
        ssl_keyfile=http.tls_key,
        proxy_headers=True,
        forwarded_allow_ips=http.trusted_proxies,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=15,
        h11_max_incomplete_event_size=16 * 1024,
    )


def migrate(context: typer.Context, as_json: JsonOption = False) -> None:
    """Bring the database to this version's schema; begin the log and make its key where there is none."""
    from facekeep_server.assembly import assemble, prepare

    server = assemble(options_of(context).configuration())
    try:
        revision = prepare(server)
        vkeys = [row.key.to_vkey() for row in server.keys.list()]
    finally:
        server.store.close()
    say(f"Database at revision {revision}. The log's key: {vkeys[0]}", {"revision": revision, "vkeys": vkeys}, as_json=as_json)


def rotate_log_key(
    context: typer.Context,
    overlap_days: Annotated[float, typer.Option(min=0, max=3650, help="How long the old key still signs beside the new one.")] = 30,
    as_json: JsonOption = False,
) -> None:
    """Make a new log key. Give the printed vkey to every auditor and witness before the old key retires."""
    with opened(context) as server:
        new = server.keys.rotate(timedelta(days=overlap_days))
    vkey = new.key.to_vkey()
    say(f"New log key: {vkey}\nThe old one signs for {overlap_days:g} more days.", {"vkey": vkey}, as_json=as_json)


def log_keys(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the log's keys as vkeys, the newest first."""
    with opened(context) as server:
        rows = server.keys.list()
    values = [
        {
            "vkey": row.key.to_vkey(),
            "created_at": to_rfc3339(row.created_at),
            "retires_at": to_rfc3339(row.retires_at) if row.retires_at else None,
        }
        for row in rows
    ]
    text = "\n".join(
        f"{value['vkey']}  {'retires ' + value['retires_at'] if value['retires_at'] else 'in force'}" for value in values
    )
    say(text, {"keys": values}, as_json=as_json)


def trust_policy(context: typer.Context) -> None:
    """Print the tlog-policy to believe this log by: its keys, and the witnesses it is configured with; `quorum none` without any.

    For devices, coordinators and auditors. Whoever gets it has to get it from you, not from the server.
    """
    with opened(context) as server:
        keys = [f"log {row.key.to_vkey()}" for row in server.keys.list()]
    witnesses = options_of(context).configuration().witnesses
    lines = ["quorum none"]
    if witnesses.load_policy() is not None and witnesses.policy is not None:
        try:
            lines = witness_lines(witnesses.policy.expanduser().read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            raise ServerError("server.invalid_configuration", "witnesses.policy is not a text in UTF-8 that can be read.") from None
    print("\n".join([*keys, *lines]))  # noqa: T201


def witness_lines(policy: str) -> list[str]:
    """Return a tlog-policy's lines without those that name logs: here the log's keys are those it has."""
    return [line for line in policy.splitlines() if line.split()[:1] != ["log"]]


def openapi(
    context: typer.Context, output: Annotated[Path | None, typer.Option(help="File to write; standard output if left out.")] = None
) -> None:
    """Print the OpenAPI description of the interface."""
    from facekeep_server.api import create_app
    from facekeep_server.assembly import assemble

    server = assemble(options_of(context).configuration())
    text = json.dumps(create_app(server).openapi(), indent=1)
    if output is None:
        print(text)  # noqa: T201
    else:
        output.write_text(text + "\n", encoding="utf-8")
