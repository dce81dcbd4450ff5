"""What secure aggregation and noise cost a device and the server at the sizes that issue 5 names; whether masks look random."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from facekeep.privacy.bounds import collusion_bound, dropout_bound, recommended, splitting_bound
from facekeep.privacy.graph import neighbour_table
from facekeep.privacy.masking import add_masks, mask_public_key, pairwise_seed
from facekeep.privacy.noise import discrete_gaussian
from facekeep.privacy.ring import Scale, quantise, to_ring
from facekeep.privacy.shares import SEALED_SIZE, SharePair, open_pair, seal_pair
from facekeep.privacy.sharing import SHARE_SIZE, Share, recover, split
from facekeep.privacy.unmasking import sum_updates, unmask
from facekeep.randomness import SystemRandomness
from tests.bench.setting import report

PARAMETERS, NEIGHBOURS, THRESHOLD, DEVICES = 50_000, 64, 24, 1000
PLAN = bytes(range(32))
SIGNATURE, KEY = 64, 32


def privacy(_: Path) -> None:
    """Processor time and bytes of one device, the server's unmasking, the bounds, and a chi-square over masked bytes."""
    _device()
    _server()
    _bounds()


def _device() -> None:
    randomness, scale = SystemRandomness(), Scale(2.0**-18, 2**18, PARAMETERS)
    update = np.random.default_rng(1).normal(size=PARAMETERS).astype(np.float32)
    exchange = [os.urandom(32) for _ in range(NEIGHBOURS + 1)]
    public = [mask_public_key(key) for key in exchange]
    peers = list(range(1, NEIGHBOURS + 1))
    adverts = [mask_public_key(os.urandom(32)) for _ in peers]
    pair = SharePair(Share(1, 5), Share(1, 6))
    for_me = [seal_pair(pair, public[0], plan=PLAN, sender=peer, receiver=0) for peer in peers]
    spent: dict[str, list[float]] = {}
    sealed, masked = [b""], np.zeros(0, dtype=np.uint32)
    for _ in range(5):
        start = time.process_time()
        mask_key, self_seed, points = randomness.token(32), randomness.token(32), [peer + 1 for peer in peers]
        keys, seeds = split(mask_key, THRESHOLD, points, randomness), split(self_seed, THRESHOLD, points, randomness)
        sealed = [
            seal_pair(SharePair(key, seed), public[peer], plan=PLAN, sender=0, receiver=peer)
            for peer, key, seed in zip(peers, keys, seeds, strict=True)
        ]
        prepared = time.process_time()
        values = quantise(update, scale, randomness) + discrete_gaussian(2**30, PARAMETERS, randomness)
        noised = time.process_time()
        pairs = {peer: pairwise_seed(mask_key, advert, PLAN) for peer, advert in zip(peers, adverts, strict=True)}
        masked = add_masks(to_ring(values), index=0, self_seed=self_seed, pair_seeds=pairs, context=PLAN)
        done = time.process_time()
        for peer, data in zip(peers, for_me, strict=True):
            open_pair(data, exchange[0], plan=PLAN, sender=peer, receiver=0)
        opened = time.process_time()
        steps = (start, prepared, noised, done, opened)
        for name, begin, end in zip(("shares", "noise", "masks", "opening"), steps, steps[1:], strict=False):
            spent.setdefault(name, []).append(end - begin)
    total = sum(float(np.median(times)) for times in spent.values())
    for name, times in spent.items():
        report(
            f"device, {name}, {PARAMETERS} parameters, {NEIGHBOURS} neighbours", f"{1000 * np.median(times):.1f} ms", "processor"
        )
    report("device, secure aggregation and noise of a round", f"{total:.3f} s", f"target <= 1 s: {total:.2f} of it")
    plain = 4 * PARAMETERS
    prepare = KEY + sum(map(len, sealed)) + NEIGHBOURS * SIGNATURE
    train, reveal = masked.nbytes + SIGNATURE + 32, NEIGHBOURS * (SHARE_SIZE + 5) + SIGNATURE
    sent = prepare + train + reveal
    report(
        "device, bytes sent in a round (codec of the messages not counted)",
        f"{sent}",
        f"{sent / plain:.3f} of float32, target <= 1.6",
    )
    report("of these: prepare, train, unmask", f"{prepare}, {train}, {reveal}", f"a sealed pair of shares: {SEALED_SIZE}")
    counts = np.bincount(masked.view(np.uint8), minlength=256)
    chance = float(stats.chi2.sf(((counts - counts.mean()) ** 2 / counts.mean()).sum(), 255))
    report("masked update, chi-square over its bytes, p", f"{chance:.3f}", "false alarm below 1e-6")
    report(
        "correlation of the masked update with the plain one",
        f"{_correlation(masked, update):+.4f}",
        f"chance {PARAMETERS**-0.5:.4f}",
    )


