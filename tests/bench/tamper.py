"""Every byte of a log of 1,000 entries changed, every file cut at every length, dropped and swapped: what is not detected.

The whole audit takes some 30 ms, and there are hundreds of thousands of changes: so each change goes through the very steps of the
audit that read that file, and a sample of them through the whole audit, which has to say the same.
"""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

from facekeep.auditor import AuditPolicy
from facekeep.clock import SystemClock
from facekeep.errors import LogError
from facekeep.logfiles import LogDirectory, audit_log
from facekeep.logfiles.directory import needed_files
from facekeep.merkle import leaf_hash
from facekeep.tlog import Tile, pack_bundle, unpack_bundle
from facekeep.tlog.tiles import bundles_of
from facekeep_server.demo_log import write_demo_log
from tests.bench.setting import report, temporary_folder

ENTRY_COUNT = 1_000
SAMPLE = 200


class _Log:
    """The good log, and the steps of the audit for one file of it."""

    def __init__(self, folder: Path) -> None:
        made = write_demo_log(folder / "demo", SystemClock().now(), entries=ENTRY_COUNT)
        self.folder, self.policy = made.log, AuditPolicy.parse(made.policy.read_bytes())
        self.files = {name: (made.log / name).read_bytes() for name in needed_files(ENTRY_COUNT)}
        self._bundles = {bundle.path: bundle for bundle in bundles_of(ENTRY_COUNT)}
        self._entries = {path: unpack_bundle(self.files[path], bundle.width) for path, bundle in self._bundles.items()}
        assert self.is_accepted()

    def is_accepted(self) -> bool:
        return audit_log(LogDirectory(self.folder), self.policy, SystemClock().now()).is_verified

    def is_detected(self, name: str, data: bytes) -> bool:
        """Whether the steps that read this file find that it is not the good one."""
        if name == "checkpoint":
            try:
                # Signatures by nobody the policy knows are a finding of the audit as well.
                return self.policy.trust.verify(data).unknown > 0
            except LogError:
                return True
        bundle = self._bundles.get(name)
        if bundle is None:
            # Tiles are compared with what the entries lead to, byte by byte; a good log has exactly that.
            return data != self.files[name]
        try:
            found = unpack_bundle(data, bundle.width)
        except LogError:
            return True
        tile, good = self.files[Tile(0, bundle.index, bundle.width).path], self._entries[name]
        return any(
            leaf_hash(entry) != tile[32 * number : 32 * number + 32] for number, entry in enumerate(found) if entry != good[number]
        )

    def is_detected_whole(self, name: str, data: bytes | None) -> bool:
        """Whether the whole audit finds it."""
        path = self.folder / name
        try:
            if data is None:
                path.unlink()
            else:
                path.write_bytes(data)
            return not self.is_accepted()
        finally:
            path.write_bytes(self.files[name])

    def swapped_entries(self) -> tuple[int, int]:
        """Swap every two neighbours in a bundle, then drop every entry; return how many changes, and how many were missed."""
        tried = missed = 0
        for name, entries in self._entries.items():
            for at in range(len(entries)):
                changes = [entries[:at] + entries[at + 1 :]]
                changes += [[*entries[:at], entries[at + 1], entries[at], *entries[at + 2 :]]] if at + 1 < len(entries) else []
                for changed in changes:
                    tried += 1
                    missed += not self.is_detected(name, pack_bundle(changed))
        return tried, missed


def tamper(shared: Path) -> None:
    """Count the changes of a log directory that the audit does not notice."""
    del shared
    log, draw = _Log(temporary_folder()), random.Random(7)
    places = [(name, place) for name, data in log.files.items() for place in range(len(data))]
    start, missed = time.perf_counter(), 0
    for name, place in places:
        data, bits = log.files[name], range(8) if name == "checkpoint" else (draw.randrange(8),)
        missed += sum(not log.is_detected(name, _flipped(data, place, bit)) for bit in bits)
    report("bytes changed, one after the other", f"{len(places):,}", f"{missed} not detected, {time.perf_counter() - start:.0f} s")
    missed = sum(not log.is_detected(name, log.files[name][:place]) for name, place in places)
    report("files cut, at every length", f"{len(places):,}", f"{missed} not detected")
    tried, missed = log.swapped_entries()
    report("entries swapped with the next, and dropped", f"{tried:,}", f"{missed} not detected")
    missed = sum(not log.is_detected_whole(name, None) for name in log.files)
    pairs = list(itertools.permutations(log.files, 2))
    missed += sum(not log.is_detected_whole(one, log.files[other]) for one, other in pairs)
    report(
        "files dropped, or put in place of another; the whole audit", f"{len(log.files) + len(pairs):,}", f"{missed} not detected"
    )
    sample = draw.sample(places, SAMPLE)
    missed = sum(not log.is_detected_whole(name, _flipped(log.files[name], place, draw.randrange(8))) for name, place in sample)
    report("bytes changed, drawn; the whole audit", f"{SAMPLE:,}", f"{missed} not detected")


def _flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
