"""`facekeep retention`: adopt a policy, look at the plan, run it, and hand out certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from facekeep.canonical import parse_canonical
from facekeep.cli.opening import options_of
from facekeep.cli.output import JsonOption, say, table
from facekeep.cli.reading import read_small_text
from facekeep.errors import RetentionError, VaultError
from facekeep.retention import PlannedItem, RetentionCertificate, RetentionPolicy, SignedCertificate, verify_certificate

app = typer.Typer(help="How long what is kept, and what is destroyed when.", no_args_is_help=True)

PolicyOption = Annotated[Path | None, typer.Option("--policy", help="Policy file to try instead of the one adopted.")]
OutOption = Annotated[Path | None, typer.Option("--certificate", help="File to write the signed certificate to.")]


@app.command()
def adopt(
    context: typer.Context,
    policy: Annotated[Path, typer.Argument(help="Policy file (TOML).")],
    as_json: JsonOption = False,
) -> None:
    """Make a policy the one this device keeps. Destroys nothing by itself: look at `plan` first."""
    wanted = _read_policy(policy)
    with options_of(context).open_device(keep_retention=False) as device:
        device.retention.adopt(wanted)
    say(f"Policy {wanted.sha256[:16]} adopted.", {"policy": wanted.sha256}, as_json=as_json)


@app.command()
def plan(
    context: typer.Context,
    policy: PolicyOption = None,
    due_only: Annotated[bool, typer.Option("--due", help="Only what is due.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what is held, by pseudonym, until when, and why not longer. Changes nothing."""
    wanted = _read_policy(policy) if policy is not None else None
    with options_of(context).open_device(keep_retention=False) as device:
        found = device.retention.plan(wanted)
    shown = found.due if due_only else found.items
    total = sum(item.holding.count for item in found.due)
    text = table(("", "what", "of", "number", "held since", "due", "because"), [_row(item) for item in shown])
    value = found.to_json() | {"items": [item.to_json() for item in shown]}
    say(f"{total} due now, under policy {found.policy_sha256[:16]}.\n{text}", value, as_json=as_json)


@app.command()
def run(context: typer.Context, certificate: OutOption = None, as_json: JsonOption = False) -> None:
    """Destroy what is due, now, and record it. A run that was interrupted is continued by the next."""
    with options_of(context).open_device(keep_retention=False) as device:
        signed = device.retention.run()
    _hand_out(signed, certificate, as_json=as_json)


@app.command()
def certificate(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option("--out", help="File to write it to.")] = None,
    seq: Annotated[int | None, typer.Option(min=0, help="Number of the trail's entry of the run; the last if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Hand out the signed certificate of a run, made again from the audit trail."""
    with options_of(context).open_device(keep_retention=False) as device:
        signed = device.retention.certificate(seq)
    _hand_out(signed, out, as_json=as_json)


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="A certificate.")],
    public_key: Annotated[str, typer.Option("--public-key", help="The device's Ed25519 key, 64 hexadecimal digits.")],
    as_json: JsonOption = False,
) -> None:
    """Check a certificate with nothing but the device's public key."""
    try:
        key, data = bytes.fromhex(public_key), read_small_text(file).encode("utf-8")
    except (OSError, ValueError):
        raise RetentionError("retention.invalid_certificate", "Certificate or key cannot be read.") from None
    found = verify_certificate(SignedCertificate.parse(data), key)
    say(f"The certificate verifies. {_sentence(found)}", _value(found), as_json=as_json)


def _read_policy(path: Path) -> RetentionPolicy:
    try:
        text = read_small_text(path)
    except (OSError, ValueError):
        raise RetentionError("retention.invalid_policy", f"The policy cannot be read from {path}: it is TOML in UTF-8.") from None
    return RetentionPolicy.parse_toml(text)


def _hand_out(signed: SignedCertificate, out: Path | None, *, as_json: bool) -> None:
    found = RetentionCertificate.parse(signed.body)
    if out is not None:
        try:
            out.expanduser().write_bytes(signed.to_bytes())
        except OSError as error:
            raise VaultError("vault.io", f"The certificate cannot be written to {out}: {error.strerror}.") from None
    say(_sentence(found), _value(found), as_json=as_json)


def _sentence(found: RetentionCertificate) -> str:
    counts = ", ".join(f"{count} {kind}" for kind, count in found.counts.items() if count) or "nothing was due"
    return f"Entry {found.seq} of the trail, {found.trigger}: {counts}. Certificate {found.sha256[:16]}."


def _value(found: RetentionCertificate) -> dict[str, Any]:
    return {"certificate": parse_canonical(found.to_bytes()), "sha256": found.sha256}


def _row(item: PlannedItem) -> tuple[object, ...]:
    fields = item.to_json()
    pseudonym = (fields["pseudonym"] or "")[:12]
    due = "DUE" if item.is_due else ""
    return due, fields["kind"], pseudonym, fields["count"], fields["held_since"][:10], fields["due"], fields["reason"]
