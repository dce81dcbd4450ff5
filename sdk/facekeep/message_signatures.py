"""Signed HTTP requests: a small profile of RFC 9421 (HTTP Message Signatures) with RFC 9530 digests. Pure.

One signature, Ed25519, over the method, the target URI and the digest of the content, with the time it was made and a nonce.
Nothing may be left out and nothing added: what a request means is exactly what was signed. A request without content is signed
with the digest of no bytes. Any general RFC 9421 library signs and verifies the same requests: the tests use one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from facekeep.errors import TrustError
from facekeep.randomness import Randomness
from facekeep.signing import SIGNATURE_BYTES, DeviceKey, verify_raw

TAG: Final = "facekeep-request-v1"
LONGEST_FIELD: Final = 1024
NONCE_BYTES: Final = 16
_COMPONENTS = ("@method", "@target-uri", "content-digest")
_LABEL = r"[a-z*][a-z0-9_.*-]{0,31}"
_NAMES = r'\(("[a-z@-]+"(?: "[a-z@-]+")*)\)'
_INPUT = re.compile(rf'({_LABEL})=({_NAMES}((?:;[a-z]+=(?:\d{{1,15}}|"[\x20\x21\x23-\x5b\x5d-\x7e]{{0,128}}"))+))')
_PARAMETER = re.compile(r';([a-z]+)=(?:(\d+)|"([^"]*)")')
_SIGNATURE = re.compile(rf"({_LABEL})=:([A-Za-z0-9+/=]+):")
_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")
_NONCE = re.compile(r"[A-Za-z0-9+/=_-]{16,64}")
_SPACE = re.compile(r"[\x20\t]")


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """What the two signature fields of a request say; nothing of it is true before `verify_request`.

    Attributes:
        key_id: who says to have signed.
        created: when, to the second.
        nonce: what makes this request different from every other of the same key.
        signature: 64 bytes.
    """

    key_id: str
    created: datetime
    nonce: str
    signature: bytes
    _parameters: str
    _components: tuple[str, ...]


def content_digest(content: bytes) -> str:
    """Return the Content-Digest field of `content` (RFC 9530, SHA-256)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def signature_base(components: Sequence[tuple[str, str]], parameters: str) -> bytes:
    """Return what is signed (RFC 9421 section 2.5).

    Args:
        components: names and values of what is covered, in order.
        parameters: the inner list and its parameters, as they stand in Signature-Input.
    """
    lines = [f'"{name}": {value}' for name, value in components]
    return "\n".join([*lines, f'"@signature-params": {parameters}']).encode("ascii")


def sign_request(
    key: DeviceKey, key_id: str, method: str, target_uri: str, content: bytes, now: datetime, randomness: Randomness
) -> dict[str, str]:
    """Return the three fields that make a request a signed one.

    Args:
        key: Ed25519 key of who sends.
        key_id: what the receiver knows the key by.
        method: such as "POST".
        target_uri: absolute URI as the receiver is known to the world, query included.
        content: body as sent.
        now: the present instant.
        randomness: where the nonce comes from.
    """
    digest = content_digest(content)
    nonce = base64.urlsafe_b64encode(randomness.token(NONCE_BYTES)).decode().rstrip("=")
    names = " ".join(f'"{name}"' for name in _COMPONENTS)
    parameters = f'({names});created={int(now.timestamp())};keyid="{key_id}";alg="ed25519";nonce="{nonce}";tag="{TAG}"'
    values = (method, target_uri, digest)
    # An RFC 9421 signature carries no domain of ours in front; the tag keeps it apart from other signatures of the key.
    signature = key.sign_note(signature_base(tuple(zip(_COMPONENTS, values, strict=True)), parameters))
    return {
        "Content-Digest": digest,
        "Signature-Input": f"sig={parameters}",
        "Signature": f"sig=:{base64.b64encode(signature).decode()}:",
    }


def parse_signature(headers: Mapping[str, str]) -> RequestSignature:
    """Return what the signature fields say.

    Args:
        headers: fields by lower-case name; one that came in several lines is joined with commas, and refused.

    Raises:
        TrustError: "trust.malformed" for anything outside the profile.
    """
    try:
        given, blob = headers["signature-input"], headers["signature"]
        if len(given) > LONGEST_FIELD or len(blob) > LONGEST_FIELD:
            raise ValueError
        label, parameters, names, tail = _match(_INPUT, given).groups()
        signed, encoded = _match(_SIGNATURE, blob).groups()
        found = [(name, number or text) for name, number, text in _PARAMETER.findall(tail)]
        values = dict(found)
        components = tuple(name.strip('"') for name in names.split(" "))
        signature = base64.b64decode(encoded, validate=True)
        if (
            label != signed
            or len(values) != len(found)
            or values.keys() != {"created", "keyid", "alg", "nonce", "tag"}
            or values["alg"] != "ed25519"
            or values["tag"] != TAG
            or not values["created"].isdigit()
            or not _NONCE.fullmatch(values["nonce"])
            or sorted(components) != sorted(_COMPONENTS)
            or len(signature) != SIGNATURE_BYTES
        ):
            raise ValueError
        created = datetime.fromtimestamp(int(values["created"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError, binascii.Error):
        raise TrustError(
            "trust.malformed",
            "The request is not signed in the form expected: Signature-Input with @method, @target-uri, content-digest, created, "
            f'keyid, alg="ed25519", nonce and tag="{TAG}", and Signature.',
        ) from None
    return RequestSignature(values["keyid"], created, values["nonce"], signature, parameters, components)


def verify_request(
    stated: RequestSignature, public_key: bytes, method: str, target_uri: str, headers: Mapping[str, str], content: bytes
) -> None:
    """Return if the key signed exactly this method, target and content. Time and nonce are the caller's to judge.

    Raises:
        TrustError: "trust.bad_signature" or, for a digest that is not the content's, "trust.malformed".
    """
    digest = headers.get("content-digest", "")
    match = _DIGEST.fullmatch(digest)
    # One digest, SHA-256: of two, a proxy might check one and we the other.
    if match is None or not hmac.compare_digest(digest, content_digest(content)):
        raise TrustError("trust.malformed", "Content-Digest is not the SHA-256 digest of the content.")
    values = {"@method": method, "@target-uri": target_uri, "content-digest": digest}
    if not target_uri.isascii() or not method.isascii() or _SPACE.search(target_uri):
        raise TrustError("trust.malformed", "The target URI is not ASCII.")
    base = signature_base([(name, values[name]) for name in stated._components], stated._parameters)
    verify_raw(public_key, base, stated.signature)


def _match(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError
    return match
