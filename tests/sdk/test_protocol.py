"""The protocol package: one spelling for each value, nothing else read; trees, cohorts and topologies against slow twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekeep.errors import FacekeepError, FederationError, TrustError
from facekeep.merkle import leaf_hash, root_of
from facekeep.participation import Contribution, RoundState, to_row
from facekeep.participation.budget import Ledger
from facekeep.participation.state import Given, HeldPair, Peer
from facekeep.privacy.accounting import PrivacyCharge
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
    PrepareRequest,
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
    charge_of,
    colluding_in,
    contributors,
    least_quorum,
    most_colluding,
    pack_bits,
    require_acceptable,
    topology_of,
    unpack_bits,
)
from facekeep.protocol.values import parse_decimal, to_decimal
from tests.sdk import test_protocol_formats as example

QUICK = settings(max_examples=60, deadline=None)


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(FacekeepError) as caught:
        act()
    return caught.value.code


# One spelling


MESSAGES: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "challenge": (example.CHALLENGE.to_bytes(), Challenge.parse),
    "introduction": (Introduction(example.ROSTER.entries[0]).to_bytes(), Introduction.parse),
    "prepare": (
        PrepareRequest(example.NOTE, "note\n", example.COHORT.to_bytes(), example.ROSTER.excerpt([0, 1])).to_bytes(),
        PrepareRequest.parse,
    ),
    "prepared": (example.PREPARED.to_bytes(), Prepared.parse),
    "train": (TrainRequest(example.SIGNED.digest, (example.PREPARED.advert_for(1),)).to_bytes(), TrainRequest.parse),
    "masked": (example.MASKED.to_bytes(), lambda data: MaskedUpdate.parse(data, example.PLAN)),
    "confirm": (ConfirmRequest(example.SIGNED.digest, example.SURVIVORS).to_bytes(), ConfirmRequest.parse),
    "confirmed": (example.CONFIRMED.to_bytes(), Confirmed.parse),
    "unmask": (
        UnmaskRequest(
            example.SIGNED.digest,
            example.SURVIVORS,
            example.COHORT.to_bytes(),
            ((0, bytes(64)), (2, bytes(64))),
            example.ROSTER.excerpt([0, 3]),
            (example.MASKED.statement, replace(example.MASKED.statement, place=2)),
        ).to_bytes(),
        UnmaskRequest.parse,
    ),
    "revealed": (example.REVEALED.to_bytes(), Revealed.parse),
    "abandon": (AbandonRequest(example.SIGNED.digest, "federation.aborted").to_bytes(), AbandonRequest.parse),
    "abandoned": (Abandoned(example.SIGNED.digest).to_bytes(), Abandoned.parse),
    "refusal": (Refusal("consent.none").to_bytes(), Refusal.parse),
    "excerpt": (example.ROSTER.excerpt([1, 3]).to_bytes(), RosterExcerpt.parse),
    "roster": (example.ROSTER.to_bytes(), Roster.parse),
    "cohort": (example.COHORT.to_bytes(), Cohort.parse),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_reads_back_and_has_no_second_spelling(name: str) -> None:
    data, parse = MESSAGES[name]
    assert parse(data).to_bytes() == data
    for wrong in (b"", data[:-1], data + b"\0", data[1:]):
        if name == "cohort" and wrong:
            continue
        assert code_of(lambda wrong=wrong: parse(wrong)) == "federation.malformed"


@pytest.mark.parametrize("name", MESSAGES)
@QUICK
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_whatever_comes_in_is_read_exactly_or_refused(name: str, place: int, value: int, cut: int) -> None:
    data, parse = MESSAGES[name]
    place %= len(data)
    for wrong in (data[:place] + bytes([value]) + data[place + 1 :], data[: cut % len(data)]):
        try:
            assert parse(wrong).to_bytes() == wrong
        except FederationError as error:
            assert error.code in ("federation.malformed", "federation.invalid_update")  # noqa: PT017


@given(data=st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    for _, parse in MESSAGES.values():
        try:
            assert parse(data).to_bytes() == data
        except FederationError as error:
            assert error.code in ("federation.malformed", "federation.invalid_update")  # noqa: PT017


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_real_number_has_one_spelling(value: float) -> None:
    assert parse_decimal(to_decimal(value)) == value


@pytest.mark.parametrize("text", ["1", "1.50", "+1.0", " 1.0", "1e5", "nan", "inf", "0x1", "1_0.0", "", 1.0, None])
def test_other_spellings_of_real_numbers_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"number|float"):
        parse_decimal(text)


# Policy


def test_a_policy_is_read_from_toml_and_from_its_bytes() -> None:
    key = example.POLICY.authority_keys[0].to_vkey()
    text = f"""
