"""`facekeep consent export | verify | countersign`: receipts out, verdicts on them, the controller's signatures in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import EXIT_CODES, JsonOption, say, table
from facekeep.cli.reading import read_bounded
from facekeep.clock import SystemClock, parse_rfc3339, to_rfc3339
from facekeep.consent import Notice, RevocationList, VerifierKey, open_revocation_list
from facekeep.consent.revocation import LARGEST_LIST_BYTES
from facekeep.errors import ConsentError, TrustError

SubjectArgument = Annotated[str, typer.Argument(help="Your identifier of the subject.")]
DeviceKeyOption = Annotated[
    str, typer.Option("--device-key", help="The device's public key: NAME+HASH+KEY, or the hexadecimal key that status prints.")
]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this module."""
    app.command()(export)
    app.command()(verify)
    app.command()(countersign)
    app.command("install-delegation")(install_delegation)


def export(
    context: typer.Context,
    subject: SubjectArgument,
    out: Annotated[Path | None, typer.Option(help="File for the receipt in JSON; standard output if no file is named.")] = None,
    html: Annotated[Path | None, typer.Option(help="File for a page that people can read, with the JSON in it.")] = None,
    notice: Annotated[list[Path] | None, typer.Option(help="Notice that was shown, to enclose its text; repeat for more.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the receipt of a subject's consent: every record, signed, to be checked anywhere."""
    from facekeep.consent.page import receipt_page
    from facekeep.consent.receipt import open_receipt

    notices = [Notice(read_file(path, 1 << 20).decode("utf-8", "replace")) for path in notice or []]
    with options_of(context).open_device() as device:
        data = device.consents.receipt(subject, notices=notices)
        key = VerifierKey.of_device(bytes.fromhex(device.info().public_key))
    receipt = open_receipt(data, key)
    if out is not None:
        write_file(out, data)
    if html is not None:
        write_file(html, receipt_page(receipt, data).encode("utf-8"))
    if out is None and html is None:
        # The receipt is a JSON object by itself.
        print(data.decode("utf-8"))  # noqa: T201
        return
    written = [str(path) for path in (out, html) if path is not None]
    value = {"receipt_id": receipt.receipt_id, "records": len(receipt.records), "device_key": str(key), "files": written}
    say(f"Receipt of {len(receipt.records)} record(s) written to {', '.join(written)}.\nDevice key: {key}", value, as_json=as_json)


def verify(
    file: Annotated[Path, typer.Argument(help="A receipt, in JSON or as a page.")],
    device_key: DeviceKeyOption,
    controller_key: Annotated[str | None, typer.Option(help="The controller's public key, NAME+HASH+KEY.")] = None,
    require_controller: Annotated[
        bool, typer.Option("--require-controller", help="Fail unless the controller signed the record in force.")
    ] = False,
    revocations: Annotated[Path | None, typer.Option(help="The newest revocation list.")] = None,
    issuer_key: Annotated[str | None, typer.Option(help="Public key of the list's issuer, NAME+HASH+KEY.")] = None,
    at: Annotated[str | None, typer.Option(help="Instant to judge for, such as 2026-11-21T12:00:00.000Z; now if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a receipt with public keys only, offline, without a device. Exit code 0 only for a consent in force."""
    from facekeep.consent.receipt import LARGEST_RECEIPT_BYTES, open_receipt
    from facekeep.consent.verdict import ControllerVerdict, Verdict, judge_receipt

    if (require_controller and controller_key is None) or (revocations is None) != (issuer_key is None):
        raise typer.BadParameter("--require-controller takes --controller-key, and --revocations takes --issuer-key.")
    try:
        instant = SystemClock().now() if at is None else parse_rfc3339(at)
    except ValueError:
        raise typer.BadParameter("--at takes an instant such as 2026-11-21T12:00:00.000Z.") from None
    receipt = open_receipt(read_file(file, LARGEST_RECEIPT_BYTES), device_key_of(device_key))
    known: RevocationList | None = None
    if revocations is not None and issuer_key is not None:
        known = open_revocation_list(read_file(revocations, LARGEST_LIST_BYTES), VerifierKey.parse(issuer_key))
    controller = VerifierKey.parse(controller_key) if controller_key else None
    found = judge_receipt(receipt, at=instant, controller=controller, revocations=known)
    if require_controller and found.controller not in (ControllerVerdict.SIGNED, ControllerVerdict.DELEGATED):
        raise ConsentError("consent.not_countersigned", "The receipt verifies, but the controller has not signed its consent.")
    value = {
        "verdict": found.verdict,
        "at": to_rfc3339(found.at),
        "purposes": sorted(found.purposes),
        "controller": found.controller,
        "names_a_controller": found.names_a_controller,
        "receipt_id": receipt.receipt_id,
        "issued_at": to_rfc3339(receipt.issued_at),
        "principal_id": receipt.principal_id,
        "records": [
            {
                "record_id": record.record_id,
                "state": record.state,
                "time": to_rfc3339(record.recorded_at),
                "purposes": sorted(record.purposes),
                "controller": signer,
            }
            for record, signer in found.records
        ],
    }
    rows = [
        (to_rfc3339(record.recorded_at), record.state, ", ".join(sorted(record.purposes)), record.actor.kind, signer)
        for record, signer in found.records
    ]
    text = (
        f"Every signature and link verifies. Consent at {to_rfc3339(found.at)}: {found.verdict}"
        f"{' for ' + ', '.join(sorted(found.purposes)) if found.purposes else ''}. Controller's signature: {found.controller}.\n"
        f"{table(('recorded', 'state', 'purposes', 'by', 'controller'), rows)}"
    )
    say(text, value, as_json=as_json)
    if found.verdict is not Verdict.IN_FORCE:
        raise typer.Exit(EXIT_CODES["consent"])


def countersign(
    context: typer.Context,
    subject: SubjectArgument,
    file: Annotated[Path, typer.Argument(help="Countersignatures, made by `facekeep consent controller countersign`.")],
    as_json: JsonOption = False,
) -> None:
    """Attach the controller's signatures to the records of a subject."""
    data = read_file(file, 1 << 20)
    with options_of(context).open_device() as device:
        count = device.consents.countersign(subject, data)
    say(f"{count} record(s) countersigned.", {"countersigned": count}, as_json=as_json)


def install_delegation(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A delegation, made by `facekeep consent controller delegate`.")],
    as_json: JsonOption = False,
) -> None:
    """Let this device sign consents for the controller at once, as the controller's delegation says."""
    data = read_file(file, 1 << 16)
    with options_of(context).open_device() as device:
        delegation = device.consents.install_delegation(data)
    until = to_rfc3339(delegation.valid_until)
    value = {"controller": delegation.controller, "until": until}
    say(f"Consents are signed for {delegation.controller} until {until}.", value, as_json=as_json)


def device_key_of(text: str) -> VerifierKey:
    """Return the device key that an option names.

    Raises:
        TrustError: "trust.malformed".
    """
    if "+" in text:
        return VerifierKey.parse(text)
    try:
        return VerifierKey.of_device(bytes.fromhex(text))
    except ValueError:
        raise TrustError("trust.malformed", "A device key is NAME+HASH+KEY or 64 hexadecimal digits.") from None


def write_file(path: Path, data: bytes, *, secret: bool = False) -> None:
    """Write a new file; one that exists is not replaced.

    Raises:
        typer.BadParameter: if it exists or cannot be written.
    """
    try:
        handle = os.open(path.expanduser(), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if secret else 0o644)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}.") from None


def read_file(path: Path, limit: int, *, secret: bool = False) -> bytes:
    """Return the content of a file that an option names.

    Raises:
        TrustError: "trust.malformed" if it cannot be read.
    """
    try:
        return read_bounded(path, limit, secret=secret)
    except PermissionError:
        raise TrustError("trust.malformed", f"{path} may not be read, or others may read it and it is secret.") from None
    except (OSError, ValueError):
        raise TrustError("trust.malformed", f"{path} is not a regular file that can be read, of at most {limit} bytes.") from None
