"""Nothing biometric and no name in any log, entry, receipt, certificate or file of a whole life on a device."""

from __future__ import annotations

import io
import json
import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facekeep import Device
from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError
from facekeep.retention import RetentionPolicy
from tests.biometric_search import BiometricSearch
from tests.flows.conftest import ALL, NOTICE, CountedModels, Counting, picture

NAMES = ["Ann-Sofie Lindqvist", "Søren Kierkegård", "Zoë"]
POLICY = RetentionPolicy(
    templates_inactivity="P30D",
    templates_maximum="P60D",
    samples_inactivity="P30D",
    samples_maximum="P60D",
    receipts_after_end="P1Y",
    log_keep="P1Y",
)


@dataclass
class Recording(Counting):
    """Ports that remember every crop and vector that passed through them."""

    crops: list[NDArray[np.uint8]] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)

    def embed(self, crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        vector = super().embed(crop)
        self.crops.append(np.array(crop))
        self.vectors.append(np.array(vector))
        return vector


@dataclass
class Life:
    """What a scenario wrote and said, and what must not be in it."""

    search: BiometricSearch
    said: dict[str, bytes]
    home: Path
    left_elsewhere: list[str]


@pytest.fixture
def life(
    open_device: Callable[..., Device],
    models: CountedModels,
    clock: ManualClock,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Life:
    (scratch := tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    recording = Recording(models.counting.detector, models.counting.embedder)
    device = open_device(models=CountedModels(recording, models.contract_id, models.operating_points))
    said: dict[str, bytes] = {}
    messages: list[str] = []
    frames = {f"frame {person} {number}": picture(person, number) for person in (1, 2) for number in range(3)}
    templates: dict[str, NDArray[np.float32]] = {}
    try:
        for person, name in enumerate(NAMES[:2], 1):
            grant = device.consents.grant(name, purposes=ALL, valid_for="P40D", notice=NOTICE)
            receipt = device.enrol(name, [frames[f"frame {person} {number}"] for number in range(2)], grant)
            messages += [repr(grant), repr(receipt), repr(device)]
        with device._vault.transaction(durable=False) as transaction:
            for handle in transaction.subjects():
                (template,) = transaction.open_templates(handle, models.contract_id)
                templates[f"template {handle.slot}"] = np.array(template.vector)
                messages += [repr(handle), repr(template)]
        device.retention.adopt(POLICY)
        messages.append(repr(device.verify(NAMES[0], frames["frame 1 2"])))
        messages.append(repr(device.verify(NAMES[0], frames["frame 2 2"])))
        messages.append(repr(device.identify(frames["frame 2 2"])).replace(NAMES[1], ""))
        for act in (lambda: device.verify(NAMES[2], frames["frame 1 2"]), lambda: device.identify(np.zeros((4, 4, 3), np.uint8))):
            with pytest.raises(FacekeepError) as caught:
                act()
            messages += [
                str(caught.value),
                repr(caught.value),
                str(caught.value.__notes__ if hasattr(caught.value, "__notes__") else ""),
            ]
        # While it is open: the write-ahead log and the shared memory exist now.
        search = BiometricSearch(
            pictures=frames | {f"crop {number}": crop for number, crop in enumerate(recording.crops)},
            vectors=templates | {f"embedding {number}": vector for number, vector in enumerate(recording.vectors)},
            names=NAMES,
        )
        open_files = search.in_tree(tmp_path / "home")
        clock.advance(timedelta(days=35))
        said["plan"] = json.dumps(device.retention.plan().to_json()).encode()
        said["certificate"] = device.retention.run().to_bytes()
        said["receipt"] = json.dumps(device.withdraw(NAMES[1]).to_json()).encode()
        said["trail"] = b"\n".join(device.trail_entries())
        said["note"] = device.trail_note().encode()
        said["scan"] = json.dumps(device.erasures.verify(subject=NAMES[1]).to_json()).encode()
        device.close()
    finally:
        logging.getLogger().removeHandler(handler)
    output = capfd.readouterr()
    said |= {"log": log.getvalue().encode(), "output": (output.out + output.err).encode(), "messages": "\n".join(messages).encode()}
    elsewhere = open_files + [str(path) for path in scratch.rglob("*")]
    assert recording.vectors
    return Life(search, said, tmp_path / "home", elsewhere)


def test_nothing_biometric_and_no_name_in_anything_a_device_writes_or_says(life: Life) -> None:
    assert life.left_elsewhere == []
    assert life.search.in_tree(life.home) == []
    for where, data in life.said.items():
        assert life.search.in_bytes(where, data) == [], where
    assert min(len(life.said[name]) for name in ("plan", "certificate", "receipt", "trail", "messages")) > 100
    # A search that finds nothing has to be one that could have.
    assert life.search.fault() is None


@pytest.mark.parametrize("kind", [">f4", "<f2", "<f8", "int8"])
def test_a_vector_in_any_number_format_would_be_found(kind: str) -> None:
    vector = np.random.default_rng(4).standard_normal(128).astype(np.float32)
    vector /= np.linalg.norm(vector)
    search = BiometricSearch(pictures={}, vectors={"template": vector}, names=[])
    data = np.rint(vector * 127).astype(np.int8).tobytes() if kind == "int8" else vector.astype(kind).tobytes()
    for spelled in (data, data.hex().encode(), json.dumps(list(data)).encode(), repr(data).encode()):
        assert search.in_bytes("entry", b'{"details":"' + spelled + b'"}')
