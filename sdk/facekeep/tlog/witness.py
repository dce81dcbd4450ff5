"""The witness: cosigns a checkpoint only if it continues the last one it saw of that log.

The pure half of https://c2sp.org/tlog-witness add-checkpoint. An adapter holds the state and calls, under one lock:
`parse_request`, `consider` with the last head on record, stores the head it returns durably, and only then `answer`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from facekeep.errors import LogError, TrustError
from facekeep.merkle import EMPTY_ROOT
from facekeep.note import Checkpoint
from facekeep.signing import DeviceKey
from facekeep.tlog.cosignature import cosign, verify_cosignature, verify_signature_line
from facekeep.tlog.keys import NoteKey, NoteKind
from facekeep.tlog.notes import LARGEST_NOTE_BYTES, SignatureLine, SignedNote
from facekeep.tlog.numbers import malformed, parse_decimal, parse_hash, to_base64
from facekeep.tlog.proofs import verify_consistency

LARGEST_REQUEST_BYTES: Final = LARGEST_NOTE_BYTES + 4_096
MOST_HASHES: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request, not yet checked.

    Attributes:
        old: size of the checkpoint the proof starts from.
        proof: consistency proof.
        note: the checkpoint and its signatures.
        checkpoint: origin, size and root of it.
    """

    old: int
    proof: tuple[bytes, ...]
    note: SignedNote
    checkpoint: Checkpoint

    def to_bytes(self) -> bytes:
        """Return the request body."""
        return format_request(self.old, self.proof, self.note.to_text())


@dataclass(frozen=True, slots=True)
class WitnessedHead:
    """What a witness remembers of a log.

    Attributes:
        size: entries of the last checkpoint it cosigned.
        root: its root.
        seconds: time of that cosignature, POSIX.
        note: that checkpoint with the log's signature: evidence, should the log ever show another.
    """

    size: int = 0
    root: bytes = EMPTY_ROOT
    seconds: int = 0
    note: str = ""


class WitnessRefusal(Exception):  # noqa: N818 - an answer of the protocol, not an error of ours
    """A checkpoint was not cosigned.

    Attributes:
        status: HTTP status that the specification demands.
        body: answer, text.
        content_type: of the answer.
        evidence: both signed notes where the log showed two trees of one size, else empty.
    """

    def __init__(
        self, status: int, body: str, content_type: str = "text/plain; charset=utf-8", evidence: Sequence[str] = ()
    ) -> None:
        super().__init__(body)
        self.status = status
        self.body = body
        self.content_type = content_type
        self.evidence = tuple(evidence)


def format_request(old: int, proof: Sequence[bytes], note: str) -> bytes:
    """Return the body of an add-checkpoint request."""
    return "\n".join([f"old {old}", *map(to_base64, proof), "", note]).encode()


def parse_request(data: bytes) -> AddCheckpoint:
    """Return the request of its body.

    Raises:
        WitnessRefusal: 400.
    """
    try:
        if len(data) > LARGEST_REQUEST_BYTES:
            raise malformed(f"A request has at most {LARGEST_REQUEST_BYTES} bytes")
        head, separator, rest = data.partition(b"\n\n")
        if not separator or not head.isascii():
            raise malformed("A request is an old size, hashes, an empty line and a checkpoint")
        lines = head.decode("ascii").split("\n")
        if not lines[0].startswith("old ") or len(lines) > 1 + MOST_HASHES:
            raise malformed("A request begins with an old size and has at most 63 hashes")
        old = parse_decimal(lines[0][4:], "An old size")
        proof = tuple(parse_hash(line) for line in lines[1:])
        note = SignedNote.parse(rest)
        checkpoint = Checkpoint.parse(note.text)
        if any(not line for line in note.text[:-1].split("\n")):
            raise malformed("A checkpoint has no empty line")
    except (LogError, TrustError) as error:
        raise WitnessRefusal(400, f"{error.args[0]}\n") from None
    return AddCheckpoint(old, proof, note, checkpoint)


def consider(request: AddCheckpoint, logs: Mapping[str, Sequence[NoteKey]], last: WitnessedHead, now: datetime) -> WitnessedHead:
    """Return the head to store, durably, before the request is answered.

    Args:
        request: what was asked.
        logs: origin -> keys the witness trusts for it.
        last: what it remembers of the request's origin; `WitnessedHead()` if nothing.
        now: the time.

    Raises:
        WitnessRefusal: 404 unknown log, 403 no valid signature, 400 old size beyond the checkpoint, 409 other size on record or
            another tree of the same size, 422 the proof does not verify.
    """
    checkpoint, note = request.checkpoint, request.note
    keys = logs.get(checkpoint.origin)
    if not keys:
        raise WitnessRefusal(404, "The log is not one this witness follows.\n")
    signatures = [(line, key) for line in note.signatures for key in keys if line.is_by(key)]
    try:
        for line, key in signatures:
            verify_signature_line(note.text, line, key)
    except LogError as error:
        raise WitnessRefusal(403, f"{error.args[0]}\n") from None
    if not signatures:
        raise WitnessRefusal(403, "The checkpoint carries no signature by a key this witness trusts for its log.\n")
    if request.old > checkpoint.size:
        raise WitnessRefusal(400, "The old size is larger than the checkpoint.\n")
    if request.old != last.size:
        raise WitnessRefusal(409, f"{last.size}\n", SIZE_TYPE)
    # Only what was verified is kept: other lines of the note are whatever the sender chose.
    kept = SignedNote(note.text, tuple(line for line, _ in signatures)).to_text()
    if checkpoint.size == last.size and not hmac.compare_digest(checkpoint.root, last.root):
        evidence = (last.note, kept) if last.note else ()
        raise WitnessRefusal(409, f"{last.size}\n", SIZE_TYPE, evidence)
    try:
        verify_consistency(last.size, checkpoint.size, request.proof, last.root, checkpoint.root)
    except LogError as error:
        raise WitnessRefusal(422, f"{error.args[0]}\n") from None
    # A clock set back must not date this statement before an earlier one.
    seconds = max(int(now.astimezone(UTC).timestamp()), last.seconds)
    return WitnessedHead(checkpoint.size, checkpoint.root, seconds, kept)


def answer(request: AddCheckpoint, stored: WitnessedHead, name: str, key: DeviceKey) -> str:
    """Return the signature line that answers a request whose head has been stored."""
    return cosign(request.note.text, name, key, stored.seconds).to_text()


def parse_answer(body: bytes, text: str, key: NoteKey) -> SignatureLine:
    """Return the cosignature by `key` on the checkpoint body `text` in a witness's answer; lines by others are ignored.

    Raises:
        LogError: "log.malformed", or "log.bad_signature" if there is none that verifies.
    """
    if len(body) > LARGEST_REQUEST_BYTES:
        raise malformed("The answer of a witness is a few lines")
    try:
        lines = body.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise malformed("The answer of a witness is UTF-8") from None
    for line in map(SignatureLine.parse, lines):
        if line.is_by(key):
            verify_cosignature(text, line, key)
            return line
    raise LogError("log.bad_signature", "The answer carries no cosignature by the witness asked.")


def witness_vkey(name: str, public_key: bytes) -> str:
    """Return the `vkey` by which others name this witness."""
    return NoteKey(name, NoteKind.COSIGNATURE, public_key).to_vkey()