v = 1
name = "demo"
authority_keys = ["{key}"]
planner_keys = ["{key}"]
release_keys = ["{key}"]
minimum_cohort = 50
epsilon = 4
delta = 1e-6
kinds = ["training"]
levels = ["head"]
samples_age = "P30D"
"""
    policy = FederationPolicy.parse_toml(text)
    assert (policy.minimum_cohort, policy.epsilon, policy.delta, policy.kinds, policy.levels) == (
        50,
        4.0,
        1e-6,
        frozenset({Kind.TRAINING}),
        frozenset({Level.HEAD}),
    )
    assert policy.samples_term == timedelta(days=30)
    assert FederationPolicy.parse(policy.to_bytes()) == policy
    for wrong in (text + "mininum_cohort = 3\n", text.replace("v = 1", "v = 2"), text.replace("P30D", "30 days"), "v = ", text * 2):
        assert code_of(lambda wrong=wrong: FederationPolicy.parse_toml(wrong)) == "federation.invalid_policy"
    for data in (b"", b"{}", policy.to_bytes() + b" ", policy.to_bytes().replace(b'"4.0"', b'"4.00"')):
        assert code_of(lambda data=data: FederationPolicy.parse(data)) == "federation.invalid_policy"


LOGGED: dict[str, Any] = {
    "log_policy": f"log {example.POLICY.authority_keys[0].to_vkey()}\nquorum none\n",
    "coordinator": "fe" * 16,
}


def test_a_policy_with_a_log_names_who_publishes_there() -> None:
    policy = replace(example.POLICY, **LOGGED)
    assert FederationPolicy.parse(policy.to_bytes()) == policy
    assert b"coordinator" not in example.POLICY.to_bytes(), "policies from before keep their bytes"
    for data in (
        policy.to_bytes().replace(b'"coordinator":"' + b"fe" * 16 + b'",', b""),
        example.POLICY.to_bytes().replace(b'"delta"', b'"coordinator":null,"delta"'),
    ):
        assert code_of(lambda data=data: FederationPolicy.parse(data)) == "federation.invalid_policy"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Demo"},
        {"name": "a b"},
        {"authority_keys": ()},
        {"planner_keys": example.POLICY.planner_keys * 2},
        {"release_quorum": 2},
        {"release_quorum": 0},
        {"minimum_cohort": 2},
        {"epsilon": math.inf},
        {"epsilon": math.nan},
        {"epsilon": 0.0},
        {"delta": 1.0},
        {"colluding_percent": 34},
        {"kinds": frozenset()},
        {"kinds": frozenset({"mining"})},
        {"samples_age": "P0D"},
        {"most_rounds": 0},
        {"most_parameters": True},
        {"training_kit": "00"},
        {"unsafe_without_noise": 1},
        {"log_policy": LOGGED["log_policy"]},
        {"coordinator": LOGGED["coordinator"]},
        LOGGED | {"log_policy": ""},
        LOGGED | {"log_policy": "log nonsense\nquorum none\n"},
        LOGGED | {"log_policy": LOGGED["log_policy"] + "# " + "x" * 40_000},
        LOGGED | {"log_policy": ["quorum none"]},
        LOGGED | {"coordinator": "FE" * 16},
        LOGGED | {"coordinator": "fe" * 32},
        LOGGED | {"coordinator": 7},
    ],
)
def test_a_policy_that_protects_nobody_is_refused(changes: dict[str, Any]) -> None:
    assert code_of(lambda: replace(example.POLICY, **changes)) == "federation.invalid_policy"


# Plan


@pytest.mark.parametrize(
    "changes",
    [
        {"federation": "Demo"},
        {"round": 0},
        {"level": Level.NONE},
        {"kind": Kind.CALIBRATION},
        {"cohort_size": 2},
        {"cohort_size": 6},
        {"groups": 2},
        {"neighbours": 4},
        {"threshold": 1},
        {"threshold": 4},
        {"committee": 5},
        {"quorum": 2},
        {"quorum": 5},
        {"minimum": 2},
        {"minimum": 5},
        {"length": 0},
        {"clip_units": 0},
        {"clip_units": 1 << 30},
        {"noise_variance": -1},
        {"noise_variance": 1 << 41},
        {"step": math.nan},
        {"step": 0.0},
        {"base": "AB" * 32},
        {"seed": ""},
        {"settings": {"Steps": 1}},
        {"settings": {"steps": 1.5}},
        {"settings": {"steps": 1 << 53}},
        {"settings": {f"s{'x' * n}": n for n in range(1, 80)}},
        {"deadline": example.NOW},
        {"deadline": example.NOW + timedelta(days=8)},
        {"extras": (Extra("loss", 1.0), Extra("loss", 2.0))},
        {"epsilon": math.inf},
        {"delta": 0.0},
    ],
)
def test_a_plan_that_is_not_consistent_does_not_exist(changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, FederationError)):
        replace(example.PLAN, **changes)


def test_a_plan_says_the_same_in_every_reading_and_its_digest_ignores_signatures() -> None:
    text = example.PLAN.to_text()
    assert RoundPlan.parse(text) == example.PLAN
    other = SignedPlan(example.PLAN.sign("demo/planner", example.RELEASE), example.PLAN)
    assert other.digest == example.SIGNED.digest
    for wrong in (text + "\n", text[:-1], text.replace('"v":1', '"v":2'), text.replace('"round":7', '"round":07'), text[5:], ""):
        with pytest.raises(TrustError):
            RoundPlan.parse(wrong)
    assert code_of(lambda: SignedPlan.open(other.note, example.POLICY.planner_keys)) == "trust.bad_signature"
    assert code_of(lambda: SignedPlan.open("nothing", example.POLICY.planner_keys)) == "trust.malformed"
    assert hash(example.PLAN) == hash(RoundPlan.parse(text))


def test_the_example_is_accepted_and_bounds_grow_with_the_colluders() -> None:
    require_acceptable(example.POLICY, example.PLAN, example.NOW, 6)
    assert code_of(lambda: require_acceptable(example.POLICY, example.PLAN, example.NOW, 7)) == "federation.replayed_plan"
    greedy = replace(example.POLICY, kinds=frozenset({Kind.CALIBRATION}))
    assert code_of(lambda: require_acceptable(greedy, example.PLAN, example.NOW, 0)) == "federation.plan_refused"
    assert [most_colluding(1000, colluding, 1000) for colluding in (0, 50, 300)] == [0, 50, 300]
    assert 26 < most_colluding(10_000, 500, 512) <= 500
    assert [least_quorum(10, colluding, 10) for colluding in (0, 1, 3)] == [6, 6, 7]
    # Of 50 drawn five in a hundred collude, and all of them may be among the four invited.
    assert colluding_in(replace(example.PLAN, roster_size=200, drawn=50), 5) == 2
    assert contributors(example.PLAN, 0) == 3
    charge = charge_of(example.PLAN, 0)
    assert charge is not None
    assert (charge.contributors, charge.variance, charge.length) == (3, 100, 3)


@QUICK
@given(cohort=st.integers(3, 4000), percent=st.integers(0, 30))
def test_two_quorums_always_share_an_honest_member(cohort: int, percent: int) -> None:
    committee, colluding = min(cohort, 512), cohort * percent // 100
    assert 2 * least_quorum(cohort, colluding, committee) > committee + most_colluding(cohort, colluding, committee)


# Roster


def roster_of(size: int) -> Roster:
    return Roster("demo", [RosterEntry(bytes([n % 256, n // 256]) * 16, bytes([n % 256]) * 32) for n in range(size)])


@QUICK
@given(size=st.integers(1, 300), data=st.data())
def test_an_excerpt_proves_exactly_what_it_shows(size: int, data: st.DataObject) -> None:
    roster = roster_of(size)
    assert roster.head.root == root_of([leaf_hash(entry.to_bytes()) for entry in roster.entries])
    chosen = data.draw(st.sets(st.integers(0, size - 1), min_size=1))
    excerpt = RosterExcerpt.parse(roster.excerpt(sorted(chosen)).to_bytes())
    assert excerpt.require_in(roster.head) == {index: roster.entries[index] for index in chosen}
    head = roster.head
    other = replace(excerpt, entries=((excerpt.entries[0][0], RosterEntry(b"\xff" * 32, b"\xff" * 32)), *excerpt.entries[1:]))
    longer = replace(excerpt, hashes=(*excerpt.hashes, bytes(32)))
    for wrong, where in [
        (other, head),
        (longer, head),
        (excerpt, RosterHead("demo", size, bytes(32))),
        (replace(excerpt, entries=()), head),
        (replace(excerpt, entries=excerpt.entries * 2), head),
        *([(replace(excerpt, hashes=excerpt.hashes[:-1]), head)] if excerpt.hashes else []),
    ]:
        assert code_of(lambda wrong=wrong, where=where: wrong.require_in(where)) == "federation.not_a_member"


def test_a_roster_holds_each_device_once_and_its_head_is_signed_by_the_authority() -> None:
    entry = example.ROSTER.entries[0]
    with pytest.raises(ValueError, match="each once"):
        Roster("demo", [entry, entry])
    note = example.ROSTER.head.sign("demo/authority", example.AUTHORITY)
    assert RosterHead.open(note, "demo", example.POLICY.authority_keys) == example.ROSTER.head
    assert code_of(lambda: RosterHead.open(note, "other", example.POLICY.authority_keys)) == "trust.malformed"
    assert code_of(lambda: RosterHead.open(note, "demo", example.POLICY.planner_keys)) == "trust.bad_signature"


# Cohort and bitmaps


@given(indices=st.sets(st.integers(0, (1 << 32) - 1), min_size=1, max_size=60))
def test_a_cohort_reads_back(indices: set[int]) -> None:
    cohort = Cohort.of(indices)
    assert Cohort.parse(cohort.to_bytes()) == cohort
    assert [cohort.place_of[index] for index in sorted(indices)] == list(range(len(indices)))


@given(data=st.binary(min_size=1, max_size=24))
def test_a_cohort_has_one_spelling(data: bytes) -> None:
    try:
        assert Cohort.parse(data).to_bytes() == data
    except FederationError as error:
        assert error.code == "federation.malformed"  # noqa: PT017


@given(bits=st.lists(st.booleans(), min_size=1, max_size=70))
def test_bitmaps_read_back_and_have_nothing_beyond_their_end(bits: list[bool]) -> None:
    data = pack_bits(bits)
    assert unpack_bits(data, len(bits)).tolist() == bits
    assert code_of(lambda: unpack_bits(data + b"\0", len(bits))) == "federation.malformed"
    if len(bits) % 8:
        assert code_of(lambda: unpack_bits(data[:-1] + bytes([data[-1] | 0x80]), len(bits))) == "federation.malformed"


# Topology


def plan_for(size: int, neighbours: int, threshold: int, minimum: int, groups: int = 1) -> RoundPlan:
    return replace(
        example.PLAN,
        roster_size=size,
        drawn=size,
        cohort_size=size,
        neighbours=neighbours,
        threshold=threshold,
        committee=size,
        quorum=size,
        minimum=minimum,
        groups=groups,
    )


def slow_summable(plan: RoundPlan, table: list[list[int]], groups: list[set[int]], alive: set[int]) -> set[int]:
    """The definition, word for word: take away whoever has too few neighbours until nobody has; then groups that are too small or
    fall apart."""
    kept = set(alive)
    while few := {place for place in kept if len(kept & set(table[place])) < plan.threshold}:
        kept -= few
    for members in groups:
        inside = kept & members
        reached: set[int] = set()
        waiting = sorted(inside)[:1]
        while waiting:
            place = waiting.pop()
            if place not in reached:
                reached.add(place)
                waiting += sorted(inside & set(table[place]))
        if len(inside) < plan.minimum or reached != inside:
            kept -= members
    return kept


@QUICK
@given(data=st.data())
def test_what_may_be_summed_is_what_the_definition_says(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 3))
    size = data.draw(st.integers(8, 20)) * groups
    smallest = size // groups
    neighbours = data.draw(st.integers(1, (smallest - 1) // 2)) * 2
    threshold = data.draw(st.integers(2, neighbours))
    plan = plan_for(size, neighbours, threshold, data.draw(st.integers(3, smallest)), groups)
    topology = topology_of(plan, data.draw(st.binary(min_size=32, max_size=32)))
    table = [list(topology.neighbours(place)) for place in range(size)]
    assert all(place in table[peer] for place in range(size) for peer in table[place])
    parts = [set(part.tolist()) for part in topology.groups]
    assert sorted(set().union(*parts)) == list(range(size))
    assert all(set(table[place]) <= next(part for part in parts if place in part) for place in range(size))
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    expected = slow_summable(plan, table, parts, set(np.flatnonzero(alive).tolist()))
    assert set(np.flatnonzero(topology.summable(alive)).tolist()) == expected
    if expected == set(np.flatnonzero(alive).tolist()) != set():
        topology.require_summable(alive)
    else:
        assert code_of(lambda: topology.require_summable(alive)) == "federation.cohort_too_small"


# What stays: contribution, state, ledger


def test_a_contribution_is_finite_and_its_extras_take_their_share_of_the_clip() -> None:
    plan = replace(example.PLAN, extras=(Extra("loss", 10.0), Extra("samples", 4.0)), clip_units=1024)
    row = to_row(Contribution(np.array([300.0, 400.0], np.float32), {"loss": 5.0, "samples": 99.0, "more": 1.0}), plan)
    assert np.linalg.norm(row[:2]) == pytest.approx(plan.update_clip)
    assert row[2:].tolist() == [1 / 8 * 0.5, 1 / 8]
    assert np.linalg.norm(row) <= plan.scale.clip
    assert "300" not in repr(Contribution(np.array([300.0], np.float32), {"loss": 5.0}))
    for vector, extras in [([math.nan, 0.0], {}), ([0.0, math.inf], {}), ([0.0, 0.0], {"loss": math.nan})]:
        assert code_of(lambda v=vector, e=extras: Contribution(np.array(v, np.float32), e)) == "federation.invalid_update"
    for vector, extras in [([0.0], {"loss": 1.0, "samples": 1.0}), ([0.0, 0.0], {"loss": 1.0})]:
        made = Contribution(np.array(vector, np.float32), extras)
        assert code_of(lambda made=made: to_row(made, plan)) == "federation.invalid_update"


def test_the_state_of_a_round_reads_back_and_says_no_secret() -> None:
    state = RoundState(
        note=example.NOTE,
        place=2,
        peers=(Peer(0, b"\x01" * 32), Peer(3, b"\x02" * 32)),
        mask_key=b"\x03" * 32,
        self_seed=b"",
        pairs=(HeldPair(0, b"\x04" * 33, b"\x05" * 33),),
        masked_with=b"\x0a",
        confirmed=b"\x07",
        given=(("prepare", Given(b"\x06" * 32, b"answer")),),
        used=(b"\x08" * 32,),
    )
    data = state.to_bytes()
    assert RoundState.parse(data) == state
    assert RoundState.parse(data).signed.digest == example.SIGNED.digest
    assert not any(text in repr(state) for text in ("03" * 8, r"\x03", r"\x04", "answer"))
    for wrong in (data[:-1], data + b"\0", b""):
        assert code_of(lambda wrong=wrong: RoundState.parse(wrong)) == "federation.malformed"


def test_a_ledger_reads_back_and_one_that_does_not_spends_nothing() -> None:
    charge = PrivacyCharge(1, 1 << 30, 80, 1 << 36, 1000)
    policy = replace(example.POLICY, most_rounds=2, epsilon=1.0)
    ledger, spent = Ledger().charged(charge, policy, lambda charges, delta: 0.25 * len(charges))
    assert (Ledger.parse(ledger.to_bytes()), spent) == (ledger, 0.25)
    ledger, spent = ledger.charged(None, policy, lambda charges, delta: 0.25 * len(charges))
    assert (ledger.without_noise, spent) == (1, 0.25)
    assert code_of(lambda: ledger.charged(charge, policy, lambda charges, delta: 0.1)) == "federation.budget_spent"
    for account in (lambda charges, delta: 1.01, lambda charges, delta: math.nan, lambda charges, delta: math.inf):
        assert code_of(lambda account=account: Ledger().charged(charge, policy, account)) == "federation.budget_spent"
    assert Ledger.parse(None) == Ledger()
    for wrong in (b"", b"{}", ledger.to_bytes() + b" ", ledger.to_bytes().replace(b'"without_noise":1', b'"without_noise":"1"')):
        assert code_of(lambda wrong=wrong: Ledger.parse(wrong)) == "federation.malformed"
