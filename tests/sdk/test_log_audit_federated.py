"""The auditor on federated rounds and releases: what a coordinator and a device may not say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from facekeep.auditor import Verdict
from facekeep.auditor.federated import parse_rounds
from facekeep.clock import to_rfc3339
from facekeep.logfiles import LogDirectory, audit_log
from tests.sdk.log_scenes import START, Phone, policy, subject, write_log

LATER = START + timedelta(days=2)
FLEET = {"federation": "fleet.example.org"}
ALICE = subject(1)
SAME: dict[str, Any] = {"release": "ab" * 32, "parent": "", "level": "head", "contract": "cd" * 32}
PUBLISHED = SAME | {"delta": "1e-05", "signatures": 2}
ADOPTED = SAME | {"migrated": 1, "waiting": 0}


def audit(tmp_path: Path, phone: Phone) -> Verdict:
    write_log(tmp_path / "log", [phone.enrolment(), *phone.submit()], LATER)
    return audit_log(LogDirectory(tmp_path / "log"), policy(), LATER + timedelta(hours=1))


def messages(verdict: Verdict) -> list[str]:
    return [finding.message for finding in verdict.findings]


def completed(phone: Phone, *rounds: int) -> None:
    for number in rounds:
        counts = {"cohort": 9, "prepared": 9, "survivors": 8, "result": "00" * 32, "suspects": 0}
        phone.log("round.completed", **FLEET, round=number, plan=f"{number:064x}", **counts)


def publish(phone: Phone, version: int, rounds: str, epsilon: str) -> None:
    phone.log("release.published", **FLEET, **PUBLISHED, version=version, rounds=rounds, epsilon=epsilon)


def consent(phone: Phone, purposes: str) -> None:
    until = to_rfc3339(START + timedelta(days=300))
    phone.log("consent.given", ALICE, record="r1", purposes=purposes, until=until)


def join(phone: Phone, number: int, plan: str = "", kind: str = "training", outcome: str = "ok") -> None:
    stated = {"kind": kind, "level": "head", "epsilon": "1.000", "delta": "1e-05", "spent": "1.000"}
    phone.log("round.joined", ALICE, outcome, **FLEET, round=number, plan=plan or f"{number:064x}", **stated)


def test_a_good_coordinator_and_a_good_device_pass(tmp_path: Path) -> None:
    phone = Phone(7)
    completed(phone, 1, 2, 4)
    publish(phone, 1, "1-2", "0.900")
    publish(phone, 2, "4", "0.900")
    publish(phone, 4, "", "inf")
    consent(phone, "enrolment,federated-training,calibration-statistics")
    join(phone, 1)
    join(phone, 1)
    join(phone, 3, kind="calibration")
    phone.log("release.adopted", **FLEET, **ADOPTED, version=1)
    phone.log("release.rolled_back", **FLEET, release="ab" * 32, version=1, to="")
    phone.log("release.adopted", **FLEET, **ADOPTED, version=2)
    phone.log("release.adopted", federation="another", **ADOPTED, version=1)
    assert messages(audit(tmp_path, phone)) == []


@pytest.mark.parametrize(
    ("adopted", "release", "says"),
    [
        ([1, 2], "ab" * 32, []),
        ([2], "ee" * 32, ["version 2, which is no release that the coordinator published"]),
        # Versions are not used again: number 3 was withheld, or was never there.
        ([3], "ab" * 32, ["version 3, which is no release that the coordinator published"]),
        # The coordinator may not have submitted its last lines yet.
        ([1, 5], "ab" * 32, []),
    ],
)
def test_what_devices_adopt_is_what_the_coordinator_published(
    tmp_path: Path, adopted: list[int], release: str, says: list[str]
) -> None:
    coordinator, phone = Phone(7), Phone(8)
    # The device's lines first: the coordinator submitted late.
    for version in adopted:
        phone.log("release.adopted", **FLEET, **(ADOPTED | {"release": release}), version=version)
    # Another federation, whose coordinator writes to another log, is nobody's business here.
    phone.log("release.adopted", federation="another", **ADOPTED, version=1)
    completed(coordinator, 1, 2, 4)
    for version, rounds in ((1, "1"), (2, "2"), (4, "4")):
        publish(coordinator, version, rounds, "1.000")
    entries = [phone.enrolment(), *phone.submit(), coordinator.enrolment(), *coordinator.submit()]
    write_log(tmp_path / "log", entries, LATER)
    found = messages(audit_log(LogDirectory(tmp_path / "log"), policy(), LATER + timedelta(hours=1)))
    assert len(found) == len(says)
    assert all(text in message for text, message in zip(says, found, strict=True))


@pytest.mark.parametrize(
    ("rounds", "epsilon", "version", "says"),
    [
        ("3", "1.000", 2, "of round 3, which was not completed"),
        ("1-5", "1.000", 2, "of round 3, which was not completed"),
        ("some", "1.000", 2, "does not say which rounds"),
        ("2", "0.400", 2, "less privacy spent"),
        ("2", "nan", 2, "less privacy spent"),
        ("2", "", 2, "less privacy spent"),
        ("2", "1.000", 1, "version 1 after 1"),
    ],
)
def test_a_release_that_cannot_be(tmp_path: Path, rounds: str, epsilon: str, version: int, says: str) -> None:
    phone = Phone(7)
    completed(phone, 1, 2)
    publish(phone, 1, "1", "0.500")
    publish(phone, version, rounds, epsilon)
    (found,) = messages(audit(tmp_path, phone))
    assert says in found


def test_a_round_answered_twice_or_backwards(tmp_path: Path) -> None:
    phone = Phone(7)
    consent(phone, "enrolment,federated-training")
    join(phone, 2)
    join(phone, 2, plan="ff" * 32)
    join(phone, 1)
    join(phone, 3, outcome="federation.budget_spent")
    found = messages(audit(tmp_path, phone))
    assert [text.split(".")[1] for text in found] == ["joined of round 2 after round 2", "joined of round 1 after round 2"]


def test_rounds_samples_and_groups_take_consent(tmp_path: Path) -> None:
    phone = Phone(7)
    consent(phone, "enrolment,federated-training")
    phone.log("sample.kept", ALICE, count=2, purposes="federated-training")
    phone.log("group.declared", ALICE, held=True)
    join(phone, 1)
    join(phone, 2, kind="demographic")
    phone.log("consent.withdrawn", ALICE, record="r2", purposes="federated-training")
    phone.log("group.declared", ALICE, held=False)
    join(phone, 3)
    phone.log("template.erased", ALICE, references=0, epoch=2)
    join(phone, 4)
    assert messages(audit(tmp_path, phone)) == [
        "group.declared without consent to calibration-statistics.",
        "round.joined without consent to calibration-statistics.",
        "round.joined without consent to federated-training.",
        "round.joined of a subject that was erased.",
    ]


def test_an_older_release_is_never_adopted(tmp_path: Path) -> None:
    phone = Phone(7)
    for version in (1, 3, 3, 2):
        phone.log("release.adopted", **FLEET, **ADOPTED, version=version)
    assert [text.rstrip(".")[-9:] for text in messages(audit(tmp_path, phone))] == ["3 after 3", "2 after 3"]


def test_rounds_are_read() -> None:
    assert parse_rounds("1-3,5") == {1, 2, 3, 5}
    assert parse_rounds("") == frozenset()
    assert [parse_rounds(text) for text in ("a", "1-", "-1", "3-1", "1-9999999", "1,,2", "\u0663")] == [None] * 7
