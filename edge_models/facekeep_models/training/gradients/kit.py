"""`facekeep-models training-kit`: what a federation hands to its devices, beside plans, so that they can train a model.

Anchors are embeddings of people who do not exist and passed the privacy screen (docs/models/people.md), so nobody's template
travels; pictures of a folder join them only where one is given, and whoever gives it answers for the people on them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from facekeep.embedding import CosineEmbedder, mean_direction
from facekeep.packs import PackStore
from facekeep.packs.files import write_atomically
from facekeep.ports import Detector
from facekeep.runtime import open_session
from facekeep.training import PATCH_SUFFIX, PatchTable, TrainingKit, describe_kit, parse_patch_table, parse_training_kit
from facekeep.training.kit import DESCRIPTION_FILE
from facekeep_models.evaluation.errors import EvaluationError
from facekeep_models.evaluation.pictures import NOBODY, Picture
from facekeep_models.training.export.errors import ExportError
from facekeep_models.training.export.pictures import drawn_crop

# Two pictures of a person, so that the anchor is the person and not the light of one picture.
PICTURES_EACH: Final = 2
_EVERY: Final = 50


@dataclass(frozen=True, slots=True)
class KitRequest:
    """What the anchors are made of.

    Attributes:
        pack: "pack/build" of an ONNX embedder with a patch table.
        people: how many people who do not exist, the first of them.
        pictures: of a folder; one anchor for each person on them.
    """

    pack: str
    people: int
    pictures: tuple[Picture, ...] = ()


def make_kit(
    request: KitRequest, store: PackStore, into: Path, *, detector: Detector | None, say: Callable[[str], None]
) -> TrainingKit:
    """Write kit.json, anchors.f32 and train.onnx into a folder, the same bytes for the same request.

    Args:
        request: what to make.
        store: where the pack lies.
        into: folder, made if it is not there.
        detector: finds the faces in `request.pictures`; not needed without.
        say: progress, one line at a time.

    Raises:
        EvaluationError: "evaluation.invalid_request" for pictures without a detector.
        ExportError: "export.unsupported_layer" for a build that cannot be trained, "export.no_converter" without `onnx`.
        ModelError: "model.not_installed", "model.disk_full", "model.io" and their kind.
    """
    if request.pictures and detector is None:
        raise EvaluationError("evaluation.invalid_request", "Anchors of pictures need a detector that finds the faces on them.")
    pack_id, _, build_id = request.pack.partition("/")
    manifest = store.manifest(pack_id)
    build = manifest.build(build_id)
    files = store.read_files(pack_id, build_id)
    tables = [content for name, content in files.items() if name.endswith(PATCH_SUFFIX)]
    models = [content for name, content in files.items() if name.endswith(".onnx")]
    if len(tables) != 1 or len(models) != 1:
        raise ExportError("export.unsupported_layer", f"{request.pack} has no patch table: it cannot be trained.")
    table = parse_patch_table(tables[0])
    graph = _graph(models[0], table)
    session = open_session("onnx", {"model.onnx": models[0]})
    embedder = CosineEmbedder(session, manifest.input_of(build), table.parameters.dimension)
    anchors = [*_drawn(embedder, request.people, say)]
    made_of = f"{request.people} people who do not exist, facekeep_models.people, the first ones"
    if detector is not None and request.pictures:
        pictured = _pictured(embedder, detector, request.pictures, say)
        anchors += pictured
        made_of += f"; {len(pictured)} people of a folder"
    description, others = describe_kit(request.pack, table.rest_sha256, table.parameters, np.stack(anchors), graph, made_of)
    kit = parse_training_kit(description, others, sha256=None)
    into.mkdir(parents=True, exist_ok=True)
    for name, content in others.items():
        write_atomically(into / name, content)
    # Last: a kit without its description is none.
    write_atomically(into / DESCRIPTION_FILE, description)
    return kit


def _graph(model: bytes, table: PatchTable) -> bytes:
    if table.parameters.levels == ("head",):
        return b""
    try:
        import onnx

        from facekeep_models.training.gradients.training_graph import training_graph
    except ImportError as error:
        raise ExportError("export.no_converter", "A training graph is written with onnx: pip install 'facekeep[kit]'.") from error
    made: bytes = training_graph(onnx.load_from_string(model)).SerializeToString(deterministic=True)
    return made


def _drawn(embedder: CosineEmbedder, people: int, say: Callable[[str], None]) -> list[NDArray[np.float32]]:
    anchors = []
    for index in range(people):
        anchors.append(mean_direction([embedder.embed(drawn_crop(index, number)) for number in range(PICTURES_EACH)]))
        if (index + 1) % _EVERY == 0:
            say(f"{index + 1} of {people} people drawn")
    return anchors


def _pictured(
    embedder: CosineEmbedder, detector: Detector, pictures: tuple[Picture, ...], say: Callable[[str], None]
) -> list[NDArray[np.float32]]:
    from facekeep_models.training.export.held_out import aligned_faces

    known = [picture for picture in pictures if picture.person != NOBODY]
    people: dict[int, list[NDArray[np.float32]]] = {}
    for picture, crop in zip(known, aligned_faces(detector, known), strict=True):
        if crop is not None:
            people.setdefault(picture.person, []).append(embedder.embed(crop))
    asked = len({picture.person for picture in known})
    say(f"{len(people)} of {asked} people found on {len(known)} pictures")
    return [mean_direction(vectors) for _, vectors in sorted(people.items())]
