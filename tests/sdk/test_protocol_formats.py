"""docs/formats/round.md and roster.md: the worked examples are what the code makes, and what it reads back."""

from __future__ import annotations

import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from facekeep.protocol import (
    Abandoned,
    AbandonRequest,
    Challenge,
    Cohort,
    Confirmed,
    ConfirmRequest,
    Extra,
    FederationPolicy,
    Introduction,
    Kind,
    Level,
    MaskedUpdate,
    Prepared,
    Refusal,
    Revealed,
    Roster,
    RosterEntry,
    RosterExcerpt,
    RosterHead,
    RoundPlan,
    SignedPlan,
    TrainRequest,
    UnmaskRequest,
    pack_bits,
    require_masked,
    topology_of,
    unpack_bits,
)
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind

FORMATS = Path(__file__).parents[2] / "docs" / "formats"
AUTHORITY, PLANNER, RELEASE = DeviceKey(b"\x01" * 32), DeviceKey(b"\x02" * 32), DeviceKey(b"\x03" * 32)
DEVICES = [DeviceKey(bytes([16 + n]) * 32) for n in range(5)]
ROSTER = Roster("demo", [RosterEntry(key.public_bytes, bytes([32 + n]) * 32) for n, key in enumerate(DEVICES)])
COHORT = Cohort.of([0, 1, 3, 4])
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def note_key(name: str, key: DeviceKey) -> NoteKey:
    return NoteKey(f"demo/{name}", NoteKind.ED25519, key.public_bytes)


POLICY = FederationPolicy(
    name="demo",
    authority_keys=(note_key("authority", AUTHORITY),),
    planner_keys=(note_key("planner", PLANNER),),
    release_keys=(note_key("release", RELEASE),),
    minimum_cohort=3,
)
PLAN = RoundPlan(
    federation="demo",
    round=7,
    kind=Kind.TRAINING,
    level=Level.HEAD,
    roster_size=5,
    roster_root=ROSTER.head.root.hex(),
    cohort_size=4,
    cohort_digest=COHORT.digest,
    neighbours=3,
    threshold=2,
    committee=4,
    quorum=3,
    minimum=3,
    length=2,
    extras=(Extra("loss", 10.0),),
    clip_units=1024,
    step=1 / 1024,
    noise_variance=100,
    base="ab" * 32,
    settings={"steps": 4},
    issued=NOW,
    deadline=NOW + timedelta(hours=1),
    seed="cd" * 32,
    noise_multiplier=0.017,
    epsilon=0.5,
    delta=1e-5,
)
NOTE = PLAN.sign("demo/planner", PLANNER)
SIGNED = SignedPlan(NOTE, PLAN)
CHALLENGE = Challenge("demo", b"\x09" * 32)
PREPARED = Prepared(0, b"\x05" * 32, b"\x06" * 32, tuple(bytes([n]) * 115 for n in (1, 2, 3))).signed(DEVICES[0], SIGNED.digest)
MASKED = MaskedUpdate(0, pack_bits([True, True, False]), pack_bits([False] * 3), np.array([1, 2, 3], np.uint32)).signed(
    DEVICES[0], SIGNED.digest
)
SURVIVORS = pack_bits([True, True, True, False])
CONFIRMED = Confirmed(0).signed(DEVICES[0], SIGNED.digest, SURVIVORS)
UNMASK = UnmaskRequest(
    SIGNED.digest, SURVIVORS, COHORT.to_bytes(), ((0, CONFIRMED.signature),), ROSTER.excerpt([0]), (MASKED.statement,)
)
REVEALED = Revealed(0, pack_bits([True, True, False]), (bytes(33), bytes(33))).signed(DEVICES[0], SIGNED.digest)


def block(data: bytes | str) -> str:
    """As the pages write it: hexadecimal in lines of 64 bytes, texts as they are."""
    return data if isinstance(data, str) else "\n".join(textwrap.wrap(data.hex(), 128)) + "\n"


