"""Evaluates an embedder on pictures of people: what `facekeep-models evaluate` does.

Steps:
    1 which pictures and which comparisons: every pair, listed pairs, or pairs drawn by lot
    2 load the models
    3 embed every picture once, through the cache
    4 compare
    5 rates, points, accuracy, intervals
The caller writes the report, and only then deletes the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from facekeep.assembly import Inference, LoadedModels, ModelChoice, load_models
from facekeep.errors import ModelError
from facekeep.packs import LoadPolicy, PackStore, fix_command, split_name
from facekeep_models.evaluation.accuracy import BestThreshold, accuracy_at, accuracy_by_folds, best_threshold
from facekeep_models.evaluation.bootstrap import RESAMPLES
from facekeep_models.evaluation.comparisons import Comparisons, Pair, compare_all, compare_listed
from facekeep_models.evaluation.embedding import EmbeddingCache, embed_pictures
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.measuring import TARGETS, measure_rates
from facekeep_models.evaluation.pairing import draw_pairs, in_folds, parse_pairs, spread_out
from facekeep_models.evaluation.pictures import NOBODY, Picture, pictures_of_directory, pictures_of_pairs, some_of
from facekeep_models.evaluation.progress import Progress
from facekeep_models.evaluation.rates import det_points
from facekeep_models.evaluation.report import Accuracy, Acquisition, Evaluation

MOST_PICTURES: Final = 10
FOLDS: Final = 10
# What the operating points of every pack were measured with; where it was not pulled, what ships takes its place and it is said.
_DETECTOR: Final = "yunet-s/onnx-dynamic"
_SHIPPED_DETECTOR: Final = "facekeep-detector/onnx-fp32"
_SIMULATION_DETECTOR: Final = "drawn-detector/onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to evaluate on what.

    Attributes:
        images: directory with one folder of pictures for each person.
        embedder: "pack" or "pack/build" that makes the references.
        probe_embedder: the same for the probes, of the same space; None for `embedder`.
        detector: "pack" or "pack/build"; None for the default.
        pairs: file of pairs, or None for all pairs.
        threshold_pairs: file of other pairs, on which a threshold is chosen for the accuracy on `pairs`.
        draw: this many mated and non-mated pairs drawn by lot, instead of a file; None for all pairs.
        limit: at most so many people, or with pairs so many of either kind.
        most_pictures: pictures of one person that take part, save in listed pairs.
        one_each: non-mated comparisons among one picture of each person only.
        folds: sets that pairs without sets are dealt out to; fewer than 2 for none.
        targets: false match rates.
        thresholds: further thresholds to try.
        resamples: of the bootstrap.
        seed: of everything drawn by lot.
        threads: inside one model.
        name: what the data are called; the name of the directory if None.
    """

    images: Path
    embedder: str
    probe_embedder: str | None = None
    detector: str | None = None
    pairs: Path | None = None
    threshold_pairs: Path | None = None
    draw: int | None = None
    limit: int | None = None
    most_pictures: int = MOST_PICTURES
    one_each: bool = False
    folds: int = FOLDS
    targets: tuple[float, ...] = TARGETS
    thresholds: tuple[float, ...] = ()
    resamples: int = RESAMPLES
    seed: int = 0
    threads: int = 1
    name: str | None = None

    def __post_init__(self) -> None:
        counts = (self.draw, self.limit)
        if self.pairs is not None and self.draw is not None:
            raise _invalid("Either a file of pairs is given or pairs are drawn, not both.")
        if self.threshold_pairs is not None and self.pairs is None:
            raise _invalid("Pairs to choose a threshold on need pairs to try it on.")
        if self.one_each and (self.pairs is not None or self.draw is not None):
            raise _invalid("One picture of each person is a rule for all pairs; these pairs are listed or drawn.")
        if any(count is not None and count < 1 for count in counts) or self.most_pictures < 1:
            raise _invalid("Numbers of pairs, people and pictures are 1 or more.")
        if self.resamples < 1 or self.threads < 1 or self.seed < 0:
            raise _invalid("There are 1 or more resamples and threads, and a seed is not negative.")
        if not all(0.0 < target < 1.0 for target in self.targets):
            raise _invalid("A false match rate lies between 0 and 1.")
        if not all(-1.0 <= threshold <= 1.0 for threshold in self.thresholds):
            raise _invalid("A threshold is a cosine, between -1 and 1.")


@dataclass(frozen=True, slots=True)
class _Plan:
    pictures: list[Picture]
    pairs: tuple[Pair, ...] | None
    other_pairs: tuple[Pair, ...]
    sets: Literal["file", "dealt", "none"]
    protocol: str
    ignored: int


