"""The crowd that measures servers: what it answers is what devices answer, and the sum is right."""

from __future__ import annotations

import numpy as np

from facekeep.protocol import Action, Roster
from tests.flows.test_federated_round import completed
from tests.simulators.crowd import Crowd
from tests.simulators.federation import NAME, Fleet


def test_a_crowd_answers_like_a_fleet() -> None:
    fleet, crowd = Fleet(2), Crowd(30, 2)
    fleet.devices = list(crowd.keys)
    fleet.roster = Roster(NAME, [keys.entry for keys in crowd.keys])
    fleet.roster_note = fleet.roster.head.sign(f"{NAME}/authority", fleet.authority)
    signed, cohort = fleet.plan(noise_multiplier=0.0, extras=())
    running = fleet.begin(signed, cohort)
    while not running.has_ended:
        for out in list(running.outbox()):
            if out.action is not Action.TRAIN or out.index % 10 != 3:
                assert running.receive(out.index, out.action, crowd.answer(running, out.action, out.index)).is_accepted
        running.close_step(fleet.clock.now())
    report = completed(running)
    assert (report.survivors, report.suspects) == (27, ())
    assert report.update is not None
    vectors = [crowd.contributions[index](signed.plan, 1).vector for index in range(30) if index % 10 != 3]
    assert np.abs(report.update - np.mean(vectors, axis=0) * min(1.0, signed.plan.update_clip)).max() < 1e-5
