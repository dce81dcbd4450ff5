"""The root command, its options and what happens to errors."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from facekeep.cli import confirmations, consent, device_log, erasure, federation, models, recognition, retention, upkeep
from facekeep.cli.opening import Options
from facekeep.cli.output import fail
from facekeep.errors import FacekeepError
from facekeep.packs import LoadPolicy

# Typer carries a Click of its own in some versions and imports another's in others; what it exports leads to the right one.
_UsageError: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="facekeep",
    help="Face recognition that stays on the device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables: frames, vectors, keys
)
app.add_typer(consent.app, name="consent")
app.add_typer(confirmations.operator_app, name="operator")
app.add_typer(confirmations.app, name="confirm")
app.add_typer(models.app, name="models")
app.add_typer(retention.app, name="retention")
app.add_typer(erasure.app, name="erasure")
app.add_typer(device_log.app, name="log")
app.add_typer(federation.app, name="federate")
app.add_typer(upkeep.audit_app, name="audit")
app.add_typer(upkeep.keys_app, name="keys")
recognition.add_commands(app)
upkeep.add_commands(app)


@app.callback()
def root(
    context: typer.Context,
    home: Annotated[Path, typer.Option(envvar="FACEKEEP_HOME", help="Directory of the device.")] = Path("~/.facekeep"),
    key_file: Annotated[Path | None, typer.Option(envvar="FACEKEEP_KEY_FILE", help="Key file, made by init if absent.")] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(envvar="FACEKEEP_PASSPHRASE_FILE", help='File that holds the passphrase; "-" for stdin.')
    ] = None,
    keyring: Annotated[str | None, typer.Option(help="Account in the keyring of the operating system.")] = None,
    packs: Annotated[Path | None, typer.Option(envvar="FACEKEEP_PACKS", help="Directory of model packs.")] = None,
    commercial_only: Annotated[
        bool, typer.Option("--commercial-only", help="Refuse packs not licensed for commercial use.")
    ] = False,
    consented_only: Annotated[bool, typer.Option("--consented-only", help="Refuse packs trained on people not asked.")] = False,
) -> None:
    """Face recognition that stays on the device."""
    context.obj = Options(
        home=home.expanduser(),
        key_file=key_file,
        passphrase_file=passphrase_file,
        keyring=keyring,
        packs=packs.expanduser() if packs else None,
        policy=LoadPolicy(commercial_only=commercial_only, consented_only=consented_only),
    )


def main() -> None:
    """Run the command line."""
    as_json = "--json" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot spell must not end in a traceback.
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(standalone_mode=False)
    except FacekeepError as error:
        fail(error, as_json=as_json)
    except _UsageError as error:
        if not as_json:
            error.show()
        else:
            print(json.dumps({"error": {"code": "usage", "message": error.format_message()}}))  # noqa: T201
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(141) from None
    raise SystemExit(code or 0)
