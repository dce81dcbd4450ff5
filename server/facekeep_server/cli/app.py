"""The root command of `facekeep-server`, and what happens to errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from facekeep.errors import FacekeepError
from facekeep_server.cli import credentials, federating, reporting, revoking, running, witnessing
from facekeep_server.cli.opening import Options

# Typer carries a Click of its own in some versions and imports another's in others; what it exports leads to the right one.
_UsageError: Any = typer.BadParameter.__bases__[0]
EXIT_REFUSED = 1

app = typer.Typer(
    name="facekeep-server",
    help="The transparency log of a fleet, and who may reach it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables: keys, passwords
)
app.add_typer(credentials.token_app, name="token")
app.add_typer(credentials.device_app, name="device")
app.add_typer(revoking.app, name="revocations")
running.add_commands(app)
witnessing.add_commands(app)
federating.add_commands(app)
credentials.add_commands(app)
reporting.add_commands(app)


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(envvar="FACEKEEP_SERVER_CONFIG", help="Configuration, a TOML file.")] = None,
) -> None:
    """The transparency log of a fleet, and who may reach it."""
    context.obj = Options(config)


def main() -> None:
    """Run the command line."""
    as_json = "--json" in sys.argv
    try:
        code = app(standalone_mode=False)
    except FacekeepError as error:
        if as_json:
            print(json.dumps({"error": {"code": error.code, "message": error.args[0]}}))  # noqa: T201
        else:
            print(f"{error.code}: {error.args[0]}", file=sys.stderr)  # noqa: T201
        raise SystemExit(EXIT_REFUSED) from None
    except _UsageError as error:
        error.show()
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
    raise SystemExit(code or 0)
