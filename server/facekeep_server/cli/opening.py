"""From the options to a server, for one command."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

# Database and configuration are imported by the command that opens them: --help and the commands of a federation need neither.
if TYPE_CHECKING:
    from facekeep_server.assembly import Server
    from facekeep_server.configuration import Configuration

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@dataclass(frozen=True, slots=True)
class Options:
    """What stood before the command.

    Attributes:
        config: configuration file, or None for the environment alone.
    """

    config: Path | None

    def configuration(self) -> Configuration:
        """Return the configuration.

        Raises:
            ServerError: "server.invalid_configuration".
        """
        from facekeep_server.configuration import load_configuration

        return load_configuration(self.config)


def options_of(context: typer.Context) -> Options:
    """Return what the root callback gathered."""
    options = context.find_object(Options)
    if options is None:
        raise RuntimeError("the root callback did not run")
    return options


@contextlib.contextmanager
def opened(context: typer.Context) -> Iterator[Server]:
    """Give a server that does not serve, on a database with the right schema."""
    from facekeep_server.assembly import assemble
    from facekeep_server.store import require_current_schema

    server = assemble(options_of(context).configuration())
    try:
        require_current_schema(server.store)
        yield server
    finally:
        server.store.close()


def say(text: str, value: Mapping[str, Any], *, as_json: bool) -> None:
    """Print `text`, or `value` as JSON."""
    print(json.dumps(value) if as_json else text)  # noqa: T201
