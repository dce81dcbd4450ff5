"""`facekeep-server federate ...` and `facekeep-server hub`: a federation from its keys to its releases."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from facekeep.clock import SystemClock
from facekeep.flower.node import Launch
from facekeep.protocol.policy import Kind, Level
from facekeep_server.cli import federated_log, federated_releases, federated_statistics, releasing
from facekeep_server.cli.federated_log import read_text
from facekeep_server.cli.federated_releases import (
    FallsOption,
    KeysOption,
    MemoryOption,
    MomentumOption,
    OptimiserOption,
    RateOption,
    StateOption,
    steering_of,
)
from facekeep_server.cli.opening import JsonOption, say
from facekeep_server.errors import ServerError
from facekeep_server.federation.state import FederationState, Settings
from facekeep_server.releases import recommended

federate_app = typer.Typer(help="Federated rounds over Flower: keys, devices, plans, runs, releases.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    federated_releases.add_commands(federate_app)
    releasing.add_commands(federate_app)
    federated_statistics.add_commands(federate_app)
    federated_log.add_commands(federate_app)
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
    log_policy: Annotated[
        Path | None,
        typer.Option(help="tlog-policy of the log that has to hold a release before a device adopts it; see `trust-policy`."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make every key and certificate of a federation."""
    from facekeep_server.federation.app import write_signed_app
    from facekeep_server.federation.creation import create_federation

    now = SystemClock().now()
    settings = Settings(name, superlink, control, hub_url, release_keys, release_quorum)
    trust = None if log_policy is None else read_text(log_policy)
    made = create_federation(
        state, settings, now, minimum_cohort=minimum_cohort, epsilon=epsilon, hosts=host or (), log_policy=trust
    )
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


