"""`facekeep-server federate release make | sign | publish | log | status | withhold`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from facekeep.clock import SystemClock
from facekeep_server.cli.federated_releases import StateOption
from facekeep_server.cli.opening import JsonOption, say
from facekeep_server.errors import ServerError
from facekeep_server.federation.state import FederationState

if TYPE_CHECKING:
    from facekeep.audit import AuditEvent
    from facekeep_server.releases.evaluating import EvaluationCrops
    from facekeep_server.releases.making import Evaluating

release_app = typer.Typer(help="From a candidate to a release that the fleet uses.", no_args_is_help=True)

WaitOption = Annotated[
    float, typer.Option(min=0, help="Where the policy names a log: how long to try while the log or its witnesses are away.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(release_app, name="release")


@release_app.command()
def make(
    state: StateOption,
    version: Annotated[int | None, typer.Option(help="Which candidate; the newest if left out.")] = None,
    crops: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of evaluation crops, a folder for each person; repeat. The first gives the operating points."),
    ] = None,
    render: Annotated[str | None, typer.Option(help="Command that writes such a folder in the place of {}.")] = None,
    contract: Annotated[Path | None, typer.Option(help="File that `facekeep federate contract` wrote on a device.")] = None,
    calibration: Annotated[
        int | None, typer.Option(help="Release the model in use anew, with thresholds of this calibration round.")
    ] = None,
    fmr: Annotated[list[float] | None, typer.Option(help="With --calibration: false match rates to give thresholds for.")] = None,
    fall: Annotated[
        list[str] | None, typer.Option(help="FMR=SHARE: by how much TAR may fall; repeat. 0.01=0.005 and 0.001=0.01 if left out.")
    ] = None,
    most_change: Annotated[float, typer.Option(help="Largest norm of the change over that of the numbers it changes.")] = 0.25,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Until when it may be adopted.")] = 180,
    as_json: JsonOption = False,
) -> None:
    """Have the gate judge a candidate, and write the text that release keys sign. One that does not pass is withheld."""
    from datetime import timedelta

    from facekeep_server.federation.candidates import read_candidate
    from facekeep_server.releases.gate import GateLimits
    from facekeep_server.releases.making import TEXT_FILE, make_recalibrated, make_release
    from facekeep_server.releases.signing import describe

    found, clock = FederationState.open(state), SystemClock()
    limits = GateLimits(most_fall=_falls(fall), most_change=most_change) if fall else GateLimits(most_change=most_change)
    with found.locked(), tempfile.TemporaryDirectory() as scratch:
        evaluating = _evaluating(found, crops or [], render, contract, Path(scratch), calibration, fmr or [1e-2, 1e-3])
        candidate = read_candidate(found, version) if calibration is None else make_recalibrated(found, calibration)
        made = make_release(
            found, candidate, clock.now(), recorder_of(found), evaluating=evaluating, limits=limits, term=timedelta(days=days)
        )
    path = candidate.folder / TEXT_FILE
    value = {"version": made.version, "digest": made.digest, "file": str(path), "epsilon": made.privacy.epsilon}
    say(f"{describe(made)}\n\nTo be signed by the release keys: {path}", value, as_json=as_json)


@release_app.command()
def sign(
    text: Annotated[Path, typer.Argument(help="File that `federate release make` wrote.")],
    key: Annotated[Path, typer.Option(help="Release key, such as offline/release-1.key.")],
    out: Annotated[Path, typer.Option(help="File for the signature line, to carry back.")],
    name: Annotated[str | None, typer.Option(help="Name of the key in the policy; FEDERATION/FILE if left out.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a release with one key. Needs nothing but the two files: run it where the key is."""
    from facekeep_server.federation.files import read_file, replace_file
    from facekeep_server.federation.keys import load_signing_key
    from facekeep_server.releases.signing import describe, parse_text, sign_text

    data = read_file(text)
    release = parse_text(data)
    line = sign_text(data, name or f"{release.federation}/{key.stem}", load_signing_key(key))
    replace_file(out.absolute(), line.encode(), mode=0o644)
    say(f"{describe(release)}\n\nSigned: {out}", {"digest": release.digest, "file": str(out)}, as_json=as_json)


