"""A candidate: what the model in use becomes by a round's mean update. Nobody uses it before it was evaluated and signed.

    candidates/NNNNN/model         the patched model file
                     parameters    numbers of the level, little-endian float32
                     candidate.json  what it was made of
                     evaluation.json, vectors.f32   written by `python -m facekeep_models.federating judge`

The coordinator cannot run a model on pictures: it never touches what stays on a device. Whoever evaluates needs the model packs and
pictures of their own, and hands back numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.protocol import Kind, Level, RoundPlan
from facekeep.protocol.release import ModelRelease
from facekeep.training.patching import patched, read_parameters
from facekeep_server.errors import ServerError
from facekeep_server.federation.files import make_directory, read_file, replace_file
from facekeep_server.federation.model import read_model
from facekeep_server.federation.rounds import round_directory
from facekeep_server.federation.state import FederationState

_VERSION: Final = 1
Steer = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate on the disk.

    Attributes:
        folder: where it is.
        version: the release that it would become.
        parent: digest of the release it continues, or None.
        level: which numbers it sets.
        rounds: rounds behind it.
    """

    folder: Path
    version: int
    parent: str | None
    level: Level
    rounds: tuple[int, ...]

    @property
    def parameters(self) -> bytes:
        """Numbers of the level, little-endian float32."""
        return read_file(self.folder / "parameters")

    @property
    def model(self) -> bytes:
        """The patched model file."""
        return read_file(self.folder / "model")

    def evaluation(self) -> dict[str, Any]:
        """Return what the evaluation found.

        Raises:
            ServerError: "server.invalid_request" if it was not evaluated, or the evaluation is of another model.
        """
        path = self.folder / "evaluation.json"
        if not path.is_file():
            raise ServerError(
                "server.invalid_request", f"Evaluate it first: python -m facekeep_models.federating judge {self.folder}"
            )
        found = dict(json.loads(read_file(path)))
        if found.get("model") != hashlib.sha256(self.model).hexdigest():
            raise ServerError("server.invalid_request", "The evaluation is of another candidate than this one.")
        return found


def newest_release(state: FederationState) -> tuple[ModelRelease, Path] | None:
    """Return the newest release with the directory it is in, or None before the first."""
    folder = state.root / "releases"
    numbers = sorted(int(path.name) for path in folder.iterdir() if (path / "note").is_file()) if folder.is_dir() else []
    if not numbers:
        return None
    path = folder / f"{numbers[-1]:05d}"
    text = read_file(path / "note").decode("utf-8", "replace").rpartition("\n\n")[0] + "\n"
    return ModelRelease.parse(text), path


def make_candidate(state: FederationState, rounds: Sequence[int], *, rate: float = 1.0, steer: Steer | None = None) -> Candidate:
    """Apply the mean updates of completed rounds of one level to the model in use.

    Args:
        state: of the federation.
        rounds: their numbers.
        rate: by which the mean of their updates is multiplied.
        steer: makes the change of the mean update, (P,) float64, in place of `rate`.

    Raises:
        ServerError: "server.invalid_request" for a round that is not a completed one of training on the model in use.
    """
    newest = newest_release(state)
    base = read_model(state)
    content = base.content if newest is None else read_file(newest[1] / "model")
    in_use = base.sha256 if newest is None else newest[0].digest
    plans, updates = [], []
    for number in sorted(set(rounds)):
        directory = round_directory(state, number)
        if not directory.is_over or directory.report()["aborted"] is not None:
            raise ServerError("server.invalid_request", f"Round {number} was not completed.")
        plan = RoundPlan.parse(read_file(directory.path / "plan").decode().rpartition("\n\n")[0] + "\n")
        if plan.kind is not Kind.TRAINING or plan.base != in_use:
            raise ServerError("server.invalid_request", f"Round {number} did not train the model in use.")
        plans.append(plan)
        # A sum over more devices says more: each device's update counts the same.
        updates.append((directory.update().astype(np.float64), int(directory.report()["contributors"])))
    if not plans or len({plan.level for plan in plans}) != 1:
        raise ServerError("server.invalid_request", "A candidate is made of one round or more, all of one level.")
    level = plans[0].level
    part = base.table.parameters.range_of(level.value)
    total = sum(weight for _, weight in updates)
    mean = sum((update * weight for update, weight in updates), np.zeros(part.stop - part.start)) / total
    change = rate * mean if steer is None else steer(mean)
    numbers = (read_parameters(content, base.table)[part].astype(np.float64) + change).astype("<f4").tobytes()
    made = patched(content, base.table, level.value, numbers, sha256=None)
    rounds = tuple(plan.round for plan in plans)
    return write_candidate(state, None if newest is None else newest[0].digest, level, rounds, numbers, made)


def write_candidate(
    state: FederationState, parent: str | None, level: Level, rounds: tuple[int, ...], numbers: bytes, content: bytes
) -> Candidate:
    """Keep a candidate for the next version, in the place of one that never became a release."""
    version = 1 + max(_numbers(state.root / "releases"), default=0)
    folder = state.folder("candidates") / f"{version:05d}"
    make_directory(folder)
    for name in ("evaluation.json", "vectors.f32", "optimiser", "release"):
        (folder / name).unlink(missing_ok=True)
    replace_file(folder / "parameters", numbers)
    replace_file(folder / "model", content)
    value = {"v": _VERSION, "version": version, "parent": parent, "level": level.value, "rounds": list(rounds)}
    replace_file(folder / "candidate.json", (json.dumps(value, indent=1) + "\n").encode())
    return Candidate(folder, version, parent, level, rounds)


def _numbers(folder: Path) -> list[int]:
    # Withheld ones too: a version is never used again.
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()] if folder.is_dir() else []


def read_candidate(state: FederationState, version: int | None = None) -> Candidate:
    """Return a candidate, the newest if no version is given.

    Raises:
        ServerError: "server.invalid_request" if there is none.
    """
    folder = state.root / "candidates"
    numbers = sorted(int(path.name) for path in folder.iterdir()) if folder.is_dir() else []
    wanted = version if version is not None else (numbers[-1] if numbers else None)
    if wanted not in numbers:
        raise ServerError("server.invalid_request", "There is no such candidate: run `facekeep-server federate candidate`.")
    path = folder / f"{wanted:05d}"
    fields = json.loads(read_file(path / "candidate.json"))
    return Candidate(path, fields["version"], fields["parent"], Level(fields["level"]), tuple(fields["rounds"]))
