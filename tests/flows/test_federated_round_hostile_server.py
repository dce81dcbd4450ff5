"""A server that lies: every lie is refused with its code, written into the trail, and costs no privacy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekeep import Purpose
from facekeep.errors import FacekeepError
from facekeep.participation import Contribution, RoundState
from facekeep.protocol import (
    AbandonRequest,
    Challenge,
    Cohort,
    ConfirmRequest,
    MaskedStatement,
    MaskedUpdate,
    Prepared,
    PrepareRequest,
    Refusal,
    Revealed,
    Roster,
    RoundPlan,
    SignedPlan,
    TrainRequest,
    UnmaskRequest,
    pack_bits,
    unpack_bits,
)
from facekeep.signing import DeviceKey
from facekeep_server.rounds import Outgoing, Phase, Round
from tests.flows.test_federated_round import completed, fleet_of, require_right_sum
from tests.simulators.federation import NAME, Fleet

STRANGER = DeviceKey(b"\x55" * 32)


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(FacekeepError) as caught:
        act()
    return caught.value.code


class Scene:
    """A round that stands at one step, with the honest request to one device."""

    def __init__(self, step: Phase, count: int = 12, fleet: Fleet | None = None, **plan: Any) -> None:
        self.fleet = fleet or fleet_of(count)
        self.signed, self.cohort = self.fleet.plan(**({"noise_multiplier": 0.0} | plan))
        self.running = self.fleet.begin(self.signed, self.cohort)
        while self.running.phase is not step:
            self.fleet.step(self.running)
            self.running.close_step(self.fleet.clock.now())
        self.out: Outgoing = next(iter(self.running.outbox()))
        self.device = self.fleet.devices[self.out.index]

    @property
    def plan(self) -> RoundPlan:
        return self.signed.plan

    def ask(self, body: bytes) -> str:
        """The code the device refuses this with; and that it is none the worse for it."""
        before = self.device.state, self.device.ledger
        code = code_of(lambda: self.device.handle(self.out.action, body))
        assert (self.device.state, self.device.ledger) == before
        return code

    def ask_plan(self, signed: SignedPlan, **changes: Any) -> str:
        return self.ask(replace(PrepareRequest.parse(self.out.body), plan_note=signed.note, **changes).to_bytes())

    def finish(self) -> Round:
        while not self.running.has_ended:
            self.fleet.step(self.running)
            self.running.close_step(self.fleet.clock.now())
        require_right_sum(self.fleet, self.running)
        return self.running


# PREPARE


def test_a_plan_that_the_policy_does_not_allow_is_refused() -> None:
    scene = Scene(Phase.PREPARE, 40)
    plan, sign = scene.plan, scene.fleet.sign
    for changes, code in [
        ({"minimum": 3}, "federation.cohort_too_small"),
        ({"length": 1 << 21, "step": 1.0, "clip_units": 1}, "federation.plan_refused"),
        ({"threshold": 2}, "federation.plan_refused"),
        ({"quorum": plan.committee // 2 + 1}, "federation.plan_refused"),
        ({"federation": "other.example"}, "federation.plan_refused"),
        ({"issued": plan.issued + timedelta(minutes=30), "deadline": plan.deadline + timedelta(minutes=30)}, "federation.clock"),
        ({"issued": plan.issued - timedelta(hours=3), "deadline": plan.issued - timedelta(hours=1)}, "federation.expired"),
        ({"roster_root": "11" * 32}, "federation.not_a_member"),
        ({"roster_size": plan.roster_size + 1}, "federation.not_a_member"),
        ({"cohort_digest": "11" * 32}, "federation.not_a_member"),
    ]:
        assert scene.ask_plan(sign(replace(plan, **changes))) == code, changes
    scene.finish()


def test_a_plan_without_noise_or_beyond_the_budget_is_refused() -> None:
    scene = Scene(Phase.PREPARE, 20, fleet_of(20, unsafe_without_noise=False, epsilon=3.0), noise_multiplier=2.0)
    quiet = scene.fleet.sign(replace(scene.plan, noise_variance=0))
    assert scene.ask_plan(quiet) == "federation.plan_refused"
    # It says that it costs little, and adds a tenth of the noise: what counts is what the device reckons itself.
    cheap = scene.fleet.sign(replace(scene.plan, noise_variance=scene.plan.noise_variance // 100, epsilon=0.1))
    assert scene.ask_plan(cheap) == "federation.budget_spent"


def test_a_cohort_below_the_policys_minimum_is_refused() -> None:
    fleet = fleet_of(12, minimum_cohort=100)
    assert Scene(Phase.PREPARE, fleet=fleet).ask_plan(fleet.plan(noise_multiplier=0.0)[0]) == "federation.cohort_too_small"
    with pytest.raises(ValueError, match="minimum"):
        replace(fleet.plan(noise_multiplier=0.0)[0].plan, minimum=1)


def test_plans_and_rosters_by_other_keys_are_refused() -> None:
    scene = Scene(Phase.PREPARE)
    request = PrepareRequest.parse(scene.out.body)
    forged = scene.plan.sign(f"{NAME}/planner", STRANGER)
    assert scene.ask(replace(request, plan_note=forged).to_bytes()) == "trust.bad_signature"
    assert scene.ask(replace(request, plan_note=scene.signed.note.replace('"minimum":', '"minimum": ')).to_bytes()) in (
        "trust.bad_signature",
        "trust.malformed",
    )
    # A roster of its own making, with itself in every other place, under a plan that goes with it.
    own = Roster(
        NAME, [scene.device.entry, *(replace(entry, device_key=bytes([n]) * 32) for n, entry in enumerate(_strangers(11)))]
    )
    note = own.head.sign(f"{NAME}/authority", STRANGER)
    signed = scene.fleet.sign(replace(scene.plan, roster_root=own.head.root.hex()))
    assert scene.ask_plan(signed, roster_note=note, excerpt=own.excerpt(range(12))) == "trust.bad_signature"


def _strangers(count: int) -> list[Any]:
    return fleet_of(count, seed=99).roster.entries  # type: ignore[return-value]


def test_swapped_entries_of_the_roster_are_refused() -> None:
    scene = Scene(Phase.PREPARE)
    request = PrepareRequest.parse(scene.out.body)
    (index, entry), *others = request.excerpt.entries
    peer, known = others[0]
    swapped = replace(request.excerpt, entries=((index, entry), (peer, replace(known, exchange_key=b"\x09" * 32)), *others[1:]))
    assert scene.ask(replace(request, excerpt=swapped).to_bytes()) == "federation.not_a_member"
    traded = replace(request.excerpt, entries=((index, entry), (peer, others[1][1]), (others[1][0], known), *others[2:]))
    assert scene.ask(replace(request, excerpt=traded).to_bytes()) == "federation.not_a_member"
    without = scene.fleet.roster.excerpt([place for place, _ in request.excerpt.entries[:-1]])
    assert scene.ask(replace(request, excerpt=without).to_bytes()) == "federation.not_a_member"
    other = Cohort.of(range(1, 12))
    assert scene.ask(replace(request, cohort=other.to_bytes()).to_bytes()) == "federation.not_a_member"
    scene.finish()


def test_a_cohort_that_the_seed_does_not_draw_is_refused() -> None:
    """A server that invites whom it likes invites those that side with it, and one device that does not."""
    fleet = fleet_of(40)
    scene = Scene(Phase.PREPARE, fleet=fleet, cohort=12, dropout=0.2)
    assert (scene.plan.drawn, scene.plan.cohort_size) == (12, 12)
    # Another seed draws others; the cohort stays.
    assert scene.ask_plan(fleet.sign(replace(scene.plan, seed="12" * 32))) == "federation.plan_refused"
    # Everybody is drawn and 12 of 40 are chosen: then all two who may collude are among the 12, and three shares are too few.
    chosen = fleet.sign(replace(scene.plan, drawn=40, threshold=2))
    assert scene.ask_plan(chosen) == "federation.plan_refused"
    scene.finish()


def test_a_replayed_plan_is_refused_for_ever() -> None:
    fleet = fleet_of(12)
    first = Scene(Phase.PREPARE, fleet=fleet)
    first.finish()
    fleet.step(first.running)
    assert first.device.state is None
    assert first.ask(first.out.body) == "federation.replayed_plan"
    # Another plan of the same number, and of an earlier one after a later one.
    assert first.ask_plan(fleet.sign(replace(first.plan, seed="12" * 32))) == "federation.replayed_plan"
    second = Scene(Phase.PREPARE, fleet=fleet)
    second.finish()
    assert first.ask_plan(fleet.sign(replace(first.plan, seed="13" * 32))) == "federation.replayed_plan"


def test_oversized_messages_are_refused_before_they_are_read() -> None:
    scene = Scene(Phase.PREPARE)
    assert scene.ask(bytes(1 << 23)) == "federation.malformed"
    request = PrepareRequest.parse(scene.out.body)
    assert scene.ask(replace(request, plan_note="x" * (1 << 17)).to_bytes()) == "federation.malformed"
    assert scene.ask(scene.out.body + b"\0") == "federation.malformed"
    assert scene.ask(scene.out.body[:-1]) == "federation.malformed"


@pytest.mark.parametrize("cut", range(0, 600, 7))
def test_no_cut_or_flipped_request_raises_anything_but_a_typed_error(cut: int) -> None:
    scene = _shared_scene()
    for body in (scene.out.body[:cut], scene.out.body[:cut] + bytes([scene.out.body[cut] ^ 0x41]) + scene.out.body[cut + 1 :]):
        with pytest.raises(FacekeepError):
            scene.device.handle("prepare", body)


_SHARED: list[Scene] = []


def _shared_scene() -> Scene:
    if not _SHARED:
        _SHARED.append(Scene(Phase.PREPARE, 5))
    return _SHARED[0]


# TRAIN


def test_swapped_mask_keys_are_refused() -> None:
    scene = Scene(Phase.TRAIN)
    request = TrainRequest.parse(scene.out.body)
    first, second, *rest = request.adverts

    def with_adverts(*adverts: Any) -> bytes:
        return TrainRequest(request.plan, tuple(sorted(adverts, key=lambda advert: advert.place))).to_bytes()

    own_key = replace(first, mask_key=b"\x09" + bytes(31))
    assert scene.ask(with_adverts(own_key, second, *rest)) == "trust.bad_signature"
    forged = replace(first, place=second.place), replace(second, place=first.place)
    assert scene.ask(with_adverts(*forged, *rest)) == "trust.bad_signature"
    stranger = replace(first, place=scene.running.cohort.place_of[scene.out.index])
    assert scene.ask(with_adverts(stranger, second, *rest)) == "federation.not_a_member"
    with pytest.raises(FacekeepError):
        TrainRequest.parse(TrainRequest(request.plan, (first, first)).to_bytes())
    scene.finish()


def test_a_mask_key_that_an_accomplice_copied_is_refused() -> None:
    """Towards one neighbour the mask is added, towards an accomplice on the other side it is taken away again."""
    scene = Scene(Phase.TRAIN, 20)
    request = TrainRequest.parse(scene.out.body)
    copied, last = request.adverts[0], request.adverts[-1]
    accomplice = scene.fleet.devices[scene.cohort.indices[last.place]].keys.device
    pairs = (last.sealed,) * scene.plan.neighbours
    forged = Prepared(last.place, copied.mask_key, last.commitment, pairs).signed(accomplice, scene.signed.digest).advert_for(0)
    assert scene.ask(replace(request, adverts=(*request.adverts[:-1], forged)).to_bytes()) == "federation.malformed"
    scene.finish()


def test_a_cohort_of_one_is_refused_at_every_step() -> None:
    scene = Scene(Phase.TRAIN)
    request = TrainRequest.parse(scene.out.body)
    assert scene.ask(TrainRequest(request.plan, ()).to_bytes()) == "federation.cohort_too_small"
    assert scene.ask(TrainRequest(request.plan, request.adverts[: scene.plan.threshold - 1]).to_bytes()) == (
        "federation.cohort_too_small"
    )
    scene = Scene(Phase.CONFIRM)
    alone = np.zeros(12, dtype=bool)
    alone[scene.cohort.place_of[scene.out.index]] = True
    assert scene.ask(ConfirmRequest(scene.signed.digest, pack_bits(alone)).to_bytes()) == "federation.cohort_too_small"


def test_another_question_after_an_answer_is_refused_and_the_same_one_gets_the_same_bytes() -> None:
    scene = Scene(Phase.TRAIN)
    answer = scene.device.handle("train", scene.out.body)
    # The server asks for a second update with another set of neighbours: the difference would tell of the update.
    request = TrainRequest.parse(scene.out.body)
    fewer = TrainRequest(request.plan, request.adverts[1:]).to_bytes()
    assert scene.ask(fewer) == "federation.wrong_step"
    assert scene.device.handle("train", scene.out.body) == answer
    assert len(scene.device.ledger.charges) + scene.device.ledger.without_noise == 1


def test_messages_of_another_round_and_steps_out_of_order_are_refused() -> None:
    scene = Scene(Phase.TRAIN)
    request = TrainRequest.parse(scene.out.body)
    assert scene.ask(replace(request, plan=b"\x01" * 32).to_bytes()) == "federation.unknown_round"
    everybody = pack_bits(np.ones(12, dtype=bool))
    ahead = ConfirmRequest(scene.signed.digest, everybody).to_bytes()
    assert code_of(lambda: scene.device.handle("confirm", ahead)) == "federation.wrong_step"
    late = UnmaskRequest(scene.signed.digest, everybody, b"", (), scene.fleet.roster.excerpt([0]), ()).to_bytes()
    assert code_of(lambda: scene.device.handle("unmask", late)) == "federation.wrong_step"


# CONFIRM and UNMASK


def test_a_member_confirms_one_list_of_survivors_and_no_other() -> None:
    scene = Scene(Phase.CONFIRM)
    answer = scene.device.handle("confirm", scene.out.body)
    other = np.array(scene.running.survivors)
    other[(scene.cohort.place_of[scene.out.index] + 1) % 12] = False
    assert scene.ask(ConfirmRequest(scene.signed.digest, pack_bits(other)).to_bytes()) == "federation.wrong_step"
    assert scene.device.handle("confirm", scene.out.body) == answer


def test_two_lists_never_both_reach_the_quorum() -> None:
    scene = Scene(Phase.CONFIRM, 40)
    lists = [np.array(scene.running.survivors) for _ in range(2)]
    lists[1][5] = False
    signed = [0, 0]
    for number, index in enumerate(scene.cohort.indices):
        for which in (number % 2, 1 - number % 2):
            body = ConfirmRequest(scene.signed.digest, pack_bits(lists[which])).to_bytes()
            try:
                scene.fleet.devices[index].handle("confirm", body)
                signed[which] += 1
            except FacekeepError as error:
                assert error.code == "federation.wrong_step"  # noqa: PT017
    assert max(signed) < scene.plan.quorum
    assert sum(signed) == 40


def test_a_device_whose_neighbours_are_all_said_to_have_dropped_out_is_not_exposed() -> None:
    """Everybody else survives, the count is above the minimum, and still the sum would be one update behind opened masks."""
    scene = Scene(Phase.CONFIRM, 90, dropout=0.3)
    victim = 7
    survivors = np.array(scene.running.survivors)
    survivors[list(scene.running.topology.neighbours(victim))] = False
    assert survivors.sum() >= scene.plan.minimum
    body = ConfirmRequest(scene.signed.digest, pack_bits(survivors)).to_bytes()
    codes = {code_of(lambda index=index: scene.fleet.devices[index].handle("confirm", body)) for index in scene.cohort.indices}
    assert codes == {"federation.cohort_too_small"}


def test_forged_short_and_doubled_quorums_are_refused() -> None:
    scene = Scene(Phase.UNMASK, 20)
    request = UnmaskRequest.parse(scene.out.body)
    short = replace(request, confirmations=request.confirmations[:-1])
    assert scene.ask(short.to_bytes()) == "federation.no_quorum"
    (place, signature), *others = request.confirmations
    forged = replace(request, confirmations=((place, bytes(64)), *others))
    assert scene.ask(forged.to_bytes()) == "trust.bad_signature"
    doubled = replace(request, confirmations=((place, signature), (place, signature), *others[1:]))
    assert scene.ask(doubled.to_bytes()) == "federation.malformed"
    moved = replace(request, confirmations=((place, others[0][1]), *others))
    assert scene.ask(moved.to_bytes()) == "trust.bad_signature"
    # A list that nobody confirmed.
    other = np.array(scene.running.survivors)
    other[19] = False
    assert scene.ask(replace(request, survivors=pack_bits(other)).to_bytes()) in ("trust.bad_signature", "federation.no_quorum")
    scene.finish()


def test_those_outside_the_committee_make_no_quorum() -> None:
    fleet = fleet_of(40, colluding_percent=0)
    scene = Scene(Phase.UNMASK, fleet=fleet, committee=15, quorum=8, colluding_percent=0)
    assert len(scene.running.topology.committee) == 15
    request = UnmaskRequest.parse(scene.out.body)
    outside = [place for place in range(40) if place not in scene.running.topology.committee][:8]
    survivors = pack_bits(scene.running.survivors)
    signatures = []
    for place in outside:
        key = fleet.devices[scene.cohort.indices[place]].keys.device
        signatures.append((place, key.sign("federation.confirmed/v1", scene.signed.digest + survivors)))
    excerpt = fleet.roster.excerpt([scene.cohort.indices[place] for place in outside])
    assert scene.ask(replace(request, confirmations=tuple(signatures), excerpt=excerpt).to_bytes()) == "federation.no_quorum"
    for index in (scene.cohort.indices[place] for place in outside[:1]):
        body = ConfirmRequest(scene.signed.digest, survivors).to_bytes()
        assert code_of(lambda index=index, body=body: fleet.devices[index].handle("confirm", body)) == "federation.not_a_member"
    scene.finish()


def test_shares_are_revealed_once_and_of_one_kind() -> None:
    scene = Scene(Phase.UNMASK, 20)
    answer = scene.device.handle("unmask", scene.out.body)
    assert RoundState.parse(scene.device.state).pairs == (), "what was not revealed is forgotten"
    request = UnmaskRequest.parse(scene.out.body)
    # The same list with other confirmations, and another list: neither gets an answer.
    other = replace(request, confirmations=request.confirmations[::1], survivors=request.survivors[:-1] + b"\0")
    assert scene.ask(other.to_bytes()) == "federation.already_revealed"
    assert scene.device.handle("unmask", scene.out.body) == answer
    scene.finish()


def test_a_survivor_that_confirmed_one_list_does_not_unmask_for_another() -> None:
    """Even a server with a quorum of colluders gets no second list past a device that has seen the first."""
    scene = Scene(Phase.UNMASK, 20)
    other = np.array(scene.running.survivors)
    other[19 if scene.cohort.place_of[scene.out.index] != 19 else 18] = False
    survivors = pack_bits(other)
    request = UnmaskRequest.parse(scene.out.body)
    signatures = tuple(
        (
            place,
            scene.fleet.devices[scene.cohort.indices[place]].keys.device.sign(
                "federation.confirmed/v1", scene.signed.digest + survivors
            ),
        )
        for place, _ in request.confirmations
    )
    assert scene.ask(replace(request, survivors=survivors, confirmations=signatures).to_bytes()) == "federation.no_quorum"


# Few adverts: an edge of the graph that carries no mask


class FewAdverts:
    """The server shows a victim only some of its neighbours, which then drop out; or the victim not to all of them.

    Everybody else survives: there are more than the minimum, they hang together, and each keeps `threshold` surviving neighbours.
    Were their shares of the victim's seed revealed, every mask on its update would be known. The server is not bound by what an
    honest one would refuse.
    """

    VICTIM = 0

    def __init__(self, hides: str, groups: int = 1) -> None:
        self.fleet = fleet_of(40 * groups)
        self.signed, self.cohort = self.fleet.plan(noise_multiplier=0.0, groups=groups, dropout=0.4)
        self.running = self.fleet.begin(self.signed, self.cohort)
        self.table = self.running.topology.table
        self.peers = self.running.topology.neighbours(self.VICTIM)
        self.dropped = set(self.peers[: self.signed.plan.threshold])
        self.left = [peer for peer in self.peers if peer not in self.dropped]
        self.hides = hides
        self.run_to(Phase.UNMASK)
        survivors = np.flatnonzero(self.running.survivors).tolist()
        assert len(survivors) == len(self.cohort) - len(self.dropped)
        assert self.VICTIM in survivors
        self.requests = {self.cohort.place_of[out.index]: out.body for out in self.running.outbox()}

    def run_to(self, phase: Phase) -> None:
        while self.running.phase is not phase:
            assert not self.running.has_ended, self.running.report
            self.fleet.step(self.running, request=self.request, reply=self.reply)
            self.running.close_step(self.fleet.clock.now())

    def request(self, out: Outgoing) -> bytes:
        place = self.cohort.place_of[out.index]
        if out.action != "train":
            return out.body
        asked = TrainRequest.parse(out.body)
        if self.hides == "others from the victim" and place == self.VICTIM:
            return replace(asked, adverts=tuple(item for item in asked.adverts if item.place in self.dropped)).to_bytes()
        if self.hides == "the victim from one" and place == self.left[0]:
            return replace(asked, adverts=tuple(item for item in asked.adverts if item.place != self.VICTIM)).to_bytes()
        return out.body

    def reply(self, out: Outgoing, body: bytes) -> bytes | None:
        place = self.cohort.place_of[out.index]
        if out.action != "train" or place in self.dropped or Refusal.is_refusal(body):
            return None if out.action == "train" else body
        update = MaskedUpdate.parse(body, self.signed.plan)
        if update.masked_with == pack_bits(self.running.takes_part[self.table[place]]):
            return body
        # An honest server refuses this one.
        self.running.updates.put(place, update.vector)
        self.running.sums[self.running.topology.group_of[place]] += update.vector
        self.running.members[place].masked = update.statement
        self.running._answered.add(place)
        self.running._waiting.discard(place)
        return None

    def ask(self, place: int, body: bytes) -> bytes | str:
        """The answer of one device to UNMASK, or the code it refuses with; then it has changed nothing."""
        device = self.fleet.devices[self.cohort.indices[place]]
        before = device.state
        try:
            return bytes(device.handle("unmask", body))
        except FacekeepError as error:
            assert device.state == before
            assert RoundState.parse(before).pairs, "the shares are still here, and nowhere else"
            return error.code

    def seeds_revealed(self, answers: dict[int, bytes | str], of: int) -> int:
        """How many shares of a survivor's seed the server got."""
        count = 0
        for place, answer in answers.items():
            if isinstance(answer, bytes):
                found = unpack_bits(Revealed.parse(answer).holders, self.table.shape[1])
                count += of in self.table[place][found]
        return count


