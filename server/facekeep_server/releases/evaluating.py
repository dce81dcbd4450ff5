"""The eyes of the gate: a patched model in ONNX Runtime on evaluation crops, and what its scores amount to.

Crops are the operator's: of public or synthetic people, never of a device. A folder holds one folder for each person, with aligned
crops of 112 by 112 pixels in it (PNG), or `crops.npz` with `crops` (N, 112, 112, 3) uint8 RGB and `people` (N,).
"""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from facekeep.contract import InputContract
from facekeep.errors import ReleaseError
from facekeep.protocol.release import ReleasedPoint
from facekeep.rates import (
    FEWEST_ERRORS,
    PairCounts,
    all_pairs_false_matches,
    all_pairs_highest,
    allowed_errors,
    conservative_threshold,
    mated_non_matches,
)
from facekeep.resampling import to_tensor
from facekeep.trust.vectors import reference_crops
from facekeep_server.errors import ServerError

TARGETS: Final = (1e-2, 1e-3, 1e-4)
_SIDE: Final = 112
_BATCH: Final = 32
_MOST_CROPS: Final = 20_000
_RENDER_SECONDS: Final = 3600
# Shorter than this is no direction: `facekeep.embedding` refuses it on a device as well.
_LEAST_LENGTH: Final = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationCrops:
    """Crops of known people.

    Attributes:
        name: what they are called in a report.
        crops: (N, 112, 112, 3) uint8 RGB.
        people: (N,) whose.
        sha256: of all pixels, in order.
    """

    name: str
    crops: NDArray[np.uint8] = field(repr=False)
    people: NDArray[np.int64] = field(repr=False)

    @property
    def sha256(self) -> str:
        """Hexadecimal digest: an evaluation says exactly what it was made on."""
        return hashlib.sha256(self.crops.tobytes() + self.people.astype("<i8").tobytes()).hexdigest()

    def __post_init__(self) -> None:
        shape = self.crops.shape
        if self.crops.dtype != np.uint8 or len(shape) != 4 or shape[1:] != (_SIDE, _SIDE, 3) or len(self.people) != len(self.crops):
            raise ServerError("server.invalid_request", "Evaluation crops are 112 by 112 pixels, RGB, each of a person.")
        counts = np.unique(self.people, return_counts=True)[1]
        if len(counts) < 10 or (counts >= 2).sum() < 10 or len(self.crops) > _MOST_CROPS:
            raise ServerError(
                "server.invalid_request", f"Evaluation takes 10 people of two crops or more, and at most {_MOST_CROPS} crops."
            )


@dataclass(frozen=True, slots=True)
class Accuracy:
    """True accept rates of one model on one set of crops.

    Attributes:
        tar: false match rate -> true accept rate at the threshold that this model needs for it.
        interval: false match rate -> its 95 % interval, over people.
    """

    tar: dict[float, float]
    interval: dict[float, tuple[float, float]]


