"""A release offered to devices: each verifies it, tests it, adopts it or refuses it, and says which. Nobody is made to.

A device that has the release already, or refused it, says so again; so an offer that was interrupted is simply made again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final

from facekeep.canonical import parse_canonical
from facekeep.clock import Clock
from facekeep.errors import FacekeepError
from facekeep.protocol import Action, Refusal
from facekeep_server.federation.offers import ADOPTED
from facekeep_server.federation.patience import Patience
from facekeep_server.flower.carrier import Carrier, Letter
from facekeep_server.flower.meeting import Meeting

UNREADABLE: Final = "federation.malformed"


def offer(
    bundle: bytes,
    digest: str,
    to: Collection[int],
    carrier: Carrier,
    meeting: Meeting,
    clock: Clock,
    patience: Patience,
    *,
    say: Callable[[str], None],
    keep: Callable[[int, str], None],
) -> None:
    """Offer a release to devices; `keep` is told of each roster index what its device answered: "adopted", or a code.

    Args:
        bundle: the release.
        digest: of it.
        to: roster indices.
        carrier: to the nodes.
        meeting: who is which device.
        clock: tells the time.
        patience: how long.
        say: shows progress.
        keep: told what each device answered.
    """
    meeting.gather(to, clock.now() + timedelta(seconds=patience.meeting_seconds))
    there = {node: index for index, node in meeting.node_of.items() if index in set(to)}
    say(f"release {digest[:12]}: offered to {len(there)} of {len(set(to))} devices")
    letters = [Letter(node, Action.OFFER.value, bundle) for node in there]
    adopted = 0
    for letter, body in carrier.carry(letters, clock.now() + timedelta(seconds=patience.step_seconds)):
        answer = _read(body, digest)
        adopted += answer == ADOPTED
        keep(there[letter.node], answer)
    say(f"release {digest[:12]}: adopted by {adopted} of {len(there)}")


def _read(body: bytes, digest: str) -> str:
    try:
        fields = parse_canonical(body)
        if isinstance(fields, dict) and fields.keys() == {"v", "adopted", "version"}:
            return ADOPTED if fields["adopted"] == digest else UNREADABLE
        return Refusal.parse(body).code
    except (ValueError, FacekeepError):
        return UNREADABLE