@pytest.mark.parametrize("groups", [1, 2])
def test_an_update_that_was_shown_few_neighbours_is_not_opened_when_those_drop_out(groups: int) -> None:
    scene = FewAdverts("others from the victim", groups)
    confirmed = [place for place in scene.running.topology.committee if scene.running.members[place].confirmation]
    assert scene.VICTIM not in confirmed, "the victim sees survivors that it was never shown"
    assert len(scene.left) >= scene.signed.plan.threshold, "enough hold its shares"
    answers = {place: scene.ask(place, body) for place, body in scene.requests.items()}
    refused = {place: code for place, code in answers.items() if isinstance(code, str)}
    assert set(refused.values()) == {"federation.cohort_too_small"}
    assert refused.keys() == {scene.VICTIM, *scene.left}
    assert scene.seeds_revealed(answers, scene.VICTIM) == 0


def test_a_neighbour_that_was_not_shown_a_survivor_is_not_opened_either() -> None:
    """The victim masks with all, but one that stays does not mask with it: an edge that holds on one side only."""
    scene = FewAdverts("the victim from one")
    other = scene.left[0]
    answers = {place: scene.ask(place, body) for place, body in scene.requests.items()}
    holders = set(scene.table[other].tolist()) & scene.requests.keys()
    assert {place for place, code in answers.items() if code == "federation.cohort_too_small"} == {other, *holders}
    assert len(holders) >= scene.signed.plan.threshold
    assert scene.seeds_revealed(answers, other) == 0


