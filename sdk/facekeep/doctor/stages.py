"""How long each stage takes here, on the models a device would use."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.alignment import align
from facekeep.assembly import Inference, LoadedModels, ModelChoice, choose_models, load_models
from facekeep.audit import AuditEvent
from facekeep.biometric import Detection, Embedding, Frame, Template
from facekeep.clock import SystemClock
from facekeep.comparison import best_of
from facekeep.doctor.machine import resident_mb
from facekeep.doctor.report import Measurement, Problem, StageTime
from facekeep.errors import FacekeepError, ModelError
from facekeep.flows.context import Settings
from facekeep.identifiers import new_record_id
from facekeep.keys import KeyFile
from facekeep.packs import LoadPolicy, PackStore
from facekeep.quality import assess
from facekeep.randomness import SystemRandomness
from facekeep.sealing import KEY_BYTES, TemplateContext, seal, unseal
from facekeep.vault import SQLiteVault

_SIZE_PX: Final = (640, 480)
# Five landmarks of a face that fills a good part of the frame, in pixels of it.
_LANDMARKS_PX: Final = ((262.0, 190.0), (378.0, 190.0), (320.0, 256.0), (272.0, 324.0), (368.0, 324.0))
_BOX_PX: Final = (210.0, 110.0, 220.0, 280.0)
_FEWEST_RUNS: Final = 5


def measure_stages(store: PackStore, asked: ModelChoice, problems: list[Problem], *, threads: int, runs: int) -> Measurement | None:
    """Return time and memory of the models that `asked` leads to, or None where none can be run."""
    before = resident_mb()
    chosen = _choose(store, asked, problems, threads)
    if chosen is None:
        return None
    choice, note = chosen
    settings = Settings(threads=threads)
    start = time.perf_counter()
    try:
        models = load_models(store, choice, policy=LoadPolicy(), inference=Inference(threads))
    except ModelError as error:
        problems.append(Problem("problem", f"The models cannot be loaded: {error.args[0]}", ""))
        return None
    load_ms = 1000 * (time.perf_counter() - start)
    loaded = resident_mb()
    with tempfile.TemporaryDirectory(prefix="facekeep-doctor-") as scratch:
        times = _measure(models, settings, Path(scratch), max(runs, _FEWEST_RUNS))
    verification = sum(median_ms for _, median_ms, counts in times if counts)
    stages = tuple(
        StageTime(name, median_ms, median_ms / verification if counts else None, max(runs, _FEWEST_RUNS))
        for name, median_ms, counts in times
    )
    names = tuple(name for name in (choice.detector, choice.embedder, *choice.pads) if name)
    return Measurement(names, threads, _SIZE_PX, stages, verification, load_ms, before, loaded, resident_mb(), note)


def _choose(store: PackStore, asked: ModelChoice, problems: list[Problem], threads: int) -> tuple[ModelChoice, str] | None:
    try:
        return choose_models(store, asked, policy=LoadPolicy(), inference=Inference(threads)), ""
    except FacekeepError as error:
        if asked.detector or asked.embedder or asked.pads:
            problems.append(Problem("problem", f"The models named cannot be used: {error.args[0]}", ""))
            return None
    drawn = {pack.task: pack.id for pack in store.manifests() if pack.is_simulation}
    try:
        choice = choose_models(
            store, ModelChoice(drawn["detection"], drawn["embedding"]), policy=LoadPolicy(), inference=Inference(threads)
        )
    except (KeyError, FacekeepError):
        return None
    return choice, "models for drawn people, since none for real faces are installed: times of real ones are longer"


def _measure(models: LoadedModels, settings: Settings, scratch: Path, runs: int) -> list[tuple[str, float, bool]]:
    """Return name, median milliseconds, and whether a verification has it, of every stage."""
    frame, detection = _synthetic_frame(), Detection(_BOX_PX, np.array(_LANDMARKS_PX, np.float32), 1.0)
    crop = align(frame, detection)
    vector = models.embedder.embed(crop)
    probe = Embedding(vector, models.contract_id)
    template = Template(vector, models.contract_id, new_record_id(), datetime.now(UTC))
    context = TemplateContext(
        "00" * 32, "enrolment", models.contract_id, new_record_id(), "float32", template.dimension, template.reference_id, 0
    )
    randomness = SystemRandomness()
    key, plain = randomness.token(KEY_BYTES), vector.tobytes()
    envelope = seal(key, plain, context, randomness)
    pad = models.pad
    stages: list[tuple[str, Callable[[], object], bool]] = [
        ("detect", lambda: models.detector.detect(frame), True),
        ("align", lambda: align(frame, detection), True),
        ("quality and pose", lambda: assess(frame, detection, crop, settings.quality), True),
    ]
    if pad is not None:
        stages.append(("presentation attack", lambda: pad.examine(frame, detection), True))
    stages += [
        ("embed", lambda: models.embedder.embed(crop), True),
        ("open template", lambda: unseal(key, envelope, context), True),
        ("compare", lambda: best_of(probe, [template]), True),
    ]
    with SQLiteVault.create(scratch / "home", KeyFile(scratch / "key"), clock=SystemClock()) as vault:
        stages += [
            ("audit append", lambda: _append(vault, durable=False), True),
            ("seal template", lambda: seal(key, plain, context, randomness), False),
            ("durable commit", lambda: _append(vault, durable=True), False),
        ]
        return [(name, _median_ms(run, runs), counts) for name, run, counts in stages]


def _append(vault: SQLiteVault, *, durable: bool) -> None:
    with vault.transaction(durable=durable) as transaction:
        transaction.append_event(AuditEvent("verification", details={"match": True}))


def _median_ms(run: Callable[[], object], runs: int) -> float:
    run()  # The first run sets things up.
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * median(times)


def _synthetic_frame() -> Frame:
    """Return a smooth frame with some noise and nobody in it: content makes little difference to time."""
    width, height = _SIZE_PX
    random = np.random.default_rng(0)
    ramp = np.linspace(90.0, 170.0, width)[None, :, None] + np.linspace(-30.0, 30.0, height)[:, None, None]
    noisy = ramp + random.normal(0.0, 4.0, (height, width, 3))
    pixels: NDArray[np.uint8] = np.clip(noisy, 0, 255).astype(np.uint8)
    return Frame(pixels, datetime.now(UTC))
