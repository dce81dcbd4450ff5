"""The audit of a whole log: every entry read once, in order, in memory that does not grow with the log.

Steps:
    1 the checkpoint: signed by the log, cosigned by the quorum, fresh enough
    2 each bundle: its entries, their leaf hashes, the tree grown by them
    3 each tile: the bytes that the tree demands, no others
    4 each entry: its device enrolled before, numbered on, chained, dated forwards, no later than the checkpoint
    5 each signed head of a device: size and root of the tree over that device's entries, under the device's key
    6 what the entries say: consent, erasure and retention as the policy demands
    7 at the end: the tree is the checkpoint's, every entry is covered by a signature of its device
The caller reads files and feeds what is here; nothing here does IO.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from facekeep.audit.entry import DeviceEntry, HeadEntry, TrailEntry, device_id, parse_log_entry
from facekeep.audit.reading import read_entry
from facekeep.audit.trail import open_head
from facekeep.auditor.lives import DeviceLife
from facekeep.auditor.policy import AuditPolicy
from facekeep.auditor.releases import RELEASES, ReleaseLedger
from facekeep.auditor.verdict import Findings, Verdict
from facekeep.errors import FacekeepError, LogError
from facekeep.tlog.policy import VerifiedCheckpoint
from facekeep.tlog.proof import LogProof, verify_proof
from facekeep.tlog.tiles import Tile
from facekeep.tlog.tree import TileTree


class _GrowingTrail:
    """The tree over the bodies of one device: its right edge, in place, for there are as many appends as entries."""

    __slots__ = ("edge", "size")

    def __init__(self) -> None:
        self.size = 0
        self.edge: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        edge, bit = self.edge, self.size
        while bit & 1:
            leaf = hashlib.sha256(b"\x01" + edge.pop() + leaf).digest()
            bit >>= 1
        edge.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        value = self.edge[-1]
        for left in reversed(self.edge[:-1]):
            value = hashlib.sha256(b"\x01" + left + value).digest()
        return value


class _Device:
    """Where the trail of one device stands."""

    __slots__ = ("broken", "key", "last", "last_time", "life", "signed", "tree")

    def __init__(self, key: bytes, life: DeviceLife) -> None:
        self.key = key
        self.life = life
        self.tree = _GrowingTrail()
        self.signed = 0
        self.last: bytes | None = None
        self.last_time: datetime | None = None
        self.broken = False


class LogAudit:
    """Audits one log, fed in order.

    Args:
        policy: what is demanded.
        verified: the checkpoint, already accepted by `policy.trust`.
        now: the auditor's clock.
        kept: checkpoints seen earlier or elsewhere; each has to be one of this log's past.
    """

    def __init__(
        self, policy: AuditPolicy, verified: VerifiedCheckpoint, now: datetime, kept: Sequence[VerifiedCheckpoint] = ()
    ) -> None:
        self.findings = Findings()
        self._policy = policy
        self._verified = verified
        self._latest = now if verified.earliest is None else min(now, verified.earliest)
        self._latest += policy.tolerance
        self._tree = TileTree()
        self._devices: dict[str, _Device] = {}
        self._releases = ReleaseLedger()
        self._kinds: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._heads = 0
        self._first: datetime | None = None
        self._last: datetime | None = None
        self._proofs = 0
        self._kept = sorted(kept, key=lambda item: item.checkpoint.size, reverse=True)
        self._check_checkpoint(now)
        self._check_kept()

    @property
    def size(self) -> int:
        """Number of entries read."""
        return self._tree.size

    def add_entries(self, entries: Sequence[bytes]) -> list[tuple[Tile, bytes]]:
        """Follow the next entries (2, 4 to 6), and return each tile they filled, with the bytes it has to have (3)."""
        filled: list[tuple[Tile, bytes]] = []
        start, sha256 = self._tree.size, hashlib.sha256
        leaves = [sha256(b"\x00" + data).digest() for data in entries]
        while self._kept and self._kept[-1].checkpoint.size <= start + len(entries):
            stop = self._kept[-1].checkpoint.size - self._tree.size
            filled += self._tree.extend(leaves[:stop])
            leaves = leaves[stop:]
            self._check_kept()
        filled += self._tree.extend(leaves)
        for index, data in enumerate(entries, start):
            self._follow(index, data)
        return filled

    def partial_tiles(self) -> list[tuple[Tile, bytes]]:
        """Return the partial tiles of the tree read so far, with the bytes they have to have."""
        return self._tree.partial_tiles()

    def add_proof(self, proof: LogProof, entry: bytes) -> None:
        """Check a proof kept beside the log, such as an erasure receipt."""
        try:
            verify_proof(proof, entry, self._policy.trust)
            self._proofs += 1
        except LogError as error:
            self.findings.add(error.code, str(error.args[0]), proof.index)

    def finish(self) -> Verdict:
        """Return the verdict (7)."""
        checkpoint = self._verified.checkpoint
        for item in self._kept:
            size = item.checkpoint.size
            self.findings.add("log.fork", f"A checkpoint kept earlier counts {size} entries; the log has {self._tree.size}.")
        if self._tree.size != checkpoint.size:
            self.findings.add("log.incomplete", f"The log has {self._tree.size} entries; its checkpoint counts {checkpoint.size}.")
        elif not hmac.compare_digest(self._tree.root(), checkpoint.root):
            self.findings.add("log.bad_proof", "The entries do not lead to the root of the checkpoint.")
        for name, device in self._devices.items():
            if device.signed != device.tree.size:
                missing = device.tree.size - device.signed
                self.findings.add("audit.bad_signature", f"{missing} entries at the end are signed by nobody.", None, name)
            if device.last_time is not None:
                device.life.finish(device.last_time)
                self._check_silence(name, device.last_time)
        self._releases.finish(self.findings)
        lives = [device.life for device in self._devices.values()]
        return Verdict(
            origin=checkpoint.origin,
            size=checkpoint.size,
            root=checkpoint.root.hex(),
            witnesses={name: item.time for name, item in self._verified.cosignatures.items()},
            entries=dict(self._kinds),
            devices=len(self._devices),
            subjects=sum(life.on_record for life in lives),
            erased=sum(life.erased for life in lives),
            events=dict(self._events),
            signed_heads=self._heads,
            first_time=self._first,
            last_time=self._last,
            proofs=self._proofs,
            findings=tuple(self.findings.kept),
            counts=dict(self.findings.counts),
        )

    def _check_checkpoint(self, now: datetime) -> None:
        policy, verified = self._policy, self._verified
        if verified.unknown and policy.refuse_unknown:
            self.findings.add("log.bad_signature", f"{verified.unknown} signatures are by keys that the policy does not name.")
        for item in verified.cosignatures.values():
            if item.time > now + policy.tolerance:
                self.findings.add("audit.from_the_future", "A cosignature is dated after this audit; check the clock.")
        if policy.max_age is not None:
            latest = max((item.time for item in verified.cosignatures.values()), default=None)
            # Freeze: a log shown as it once was verifies in every other respect.
            if latest is None or policy.max_age.is_over(latest, now):
                self.findings.add("log.stale", f"No cosignature is younger than {policy.max_age.text}.")

    def _check_kept(self) -> None:
        while self._kept and self._kept[-1].checkpoint.size == self._tree.size:
            kept = self._kept.pop().checkpoint
            if kept.origin != self._verified.checkpoint.origin:
                self.findings.add("log.bad_signature", "A checkpoint kept earlier is of another log.")
            elif hmac.compare_digest(kept.root, self._tree.root()):
                self._proofs += 1
            else:
                self.findings.add("log.fork", f"A checkpoint kept earlier has another root at size {kept.size}.")

    def _check_silence(self, name: str, last_time: datetime) -> None:
        term = self._policy.silent_after
        if term is not None and term.is_over(last_time, self._latest):
            self.findings.add("audit.violation", f"Not heard of for more than {term.text}.", None, name)

    def _follow(self, index: int, data: bytes) -> None:
        try:
            entry = parse_log_entry(data)
            if isinstance(entry, TrailEntry):
                self._kinds["trail"] += 1
                self._follow_trail(index, entry)
            elif isinstance(entry, HeadEntry):
                self._kinds["head"] += 1
                self._follow_head(index, entry)
            else:
                self._kinds["device"] += 1
                self._enrol(index, entry)
        except FacekeepError as error:
            self.findings.add(error.code, str(error.args[0]), index)

    def _enrol(self, index: int, entry: DeviceEntry) -> None:
        if entry.device in self._devices:
            self.findings.add("audit.invalid_entry", "The device was enrolled before.", index, entry.device)
            return
        if self._policy.devices is not None and entry.device not in self._policy.devices:
            self.findings.add("audit.violation", "The policy does not list this device.", index, entry.device)
        life = DeviceLife(entry.device, entry.public_key, self._policy, self.findings)
        self._devices[device_id(entry.public_key)] = _Device(entry.public_key, life)

    def _follow_trail(self, index: int, line: TrailEntry) -> None:
        device = self._devices.get(line.device)
        if device is None:
            self.findings.add("audit.invalid_entry", "No device of this name was enrolled before.", index, line.device)
            return
        entry, tree = read_entry(line.body), device.tree
        time = entry.time
        if not device.broken:
            # One finding for one break: what follows it is judged against what is there.
            if entry.seq != tree.size:
                self._break(device, "audit.wrong_sequence", f"Number {entry.seq} follows {tree.size} entries.", index, line.device)
            elif entry.prev != (device.last.hex().encode() if device.last else None):
                self._break(device, "audit.broken_chain", "It does not name the entry before it.", index, line.device)
        if device.last_time is not None and time < device.last_time:
            self.findings.add("audit.broken_chain", "It is dated before the entry in front of it.", index, line.device)
        if time > self._latest:
            self.findings.add("audit.from_the_future", "It is dated after the checkpoint that holds it.", index, line.device)
        leaf = hashlib.sha256(b"\x00" + line.body).digest()
        tree.append(leaf)
        device.last, device.last_time = leaf, time
        self._events[entry.event] += 1
        if self._first is None or time < self._first:
            self._first = time
        if self._last is None or time > self._last:
            self._last = time
        device.life.take(index, entry, leaf)
        if entry.event in RELEASES:
            self._releases.take(index, line.device, entry)

    def _follow_head(self, index: int, line: HeadEntry) -> None:
        device = self._devices.get(line.device)
        if device is None:
            self.findings.add("audit.invalid_entry", "No device of this name was enrolled before.", index, line.device)
            return
        signed = open_head(line.note, device.key)
        self._heads += 1
        if not device.tree.size or signed.size != device.tree.size or not hmac.compare_digest(signed.root, device.tree.root()):
            self._break(device, "audit.broken_chain", "The signed head is not one over the entries before it.", index, line.device)
            return
        device.signed = signed.size

    def _break(self, device: _Device, code: str, message: str, index: int, name: str) -> None:
        if not device.broken:
            self.findings.add(code, message, index, name)
        device.broken = True