def test_a_statement_that_is_forged_left_out_or_of_another_device_opens_nothing() -> None:
    scene = FewAdverts("others from the victim")
    holder = scene.left[0]
    request = UnmaskRequest.parse(scene.requests[holder])
    (mine,) = (item for item in request.statements if item.place == scene.VICTIM)
    others = [item for item in request.statements if item is not mine]
    everybody = pack_bits(np.ones(scene.signed.plan.neighbours, dtype=bool))

    def ask(*statements: MaskedStatement) -> bytes | str:
        ordered = tuple(sorted(statements, key=lambda item: item.place))
        return scene.ask(holder, replace(request, statements=ordered).to_bytes())

    assert ask(mine, *others) == "federation.cohort_too_small"
    assert ask(replace(mine, masked_with=everybody), *others) == "trust.bad_signature"
    assert ask(replace(others[0], place=scene.VICTIM), *others) == "trust.bad_signature"
    assert ask(replace(mine, masked_with=everybody + b"\0"), *others) == "trust.bad_signature"
    assert ask(*others) == "federation.malformed"
    assert ask(mine, *others[1:]) == "federation.malformed"
    assert ask(mine, *others, replace(mine, place=min(scene.dropped))) == "federation.malformed"
    assert ask() == "federation.malformed"
    assert ask(mine, mine, *others) == "federation.malformed"
    # Signed by a server that stole nothing but knows the form.
    forged = MaskedUpdate(scene.VICTIM, everybody, mine.without_shares, np.zeros(1, np.uint32)).signed(
        STRANGER, scene.signed.digest
    )
    assert ask(forged.statement, *others) == "trust.bad_signature"


