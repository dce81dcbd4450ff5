"""Devices that lie: refused with a code, recorded, and the round goes on; or it is aborted, never a wrong model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from facekeep.participation import RoundState
from facekeep.privacy.shares import SharePair, seal_pair
from facekeep.privacy.sharing import split
from facekeep.protocol import Action, Confirmed, MaskedUpdate, Prepared, Refusal, Revealed, SignedPlan, pack_bits, topology_of
from facekeep.signing import key_fingerprint
from facekeep_server.rounds import Outgoing, Phase, Round, RoundReport
from tests.flows.test_federated_round import completed, fleet_of, require_right_sum
from tests.simulators.federation import Fleet

BAD = 4


def run_with(fleet: Fleet, step: Action, change: Callable[[SignedPlan, bytes], bytes], bad: int = BAD, **plan: object) -> Round:
    """A round in which one device's reply to one step is another."""
    signed, cohort = fleet.plan(**({"noise_multiplier": 0.0, "dropout": 0.3} | plan))

    def reply(out: object, body: bytes) -> bytes:
        return change(signed, body) if (out.index, out.action) == (bad, step) else body  # type: ignore[attr-defined]

    return fleet.run(signed, cohort, reply=reply)


def key_of(fleet: Fleet, index: int = BAD):  # type: ignore[no-untyped-def]
    return fleet.devices[index].keys.device


def refused(fleet: Fleet) -> list[tuple[str, str, str]]:
    found = [event for event in fleet.events if event.code == "reply.refused"]
    return [(event.outcome, str(event.details["step"]), str(event.details["device"])) for event in found]


def require_left_out(fleet: Fleet, running: Round, code: str, step: str) -> RoundReport:
    """The round ends in the right sum without the device, which is named in the record and among the suspects."""
    require_right_sum(fleet, running)
    report = completed(running)
    assert (code, step, key_fingerprint(fleet.roster.entries[BAD].device_key)) in refused(fleet)
    assert report.suspects == (BAD,)
    assert report.refusals[code] == 1
    return report


MASKED_LIES = {
    "nothing": (lambda plan, body: b"", "federation.malformed"),
    "cut": (lambda plan, body: body[:-1], "federation.malformed"),
    "longer": (lambda plan, body: body + b"\0", "federation.malformed"),
    "huge": (lambda plan, body: bytes(1 << 24), "federation.malformed"),
    "json": (lambda plan, body: b'{"v":1}', "federation.malformed"),
    "a flipped bit of the vector": (lambda plan, body: body[:400] + bytes([body[400] ^ 1]) + body[401:], "trust.bad_signature"),
    "another message": (lambda plan, body: Confirmed(BAD).to_bytes(), "federation.malformed"),
}


@pytest.mark.parametrize("lie", MASKED_LIES)
def test_a_masked_update_that_is_not_one_is_refused_and_the_round_goes_on(lie: str) -> None:
    change, code = MASKED_LIES[lie]
    fleet = fleet_of(12)
    running = run_with(fleet, Action.TRAIN, lambda signed, body: change(signed.plan, body))
    assert require_left_out(fleet, running, code, "train").survivors == 11


@pytest.mark.parametrize("size", [0, 1, 199, 201, 203, 400])
def test_a_vector_of_another_shape_is_refused(size: int) -> None:
    fleet = fleet_of(12)

    def reshape(signed: SignedPlan, body: bytes) -> bytes:
        update = MaskedUpdate.parse(body, signed.plan)
        return replace(update, vector=np.zeros(size, np.uint32)).signed(key_of(fleet), signed.digest).to_bytes()

    require_left_out(fleet, run_with(fleet, Action.TRAIN, reshape), "federation.invalid_update", "train")


@pytest.mark.parametrize("step", [Action.PREPARE, Action.TRAIN])
def test_a_reply_for_another_place_or_with_another_key_is_refused(step: Action) -> None:
    for lie, code in (("place", "federation.not_a_member"), ("key", "trust.bad_signature")):
        fleet = fleet_of(12)

        def change(signed: SignedPlan, body: bytes, fleet: Fleet = fleet, lie: str = lie) -> bytes:
            answer = Prepared.parse(body) if step is Action.PREPARE else MaskedUpdate.parse(body, signed.plan)
            if lie == "place":
                return replace(answer, place=BAD + 1).signed(key_of(fleet), signed.digest).to_bytes()  # type: ignore[type-var]
            return answer.signed(key_of(fleet, BAD + 1), signed.digest).to_bytes()

        require_left_out(fleet, run_with(fleet, step, change), code, step.value)


