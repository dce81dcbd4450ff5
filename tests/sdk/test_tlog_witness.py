"""The witness's rules, answer by answer as https://c2sp.org/tlog-witness demands them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.merkle import EMPTY_ROOT, leaf_hash, root_of
from facekeep.note import Checkpoint, sign_note
from facekeep.signing import DeviceKey
from facekeep.tlog import NoteKey, NoteKind, SignedNote, make_consistency
from facekeep.tlog.cosignature import verify_cosignature
from facekeep.tlog.notes import SignatureLine
from facekeep.tlog.witness import (
    SIZE_TYPE,
    AddCheckpoint,
    WitnessedHead,
    WitnessRefusal,
    answer,
    consider,
    format_request,
    parse_request,
    witness_vkey,
)

LOG, WITNESS, STRANGER = (DeviceKey(bytes([number]) * 32) for number in (1, 2, 3))
ORIGIN = "log.example/one"
LOGS = {ORIGIN: [NoteKey(ORIGIN, NoteKind.ED25519, LOG.public_bytes)]}
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
LEAVES = [leaf_hash(bytes([number])) for number in range(64)]

# https://c2sp.org/tlog-witness, "Example request body"
C2SP_REQUEST = (
    "old 20852014\n"
    "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n"
    "jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n"
    "5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n"
    "/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n"
    "\n"
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    "\n"
    "— example.com/behind-the-sofa "
    "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— example.com/behind-the-sofa "
    "opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n"
)


class Direct:
    def read(self, level: int, index: int) -> bytes:
        return root_of(LEAVES[index << level : index + 1 << level])


def request(old: int, size: int, *, root: bytes | None = None, key: DeviceKey = LOG, origin: str = ORIGIN) -> AddCheckpoint:
    root = root_of(LEAVES[:size]) if root is None else root
    note = sign_note(Checkpoint(origin, size, root).to_text(), origin, key)
    proof = make_consistency(Direct(), old, size) if old <= size else ()
    return parse_request(format_request(old, proof, note))


def head(size: int) -> WitnessedHead:
    note = sign_note(Checkpoint(ORIGIN, size, root_of(LEAVES[:size])).to_text(), ORIGIN, LOG)
    return WitnessedHead(size, root_of(LEAVES[:size]), 1_000, note)


def refusal(asked: AddCheckpoint, last: WitnessedHead) -> WitnessRefusal:
    with pytest.raises(WitnessRefusal) as caught:
        consider(asked, LOGS, last, NOW)
    return caught.value


def test_the_request_of_the_specification_is_read_and_written_back() -> None:
    asked = parse_request(C2SP_REQUEST.encode())
    assert (asked.old, len(asked.proof), asked.checkpoint.size) == (20852014, 4, 20852163)
    assert asked.to_bytes() == C2SP_REQUEST.encode()


@given(st.integers(0, 64), st.integers(0, 64))
def test_a_checkpoint_that_goes_on_is_cosigned(one: int, two: int) -> None:
    old, new = sorted((one, two))
    asked = request(old, new)
    stored = consider(asked, LOGS, head(old) if old else WitnessedHead(), NOW)
    line = SignatureLine.parse(answer(asked, stored, "w.example", WITNESS).removesuffix("\n"))
    key = NoteKey.parse(witness_vkey("w.example", WITNESS.public_bytes))
    assert verify_cosignature(asked.note.text, line, key).time == NOW
    assert (stored.size, stored.root) == (new, root_of(LEAVES[:new]))


def test_an_unknown_log_is_not_found() -> None:
    assert refusal(request(0, 4, origin="log.example/two"), WitnessedHead()).status == 404


def test_a_signature_by_another_key_is_forbidden() -> None:
    assert refusal(request(0, 4, key=STRANGER), WitnessedHead()).status == 403
    good = request(0, 4)
    line = good.note.signatures[0]
    flipped = SignatureLine(line.name, line.key_id, bytes([line.signature[0] ^ 1]) + line.signature[1:])
    forged = AddCheckpoint(0, (), SignedNote(good.note.text, (flipped,)), good.checkpoint)
    assert refusal(forged, WitnessedHead()).status == 403


def test_an_old_size_beyond_the_checkpoint_is_a_bad_request() -> None:
    assert refusal(request(9, 4), head(9)).status == 400


def test_another_size_on_record_is_a_conflict_that_says_which() -> None:
    answered = refusal(request(0, 9), head(4))
    assert (answered.status, answered.body, answered.content_type) == (409, "4\n", SIZE_TYPE)
    # A log that lost its end and grew again cannot talk the witness back.
    assert refusal(request(3, 9), head(20)).body == "20\n"


def test_another_tree_of_the_same_size_is_a_conflict_with_evidence() -> None:
    last = head(4)
    asked = request(4, 4, root=LEAVES[9])
    answered = refusal(asked, last)
    assert answered.status == 409
    assert answered.evidence == (last.note, asked.note.to_text())


def test_a_proof_that_does_not_verify_is_unprocessable() -> None:
    good = request(4, 9)
    assert refusal(AddCheckpoint(4, good.proof[:-1], good.note, good.checkpoint), head(4)).status == 422
    assert refusal(request(4, 9, root=LEAVES[9]), head(4)).status == 422
    assert refusal(AddCheckpoint(0, good.proof, good.note, good.checkpoint), WitnessedHead()).status == 422
    assert refusal(request(0, 0, root=LEAVES[9]), WitnessedHead()).status == 409
    assert consider(request(0, 0), LOGS, WitnessedHead(), NOW).root == EMPTY_ROOT


def test_a_clock_set_back_dates_nothing_earlier() -> None:
    first = consider(request(0, 4), LOGS, WitnessedHead(), NOW)
    second = consider(request(4, 5), LOGS, first, NOW - timedelta(days=400))
    assert second.seconds == first.seconds == int(NOW.timestamp())


def test_signatures_of_strangers_are_not_kept() -> None:
    asked = request(0, 4)
    padded = asked.note.with_signatures(SignatureLine("stranger", b"abcd", b"anything at all"))
    stored = consider(AddCheckpoint(0, (), padded, asked.checkpoint), LOGS, WitnessedHead(), NOW)
    assert stored.note == asked.note.to_text()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 1\n\n",
        b"old 01\n\n" + C2SP_REQUEST.split("\n\n", 1)[1].encode(),
        b"old -1\n\n" + C2SP_REQUEST.split("\n\n", 1)[1].encode(),
        b"old " + b"9" * 100_000 + b"\n\n",
        b"old 1\n" + b"PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n" * 64 + b"\n" + C2SP_REQUEST.split("\n\n", 1)[1].encode(),
        b"old 1\nAAAA\n\n" + C2SP_REQUEST.split("\n\n", 1)[1].encode(),
        b"old 1\n\n" + "example.com\n1\nno\n\n— a b\n".encode(),
        b"\xff" * 50,
        b"x" * 200_000,
    ],
)
def test_malformed_requests_are_bad_requests(body: bytes) -> None:
    with pytest.raises(WitnessRefusal) as caught:
        parse_request(body)
    assert caught.value.status == 400


@given(st.integers(0, len(C2SP_REQUEST.encode()) - 1), st.integers(1, 255))
def test_a_damaged_request_is_refused_or_another_request(place: int, flip: int) -> None:
    data = bytearray(C2SP_REQUEST.encode())
    data[place] ^= flip
    try:
        asked = parse_request(bytes(data))
    except WitnessRefusal as refused:
        found: object = refused.status
    else:
        # One request has one spelling.
        found = asked.to_bytes() == bytes(data)
    assert found in {400, True}
