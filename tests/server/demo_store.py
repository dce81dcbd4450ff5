"""A server whose database holds the fleet of the demo log: the same devices, people and days as `facekeep-server demo-log`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from facekeep.audit.entry import DeviceEntry, HeadEntry, TrailBatch, device_id, parse_log_entry
from facekeep_server.assembly import Server
from facekeep_server.demo_fleet import DemoDevice
from facekeep_server.demo_log import DAYS, RETENTION
from facekeep_server.log.submission import Submission
from facekeep_server.log.transaction import LogTransaction, record_incident

POLICY = f"""\
version = 1
[templates]
inactivity = "{RETENTION.templates_inactivity}"
maximum = "{RETENTION.templates_maximum}"
[training_samples]
inactivity = "{RETENTION.samples_inactivity}"
maximum = "{RETENTION.samples_maximum}"
[receipts]
after_end = "{RETENTION.receipts_after_end}"
[log]
keep = "{RETENTION.log_keep}"
"""


def fill(server: Server, now: datetime, *, devices: int = 5, share: int = 7, days: int = DAYS, incidents: bool = True) -> list[str]:
    """Write the days up to `now` into the log as the devices would have; return the names of the devices."""
    begin = (now - timedelta(days=days, hours=1)).replace(minute=0, second=0, microsecond=0)
    fleet = [DemoDevice(7, number, begin, RETENTION.sha256) for number in range(devices)]
    names = [device_id(device.key.public_bytes) for device in fleet]
    enrolled = [
        lambda log, device=device, name=name, at=at: log.add_device(
            device.key.public_bytes, DeviceEntry(name, device.key.public_bytes), f"gate {at + 1}"
        )
        for at, (device, name) in enumerate(zip(fleet, names, strict=True))
    ]
    _commit(server, begin, enrolled)
    for day in range(days):
        batches = [batch for device in fleet for batch in _batches(device.live(day, share))]
        _commit(server, begin + timedelta(days=day + 1), [Submission(batch, timedelta(minutes=5)).apply for batch in batches])
    if incidents:
        with server.store.writing() as connection:
            for code in ("device.invalid_code", "device.key_in_use", "submission.equivocation"):
                record_incident(connection, now - timedelta(days=2), code, names[0], 3, b"x" if code.startswith("sub") else None)
    return names


def write_policies(folder: Path, server_vkeys: list[str]) -> dict[str, str]:
    """Write a retention and an audit policy; return the settings that name them."""
    (folder / "retention.toml").write_text(POLICY, encoding="utf-8")
    trust = "".join(f"log {vkey}\n" for vkey in server_vkeys) + "quorum none\n"
    audit = f"facekeep_audit_policy = 1\ntrust = '''\n{trust}'''\n[retention]\ninactivity = \"P90D\"\nmaximum = \"P1Y\"\n"
    (folder / "audit.toml").write_text(audit + 'erase_within = "P1D"\nrun_every = "P2D"\n', encoding="utf-8")
    return {"retention_policy": str(folder / "retention.toml"), "audit_policy": str(folder / "audit.toml")}


def _batches(lines: list[bytes]) -> list[TrailBatch]:
    batches, waiting = [], []
    for line in lines:
        waiting.append(line)
        if isinstance(parse_log_entry(line), HeadEntry):
            batches.append(TrailBatch.parse(b"".join(item + b"\n" for item in waiting)))
            waiting = []
    return batches


def _commit(server: Server, now: datetime, jobs: list[Callable[[LogTransaction], object]]) -> None:
    with server.store.writing(durable=False) as connection:
        log = LogTransaction(connection, None, now)
        for job in jobs:
            job(log)
        log.flush()