def test_a_reply_of_an_earlier_round_is_refused() -> None:
    fleet = fleet_of(12)
    kept: dict[str, bytes] = {}

    def keep(signed: SignedPlan, body: bytes) -> bytes:
        kept["update"] = body
        return body

    require_right_sum(fleet, run_with(fleet, Action.TRAIN, keep))
    require_left_out(fleet, run_with(fleet, Action.TRAIN, lambda signed, body: kept["update"]), "trust.bad_signature", "train")


def test_a_second_reply_changes_nothing_and_neither_does_a_late_one() -> None:
    fleet = fleet_of(12)
    signed, cohort = fleet.plan(noise_multiplier=0.0)
    running = fleet.begin(signed, cohort)
    late: dict[Phase, bytes] = {}
    while not running.has_ended:
        phase = running.phase
        for out in list(running.outbox()):
            answer = fleet.ask(out.index, out.action, out.body)
            assert running.receive(out.index, out.action, answer).is_accepted
            running.refusals.clear()
            before = running.to_bytes()
            verdict = running.receive(out.index, out.action, answer)
            assert (verdict.is_accepted, verdict.code) == (False, "federation.wrong_step")
            running.refusals.clear()
            assert running.to_bytes() == before, "sums and shares are as they were"
            if out.index == BAD:
                late[phase] = answer
        running.close_step(fleet.clock.now())
        if not running.has_ended:
            assert running.receive(BAD, phase.value, late[phase]).code == "federation.wrong_step"
    require_right_sum(fleet, running)
    assert completed(running).suspects == ()


def test_devices_that_were_not_invited_are_refused() -> None:
    fleet = fleet_of(12)
    signed, cohort = fleet.plan(noise_multiplier=0.0, candidates=range(11))
    running = fleet.begin(signed, cohort)
    assert running.receive(11, "prepare", b"FKR").code == "federation.not_a_member"
    assert running.receive(99, "prepare", b"FKR").code == "federation.not_a_member"
    assert running.receive(-1, "dance", b"").code == "federation.not_a_member"
    assert [device for _, _, device in refused(fleet)][1:] == ["unknown", "unknown"]
    assert running.asked == 11


def test_a_refusal_is_counted_and_no_offence() -> None:
    fleet = fleet_of(12)
    running = run_with(fleet, Action.TRAIN, lambda signed, body: Refusal("consent.withdrawn").to_bytes())
    require_right_sum(fleet, running)
    report = completed(running)
    assert (report.suspects, report.refusals, report.survivors) == ((), {"consent.withdrawn": 1}, 11)


def test_a_step_is_complete_when_nobody_is_left_to_wait_for() -> None:
    fleet = fleet_of(5)
    running = fleet.begin(*fleet.plan(noise_multiplier=0.0))
    for out in list(running.outbox()):
        assert not running.is_step_complete
        body = fleet.ask(out.index, out.action, out.body) if out.index else Refusal("federation.budget_spent").to_bytes()
        running.receive(out.index, out.action, body)
    assert running.is_step_complete
    assert running.answered == 4


