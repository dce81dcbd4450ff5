"""The model packs and the home of a device, seen without a key."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Final

from facekeep.assembly import PREFERRED_DETECTORS, PREFERRED_EMBEDDERS
from facekeep.doctor.report import HomeState, PackState, Problem
from facekeep.errors import FacekeepError
from facekeep.keys.keystore import parse_header, split_keystore
from facekeep.packs import Build, Manifest, PackStore, split_name
from facekeep.runtime import available_runtimes
from facekeep.vault.creation import KEYSTORE_FILE, VAULT_FILE
from facekeep.vault.store import APPLICATION_ID, SCHEMA_VERSION

# Offsets in the header of a SQLite file: https://www.sqlite.org/fileformat2.html#the_database_header
_USER_VERSION_AT: Final = 60
_APPLICATION_ID_AT: Final = 68
_LARGEST_KEYSTORE: Final = 1 << 16
_LITTLE_SPACE_MB: Final = 100
_PULL: Final = "facekeep models pull "
_OFFLINE: Final = " or, offline, "


def examine_packs(store: PackStore, problems: list[Problem]) -> tuple[PackState, ...]:
    """Return how every known pack stands; every file that is here is hashed."""
    states = []
    for manifest in store.manifests():
        try:
            states.append(_pack(store, manifest, problems))
        except FacekeepError as error:
            problems.append(Problem("problem", f"Pack {manifest.id} cannot be examined: {error.args[0]}", ""))
    ready = {state.task for state in states if state.builds and "simulation" not in state.permitted_uses}
    problems += [
        Problem("problem", f"No pack for {task} of real faces is installed.", _advice(store, states, task))
        for task in ("detection", "embedding")
        if task not in ready
    ]
    return tuple(states)


def _pack(store: PackStore, manifest: Manifest, problems: list[Problem]) -> PackState:
    checks = store.verify(manifest.id)
    bad = [check for check in checks if check.state in {"damaged", "unreadable"}]
    damaged = tuple(f"{check.build_id}/{check.name}" for check in bad)
    whole = {check.build_id for check in checks} - {check.build_id for check in checks if check.state != "ok"}
    builds = tuple(build.id for build in manifest.builds if build.id in whole and build.unusable_because is None)
    if damaged:
        problems.append(
            Problem(
                "problem",
                f"Pack {manifest.id} is damaged: {', '.join(damaged)}.",
                _replacement(manifest, tuple(dict.fromkeys(check.build_id for check in bad))),
            )
        )
    pointed = tuple(build.id for build in manifest.builds if build.id in builds and build.operating_points)
    if manifest.task == "embedding" and builds and not pointed:
        problems.append(
            Problem("problem", f"Pack {manifest.id} has no threshold for the builds that are here.", "Bring in another build.")
        )
    return PackState(
        manifest.id,
        manifest.task,
        manifest.title,
        builds,
        damaged,
        tuple(manifest.permitted_uses),
        manifest.licence.weights,
        manifest.training_data.consented,
        pointed,
        "" if builds else _obtain(manifest),
    )


def _replacement(manifest: Manifest, build_ids: tuple[str, ...]) -> str:
    """Return what brings damaged builds back. What is brought in again takes the place of what is damaged."""
    if manifest.is_simulation:
        return "Reinstall Facekeep: the pack ships with it."
    commands = " and ".join(_OFFLINE.join(_commands(manifest, manifest.build(build_id))) for build_id in build_ids)
    return f"Run: {commands}. Other builds stay as they are." if len(manifest.builds) > len(build_ids) else f"Run: {commands}."


def _obtain(manifest: Manifest) -> str:
    usable = [build for build in manifest.builds if build.unusable_because is None]
    if not usable:
        return f"no build runs: {manifest.builds[0].unusable_because}"
    working = {status.name for status in available_runtimes() if status.works}
    # A build that this machine can run, with a threshold where one is needed, and among them one that can be pulled.
    best = max(usable, key=lambda build: (build.runtime in working, bool(build.operating_points), build.can_be_pulled))
    return _commands(manifest, best)[0]


def _commands(manifest: Manifest, build: Build) -> tuple[str, ...]:
    """Return the commands that bring a build here, best first."""
    offline = f"facekeep models import FILE ({' and '.join(file.name for file in build.files)})"
    return (f"facekeep models pull {manifest.id}/{build.id}", offline) if build.can_be_pulled else (offline,)


def _advice(store: PackStore, states: list[PackState], task: str) -> str:
    preferred = PREFERRED_DETECTORS if task == "detection" else PREFERRED_EMBEDDERS
    obtain = {state.id: state.obtain for state in states}
    best = next((obtain[name] for name in preferred if obtain.get(name, "").startswith(_PULL)), None)
    if best is None:
        return "Bring one in: facekeep models import FILE"
    pack_id, build_id = split_name(best.removeprefix(_PULL))
    manifest = store.manifest(pack_id)
    return f"Run: {_OFFLINE.join(_commands(manifest, manifest.build(build_id or '')))}"


def examine_home(home: Path, problems: list[Problem]) -> HomeState:
    """Return how the home stands, without opening anything in it."""
    if not home.is_dir():
        if home.exists():
            problems.append(Problem("problem", f"{home} is no directory.", "Name another home."))
        elif (above := _existing(home)) is not None:
            _examine_writing(home, above, problems)
        return HomeState(str(home), False, False, "", None, "", 0, 0, _free_mb(home))
    _examine_writing(home, home, problems)
    mode = stat.S_IMODE(home.stat().st_mode)
    vault = home / VAULT_FILE
    has_vault = vault.is_file()
    if mode & 0o077:
        problems.append(Problem("problem", f"Others may enter {home} (permissions {mode:04o}).", f"Run: chmod 700 {home}"))
    # A model pack is no secret; everything else is the vault's, its keys' or says who guards them.
    problems += [
        Problem("problem", f"Others may read {path}.", f"Run: chmod 600 {path}")
        for path in sorted(home.iterdir())
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    free = _free_mb(home)
    if free < _LITTLE_SPACE_MB:
        problems.append(Problem("problem", f"Only {free} MiB are free on the disk of {home}.", "Free some space."))
    sizes = [path.stat().st_size for path in home.iterdir() if path.is_file()]
    packs = [path.stat().st_size for path in (home / "packs").rglob("*") if path.is_file()]
    return HomeState(
        str(home),
        True,
        has_vault,
        f"{mode:04o}",
        _vault_format(vault, problems) if has_vault else None,
        _key_provider(home / KEYSTORE_FILE, problems) if has_vault else "",
        sum(sizes),
        sum(packs),
        free,
    )


def _examine_writing(home: Path, existing: Path, problems: list[Problem]) -> None:
    """Note what stops a device from writing: every decision is recorded, so without that every command is refused.

    Args:
        home: directory of the device.
        existing: it, or the nearest directory above that is there.
        problems: receives what was found.
    """
    consequence = "nothing can be recorded, so nothing runs."
    if os.statvfs(existing).f_flag & os.ST_RDONLY:
        problems.append(
            Problem(
                "problem", f"{home} is on a read-only file system; {consequence}", "Mount it for writing, or name another home."
            )
        )
        return
    # SQLite makes a log beside the vault: the directory counts as well as the files.
    problems += [
        Problem("problem", f"{path} cannot be written by this user; {consequence}", f"Run: chmod u+w {path}")
        for path in (existing, *(existing / name for name in (VAULT_FILE, KEYSTORE_FILE) if existing == home))
        if path.exists() and not os.access(path, os.W_OK)
    ]


def _vault_format(vault: Path, problems: list[Problem]) -> int | None:
    with vault.open("rb") as file:
        header = file.read(100)
    number = int.from_bytes(header[_USER_VERSION_AT : _USER_VERSION_AT + 4], "big")
    found = int.from_bytes(header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4], "big")
    if not header.startswith(b"SQLite format 3\0") or found != APPLICATION_ID:
        problems.append(Problem("problem", f"{vault} is no Facekeep vault.", "Restore it from a backup."))
        return None
    if number > SCHEMA_VERSION:
        problems.append(Problem("problem", f"{vault} has format {number}, newer than this Facekeep reads.", "Update Facekeep."))
    return number


def _key_provider(keystore: Path, problems: list[Problem]) -> str:
    try:
        if keystore.stat().st_size > _LARGEST_KEYSTORE:
            raise OSError("too large")
        return parse_header(split_keystore(keystore.read_bytes())[0])[0]
    except FileNotFoundError:
        problems.append(
            Problem("problem", f"The keystore {keystore} is missing; no key opens the vault.", "Restore it from a backup.")
        )
    except (OSError, FacekeepError):
        problems.append(Problem("problem", f"The keystore {keystore} cannot be read.", "Restore it from a backup."))
    return ""


def _free_mb(path: Path) -> int:
    existing = _existing(path)
    return shutil.disk_usage(existing).free >> 20 if existing else 0


def _existing(path: Path) -> Path | None:
    return next((each for each in (path, *path.parents) if each.exists()), None)
