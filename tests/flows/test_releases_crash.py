"""Killed while it adopts a release, or out of disk: the old model with the old templates, or the new with the new."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from facekeep import Device, PackStore
from facekeep.biometric import Features, Template
from facekeep.clock import ManualClock
from facekeep.consent import Purpose
from facekeep.embedding import mean_direction
from facekeep.errors import FacekeepError
from facekeep.flows.acquisition import feature_base_of
from facekeep.flows.adopt import head_of
from facekeep.identifiers import new_record_id
from facekeep.packs.releases import ReleaseStore
from facekeep.training.head import embed_features
from tests.flows.conftest import ALL, NOTICE, picture
from tests.flows.release_setting import Maker, policy, write_pack
from tests.flows.release_worker import START, open_device

ROOT = Path(__file__).resolve().parents[2]
PEOPLE = 60


def crowd(device: Device, maker: Maker, people: int) -> None:
    """Enrol drawn features of people who do not exist, as if from three frames each; half of bob's kind without any."""
    draw, head = np.random.default_rng(4), head_of(maker.content, maker.table)
    base = feature_base_of(device._load_models())
    for number in range(people):
        name = f"person {number}"
        device.consents.grant(name, purposes=ALL, valid_for="P300D", notice=NOTICE)
        centre = draw.normal(size=64)
        rows = (centre + 0.1 * draw.normal(size=(3, 64))).astype(np.float32)
        vector = mean_direction(list(embed_features(head, rows)))
        template = Template(vector, maker.models.contract_id, new_record_id(), START)
        with device._vault.transaction() as transaction:
            handle = transaction.find_subject(name)
            assert handle is not None
            transaction.add_template(
                handle, template, purpose=Purpose.ENROLMENT, consent_id=new_record_id(), features=Features(rows, base)
            )


def scene(root: Path, people: int = PEOPLE, releases: int = 12) -> tuple[Path, Path, list[Path], list[str]]:
    packs, home = root / "packs", root / "home"
    write_pack(packs)
    maker = Maker(PackStore(packs), START)
    with open_device(home, packs) as device:
        device.federation.join(policy())
        crowd(device, maker, people)
        grant = device.consents.grant("alice", purposes=ALL, valid_for="P300D", notice=NOTICE)
        device.enrol("alice", [picture(1, 0), picture(1, 1)], grant)
    bundles, contracts = [], [maker.models.contract_id]
    for number in range(releases):
        path = root / f"{number}.release"
        path.write_bytes(maker.head(seed=number, strength=0.01).to_bytes())
        bundles.append(path)
        contracts.append(maker.releases[-1].contract)
    return home, packs, bundles, contracts


def is_consistent(device: Device, contracts: list[str]) -> int:
    """Check that every template is of the model in use, exactly, and return the version of that."""
    device.verify_vault()
    device.verify_trail()
    version = device.federation.status().release
    assert device.templates_by_contract() == {contracts[version]: PEOPLE + 1}
    models = device._load_models()
    assert models.contract_id == contracts[version]
    model = device._workshop.trainable()
    head = head_of(model.content, model.table)
    with device._vault.transaction(durable=False) as transaction:
        for handle in transaction.subjects():
            for stored in transaction.templates_of(handle):
                features = transaction.features(handle, stored.slot)
                assert features is not None
                expected = mean_direction(list(embed_features(head, features.rows)))
                assert np.abs(transaction.open_template(handle, stored.slot).vector - expected).max() <= 1e-6
    adopted = [json.loads(body) for body in device.trail_entries() if b'"event":"release.adopted"' in body]
    assert [entry["details"]["version"] for entry in adopted] == list(range(1, version + 1))
    assert device.verify("alice", picture(1, 2)).is_match
    return version


