"""A real device's life, submitted to a log and audited: what devices do is what the auditor's rules allow."""

import contextlib
from datetime import timedelta
from pathlib import Path

from facekeep import Device, FacekeepError
from facekeep.audit import TrailHead
from facekeep.audit.entry import DeviceEntry, TrailBatch, device_id, make_batch, verify_batch
from facekeep.auditor import Verdict
from facekeep.clock import ManualClock
from facekeep.consent import Purpose
from facekeep.logfiles import LogDirectory, audit_log
from facekeep.retention import RetentionPolicy
from tests.flows import release_setting
from tests.flows.conftest import ALL, NOTICE, enrol, picture
from tests.sdk.log_scenes import policy, write_log

POLICY = RetentionPolicy(
    templates_inactivity="P5D",
    templates_maximum="P12D",
    samples_inactivity="P10D",
    samples_maximum="P60D",
    receipts_after_end="P90D",
    log_keep="P200D",
)
RULES = '[retention]\ninactivity = "P5D"\nmaximum = "P12D"\nerase_within = "P1D"\nrun_every = "P2D"\n'


def audited(device: Device, clock: ManualClock, folder: Path) -> Verdict:
    public = bytes.fromhex(device.info().public_key)
    # As a device sends it and a server takes it.
    batch = TrailBatch.parse(make_batch(public, device.trail_entries(), device.trail_note()).to_bytes())
    head = verify_batch(TrailHead(), batch, public, latest=clock.now())
    assert head.size == len(device.trail_entries())
    write_log(folder, [DeviceEntry(device_id(public), public).to_bytes(), *batch.to_lines()], clock.now())
    return audit_log(LogDirectory(folder), policy(RULES), clock.now() + timedelta(minutes=1))


def test_a_life_with_withdrawal_erasure_and_retention_is_verified(device: Device, clock: ManualClock, tmp_path: Path) -> None:
    device.retention.adopt(POLICY)
    for number, name in enumerate(("alice", "bob", "carol"), 1):
        enrol(device, name, number, valid_for="P90D")
    device.verify("alice", picture(1, 2))
    device.identify(picture(2, 3))
    device.withdraw("alice")
    with contextlib.suppress(FacekeepError):
        device.verify("alice", picture(1, 2))
    # Bob is seen twice a week, carol never: her template goes for inactivity, his at the longest term.
    for day in range(14):
        clock.advance(timedelta(days=1))
        device.retention.run()
        if day < 11 and day % 3 == 0:
            device.verify("bob", picture(2, day % 5))
    device.consents.refuse("dora", purposes={"enrolment"}, notice=NOTICE)
    verdict = audited(device, clock, tmp_path / "log")
    assert verdict.is_verified, verdict.render_text()
    assert verdict.events["template.expired"] == 2
    assert verdict.events["retention.run"] >= 14
    assert verdict.erased >= 1


def test_what_was_kept_for_a_federation_and_came_to_its_term_is_verified(
    device: Device, clock: ManualClock, tmp_path: Path
) -> None:
    """Some samples end with their age, some with their subject, one by a withdrawal; a declared group ends with its subject."""
    device.retention.adopt(POLICY)
    device.federation.join(release_setting.policy())
    purposes = ALL | {Purpose.FEDERATED_TRAINING, Purpose.CALIBRATION_STATISTICS}
    for number, name in enumerate(("alice", "bob"), 1):
        grant = device.consents.grant(name, purposes=purposes, valid_for="P11D", notice=NOTICE)
        device.enrol(name, [picture(number, 0)], grant)
        device.federation.collect(name, [picture(number, 1)], grant)
        device.federation.declare(name, "north")
    device.consents.withdraw("bob", purposes=[Purpose.FEDERATED_TRAINING])
    for day in range(13):
        clock.advance(timedelta(days=1))
        device.retention.run()
        if day == 4:
            device.federation.collect("alice", [picture(1, 3)], device.consents.require("alice", Purpose.FEDERATED_TRAINING))
        if day < 10 and day % 2 == 0:
            device.verify("alice", picture(1, 2))
            device.verify("bob", picture(2, 2))
    verdict = audited(device, clock, tmp_path / "log")
    assert verdict.is_verified, verdict.render_text()
    assert verdict.events["sample.erased"] >= 3
    assert verdict.events["group.declared"] == 4


def test_a_device_that_stops_keeping_its_terms_is_found(device: Device, clock: ManualClock, tmp_path: Path) -> None:
    enrol(device, "bob", 2, valid_for="P90D")
    for _ in range(9):
        clock.advance(timedelta(days=1))
        with contextlib.suppress(FacekeepError):
            device.identify(picture(900, 1))
    verdict = audited(device, clock, tmp_path / "log")
    assert set(verdict.counts) == {"audit.violation"}
    messages = {item.message for item in verdict.findings}
    assert any("no retention run" in message for message in messages)
    assert any("P5D after last use" in message for message in messages)
