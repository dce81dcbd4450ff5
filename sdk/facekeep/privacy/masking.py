"""Masks that cancel in the sum: one of each device's own, and one with each neighbour, added by one and subtracted by the other.

Source: Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017; with a k-regular graph,
Bell et al., CCS 2020. X25519 (RFC 7748), HKDF-SHA256 and ChaCha20 come from `cryptography`; every seed keeps its 32 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from numpy.typing import NDArray

from facekeep.errors import FederationError
from facekeep.privacy.stream import SEED_SIZE, Stream, bind, derive

_SELF = b"facekeep self mask v1"
_PAIR = b"facekeep pairwise mask v1"
_AGREEMENT = b"facekeep pairwise seed v1"


def mask_public_key(private: bytes) -> bytes:
    """Return the 32-byte X25519 public key of a mask key."""
    return _private(private).public_key().public_bytes_raw()


def pairwise_seed(private: bytes, peer_public: bytes, context: bytes) -> bytes:
    """Return the 32-byte seed that two devices share in one round: the same from either side.

    Args:
        private: own 32-byte mask key of this round.
        peer_public: the neighbour's 32-byte mask public key.
        context: digest of the plan. It keeps a key that should be fresh, and is not, from giving the same mask twice.

    Raises:
        FederationError: "federation.malformed" if the key is not one, or of low order (a server that sends such a key would
            know the mask).
    """
    own = _private(private)
    if len(peer_public) != SEED_SIZE:
        raise FederationError("federation.malformed", "a mask public key has 32 bytes")
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError as error:
        raise FederationError("federation.malformed", "a mask public key is of low order") from error
    # RFC 7748 section 6.1: both public keys go into the derivation; in one order, so that both sides agree.
    keys = sorted((own.public_key().public_bytes_raw(), peer_public))
    return derive(shared, bind(_AGREEMENT, context), salt=b"".join(keys))


def mask_stream(seed: bytes, context: bytes, size: int) -> NDArray[np.uint32]:
    """Return the (size,) uint32 mask of a seed, uniform to whoever has not the seed."""
    return Stream(seed, context).words32(size)


def self_mask(seed: bytes, context: bytes, size: int) -> NDArray[np.uint32]:
    """Return a device's own mask in the round of this context."""
    return mask_stream(seed, bind(_SELF, context), size)


def pairwise_mask(seed: bytes, context: bytes, size: int) -> NDArray[np.uint32]:
    """Return the mask of a pair: the device with the lower index adds it, the other subtracts it."""
    return mask_stream(seed, bind(_PAIR, context), size)


def add_masks(
    values: NDArray[np.uint32], *, index: int, self_seed: bytes, pair_seeds: Mapping[int, bytes], context: bytes
) -> NDArray[np.uint32]:
    """Return the masked update: values + own mask + masks towards higher indices - masks towards lower ones, modulo 2**32.

    Args:
        values: (size,) uint32, already noised.
        index: own place in the cohort.
        self_seed: 32 bytes, fresh in this round.
        pair_seeds: place of each neighbour that takes part -> seed by `pairwise_seed`.
        context: digest of the plan.

    Raises:
        ValueError: if there is no neighbour: the server, which learns the own mask, would read the update.
    """
    if not pair_seeds or index in pair_seeds:
        raise ValueError("a masked update needs a neighbour, and nobody is their own")
    masked = values + self_mask(self_seed, context, values.size)
    for peer, seed in pair_seeds.items():
        mask = pairwise_mask(seed, context, values.size)
        if index < peer:
            masked += mask
        else:
            masked -= mask
    return masked


def _private(private: bytes) -> X25519PrivateKey:
    if len(private) != SEED_SIZE:
        raise ValueError("a mask key has 32 bytes")
    return X25519PrivateKey.from_private_bytes(private)