def test_a_statement_of_another_round_opens_nothing() -> None:
    fleet = fleet_of(12)
    first = Scene(Phase.UNMASK, fleet=fleet)
    kept = UnmaskRequest.parse(first.out.body).statements
    first.finish()
    scene = Scene(Phase.UNMASK, fleet=fleet)
    request = UnmaskRequest.parse(scene.out.body)
    again = tuple(next((old for old in kept if old.place == item.place), item) for item in request.statements)
    assert again != request.statements
    assert scene.ask(replace(request, statements=again).to_bytes()) == "trust.bad_signature"
    scene.finish()


def test_an_honest_server_leaves_out_whoever_masked_with_fewer_and_the_round_goes_on() -> None:
    """Somebody between server and device thins out the adverts: what comes back is refused, and the others are summed."""
    fleet = fleet_of(40)

    def thin(out: Outgoing) -> bytes:
        if (out.action, out.index) != ("train", 0):
            return out.body
        asked = TrainRequest.parse(out.body)
        return replace(asked, adverts=asked.adverts[1:]).to_bytes()

    running = fleet.run(*fleet.plan(noise_multiplier=0.0, dropout=0.3), request=thin)
    require_right_sum(fleet, running)
    report = completed(running)
    assert (report.survivors, report.refusals["federation.malformed"]) == (39, 1)
    # The device itself does not sign the list either: somebody in it was never shown to it.
    assert report.refusals == {"federation.malformed": 1, "federation.cohort_too_small": 1}