def evaluate(
    request: Request,
    store: PackStore,
    cache: EmbeddingCache,
    *,
    progress: Progress,
    say: Callable[[str], None],
    policy: LoadPolicy | None = None,
) -> tuple[Evaluation, Comparisons]:
    """Return what was found, and the comparisons it was found on (scores: they stay on this machine).

    Raises:
        EvaluationError: each of its codes.
        ModelError: if a pack cannot be loaded.
    """
    # 1 which pictures and which comparisons
    plan = _plan(request)
    people = np.array([picture.person for picture in plan.pictures])
    # 2 load the models
    policy = policy or LoadPolicy()
    detector = _with_build(store, request.detector or _default_detector(request.embedder, store, policy, say))
    models = _load(request, request.embedder, detector, store, policy)
    others = None if request.probe_embedder is None else _load(request, request.probe_embedder, detector, store, policy)
    if others is not None:
        _require_one_length(models, others)
    # 3 embed every picture once
    embedded = embed_pictures(models, plan.pictures, cache, progress=progress, say=say)
    references, failures = embedded.vectors, list(embedded.failures)
    probes = references
    if others is not None:
        other = embed_pictures(others, plan.pictures, cache, progress=progress, say=say, what="pictures for the probes")
        probes = other.vectors
        failures = [one or two for one, two in zip(failures, other.failures, strict=True)]
    # 4 compare
    if plan.pairs is None:
        comparisons = compare_all(references, probes, people, one_each=request.one_each)
    else:
        comparisons = compare_listed(references, probes, people, plan.pairs)
    # 5 rates, points, accuracy, intervals
    measured = measure_rates(
        comparisons,
        targets=request.targets,
        # A threshold belongs to its build: between two builds none was measured.
        manifest_points=models.operating_points if others is None else (),
        thresholds=request.thresholds,
        resamples=request.resamples,
        seed=request.seed,
        progress=lambda done, total: progress(done, total, "draws of people"),
    )
    evaluation = Evaluation(
        embedder=str(models.choice.embedder),
        probe_embedder=str((others or models).choice.embedder),
        detector=str(models.choice.detector),
        contract_ids=(models.contract_id, (others or models).contract_id),
        dataset=f"{request.name or request.images.name}: {len(set(people.tolist()))} people, {len(people)} pictures",
        protocol=plan.protocol,
        ignored=plan.ignored,
        seed=request.seed,
        resamples=request.resamples,
        acquisition=_acquisition(failures, people, comparisons),
        mated=len(comparisons.mated),
        non_mated=len(comparisons.non_mated),
        eer=measured.eer,
        eer_interval=measured.eer_interval,
        points=measured.points,
        unsupported=measured.unsupported,
        accuracy=_accuracy(plan, comparisons, references, probes, people),
        det=det_points(comparisons),
    )
    return evaluation, comparisons


def _plan(request: Request) -> _Plan:
    if request.pairs is not None:
        return _plan_of_files(request, request.pairs)
    everything = pictures_of_directory(request.images)
    ignored = sum(picture.person == NOBODY for picture in everything)
    limit = request.limit if request.draw is None else None
    pictures = some_of(everything, most_of_each=request.most_pictures, people=limit)
    few = f"up to {request.most_pictures} pictures of a person"
    if request.draw is None:
        of_whom = "one picture of each person" if request.one_each else "every picture of different people"
        return _Plan(pictures, None, (), "none", f"all pairs of {few}; non-mated: {of_whom}", ignored)
    drawn = draw_pairs(np.array([picture.person for picture in pictures]), request.draw, request.seed)
    drawn = spread_out(drawn, request.limit) if request.limit else drawn
    used = sorted({index for pair in drawn for index in (pair.reference, pair.probe)})
    place = {index: position for position, index in enumerate(used)}
    drawn = tuple(replace(pair, reference=place[pair.reference], probe=place[pair.probe]) for pair in drawn)
    protocol = f"{request.draw} mated and {request.draw} non-mated pairs of {few}, drawn with seed {request.seed}"
    dealt = request.folds >= 2
    shown = some_of([pictures[index] for index in used], most_of_each=request.most_pictures, people=None)
    return _Plan(shown, in_folds(drawn, request.folds) if dealt else drawn, (), "dealt" if dealt else "none", protocol, ignored)