@pytest.mark.parametrize("lie", ["nobody", "one fewer", "one that dropped out more", "longer", "shares of the dropped"])
def test_an_update_masked_with_others_than_were_shown_is_refused_and_the_round_goes_on(lie: str) -> None:
    """Accepted, it would end the round for everybody: no holder of its shares reveals its seed, or a mask stays in the sum."""
    fleet = fleet_of(20)
    signed, cohort = fleet.plan(noise_multiplier=0.0, dropout=0.3)
    peers = topology_of(signed.plan, signed.digest).neighbours(BAD)
    gone = peers[1]

    def change(update: MaskedUpdate) -> MaskedUpdate:
        shown = np.array([peer != gone for peer in peers])
        assert update.masked_with == pack_bits(shown)
        if lie == "nobody":
            return replace(update, masked_with=bytes(len(update.masked_with)))
        if lie == "one fewer":
            return replace(update, masked_with=pack_bits([peer not in (gone, peers[0]) for peer in peers]))
        if lie == "longer":
            return replace(update, masked_with=update.masked_with + b"\0")
        if lie == "shares of the dropped":
            return replace(update, without_shares=pack_bits(~shown))
        return replace(update, masked_with=pack_bits(np.ones(len(peers), dtype=bool)))

    def reply(out: Outgoing, body: bytes) -> bytes:
        if (out.index, out.action) != (BAD, Action.TRAIN):
            return body
        return change(MaskedUpdate.parse(body, signed.plan)).signed(key_of(fleet), signed.digest).to_bytes()

    drop = lambda action, index: action is Action.PREPARE and index == gone  # noqa: E731
    running = fleet.run(signed, cohort, drop=drop, reply=reply)
    assert require_left_out(fleet, running, "federation.malformed", "train").survivors == 18


# Values that no honest device has


def garbage(fleet: Fleet, vector: Callable[[int], np.ndarray], bad: int = BAD) -> Callable[[SignedPlan, bytes], bytes]:  # type: ignore[type-arg]
    def change(signed: SignedPlan, body: bytes) -> bytes:
        update = MaskedUpdate.parse(body, signed.plan)
        return replace(update, vector=vector(signed.plan.size)).signed(key_of(fleet, bad), signed.digest).to_bytes()

    return change


VALUES = {
    "bytes of NaN": lambda size: np.full(size, np.nan, np.float32).view(np.uint32),
    "noise over the ring": lambda size: np.random.default_rng(1).integers(0, 1 << 32, size, dtype=np.uint32),
    "zeroes without masks": lambda size: np.zeros(size, np.uint32),
}


@pytest.mark.parametrize("values", VALUES)
def test_values_that_no_honest_device_has_never_become_a_model(values: str) -> None:
    fleet = fleet_of(12)
    running = run_with(fleet, Action.TRAIN, garbage(fleet, VALUES[values]))
    assert running.report is not None
    # Signed and of the right shape: masking hides the lie until the sum is open, and then the norm shows it.
    assert (running.phase, running.report.aborted) == (Phase.ABORTED, "federation.invalid_update")
    assert running.report.update is None
    assert running.report.suspects == ()
    assert running.report.doubtful == tuple(range(12)), "masking does not say who it was"
    (group,) = running.report.groups
    assert not group.is_counted
    assert group.norm > group.bound
    require_right_sum(fleet, fleet.run(*fleet.plan(noise_multiplier=0.0, candidates=[n for n in range(12) if n != BAD])))


def test_with_groups_only_the_group_of_a_liar_is_lost() -> None:
    fleet = fleet_of(60)
    running = run_with(fleet, Action.TRAIN, garbage(fleet, VALUES["noise over the ring"]), groups=3)
    report = completed(running)
    assert sorted(group.is_counted for group in report.groups) == [False, True, True]
    assert report.contributors == 40
    assert report.suspects == ()
    assert len(report.doubtful) == 20
    assert BAD in report.doubtful
    honest = [index for index in running.cohort.indices if index not in report.doubtful]
    assert report.update is not None
    assert np.abs(report.update - fleet.expected(running.signed, honest)).max() < 1e-5


def test_the_liar_is_doubtful_in_round_after_round() -> None:
    fleet, doubtful = fleet_of(60), set(range(60))
    for _ in range(6):
        report = completed(run_with(fleet, Action.TRAIN, garbage(fleet, VALUES["bytes of NaN"]), groups=3))
        doubtful &= set(report.doubtful)
    assert doubtful == {BAD}


