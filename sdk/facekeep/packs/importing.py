"""Bringing in files that somebody already has: recognised by their hash, checked like a download.

A weights file is known by its SHA-256 alone, whatever it is called. A manifest comes with the files beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekeep.errors import ModelError
from facekeep.packs.files import open_regular, read_checked, sha256_of, typed_io
from facekeep.packs.manifest import Build, Manifest, PackFile
from facekeep.packs.parsing import LARGEST_MANIFEST_BYTES, parse_manifest

if TYPE_CHECKING:
    from facekeep.packs.store import PackStore


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import led to.

    Attributes:
        complete: "pack/build" of each build that can be used now.
        incomplete: "pack/build" of each build that got a file and lacks another, with the names it lacks.
        manifest: id of the pack that became known, or None.
        note: why a build that is complete still cannot be used, may be empty.
    """

    complete: tuple[str, ...]
    incomplete: tuple[tuple[str, tuple[str, ...]], ...]
    manifest: str | None = None
    note: str = ""


def import_file(store: PackStore, path: Path, pack_id: str | None = None) -> ImportReport:
    """Bring a weights file, or a manifest and the files beside it, into `store`.

    Args:
        store: where to.
        path: a weights file of any name, or a manifest that ends in ".json".
        pack_id: the pack it belongs to; left out: whichever pack pins its hash.

    Raises:
        ModelError: "model.io" (unreadable), "model.unknown_pack" (no known pack pins this file), "model.hash_mismatch" (not
            a file of `pack_id`, or a file beside the manifest that differs), "model.invalid_manifest", "model.disk_full".
    """
    with typed_io(f"reading {path.name}"), open_regular(path):
        pass
    if path.suffix.lower() == ".json":
        return _import_manifest(store, path)
    return _import_weights(store, path, pack_id)


def _import_weights(store: PackStore, path: Path, pack_id: str | None) -> ImportReport:
    manifests = store.manifests() if pack_id is None else (store.manifest(pack_id),)
    with typed_io(f"reading {path.name}"):
        size = path.stat().st_size
        places = _places(manifests, size, "") and _places(manifests, size, sha256_of(path))
    if not places:
        if pack_id is not None:
            raise ModelError("model.hash_mismatch", f"{path.name} ({size} bytes) is none of the files that pack {pack_id!r} pins.")
        raise ModelError(
            "model.unknown_pack",
            f"No known pack pins {path.name} ({size} bytes). Import its manifest first: facekeep models import MANIFEST.json",
        )
    with typed_io(f"reading {path.name}"):
        # Read once more and checked on the way: the file may have changed since it was hashed.
        data = read_checked(path, places[0][2])
    for manifest, build, file in places:
        store.add_file(manifest.id, build, file, data)
    return _report(store, [(manifest, build) for manifest, build, _ in places])


def _import_manifest(store: PackStore, path: Path) -> ImportReport:
    with typed_io(f"reading {path.name}"), open_regular(path) as stream:
        data = stream.read(LARGEST_MANIFEST_BYTES + 1)
    manifest = parse_manifest(data)
    store.require_free(manifest.id)
    # Everything is checked before anything is written: a wrong file beside the manifest leaves nothing behind.
    here: list[tuple[Build, PackFile, Path]] = []
    for build in manifest.builds:
        for file in build.files:
            beside = path.parent / file.name
            with typed_io(f"reading {file.name}"):
                if beside.exists():
                    read_checked(beside, file)
                    here.append((build, file, beside))
    store.add_manifest(manifest, data)
    for build, file, beside in here:
        with typed_io(f"reading {file.name}"):
            store.add_file(manifest.id, build, file, read_checked(beside, file))
    touched = {build.id: build for build, _, _ in here}
    return _report(store, [(manifest, build) for build in touched.values()], manifest.id)


def _places(manifests: tuple[Manifest, ...], size: int, sha256: str) -> list[tuple[Manifest, Build, PackFile]]:
    """Return every place that pins a file of this size and, unless empty, this hash."""
    return [
        (manifest, build, file)
        for manifest in manifests
        for build in manifest.builds
        for file in build.files
        if file.size_bytes == size and sha256 in {"", file.sha256}
    ]


def _report(store: PackStore, touched: list[tuple[Manifest, Build]], manifest_id: str | None = None) -> ImportReport:
    complete: list[str] = []
    incomplete: list[tuple[str, tuple[str, ...]]] = []
    notes: list[str] = []
    for manifest, build in touched:
        missing = store.missing_files(manifest.id, build.id)
        name = f"{manifest.id}/{build.id}"
        if missing:
            incomplete.append((name, missing))
            continue
        complete.append(name)
        if build.unusable_because:
            notes.append(f"{name} cannot be used: {build.unusable_because}")
    return ImportReport(tuple(complete), tuple(incomplete), manifest_id, " ".join(notes))
