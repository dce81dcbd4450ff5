"""`facekeep models`: what is known, what is installed, and getting it here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from facekeep.cli.opening import options_of
from facekeep.cli.output import EXIT_CODES, JsonOption, say, table
from facekeep.packs import Build, Manifest, Progress, split_name

app = typer.Typer(help="Model packs: list, show, pull, import, verify.", no_args_is_help=True)

PackArgument = Annotated[str, typer.Argument(help="Id of the pack, or pack/build.")]


@app.command("list")
def list_packs(context: typer.Context, as_json: JsonOption = False) -> None:
    """List every pack that is known, with what is installed of it."""
    store = options_of(context).pack_store()
    packs = [_summary(manifest, [build.id for build in store.installed(manifest.id)]) for manifest in store.manifests()]
    rows = [
        (
            pack["id"],
            pack["task"],
            ", ".join(pack["installed"]) or "no",
            pack["licence"],
            ", ".join(pack["permitted_uses"]),
            "yes" if pack["consented"] else "no",
        )
        for pack in packs
    ]
    head = ("pack", "task", "installed", "licence", "permitted uses", "trained on consent")
    say(table(head, rows), {"packs": packs}, as_json=as_json)


@app.command()
def show(context: typer.Context, pack: PackArgument, as_json: JsonOption = False) -> None:
    """Show one pack: source, licence, training data, builds and operating points."""
    store = options_of(context).pack_store()
    manifest = store.manifest(split_name(pack)[0])
    installed = {build.id for build in store.installed(manifest.id)}
    value = _summary(manifest, sorted(installed)) | {
        "title": manifest.title,
        "training_data": manifest.training_data.description,
        "licence_note": manifest.licence.note,
        "source": f"{manifest.source.repository} {manifest.source.path} {manifest.source.commit}".strip(),
        "builds": [_describe(build, installed=build.id in installed) for build in manifest.builds],
    }
    lines = [f"{manifest.id}: {manifest.title}"]
    lines += [f"  {name}: {value[name]}" for name in ("task", "licence", "licence_note", "training_data", "source") if value[name]]
    consented = "yes" if value["consented"] else "no"
    lines.append(f"  permitted uses: {', '.join(manifest.permitted_uses)}; trained on consent: {consented}")
    for build in manifest.builds:
        state = "installed" if build.id in installed else build.unusable_because or "not installed"
        lines.append(f"  build {build.id} ({build.runtime}, {build.precision}): {state}")
        lines += [f"    {file.name}  {file.size_bytes} bytes  sha256 {file.sha256}" for file in build.files]
        lines += [
            f"    FMR {point.fmr:g}: threshold {point.threshold:.4f}, FNMR {point.fnmr:.4f} "
            f"[{point.fnmr_interval[0]:.4f}, {point.fnmr_interval[1]:.4f}] on {point.dataset}"
            for point in build.operating_points
        ]
    say("\n".join(lines), value, as_json=as_json)


@app.command()
def pull(context: typer.Context, pack: PackArgument, as_json: JsonOption = False) -> None:
    """Download a pack from its official address; the one command that uses the network. Resumes where it stopped."""
    pack_id, build_id = split_name(pack)
    store = options_of(context).pack_store()
    build = store.pull(pack_id, build_id, progress=None if as_json else _Bar())
    say(f"Installed {pack_id}/{build.id}, hashes verified.", {"pack": pack_id, "build": build.id}, as_json=as_json)


@app.command("import")
def import_file(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A weights file of a known pack, or a manifest (.json) with its files beside it.")],
    pack: Annotated[str | None, typer.Option(help="The pack the file belongs to; found by its hash if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring in a file that you already have, checked like a download."""
    report = options_of(context).pack_store().import_file(file, pack)
    missing = [f"{name} still needs {', '.join(files)}" for name, files in report.incomplete]
    text = "; ".join([*(f"Installed {name}" for name in report.complete), *missing, *([report.note] if report.note else [])])
    value = {
        "complete": list(report.complete),
        "incomplete": {name: list(files) for name, files in report.incomplete},
        "manifest": report.manifest,
        "note": report.note,
    }
    say(text or "Nothing new.", value, as_json=as_json)


@app.command()
def verify(
    context: typer.Context,
    pack: Annotated[str | None, typer.Argument(help="Id of one pack; all if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash every installed file. Exit code 9 if one is missing or damaged."""
    checks = options_of(context).pack_store().verify(pack)
    rows = [(f"{check.pack_id}/{check.build_id}", check.name, check.state) for check in checks]
    value = {"files": [{"build": build, "file": name, "state": state} for build, name, state in rows]}
    say(table(("build", "file", "state"), rows) if rows else "Nothing is installed.", value, as_json=as_json)
    if any(check.state != "ok" for check in checks):
        raise typer.Exit(EXIT_CODES["model"])


@app.command()
def remove(context: typer.Context, pack: PackArgument, as_json: JsonOption = False) -> None:
    """Delete what was pulled or imported of a pack."""
    freed = options_of(context).pack_store().remove(split_name(pack)[0])
    say(f"Removed, {freed} bytes freed.", {"freed_bytes": freed}, as_json=as_json)


class _Bar:
    """A bar on a terminal, a line for every tenth otherwise."""

    def __init__(self) -> None:
        self._last = ("", -1)

    def __call__(self, progress: Progress) -> None:
        share = progress.received_bytes * 100 // max(progress.total_bytes, 1)
        step = share if sys.stderr.isatty() else share // 10 * 10
        if (progress.file, step) == self._last:
            return
        self._last = (progress.file, step)
        text = f"{progress.file} {step:3d} % of {progress.total_bytes} bytes"
        if sys.stderr.isatty():
            print(f"\r{text}", end="\n" if share >= 100 else "", file=sys.stderr, flush=True)  # noqa: T201
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201


def _summary(manifest: Manifest, installed: list[str]) -> dict[str, Any]:
    return {
        "id": manifest.id,
        "task": manifest.task,
        "installed": installed,
        "licence": manifest.licence.weights,
        "permitted_uses": list(manifest.permitted_uses),
        "consented": manifest.training_data.consented,
    }


def _describe(build: Build, *, installed: bool) -> dict[str, Any]:
    return {
        "id": build.id,
        "runtime": build.runtime,
        "precision": build.precision,
        "installed": installed,
        "unusable_because": build.unusable_because,
        "files": [{"name": file.name, "bytes": file.size_bytes, "sha256": file.sha256, "url": file.url} for file in build.files],
        "operating_points": [
            {
                "fmr": point.fmr,
                "fmr_interval": point.fmr_interval,
                "threshold": point.threshold,
                "fnmr": point.fnmr,
                "fnmr_interval": point.fnmr_interval,
                "dataset": point.dataset,
            }
            for point in build.operating_points
        ],
    }