@pytest.mark.parametrize("runs", [4, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_killed_at_any_moment_it_is_one_model_with_all_its_templates(tmp_path: Path, runs: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)
    home, packs, bundles, contracts = scene(tmp_path, releases=max(12, 3 * runs))
    reached, acknowledged = 0, 0
    for _ in range(runs):
        command = [sys.executable, "-m", "tests.flows.release_worker", str(home), str(packs), *map(str, bundles)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        reader = threading.Thread(target=lambda lines=lines, out=process.stdout: lines.extend(out))
        reader.start()
        time.sleep(draw.uniform(0.02, 1.0))
        os.kill(process.pid, signal.SIGKILL)
        reader.join()
        process.wait()
        process.stdout.close()
        heard = [int(line.split()[1]) for line in lines if line.startswith("adopted") and line.endswith("\n")]
        acknowledged = max([acknowledged, *heard])
        with open_device(home, packs) as device:
            version = is_consistent(device, contracts)
            # What was acknowledged stays; at most one more was under way.
            assert acknowledged <= version <= acknowledged + 1, seed
            assert version >= reached, seed
            reached = acknowledged = version
            if version < len(bundles):
                # Whatever was staged and left is no obstacle.
                assert device.federation.adopt(bundles[version].read_bytes()).version == version + 1
                reached = acknowledged = is_consistent(device, contracts)
            names = {path.name for path in (home / "releases").iterdir()}
            assert len(names) <= 2
    assert reached >= runs


@pytest.mark.parametrize("at", range(1, 9))
def test_a_failure_between_any_two_templates_moves_none(tmp_path: Path, at: int) -> None:
    from facekeep.vault import VaultTransaction

    home, packs, bundles, contracts = scene(tmp_path, releases=1)
    with open_device(home, packs) as device:
        count, whole = 0, VaultTransaction.move_template

        def fail(self: VaultTransaction, *arguments: object, **options: object) -> None:
            nonlocal count
            count += 1
            if count == at * 7:
                raise KeyboardInterrupt
            whole(self, *arguments, **options)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(VaultTransaction, "move_template", fail)
            with pytest.raises(KeyboardInterrupt):
                device.federation.adopt(bundles[0].read_bytes())
        assert is_consistent(device, contracts) == 0
        assert device.federation.adopt(bundles[0].read_bytes()).migrated == PEOPLE + 1
        assert is_consistent(device, contracts) == 1


def test_a_full_disk_leaves_the_old_model_with_the_old_templates(tmp_path: Path) -> None:
    home, packs, bundles, contracts = scene(tmp_path, releases=2)
    with open_device(home, packs) as device:
        store = device._vault._store
        pages = store.value("PRAGMA page_count")
        store.run(f"PRAGMA max_page_count = {pages}")
        # The events of sixty subjects find no room.
        with pytest.raises(FacekeepError) as caught:
            device.federation.adopt(bundles[0].read_bytes())
        assert caught.value.code == "vault.disk_full"
        assert is_consistent(device, contracts) == 0
        store.run("PRAGMA max_page_count = 100000")
        assert device.federation.adopt(bundles[0].read_bytes()).version == 1

        from facekeep.packs import releases as module

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "create_private", full)
            with pytest.raises(FacekeepError) as caught:
                device.federation.adopt(bundles[1].read_bytes())
        assert caught.value.code == "vault.disk_full"
        assert is_consistent(device, contracts) == 1
        assert not [path for path in (home / "releases").iterdir() if path.name.startswith(".")]
        assert device.federation.adopt(bundles[1].read_bytes()).version == 2


def test_two_processes_that_adopt_at_once_leave_one_state(tmp_path: Path) -> None:
    home, packs, bundles, contracts = scene(tmp_path, releases=2)
    command = [sys.executable, "-m", "tests.flows.release_worker", str(home), str(packs), *map(str, bundles)]
    workers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for worker in workers:
        worker.communicate(timeout=240)
    with open_device(home, packs) as device:
        version = is_consistent(device, contracts)
        assert version >= 1
        for bundle in bundles[version:]:
            device.federation.adopt(bundle.read_bytes())
        assert is_consistent(device, contracts) == 2


def test_nobody_discards_what_another_process_is_about_to_activate(tmp_path: Path) -> None:
    # flock(2) is between open files, so two stores of one process are to each other as those of two.
    mine, other = (ReleaseStore(tmp_path / "releases") for _ in range(2))
    digest, needed = "ab" * 32, list[str]()
    with mine.hold():
        mine.stage(digest, {"model.onnx": b"model"})
        discarding = threading.Thread(target=other.discard_except, args=(lambda: needed,))
        discarding.start()
        discarding.join(0.3)
        assert discarding.is_alive(), "it waits"
        assert (tmp_path / "releases" / digest / "model.onnx").read_bytes() == b"model"
        needed.append(digest)
    discarding.join(30)
    assert not discarding.is_alive()
    assert (tmp_path / "releases" / digest / "model.onnx").read_bytes() == b"model", "asked what is needed once it may discard"
    other.discard_except(list)
    assert list((tmp_path / "releases").iterdir()) == []
    ReleaseStore(tmp_path / "none").discard_except(list)
    assert not (tmp_path / "none").exists()


def test_the_clock_does_not_bring_an_expired_release_back(tmp_path: Path) -> None:
    from datetime import timedelta

    from facekeep import KeyFile
    from tests.flows.release_setting import DETECTOR, EMBEDDER

    home, packs, bundles, _ = scene(tmp_path, people=1, releases=1)
    clock = ManualClock(START + timedelta(days=100))
    with Device.open(
        home, key=KeyFile(home.parent / "key"), detector=DETECTOR, embedder=EMBEDDER, packs=PackStore(packs), clock=clock
    ) as device:
        device.federation.join(policy())
        clock.advance(timedelta(days=-100))
        with pytest.raises(FacekeepError) as caught:
            device.federation.adopt(bundles[0].read_bytes())
        assert caught.value.code == "release.expired"
