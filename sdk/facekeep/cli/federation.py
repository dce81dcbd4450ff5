"""`facekeep federate`: this device in a federation. Only `node` uses the network."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Annotated, Final

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import JsonOption, say
from facekeep.cli.reading import read_small_text
from facekeep.cli.recognition import SourcesArgument, SubjectArgument, pictures_of
from facekeep.consent import Purpose
from facekeep.errors import FederationError, ReleaseError, VaultError

app = typer.Typer(help="Federated rounds: join, collect, adopt releases. Only node uses the network.", no_args_is_help=True)

_LARGEST_BUNDLE: Final = 64 * 1024 * 1024


@app.command()
def join(
    context: typer.Context,
    policy: Annotated[Path, typer.Argument(help="The federation's policy, a TOML file, as its operator gave it to you.")],
    out: Annotated[Path | None, typer.Option(help="File for the introduction, for the operator; printed if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take part in a federation under a policy; what is printed lets the operator put this device on the roster."""
    from facekeep.protocol import Action, Challenge, FederationPolicy
    from facekeep.protocol.requests import NONCE_BYTES

    try:
        text = read_small_text(policy)
    except (OSError, ValueError):
        raise FederationError(
            "federation.invalid_policy", "The policy cannot be read: it is a text file of at most 1 MiB."
        ) from None
    parsed = FederationPolicy.parse_toml(text)
    with options_of(context).open_device() as device:
        device.federation.join(parsed)
        # The challenge is the same for every device that applies: 32 zero bytes. In a round it is a fresh one.
        body = device.federation.handle(Action.HELLO, Challenge(parsed.name, bytes(NONCE_BYTES)).to_bytes())
    introduction = base64.b64encode(body).decode()
    if out is not None:
        _write(out, f"{introduction}\n")
    told = f"Give {out} to its operator" if out is not None else f"Give this line to its operator:\n{introduction}"
    say(f"Joined {parsed.name}. {told}", {"federation": parsed.name, "introduction": introduction}, as_json=as_json)


@app.command()
def leave(context: typer.Context, as_json: JsonOption = False) -> None:
    """Take part no longer; training samples and the keys of rounds are destroyed. The model in use stays."""
    with options_of(context).open_device() as device:
        name = device.federation.policy().name
        device.federation.leave()
    say(f"Left {name}.", {"federation": name}, as_json=as_json)


@app.command()
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say where this device stands: federation, samples, privacy spent, release in use."""
    with options_of(context).open_device() as device:
        found = device.federation.status()
        limit = device.federation.policy().epsilon if found.federation else None
    value = {name: getattr(found, name) for name in found.__dataclass_fields__}
    if found.federation is None:
        text = "This device takes part in no federation."
    else:
        spent = f"epsilon {found.spent} of {limit:g}" if found.spent is not None else "an amount that cannot be accounted for here"
        text = f"In {found.federation}: {found.samples} training samples, {found.charges} rounds charged, {spent} spent."
    release = f"Release {found.release} is in use" if found.release else "The model that shipped is in use"
    waiting = f"; {found.waiting} subjects follow it at their next verification" if found.waiting else ""
    say(f"{text}\n{release}{waiting}.", value, as_json=as_json)


@app.command()
def collect(
    context: typer.Context,
    subject: SubjectArgument,
    sources: SourcesArgument,
    kind: Annotated[str, typer.Option(help='Of which capture, such as "night".')] = "collected",
    unsafe_without_comparison: Annotated[
        bool,
        typer.Option(
            "--unsafe-without-comparison",
            help="Keep pictures that do not match the subject's template; somebody has to have seen who is on them.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep sealed training samples of a subject who consented to federated training."""
    pictures = pictures_of(sources)
    with options_of(context).open_device() as device:
        grant = device.consents.require(subject, Purpose.FEDERATED_TRAINING)
        receipt = device.federation.collect(
            subject, pictures, grant, kind=kind, unsafe_without_comparison=unsafe_without_comparison
        )
    refused = [f"  frame {number}: {frame.message}" for number, frame in enumerate(receipt.frames, 1) if not frame.admitted]
    text = "\n".join([f"Kept {receipt.kept} of {len(receipt.frames)} pictures; {receipt.dropped} older ones destroyed.", *refused])
    frames = [{"admitted": frame.admitted, "refused_with": frame.refused_with} for frame in receipt.frames]
    say(text, {"kept": receipt.kept, "dropped": receipt.dropped, "frames": frames}, as_json=as_json)


