"""`facekeep-server federate ...` and `facekeep-server hub`: a federation from its keys to its releases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from facekeep.clock import SystemClock
from facekeep.flower.node import Launch
from facekeep_server.cli.opening import JsonOption, say
from facekeep_server.errors import ServerError
from facekeep_server.federation.state import ENVIRONMENT, FederationState, Settings

federate_app = typer.Typer(help="Federated rounds over Flower: keys, devices, plans, runs, releases.", no_args_is_help=True)

StateOption = Annotated[
    Path, typer.Option("--state", envvar=ENVIRONMENT, help="State directory of the federation, made by `federate init`.")
]
KeysOption = Annotated[Path | None, typer.Option("--keys", help="Directory of the offline keys, where they were moved away.")]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(federate_app, name="federate")
    app.command("hub")(hub)


def hub(
    state: StateOption,
    listen: Annotated[
        str, typer.Option(help="Address to listen on. Flower's SuperLink has to be the only one that reaches it.")
    ] = "",
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="As federation.toml says if left out.")] = None,
) -> None:
    """Serve the signed app to the SuperLink, in place of Flower's own hub. Holds no key."""
    import uvicorn

    from facekeep_server.federation.app import read_signed_app
    from facekeep_server.hub.service import create_hub

    found = FederationState.open(state)
    own_host, _, own_port = found.settings.hub.removeprefix("http://").rpartition(":")
    uvicorn.run(
        create_hub(read_signed_app(found)),
        host=listen or own_host.strip("[]"),
        port=port or int(own_port),
        log_config=None,
        access_log=False,
        server_header=False,
    )


@federate_app.command()
def init(
    state: StateOption,
    name: Annotated[str, typer.Option(help="Name of the federation, for ever: lower-case letters, digits, dots, hyphens.")],
    superlink: Annotated[str, typer.Option(help="HOST:PORT at which devices reach the SuperLink, that is, its reverse proxy.")],
    host: Annotated[list[str] | None, typer.Option(help="Further name or address for the certificate; repeat.")] = None,
    control: Annotated[str, typer.Option(help="HOST:PORT of the SuperLink on this machine.")] = "127.0.0.1:8000",
    hub_url: Annotated[str, typer.Option("--hub", help="Address of the hub on this machine.")] = "http://127.0.0.1:8419",
    release_keys: Annotated[int, typer.Option(min=1, max=9, help="Release keys to make.")] = 3,
    release_quorum: Annotated[int, typer.Option(min=1, max=9, help="How many of them have to sign a release.")] = 2,
    minimum_cohort: Annotated[int, typer.Option(min=3, help="Fewest devices whose sum may be opened.")] = 100,
    epsilon: Annotated[float, typer.Option(help="Most privacy one device spends in all, at delta 1e-5.")] = 8.0,
    as_json: JsonOption = False,
) -> None:
    """Make every key and certificate of a federation."""
    from facekeep_server.federation.app import write_signed_app
    from facekeep_server.federation.creation import create_federation

    now = SystemClock().now()
    settings = Settings(name, superlink, control, hub_url, release_keys, release_quorum)
    made = create_federation(state, settings, now, minimum_cohort=minimum_cohort, epsilon=epsilon, hosts=host or ())
    app = write_signed_app(made, now)
    text = (
        f"Made {made.root}. Move {made.root / 'offline'} to another machine: its keys admit devices and sign apps and releases; "
        f"none of them is needed while rounds run.\nDevices get what lies in {made.root / 'device'}.\nSigned app {app.sha256}."
    )
    say(text, {"state": str(made.root), "offline": str(made.root / "offline"), "app": app.sha256}, as_json=as_json)


@federate_app.command()
def kit(
    names: Annotated[list[str], typer.Argument(help="Name of each device, for you.")],
    state: StateOption,
    register: Annotated[bool, typer.Option("--register", help="Also tell the running SuperLink of the new nodes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the node kit of devices: Flower node key, certificate to believe, keys to trust, policy to join by."""
    from facekeep_server.federation.creation import create_kit
    from facekeep_server.federation.superlink import register_node

    found = FederationState.open(state)
    made: dict[str, int | None] = {}
    for name in names:
        folder = create_kit(found, name)
        made[name] = register_node(found, folder / "node.key.pub") if register else None
    text = "\n".join(f"{found.kit_folder(name)}" + (f"  node {node}" if node else "") for name, node in made.items())
    say(
        text,
        {"kits": {name: {"folder": str(found.kit_folder(name)), "node": node} for name, node in made.items()}},
        as_json=as_json,
    )


@federate_app.command("register")
def register_nodes(
    names: Annotated[list[str], typer.Argument(help="Kits whose nodes the SuperLink shall let in.")],
    state: StateOption,
    as_json: JsonOption = False,
) -> None:
    """Tell the running SuperLink of the nodes of kits."""
    from facekeep_server.federation.superlink import register_node

    found = FederationState.open(state)
    nodes = {name: register_node(found, found.kit_folder(name) / "node.key.pub") for name in names}
    say("\n".join(f"{name}  node {node}" for name, node in nodes.items()), {"nodes": nodes}, as_json=as_json)


@federate_app.command("admit")
def admit_devices(
    introductions: Annotated[list[Path], typer.Argument(help="Files that `facekeep federate join` wrote on the devices.")],
    state: StateOption,
    keys: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put devices on the roster and sign it with the authority's key."""
    from facekeep_server.federation.files import read_file
    from facekeep_server.federation.fleet import admit

    found = FederationState.open(state)
    with found.locked():
        signed = admit(found, [read_file(path) for path in introductions], keys)
    head = signed.roster.head
    say(f"The roster holds {head.size} devices.", {"devices": head.size, "root": head.root.hex()}, as_json=as_json)


@federate_app.command("sign-app")
def sign(state: StateOption, keys: KeysOption = None, as_json: JsonOption = False) -> None:
    """Build the app of this version and sign it; then start the hub again."""
    from facekeep_server.federation.app import write_signed_app

    app = write_signed_app(FederationState.open(state), SystemClock().now(), keys)
    say(f"Signed {app.sha256}.", {"app": app.sha256, "version": app.version, "signed_at": app.signed_at}, as_json=as_json)


@federate_app.command("renew-certificate")
def renew(
    state: StateOption,
    host: Annotated[list[str] | None, typer.Option(help="Further name or address for the certificate; repeat.")] = None,
    keys: KeysOption = None,
) -> None:
    """Give the SuperLink a new certificate under the same authority; start it again afterwards."""
    from facekeep_server.federation.creation import renew_certificate

    renew_certificate(FederationState.open(state), host or (), SystemClock().now(), keys)
    say("Renewed. Start the SuperLink again.", {}, as_json=False)


@federate_app.command()
def superlink(state: StateOption) -> None:
    """Become Flower's SuperLink, with the flags and the environment that this package wants."""
    from facekeep_server.federation.superlink import superlink_launch

    become(superlink_launch(FederationState.open(state)))


def become(launch: Launch) -> None:
    """Put another program in this process's place.

    Raises:
        ServerError: "server.invalid_configuration" where it is not installed.
    """
    try:
        os.execve(launch.arguments[0], list(launch.arguments), launch.over(os.environ))  # noqa: S606 - no shell
    except OSError:
        raise ServerError("server.invalid_configuration", "Flower is not installed: pip install 'facekeep[federated]'.") from None
