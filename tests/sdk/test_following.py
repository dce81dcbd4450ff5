"""A device keeps its last checkpoint, demands that the next continues it, and hands on both notes when it does not."""

import pickle
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekeep.audit.following import FollowedLog, ForkError, ForkEvidence, follow_log, require_logged
from facekeep.errors import LogError
from facekeep.merkle import leaf_hash, root_of
from facekeep.note import Checkpoint
from facekeep.tlog import make_consistency, make_inclusion
from tests.sdk.log_scenes import ORIGIN, START, policy, sign

ENTRIES = [b"entry %d" % number for number in range(40)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
TRUST = policy().trust


class Direct:
    def read(self, level: int, index: int) -> bytes:
        return root_of(LEAVES[index << level : index + 1 << level])


def note(size: int, *, root: bytes | None = None, origin: str = ORIGIN, minutes: int = 0) -> str:
    return sign(Checkpoint(origin, size, root or root_of(LEAVES[:size])).to_text(), START + timedelta(minutes=minutes))


def proof(old: int, new: int) -> tuple[bytes, ...]:
    return make_consistency(Direct(), old, new)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5).map(sorted))
def test_a_log_that_grows_is_followed(sizes: list[int]) -> None:
    followed: FollowedLog | None = None
    for size in sizes:
        old = followed.checkpoint.size if followed else 0
        followed = follow_log(followed, note(size), proof(old, size), TRUST)
        assert FollowedLog.parse(followed.note) == followed
        require_logged(followed, ENTRIES[size - 1], size - 1, make_inclusion(Direct(), size - 1, size))
        with pytest.raises(LogError) as caught:
            require_logged(followed, b"another", size - 1, make_inclusion(Direct(), size - 1, size))
        assert caught.value.code == "log.bad_proof"


def test_two_roots_of_one_size_convict_the_log() -> None:
    followed = follow_log(None, note(9), (), TRUST)
    with pytest.raises(ForkError) as caught:
        follow_log(followed, note(9, root=LEAVES[0], minutes=5), (), TRUST)
    evidence = ForkEvidence.parse(caught.value.evidence.to_bytes())
    assert caught.value.code == "log.fork"
    assert (evidence.kept, evidence.shown) == (note(9), note(9, root=LEAVES[0], minutes=5))
    # Anyone with the keys can check it; nobody without the log's key can make it.
    assert evidence.is_conclusive(TRUST)
    with pytest.raises(LogError):
        ForkEvidence(evidence.kept, evidence.shown.replace("\n9\n", "\n8\n")).is_conclusive(TRUST)
    assert pickle.loads(pickle.dumps(caught.value)).evidence == evidence


def test_a_later_checkpoint_that_does_not_continue_is_reported_with_both_notes() -> None:
    followed = follow_log(None, note(9), (), TRUST)
    for shown, path in ((note(20, root=LEAVES[0]), proof(9, 20)), (note(20), proof(9, 20)[:-1]), (note(20), ())):
        with pytest.raises(ForkError) as caught:
            follow_log(followed, shown, path, TRUST)
        assert caught.value.evidence == ForkEvidence(note(9), shown, tuple(path))
        assert not caught.value.evidence.is_conclusive(TRUST)


def test_a_smaller_log_another_log_and_too_few_witnesses_are_refused() -> None:
    followed = follow_log(None, note(9), (), TRUST)
    cases = {
        "log.stale": note(8),
        "log.bad_signature": sign(Checkpoint("log.example/two", 9, LEAVES[0]).to_text(), START),
        "log.no_quorum": sign(Checkpoint(ORIGIN, 20, LEAVES[0]).to_text(), START, ["w1.example"]),
        "log.malformed": "no note",
    }
    for code, shown in cases.items():
        with pytest.raises(LogError) as caught:
            follow_log(followed, shown, (), TRUST)
        assert caught.value.code == code
        assert not isinstance(caught.value, ForkError)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"kept":1,"proof":[],"schema_version":"x","shown":2}'])
def test_evidence_has_one_form(data: bytes) -> None:
    with pytest.raises(LogError) as caught:
        ForkEvidence.parse(data)
    assert caught.value.code == "log.malformed"
    with pytest.raises(LogError):
        FollowedLog.parse("x\n\n— a b\n")