def _server() -> None:
    randomness, rng = SystemRandomness(), np.random.default_rng(2)
    table = neighbour_table(DEVICES, NEIGHBOURS, bytes(32))
    dropped = set(rng.choice(DEVICES, DEVICES // 10, replace=False).tolist())
    alive = [index for index in range(DEVICES) if index not in dropped]
    keys, seeds = ([os.urandom(32) for _ in range(DEVICES)] for _ in range(2))
    public = [mask_public_key(key) for key in keys]
    values = rng.integers(-(2**20), 2**20, (8, PARAMETERS))
    plain = np.zeros(PARAMETERS, dtype=np.uint32)
    total = np.zeros(PARAMETERS, dtype=np.uint32)
    for index in alive:
        ring = to_ring(values[index % 8])
        plain += ring
        pairs = {int(peer): pairwise_seed(keys[index], public[peer], PLAN) for peer in table[index]}
        total = sum_updates(
            [total, add_masks(ring, index=index, self_seed=seeds[index], pair_seeds=pairs, context=PLAN)], PARAMETERS
        )
    revealed = {
        index: [
            share
            for share in split(
                keys[index] if index in dropped else seeds[index], THRESHOLD, [int(p) + 1 for p in table[index]], randomness
            )
            if share.point - 1 not in dropped
        ]
        for index in range(DEVICES)
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, wall = time.process_time(), time.perf_counter()
    self_seeds = {index: recover(revealed[index], THRESHOLD)[0] for index in alive}
    dropped_keys = {
        index: recover(revealed[index], THRESHOLD, lambda key, index=index: mask_public_key(key) == public[index])[0]
        for index in dropped
    }
    recovered = time.process_time()
    partners = {index: {int(peer): public[peer] for peer in table[index] if int(peer) not in dropped} for index in dropped}
    result = unmask(total, self_seeds=self_seeds, dropped_keys=dropped_keys, partners=partners, context=PLAN)
    done, elapsed = time.process_time(), time.perf_counter() - wall
    if not np.array_equal(result, plain):
        raise AssertionError("the unmasked sum is not the sum")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    report(f"server, shares of {DEVICES} devices combined", f"{recovered - start:.1f} s", "processor")
    report(
        f"server, masks of {len(alive)} + {sum(map(len, partners.values()))} pairs taken off",
        f"{done - recovered:.1f} s",
        "processor",
    )
    report(
        "server, whole unmasking", f"{elapsed:.1f} s", f"target <= 60 s; the sum is exact; {grown / 1024:.1f} MiB more at the peak"
    )


def _bounds() -> None:
    for cohort, colluding in ((40, 0.05), (66, 0.05), (200, 0.05), (629, 0.05), (1000, 0.05), (1000, 0.02), (10_000, 0.02)):
        k, threshold = recommended(cohort, 0.3, colluding)
        bad, gone = round(colluding * cohort + 0.4999), round(0.3 * cohort + 0.4999)
        failing = dropout_bound(cohort, k, threshold, gone)
        read = max(collusion_bound(cohort, k, threshold, bad), splitting_bound(cohort, k, threshold, bad, cohort - gone))
        report(
            f"neighbours, threshold: cohort {cohort}, 30 % drop-out, {100 * colluding:.0f} % colluding",
            f"{k}, {threshold}",
            f"fails <= {failing:.0e}, read or split <= {read:.0e}",
        )


def _correlation(masked: NDArray[np.uint32], update: NDArray[np.float32]) -> float:
    return float(np.corrcoef(masked.view(np.int32).astype(np.float64), update)[0, 1])