ROUND_EXAMPLES: dict[str, bytes | str] = {
    "policy": POLICY.to_bytes().decode() + "\n",
    "plan": NOTE,
    "digest": SIGNED.digest,
    "cohort": COHORT.to_bytes(),
    "challenge": CHALLENGE.to_bytes(),
    "introduction": Introduction(ROSTER.entries[0]).signed(DEVICES[0], CHALLENGE).to_bytes(),
    "prepared": PREPARED.to_bytes(),
    "train": TrainRequest(SIGNED.digest, (PREPARED.advert_for(1),)).to_bytes(),
    "masked update": MASKED.to_bytes(),
    "confirm": ConfirmRequest(SIGNED.digest, SURVIVORS).to_bytes(),
    "confirmed": CONFIRMED.to_bytes(),
    "unmask": UNMASK.to_bytes(),
    "revealed": REVEALED.to_bytes(),
    "abandon": AbandonRequest(SIGNED.digest, "ok").to_bytes(),
    "abandoned": Abandoned(SIGNED.digest).to_bytes(),
    "refusal": Refusal("federation.budget_spent").to_bytes().decode() + "\n",
}
ROSTER_EXAMPLES: dict[str, bytes | str] = {
    "entry": ROSTER.entries[0].to_bytes(),
    "note": ROSTER.head.sign("demo/authority", AUTHORITY),
    "excerpt": ROSTER.excerpt([1, 4]).to_bytes(),
}


@pytest.mark.parametrize("name", ROUND_EXAMPLES)
def test_the_examples_of_a_round_are_what_the_code_makes(name: str) -> None:
    assert f"```\n{block(ROUND_EXAMPLES[name])}```" in (FORMATS / "round.md").read_text()


@pytest.mark.parametrize("name", ROSTER_EXAMPLES)
def test_the_examples_of_a_roster_are_what_the_code_makes(name: str) -> None:
    assert f"```\n{block(ROSTER_EXAMPLES[name])}```" in (FORMATS / "roster.md").read_text()


def test_the_examples_read_back() -> None:
    assert FederationPolicy.parse(POLICY.to_bytes()) == POLICY
    assert SignedPlan.open(NOTE, POLICY.planner_keys).plan == PLAN
    assert Cohort.parse(COHORT.to_bytes()) == COHORT
    introduction = Introduction.parse(Introduction(ROSTER.entries[0]).signed(DEVICES[0], CHALLENGE).to_bytes())
    introduction.require_signed(Challenge.parse(CHALLENGE.to_bytes()))
    prepared = Prepared.parse(PREPARED.to_bytes())
    prepared.require_signed(DEVICES[0].public_bytes, SIGNED.digest)
    masked = MaskedUpdate.parse(MASKED.to_bytes(), PLAN)
    require_masked(masked.statement, DEVICES[0].public_bytes, SIGNED.digest)
    assert masked.vector.tolist() == [1, 2, 3]
    assert unpack_bits(ConfirmRequest.parse(ConfirmRequest(SIGNED.digest, SURVIVORS).to_bytes()).survivors, 4).tolist() == [
        True,
        True,
        True,
        False,
    ]
    Confirmed.parse(CONFIRMED.to_bytes()).require_signed(DEVICES[0].public_bytes, SIGNED.digest, SURVIVORS)
    Revealed.parse(REVEALED.to_bytes()).require_signed(DEVICES[0].public_bytes, SIGNED.digest)
    head = RosterHead.open(ROSTER.head.sign("demo/authority", AUTHORITY), "demo", POLICY.authority_keys)
    assert RosterExcerpt.parse(ROSTER.excerpt([1, 4]).to_bytes()).require_in(head) == {1: ROSTER.entries[1], 4: ROSTER.entries[4]}
    assert topology_of(PLAN, SIGNED.digest).neighbours(0) == (1, 2, 3)
    assert UnmaskRequest.parse(UNMASK.to_bytes()) == UNMASK
