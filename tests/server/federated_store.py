"""A federation's lines in the log of a server: a coordinator and three devices, as their trails would tell it."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head
from facekeep.audit.entry import DeviceEntry, device_id, make_batch
from facekeep.signing import DeviceKey
from facekeep_server.assembly import Server
from facekeep_server.log.submission import Submission
from facekeep_server.log.transaction import LogTransaction

NAME = "fleet.example.org"
PERSON = hashlib.sha256(b"somebody on the first device").hexdigest()
OTHER = hashlib.sha256(b"somebody else there").hexdigest()
RELEASES = [hashlib.sha256(f"release {number}".encode()).hexdigest() for number in range(4)]


class Teller:
    """A trail that is told event by event, and submitted in the end."""

    def __init__(self, name: str) -> None:
        self.key = DeviceKey(hashlib.sha256(name.encode()).digest())
        self.label = name
        self._told: list[tuple[datetime, AuditEvent]] = []

    @property
    def id(self) -> str:
        return device_id(self.key.public_bytes)

    def tell(self, at: datetime, code: str, outcome: str = "ok", subject: str | None = None, **details: str | int | bool) -> None:
        self._told.append((at, AuditEvent(code, outcome, subject, {"federation": NAME} | details)))

    def submit(self, server: Server, at: datetime) -> None:
        head, bodies = TrailHead(), []
        for time, event in sorted(self._told, key=lambda item: item[0]):
            body, head = append_event(head, event, time)
            bodies.append(body)
        batch = make_batch(self.key.public_bytes, bodies, sign_head(head, self.key))
        entry = DeviceEntry(self.id, self.key.public_bytes)
        with server.store.writing(durable=False) as connection:
            log = LogTransaction(connection, None, at)
            log.add_device(self.key.public_bytes, entry, self.label)
            Submission(batch, timedelta(minutes=5)).apply(log)
            log.flush()


def plan_of(number: int) -> str:
    return hashlib.sha256(f"plan {number}".encode()).hexdigest()


def fill_federated(server: Server, now: datetime) -> list[Teller]:
    """Five rounds, one aborted; three releases and a withheld candidate; a device that goes back; return the tellers."""
    coordinator, *devices = (Teller(name) for name in ("coordinator", "gate north", "gate south", "gate west"))
    begin = now - timedelta(days=10)
    epsilons = {1: "0.912", 2: "1.340", 4: "1.702", 5: "2.011"}
    for number in range(1, 6):
        at, plan = begin + timedelta(days=2 * number - 2), plan_of(number)
        named = {"round": number, "plan": plan}
        kind, level = ("calibration", "none") if number == 5 else ("training", "channels")
        coordinator.tell(
            at, "round.planned", **named, kind=kind, level=level, cohort=120, minimum=84, epsilon="0.910", delta="1e-05"
        )
        if number == 3:
            lost = {"step": "train", "prepared": 90, "survivors": 61}
            coordinator.tell(at + timedelta(hours=2), "round.aborted", "federation.cohort_too_small", **named, **lost)
            devices[2].tell(at + timedelta(hours=1), "round.refused", "federation.budget_spent", **named, step="prepare")
            continue
        coordinator.tell(
            at + timedelta(hours=1), "reply.refused", "federation.invalid_update", round=number, step="train", device=7
        )
        counts = {"cohort": 120, "prepared": 117, "survivors": 108, "result": "ab" * 32, "suspects": int(number == 2)}
        coordinator.tell(at + timedelta(hours=2), "round.completed", **named, **counts)
        for device in devices[:2]:
            for person in (PERSON, OTHER) if device is devices[0] else (None,):
                joined = {"kind": kind, "level": level, "epsilon": "0.910", "delta": "1e-05", "spent": epsilons[number]}
                device.tell(at + timedelta(hours=1), "round.joined", subject=person, **named, **joined)
    versions = {1: ("1", "0.912"), 2: ("2", "1.340"), 3: ("4", "1.702")}
    for version, (rounds, epsilon) in versions.items():
        at = begin + timedelta(days=[0, 1, 3, 7][version])
        digest, parent = RELEASES[version], RELEASES[version - 1] if version > 1 else ""
        stated = {
            "release": digest,
            "version": version,
            "parent": parent,
            "level": "channels",
            "contract": "cd" * 32,
            "rounds": rounds,
        }
        coordinator.tell(at, "release.published", **stated, epsilon=epsilon, delta="1e-05", signatures=2)
        if version < 3:
            coordinator.tell(at + timedelta(hours=1), "release.offered", release=digest, version=version, canaries=2, adopted=2)
        for device in devices[:2]:
            adopted = {"release": digest, "version": version, "parent": parent, "level": "channels", "contract": "cd" * 32}
            device.tell(at + timedelta(hours=3), "release.adopted", **adopted, migrated=1, waiting=0)
        devices[2].tell(at + timedelta(hours=3), "release.refused", "release.wrong_parent", release=digest, version=version)
    at = begin + timedelta(days=7, hours=8)
    devices[1].tell(at, "release.rolled_back", release=RELEASES[3], version=3, to=RELEASES[2])
    withheld = {"parent": RELEASES[2], "version": 3, "release": RELEASES[3], "reason": "A canary device refused it: release.older."}
    coordinator.tell(at + timedelta(hours=1), "release.withheld", "release.older", **withheld)
    worse = withheld | {"version": 4, "release": "", "reason": "day: TAR at FMR 0.001 falls from 0.9100 to 0.8400"}
    coordinator.tell(at + timedelta(hours=2), "release.withheld", "release.gate", **worse)
    for teller in (coordinator, *devices):
        teller.submit(server, now)
    return [coordinator, *devices]