def test_who_prepares_late_is_no_survivor_and_holds_up_nobody() -> None:
    fleet = fleet_of(40)
    signed, cohort = fleet.plan(noise_multiplier=0.0, dropout=0.3)
    running = fleet.begin(signed, cohort)
    late = next(out for out in running.outbox() if out.index == 5)
    fleet.step(running, drop=lambda action, index: index == 5)
    running.close_step(fleet.clock.now())
    answer = fleet.ask(5, late.action, late.body)
    assert running.receive(5, late.action, answer).code == "federation.wrong_step"
    assert 5 not in {out.index for out in running.outbox()}
    while not running.has_ended:
        fleet.step(running)
        running.close_step(fleet.clock.now())
    require_right_sum(fleet, running)
    assert completed(running).survivors == 39


# Other ways to two answers


def test_a_second_update_is_refused_after_the_first_was_unmasked() -> None:
    scene = Scene(Phase.TRAIN, 20)
    asked = scene.out
    scene.device.handle("train", asked.body)
    while scene.running.phase is not Phase.UNMASK:
        scene.fleet.step(scene.running)
        scene.running.close_step(scene.fleet.clock.now())
    body = next(out.body for out in scene.running.outbox() if out.index == asked.index)
    scene.device.handle("unmask", body)
    fewer = TrainRequest.parse(asked.body)
    for question in (asked.body, replace(fewer, adverts=fewer.adverts[1:]).to_bytes()):
        assert scene.ask(question) == "federation.wrong_step"


