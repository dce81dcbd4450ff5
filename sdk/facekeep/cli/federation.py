"""`facekeep federate`: this device in a federation. Only `node` uses the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import JsonOption, say
from facekeep.errors import FederationError, ReleaseError

app = typer.Typer(help="Federated rounds: join, collect, adopt releases. Only node uses the network.", no_args_is_help=True)

_LARGEST_BUNDLE = 64 * 1024 * 1024


@app.command()
def node(
    context: typer.Context,
    kit: Annotated[Path, typer.Argument(help="Folder of the node kit that the coordinator made for this device.")],
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Of the node's own interface on 127.0.0.1.")] = None,
) -> None:
    """Become this device's Flower SuperNode, with the flags and the environment that this package wants.

    The device's key has to be named by FACEKEEP_KEY_FILE or FACEKEEP_PASSPHRASE_FILE: nobody is there to be asked.
    """
    from facekeep.flower.node import supernode_launch

    options = options_of(context)
    launch = supernode_launch(kit.expanduser().absolute(), options.home.absolute(), port=port)
    named = {
        "FACEKEEP_KEY_FILE": options.key_file,
        "FACEKEEP_PASSPHRASE_FILE": options.passphrase_file,
        "FACEKEEP_KEYRING": options.keyring,
        "FACEKEEP_PACKS": options.packs,
    }
    environment = {name: str(value) for name, value in named.items() if value is not None}
    try:
        os.execve(launch.arguments[0], list(launch.arguments), {**launch.over(os.environ), **environment})  # noqa: S606 - no shell
    except OSError:
        raise FederationError("federation.invalid_policy", "Flower is not installed: pip install 'facekeep[federated]'.") from None
