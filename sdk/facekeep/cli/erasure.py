"""`facekeep erasure`: show that an erasure is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import JsonOption, exit_code_of, say, table
from facekeep.cli.reading import read_small_text
from facekeep.errors import ErasureError
from facekeep.packs import PackStore
from facekeep.residue.verdict import ScanReport, Verdict
from facekeep.retention import ErasureReceipt

app = typer.Typer(help="Prove that an erasure is complete.", no_args_is_help=True)

_MEANING = {
    Verdict.CLEAN: "Clean: nothing is left in any file.",
    Verdict.SHUT: "Shut: older copies hold ciphertext whose keys are destroyed. Delete them when you can.",
    Verdict.RESIDUE: "Residue: something is left that has to go.",
    Verdict.INCOMPLETE: "Incomplete: not every file could be read.",
}


@app.command()
def verify(
    context: typer.Context,
    subject: Annotated[str | None, typer.Argument(help="Your identifier of who was erased.")] = None,
    receipt: Annotated[Path | None, typer.Option("--receipt", help="Receipt that `facekeep withdraw --receipt` wrote.")] = None,
    also: Annotated[list[Path] | None, typer.Option("--also", help="Directory of copies to search too; repeat for more.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Search every file of the home, and of its copies, for what an erasure should have destroyed."""
    given = _read_receipt(receipt) if receipt is not None else None
    options = options_of(context)
    with options.open_device(keep_retention=False) as device:
        report = device.erasures.verify(
            subject=subject,
            receipt=given,
            also=[path.expanduser() for path in also or ()],
            known_sha256=_model_files(options.pack_store()),
        )
    rows: list[tuple[object, ...]] = [
        (item.store, item.trace, item.offset, item.detail, "shut" if item.is_shut else "") for item in report.findings
    ]
    rows += [(store, "unread", "", reason, "") for store, reason in report.unread]
    text = f"{_MEANING[report.verdict]} {report.files} files, {report.size_bytes:,} bytes."
    if rows:
        text += f"\n{table(('file', 'what', 'at', 'how', ''), rows)}"
    say("\n".join([text, *(f"Not searched: {item}." for item in report.not_searched)]), report.to_json(), as_json=as_json)
    _leave(report)


@app.command("receipt")
def show_receipt(
    file: Annotated[Path, typer.Argument(help="Receipt of an erasure.")],
    public_key: Annotated[str, typer.Option("--public-key", help="The device's Ed25519 key, 64 hexadecimal digits.")],
    as_json: JsonOption = False,
) -> None:
    """Check a receipt with nothing but the device's public key: its signature, and that the trail holds its entry."""
    try:
        key = bytes.fromhex(public_key)
    except ValueError:
        raise ErasureError("erasure.invalid_receipt", "A public key is 64 hexadecimal digits.") from None
    found = _read_receipt(file, key)
    text = (
        f"The receipt verifies: {found.references} template(s) destroyed, entry {found.inclusion.seq} of the trail, key epoch "
        f"{found.key_epoch}. Proof of the transparency log: {'included' if found.log_proof else 'not yet'}."
    )
    say(text, found.to_json(), as_json=as_json)


def _read_receipt(path: Path, public_key: bytes | None = None) -> ErasureReceipt:
    try:
        data = read_small_text(path).encode("utf-8")
    except (OSError, ValueError):
        raise ErasureError("erasure.invalid_receipt", f"The receipt cannot be read from {path}.") from None
    return ErasureReceipt.parse(data, public_key)


def _model_files(packs: PackStore) -> frozenset[str]:
    builds = (build for manifest in packs.manifests() for build in manifest.builds)
    return frozenset(file.sha256 for build in builds for file in build.files)


def _leave(report: ScanReport) -> None:
    try:
        report.require_complete()
    except ErasureError as error:
        raise typer.Exit(exit_code_of(error)) from None
