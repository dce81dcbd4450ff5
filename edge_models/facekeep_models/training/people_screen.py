"""Step 6 of the recipe of the synthetic people: the privacy screen.

A picture passes if its similarity to *every* training picture, under an embedder that took no part in making it, stays below
the threshold of FMR 1e-3; a person passes with the first four pictures at the default variation that do. That is harsh: with
thousands of pictures to resemble, few pictures of real strangers would pass. So candidates are ranked first by a linear guess
of their vector, and those whose guess is least crowded by training people are drawn and examined. What ships is a list of seeds
and of pictures that passed; no vector leaves the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.biometric import Frame
from facekeep.ports import Detector, Embedder
from facekeep_models.people.drawing import SyntheticPicture, draw_person
from facekeep_models.people.model import PeopleModel
from facekeep_models.people.person import SyntheticPerson, looks, unsafe_unscreened_person
from facekeep_models.people.scene import Scene

PICTURES_EACH: Final = 4
# A person none of whose first pictures passes, or too few of all that are tried, is given up.
_FIRST_TAKES: Final = 5
_MOST_TAKES: Final = 20
_GUESSED_FROM: Final = 1500
# Of the similarities to training people, the mean of this many greatest ranks a candidate: steadier than the greatest alone.
_CROWD: Final = 50
_BLOCK: Final = 2000
_RIDGE: Final = 10.0
_SAVE_EVERY: Final = 100
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Screened:
    """What the screen found.

    Attributes:
        accepted: seeds of people who passed, in the order of their rank.
        takes: which pictures of each did.
        examined: how many candidates were drawn.
        drawn: how many pictures of them.
        passed: how many of these pictures stayed below.
        ranked: how many candidates the linear guess ordered.
        threshold: similarity that no listed picture reached.
    """

    accepted: tuple[int, ...]
    takes: tuple[tuple[int, ...], ...]
    examined: int
    drawn: int
    passed: int
    ranked: int
    threshold: float


@dataclass(frozen=True, slots=True)
class Examiner:
    """Says how near a picture is to the nearest training picture; 1.0 if no single face is found on it."""

    detector: Detector
    embedder: Embedder
    training: Vectors

    def vector(self, picture: SyntheticPicture) -> Vectors | None:
        """Return the vector of the picture's face, None unless exactly one is found."""
        frame = Frame(picture.pixels, _NOW)
        faces = self.detector.detect(frame)
        return self.embedder.embed(align(frame, faces[0])) if len(faces) == 1 else None

    def nearest(self, picture: SyntheticPicture) -> float:
        """Return the greatest similarity to any training picture."""
        found = self.vector(picture)
        return 1.0 if found is None else float((self.training @ found).max())

    def takes(self, model: PeopleModel, person: SyntheticPerson, threshold: float) -> tuple[tuple[int, ...], int]:
        """Return the first pictures that stay below, at most `PICTURES_EACH`, and how many were drawn."""
        passed: list[int] = []
        for take in range(_MOST_TAKES):
            if take == _FIRST_TAKES and not passed:
                return (), take
            if self.nearest(draw_person(person, take, model=model)) < threshold:
                passed.append(take)
            if len(passed) == PICTURES_EACH:
                return tuple(passed), take + 1
        return tuple(passed), _MOST_TAKES


