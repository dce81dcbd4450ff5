"""From pictures to embeddings, through a cache that lets an interrupted run go on.

The cache holds embeddings, which are biometric data of the people pictured, and it holds them as they are: a key beside it would
protect nothing from whoever reads the disk, and a key in memory would not outlast the run it has to outlast. So it lies outside
every repository, in a directory and files that only their owner may read, and goes when the evaluation has succeeded unless
keeping it was asked for. Pictures of people who did not agree to be measured have no place in either.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.assembly import LoadedModels
from facekeep.biometric import Detection, Frame
from facekeep.errors import AcquisitionError, ComparisonError
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.pictures import Picture
from facekeep_models.evaluation.progress import Progress

DEFAULT_CACHE: Final = Path("~/.cache/facekeep/evaluation")
_CACHE_VERSION: Final = 2
_SAVE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Embedded:
    """What became of each picture.

    Attributes:
        vectors: (P, D) float32 unit vectors, rows of NaN where there is none.
        failures: (P,) the error code of each failure to acquire, empty where there is none.
    """

    vectors: NDArray[np.float32]
    failures: tuple[str, ...]


class EmbeddingCache:
    """A directory with the embeddings of runs that did not end.

    Args:
        directory: made if it is not there, readable by its owner only.

    Raises:
        EvaluationError: "evaluation.refused_cache" inside a repository, or where others may read or write.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory.expanduser().absolute()
        resolved = self._directory.resolve()
        if any((parent / ".git").exists() for parent in (resolved, *resolved.parents)):
            # One `git add` away from publishing faces.
            raise EvaluationError(
                "evaluation.refused_cache", "The cache holds embeddings, so it may not lie inside a git repository. Name another."
            )
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            mode = self._directory.stat().st_mode
        except OSError as error:
            raise _refused(error) from None
        if os.name == "posix" and mode & 0o077:
            raise EvaluationError(
                "evaluation.refused_cache",
                f"Others may use the directory of the cache (mode {mode & 0o777:o}). Run chmod 700 on it, or name another.",
            )
        self._used: set[Path] = set()

    def path_for(self, contract_id: str, pictures: Sequence[Picture]) -> Path:
        """Return where the embeddings of these pictures by these models lie; other content of a picture is another place."""
        names = hashlib.sha256("\n".join(f"{one.name}\t{one.fingerprint}" for one in pictures).encode()).hexdigest()
        path = self._directory / f"{contract_id[:16]}-{names[:16]}.npz"
        self._used.add(path)
        return path

    def read(self, path: Path, dimension: int) -> Embedded:
        """Return what an earlier run left, or nothing; a file that is no longer whole counts as nothing."""
        try:
            # Opened here: what NumPy opens itself stays open where the file is damaged.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                vectors, failures = stored["vectors"], stored["failures"]
                if int(stored["version"]) == _CACHE_VERSION and vectors.shape == (len(failures), dimension):
                    return Embedded(vectors.astype(np.float32), tuple(str(code) for code in failures))
        except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, BadZipFile):
            # Cut off, changed, of another version or no archive of arrays at all.
            pass
        return Embedded(np.zeros((0, dimension), dtype=np.float32), ())

    def write(self, path: Path, found: Embedded) -> None:
        """Write whole or not at all.

        Raises:
            EvaluationError: "evaluation.refused_cache".
        """
        unfinished = path.with_suffix(".new")
        try:
            with contextlib.suppress(FileNotFoundError):
                unfinished.unlink()
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                failures = np.array(found.failures, dtype=np.str_)
                np.savez(stream, version=np.array(_CACHE_VERSION), vectors=found.vectors, failures=failures)
            unfinished.replace(path)
        except OSError as error:
            raise _refused(error) from None

    def delete(self) -> None:
        """Delete what this run used, and the directory if nothing else is in it."""
        for path in self._used:
            path.unlink(missing_ok=True)
            path.with_suffix(".new").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._directory.rmdir()


def embed_pictures(
    models: LoadedModels,
    pictures: Sequence[Picture],
    cache: EmbeddingCache,
    *,
    progress: Progress,
    say: Callable[[str], None],
    what: str = "pictures",
) -> Embedded:
    """Return the embedding of every picture: the face nearest to the middle, aligned, no quality gate.

    Whatever ends the run, a Ctrl-C or a fault, what was done is in the cache, and the next run goes on from there.

    Args:
        models: what finds and embeds faces.
        pictures: of whom.
        cache: where to go on from.
        progress: told about every picture.
        say: told where it goes on.
        what: what the pictures are called in the progress.

    Raises:
        EvaluationError: "evaluation.refused_cache".
        ModelError: as the models.
    """
    path = cache.path_for(models.contract_id, pictures)
    earlier = cache.read(path, models.embedder.dimension)
    done = min(len(earlier.failures), len(pictures))
    if done:
        say(f"going on at picture {done}, from {path}")
    vectors = np.full((len(pictures), models.embedder.dimension), np.nan, dtype=np.float32)
    vectors[:done] = earlier.vectors[:done]
    failures = list(earlier.failures[:done])
    saved, saved_at = done, time.monotonic()
    progress(done, len(pictures), what)
    try:
        for index in range(done, len(pictures)):
            vector, code = _embed(models, pictures[index])
            if vector is not None:
                vectors[index] = vector
            failures.append(code)
            if time.monotonic() - saved_at > _SAVE_SECONDS:
                cache.write(path, Embedded(vectors[: len(failures)], tuple(failures)))
                saved, saved_at = len(failures), time.monotonic()
            progress(index + 1, len(pictures), what)
    finally:
        if len(failures) > saved:
            cache.write(path, Embedded(vectors[: len(failures)], tuple(failures)))
    return Embedded(vectors, tuple(failures))


def central_face(faces: Sequence[Detection], frame: Frame) -> Detection:
    """Return the face nearest to the middle: data sets of single faces cut their pictures around the person named."""

    def distance(face: Detection) -> float:
        left, top, width, height = face.box_px
        return (left + width / 2 - frame.width / 2) ** 2 + (top + height / 2 - frame.height / 2) ** 2

    return min(faces, key=distance)


def _embed(models: LoadedModels, picture: Picture) -> tuple[NDArray[np.float32] | None, str]:
    try:
        frame = picture.load()
        faces = models.detector.detect(frame)
        if not faces:
            return None, "acquisition.no_face"
        return models.embedder.embed(align(frame, central_face(faces, frame))), ""
    except (AcquisitionError, ComparisonError) as error:
        # A failure to acquire: counted by its reason, and part of no comparison.
        return None, error.code


def _refused(error: OSError) -> EvaluationError:
    reason = error.strerror or type(error).__name__
    return EvaluationError("evaluation.refused_cache", f"The cache cannot be used: {reason}. Name another (--cache).")
