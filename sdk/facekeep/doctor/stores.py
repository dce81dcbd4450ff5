"""The model packs and the home of a device, seen without a key."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Final

from facekeep.assembly import PREFERRED_DETECTORS, PREFERRED_EMBEDDERS
from facekeep.doctor.report import HomeState, PackState, Problem
from facekeep.errors import FacekeepError
from facekeep.keys.keystore import parse_header, split_keystore
from facekeep.packs import Manifest, PackStore, fix_command
from facekeep.vault.sqlite import KEYSTORE_FILE, VAULT_FILE
from facekeep.vault.store import APPLICATION_ID, SCHEMA_VERSION

# Offsets in the header of a SQLite file: https://www.sqlite.org/fileformat2.html#the_database_header
_USER_VERSION_AT: Final = 60
_APPLICATION_ID_AT: Final = 68
_LARGEST_KEYSTORE: Final = 1 << 16
_LITTLE_SPACE_MB: Final = 100


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
        Problem("problem", f"No pack for {task} of real faces is installed.", _advice(states, task))
        for task in ("detection", "embedding")
        if task not in ready
    ]
    return tuple(states)


def _pack(store: PackStore, manifest: Manifest, problems: list[Problem]) -> PackState:
    checks = store.verify(manifest.id)
    damaged = tuple(f"{check.build_id}/{check.name}" for check in checks if check.state in {"damaged", "unreadable"})
    whole = {check.build_id for check in checks} - {check.build_id for check in checks if check.state != "ok"}
    builds = tuple(build.id for build in manifest.builds if build.id in whole and build.unusable_because is None)
    if damaged:
        problems.append(
            Problem(
                "problem",
                f"Pack {manifest.id} is damaged: {', '.join(damaged)}.",
                f"Run: facekeep models remove {manifest.id}, then bring it in again.",
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


def _obtain(manifest: Manifest) -> str:
    usable = [build for build in manifest.builds if build.unusable_because is None]
    best = next((build for build in usable if build.can_be_pulled), None) or (usable[0] if usable else None)
    return fix_command(manifest, best) if best else f"no build runs: {manifest.builds[0].unusable_because}"


def _advice(states: list[PackState], task: str) -> str:
    preferred = PREFERRED_DETECTORS if task == "detection" else PREFERRED_EMBEDDERS
    obtain = {state.id: state.obtain for state in states}
    commands = [obtain[name] for name in preferred if obtain.get(name, "").startswith("facekeep models pull")]
    return f"Run: {' or '.join(commands)}" if commands else "Bring one in: facekeep models import FILE"


def examine_home(home: Path, problems: list[Problem]) -> HomeState:
    """Return how the home stands, without opening anything in it."""
    if not home.is_dir():
        if home.exists():
            problems.append(Problem("problem", f"{home} is no directory.", "Name another home."))
        return HomeState(str(home), False, False, "", None, "", 0, 0, _free_mb(home))
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
    existing = next((each for each in (path, *path.parents) if each.exists()), None)
    return shutil.disk_usage(existing).free >> 20 if existing else 0