def test_a_liar_within_the_bound_of_the_norm_is_believed_for_what_the_whole_group_may_be() -> None:
    """The limit of the check, stated: one device can stand for as much as all devices of its group together, and no more."""
    fleet = fleet_of(12)

    def shift(by: int) -> Callable[[SignedPlan, bytes], bytes]:
        def change(signed: SignedPlan, body: bytes) -> bytes:
            update = MaskedUpdate.parse(body, signed.plan)
            vector = update.vector.copy()
            vector[0] += np.uint32(by * signed.plan.clip_units)
            return replace(update, vector=vector).signed(key_of(fleet), signed.digest).to_bytes()

        return change

    believed = completed(run_with(fleet, Action.TRAIN, shift(6)))
    assert believed.update is not None
    assert believed.groups[0].is_counted
    running = run_with(fleet, Action.TRAIN, shift(15))
    assert running.report is not None
    assert running.report.aborted == "federation.invalid_update"


# Keys and shares that do not fit


def test_a_mask_key_of_low_order_is_refused_before_a_neighbour_sees_it() -> None:
    fleet = fleet_of(12)

    def low(signed: SignedPlan, body: bytes) -> bytes:
        return replace(Prepared.parse(body), mask_key=bytes(32)).signed(key_of(fleet), signed.digest).to_bytes()

    require_left_out(fleet, run_with(fleet, Action.PREPARE, low), "federation.malformed", "prepare")


@pytest.mark.parametrize("is_restored", [False, True])
def test_a_mask_key_of_another_device_is_refused_before_a_neighbour_sees_it(is_restored: bool) -> None:
    fleet = fleet_of(12)
    signed, cohort = fleet.plan(noise_multiplier=0.0, dropout=0.3)
    running = fleet.begin(signed, cohort)
    keys: list[bytes] = []

    def copy(out: Outgoing, body: bytes) -> bytes:
        reply = Prepared.parse(body)
        keys.append(reply.mask_key)
        if out.index != BAD:
            return body
        return replace(reply, mask_key=keys[0]).signed(key_of(fleet), signed.digest).to_bytes()

    fleet.step(running, drop=lambda action, index: index >= BAD, reply=copy)
    if is_restored:
        running = Round.parse(running.to_bytes(), fleet.roster, fleet.policy.planner_keys, record=fleet.events.append)
    fleet.step(running, reply=copy)
    running.close_step(fleet.clock.now())
    while not running.has_ended:
        fleet.step(running)
        running.close_step(fleet.clock.now())
    require_left_out(fleet, running, "federation.malformed", "prepare")


def test_too_few_sealed_shares_are_refused() -> None:
    fleet = fleet_of(12)

    def fewer(signed: SignedPlan, body: bytes) -> bytes:
        answer = Prepared.parse(body)
        return replace(answer, sealed=answer.sealed[:-1]).signed(key_of(fleet), signed.digest).to_bytes()

    require_left_out(fleet, run_with(fleet, Action.PREPARE, fewer), "federation.malformed", "prepare")


def reseal(fleet: Fleet, secret: str, victims: slice = slice(None)) -> Callable[[SignedPlan, bytes], bytes]:
    """Deal shares of another secret than the one announced, or nothing that opens, to some neighbours."""

    def change(signed: SignedPlan, body: bytes) -> bytes:
        answer, plan = Prepared.parse(body), signed.plan
        state = RoundState.parse(fleet.devices[BAD].state)
        peers = topology_of(plan, signed.digest).neighbours(answer.place)
        points = [peer + 1 for peer in peers]
        randomness = fleet.randomness
        keys = split(b"\x0b" * 32 if secret == "mask key" else state.mask_key, plan.threshold, points, randomness)
        seeds = split(b"\x0c" * 32 if secret == "seed" else state.self_seed, plan.threshold, points, randomness)
        sealed = list(answer.sealed)
        for slot in range(len(peers))[victims]:
            exchange = fleet.roster.entries[signed_index(fleet, plan, peers[slot])].exchange_key
            context = {"plan": signed.digest, "sender": answer.place, "receiver": peers[slot]}
            sealed[slot] = (
                bytes(len(sealed[slot]))
                if secret == "nothing"
                else seal_pair(SharePair(keys[slot], seeds[slot]), exchange, **context)
            )
        return replace(answer, sealed=tuple(sealed)).signed(key_of(fleet), signed.digest).to_bytes()

    return change


def signed_index(fleet: Fleet, plan: object, place: int) -> int:
    return place  # everybody is invited, so place and roster index are one


