"""`witness` and `demo-log`: what an operator of a witness runs, and what an auditor tries the tool on."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from facekeep.clock import SystemClock
from facekeep.errors import LogError
from facekeep.signing import DeviceKey
from facekeep.tlog import TrustPolicy
from facekeep.tlog.keys import is_key_name
from facekeep.tlog.witness import witness_vkey
from facekeep_server.cli.opening import JsonOption, say
from facekeep_server.errors import ServerError
from facekeep_server.journal import set_up_journal

_LARGEST_KEY_FILE = 4_096


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("witness")(witness)
    app.command("demo-log")(demo_log)


def witness(
    name: Annotated[str, typer.Option(help="Name in the cosignatures, such as witness.example.com/w1.")],
    key_file: Annotated[Path, typer.Option(help="Ed25519 private key, PKCS#8 PEM, readable by its owner only; made if absent.")],
    logs: Annotated[Path, typer.Option(help="tlog-policy file; its log lines say which logs to follow.")],
    state: Annotated[Path, typer.Option(help="Folder that remembers what was cosigned. Never delete it.")],
    listen: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8071,
) -> None:
    """Cosign checkpoints of other people's logs (C2SP tlog-witness). Put a TLS terminator in front of it."""
    import uvicorn

    from facekeep_server.witness import Witness, WitnessStore, create_witness_app, logs_of

    if not is_key_name(name):
        raise ServerError("server.invalid_configuration", "The name of a witness has no white space and no plus sign.")
    try:
        policy = TrustPolicy.parse(logs.read_bytes())
    except OSError:
        raise ServerError("server.invalid_configuration", "The file of logs to follow cannot be read.") from None
    except LogError as error:
        raise ServerError("server.invalid_configuration", str(error.args[0])) from None
    followed = logs_of(policy)
    if not followed:
        raise ServerError("server.invalid_configuration", "The file of logs names none; a witness that follows none is of no use.")
    key = load_witness_key(key_file)
    store = WitnessStore(state)
    try:
        typer.echo(f"{witness_vkey(name, key.public_bytes)}\nFollowing {', '.join(sorted(followed))}", err=True)
        set_up_journal()
        app = create_witness_app(Witness(name, key, followed, store))
        uvicorn.run(app, host=listen, port=port, log_config=None, access_log=False, server_header=False)
    finally:
        store.close()


def demo_log(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Empty or absent folder to write into.")],
    entries: Annotated[int, typer.Option(help="Number of entries, at least 1,000.")] = 1_000,
    seed: Annotated[int, typer.Option(help="One seed makes one log, but for its dates.")] = 7,
    as_json: JsonOption = False,
) -> None:
    """Write a real log directory to try the auditor's tool on: several devices, two witnesses, erasures."""
    from facekeep_server.demo_log import write_demo_log

    made = write_demo_log(folder, SystemClock().now(), entries=entries, seed=seed)
    value = {
        "log": str(made.log),
        "policy": str(made.policy),
        "kept": str(made.kept),
        "proof": str(made.proof),
        "entries": made.entries,
        "erased": made.erased,
        "command": made.command,
    }
    say(f"{made.entries} entries, {made.erased} withdrawals with erasure. Audit them:\n{made.command}", value, as_json=as_json)


def load_witness_key(path: Path) -> DeviceKey:
    """Return the key of a PEM file; a missing one is made, on the disk before this returns.

    Raises:
        ServerError: "server.no_key" if it is not an Ed25519 key, or others can read it.
    """
    try:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return _make_key(path)
        with os.fdopen(handle, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o077:
                raise ServerError("server.no_key", "The key file has to be a regular file that only its owner can read: chmod 600.")
            key = load_pem_private_key(stream.read(_LARGEST_KEY_FILE), password=None)
    except (OSError, ValueError, TypeError):
        raise ServerError("server.no_key", "The key file cannot be read as an unencrypted PKCS#8 PEM.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ServerError("server.no_key", "A witness has an Ed25519 key.")
    return DeviceKey(key.private_bytes_raw())


def _make_key(path: Path) -> DeviceKey:
    key = Ed25519PrivateKey.generate()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        stream.flush()
        os.fsync(stream.fileno())
    return DeviceKey(key.private_bytes_raw())