def screen(
    model: PeopleModel,
    examiner: Examiner,
    *,
    threshold: float,
    candidates: int,
    wanted: int,
    most_examined: int,
    cache: Path,
    say: Callable[[str], None],
) -> Screened:
    """Return the seeds that pass; goes on from `cache` where an earlier run stopped.

    Args:
        model: the learnt model.
        examiner: detector, embedder and the vectors of all training pictures.
        threshold: no picture may reach it.
        candidates: seeds 0 up to this are ranked.
        wanted: stop at this many.
        most_examined: or at this many candidates drawn.
        cache: directory of the ranking and the progress.
        say: shows progress.
    """
    order = _ranking(model, examiner, candidates, cache, say)
    state = cache / "screen.npz"
    accepted: list[int] = []
    takes: list[tuple[int, ...]] = []
    examined = drawn = passed = 0
    if state.is_file():
        with np.load(state, allow_pickle=False) as stored:
            accepted, takes = stored["accepted"].tolist(), [tuple(each) for each in stored["takes"].tolist()]
            examined, drawn, passed = stored["counts"].tolist()
        say(f"6 screen: going on after {examined} candidates")
    limit = min(most_examined, len(order))
    while examined < limit and len(accepted) < wanted:
        seed = int(order[examined])
        found, tried = examiner.takes(model, unsafe_unscreened_person(seed, model=model), threshold)
        examined, drawn, passed = examined + 1, drawn + tried, passed + len(found)
        if len(found) == PICTURES_EACH:
            accepted.append(seed)
            takes.append(found)
        if examined % _SAVE_EVERY == 0 or examined == limit or len(accepted) == wanted:
            unfinished = state.with_suffix(".new")
            listed = np.array(takes, np.int64).reshape(-1, PICTURES_EACH)
            with unfinished.open("wb") as stream:
                np.savez(stream, accepted=np.array(accepted, np.int64), takes=listed, counts=np.array([examined, drawn, passed]))
            unfinished.replace(state)
            say(f"6 screen: {len(accepted)} of {examined} candidates, {passed} of {drawn} pictures passed")
    return Screened(tuple(accepted), tuple(takes), examined, drawn, passed, candidates, threshold)


def _ranking(model: PeopleModel, examiner: Examiner, candidates: int, cache: Path, say: Callable[[str], None]) -> NDArray[np.int64]:
    """Return seeds, those whose guessed vector is least crowded first."""
    path = cache / "ranking.npy"
    if path.is_file():
        return np.asarray(np.load(path, allow_pickle=False), np.int64)
    learnt_from = min(_GUESSED_FROM, candidates)
    seeds: list[int] = []
    vectors: list[Vectors] = []
    for seed in range(learnt_from):
        found = examiner.vector(draw_person(unsafe_unscreened_person(seed, model=model), 0, scene=Scene(), model=model))
        if found is not None:
            seeds.append(seed)
            vectors.append(found)
    guess = linear_guess(looks(model, np.array(seeds)), np.stack(vectors).astype(np.float64))
    training = examiner.training.T.astype(np.float32)
    crowd = np.empty(candidates, np.float32)
    for start in range(0, candidates, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, candidates))
        guessed = guess(looks(model, block)).astype(np.float32)
        near = guessed @ training
        many = min(_CROWD, near.shape[1])
        crowd[block] = np.partition(near, near.shape[1] - many, axis=1)[:, -many:].mean(axis=1)
    say(f"6 screen: {candidates} candidates ranked")
    order = np.argsort(crowd, kind="stable").astype(np.int64)
    np.save(path, order)
    return order


def linear_guess(places: NDArray[np.float64], vectors: NDArray[np.float64]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Return a function from places in the model, (N, D), to unit vectors, (N, E), fitted by ridge regression."""
    scale = float(np.sqrt((places**2).mean()))

    def extended(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate((np.ones((len(rows), 1)), rows / scale), axis=1)

    design = extended(places)
    weights = np.linalg.solve(design.T @ design + _RIDGE * np.eye(design.shape[1]), design.T @ vectors)

    def guess(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        found = extended(rows) @ weights
        return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))

    return guess


def nearest_of_others(training: Vectors, people: NDArray[np.int64], sample: Sequence[int]) -> NDArray[np.float64]:
    """Return how near real people are to the nearest picture of anybody else: what resemblance by chance looks like."""
    near = training[list(sample)] @ training.T
    near[people[list(sample)][:, None] == people[None, :]] = -1.0
    return np.asarray(near.max(axis=1), np.float64)
