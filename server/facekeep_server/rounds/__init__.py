"""Rounds on the server: planning, the state machine, its checkpoints, and what is opened at the end. No IO."""

from facekeep_server.rounds.checkpoint import restore_round, save_round
from facekeep_server.rounds.planning import Wish, plan_round
from facekeep_server.rounds.report import GroupOutcome, RoundReport
from facekeep_server.rounds.round import Outgoing, Phase, Round, Verdict
from facekeep_server.rounds.updates import MaskedUpdates, UpdatesInMemory

__all__ = [
    "GroupOutcome",
    "MaskedUpdates",
    "Outgoing",
    "Phase",
    "Round",
    "RoundReport",
    "UpdatesInMemory",
    "Verdict",
    "Wish",
    "plan_round",
    "restore_round",
    "save_round",
]
