"""The coordinator's own trail: a chain, crash-proof, and in the log like a device's."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from facekeep.audit import AuditEvent
from facekeep.clock import ManualClock
from facekeep.errors import AuditError, LogError
from facekeep.signing import DeviceKey
from facekeep_server.federation import submitting
from facekeep_server.federation.state import FederationState
from facekeep_server.federation.submitting import enrol_coordinator, find_standing, submit_trail
from facekeep_server.federation.trail import CoordinatorTrail
from tests.flows.log_servers import RealServer
from tests.server.federation_setting import NOW, make_state

KEY = DeviceKey(b"c" * 32)


def planned(number: int) -> AuditEvent:
    return AuditEvent("round.planned", details={"federation": "fleet", "round": number, "cohort": 40})


def write(folder: Path, count: int) -> CoordinatorTrail:
    trail = CoordinatorTrail(folder, KEY, ManualClock(NOW))
    for number in range(count):
        trail.record(planned(number))
    return trail


def test_a_trail_reopened_goes_on(tmp_path: Path) -> None:
    before = write(tmp_path / "t", 3)
    after = CoordinatorTrail(tmp_path / "t", KEY, ManualClock(NOW + timedelta(hours=1)))
    assert after.entries == before.entries
    after.record(planned(4))
    assert after.verify().size == 4
    assert (tmp_path / "t" / "entries.jsonl").stat().st_mode & 0o077 == 0


def test_a_crash_between_entry_and_head_loses_nothing(tmp_path: Path) -> None:
    trail = write(tmp_path / "t", 2)
    head = (tmp_path / "t" / "head").read_bytes()
    trail.record(planned(9))
    (tmp_path / "t" / "head").write_bytes(head)
    assert len(CoordinatorTrail(tmp_path / "t", KEY, ManualClock(NOW))) == 3


def test_half_a_line_never_happened(tmp_path: Path) -> None:
    write(tmp_path / "t", 2)
    with (tmp_path / "t" / "entries.jsonl").open("ab") as stream:
        stream.write(b'{"details":{"feder')
    trail = CoordinatorTrail(tmp_path / "t", KEY, ManualClock(NOW))
    assert len(trail) == 2
    trail.record(planned(3))
    assert CoordinatorTrail(tmp_path / "t", KEY, ManualClock(NOW)).verify().size == 3


@pytest.mark.parametrize("cut", [1, 2])
def test_entries_that_are_gone_or_changed_are_noticed(tmp_path: Path, cut: int) -> None:
    write(tmp_path / "t", 4)
    path = tmp_path / "t" / "entries.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-cut]))
    with pytest.raises(AuditError):
        CoordinatorTrail(tmp_path / "t", KEY, ManualClock(NOW))
    path.write_bytes(b"".join([lines[0].replace(b'"cohort":40', b'"cohort":41'), *lines[1:]]))
    with pytest.raises(AuditError):
        CoordinatorTrail(tmp_path / "t", KEY, ManualClock(NOW))


def test_another_key_does_not_take_the_trail_over(tmp_path: Path) -> None:
    write(tmp_path / "t", 1)
    with pytest.raises(AuditError):
        CoordinatorTrail(tmp_path / "t", DeviceKey(os.urandom(32)), ManualClock(NOW))


def test_the_log_server_takes_the_trail_like_a_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(NOW)
    state: FederationState = make_state(tmp_path / "fleet")
    monkeypatch.setattr(submitting, "LARGEST_BATCH", 7)
    trail = CoordinatorTrail(state.root / "trail", KEY, clock)
    with pytest.raises(LogError, match="not enrolled"):
        submit_trail(state, trail, KEY, clock)
    with RealServer(tmp_path / "log", clock).running() as server:
        enrol_coordinator(state, KEY, clock, server.url, server.code("coordinator"), server.trust())
        trail.record(planned(1))
        assert submit_trail(state, trail, KEY, clock).submitted == 1
        for number in range(2, 20):
            # More than one batch holds.
            trail.record(planned(number))
        assert submit_trail(state, trail, KEY, clock).submitted == 19
        # Nothing new: nothing is sent, and nothing is lost by asking.
        assert submit_trail(state, trail, KEY, clock) == find_standing(state)
