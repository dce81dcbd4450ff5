"""The end of each step: who goes on, or why the round is aborted. Nothing is opened before the last of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from facekeep.errors import FederationError
from facekeep.privacy.sharing import Share
from facekeep.protocol import Action, unpack_bits
from facekeep_server.rounds.opening import mean_of, open_group, recover_secrets
from facekeep_server.rounds.report import GroupOutcome

if TYPE_CHECKING:
    from facekeep_server.rounds.round import Round


def close_prepare(running: Round) -> str | None:
    """Fix who takes part, and return None, or the code of what ends the round."""
    prepared = np.array([member.announced is not None for member in running.members])
    running.takes_part = running.topology.summable(prepared)
    return None if running.takes_part.any() else "federation.cohort_too_small"


def close_train(running: Round) -> str | None:
    """Fix who survived, and return None, or the code of what ends the round."""
    masked = np.array([member.masked is not None for member in running.members])
    running.survivors = running.topology.summable(masked)
    for place in np.flatnonzero(masked & ~running.survivors).tolist():
        vector = running.updates.get(place)
        # A masked update that cannot be taken out of the sum again would leave its masks there.
        if vector is None:
            return "federation.aborted"
        running.sums[running.topology.group_of[place]] -= vector
    for member in running.members:
        member.sealed = b""
    if not running.survivors.any():
        return "federation.cohort_too_small"
    # Known now, before anybody reveals: a device whose shares too few hold can neither be counted nor be left out.
    threshold = running.signed.plan.threshold
    short = [place for place, held in holders(running).items() if len(held) < threshold]
    peers = running.topology.table
    running.suspects |= {place for place in short if int(running.survivors[peers[place]].sum()) >= threshold}
    return "federation.aborted" if short else None


def close_confirm(running: Round) -> str | None:
    """Return None if a quorum confirmed the survivors, else the code of what ends the round."""
    confirmed = sum(bool(running.members[place].confirmation) for place in running.topology.committee)
    return None if confirmed >= running.signed.plan.quorum else "federation.no_quorum"


def close_unmask(running: Round) -> str | None:
    """Open the sums of the groups, and return None, or the code of what ends the round."""
    signed, survivors = running.signed, running.survivors
    announced = {place: item.announced for place, item in enumerate(running.members) if item.announced is not None}
    announced = {place: item for place, item in announced.items() if running.takes_part[place]}
    try:
        secrets = recover_secrets(signed, survivors, announced, _revealed(running))
    except FederationError as error:
        return error.code
    running.suspects |= secrets.false_shares | secrets.false_dealers
    # A secret that is not the one announced would leave a mask in the sum: a wrong model.
    if secrets.false_dealers:
        return "federation.aborted"
    groups: list[GroupOutcome] = []
    total = np.zeros(signed.plan.size, dtype=np.int64)
    for number, members in enumerate(running.topology.groups):
        if survivors[members].any():
            opened, outcome = open_group(
                signed, running.topology, members, running.sums[number], survivors, announced, secrets, threads=running.threads
            )
            groups.append(outcome)
            if outcome.is_counted:
                total += opened
            else:
                # Somebody in it sent what no honest device sends; masking does not say who, so nobody of it is a suspect.
                running.doubtful |= {int(place) for place in members if survivors[place]}
    running.groups = tuple(groups)
    running.contributors = sum(outcome.survivors for outcome in groups if outcome.is_counted)
    if not running.contributors:
        return "federation.invalid_update"
    running.update, running.extras = mean_of(signed.plan, total, running.contributors)
    return None


def holders(running: Round) -> dict[int, list[int]]:
    """Return, for each device whose secret is needed, the survivors that hold a share of it."""
    count = running.signed.plan.neighbours
    found: dict[int, list[int]] = {place: [] for place in np.flatnonzero(running.survivors).tolist()}
    for place in list(found):
        held = running.members[place].held(count)
        for slot, peer in enumerate(running.topology.neighbours(place)):
            if running.takes_part[peer]:
                those = found.setdefault(peer, [])
                if held[slot]:
                    those.append(place)
    return found


def _revealed(running: Round) -> dict[int, list[Share]]:
    shares: dict[int, list[Share]] = {place: [] for place in holders(running)}
    for place in np.flatnonzero(running.survivors).tolist():
        member = running.members[place]
        if member.holders is not None:
            peers = running.topology.table[place][unpack_bits(member.holders, running.signed.plan.neighbours)]
            for number, peer in enumerate(peers.tolist()):
                shares[peer].append(member.share(number, place + 1))
    return shares


CLOSE: Mapping[Action, Callable[[Round], str | None]] = {
    Action.PREPARE: close_prepare,
    Action.TRAIN: close_train,
    Action.CONFIRM: close_confirm,
    Action.UNMASK: close_unmask,
}
