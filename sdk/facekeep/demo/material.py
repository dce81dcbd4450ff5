"""What a demo shows, and with which models: photographs, synthetic people, or drawn figures with their stand-in models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from facekeep.assembly import PREFERRED_DETECTORS, PREFERRED_EMBEDDERS, Inference, ModelChoice, choose_models
from facekeep.biometric import Frame
from facekeep.capture import as_frame
from facekeep.clock import Clock
from facekeep.demo.album import Album, Limits
from facekeep.demo.drawn import DETECTOR, EMBEDDER, drawn_album
from facekeep.demo.photos import read_album
from facekeep.demo.synthetic import load_people, require_permitted, synthetic_album
from facekeep.errors import ModelError
from facekeep.flows.context import Settings
from facekeep.packs import LoadPolicy, PackStore, fix_command, split_name

Cast = Literal["synthetic", "drawn"]
CASTS: Final[tuple[Cast, ...]] = ("synthetic", "drawn")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller of a demo named; everything may be left out.

    Attributes:
        photos: folder of labelled photographs.
        people: who is in front of the camera where there are no photographs.
        models: packs.
        are_drawings: for the tests of the demo: `photos` holds drawn figures.
    """

    photos: Path | None
    people: Cast | None
    models: ModelChoice
    are_drawings: bool = False


def gather(
    asked: Asked, *, store: PackStore, policy: LoadPolicy, settings: Settings, limits: Limits, clock: Clock
) -> tuple[Album, ModelChoice]:
    """Return the album and the models for it, every gap filled; no picture is read yet.

    Raises:
        ModelError: "model.not_installed", "model.wrong_task", "model.not_permitted".
        AcquisitionError, DemoError: of the folder of photographs.
    """
    remarks: tuple[str, ...] = ()
    people = asked.people
    if asked.photos is None and people is None:
        people, remarks = _usual_cast(store, policy, asked.models)
    read = _reader(clock, settings)
    models = asked.models
    if people == "drawn":
        album = drawn_album(clock)
        models = replace(models, detector=models.detector or DETECTOR, embedder=models.embedder or EMBEDDER)
    else:
        if not asked.are_drawings:
            _require_real(store, _named(models), "a photograph" if asked.photos else "a synthetic person")
        album = read_album(asked.photos.expanduser(), read, limits) if asked.photos else synthetic_album(clock, read, policy)
    choice = choose_models(store, models, policy=policy, inference=Inference(settings.threads, settings.providers))
    return replace(album, remarks=(*album.remarks, *remarks)), choice


def commands_for_real_ones(store: PackStore) -> tuple[str, ...]:
    """Return the commands that fetch a detector and an embedder the device would choose, where they can be pulled."""
    commands = []
    for preferred in (PREFERRED_DETECTORS, PREFERRED_EMBEDDERS):
        manifests = sorted((each for each in store.manifests() if each.id in preferred), key=lambda each: preferred.index(each.id))
        builds = [(manifest, build) for manifest in manifests for build in manifest.builds]
        # ONNX Runtime is in the base; an embedder without an operating point decides nothing.
        usable = [
            each for each in builds if each[1].runtime == "onnx" and (each[0].task != "embedding" or each[1].operating_points)
        ]
        usable.sort(key=lambda each: not each[1].can_be_pulled)
        commands += [fix_command(manifest, build) for manifest, build in usable[:1]]
    return (*commands, "facekeep demo --photos DIR")


def _usual_cast(store: PackStore, policy: LoadPolicy, models: ModelChoice) -> tuple[Cast, tuple[str, ...]]:
    """Return synthetic people where models of real faces are here and the policy has nothing against them, else drawn figures."""
    if any(store.manifest(split_name(name)[0]).is_simulation for name in _named(models)):
        return "drawn", ()
    tasks = ((models.detector, PREFERRED_DETECTORS), (models.embedder, PREFERRED_EMBEDDERS))
    if not any(_named(models)) and not all(any(store.has_installed(each) for each in preferred) for _, preferred in tasks):
        return "drawn", ()
    try:
        require_permitted(load_people(), policy)
    except ModelError as refusal:
        if policy.commercial_only:
            raise  # The stand-ins are for simulation only, so nothing is left to show.
        return "drawn", (str(refusal.args[0]),)
    return "synthetic", ()


def _require_real(store: PackStore, named: Sequence[str], shown: str) -> None:
    """Return if no pack that was asked for is a stand-in; what the device chooses by itself never is."""
    for name in named:
        if store.manifest(split_name(name)[0]).is_simulation:
            raise ModelError(
                "model.wrong_task",
                f"{name} knows drawn figures only: it recognises no face of {shown}. Name packs for real faces, or none and "
                "the best installed are used.",
            )


def _named(models: ModelChoice) -> tuple[str, ...]:
    return tuple(name for name in (models.detector, models.embedder, *models.pads) if name is not None)


def _reader(clock: Clock, settings: Settings) -> Callable[[Path], Frame]:
    return lambda path: as_frame(path, clock, max_pixels=settings.max_pixels)
