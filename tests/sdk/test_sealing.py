"""Envelopes: they open with their key in their context, and in no other way."""

from dataclasses import fields, replace

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from hypothesis import given
from hypothesis import strategies as st

from facekeep.errors import VaultError
from facekeep.sealing import OVERHEAD_BYTES, DataKey, DataKeyContext, ProfileContext, TemplateContext, length_prefixed, seal, unseal
from tests.sdk.vault_scenes import SeededRandomness

KEY = bytes(range(32))
CONTEXT = TemplateContext(
    "ab" * 32, "enrolment", "c0" * 32, "urn:uuid:consent", "float32", 4, "urn:uuid:reference", 1_795_262_400_000_001
)

words = st.text(st.characters(max_codepoint=127), max_size=50)
contexts = st.builds(
    TemplateContext,
    st.binary(min_size=32, max_size=32).map(bytes.hex),
    words, words, words, words,
    st.integers(0, 2**31), words,
    st.integers(-(2**62), 2**62),
)  # fmt: skip


def code_of(envelope: bytes, key: bytes = KEY, context: TemplateContext | ProfileContext = CONTEXT, epoch: int = 0) -> str:
    with pytest.raises(VaultError) as caught:
        unseal(key, envelope, context, epoch=epoch)
    return caught.value.code


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), contexts, st.integers(0, 2**32 - 1), st.integers())
def test_round_trip(key: bytes, plaintext: bytes, context: TemplateContext, epoch: int, seed: int) -> None:
    envelope = seal(key, plaintext, context, SeededRandomness(seed), epoch=epoch)
    assert len(envelope) == len(plaintext) + OVERHEAD_BYTES
    assert unseal(key, envelope, context, epoch=epoch) == plaintext


def test_every_flipped_bit_closes_the_envelope() -> None:
    envelope = seal(KEY, b"sixteen numbers.", CONTEXT, SeededRandomness())
    for place in range(len(envelope)):
        for bit in range(8):
            changed = bytearray(envelope)
            changed[place] ^= 1 << bit
            # A version above ours reads as newer; anything else reads as sealed.
            newer = place == 3 and changed[3] > 1
            assert code_of(bytes(changed)) == ("vault.newer_version" if newer else "vault.sealed"), (place, bit)


def test_every_truncation_and_an_extension_close_it() -> None:
    envelope = seal(KEY, b"sixteen numbers.", CONTEXT, SeededRandomness())
    for length in range(len(envelope)):
        assert code_of(envelope[:length]) == "vault.sealed"
    assert code_of(envelope + b"\0") == "vault.sealed"


@pytest.mark.parametrize("field", [field.name for field in fields(TemplateContext)])
def test_every_field_of_the_context_binds(field: str) -> None:
    envelope = seal(KEY, b"numbers", CONTEXT, SeededRandomness())
    value = getattr(CONTEXT, field)
    other = value + 1 if isinstance(value, int) else ("cd" * 32 if field == "principal_id" else value + "x")
    assert code_of(envelope, context=replace(CONTEXT, **{field: other})) == "vault.sealed"


def test_another_key_another_epoch_another_kind_of_context() -> None:
    envelope = seal(KEY, b"numbers", CONTEXT, SeededRandomness(), epoch=3)
    assert code_of(envelope, key=bytes(32), epoch=3) == "vault.sealed"
    assert code_of(envelope, epoch=4) == "vault.sealed"
    assert code_of(envelope, context=ProfileContext("vault", b"t" * 32), epoch=3) == "vault.sealed"


@given(st.lists(st.binary(max_size=12), max_size=5), st.lists(st.binary(max_size=12), max_size=5))
def test_no_two_lists_of_fields_have_the_same_bytes(first: list[bytes], second: list[bytes]) -> None:
    # Without the lengths, "ab" + "c" and "a" + "bc" would be one context.
    assert (length_prefixed(*first) == length_prefixed(*second)) == (first == second)


@given(contexts, contexts)
def test_no_two_contexts_have_the_same_associated_data(first: TemplateContext, second: TemplateContext) -> None:
    assert (first.associated_data() == second.associated_data()) == (first == second)


def test_the_associated_data_is_the_plain_list_of_fields() -> None:
    # The reference for what sealing writes out for speed.
    assert CONTEXT.associated_data() == length_prefixed(
        b"facekeep template v1", CONTEXT.contract_id.encode(), b"enrolment", b"float32", (4).to_bytes(4, "big"),
        bytes.fromhex(CONTEXT.principal_id), b"urn:uuid:consent", b"urn:uuid:reference",
        CONTEXT.enrolled_at_us.to_bytes(8, "big", signed=True),
    )  # fmt: skip


def test_a_wrapped_key_opens_for_its_subject_and_epoch_only() -> None:
    data_key, context = DataKey(b"k" * 32, b"p" * 32), DataKeyContext("v" * 32, b"t" * 32, 5)
    envelope = data_key.wrap(KEY, context, SeededRandomness())
    assert DataKey.unwrap(KEY, envelope, context) == data_key
    for other in (replace(context, epoch=6), replace(context, index_tag=b"u" * 32), replace(context, vault_id="w" * 32)):
        with pytest.raises(VaultError):
            DataKey.unwrap(KEY, envelope, other)


def test_a_wrapped_key_of_another_length_is_refused() -> None:
    context = DataKeyContext("v" * 32, b"t" * 32, 5)
    with pytest.raises(VaultError):
        DataKey.unwrap(KEY, seal(KEY, b"k" * 32, context, SeededRandomness(), epoch=5), context)


def test_rfc_8452_vector() -> None:
    # RFC 8452 appendix C.2, the second: that the cipher underneath is the one we name.
    key, nonce = bytes.fromhex("01" + "00" * 31), bytes.fromhex("03" + "00" * 11)
    assert (
        AESGCMSIV(key).encrypt(nonce, bytes.fromhex("0100000000000000"), None).hex()
        == "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"
    )


def test_a_repeated_nonce_shows_equality_and_nothing_more() -> None:
    first = seal(KEY, b"the same message", CONTEXT, SeededRandomness(1))
    again = seal(KEY, b"the same message", CONTEXT, SeededRandomness(1))
    other = seal(KEY, b"the same massage", CONTEXT, SeededRandomness(1))
    assert first == again
    # With a stream cipher all but one byte would be equal; with SIV none is, but by chance.
    assert sum(a == b for a, b in zip(first[20:], other[20:], strict=True)) < 8


def test_nothing_secret_in_repr_or_message() -> None:
    data_key = DataKey(b"k" * 32, b"p" * 32)
    assert "kkk" not in repr(data_key)
    with pytest.raises(VaultError) as caught:
        unseal(KEY, b"rubbish", CONTEXT)
    assert CONTEXT.principal_id not in str(caught.value)
