"""Signed notes: notes made by others open here, ours are the bytes others would make, and no changed note opens."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from facekeep.errors import TrustError
from facekeep.note import Checkpoint, key_id, open_note, sign_note, verifier_key
from facekeep.signing import DeviceKey

# https://pkg.go.dev/golang.org/x/mod/sumdb/note (package documentation)
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    GO_TEXT + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
# https://c2sp.org/signed-note#example
C2SP_NOTE = (
    "This is an example message.\n"
    "\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)
C2SP_VERIFIER = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"

KEY = DeviceKey(GO_SEED)
lines = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=4)
texts = lines.map(lambda parts: "\n".join(parts) + "\n")


def public_of(verifier: str) -> tuple[str, bytes]:
    name, _, key = verifier.split("+", 2)
    return name, base64.b64decode(key)[1:]


def code_of(note: str, name: str = "PeterNeumann", public: bytes = KEY.public_bytes) -> str:
    with pytest.raises(TrustError) as caught:
        open_note(note, name, public)
    return caught.value.code


@pytest.mark.parametrize(("note", "verifier"), [(GO_NOTE, GO_VERIFIER), (C2SP_NOTE, C2SP_VERIFIER)])
def test_notes_of_others_open(note: str, verifier: str) -> None:
    name, public = public_of(verifier)
    assert open_note(note, name, public) == note.split("\n\n")[0] + "\n"
    assert verifier_key(name, public) == verifier
    assert key_id(name, public).hex() == verifier.split("+")[1]


def test_our_note_is_the_one_that_go_writes() -> None:
    assert sign_note(GO_TEXT, "PeterNeumann", KEY) == GO_NOTE


@given(texts)
def test_round_trip(text: str) -> None:
    assert open_note(sign_note(text, "device", KEY), "device", KEY.public_bytes) == text


@given(st.integers(0, len(GO_NOTE) - 1), st.characters(exclude_categories=["Cs"]))
def test_a_changed_character_closes_a_note(place: int, instead: str) -> None:
    changed = GO_NOTE[:place] + instead + GO_NOTE[place + 1 :]
    if changed != GO_NOTE:
        assert code_of(changed) in ("trust.malformed", "trust.bad_signature")


def test_unknown_signatures_are_passed_over_and_known_ones_found() -> None:
    other = DeviceKey(b"\x05" * 32)
    ours = sign_note(GO_TEXT, "device", KEY).rsplit("\n\n", 1)[1]
    both = sign_note(GO_TEXT, "witness.example", other) + ours
    assert open_note(both, "device", KEY.public_bytes) == GO_TEXT
    assert open_note(both, "witness.example", other.public_bytes) == GO_TEXT


def test_a_signature_by_another_key_of_the_same_name_is_no_signature() -> None:
    assert code_of(sign_note(GO_TEXT, "PeterNeumann", DeviceKey(b"\x05" * 32))) == "trust.bad_signature"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text\n",
        GO_TEXT + "\n",
        GO_NOTE[:-1],
        GO_NOTE.replace("— ", "- "),
        GO_NOTE.replace("=\n", "*\n"),
        GO_NOTE.replace("\n\n", "\n\nrubbish\n"),
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    assert code_of(note) == "trust.malformed"


@pytest.mark.parametrize(("text", "name"), [("no newline", "device"), ("text\n", ""), ("text\n", "a b"), ("text\n", "a+b")])
def test_what_cannot_be_a_note_is_not_signed(text: str, name: str) -> None:
    with pytest.raises(ValueError, match="note"):
        sign_note(text, name, KEY)


@given(
    st.text(st.characters(categories=["L", "N", "P"], exclude_characters="+"), min_size=1),
    st.integers(0),
    st.binary(min_size=32, max_size=32),
)
def test_checkpoint_round_trip(origin: str, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin, size, root)
    assert Checkpoint.parse(checkpoint.to_text()) == checkpoint
    assert Checkpoint.parse(checkpoint.to_text() + "an extension line\n") == checkpoint


@pytest.mark.parametrize(
    "text", ["", "a\n1\n", "a\n01\nAA==\n", "a\n-1\nAA==\n", "a\n+1\nAA==\n", "a b\n1\nAA==\n", "a\n1\nAA==\n", "a\n١\nAA==\n"]
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(TrustError) as caught:
        Checkpoint.parse(text)
    assert caught.value.code == "trust.malformed"


def test_a_checkpoint_signed_as_ed25519_stands_up_to_a_plain_verifier() -> None:
    text = Checkpoint("facekeep.device/0123456789abcdef", 7, b"\x01" * 32).to_text()
    blob = base64.b64decode(sign_note(text, "device", KEY).rsplit(" ", 1)[1])
    Ed25519PrivateKey.from_private_bytes(GO_SEED).public_key().verify(blob[4:], text.encode())
