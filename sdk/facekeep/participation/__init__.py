"""A device in a federated round: its steps, its state between them, its budget. Pure: `facekeep.flows.participate` stores."""

from facekeep.participation.budget import Ledger
from facekeep.participation.contribution import Contribution, to_row
from facekeep.participation.state import RoundState
from facekeep.participation.steps import (
    DeviceKeys,
    Meeting,
    confirm,
    given_before,
    introduce,
    mask_update,
    meet,
    open_request,
    prepare,
    resume,
    reveal,
)

__all__ = [
    "Contribution",
    "DeviceKeys",
    "Ledger",
    "Meeting",
    "RoundState",
    "confirm",
    "given_before",
    "introduce",
    "mask_update",
    "meet",
    "open_request",
    "prepare",
    "resume",
    "reveal",
    "to_row",
]
