"""A log server, asked by a device: every request signed anew, tried again where that can help. Verifies nothing of what it says."""

from __future__ import annotations

import base64
import json
from typing import Final
from urllib.parse import urlencode

from facekeep.audit.entry import LARGEST_BATCH, TrailBatch, device_id
from facekeep.clock import Clock
from facekeep.consent.revocation import LARGEST_LIST_BYTES
from facekeep.errors import LogError
from facekeep.message_signatures import sign_request
from facekeep.randomness import Randomness
from facekeep.signing import DeviceKey
from facekeep.submission.answers import LineProof, SubmissionAnswer, parse_enrolment, parse_path, parse_problem, parse_submission
from facekeep.submission.cosigning import ask_witness
from facekeep.submission.exchange import Answer, Patience, exchange, require_address
from facekeep.tlog import NoteKey
from facekeep.tlog.notes import LARGEST_NOTE_BYTES, SignatureLine

_SMALL: Final = 256 * 1024
# Every line of the largest batch with the longest path there can be, and room for names and white space.
_LARGEST_ANSWER: Final = (LARGEST_BATCH + 1) * 64 * 64 + _SMALL
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_ADVICE: Final = {
    "request.clock_off": "Set the device's clock.",
    "request.unauthenticated": "Is the device enrolled there, under exactly this address?",
    "device.invalid_code": "Ask the operator for a new enrolment code.",
    "device.key_in_use": "The key is enrolled already.",
    "device.revoked": "The operator has revoked this device.",
    "submission.equivocation": "The log holds other entries of this device: two devices have one key, or one was set back.",
}


class LogRefusal(LogError):  # noqa: N818 - an answer of the server
    """The server refused what it was sent.

    Attributes:
        reason: its code (docs/formats/server-api.md), or "".
        expected: number of the entry of the trail that it expects next, where it says so.
    """

    def __init__(self, reason: str, expected: int | None = None) -> None:
        super().__init__(
            "log.refused", f"The log server refused: {reason or 'no reason given'}. {_ADVICE.get(reason, '')}".rstrip()
        )
        self.reason, self.expected = reason, expected

    def __reduce__(self) -> tuple[type[LogRefusal], tuple[str, int | None]]:  # type: ignore[override]
        return type(self), (self.reason, self.expected)


class LogServer:
    """A server at its address.

    Args:
        url: exactly the public address it is configured with: the signature covers it.
        key: the device's.
        clock: dates the signatures.
        randomness: for nonces and for the length of pauses.
        patience: how long to try.

    Raises:
        LogError: "log.unreachable" if the address is not permitted.
    """

    def __init__(self, url: str, key: DeviceKey, clock: Clock, randomness: Randomness, patience: Patience | None = None) -> None:
        self._url = require_address(url)
        self._key, self._clock, self._randomness = key, clock, randomness
        self._patience = patience or Patience()

    def enrol(self, code: str) -> tuple[str, LineProof, str]:
        """Enrol by a one-time code; return the device's name, the proof of its first line, and the checkpoint.

        Asked again with the same code by the same device it is the same answer.

        Raises:
            LogRefusal, LogError: "log.unreachable", "log.malformed".
        """
        key = base64.b64encode(self._key.public_bytes).decode()
        content = json.dumps({"code": code, "public_key": key}).encode()
        return parse_enrolment(self._ask("POST", "/v1/devices", content, "application/json", _SMALL).body)

    def submit(self, batch: TrailBatch) -> SubmissionAnswer:
        """Hand in a batch; sent again, whole or with more behind it, nothing is doubled.

        Raises:
            LogRefusal, LogError: "log.unreachable", "log.malformed".
        """
        answer = self._ask("POST", "/v1/trail", batch.to_bytes(), "application/x-ndjson", _LARGEST_ANSWER)
        return parse_submission(answer.body)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return what the server says proves that `new` entries continue `old`.

        Raises:
            LogRefusal, LogError: "log.unreachable", "log.malformed".
        """
        return parse_path(self._ask("GET", f"/v1/log/consistency?old={old}&new={new}", b"", None, _SMALL).body)

    def inclusion(self, number: int, size: int) -> tuple[bytes, ...]:
        """Return what the server says proves that line `number` is in the tree of the first `size` lines.

        Raises:
            LogRefusal, LogError: "log.unreachable", "log.malformed".
        """
        return parse_path(self._ask("GET", f"/v1/log/inclusion?number={number}&size={size}", b"", None, _SMALL).body)

    def revocations(self, issuer: str, after: int) -> bytes | None:
        """Return the newest revocation list of an issuer, as it was signed; None if there is none newer than epoch `after`.

        Raises:
            LogRefusal, LogError: "log.unreachable", "log.malformed".
        """
        target = f"/v1/revocations?{urlencode({'issuer': issuer, 'after': after})}"
        try:
            answer = self._ask("GET", target, b"", None, LARGEST_LIST_BYTES)
        except LogRefusal as refusal:
            # Nobody has withdrawn anything yet that others would have to hear of.
            if refusal.reason == "revocation.none":
                return None
            raise
        return None if answer.status == 204 else answer.body

    def checkpoint(self) -> bytes:
        """Return the newest checkpoint, a signed note.

        Raises:
            LogRefusal, LogError: "log.unreachable", "log.malformed".
        """
        return self._ask("GET", "/log/checkpoint", b"", None, LARGEST_NOTE_BYTES).body

    def ask_witness(self, url: str, witness: NoteKey, note: str, size: int, text: str) -> SignatureLine | None:
        """Return a witness's cosignature on a checkpoint, or None where it gives none now.

        Args:
            url: its submission prefix (https://c2sp.org/tlog-witness).
            witness: its key.
            note: the signed checkpoint.
            size: entries of it.
            text: body of the note.
        """
        # A witness that is away or says nonsense does not count; whether enough others do is for the policy to say.
        return ask_witness(
            url, witness, note, size, text, self.consistency, old=size, timeout_seconds=self._patience.timeout_seconds
        ).line

    def _ask(self, method: str, target: str, content: bytes, media_type: str | None, limit: int) -> Answer:
        patience, pause = self._patience, self._patience.first_seconds
        for left in reversed(range(patience.attempts)):
            # Signed anew each time: a request that was seen before is a replay.
            headers = sign_request(
                self._key,
                device_id(self._key.public_bytes),
                method,
                self._url + target,
                content,
                self._clock.now(),
                self._randomness,
            )
            if media_type is not None:
                headers["Content-Type"] = media_type
            asked = 0.0
            try:
                answer = exchange(
                    method, self._url + target, headers, content, limit=limit, timeout_seconds=patience.timeout_seconds
                )
                if 200 <= answer.status < 300:
                    return answer
                if answer.status not in _AGAIN or not left:
                    problem = parse_problem(answer.body)
                    raise LogRefusal(problem.reason, problem.expected)
                asked = _retry_after(answer)
            except LogRefusal:
                raise
            except LogError as error:
                if error.code != "log.unreachable" or not left:
                    raise
            # Devices that lost the server together must not come back together.
            jitter = 0.5 + self._randomness.token(1)[0] / 510
            patience.sleep(min(max(pause * jitter, asked), patience.longest_seconds))
            pause = min(2 * pause, patience.longest_seconds)
        raise AssertionError("the last attempt returns or raises")


def _retry_after(answer: Answer) -> float:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0
