"""docs/formats/masking.md: its worked example, made again from its seeds."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from facekeep.canonical import to_canonical
from facekeep.privacy.accounting import PrivacyCharge
from facekeep.privacy.graph import committee, neighbours
from facekeep.privacy.masking import add_masks, mask_public_key, pairwise_mask, pairwise_seed, self_mask
from facekeep.privacy.noise import discrete_gaussian
from facekeep.privacy.ring import Scale, quantise, to_ring
from facekeep.privacy.shares import SharePair, open_pair
from facekeep.privacy.sharing import Share, combine, split
from facekeep.privacy.unmasking import unmask

PAGE = Path(__file__).parents[2] / "docs" / "formats" / "masking.md"
PLAN = hashlib.sha256(b"example plan").digest()
KEYS = [bytes([number]) * 32 for number in (1, 2, 3)]
SEEDS = [bytes([number]) * 32 for number in (17, 18, 19)]


class Counting:
    """Bytes 00, 01, 02, ... from the first on, as the page says."""

    def token(self, size: int) -> bytes:
        return bytes(number % 256 for number in range(size))


def example() -> dict[str, str]:
    public = [mask_public_key(key) for key in KEYS]
    values = [[5, -3, 0, 70000], [1, 1, 1, 1], [-6, 2, 0, -1]]
    updates = []
    for index in range(3):
        pairs = {peer: pairwise_seed(KEYS[index], public[peer], PLAN) for peer in range(3) if peer != index}
        ring = to_ring(np.array(values[index]))
        updates.append(add_masks(ring, index=index, self_seed=SEEDS[index], pair_seeds=pairs, context=PLAN))
    partners = {2: {0: public[0], 1: public[1]}}
    total = unmask(
        updates[0] + updates[1], self_seeds={0: SEEDS[0], 1: SEEDS[1]}, dropped_keys={2: KEYS[2]}, partners=partners, context=PLAN
    )
    pair_seed = pairwise_seed(KEYS[0], public[1], PLAN)
    shares = split(SEEDS[0], 2, [2, 3], Counting())
    assert combine(shares, 2) == SEEDS[0]
    pair = SharePair(Share(2, 7), shares[0])
    return {
        "plan": PLAN.hex(),
        "mask key 0, public": public[0].hex(),
        "mask key 1, public": public[1].hex(),
        "seed of the pair 0, 1": pair_seed.hex(),
        "own mask of 0": _words(self_mask(SEEDS[0], PLAN, 4)),
        "mask of the pair 0, 1": _words(pairwise_mask(pair_seed, PLAN, 4)),
        "masked update of 0": _words(updates[0]),
        "masked update of 1": _words(updates[1]),
        "their sum, unmasked": " ".join(str(value) for value in total.astype(np.int32).tolist()),
        "share of seed 0 at point 2": shares[0].to_bytes().hex(),
        "share of seed 0 at point 3": shares[1].to_bytes().hex(),
        "pair of shares": pair.to_bytes().hex(),
        "neighbours": " | ".join(" ".join(map(str, row)) for row in neighbours(6, 3, PLAN)),
        "committee": " ".join(map(str, committee(9, 4, PLAN))),
        "noise": " ".join(map(str, discrete_gaussian(10_000, 8, Counting()).tolist())),
        "rounded": " ".join(map(str, quantise(np.array([0.3, -0.75, 0.1]), Scale(0.1, 6, 3), Counting()).tolist())),
        "charge": to_canonical(PrivacyCharge(7, 2**30, 40, 2**36, 50_000).to_value()).decode(),
    }


def test_the_worked_example_of_the_page():
    for name, value in example().items():
        assert f"{name}: {value}\n" in PAGE.read_text(), f"{name}: {value}"


def test_the_sealed_pair_of_the_page_opens():
    (sealed,) = re.findall(r"^sealed pair: ([0-9a-f]{230})$", PAGE.read_text(), re.MULTILINE)
    pair = open_pair(bytes.fromhex(sealed), bytes([4]) * 32, plan=PLAN, sender=0, receiver=1)
    assert pair.to_bytes().hex() == example()["pair of shares"]


def _words(values: np.ndarray) -> str:
    return " ".join(f"{int(value):08x}" for value in values)