def test_a_second_preparation_is_refused_however_it_is_asked_for() -> None:
    """Two mask keys, or two seeds, under one plan: neighbours would hold shares of both."""
    scene = Scene(Phase.PREPARE, 20)
    request, roster = PrepareRequest.parse(scene.out.body), scene.fleet.roster
    answer = scene.device.handle("prepare", scene.out.body)
    assert scene.ask(replace(request, excerpt=roster.excerpt(range(20))).to_bytes()) == "federation.wrong_step"
    # The same plan in another note has the same digest: shares of both would be good for both.
    note = scene.plan.sign(f"{NAME}/planner", scene.fleet.planner)
    doubled = note + note.rpartition("\n\n")[2].replace(f"{NAME}/planner", f"{NAME}/other")
    assert scene.ask(replace(request, plan_note=doubled).to_bytes()) == "federation.replayed_plan"
    assert scene.device.handle("prepare", scene.out.body) == answer
    scene.device.handle("abandon", AbandonRequest(scene.signed.digest, "ok").to_bytes())
    assert scene.ask(scene.out.body) == "federation.replayed_plan"


def test_a_list_that_leaves_a_group_below_its_minimum_is_refused_by_the_other_groups_too() -> None:
    scene = Scene(Phase.CONFIRM, 60, groups=3)
    mine = scene.running.topology.group_of[scene.cohort.place_of[scene.out.index]]
    other = next(members for number, members in enumerate(scene.running.topology.groups) if number != mine)
    survivors = np.array(scene.running.survivors)
    survivors[other[2:]] = False
    assert scene.ask(ConfirmRequest(scene.signed.digest, pack_bits(survivors)).to_bytes()) == "federation.cohort_too_small"
    scene.finish()


