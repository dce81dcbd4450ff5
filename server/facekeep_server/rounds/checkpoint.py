"""A round as bytes, and back: what a server writes after every step, so that a crash at any point changes nothing.

The bytes hold no secret of a device: announcements, sealed shares, sums of masked vectors, revealed shares.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import numpy as np

from facekeep.errors import CODES, FederationError
from facekeep.protocol import Cohort, Roster, SignedPlan, pack_bits, unpack_bits
from facekeep.protocol.codec import Reader, Writer, malformed
from facekeep.protocol.cohort import MOST_BITMAP_BYTES, MOST_COHORT_BYTES
from facekeep.protocol.plan import MOST_COHORT
from facekeep.tlog import NoteKey
from facekeep.tlog.notes import LARGEST_NOTE_BYTES
from facekeep_server.rounds.members import Member
from facekeep_server.rounds.round import Phase, Round

_KIND = 0x71
_MOST_BYTES = 1 << 31
_RUNNING = (Phase.PREPARE, Phase.TRAIN, Phase.CONFIRM, Phase.UNMASK)


def save_round(running: Round) -> bytes:
    """Return the bytes of a round that runs.

    Raises:
        ValueError: if it has ended: then its report is what is left.
    """
    if running.phase not in _RUNNING:
        raise ValueError("a round that has ended has no checkpoint")
    writer = Writer(_KIND).sized(running.signed.note.encode()).sized(running.roster_note.encode())
    writer.sized(running.cohort.to_bytes()).number(_RUNNING.index(running.phase), 1)
    writer.sized(pack_bits(running.takes_part)).sized(pack_bits(running.survivors))
    writer.sized(running.sums.astype("<u4").tobytes())
    for member in running.members:
        member.write(writer)
    writer.number(len(running.suspects), 4)
    for place in sorted(running.suspects):
        writer.number(place, 4)
    writer.number(len(running.refusals), 2)
    for code, count in sorted(running.refusals.items()):
        writer.sized(code.encode()).number(count, 4)
    body = writer.to_bytes()
    # A file cut short by a full disk must not pass for an earlier state.
    return body + hashlib.sha256(body).digest()


def restore_round(data: bytes, roster: Roster, planners: Sequence[NoteKey], **options: Any) -> Round:
    """Return the round of a checkpoint, ready to send and receive.

    Args:
        data: what `save_round` wrote.
        roster: the roster of the plan.
        planners: keys of which one signed the plan.
        options: start, updates, record, threads, as for `Round.begin`.

    Raises:
        FederationError: "federation.malformed" if it was cut or changed; "federation.not_a_member" for another roster.
        TrustError: as `SignedPlan.open`.
    """
    body, digest = data[:-32], data[-32:]
    if not hmac.compare_digest(hashlib.sha256(body).digest(), digest):
        raise FederationError("federation.malformed", "The checkpoint of the round is cut short or was changed.")
    reader = Reader(body, _KIND, _MOST_BYTES)
    signed = SignedPlan.open(reader.text(LARGEST_NOTE_BYTES), planners)
    roster_note, cohort = reader.text(LARGEST_NOTE_BYTES), Cohort.parse(reader.sized(MOST_COHORT_BYTES))
    running = Round(signed, roster_note, roster, cohort, **options)
    phase = _RUNNING[reader.number(1, len(_RUNNING) - 1)]
    running.takes_part = unpack_bits(reader.sized(MOST_BITMAP_BYTES), len(cohort))
    running.survivors = unpack_bits(reader.sized(MOST_BITMAP_BYTES), len(cohort))
    sums = np.frombuffer(reader.sized(4 * running.sums.size), "<u4")
    if sums.size != running.sums.size:
        raise malformed("The sums of the checkpoint have another size")
    running.sums = sums.reshape(running.sums.shape).astype(np.uint32)
    running.members = [Member.read(reader) for _ in range(len(cohort))]
    running.suspects = {reader.number(4, MOST_COHORT) for _ in range(reader.number(4, MOST_COHORT))}
    for _ in range(reader.number(2, len(CODES))):
        code = reader.text(64)
        running.refusals[code] = reader.number(4, (1 << 32) - 1)
    reader.end()
    running.enter(phase)
    return running
