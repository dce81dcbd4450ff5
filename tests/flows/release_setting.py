"""A federation in a drawer: an embedder of drawn figures that can be patched, keys that sign releases, and releases of any kind."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from facekeep import Device
from facekeep.assembly import MODELS_SETTING, ModelChoice, load_models
from facekeep.biometric import OperatingPoint
from facekeep.packs import LoadPolicy, PackStore
from facekeep.protocol.policy import FederationPolicy, Level
from facekeep.protocol.release import ModelRelease, PrivacyStatement, ReleaseBundle, ReleasedPoint, cosign
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind
from facekeep.training.parameters import ParameterTable, TrainableTensor
from facekeep.training.patching import patched, read_parameters, table_for
from facekeep.trust.vectors import reference_crops, vectors_to_bytes
from facekeep_models.simulation.export import DIMENSION, embedder_model

PACK, BUILD, FILE = "learning-embedder", "onnx", "learning_embedder.onnx"
DETECTOR, EMBEDDER = "drawn-detector/onnx", f"{PACK}/{BUILD}"
FLEET = "tests"
TABLE = ParameterTable(
    (TrainableTensor("field.scale", 0, (DIMENSION,)), TrainableTensor("head.weight", DIMENSION, (DIMENSION, DIMENSION)))
)


def rotation(seed: int) -> NDArray[np.float32]:
    """An orthogonal map: cosines, and so the operating points, stay what they are."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(DIMENSION, DIMENSION)))[0].astype(np.float32)


def write_pack(directory: Path) -> PackStore:
    """Write the pack into a store and return the store."""
    row = np.concatenate([1 + 0.01 * np.random.default_rng(1).normal(size=DIMENSION), rotation(2).ravel()]).astype(np.float32)
    model = embedder_model()
    graph = model.graph
    graph.node[-1].output[0] = "raw"
    del graph.output[:]
    node = helper.make_node
    graph.node.extend(
        [
            node("Slice", ["row", "zero", "middle", "axis"], ["scale"]),
            node("Slice", ["row", "middle", "end", "axis"], ["flat_head"]),
            node("Reshape", ["flat_head", "square"], ["head"]),
            node("Mul", ["raw", "scale"], ["features"]),
            node("Gemm", ["features", "head"], ["embedding"], transB=1),
        ]
    )
    # "features" is the name of an inner value of the drawn embedder.
    for item in graph.node[:-5]:
        item.input[:] = ["field_rows" if name == "features" else name for name in item.input]
        item.output[:] = ["field_rows" if name == "features" else name for name in item.output]
    for name, values in {
        "zero": [0],
        "middle": [DIMENSION],
        "end": [len(row)],
        "axis": [0],
        "square": [DIMENSION, DIMENSION],
    }.items():
        graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    graph.initializer.append(numpy_helper.from_array(row, "row"))
    for name in ("embedding", "features"):
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", DIMENSION]))
    onnx.checker.check_model(model)
    content = model.SerializeToString(deterministic=True)
    table = table_for(content, TABLE, row, "float32").to_bytes()
    files = {FILE: content, FILE.replace(".onnx", ".patch.json"): table}
    shipped = json.loads((Path(__file__).parents[2] / "edge_models/facekeep_models/manifests/drawn-embedder.json").read_text())
    build = shipped["builds"][0] | {
        "id": BUILD,
        "files": [
            {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "url": None}
            for name, data in files.items()
        ],
    }
    place = directory / PACK / BUILD
    place.mkdir(parents=True)
    (directory / PACK / "manifest.json").write_text(json.dumps(shipped | {"id": PACK, "builds": [build]}))
    for name, data in files.items():
        (place / name).write_bytes(data)
    return PackStore(directory)


def _note_key(number: int) -> tuple[str, DeviceKey, NoteKey]:
    key, name = DeviceKey(bytes([number]) * 32), f"key-{number}"
    return name, key, NoteKey(name, NoteKind.ED25519, key.public_bytes)


SIGNERS = [_note_key(number) for number in (11, 12, 13)]


def policy(**changes: Any) -> FederationPolicy:
    """Two of three keys sign releases."""
    keys = tuple(key for _, _, key in SIGNERS)
    stated: dict[str, Any] = {
        "name": FLEET,
        "authority_keys": (keys[0],),
        "planner_keys": (keys[0],),
        "release_keys": keys,
        "release_quorum": 2,
        "most_samples": 4,
    }
    return FederationPolicy(**(stated | changes))