def test_abandon_destroys_only_the_round_it_names() -> None:
    scene = Scene(Phase.TRAIN)
    scene.device.handle("abandon", AbandonRequest(b"\x07" * 32, "ok").to_bytes())
    assert scene.device.state is not None
    scene.device.handle("abandon", AbandonRequest(scene.signed.digest, "federation.aborted").to_bytes())
    assert scene.device.state is None
    assert code_of(lambda: scene.device.handle("train", scene.out.body)) == "federation.unknown_round"


def test_a_server_of_another_federation_gets_no_introduction() -> None:
    scene = Scene(Phase.PREPARE)
    challenge = Challenge("other.example", b"\x01" * 32).to_bytes()
    assert code_of(lambda: scene.device.handle("hello", challenge)) == "federation.plan_refused"


# The whole device: what is refused is in the trail


def events(device: Any, code: str) -> list[dict[str, Any]]:
    found = [json.loads(entry) for entry in device.trail()]
    return [entry for entry in found if entry["event"] == code]


def test_a_whole_device_refuses_and_writes_it_down(tmp_path: Path) -> None:
    fleet = Fleet(4)
    fleet.allow(unsafe_without_noise=True)
    fleet.add_vaults(tmp_path, 5)
    signed, cohort = fleet.plan(noise_multiplier=0.0)
    running = fleet.begin(signed, cohort)
    out = next(iter(running.outbox()))
    device = fleet.devices[0]
    request = PrepareRequest.parse(out.body)
    forged = replace(request, plan_note=signed.plan.sign(f"{NAME}/planner", STRANGER)).to_bytes()
    short = fleet.sign(
        replace(signed.plan, deadline=signed.plan.issued + timedelta(seconds=1), issued=signed.plan.issued - timedelta(1))
    )
    fleet.clock.advance(timedelta(minutes=1))
    for body, action, code in [
        (forged, "prepare", "trust.bad_signature"),
        (replace(request, plan_note=short.note).to_bytes(), "prepare", "federation.expired"),
        (b"", "train", "federation.malformed"),
        (b"", "dance", "federation.malformed"),
        (TrainRequest(b"\x01" * 32, ()).to_bytes(), "train", "federation.unknown_round"),
    ]:
        assert code_of(lambda body=body, action=action: device.handle(action, body)) == code
        last = events(device, "round.refused")[-1]
        assert (last["outcome"], last["details"]["step"]) == (code, action if action != "dance" else "unknown")
    running = fleet.run(signed, cohort)
    require_right_sum(fleet, running)
    assert code_of(lambda: device.handle("prepare", out.body)) == "federation.replayed_plan"
    assert [entry["details"]["step"] for entry in events(device, "round.answered")] == [
        "prepare",
        "train",
        "confirm",
        "unmask",
        "abandon",
    ]
    (joined,) = events(device, "round.joined")
    assert joined["subject"] is not None
    assert joined["details"]["round"] == 1


