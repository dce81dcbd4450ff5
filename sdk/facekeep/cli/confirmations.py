"""`facekeep operator` and `facekeep confirm`: the two-person rule."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import EXIT_NON_MATCH, JsonOption, say, table
from facekeep.cli.receipts import read_file, write_file
from facekeep.clock import SystemClock, to_rfc3339
from facekeep.confirmation import PendingIdentification, sign_confirmation
from facekeep.durations import add_duration
from facekeep.errors import ConfirmationError
from facekeep.randomness import SystemRandomness
from facekeep.signing import DeviceKey

if TYPE_CHECKING:
    from facekeep import Identification

operator_app = typer.Typer(help="Operators: who may confirm an identification.", no_args_is_help=True)
app = typer.Typer(help="Identifications that wait for two operators.", no_args_is_help=True)

OperatorArgument = Annotated[str, typer.Argument(help='Letters, a dash and a number, such as "op-17"; no name.')]
PendingArgument = Annotated[str, typer.Argument(help="Id of the identification that waits.")]


@operator_app.command("new-key")
def new_key(
    file: Annotated[Path, typer.Argument(help="File for the private key; it stays with the operator.")],
    as_json: JsonOption = False,
) -> None:
    """Make an operator's key pair, on the operator's own machine. Needs no device."""
    seed = SystemRandomness().token(32)
    write_file(file, seed.hex().encode() + b"\n", secret=True)
    public = DeviceKey(seed).public_bytes.hex()
    say(f"Public key: {public}", {"public_key": public}, as_json=as_json)


@operator_app.command()
def sign(
    commitment: Annotated[str, typer.Argument(help="Of the identification that waits: 64 hexadecimal digits.")],
    key: Annotated[Path, typer.Option(help="File with the operator's private key.")],
    as_json: JsonOption = False,
) -> None:
    """Sign a confirmation, on the operator's own machine. Needs no device."""
    signature = sign_confirmation(_read_key(key), commitment).hex()
    say(signature, {"signature": signature}, as_json=as_json)


@operator_app.command()
def add(
    context: typer.Context,
    operator: OperatorArgument,
    public_key: Annotated[str, typer.Argument(help="64 hexadecimal digits.")],
    as_json: JsonOption = False,
) -> None:
    """Let an operator confirm from now on."""
    with options_of(context).open_device() as device:
        added = device.operators.add(operator, _hex(public_key, "confirmation.invalid_operator"))
    say(f"Operator {added.id} added, key {added.fingerprint}.", {"operator": added.id, "key": added.fingerprint}, as_json=as_json)