def test_a_seed_that_its_shares_do_not_give_aborts_the_round_and_names_the_dealer() -> None:
    fleet = fleet_of(12)
    running = run_with(fleet, Action.PREPARE, reseal(fleet, "seed"))
    assert running.report is not None
    assert (running.report.aborted, running.report.suspects) == ("federation.aborted", (BAD,))
    assert running.report.update is None
    # Without the suspect the next round is as it should be.
    require_right_sum(fleet, fleet.run(*fleet.plan(noise_multiplier=0.0, candidates=[n for n in range(12) if n != BAD])))


def test_a_mask_key_that_does_not_match_its_shares_aborts_the_round_if_it_is_needed() -> None:
    fleet = fleet_of(12)
    require_right_sum(fleet, run_with(fleet, Action.PREPARE, reseal(fleet, "mask key")))
    signed, cohort = fleet.plan(noise_multiplier=0.0)
    change = reseal(fleet, "mask key")
    running = fleet.run(
        signed,
        cohort,
        drop=lambda action, index: action is Action.TRAIN and index == BAD,
        reply=lambda out, body: change(signed, body) if (out.index, out.action) == (BAD, Action.PREPARE) else body,
    )
    assert running.report is not None
    assert (running.report.aborted, running.report.suspects) == ("federation.aborted", (BAD,))


def test_shares_that_do_not_open_abort_the_round_before_anybody_reveals() -> None:
    fleet = fleet_of(12)
    running = run_with(fleet, Action.PREPARE, reseal(fleet, "nothing"))
    assert running.report is not None
    assert (running.report.aborted, running.report.suspects) == ("federation.aborted", (BAD,))
    assert not any("unmask" in name for name, _ in fleet.dump.seen)


def test_a_few_shares_that_do_not_open_do_no_harm() -> None:
    fleet = fleet_of(12)
    running = run_with(fleet, Action.PREPARE, reseal(fleet, "nothing", slice(0, 2)))
    require_right_sum(fleet, running)
    assert completed(running).survivors == 12


def test_false_shares_are_found_out_and_the_sum_is_right() -> None:
    fleet = fleet_of(20)

    def falsify(signed: SignedPlan, body: bytes) -> bytes:
        answer = Revealed.parse(body)
        return (
            replace(answer, shares=tuple(bytes([0, *share[1:-1], share[-1] ^ 1]) for share in answer.shares))
            .signed(key_of(fleet), signed.digest)
            .to_bytes()
        )

    running = run_with(fleet, Action.UNMASK, falsify)
    require_right_sum(fleet, running)
    assert completed(running).suspects == (BAD,)


@pytest.mark.parametrize("lie", ["fewer", "more", "out of the field", "others"])
def test_revealed_shares_of_another_form_are_refused(lie: str) -> None:
    fleet = fleet_of(20)

    def change(signed: SignedPlan, body: bytes) -> bytes:
        answer = Revealed.parse(body)
        if lie == "fewer":
            answer = replace(answer, shares=answer.shares[:-1])
        elif lie == "more":
            answer = replace(answer, shares=(*answer.shares, answer.shares[0]))
        elif lie == "out of the field":
            answer = replace(answer, shares=(b"\xff" * 33, *answer.shares[1:]))
        else:
            answer = replace(answer, holders=pack_bits([False] * signed.plan.neighbours), shares=())
        return answer.signed(key_of(fleet), signed.digest).to_bytes()

    require_left_out_of_unmasking(fleet, run_with(fleet, Action.UNMASK, change))


def require_left_out_of_unmasking(fleet: Fleet, running: Round) -> None:
    require_right_sum(fleet, running)
    report = completed(running)
    assert (report.survivors, report.suspects, report.refusals) == (20, (BAD,), {"federation.malformed": 1})


def test_a_confirmation_of_another_list_is_refused() -> None:
    fleet = fleet_of(20)

    def change(signed: SignedPlan, body: bytes) -> bytes:
        return Confirmed(BAD).signed(key_of(fleet), signed.digest, bytes(3)).to_bytes()

    running = run_with(fleet, Action.CONFIRM, change)
    require_right_sum(fleet, running)
    assert completed(running).suspects == (BAD,)
