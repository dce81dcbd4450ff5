"""Secure aggregation written out: plain Python integers, every mask of every pair explicit, no graph library, no NumPy in the sum.

The slow and obvious twin of `facekeep.privacy`. It shares the key derivation (HKDF, ChaCha20, X25519 of `cryptography`) and
nothing else: masks are added number by number, secrets are shared by a polynomial and brought back by Lagrange's formula.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MODULUS = 2**32
PRIME = 2**256 + 297


@dataclass
class ReferenceDevice:
    index: int
    values: list[int]
    mask_key: bytes
    self_seed: bytes
    neighbours: tuple[int, ...]


def secure_sum(
    devices: Mapping[int, ReferenceDevice],
    threshold: int,
    context: bytes,
    *,
    after_prepare: set[int],
    after_train: set[int],
    silent: set[int],
) -> list[int] | None:
    """The sum of the updates of those who trained, modulo 2**32, or None where a secret cannot be had.

    after_prepare: devices gone after their keys were handed round; after_train: gone once their update had arrived; silent: those
    that never prepared at all.
    """
    prepared = set(devices) - silent
    survivors = prepared - after_prepare
    answering = survivors - after_train
    length = len(next(iter(devices.values())).values)
    shares: dict[tuple[int, str], dict[int, int]] = {}
    for index in prepared:
        device = devices[index]
        for kind, secret in (("key", device.mask_key), ("seed", device.self_seed)):
            shares[index, kind] = {
                peer: polynomial(secret, kind, threshold, peer + 1) for peer in device.neighbours if peer in prepared
            }

    total = [0] * length
    for index in survivors:
        for place, value in enumerate(masked(devices, prepared, index, context)):
            total[place] = (total[place] + value) % MODULUS

    for index in survivors:
        secret = lagrange(shares[index, "seed"], answering, threshold)
        if secret is None:
            return None
        own = numbers(secret, framed(b"facekeep self mask v1", context), length)
        total = [(a - b) % MODULUS for a, b in zip(total, own, strict=True)]
    for index in prepared & after_prepare:
        partners = [peer for peer in devices[index].neighbours if peer in survivors]
        if not partners:
            continue
        secret = lagrange(shares[index, "key"], answering, threshold)
        if secret is None:
            return None
        for peer in partners:
            mask = pair_mask(secret, public_of(devices[peer].mask_key), context, length)
            sign = 1 if peer < index else -1
            total = [(a - sign * b) % MODULUS for a, b in zip(total, mask, strict=True)]
    return total


def masked(devices: Mapping[int, ReferenceDevice], prepared: set[int], index: int, context: bytes) -> list[int]:
    device = devices[index]
    values = [value % MODULUS for value in device.values]
    own = numbers(device.self_seed, framed(b"facekeep self mask v1", context), len(values))
    values = [(a + b) % MODULUS for a, b in zip(values, own, strict=True)]
    for peer in device.neighbours:
        if peer in prepared:
            mask = pair_mask(device.mask_key, public_of(devices[peer].mask_key), context, len(values))
            sign = 1 if index < peer else -1
            values = [(a + sign * b) % MODULUS for a, b in zip(values, mask, strict=True)]
    return values


def pair_mask(private: bytes, public: bytes, context: bytes, length: int) -> list[int]:
    shared = X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    salt = b"".join(sorted([public_of(private), public]))
    seed = HKDF(SHA256(), 32, salt, framed(b"facekeep pairwise seed v1", context)).derive(shared)
    return numbers(seed, framed(b"facekeep pairwise mask v1", context), length)


def numbers(seed: bytes, context: bytes, length: int) -> list[int]:
    key = HKDF(SHA256(), 32, None, context).derive(seed)
    data = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor().update(bytes(4 * length))
    return [int.from_bytes(data[start : start + 4], "little") for start in range(0, len(data), 4)]


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def public_of(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def polynomial(secret: bytes, kind: str, threshold: int, point: int) -> int:
    coefficients = [int.from_bytes(secret, "big")]
    for degree in range(1, threshold):
        drawn = hashlib.sha512(f"{kind} {degree}".encode() + secret).digest()
        coefficients += [int.from_bytes(drawn, "big") % PRIME]
    return sum(coefficient * point**degree for degree, coefficient in enumerate(coefficients)) % PRIME


def lagrange(shares: Mapping[int, int], answering: set[int], threshold: int) -> bytes | None:
    known = [(peer + 1, value) for peer, value in shares.items() if peer in answering][:threshold]
    if len(known) < threshold:
        return None
    secret = 0
    for point, value in known:
        above, below = 1, 1
        for other, _ in known:
            if other != point:
                above, below = above * -other, below * (point - other)
        secret += value * above * pow(below, -1, PRIME)
    return (secret % PRIME).to_bytes(32, "big")


def plain_sum(vectors: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) % MODULUS for column in zip(*vectors, strict=True)]