@app.command("declare")
def declare_group(
    context: typer.Context,
    subject: SubjectArgument,
    group: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens, as the subject said it.")] = "",
    forget: Annotated[bool, typer.Option("--forget", help="Destroy what the subject declared before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep, sealed, the group a subject declares for reports of error rates by groups; it leaves only inside noised sums."""
    if forget == bool(group):
        raise FederationError("federation.malformed", "Name a group, or --forget.")
    with options_of(context).open_device() as device:
        device.federation.declare(subject, None if forget else group)
    say("Forgotten." if forget else f"Kept for {subject}.", {"subject": subject, "held": not forget}, as_json=as_json)


@app.command()
def adopt(
    context: typer.Context,
    bundle: Annotated[Path, typer.Argument(help="Bundle of a release, as `facekeep-server federate release` writes it.")],
    as_json: JsonOption = False,
) -> None:
    """Verify, self-test and put to use a release, and move every template that can follow it."""
    try:
        if bundle.stat().st_size > _LARGEST_BUNDLE:
            raise ReleaseError("release.malformed", "The bundle is larger than any release is.")
        data = bundle.read_bytes()
    except OSError as error:
        raise ReleaseError("release.malformed", f"The bundle cannot be read: {error.strerror}.") from None
    with options_of(context).open_device() as device:
        receipt = device.federation.adopt(data)
    text = f"Release {receipt.version} is in use: {receipt.migrated} templates moved, {receipt.waiting} wait for a verification."
    value = {name: getattr(receipt, name) for name in receipt.__dataclass_fields__}
    say(text, value, as_json=as_json)


@app.command()
def rollback(context: typer.Context, as_json: JsonOption = False) -> None:
    """Go back to the model before the one in use, and refuse the one left for ever."""
    with options_of(context).open_device() as device:
        receipt = device.federation.rollback()
    where = f"release {receipt.version}" if receipt.version else "the model that shipped"
    text = f"Left release {receipt.left} for {where}: {receipt.migrated} templates moved back, {receipt.waiting} wait."
    value = {name: getattr(receipt, name) for name in receipt.__dataclass_fields__}
    say(text, value, as_json=as_json)


@app.command()
def contract(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="File to write.")],
    as_json: JsonOption = False,
) -> None:
    """Write what this device's embeddings are made by: whoever makes releases for it needs that. Nothing in it is anybody's."""
    with options_of(context).open_device() as device:
        described = device.federation.describe_contract()
    _write(out, described.decode())
    say(f"Written to {out}.", {"contract": str(out), "bytes": len(described)}, as_json=as_json)


@app.command()
def node(
    context: typer.Context,
    kit: Annotated[Path, typer.Argument(help="Folder of the node kit that the coordinator made for this device.")],
    port: Annotated[int | None, typer.Option(min=1, max=65_535, help="Of the node's own interface on 127.0.0.1.")] = None,
) -> None:
    """Become this device's Flower SuperNode, with the flags and the environment that this package wants.

    The device's key has to be named by --key-file, --passphrase-file or --keyring: nobody is there to be asked.
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
    if options.asked_provider() is None:
        raise VaultError("vault.no_key", "Name who guards the key, with --key-file or its kind: nobody is there to be asked.")
    try:
        os.execve(launch.arguments[0], list(launch.arguments), {**launch.over(os.environ), **environment})  # noqa: S606 - no shell
    except OSError:
        raise FederationError("federation.invalid_policy", "Flower is not installed: pip install 'facekeep[federated]'.") from None


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FederationError("federation.malformed", f"{path} cannot be written: {error.strerror}.") from None