@release_app.command()
def publish(
    signatures: Annotated[list[Path], typer.Argument(help="Files that `federate release sign` wrote.")],
    state: StateOption,
    version: Annotated[int | None, typer.Option(help="Which candidate; the newest if left out.")] = None,
    canary: Annotated[list[int] | None, typer.Option(help="Roster index of a canary device; repeat.")] = None,
    needed: Annotated[int, typer.Option(min=0, help="Canaries that have to use it before others are offered it; 0 for all.")] = 0,
    soak_hours: Annotated[float, typer.Option(min=0, help="After so long they have to say so again.")] = 0,
    wait_minutes: WaitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Publish a release that enough keys signed: to its canaries first, or to the whole fleet. Logs it before, where the policy
    names a log; stopped or failed meanwhile, the same command goes on.
    """
    from facekeep_server.federation.candidates import read_candidate
    from facekeep_server.federation.coordinator import open_trail
    from facekeep_server.federation.files import read_file
    from facekeep_server.federation.fleet import read_roster
    from facekeep_server.federation.offers import request_offer
    from facekeep_server.federation.rounds import recorder
    from facekeep_server.releases.proving import log_release, until_logged
    from facekeep_server.releases.publishing import publish_release
    from facekeep_server.releases.ready import require_ready

    found, clock = FederationState.open(state), SystemClock()
    lines = [read_file(path).decode("utf-8", "replace") for path in signatures]
    options: dict[str, Any] = {"canaries": canary or (), "needed": needed, "soak_seconds": round(3600 * soak_hours)}

    def attempt() -> Path:
        with found.locked():
            candidate, (trail, key) = read_candidate(found, version), open_trail(found, clock)
            log_release(found, require_ready(found, candidate, lines, clock.now()), trail, key, clock)
            made = publish_release(found, candidate, lines, clock.now(), recorder(trail), **options)
            if not canary:
                # With canaries, the fleet's turn comes when enough of them use it.
                request_offer(found, range(len(read_roster(found).roster)))
            return made

    folder = until_logged(attempt, 60 * wait_minutes, say=_err)
    whom = f"{len(set(canary))} canaries" if canary else "the whole fleet"
    say(
        f"Published {folder / 'bundle'}. The next `federate run` offers it to {whom}.",
        {"bundle": str(folder / "bundle"), "canaries": sorted(set(canary or ()))},
        as_json=as_json,
    )


@release_app.command("log")
def log_again(
    version: Annotated[int, typer.Argument(help="Release that is published already.")],
    state: StateOption,
    wait_minutes: WaitOption = 10,
    as_json: JsonOption = False,
) -> None:
    """Prove a published release anew, by the policy that devices have now: its log, its keys, its witnesses."""
    from facekeep_server.federation.coordinator import open_trail
    from facekeep_server.releases.proving import log_published, until_logged

    found, clock = FederationState.open(state), SystemClock()
    folder = _folder_of(found, version)

    def attempt() -> None:
        with found.locked():
            log_published(found, folder, *open_trail(found, clock), clock)

    until_logged(attempt, 60 * wait_minutes, say=_err)
    say(f"Proved: {folder / 'bundle'}", {"bundle": str(folder / "bundle")}, as_json=as_json)


@release_app.command()
def status(state: StateOption, as_json: JsonOption = False) -> None:
    """Say of every release where it stands: canaries, fleet or withheld, and what devices answered."""
    from facekeep.privacy.accounting import spelled
    from facekeep_server.federation.offers import ADOPTED, answers_of
    from facekeep_server.releases.rollout import read_release, read_rollout, release_folders, stage_of

    found, lines, values = FederationState.open(state), [], []
    for folder in release_folders(found):
        release, rollout, answers = read_release(folder), read_rollout(folder), answers_of(folder)
        adopted = sum(answer == ADOPTED for answer in answers.values())
        refused = {code: list(answers.values()).count(code) for code in sorted(set(answers.values()) - {ADOPTED})}
        value: dict[str, Any] = {
            "version": release.version,
            "digest": release.digest,
            "stage": stage_of(folder),
            "level": release.level.value,
            "epsilon": release.privacy.epsilon,
            "adopted": adopted,
            "refused": refused,
            "canaries": list(rollout.canaries),
            "needed": rollout.needed,
        }
        values.append(value)
        told = ", ".join(f"{count} {code}" for code, count in refused.items())
        lines.append(
            f"release {release.version} ({release.level}): {value['stage']}, adopted by {adopted}"
            + (f", {told}" if told else "")
            + f", epsilon {spelled(release.privacy.epsilon)}"
        )
    say("\n".join(lines) or "No release was published.", {"releases": values}, as_json=as_json)


@release_app.command()
def withhold(
    version: Annotated[int, typer.Argument(help="Release to withhold.")],
    state: StateOption,
    reason: Annotated[str, typer.Option(help="Why, in a few words.")],
    code: Annotated[str, typer.Option(help="Code that is recorded.")] = "release.gate",
    as_json: JsonOption = False,
) -> None:
    """Offer a release to nobody any more. Devices that use it are rolled back by their operators."""
    from facekeep.errors import ReleaseError
    from facekeep_server.releases.rollout import require_code
    from facekeep_server.releases.rollout import withhold as withhold_release

    found = FederationState.open(state)
    folder = _folder_of(found, version)
    with found.locked():
        withhold_release(found, folder, ReleaseError(require_code(code), reason), recorder_of(found))
    say(f"Release {version} is withheld.", {"version": version, "stage": "withheld"}, as_json=as_json)


def recorder_of(state: FederationState) -> Callable[[AuditEvent], None]:
    """Return what writes to the coordinator's trail; the caller holds the lock."""
    from facekeep_server.federation.coordinator import open_trail
    from facekeep_server.federation.rounds import recorder

    return recorder(open_trail(state, SystemClock())[0])


def _folder_of(state: FederationState, version: int) -> Path:
    from facekeep_server.releases.rollout import release_folders

    folder = next((path for path in release_folders(state) if int(path.name) == version), None)
    if folder is None:
        raise ServerError("server.invalid_request", "There is no such release.")
    return folder


def _err(line: str) -> None:
    typer.echo(line, err=True)


def _falls(given: list[str]) -> dict[float, float]:
    try:
        return {float(rate): float(most) for rate, _, most in (item.partition("=") for item in given)}
    except ValueError:
        raise ServerError("server.invalid_request", "A fall is FMR=SHARE, such as 0.001=0.01.") from None


def _evaluating(
    state: FederationState,
    folders: list[Path],
    render: str | None,
    contract: Path | None,
    scratch: Path,
    calibration: int | None,
    rates: list[float],
) -> Evaluating | None:
    from facekeep_server.federation.files import read_file
    from facekeep_server.releases.contracts import ContractDescription
    from facekeep_server.releases.evaluating import read_crops, render_crops
    from facekeep_server.releases.making import Evaluating
    from facekeep_server.statistics.reading import calibrated_points

    if not folders and render is None:
        if contract is not None or calibration is not None:
            raise ServerError("server.invalid_request", "--contract and --calibration go with --crops or --render.")
        return None
    if contract is None:
        raise ServerError("server.invalid_request", "The gate takes --contract, from `facekeep federate contract` on a device.")
    sets: list[EvaluationCrops] = [read_crops(folder) for folder in folders]
    if render is not None:
        sets.append(render_crops(render, scratch))
    if len({item.name for item in sets}) != len(sets):
        raise ServerError("server.invalid_request", "Folders of evaluation crops have different names.")
    points = () if calibration is None else calibrated_points(state, calibration, rates)
    return Evaluating(sets, ContractDescription.parse(read_file(contract)), points)
