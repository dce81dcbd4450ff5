"""A release and its proof of the log: what a device believes, and everything that is not quite it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.audit import AuditEvent
from facekeep.audit.entry import TrailEntry
from facekeep.errors import FacekeepError
from facekeep.protocol.release import ModelRelease, PrivacyStatement
from facekeep.signing import DeviceKey
from facekeep.tlog import LogProof
from facekeep.trust import published, require_logged_release
from facekeep.trust.logged import spelled_rounds
from tests.sdk.release_log import COORDINATOR, OTHER_LOG, ReleaseLog, policy_fields
from tests.sdk.test_trust import PAGE, policy, release

RULES = policy(**policy_fields())


def refused(proof: bytes | LogProof, item: ModelRelease | None = None, rules: Any = RULES) -> str:
    data = proof if isinstance(proof, bytes) else proof.to_text().encode()
    with pytest.raises(FacekeepError) as caught:
        require_logged_release(data, item or release(), rules)
    assert caught.value.code == "release.not_logged"
    return str(caught.value.args[0])


def test_what_the_coordinator_logged_is_believed_wherever_it_stands_in_the_log() -> None:
    log = ReleaseLog()
    for version in (2, 3):
        log.tell(AuditEvent("round.planned", details={"round": version}))
    number = log.publish(release())
    log.tell(AuditEvent("round.planned", details={"round": 9}))
    require_logged_release(log.proof(number).to_text().encode(), release(), RULES)
    require_logged_release(log.proof(number, witnesses=3).to_text().encode(), release(), RULES)
    endless = release(privacy=PrivacyStatement(float("inf"), 0.0, 0, 0), parent=None, rounds=())
    require_logged_release(log.proved(endless), endless, RULES)


def test_without_a_log_policy_a_proof_is_not_looked_at() -> None:
    require_logged_release(b"\xff", release(), policy())


def test_a_proof_of_another_release_is_none() -> None:
    log = ReleaseLog()
    for other in (release(version=3), release(model="ab" * 32), release(rounds=(4, 5)), release(federation="doors.example.org")):
        assert "something else" in refused(log.proved(other))


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": "0.100"},
        {"delta": "1e-06"},
        {"rounds": "4"},
        {"version": 1},
        {"version": True},
        {"parent": ""},
        {"level": "deep"},
        {"contract": "d0" * 32},
        {"federation": "other"},
        {"signatures": 0},
        {"signatures": True},
        {"signatures": "2"},
        {"signatures": None},
    ],
)
def test_a_line_that_tells_auditors_something_else_is_no_proof(change: dict[str, Any]) -> None:
    log = ReleaseLog()
    details = {**published(release(version=2), 2).details, **change}
    number = log.tell(AuditEvent("release.published", details={name: item for name, item in details.items() if item is not None}))
    assert "line" in refused(log.proof(number))


def test_other_events_of_the_same_release_are_no_proof() -> None:
    log, details = ReleaseLog(), dict(published(release(), 2).details)
    few = {name: details[name] for name in ("federation", "release", "version")}
    for event in (
        AuditEvent("release.published", "release.gate", details=details),
        AuditEvent("release.published", subject="ab" * 32, details=details),
        AuditEvent("release.published", details=few),
        AuditEvent("release.offered", details=few),
        AuditEvent("release.withheld", "release.gate", details=few),
        AuditEvent("release.adopted", details=few),
    ):
        refused(log.proof(log.tell(event)))


def test_the_word_of_another_device_is_no_proof() -> None:
    other = ReleaseLog(coordinator=DeviceKey(b"\x72" * 32))
    assert "coordinator" in refused(other.proved(release()))
    # Nor is the coordinator's name on a line that the log does not hold.
    ours = ReleaseLog()
    body = ours.lines[ours.publish(release())]
    number = other.publish(release())
    assert "does not" in refused(other.proof(number, line=body))
    # Nor are lines of the log that are no entries of a trail.
    for line in (ours.lines[0], ours.lines[-1], b"{}", b""):
        refused(ours.proof(1, line=line))


def test_another_logs_word_is_no_proof() -> None:
    refused(ReleaseLog(key=OTHER_LOG).proved(release()))
    require_logged_release(ReleaseLog(key=OTHER_LOG).proved(release()), release(), policy(**policy_fields(key=OTHER_LOG)))
    # A true proof under another coordinator's policy.
    elsewhere = replace(RULES, coordinator="00" * 16)
    assert "coordinator" in refused(ReleaseLog().proved(release()), rules=elsewhere)


def test_too_few_witnesses_are_no_proof() -> None:
    for count in (0, 1):
        assert "quorum" in refused(ReleaseLog().proved(release(), witnesses=count))
    require_logged_release(ReleaseLog().proved(release(), witnesses=0), release(), policy(**policy_fields(quorum=0)))


def test_the_place_and_the_path_have_to_be_those_of_the_line() -> None:
    log = ReleaseLog()
    log.tell(AuditEvent("round.planned", details={"round": 1}))
    good = log.proof(log.publish(release()))
    for wrong in (
        replace(good, index=good.index + 1),
        replace(good, index=2**62),
        replace(good, path=good.path[1:]),
        replace(good, path=(*good.path, bytes(32))),
        replace(good, path=good.path[::-1]),
        replace(good, extra=None),
        replace(good, extra=b""),
    ):
        refused(wrong)
    # A checkpoint of before the line was logged.
    early = ReleaseLog()
    early.tell(AuditEvent("round.planned", details={"round": 1}))
    refused(replace(good, checkpoint=early.checkpoint()))


def test_a_line_altered_by_one_byte_is_no_proof() -> None:
    log = ReleaseLog()
    good = log.proof(log.publish(release()))
    line = good.extra
    assert line is not None
    for place in range(len(line)):
        refused(replace(good, extra=line[:place] + bytes([line[place] ^ 1]) + line[place + 1 :]))
        refused(replace(good, extra=line[:place] + line[place + 1 :]))
    refused(replace(good, extra=line + b"\n"))
    refused(replace(good, extra=b" " + line))
    # The same words in another order are another line.
    body = line[len(b'{"device":"') + 32 + len(b'","entry":') : -len(b',"v":1}')]
    refused(replace(good, extra=TrailEntry(log.device, body.replace(b'"v":1}', b'"v":1 }')).to_bytes()))


GOOD = ReleaseLog(coordinator=COORDINATOR).proved(release())


def test_a_proof_cut_off_anywhere_is_none() -> None:
    for end in range(len(GOOD)):
        refused(GOOD[:end])


@settings(max_examples=300)
@given(place=st.integers(0, len(GOOD) - 1), value=st.integers(1, 255))
def test_a_proof_altered_by_one_byte_is_refused_or_says_the_same(place: int, value: int) -> None:
    altered = GOOD[:place] + bytes([GOOD[place] ^ value]) + GOOD[place + 1 :]
    found = ""
    try:
        require_logged_release(altered, release(), RULES)
    except FacekeepError as error:
        found = error.code
    assert found in {"", "release.not_logged"}
    if not found:
        # The third witness's name, say, which the quorum does not need. What is believed is the same.
        assert LogProof.parse(altered).extra == LogProof.parse(GOOD).extra


@given(data=st.binary(max_size=400) | st.text(max_size=200).map(lambda text: b"c2sp.org/tlog-proof@v1\n" + text.encode()))
def test_garbage_is_refused(data: bytes) -> None:
    refused(data)


def test_a_huge_proof_is_refused() -> None:
    good = LogProof.parse(GOOD)
    refused(b"c2sp.org/tlog-proof@v1\n" + b"A" * (1 << 18))
    refused(replace(good, extra=b"x" * (1 << 17)))
    refused(replace(good, path=(bytes(32),) * 64))
    refused(b"c2sp.org/tlog-proof@v1\nextra " + b"W1tb" * 20_000 + b"\nindex 0\n\n" + good.checkpoint.encode())


def test_rounds_that_no_line_can_carry_are_refused_and_not_a_crash() -> None:
    many = release(rounds=tuple(range(1, 400, 2)))
    with pytest.raises(FacekeepError) as caught:
        spelled_rounds(many.rounds)
    assert caught.value.code == "release.malformed"
    log = ReleaseLog()
    number = log.tell(AuditEvent("release.published", details={**published(release(), 2).details, "release": many.digest}))
    refused(log.proof(number), many)


def test_the_worked_example_of_the_page() -> None:
    proof, fields = LogProof.parse(GOOD), policy_fields()
    assert proof.extra is not None
    blocks = PAGE.read_text().split("```\n")
    for text in (fields["log_policy"], proof.extra.decode() + "\n", GOOD.decode()):
        assert text in blocks
    assert f"`{fields['coordinator']}`" in PAGE.read_text()