@operator_app.command("list")
def list_operators(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the operators."""
    with options_of(context).open_device() as device:
        found = device.operators.list()
    rows = [(item.id, item.fingerprint, to_rfc3339(item.added_at)) for item in found]
    value = {"operators": [{"operator": name, "key": key, "added_at": at} for name, key, at in rows]}
    say(table(("operator", "key", "added"), rows) if rows else "No operator is enrolled.", value, as_json=as_json)


@operator_app.command()
def remove(context: typer.Context, operator: OperatorArgument, as_json: JsonOption = False) -> None:
    """Let an operator confirm no more."""
    with options_of(context).open_device() as device:
        device.operators.remove(operator)
    say("Removed.", {"removed": True}, as_json=as_json)


@app.command()
def rule(
    context: typer.Context,
    confirmations: Annotated[int | None, typer.Argument(help="0 or 2 to 5; left out: show the rule.")] = None,
    term: Annotated[str, typer.Option(help="ISO 8601 duration that a result waits, at most P1D.")] = "PT1H",
    as_json: JsonOption = False,
) -> None:
    """Show or set how many operators have to confirm each identification of this device."""
    with options_of(context).open_device() as device:
        if confirmations is not None:
            device.confirmations.adopt(confirmations, term=_term(term))
        found = device.confirmations.rule()
    seconds = int(found.term.total_seconds())
    text = f"{found.confirmations} operators confirm, within {seconds} s." if found.confirmations else "No rule is in force."
    say(text, {"confirmations": found.confirmations, "term_seconds": seconds}, as_json=as_json)


@app.command("list")
def list_pending(context: typer.Context, as_json: JsonOption = False) -> None:
    """List what waits."""
    with options_of(context).open_device() as device:
        waiting = device.confirmations.pending()
    text = "\n".join(_line(item) for item in waiting) or "Nothing waits."
    say(text, {"pending": [_fields(item) for item in waiting]}, as_json=as_json)


@app.command()
def give(
    context: typer.Context,
    pending: PendingArgument,
    operator: OperatorArgument,
    signature: Annotated[str, typer.Argument(help="What `facekeep operator sign` printed: 128 hexadecimal digits.")],
    as_json: JsonOption = False,
) -> None:
    """Count an operator's confirmation."""
    with options_of(context).open_device() as device:
        found = device.confirmations.confirm(pending, operator, _hex(signature, "confirmation.bad_signature"))
    say_pending(found, as_json=as_json)


@app.command("open")
def open_pending(context: typer.Context, pending: PendingArgument, as_json: JsonOption = False) -> None:
    """Open a result that enough operators have confirmed, once. Exit code 0: identified; 3: ambiguous or unknown."""
    with options_of(context).open_device() as device:
        found = device.confirmations.open(pending)
    extra: dict[str, object] = {
        "operators": list(found.operators),
        "input_commitment": found.input_commitment,
        "input_salt": found.input_salt.hex(),
    }
    say_identification(found.identification, extra, as_json=as_json)


def say_pending(pending: PendingIdentification, *, as_json: bool) -> None:
    """Print what waits, and nothing of its result."""
    say(_line(pending), {"pending": _fields(pending)}, as_json=as_json)


def say_identification(result: Identification, extra: dict[str, object] | None = None, *, as_json: bool) -> None:
    """Print a result; exit code 3 unless one was identified."""
    names = [candidate.subject for candidate in result.candidates]
    value = {
        "outcome": result.outcome,
        "subjects": names,
        "gallery_size": result.gallery_size,
        "waiting": result.waiting,
        "target_fpir": result.target_fpir,
        "fmr": result.operating_point.fmr,
    }
    text = {
        "identified": f"Identified: {', '.join(names)}",
        "ambiguous": f"Ambiguous between {', '.join(names)}",
        "unknown": "Unknown: nobody in the gallery",
    }[result.outcome]
    waiting = f", {result.waiting} not searched until verified once" if result.waiting else ""
    line = f"{text} (gallery of {result.gallery_size}{waiting}, FPIR {result.target_fpir:g})."
    say(line, value | (extra or {}), as_json=as_json)
    if result.outcome != "identified":
        raise typer.Exit(EXIT_NON_MATCH)


def _line(item: PendingIdentification) -> str:
    who = f" ({', '.join(item.confirmed_by)})" if item.confirmed_by else ""
    until = to_rfc3339(item.expires_at)
    state = f"Sealed: {len(item.confirmed_by)} of {item.required} operators have confirmed{who}, until {until}."
    return f"{state}\nid {item.id}\ncommitment {item.commitment}"


def _fields(item: PendingIdentification) -> dict[str, object]:
    return {
        "id": item.id,
        "commitment": item.commitment,
        "created_at": to_rfc3339(item.created_at),
        "expires_at": to_rfc3339(item.expires_at),
        "required": item.required,
        "confirmed_by": list(item.confirmed_by),
    }


def _term(text: str) -> timedelta:
    now = SystemClock().now()
    try:
        return add_duration(now, text) - now
    except ValueError:
        raise ConfirmationError("confirmation.invalid_policy", "A term is an ISO 8601 duration, such as PT1H.") from None


def _hex(text: str, code: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfirmationError(code, "A key and a signature are hexadecimal digits.") from None


def _read_key(path: Path) -> DeviceKey:
    try:
        seed = bytes.fromhex(read_file(path, 256, secret=True).decode("ascii").strip())
        return DeviceKey(seed)
    except ValueError:
        raise ConfirmationError("confirmation.invalid_operator", "The file holds no operator's private key.") from None
