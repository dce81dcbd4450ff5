"""Signed requests: RFC 9421's own vector, another library both ways, and every way to get it wrong."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, HTTPSignatureKeyResolver, algorithms
from hypothesis import given
from hypothesis import strategies as st

from facekeep.errors import FacekeepError, TrustError
from facekeep.message_signatures import TAG, content_digest, parse_signature, sign_request, signature_base, verify_request
from facekeep.randomness import SystemRandomness
from facekeep.signing import DeviceKey, verify_raw

KEY = DeviceKey(bytes([7]) * 32)
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
URI = "https://log.example.org/v1/trail?proofs=all"
BODY = b'{"a":1}\n'


def signed(method: str = "POST", uri: str = URI, body: bytes = BODY) -> dict[str, str]:
    fields = sign_request(KEY, "device-1", method, uri, body, NOW, SystemRandomness())
    return {name.lower(): value for name, value in fields.items()}


def check(headers: dict[str, str], method: str = "POST", uri: str = URI, body: bytes = BODY, key: DeviceKey = KEY) -> None:
    verify_request(parse_signature(headers), key.public_bytes, method, uri, headers, body)


def test_the_vector_of_rfc_9421_b_2_6() -> None:
    # RFC 9421 appendices B.1.4 (key) and B.2.6 (signature).
    pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n-----END PRIVATE KEY-----"
    key = DeviceKey(load_pem_private_key(pem.encode(), None).private_bytes_raw())  # type: ignore[union-attr]
    parameters = (
        '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"'
    )
    components = [
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("@method", "POST"),
        ("@path", "/foo"),
        ("@authority", "example.com"),
        ("content-type", "application/json"),
        ("content-length", "18"),
    ]
    base = signature_base(components, parameters)
    expected = base64.b64decode("wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==")
    assert key.sign_note(base) == expected
    verify_raw(key.public_bytes, base, expected)


def test_the_digest_of_rfc_9530() -> None:
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_a_signed_request_verifies_and_says_who_and_when() -> None:
    for method, uri, body in (("POST", URI, BODY), ("GET", "http://127.0.0.1:8417/v1/trail", b"")):
        headers = signed(method, uri, body)
        check(headers, method, uri, body)
        stated = parse_signature(headers)
        assert (stated.key_id, stated.created) == ("device-1", NOW)
    assert len({parse_signature(signed()).nonce for _ in range(50)}) == 50


class _Message:
    def __init__(self, headers: dict[str, str]) -> None:
        self.method, self.url, self.headers, self.body = "POST", URI, headers, BODY


class _Resolver(HTTPSignatureKeyResolver):  # type: ignore[misc]
    def resolve_private_key(self, key_id: str) -> Any:
        return KEY._private

    def resolve_public_key(self, key_id: str) -> Any:
        return KEY._private.public_key()


def test_another_library_verifies_ours() -> None:
    fields = sign_request(KEY, "device-1", "POST", URI, BODY, datetime.now(UTC), SystemRandomness())
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=_Resolver())
    (found,) = verifier.verify(_Message(dict(fields)), expect_tag=TAG)
    assert '"@target-uri"' in found.covered_components


def test_we_verify_another_librarys_in_any_order() -> None:
    message = _Message({"Content-Digest": content_digest(BODY)})
    HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_Resolver()).sign(
        message,
        key_id="device-1",
        created=NOW,
        nonce="abcdefghijklmnop",
        tag=TAG,
        use_existing_digest=True,
        covered_component_ids=("content-digest", "@target-uri", "@method"),
    )
    check({name.lower(): value for name, value in message.headers.items()})


def test_what_was_signed_is_what_counts() -> None:
    headers = signed()
    other = DeviceKey(bytes([8]) * 32)
    for change in (
        {"method": "GET"},
        {"uri": URI.replace("all", "head")},
        {"uri": URI.replace("https", "http")},
        {"body": BODY + b" "},
        {"key": other},
    ):
        with pytest.raises(TrustError):
            check(headers, **change)  # type: ignore[arg-type]
    for name, value in (
        ("signature-input", headers["signature-input"].replace("device-1", "device-2")),
        ("signature-input", headers["signature-input"].replace(str(int(NOW.timestamp())), str(int(NOW.timestamp()) + 1))),
        ("content-digest", content_digest(b"other")),
        ("signature", signed(body=b"other")["signature"]),
    ):
        with pytest.raises(TrustError):
            check(headers | {name: value})


def test_nothing_outside_the_profile_is_read() -> None:
    headers = signed()
    given_input, given_signature = headers["signature-input"], headers["signature"]
    for change in (
        {"signature-input": given_input.replace('"content-digest"', '"date"')},
        {"signature-input": given_input.replace(' "content-digest"', "")},
        {"signature-input": given_input.replace('"@method"', '"@method" "@method"')},
        {"signature-input": given_input.replace(f";created={int(NOW.timestamp())}", "")},
        {"signature-input": given_input.replace('alg="ed25519"', 'alg="hmac-sha256"')},
        {"signature-input": given_input.replace(TAG, "other")},
        {"signature-input": given_input + ';tag="other"'},
        {"signature-input": given_input + ";expires=1"},
        {"signature-input": given_input + ", " + given_input},
        {"signature-input": given_input.replace("sig=", "other=")},
        {"signature-input": given_input + " " * 2000},
        {"signature-input": ""},
        {"signature": given_signature[:-5] + ":"},
        {"signature": given_signature.replace("=:", "=")},
        {"signature": given_signature + ", " + given_signature},
        {"signature": "sig=:" + "A" * 3000 + ":"},
        {"content-digest": ""},
        {"content-digest": headers["content-digest"] + ", " + headers["content-digest"]},
        {"content-digest": headers["content-digest"].replace("sha-256", "sha-512")},
    ):
        with pytest.raises(TrustError) as caught:
            check(headers | change)
        assert caught.value.code == "trust.malformed", change
    for name in ("signature-input", "signature", "content-digest"):
        with pytest.raises(TrustError):
            check({key: value for key, value in headers.items() if key != name})


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=100))
def test_arbitrary_fields_end_in_a_typed_error(given_input: str, signature: str, digest: str) -> None:
    with pytest.raises(FacekeepError):
        check({"signature-input": given_input, "signature": signature, "content-digest": digest})


@given(st.integers(0, 10**15))
def test_any_number_can_stand_for_a_time_without_a_crash(created: int) -> None:
    headers = signed()
    moved = headers["signature-input"].replace(str(int(NOW.timestamp())), str(created))
    if created == int(NOW.timestamp()):
        check(headers)
    else:
        with pytest.raises(TrustError):
            check(headers | {"signature-input": moved})


def test_a_uri_that_is_not_ascii_or_has_spaces_is_refused() -> None:
    for uri in ("https://log.example.org/é", "https://log.example.org/ x", "https://log.example.org/\n"):
        with pytest.raises(TrustError):
            check(signed(), uri=uri)
