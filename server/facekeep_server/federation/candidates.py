"""A candidate: what the model in use becomes by the mean updates of rounds. Nobody uses it before it was evaluated and signed.

    candidates/NNNNN/model         the patched model file
                     parameters    numbers of the level, little-endian float32
                     candidate.json  what it was made of
                     evaluation.json, vectors.f32   what the gate measured (`facekeep_server.releases.making`), or what somebody
                                                    else did, elsewhere

Nothing here looks at a picture, and none that is evaluated on comes from a device: whoever evaluates brings pictures of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from facekeep.note import unsafe_note_text
from facekeep.protocol import Level
from facekeep.protocol.release import ModelRelease
from facekeep.training.patching import patched, read_parameters
from facekeep_server.errors import ServerError
from facekeep_server.federation.chain import Chain, Steer, follow_chain
from facekeep_server.federation.files import make_directory, read_file, replace_file
from facekeep_server.federation.model import read_model
from facekeep_server.federation.state import FederationState

_VERSION: Final = 1


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
                "server.invalid_request", "Evaluate it: facekeep-server federate release make --crops FOLDER --contract FILE"
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
    text = unsafe_note_text(read_file(path / "note").decode("utf-8", "replace"))
    return ModelRelease.parse(text), path


def make_candidate(state: FederationState, rounds: Sequence[int], *, steer: Steer | None = None, first: int = 0) -> Candidate:
    """Apply the mean updates of completed rounds of one level to the model in use, step after step.

    Args:
        state: of the federation.
        rounds: their numbers.
        steer: makes the change of a step's mean update, (P,) float64; left out: the mean update itself.
        first: only the first so many of the numbers trained become those of the candidate, 0 for all: what the rest learnt along
            the way is thrown away at the end.

    Raises:
        ServerError: "server.invalid_request", as `follow_chain`.
    """
    chain = chain_of(state, rounds, steer or (lambda mean: mean))
    newest, table = newest_release(state), read_model(state).table
    content = model_in_use(state)
    # A release states its level whole; what the rounds did not train stays.
    whole = read_parameters(content, table)[table.parameters.range_of(chain.level.value)].astype("<f4").tobytes()
    taken = chain.parameters[: 4 * first or None]
    numbers = taken + whole[len(taken) :]
    made = patched(content, table, chain.level.value, numbers, sha256=None)
    return write_candidate(state, None if newest is None else newest[0].digest, chain.level, chain.rounds, numbers, made)


def chain_of(state: FederationState, rounds: Sequence[int], steer: Steer) -> Chain:
    """Return the chain of completed rounds on the model in use (`follow_chain`).

    Raises:
        ServerError: "server.invalid_request".
    """
    return follow_chain(state, rounds, steer, base=read_model(state), content=model_in_use(state), in_use=base_in_use(state))


def model_in_use(state: FederationState) -> bytes:
    """Return the model file in use: of the newest release, or as it shipped."""
    newest = newest_release(state)
    return read_model(state).content if newest is None else read_file(newest[1] / "model")


def base_in_use(state: FederationState) -> str:
    """Return what a plan names as its base: the release in use, or the model that shipped."""
    newest = newest_release(state)
    return read_model(state).sha256 if newest is None else newest[0].digest


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