@federate_app.command()
def model(
    file: Annotated[Path, typer.Argument(help="Model file that shipped, from the devices' pack.")],
    state: StateOption,
    table: Annotated[Path | None, typer.Option(help="Its patch table; beside it if left out.")] = None,
    kit: Annotated[Path | None, typer.Option(help="Training kit of it, as `facekeep-models training-kit` makes it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which model this federation trains: its file and the table of its trainable numbers."""
    from facekeep.training.patching import PATCH_SUFFIX
    from facekeep_server.federation.files import read_file
    from facekeep_server.federation.model import import_kit, import_model

    opened = FederationState.open(state)
    found = import_model(opened, read_file(file), read_file(table or file.with_name(file.stem + PATCH_SUFFIX)))
    if kit is not None:
        import_kit(opened, kit)
    levels = {level: found.table.parameters.length_of(level) for level in found.table.parameters.levels}
    text = f"Model {found.sha256}: " + ", ".join(f"{level} {count:,} numbers" for level, count in levels.items())
    say(text, {"model": found.sha256, "levels": levels}, as_json=as_json)


@federate_app.command()
def plan(
    state: StateOption,
    kind: Annotated[Kind, typer.Option(help="What is computed.")] = Kind.TRAINING,
    level: Annotated[Level, typer.Option(help="What training moves.")] = recommended.LEVEL,
    cohort: Annotated[int, typer.Option(min=3, help="Devices to invite, if there are so many.")] = 1000,
    clip: Annotated[float, typer.Option(min=1e-6, help="Largest norm of one device's update.")] = recommended.CLIP,
    noise: Annotated[
        float | None, typer.Option(min=0, help="Noise multiplier; left out: what --budget-rounds rounds can afford.")
    ] = None,
    budget_rounds: Annotated[int, typer.Option(min=1, help="Rounds that a device's budget has to last for.")] = recommended.ROUNDS,
    groups: Annotated[int, typer.Option(min=1, help="Sums that the cohort falls into, each checked by its norm.")] = 1,
    settings: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE for the devices' training; repeat.")] = None,
    hours: Annotated[float, typer.Option(min=0.05, max=168, help="Until the deadline.")] = 12,
    length: Annotated[
        int | None,
        typer.Option(min=1, help="Numbers in an update, the first of the level; all of them if left out."),
    ] = None,
    base: Annotated[str | None, typer.Option(help="SHA-256 of what is trained on; the release in use if left out.")] = None,
    after: Annotated[
        list[int] | None,
        typer.Option(help="Completed round where training goes on, before any release of it; repeat to average rounds."),
    ] = None,
    optimiser: OptimiserOption = recommended.OPTIMISER.kind,
    rate: RateOption = None,
    momentum: MomentumOption = recommended.OPTIMISER.momentum,
    memory: MemoryOption = recommended.OPTIMISER.memory,
    falls_over: FallsOption = recommended.ROUNDS,
    as_json: JsonOption = False,
) -> None:
    """Plan the next round and sign it with the planner's key. --optimiser and what follows only count with --after."""
    from datetime import timedelta

    from facekeep.randomness import SystemRandomness
    from facekeep_server.federation.candidates import base_in_use
    from facekeep_server.federation.model import read_model
    from facekeep_server.federation.planning import Request, plan_next, training_settings
    from facekeep_server.releases.chaining import continue_after

    if kind is not Kind.TRAINING:
        raise ServerError("server.invalid_request", "Plan it with `federate calibrate` or `federate demographics`.")
    found = FederationState.open(state)
    if length is None or base is None:
        length = length or read_model(found).table.parameters.length_of(level.value)
        base = base or base_in_use(found)
    begin, behind = b"", tuple[int, ...]()
    if after:
        chain = continue_after(found, after, steering_of(optimiser, rate, momentum, memory, falls_over))
        if (chain.level, chain.length) != (level, length):
            told = f"{chain.length} numbers of the level {chain.level.value}"
            raise ServerError("server.invalid_request", f"Those rounds trained {told}; go on with the same.")
        begin, behind = chain.parameters, chain.rounds
    request = Request(
        kind=kind,
        level=level,
        length=length,
        base=base,
        clip=clip,
        cohort=cohort,
        noise_multiplier=noise,
        budget_rounds=budget_rounds,
        groups=groups,
        settings=training_settings([*recommended.TRAINING, *(settings or [])]),
        lasts=timedelta(hours=hours),
        start=begin,
        after=behind,
    )
    with found.locked():
        made, _ = plan_next(found, request, SystemClock().now(), SystemRandomness())
    text = (
        f"Round {made.round}: {made.length:,} numbers of the level {made.level.value}, "
        f"{made.cohort_size} devices invited, at least {made.minimum} have to answer, "
        f"epsilon {made.epsilon:.3g} at delta {made.delta:g} for each."
    )
    value = {
        "round": made.round,
        "level": made.level.value,
        "length": made.length,
        "cohort": made.cohort_size,
        "minimum": made.minimum,
        "epsilon": made.epsilon,
    }
    say(text, value, as_json=as_json)


@federate_app.command()
def run(
    state: StateOption,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until every planned round is over, showing progress.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Have the SuperLink run every planned round; one that was interrupted goes on where it was, in a new run if it must."""
    from facekeep_server.federation.app import read_signed_app
    from facekeep_server.federation.running import run_until_over
    from facekeep_server.federation.superlink import start_run

    found = FederationState.open(state)
    version = read_signed_app(found).version
    if not wait:
        number = start_run(found, version)
        say(f"Started run {number}.", {"run": number}, as_json=as_json)
        return
    ended = run_until_over(found, version, show=None if as_json else typer.echo)
    last = ended.runs[-1]
    text = f"Run {last}: {ended.outcome}" + (f", {len(ended.open)} rounds still open." if ended.open else ".")
    say(text, {"run": last, "runs": list(ended.runs), "outcome": ended.outcome, "open": list(ended.open)}, as_json=as_json)
    if ended.open or ended.outcome != "finished:completed":
        raise typer.Exit(1)


@federate_app.command()
def status(state: StateOption, as_json: JsonOption = False) -> None:
    """Say how the federation stands: devices, rounds, privacy, time and bytes of each."""
    from facekeep_server.federation.reporting import as_text, describe

    value = describe(FederationState.open(state))
    say(as_text(value), value, as_json=as_json)


def become(launch: Launch) -> None:
    """Put another program in this process's place.

    Raises:
        ServerError: "server.invalid_configuration" where it is not installed.
    """
    try:
        os.execve(launch.arguments[0], list(launch.arguments), launch.over(os.environ))  # noqa: S606 - no shell
    except OSError:
        raise ServerError("server.invalid_configuration", "Flower is not installed: pip install 'facekeep[federated]'.") from None
