"""Retention on a real vault: what is due goes, at start, daily and on demand, whatever clock, power and disk do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from facekeep import Device, Purpose
from facekeep.audit import AuditEvent
from facekeep.clock import ManualClock
from facekeep.errors import FacekeepError, RetentionError, VaultError
from facekeep.flows.context import FlowContext, Settings
from facekeep.flows.gallery import GalleryCache
from facekeep.flows.holdings import SUBMITTED_SETTING
from facekeep.flows.retain import Retention
from facekeep.retention import Kind, RetentionCertificate, RetentionPolicy, SignedCertificate, verify_certificate
from facekeep.vault import SQLiteVault
from tests.flows.conftest import NOTICE, CountedModels, enrol, picture
from tests.sdk.vault_scenes import CONTRACT, START, fast_passphrase
from tests.sdk.vault_scenes import enrol as enrol_vectors

ROOT = Path(__file__).resolve().parents[2]
POLICY = RetentionPolicy(
    templates_inactivity="P10D",
    templates_maximum="P60D",
    samples_inactivity="P10D",
    samples_maximum="P60D",
    receipts_after_end="P90D",
    log_keep="P200D",
)


def retention_of(vault: SQLiteVault, clock: ManualClock) -> Retention:
    def no_models() -> CountedModels:
        raise AssertionError("retention needs no model")

    cache = GalleryCache(timedelta(minutes=1), "float32")
    return Retention(FlowContext(vault, clock, Settings(), cache, no_models))


class Scene:
    """A vault with two subjects, thirty days of consent each, and a policy."""

    def __init__(self, home: Path) -> None:
        self.home, self.clock = home, ManualClock(START)
        self.vault = SQLiteVault.create(home, fast_passphrase(), clock=self.clock)
        for name, seeds in (("alice", (1, 2)), ("bob", (3,))):
            enrol_vectors(self.vault, name, *seeds)
        self.retention = retention_of(self.vault, self.clock)
        self.retention.adopt(POLICY)

    def reopen(self) -> None:
        self.vault.close()
        self.vault = SQLiteVault.open(self.home, fast_passphrase(), clock=self.clock)
        self.retention = retention_of(self.vault, self.clock)

    def use(self, name: str) -> None:
        with self.vault.transaction(durable=False) as transaction:
            handle = transaction.find_subject(name)
            assert handle is not None
            details = {"match": True, "contract": CONTRACT}
            transaction.append_event(AuditEvent("verification", subject=handle.commitment, details=details))

    def names(self) -> dict[str, int]:
        with self.vault.transaction(durable=False) as transaction:
            return {handle.name: transaction.reference_count(handle) for handle in transaction.subjects()}

    def check(self, signed: SignedCertificate | None) -> RetentionCertificate:
        assert signed is not None
        self.vault.verify()
        assert self.retention.certificate() == signed
        return verify_certificate(signed, self.vault.device_key.public_bytes)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "home")


def test_without_a_policy_nothing_is_kept_and_nothing_destroyed(tmp_path: Path) -> None:
    vault = SQLiteVault.create(tmp_path, fast_passphrase(), clock=(clock := ManualClock(START)))
    retention = retention_of(vault, clock)
    assert (retention.policy(), retention.keep()) == (None, None)
    for act in (retention.plan, retention.run):
        with pytest.raises(RetentionError) as caught:
            act()
        assert caught.value.code == "retention.no_policy"
    with pytest.raises(RetentionError) as caught:
        retention.certificate()
    assert caught.value.code == "retention.invalid_certificate"
    vault.close()


def test_a_use_prolongs_inactivity_and_nothing_else(scene: Scene) -> None:
    scene.clock.advance(timedelta(days=9))
    scene.use("alice")
    scene.clock.advance(timedelta(days=2))
    assert {item.holding.reference for item in scene.retention.plan().due} == {
        item.holding.reference for item in scene.retention.plan().items if item.holding.kind is Kind.TEMPLATE
    } - {item.holding.reference for item in scene.retention.plan().items if item.holding.last_used}
    found = scene.check(scene.retention.run())
    assert [(gone.reason, gone.count) for gone in found.gone] == [("inactivity", 1)]
    # Bob's consent is in force: the face is gone, the consent is not.
    assert scene.names() == {"alice": 2, "bob": 0}
    for _ in range(3):
        scene.clock.advance(timedelta(days=6))
        scene.use("alice")
    scene.clock.advance(timedelta(days=2))
    # Used yesterday all the same: the purpose has ended.
    found = scene.check(scene.retention.run())
    assert [(gone.reason, gone.count) for gone in found.gone] == [("purpose-end", 2)]
    assert scene.names() == {"bob": 0}


def test_single_templates_go_and_those_kept_are_under_a_new_key(scene: Scene, tmp_path: Path) -> None:
    scene.clock.advance(timedelta(days=9))
    enrol_vectors(scene.vault, "carol", 5)
    with scene.vault.transaction() as transaction:
        handle = transaction.find_subject("alice")
        assert handle is not None
        before = {item.reference_id: item.vector.tobytes() for item in transaction.open_templates(handle, CONTRACT)}
        keys = {transaction._open(handle.slot).data_key.key}
        kept, dropped = transaction.stored_templates()[:2]
        transaction.append_event(AuditEvent("verification"))
    old = shutil.copytree(scene.home, tmp_path / "old")

    def drop(transaction: object) -> None:
        transaction.drop_templates(handle, [dropped.slot])  # type: ignore[attr-defined]

    scene.vault.shred(drop, lambda epoch: [AuditEvent("key.rotated", details={"epoch": epoch})])
    scene.reopen()
    scene.vault.verify()
    with scene.vault.transaction(durable=False) as transaction:
        again = transaction.find_subject("alice")
        assert again == handle
        after = {item.reference_id: item.vector.tobytes() for item in transaction.open_templates(handle, CONTRACT)}
        keys.add(transaction._open(handle.slot).data_key.key)
    assert after == {kept.reference_id: before[kept.reference_id]}
    # What is in the vault of today opens no row of yesterday's.
    assert len(keys) == 2
    assert sqlite3.connect(old / "vault.db").execute("SELECT count(*) FROM templates").fetchone() == (4,)


def test_everything_ends_in_its_turn_and_the_trail_still_verifies(scene: Scene) -> None:
    scene.clock.advance(timedelta(days=31))
    first = scene.check(scene.retention.run())
    assert first.counts == {"template": 3, "training-sample": 0, "receipt": 0, "log-entries": 0}
    assert scene.names() == {}
    scene.clock.advance(timedelta(days=90))
    # Two chains of: given, expired, erased. Recording the end late did not prolong them.
    assert scene.check(scene.retention.run()).counts["receipt"] == 6
    scene.clock.advance(timedelta(days=100))
    pruned = scene.check(scene.retention.run())
    assert pruned.counts["log-entries"] > 0
    scene.reopen()
    report, entries = scene.vault.verify_trail(), list(scene.vault.trail_entries())
    assert report.size - len(entries) == pruned.counts["log-entries"]
    assert json.loads(entries[0])["seq"] == pruned.counts["log-entries"]
    scene.vault.verify()
    # A subject enrolled now has a chain in the right order, whatever rows were freed.
    enrol_vectors(scene.vault, "dave", 7)
    with scene.vault.transaction() as transaction:
        handle = transaction.find_subject("dave")
        assert handle is not None
        assert len(transaction.consents(handle)) == 1
    with pytest.raises(RetentionError):
        scene.retention.certificate(0)


@pytest.mark.parametrize("back", [timedelta(minutes=1), timedelta(days=400)])
def test_a_clock_set_back_prolongs_nothing(scene: Scene, back: timedelta) -> None:
    scene.clock.advance(timedelta(days=31))
    with scene.vault.transaction(durable=False) as transaction:
        transaction.append_event(AuditEvent("verification", "consent.expired"))
    scene.clock.advance(-back)
    plan = scene.retention.plan()
    assert plan.now == START + timedelta(days=31)
    assert {item.holding.pseudonym for item in plan.due} == {
        item.holding.pseudonym for item in plan.items if item.holding.kind is Kind.TEMPLATE
    }
    assert scene.check(scene.retention.run()).counts["template"] == 3


def test_entries_the_log_still_waits_for_are_not_pruned(scene: Scene) -> None:
    with scene.vault.transaction() as transaction:
        transaction.write_setting(SUBMITTED_SETTING, b"2")
    scene.clock.advance(timedelta(days=250))
    assert scene.check(scene.retention.run()).counts["log-entries"] == 2
    assert json.loads(next(scene.vault.trail_entries()))["seq"] == 2


def test_a_look_costs_nothing_until_something_may_be_due(scene: Scene) -> None:
    assert scene.retention.keep("start") is not None
    size = scene.vault.verify_trail().size
    scene.reopen()
    scene.retention.keep("start")
    scene.retention.keep()
    assert scene.vault.verify_trail().size == size
    scene.clock.advance(timedelta(hours=12))
    # Midnight has passed: the run of the day, with nothing due.
    assert scene.check(scene.retention.keep()).trigger == "daily"
    assert scene.retention.keep() is None


def test_a_run_cut_short_is_continued_and_accounted_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekeep.flows.retain._BATCH", 1)
    scene.clock.advance(timedelta(days=31))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scene.retention.run(progress=stop)
    assert len(scene.names()) == 1
    scene.reopen()
    scene.vault.verify()
    found = scene.check(scene.retention.run())
    assert (scene.names(), found.counts["template"], len(found.gone)) == ({}, 3, 2)


WORKER = """
import sys
from datetime import timedelta
from pathlib import Path
from facekeep.clock import ManualClock
from facekeep.vault import SQLiteVault
from tests.flows.test_retention import retention_of
from tests.sdk.vault_scenes import START, fast_passphrase
import facekeep.flows.retain as retain
retain._BATCH = 1
clock = ManualClock(START + timedelta(days=31))
vault = SQLiteVault.open(Path(sys.argv[1]), fast_passphrase(), clock=clock)
print("ready", flush=True)
retention_of(vault, clock).run(progress=lambda done, total: print("done", flush=True))
"""


def test_killed_in_the_middle_it_is_finished_by_the_next_run(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "home")
    for number in range(6):
        enrol_vectors(scene.vault, f"person-{number}", 10 + number)
    scene.vault.close()
    command = [sys.executable, "-W", "ignore", "-c", WORKER, str(scene.home)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(3)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert lines[-1] == "done\n"
    scene.clock.advance(timedelta(days=31))
    scene.reopen()
    scene.vault.verify()
    found = scene.check(scene.retention.run())
    assert scene.names() == {}
    # What the killed run had destroyed stands in the certificate of the one that ended.
    assert found.counts["template"] == 9


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="needs a small file system of its own")
def test_a_full_disk_ends_in_a_typed_error_and_loses_nothing() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as mount:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", mount], capture_output=True, check=False).returncode:
            pytest.skip("this container may not mount")
        try:
            scene = Scene(Path(mount) / "home")
            before = scene.names()
            scene.clock.advance(timedelta(days=31))
            ballast = Path(mount) / "ballast"
            _fill(ballast)
            with pytest.raises(VaultError) as caught:
                scene.retention.run()
            assert caught.value.code in ("vault.disk_full", "vault.io")
            scene.retention.keep_if_possible("start")
            ballast.unlink()
            scene.reopen()
            assert scene.names() == before
            assert scene.check(scene.retention.run()).counts["template"] == 3
            scene.vault.close()
        finally:
            subprocess.run(["umount", "-l", mount], check=True)


def test_a_vault_of_before_retention_opens_and_its_uses_are_known(tmp_path: Path) -> None:
    # Nothing was added to the format: what a template's inactivity is counted from was in the trail all along.
    clock = ManualClock(START)
    vault = SQLiteVault.create(tmp_path / "home", fast_passphrase(), clock=clock)
    enrol_vectors(vault, "alice", 1)
    clock.advance(timedelta(days=5))
    with vault.transaction(durable=False) as transaction:
        handle = transaction.find_subject("alice")
        assert handle is not None
        transaction.append_event(AuditEvent("verification", subject=handle.commitment, details={"match": True}))
    retention = retention_of(vault, clock)
    clock.advance(timedelta(days=6))
    (line,) = [item for item in retention.plan(POLICY).items if item.holding.kind is Kind.TEMPLATE]
    assert line.holding.last_used == START + timedelta(days=5)
    assert not line.is_due
    vault.close()


# On a device


def test_a_device_keeps_its_policy_at_start_and_on_the_first_call_of_a_day(
    open_device: Callable[..., Device], clock: ManualClock, models: CountedModels
) -> None:
    device = open_device()
    enrol(device, "ada", 1, valid_for="P400D")
    device.retention.adopt(POLICY)
    clock.advance(timedelta(days=9))
    assert device.verify("ada", picture(1, 2)).is_match
    clock.advance(timedelta(days=9))
    # Ten days after the enrolment, nine after the last use.
    assert device.verify("ada", picture(1, 3)).is_match
    clock.advance(timedelta(days=11))
    models.counting.calls.clear()
    with pytest.raises(FacekeepError) as caught:
        device.verify("ada", picture(1, 2))
    assert caught.value.code == "enrolment.not_enrolled"
    runs = [entry for entry in map(json.loads, device.trail_entries()) if entry["event"] == "retention.run"]
    assert [entry["details"]["templates"] for entry in runs] == [0, 0, 1]
    device.close()
    # Consent is in force still, so she may enrol again; it ends while the device is off.
    device = open_device()
    device.enrol("ada", [picture(1, 0), picture(1, 1)], device.consents.require("ada", Purpose.ENROLMENT))
    device.close()
    clock.advance(timedelta(days=500))
    shown = open_device(keep_retention=False)
    assert len([item for item in shown.retention.plan().due if item.holding.kind is Kind.TEMPLATE]) == 1
    shown.close()
    device = open_device()
    assert device.subjects() == ()
    assert json.loads(device.trail_entries()[-1])["details"]["trigger"] == "start"
    grant = device.consents.grant("ada", purposes={Purpose.ENROLMENT}, valid_for="P5D", notice=NOTICE)
    device.enrol("ada", [picture(1, 0)], grant)
    device.verify_vault()
