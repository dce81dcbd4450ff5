"""A witness asked for its cosignature: over HTTP, by a log for itself or by a device that will not wait for the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from facekeep.errors import LogError
from facekeep.submission.exchange import exchange, require_address
from facekeep.tlog import NoteKey
from facekeep.tlog.notes import SignatureLine
from facekeep.tlog.numbers import parse_decimal
from facekeep.tlog.witness import LARGEST_REQUEST_BYTES, SIZE_TYPE, format_request, parse_answer

# It says where it stands if that is not where we thought; once more, for another may have been faster in between.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class WitnessAnswer:
    """What a witness said.

    Attributes:
        line: its cosignature, verified, or None.
        outcome: "ok", or why there is none: "log.unreachable", "log.malformed", "log.bad_signature", "log.refused"; "log.stale"
            where it has cosigned a longer log already; "log.fork" where it has cosigned another log of this length.
        size: entries of the checkpoint it cosigned last, as far as it said so.
    """

    line: SignatureLine | None
    outcome: str
    size: int


def ask_witness(
    url: str,
    witness: NoteKey,
    note: str,
    size: int,
    text: str,
    consistency: Callable[[int, int], Sequence[bytes]],
    *,
    old: int,
    timeout_seconds: float,
) -> WitnessAnswer:
    """Return a witness's answer to add-checkpoint (https://c2sp.org/tlog-witness). Nothing is raised for what it says.

    Args:
        url: its submission prefix.
        witness: its key.
        note: the signed checkpoint.
        size: entries of it.
        text: body of the note.
        consistency: proof from a smaller size to this one.
        old: size it is believed to have cosigned last.
        timeout_seconds: for each request.
    """
    try:
        address = require_address(url)
        for _ in range(_ATTEMPTS):
            request = format_request(old, consistency(old, size), note)
            headers = {"Content-Type": "text/plain; charset=utf-8"}
            answer = exchange(
                "POST",
                f"{address}/add-checkpoint",
                headers,
                request,
                limit=LARGEST_REQUEST_BYTES,
                timeout_seconds=timeout_seconds,
            )
            if answer.status == 200:
                return WitnessAnswer(parse_answer(answer.body, text, witness), "ok", size)
            if answer.status != 409 or answer.headers.get("content-type", "") != SIZE_TYPE:
                return WitnessAnswer(None, "log.refused", old)
            stands = parse_decimal(answer.body.decode("ascii", "replace").removesuffix("\n"), "A size")
            if stands > size:
                return WitnessAnswer(None, "log.stale", stands)
            if stands == old:
                # It agrees on the size we started from and refuses all the same: the same size with another root.
                return WitnessAnswer(None, "log.fork" if stands == size else "log.refused", stands)
            old = stands
    except LogError as error:
        return WitnessAnswer(None, error.code, 0)
    return WitnessAnswer(None, "log.refused", old)