def _plan_of_files(request: Request, path: Path) -> _Plan:
    listed = parse_pairs(_read(path))
    others = parse_pairs(_read(request.threshold_pairs)) if request.threshold_pairs is not None else None
    first = spread_out(listed.pairs, request.limit) if request.limit else listed.pairs
    second = () if others is None else others.pairs
    pictures, pairs = pictures_of_pairs(request.images, [*first, *second])
    pairs, other_pairs = pairs[: len(first)], pairs[len(first) :]
    sets: Literal["file", "dealt", "none"] = "file" if listed.has_sets else "dealt" if request.folds >= 2 else "none"
    if sets == "dealt":
        pairs = in_folds(pairs, request.folds)
    view = f"LFW View 2, {listed.sets} sets" if listed.has_sets else "LFW View 1"
    protocol = f"pairs of {path.name} (format of {view})"
    if request.limit and len(first) < len(listed.pairs):
        protocol += f", {len(first)} of {len(listed.pairs)}"
    if request.threshold_pairs is not None:
        protocol += f", threshold of {request.threshold_pairs.name}"
    return _Plan(pictures, pairs, other_pairs, sets, protocol, 0)


def _load(request: Request, name: str, detector: str, store: PackStore, policy: LoadPolicy) -> LoadedModels:
    embedder = _with_build(store, name)
    return load_models(store, ModelChoice(detector, embedder), policy=policy, inference=Inference(request.threads))


def _default_detector(embedder: str, store: PackStore, policy: LoadPolicy, say: Callable[[str], None]) -> str:
    if store.manifest(split_name(embedder)[0]).is_simulation:
        return _SIMULATION_DETECTOR
    pack_id, build_id = split_name(_DETECTOR)
    if any(build.id == build_id for build in store.installed(pack_id)):
        return _DETECTOR
    try:
        policy.require(store.manifest(split_name(_SHIPPED_DETECTOR)[0]))
    except ModelError:
        # Its absence is refused with the command that pulls it.
        return _DETECTOR
    say(
        f"{pack_id} is not here, so facekeep-detector finds the faces; the thresholds of manifests were measured with {pack_id}. "
        f"To compare with published figures: facekeep models pull {pack_id}"
    )
    return _SHIPPED_DETECTOR


def _require_one_length(models: LoadedModels, others: LoadedModels) -> None:
    lengths = models.embedder.dimension, others.embedder.dimension
    if lengths[0] != lengths[1]:
        raise EvaluationError(
            "evaluation.different_spaces",
            f"The references are vectors of {lengths[0]} numbers and the probes of {lengths[1]}: models of one space are expected.",
        )


def _with_build(store: PackStore, name: str) -> str:
    """Return "pack/build": the first installed build where none is named, so that the report says which it was."""
    pack_id, build_id = split_name(name)
    if build_id is not None:
        return name
    installed = store.installed(pack_id)
    if not installed:
        manifest = store.manifest(pack_id)
        raise ModelError("model.not_installed", f"{pack_id} is not here. Run: {fix_command(manifest, manifest.builds[0])}")
    return f"{pack_id}/{installed[0].id}"


def _accuracy(
    plan: _Plan,
    comparisons: Comparisons,
    references: NDArray[np.float32],
    probes: NDArray[np.float32],
    people: NDArray[np.integer],
) -> Accuracy | None:
    if plan.pairs is None:
        # All pairs hold a thousand times more non-mated comparisons: whoever always said "different" would look perfect.
        return None
    elsewhere: BestThreshold | None = None
    if plan.other_pairs:
        other = compare_listed(references, probes, people, plan.other_pairs)
        threshold = best_threshold(other.mated, other.non_mated).threshold
        elsewhere = BestThreshold(threshold, accuracy_at(comparisons.mated, comparisons.non_mated, threshold))
    folds = None if plan.sets == "none" else accuracy_by_folds(comparisons)
    return Accuracy(best_threshold(comparisons.mated, comparisons.non_mated), folds, plan.sets, elsewhere)


def _acquisition(failures: list[str], people: NDArray[np.integer], comparisons: Comparisons) -> Acquisition:
    codes = sorted({code for code in failures if code})
    acquired = people[np.array([not code for code in failures])]
    everyone = set(people.tolist())
    return Acquisition(
        attempts=len(failures),
        failures=tuple((code, failures.count(code)) for code in codes),
        people=len(everyone),
        people_without=len(everyone - set(acquired.tolist())),
        not_made_mated=comparisons.not_made_mated,
        not_made_non_mated=comparisons.not_made_non_mated,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise EvaluationError("evaluation.io", f"The file of pairs cannot be read: {reason}.") from None


def _invalid(message: str) -> EvaluationError:
    return EvaluationError("evaluation.invalid_request", message)
