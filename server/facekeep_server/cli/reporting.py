"""`report` and `export-log`: documents and copies for those who audit."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from facekeep_server.cli.opening import JsonOption, opened, say
from facekeep_server.errors import ServerError
from facekeep_server.reports.names import ReportName


class ReportForm(StrEnum):
    """How a report is written."""

    HTML = "html"
    JSON = "json"


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("report")(report)
    app.command("export-log")(export_log)


def report(
    context: typer.Context,
    name: Annotated[ReportName, typer.Argument(help="Which report.")],
    out: Annotated[Path, typer.Option(help="File to write; readable by you only.")],
    form: Annotated[ReportForm, typer.Option("--format", help="html to read, json for programs.")] = ReportForm.HTML,
    subject: Annotated[
        str | None, typer.Option("--subject", "--pseudonym", help="Pseudonym, for the reports about one person.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Identification log: from this day or instant (UTC) on.")] = None,
    until: Annotated[str | None, typer.Option(help="Identification log: before this day or instant (UTC).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a report made from the log and the running configuration."""
    if subject is not None and (len(subject) != 64 or not set(subject) <= set("0123456789abcdef")):
        raise ServerError("server.invalid_request", "A pseudonym is 64 hexadecimal digits, small letters.")
    # Imported here: --help needs no report.
    from facekeep_server.evidence.sources import Evidence
    from facekeep_server.reports.catalogue import REPORTS, make_report

    with opened(context) as server:
        made = make_report(Evidence.of(server), name, subject=subject, since=since, until=until)
    _write(out, made.to_html() if form is ReportForm.HTML else made.to_text())
    say(f"{REPORTS[name].title}: {out}", {"report": name.value, "file": str(out), "format": form.value}, as_json=as_json)


def export_log(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Empty or absent folder to write into.")],
    as_json: JsonOption = False,
) -> None:
    """Copy the log into a directory of files (C2SP tlog-tiles), for `facekeep audit verify DIR`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ServerError("server.invalid_request", "The folder for the copy has to be empty or absent.")
    from facekeep.logfiles import LogWriter
    from facekeep.tlog.tiles import bundles_of, unpack_bundle

    with opened(context) as server:
        checkpoint, note = server.published()
        with LogWriter(folder, durable=False) as writer:
            for bundle in bundles_of(checkpoint.size):
                writer.append(unpack_bundle(server.reader.bundle(bundle), bundle.width))
            if writer.checkpoint(checkpoint.origin) != checkpoint:
                raise ServerError(
                    "server.corrupt", "The entries in the database do not lead to the checkpoint. The copy was not finished."
                )
            writer.publish(note)
    text = f"{checkpoint.size} entries. Audit them: facekeep audit verify {folder} --policy FILE"
    say(text, {"log": str(folder), "entries": checkpoint.size}, as_json=as_json)


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.new")
    try:
        # Pseudonyms are personal data: for its owner only, whatever the umask, and never half a report under the final name.
        with os.fdopen(
            os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8"
        ) as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(text)
        draft.replace(path)
    except OSError as error:
        raise ServerError("server.invalid_request", f"{path} cannot be written: {error.strerror}.") from None
