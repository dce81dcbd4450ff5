"""The steps of a round on a device, pure: a state and a request in, a state and an answer out.

What the caller owes: the new state is on the disk before the answer leaves, and a budget charged before that of `mask_update`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.participation.contribution import Contribution, to_row
from facekeep.participation.state import Given, HeldPair, Peer, RoundState, wrong_step
from facekeep.privacy.masking import add_masks, mask_public_key, pairwise_seed
from facekeep.privacy.noise import discrete_gaussian
from facekeep.privacy.ring import quantise, to_ring
from facekeep.privacy.shares import SharePair, open_pair, seal_pair
from facekeep.privacy.sharing import split
from facekeep.protocol import (
    Action,
    Challenge,
    Cohort,
    Confirmed,
    ConfirmRequest,
    FederationPolicy,
    Introduction,
    MaskedUpdate,
    Prepared,
    PrepareRequest,
    Revealed,
    RosterEntry,
    RosterHead,
    RoundPlan,
    SignedPlan,
    TrainRequest,
    UnmaskRequest,
    drawn_devices,
    pack_bits,
    require_acceptable,
    require_advert,
    require_current,
    require_masked,
    seed_commitment,
    topology_of,
    unpack_bits,
)
from facekeep.protocol.codec import malformed
from facekeep.randomness import Randomness
from facekeep.signing import DeviceKey


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """The keys a device is known by.

    Attributes:
        device: signs.
        exchange: private X25519 key, 32 bytes: opens the shares sealed to this device.
    """

    device: DeviceKey
    exchange: bytes = field(repr=False)

    @property
    def entry(self) -> RosterEntry:
        """What the roster says of this device."""
        public = X25519PrivateKey.from_private_bytes(self.exchange).public_key().public_bytes_raw()
        return RosterEntry(self.device.public_bytes, public)


def introduce(challenge: Challenge, policy: FederationPolicy, keys: DeviceKeys) -> bytes:
    """Return the answer to HELLO.

    Raises:
        FederationError: "federation.plan_refused" for a server of another federation.
    """
    # Relay: an answer made for one federation must not introduce the device to another.
    if challenge.federation != policy.name:
        raise FederationError("federation.plan_refused", "The challenge comes from a server of another federation.")
    return Introduction(keys.entry).signed(keys.device, challenge).to_bytes()


def open_request(request: PrepareRequest, policy: FederationPolicy, now: datetime, last_round: int) -> SignedPlan:
    """Return the plan of a PREPARE if the policy's planner signed it and the policy allows it.

    Raises:
        TrustError, FederationError: with the code of the first thing that is wrong.
    """
    signed = SignedPlan.open(request.plan_note, policy.planner_keys)
    require_acceptable(policy, signed.plan, now, last_round)
    return signed


def prepare(
    request: PrepareRequest, signed: SignedPlan, policy: FederationPolicy, keys: DeviceKeys, randomness: Randomness
) -> RoundState:
    """Return the state of a round that begins, its answer to PREPARE in `given`.

    Raises:
        TrustError, FederationError: with the code of the first thing that is wrong.
    """
    plan, head = signed.plan, RosterHead.open(request.roster_note, policy.name, policy.authority_keys)
    # Another roster: with one of its own making a server could fill the cohort with devices that are not there.
    if (head.size, head.root.hex()) != (plan.roster_size, plan.roster_root):
        raise FederationError("federation.not_a_member", "The roster shown is not the one of the plan.")
    cohort = _open_cohort(request.cohort, signed)
    # Chosen, not drawn: a cohort of devices that side with the server, and one that does not.
    if not drawn_devices(plan.seed, plan.roster_size, plan.drawn).issuperset(cohort.indices):
        raise FederationError("federation.plan_refused", "The cohort holds devices that the plan's seed does not draw.")
    entries = request.excerpt.require_in(head)
    own = keys.entry
    place = next((cohort.place_of[index] for index, entry in entries.items() if entry == own and index in cohort.place_of), None)
    if place is None:
        raise FederationError("federation.not_a_member", "The excerpt or the cohort does not hold this device with its keys.")
    peers = topology_of(plan, signed.digest).neighbours(place)
    if not {cohort.indices[peer] for peer in peers} <= entries.keys():
        raise FederationError("federation.not_a_member", "The excerpt does not hold every neighbour of this device.")
    shown = [entries[cohort.indices[peer]] for peer in peers]
    mask_key, self_seed = randomness.token(32), randomness.token(32)
    points = [peer + 1 for peer in peers]
    pairs = zip(
        split(mask_key, plan.threshold, points, randomness), split(self_seed, plan.threshold, points, randomness), strict=True
    )
    sealed = tuple(
        seal_pair(SharePair(*pair), entry.exchange_key, plan=signed.digest, sender=place, receiver=peer)
        for peer, entry, pair in zip(peers, shown, pairs, strict=True)
    )
    commitment = seed_commitment(signed.digest, place, self_seed)
    answer = Prepared(place, mask_public_key(mask_key), commitment, sealed).signed(keys.device, signed.digest)
    return RoundState(
        note=signed.note,
        place=place,
        peers=tuple(Peer(peer, entry.device_key) for peer, entry in zip(peers, shown, strict=True)),
        mask_key=mask_key,
        self_seed=self_seed,
        given=((Action.PREPARE.value, Given(_digest(request.to_bytes()), answer.to_bytes())),),
    )


@dataclass(frozen=True, slots=True)
class Meeting:
    """The neighbours that prepared, as this device met them.

    Attributes:
        mask_keys: place -> public mask key.
        pairs: shares held of them.
        masked_with: bitmap over all neighbours: those that prepared.
        without_shares: bitmap over all neighbours: those that prepared and whose pair did not open.
    """

    mask_keys: dict[int, bytes] = field(repr=False)
    pairs: tuple[HeldPair, ...] = field(repr=False)
    masked_with: bytes
    without_shares: bytes


def _require_start(request: TrainRequest, plan: RoundPlan) -> None:
    """Return if a TRAIN brings exactly the numbers that its plan has training begin with; none where the plan names none.

    Raises:
        FederationError: "federation.malformed" for other bytes than the plan names; "federation.invalid_update" if a number of them
            is not finite: training would begin with it all the same, and the sum would be lost to everybody.
    """
    if plan.start is None:
        if request.start:
            raise malformed("The plan names no numbers to begin with")
        return
    # Other bytes: only the planner says where training begins. Whoever only carries messages could else choose it for each device.
    if len(request.start) != 4 * plan.length or hashlib.sha256(request.start).hexdigest() != plan.start:
        raise malformed("The numbers to begin with are not those that the plan names")
    if not np.isfinite(np.frombuffer(request.start, "<f4")).all():
        raise FederationError("federation.invalid_update", "A number that training is to begin with is not finite.")


def meet(state: RoundState, request: TrainRequest, keys: DeviceKeys) -> Meeting:
    """Return the neighbours of a TRAIN, each announcement checked.

    Raises:
        FederationError: first, "federation.malformed" for other numbers to begin with than the plan names,
            "federation.invalid_update" if one of them is not finite.
        TrustError: "trust.bad_signature" if the server shows a key that the neighbour did not sign.
        FederationError: "federation.not_a_member" for somebody who is no neighbour; "federation.cohort_too_small" if fewer than
            the threshold are left; "federation.wrong_step" after an update; "federation.malformed" if two show the same key, or one
            of low order.
    """
    # After UNMASK the answer to TRAIN is forgotten, and with it what would refuse another one.
    if not state.mask_key:
        raise wrong_step("This device has sent its update")
    signed = state.signed
    _require_start(request, signed.plan)
    known = {peer.place: peer.device_key for peer in state.peers}
    if any(advert.place not in known for advert in request.adverts):
        raise FederationError("federation.not_a_member", "The server shows somebody who is no neighbour of this device.")
    if len(request.adverts) < signed.plan.threshold:
        raise FederationError("federation.cohort_too_small", f"Only {len(request.adverts)} neighbours prepared.")
    # Copied keys: the masks towards a neighbour at a higher place and one at a lower place that shows its key would cancel, and
    # with each accomplice beside it a device would lose the mask of an honest neighbour as well.
    if len({advert.mask_key for advert in request.adverts}) < len(request.adverts):
        raise malformed("Two neighbours show the same mask key")
    mask_keys, pairs, missing = {}, [], set()
    for advert in request.adverts:
        # Swapped keys: with a key of its own in a neighbour's place the server would know the mask.
        require_advert(advert, known[advert.place], signed.digest)
        mask_keys[advert.place] = advert.mask_key
        try:
            pair = open_pair(advert.sealed, keys.exchange, plan=signed.digest, sender=advert.place, receiver=state.place)
        except FederationError:
            # Said to the server, not a reason to stop: else one hostile device would end the round of all its neighbours.
            missing.add(advert.place)
        else:
            pairs.append(HeldPair(advert.place, pair.mask_key.to_bytes(), pair.self_seed.to_bytes()))
    masked_with, without = (pack_bits([peer.place in those for peer in state.peers]) for those in (mask_keys.keys(), missing))
    return Meeting(mask_keys, tuple(pairs), masked_with, without)


def mask_update(
    state: RoundState, request: TrainRequest, meeting: Meeting, contribution: Contribution, keys: DeviceKeys, randomness: Randomness
) -> RoundState:
    """Return the state with the answer to TRAIN: clipped, quantised, noised, masked.

    Raises:
        FederationError: "federation.invalid_update".
    """
    signed = state.signed
    plan, context = signed.plan, signed.digest
    values = quantise(to_row(contribution, plan), plan.scale, randomness)
    if plan.noise_variance:
        values = values + discrete_gaussian(plan.noise_variance, plan.size, randomness)
    seeds = {place: pairwise_seed(state.mask_key, key, context) for place, key in meeting.mask_keys.items()}
    vector = add_masks(to_ring(values), index=state.place, self_seed=state.self_seed, pair_seeds=seeds, context=context)
    answer = MaskedUpdate(state.place, meeting.masked_with, meeting.without_shares, vector).signed(keys.device, context)
    given = (*state.given, (Action.TRAIN.value, Given(_digest(request.to_bytes()), answer.to_bytes())))
    # The own secrets have done their work: neighbours hold shares of them, and nobody asks this device for them again.
    return replace(state, mask_key=b"", self_seed=b"", pairs=meeting.pairs, masked_with=meeting.masked_with, given=given)


def confirm(state: RoundState, request: ConfirmRequest, keys: DeviceKeys) -> RoundState:
    """Return the state with the answer to CONFIRM.

    Raises:
        FederationError: "federation.not_a_member" if this device is not in the committee; "federation.wrong_step" if it counts as
            a survivor without having answered; "federation.cohort_too_small"; "federation.malformed".
    """
    signed = state.signed
    topology = state.topology
    if state.place not in topology.committee:
        raise FederationError("federation.not_a_member", "This device is not in the committee of the round.")
    survivors = unpack_bits(request.survivors, signed.plan.cohort_size)
    if survivors[state.place] and state.find_given(Action.TRAIN.value) is None:
        raise wrong_step("The server counts this device as a survivor; it has sent no update")
    topology.require_summable(survivors)
    # Who has sent no update was shown nobody, and has nothing to compare the list with.
    if state.masked_with:
        topology.require_masked_edges(state.place, unpack_bits(state.masked_with, len(state.peers)), survivors)
    answer = Confirmed(state.place).signed(keys.device, signed.digest, request.survivors)
    given = Given(_digest(request.to_bytes()), answer.to_bytes())
    return replace(state, confirmed=request.survivors, given=(*state.given, (Action.CONFIRM.value, given)))


def reveal(state: RoundState, request: UnmaskRequest, keys: DeviceKeys) -> RoundState:
    """Return the state with the answer to UNMASK, and without any share: what was not revealed never will be.

    Raises:
        FederationError: "federation.no_quorum", "federation.wrong_step", "federation.not_a_member"; "federation.cohort_too_small",
            also if a survivor lacks the mask of a neighbour that is counted as one; "federation.malformed".
        TrustError: "trust.bad_signature" for a forged confirmation or statement.
    """
    signed = state.signed
    plan, topology = signed.plan, state.topology
    survivors = unpack_bits(request.survivors, plan.cohort_size)
    if state.find_given(Action.TRAIN.value) is None or not survivors[state.place]:
        raise wrong_step("Only a device whose update is in the sum unmasks")
    # Two lists: whoever tells some that a device survived and others that it dropped out collects both of its secrets.
    if state.confirmed and state.confirmed != request.survivors:
        raise FederationError("federation.no_quorum", "The list of survivors is not the one that this device confirmed.")
    _require_quorum(replace(request, statements=()), signed, topology.committee)
    topology.require_summable(survivors)
    topology.require_masked_edges(state.place, unpack_bits(state.masked_with, len(state.peers)), survivors)
    _require_masked_neighbours(request, state, signed, survivors)
    held = {pair.place: pair for pair in state.pairs}
    shares = tuple(pair.self_seed if survivors[pair.place] else pair.mask_key for pair in state.pairs)
    holders = pack_bits([peer.place in held for peer in state.peers])
    answer = Revealed(state.place, holders, shares).signed(keys.device, signed.digest)
    given = Given(_digest(request.to_bytes()), answer.to_bytes())
    # The masked update is in the sum: the server has it.
    kept = tuple((step, item) for step, item in state.given if step != Action.TRAIN.value)
    return replace(state, pairs=(), given=(*kept, (Action.UNMASK.value, given)))


def _require_masked_neighbours(request: UnmaskRequest, state: RoundState, signed: SignedPlan, survivors: NDArray[np.bool_]) -> None:
    """Return if each neighbour whose seed is asked for signed that it masked with all of its own neighbours that survived."""
    topology, alive = state.topology, {peer.place: peer.device_key for peer in state.peers if survivors[peer.place]}
    if [statement.place for statement in request.statements] != list(alive):
        raise malformed("The statements are not those of the neighbours that survived")
    for statement in request.statements:
        require_masked(statement, alive[statement.place], signed.digest)
        masked_with = unpack_bits(statement.masked_with, signed.plan.neighbours)
        topology.require_masked_edges(statement.place, masked_with, survivors)


def given_before(state: RoundState | None, action: Action, request: bytes) -> bytes | None:
    """Return the answer given to exactly this request, or None if the step is still to be answered.

    Raises:
        FederationError: "federation.wrong_step", or "federation.already_revealed", if another request was answered in this step.
    """
    given = None if state is None else state.find_given(action.value)
    if given is None:
        return None
    if given.question == _digest(request):
        return given.answer
    if action is Action.UNMASK:
        raise FederationError("federation.already_revealed", "This device has answered the unmasking of this round.")
    raise wrong_step("This step was answered, to another request")


def resume(
    state: RoundState | None, action: Action, plan: bytes, request: bytes, policy: FederationPolicy, now: datetime
) -> tuple[RoundState, bytes | None]:
    """Return the state of the round that a request is of, and the answer if it was answered before.

    Args:
        state: what the device keeps of a round in progress.
        action: the step; every one after PREPARE.
        plan: digest that the request names.
        request: all of it.
        policy: of the federation that the device is in.
        now: the time.

    Raises:
        FederationError: "federation.unknown_round"; as `require_current`, and as `given_before`.
    """
    if state is None or state.signed.digest != plan:
        raise FederationError("federation.unknown_round", "This device is not in the round that the message is of.")
    if state.signed.plan.federation != policy.name:
        raise FederationError("federation.unknown_round", "The round in progress is of another federation.")
    require_current(state.signed.plan, now)
    return state, given_before(state, action, request)


# The last success is remembered: the answer depends on nothing but the arguments, and a simulator asks for every device. The
# statements, which differ from one device to the next, are left out before.
@lru_cache(maxsize=1)
def _require_quorum(request: UnmaskRequest, signed: SignedPlan, committee: tuple[int, ...]) -> None:
    plan, cohort = signed.plan, _open_cohort(request.cohort, signed)
    head = RosterHead(plan.federation, plan.roster_size, bytes.fromhex(plan.roster_root))
    members = set(committee)
    if len(request.confirmations) < plan.quorum:
        raise FederationError("federation.no_quorum", f"{len(request.confirmations)} confirmed; {plan.quorum} have to.")
    entries = request.excerpt.require_in(head)
    for place, signature in request.confirmations:
        if place not in members or cohort.indices[place] not in entries:
            raise FederationError("federation.no_quorum", "A confirmation is by somebody outside the committee.")
        key = entries[cohort.indices[place]].device_key
        Confirmed(place, signature).require_signed(key, signed.digest, request.survivors)


def _open_cohort(data: bytes, signed: SignedPlan) -> Cohort:
    cohort = Cohort.parse(data)
    if (len(cohort), cohort.digest) != (signed.plan.cohort_size, signed.plan.cohort_digest) or (
        cohort.indices[-1] >= signed.plan.roster_size
    ):
        raise FederationError("federation.not_a_member", "The cohort shown is not the one of the plan.")
    return cohort


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