class ModelRunner:
    """A model file in ONNX Runtime on the CPU.

    Args:
        content: of the file.
        contract: how pixels become its input.

    Raises:
        ReleaseError: "release.gate" if the runtime does not take it.
    """

    def __init__(self, content: bytes, contract: InputContract) -> None:
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _withheld(f"the runtime does not take the model: {type(error).__name__}") from error
        self._contract = contract
        self._input = self._session.get_inputs()[0].name
        self._is_single = self._session.get_inputs()[0].shape[0] == 1
        names = [output.name for output in self._session.get_outputs()]
        self._output = "embedding" if "embedding" in names else names[0]

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (N, D) float32 unit vectors of (N, 112, 112, 3) crops.

        Raises:
            ReleaseError: "release.gate" for a vector that is not finite or has no length, or a model that does not run.
        """
        parts = []
        for start in range(0, len(crops), 1 if self._is_single else _BATCH):
            some = self._tensor(crops[start : start + (1 if self._is_single else _BATCH)])
            try:
                parts.append(np.asarray(self._session.run([self._output], {self._input: some})[0], np.float64))
            except Exception as error:
                raise _withheld(f"the model does not run: {type(error).__name__}") from error
        rows = np.concatenate(parts).reshape(len(crops), -1)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(rows).all() and (lengths >= _LEAST_LENGTH).all()):
            raise _withheld("the model gives a vector that is not finite or has no length")
        return np.asarray(rows / lengths, np.float32)

    def references(self) -> NDArray[np.float32]:
        """Return the embeddings of the reference crops, which a device's self-test asks for."""
        return self.embed(reference_crops())

    def _tensor(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        # As a device feeds it: else the gate would judge another model than the fleet will use.
        return np.concatenate([to_tensor(crop, self._contract) for crop in crops])


def accuracy_of(vectors: NDArray[np.float32], people: NDArray[np.int64], targets: Sequence[float] = (1e-2, 1e-3)) -> Accuracy:
    """Return true accept rates: thresholds from all pairs of different people, every pair of one person judged by them."""
    scores, same = vectors @ vectors.T, people[:, None] == people[None, :]
    pairs = np.triu(np.ones_like(same), 1)
    others = np.sort(scores[pairs & ~same])[::-1]
    rows, columns = np.nonzero(pairs & same)
    mated = scores[rows, columns]
    tar, interval = {}, {}
    for target in targets:
        if target * len(others) >= FEWEST_ERRORS:
            threshold = conservative_threshold(others[: allowed_errors(len(others), target) + 1], len(others), target)
            missed = mated_non_matches(mated, people[rows], threshold)
            low, high = missed.interval()
            tar[target], interval[target] = 1 - missed.rate, (1 - high, 1 - low)
    return Accuracy(tar, interval)


def operating_points(
    vectors: NDArray[np.float32],
    people: NDArray[np.int64],
    dataset: str,
    *,
    targets: Sequence[float] = TARGETS,
) -> tuple[ReleasedPoint, ...]:
    """Return thresholds measured on one crop of each person against one of every other, and all pairs of one person.

    A target at which fewer than five false matches are expected is left out: its threshold would rest on a handful of pairs.
    """
    first = np.unique(people, return_index=True)[1]
    alone = vectors[first]
    trials = len(alone) * (len(alone) - 1) // 2
    found = []
    for target in sorted((target for target in targets if target * trials >= FEWEST_ERRORS), reverse=True):
        threshold = conservative_threshold(all_pairs_highest(alone, allowed_errors(trials, target) + 1), trials, target)
        wrong = all_pairs_false_matches(alone, threshold)
        found.append(point_at(vectors, people, threshold, target, rounded(wrong), trials, dataset))
    return tuple(found)


def point_at(
    vectors: NDArray[np.float32],
    people: NDArray[np.int64],
    threshold: float,
    fmr: float,
    fmr_interval: tuple[float, float],
    non_mated: int,
    dataset: str,
) -> ReleasedPoint:
    """Return an operating point: its false match rate as told, its false non-match rate measured on these crops."""
    rows, columns = np.nonzero(np.triu(people[:, None] == people[None, :], 1))
    scores = np.einsum("ij,ij->i", vectors[rows], vectors[columns])
    missed = mated_non_matches(scores.astype(np.float32), people[rows], threshold)
    return ReleasedPoint(
        threshold=threshold,
        fmr=fmr,
        fmr_interval=fmr_interval,
        fnmr=float(f"{missed.rate:.4g}"),
        fnmr_interval=rounded(missed),
        dataset=dataset,
        mated=missed.trials,
        non_mated=non_mated,
    )


def rounded(counts: PairCounts) -> tuple[float, float]:
    """Return the 95 % interval of counts with three digits."""
    low, high = counts.interval()
    return float(f"{low:.3g}"), float(f"{high:.3g}")


def read_crops(folder: Path, name: str | None = None) -> EvaluationCrops:
    """Return the crops of a folder.

    Raises:
        ServerError: "server.invalid_request" if it holds none, or others than aligned crops.
    """
    label = name or folder.name
    packed = folder / "crops.npz"
    try:
        if packed.is_file():
            with np.load(packed, allow_pickle=False) as kept:
                return EvaluationCrops(label, kept["crops"], kept["people"].astype(np.int64))
        crops, people = [], []
        for number, person in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
            for path in sorted(person.iterdir()):
                crops.append(_read_picture(path))
                people.append(number)
        return EvaluationCrops(label, np.stack(crops), np.array(people, np.int64))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ServerError("server.invalid_request", f"The evaluation crops cannot be read: {reason}.") from None


def render_crops(command: str, folder: Path) -> EvaluationCrops:
    """Return the crops that an external command writes into an empty folder, which takes the place of {} in it.

    Raises:
        ServerError: "server.invalid_request" if the command fails.
    """
    words = [word.replace("{}", str(folder)) for word in shlex.split(command)]
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_RENDER_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError("server.invalid_request", f"The command for evaluation crops fails: {type(error).__name__}.") from None
    if done.returncode:
        raise ServerError("server.invalid_request", f"The command for evaluation crops fails: {done.stderr.strip()[-300:]}")
    return read_crops(folder, "rendered")


def _read_picture(path: Path) -> NDArray[Any]:
    try:
        from PIL import Image
    except ImportError:
        raise ServerError(
            "server.invalid_request", "Pictures take Pillow: pip install 'facekeep[camera]'; or give crops.npz."
        ) from None
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), np.uint8)
    if pixels.shape != (_SIDE, _SIDE, 3):
        raise ValueError(f"{path.name} is not an aligned crop of {_SIDE} by {_SIDE}")
    return pixels


def _withheld(why: str) -> ReleaseError:
    return ReleaseError("release.gate", f"The candidate does not pass: {why}.")