def test_consent_is_asked_again_at_the_time_of_training(tmp_path: Path) -> None:
    from facekeep.flows.contributing import StatedContribution

    fleet = Fleet(5)
    fleet.allow(unsafe_without_noise=True)
    fleet.add_vaults(tmp_path, 5, subjects=("Ann-Sofie", "Søren"))
    device, calls = fleet.devices[0], []

    def make(plan: RoundPlan, subjects: int) -> Contribution:
        calls.append(subjects)
        return Contribution(np.zeros(plan.length, np.float32), {"loss": 1.0, "samples": 1.0})

    device.contributing = StatedContribution(Purpose.FEDERATED_TRAINING, make)
    signed, cohort = fleet.plan(noise_multiplier=0.0)
    running = fleet.begin(signed, cohort)
    fleet.step(running)
    running.close_step(fleet.clock.now())
    # One withdraws between PREPARE and TRAIN: the other alone is used.
    with device.open() as opened:
        opened.consents.withdraw("Søren", purposes=[Purpose.FEDERATED_TRAINING])
    out = next(out for out in running.outbox() if out.index == 0)

    def withdraw_meanwhile(plan: RoundPlan, subjects: int) -> Contribution:
        calls.append(subjects)
        with device.open() as opened:
            opened.consents.withdraw("Ann-Sofie", purposes=[Purpose.FEDERATED_TRAINING])
        return make(plan, subjects)

    # The other withdraws while the device trains: what was computed is thrown away.
    device.contributing = StatedContribution(Purpose.FEDERATED_TRAINING, withdraw_meanwhile)
    assert code_of(lambda: device.handle("train", out.body)) == "consent.withdrawn"
    assert calls[0] == 1
    assert events(device, "round.joined") == []
    # Nobody is left: the device says so.
    assert code_of(lambda: device.handle("train", out.body)) == "federation.nothing_to_contribute"
    assert [entry["outcome"] for entry in events(device, "round.refused")] == [
        "consent.withdrawn",
        "federation.nothing_to_contribute",
    ]
    running = fleet.run(*fleet.plan(noise_multiplier=0.0, dropout=0.3))
    assert running.report is not None
    assert running.report.refusals == {"federation.nothing_to_contribute": 1}
    assert completed(running).survivors == 4


def test_a_kept_answer_is_not_given_again_once_a_subject_in_it_has_withdrawn(tmp_path: Path) -> None:
    fleet = Fleet(8)
    fleet.allow(unsafe_without_noise=True)
    fleet.add_vaults(tmp_path, 5, subjects=("Ann-Sofie", "Søren"))
    running = fleet.begin(*fleet.plan(noise_multiplier=0.0))
    fleet.step(running)
    running.close_step(fleet.clock.now())
    device, out = fleet.devices[0], next(iter(running.outbox()))
    assert device.handle("train", out.body) == device.handle("train", out.body)
    with device.open() as opened:
        opened.withdraw("Søren")
    assert code_of(lambda: device.handle("train", out.body)) == "consent.none"


def test_the_budget_is_charged_before_the_answer_and_stops_the_device(tmp_path: Path) -> None:
    fleet = Fleet(6)
    fleet.allow(epsilon=5.0)
    fleet.add_vaults(tmp_path, 5)
    reports = [fleet.run(*fleet.plan(noise_multiplier=2.0, dropout=0.2)).report for _ in range(6)]
    spent = [float(entry["details"]["spent"]) for entry in events(fleet.devices[0], "round.joined")]
    assert spent == sorted(spent)
    assert 1 <= len(spent) < 6
    assert spent[-1] <= 5.0
    last = reports[-1]
    assert last is not None
    assert (last.aborted, last.refusals) == ("federation.cohort_too_small", {"federation.budget_spent": 5})


def test_a_device_answers_as_many_rounds_as_its_policy_says() -> None:
    fleet = fleet_of(5, most_rounds=2)
    codes = [fleet.run(*fleet.plan(noise_multiplier=0.0)).report for _ in range(3)]
    assert [report.aborted for report in codes if report] == [None, None, "federation.cohort_too_small"]


def test_prepared_shares_open_for_nobody_else() -> None:
    """The server in between tries to open a pair with another device's exchange key, or in another context."""
    from facekeep.errors import FederationError
    from facekeep.privacy.shares import open_pair

    scene = Scene(Phase.PREPARE)
    prepared = Prepared.parse(scene.device.handle("prepare", scene.out.body))
    peers = scene.running.topology.neighbours(prepared.place)
    keys = [scene.fleet.devices[scene.cohort.indices[peer]].keys.exchange for peer in peers[:2]]
    context = {"plan": scene.signed.digest, "sender": prepared.place, "receiver": peers[0]}
    open_pair(prepared.sealed[0], keys[0], **context)
    for sealed, key, changed in [
        (prepared.sealed[0], keys[1], {}),
        (prepared.sealed[1], keys[0], {}),
        (prepared.sealed[0], keys[0], {"plan": bytes(32)}),
        (prepared.sealed[0], keys[0], {"sender": peers[1]}),
        (prepared.sealed[0], keys[0], {"receiver": peers[1]}),
    ]:
        with pytest.raises(FederationError):
            open_pair(sealed, key, **(context | changed))
