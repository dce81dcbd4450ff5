"""`facekeep consent controller`: what the controller does on a machine of its own, with its private key. Needs no device."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from facekeep.cli.output import JsonOption, say
from facekeep.cli.receipts import DeviceKeyOption, device_key_of, read_file, write_file
from facekeep.clock import SystemClock, parse_rfc3339, to_rfc3339
from facekeep.consent import ControllerKey, Purpose, VerifierKey, new_delegation, new_revocation_list, sign_revocation_list
from facekeep.consent.revocation import LARGEST_LIST_BYTES, SALT_BYTES, open_revocation_list
from facekeep.durations import add_duration
from facekeep.errors import ConsentError
from facekeep.randomness import SystemRandomness

app = typer.Typer(help="For the controller: keys, delegations, countersignatures, revocation lists.", no_args_is_help=True)

KeyOption = Annotated[Path, typer.Option("--key", help="File with the controller's private key, readable by its owner only.")]
OutOption = Annotated[Path, typer.Option("--out", help="File to write.")]


@app.command("new-key")
def new_key(
    file: Annotated[Path, typer.Argument(help="File for the private key.")],
    name: Annotated[str, typer.Option(help="Name of the key, such as controller.example/consent.")],
    as_json: JsonOption = False,
) -> None:
    """Make a key pair. The private half goes into the file, the public half to whoever verifies."""
    key = ControllerKey(name, SystemRandomness().token(32))
    write_file(file, key.to_text().encode(), secret=True)
    say(f"Public key: {key.verifier}", {"public_key": str(key.verifier)}, as_json=as_json)


@app.command()
def delegate(
    key: KeyOption,
    device_key: DeviceKeyOption,
    valid_for: Annotated[str, typer.Option(help="ISO 8601 duration, such as P90D.")],
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Let a device sign consents for the controller, for a term: it then needs nobody while it is offline."""
    now = _now()
    delegation = new_delegation(_key(key), device_key_of(device_key).public_key, now, _after(now, valid_for))
    write_file(out, delegation.to_bytes())
    until = to_rfc3339(delegation.valid_until)
    say(f"Delegated until {until}. Install it with `facekeep consent install-delegation`.", {"until": until}, as_json=as_json)


@app.command()
def countersign(
    receipt: Annotated[Path, typer.Argument(help="A receipt, in JSON or as a page.")],
    key: KeyOption,
    device_key: DeviceKeyOption,
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt and sign every record of it; the device attaches the signatures with `facekeep consent countersign`."""
    from facekeep.consent.countersignatures import countersign_receipt
    from facekeep.consent.receipt import LARGEST_RECEIPT_BYTES, open_receipt

    found = open_receipt(read_file(receipt, LARGEST_RECEIPT_BYTES), device_key_of(device_key))
    write_file(out, countersign_receipt(found, _key(key)))
    say(f"{len(found.records)} record(s) signed.", {"signed": len(found.records)}, as_json=as_json)


@app.command()
def revoke(
    file: Annotated[Path, typer.Argument(help='JSON: {"PRINCIPAL": {"at": INSTANT, "purposes": [...] or null}, ...}.')],
    key: KeyOption,
    valid_for: Annotated[str, typer.Option(help="ISO 8601 duration until the next list is due, such as P7D.")],
    out: OutOption,
    after: Annotated[Path | None, typer.Option(help="The list before this one; left out only for the very first.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a revocation list that names everyone in the file, one epoch after the list before."""
    signer, now = _key(key), _now()
    epoch = 1
    if after is not None:
        epoch = open_revocation_list(read_file(after, LARGEST_LIST_BYTES), signer.verifier).epoch + 1
    made = new_revocation_list(
        issuer=signer.verifier.name,
        epoch=epoch,
        issued_at=now,
        next_update=_after(now, valid_for),
        salt=SystemRandomness().token(SALT_BYTES),
        revoked=_revoked(read_file(file, LARGEST_LIST_BYTES)),
    )
    write_file(out, sign_revocation_list(made, signer).encode("utf-8"))
    value = {"issuer": made.issuer, "epoch": made.epoch, "entries": len(made.entries), "next_update": to_rfc3339(made.next_update)}
    say(f"Revocation list of epoch {made.epoch} names {len(made.entries)}.", value, as_json=as_json)


@app.command("show-key")
def show_key(key: KeyOption, as_json: JsonOption = False) -> None:
    """Print the public half of a private key."""
    verifier: VerifierKey = _key(key).verifier
    say(str(verifier), {"public_key": str(verifier)}, as_json=as_json)


def _key(path: Path) -> ControllerKey:
    return ControllerKey.parse(read_file(path, 4096, secret=True).decode("utf-8", "replace"))


def _now() -> datetime:
    return parse_rfc3339(to_rfc3339(SystemClock().now()))


def _after(now: datetime, duration: str) -> datetime:
    try:
        return add_duration(now, duration)
    except ValueError as error:
        raise typer.BadParameter(f"--valid-for: {error}.") from None


def _revoked(data: bytes) -> list[tuple[str, datetime, frozenset[Purpose] | None]]:
    try:
        return [
            (principal, parse_rfc3339(entry["at"]), _purposes(entry.get("purposes")))
            for principal, entry in json.loads(data).items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConsentError(
            "consent.invalid_request", "The file is not JSON that says for each principal when and for what it withdrew."
        ) from None


def _purposes(named: list[str] | None) -> frozenset[Purpose] | None:
    return None if named is None else frozenset(Purpose(item) for item in named)