@dataclass
class Maker:
    """Makes one release after another over the pack, as a coordinator would."""

    packs: PackStore
    now: datetime
    content: bytes = b""
    parent: str | None = None
    version: int = 0
    base: str = ""
    releases: list[ModelRelease] = field(default_factory=list)

    def __post_init__(self) -> None:
        files = self.packs.read_files(PACK, BUILD)
        self.content = files[FILE]
        self.base = hashlib.sha256(self.content).hexdigest()
        self.table = table_for(
            self.content, TABLE, np.frombuffer(self.content, "<f4", TABLE.length, self._offset(files)), "float32"
        )
        self.models = load_models(self.packs, ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy())

    @staticmethod
    def _offset(files: dict[str, bytes]) -> int:
        return int(json.loads(files[FILE.replace(".onnx", ".patch.json")])["offset"])

    @property
    def row(self) -> NDArray[np.float32]:
        return read_parameters(self.content, self.table)

    def make(
        self,
        level: Level,
        values: NDArray[np.float32],
        *,
        points: tuple[OperatingPoint, ...] | None = None,
        signers: int = 2,
        vectors: bool = True,
        go_on: bool = True,
        **changes: Any,
    ) -> ReleaseBundle:
        """Return the bundle of the next release; with `go_on`, the one after continues it."""
        numbers = values.astype("<f4").tobytes()
        made = patched(self.content, self.table, level.value, numbers, sha256=None)
        sha256 = hashlib.sha256(made).hexdigest()
        contract, rows = self._contract_and_vectors(made, sha256)
        stated: dict[str, Any] = {
            "federation": FLEET,
            "version": self.version + 1,
            "parent": self.parent,
            "level": level,
            "base": self.base,
            "parameters_sha256": hashlib.sha256(numbers).hexdigest(),
            "parameters_length": len(values),
            "model": sha256,
            "contract": contract,
            "operating_points": tuple(_travelling(point) for point in points or self.models.operating_points),
            "privacy": PrivacyStatement(1.5, 1e-5, 100, 500),
            "rounds": (self.version + 1,),
            "vectors_sha256": hashlib.sha256(rows).hexdigest() if vectors else None,
            "created": self.now,
            "expires": self.now + timedelta(days=90),
        }
        release = ModelRelease(**(stated | changes))
        name, key, _ = SIGNERS[0]
        note = release.sign(name, key)
        for name, key, _ in SIGNERS[1:signers]:
            note = cosign(note, name, key)
        if go_on:
            self.content, self.parent, self.version = made, release.digest, release.version
            self.releases.append(release)
        return ReleaseBundle(note, numbers, rows if vectors else b"")

    def head(self, seed: int = 5, strength: float = 0.02, **options: Any) -> ReleaseBundle:
        """A small change of the last map."""
        head = self.row[DIMENSION:]
        noise = np.random.default_rng(seed).normal(size=head.shape).astype(np.float32)
        return self.make(Level.HEAD, head + np.float32(strength) * noise, **options)

    def deep(self, seed: int = 6, strength: float = 0.05, **options: Any) -> ReleaseBundle:
        """A small change of everything."""
        noise = np.random.default_rng(seed).normal(size=TABLE.length).astype(np.float32)
        noise[DIMENSION:] *= 0.2
        return self.make(Level.DEEP, self.row + np.float32(strength) * noise, **options)

    def _contract_and_vectors(self, content: bytes, sha256: str) -> tuple[str, bytes]:
        from facekeep.assembly.loading import ReleasedModel

        released = ReleasedModel("0" * 64, content, sha256, self.models.operating_points)
        models = load_models(self.packs, ModelChoice(DETECTOR, EMBEDDER), policy=LoadPolicy(), released=released)
        rows = np.stack([models.embedder.embed(crop) for crop in reference_crops()])
        return models.contract_id, vectors_to_bytes(rows)


def _travelling(point: OperatingPoint) -> ReleasedPoint:
    return ReleasedPoint(**asdict(point))


def resigned(bundle: ReleaseBundle, **changes: Any) -> ReleaseBundle:
    """The same bundle with other statements, signed again by enough keys."""
    release = replace(ModelRelease.parse(bundle.note.rpartition("\n\n")[0] + "\n"), **changes)
    note = cosign(release.sign(SIGNERS[0][0], SIGNERS[0][1]), SIGNERS[1][0], SIGNERS[1][1])
    return replace(bundle, note=note)


def choice_of(device: Device) -> bytes | None:
    with device._vault.transaction(durable=False) as transaction:
        return transaction.read_setting(MODELS_SETTING)
