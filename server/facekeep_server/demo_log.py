"""A real log directory for trying the auditor: devices, people who come and go, two witnesses. The people are numbers.

The trails, signatures, proofs and cosignatures are made by the code that makes them in a fleet; only time passes faster, and the
keys come from a seed, so that one seed makes one log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from facekeep.audit.entry import DeviceEntry, device_id
from facekeep.logfiles import LogDirectory, LogWriter
from facekeep.note import sign_note
from facekeep.retention import RetentionPolicy
from facekeep.signing import DeviceKey
from facekeep.tlog import LogProof, NoteKey, NoteKind, SignedNote, TileHashes, cosign, make_inclusion
from facekeep_server.demo_fleet import DemoDevice
from facekeep_server.errors import ServerError

ORIGIN: Final = "demo.facekeep.example/log"
WITNESSES: Final = ("north.witness.example", "south.witness.example")
FEWEST_ENTRIES: Final = 1_000
DEVICES: Final = 5
DAYS: Final = 30
RETENTION: Final = RetentionPolicy(
    templates_inactivity="P90D",
    templates_maximum="P1Y",
    samples_inactivity="P30D",
    samples_maximum="P90D",
    receipts_after_end="P3Y",
    log_keep="P5Y",
)


@dataclass(frozen=True, slots=True)
class DemoLog:
    """What was written.

    Attributes:
        log: the log directory.
        policy: the policy it satisfies.
        kept: a checkpoint published on the way, as an auditor would have kept it.
        proof: proof that an erasure is in the log, as its subject would have received it.
        entries: number of entries.
        erased: number of people erased.
    """

    log: Path
    policy: Path
    kept: Path
    proof: Path
    entries: int
    erased: int

    @property
    def command(self) -> str:
        """The command that audits it."""
        return f"facekeep audit verify {self.log} --policy {self.policy} --kept {self.kept} --proof {self.proof}"


def write_demo_log(folder: Path, now: datetime, *, entries: int = FEWEST_ENTRIES, seed: int = 7) -> DemoLog:
    """Write a log of exactly `entries` entries that end just before `now`, its policy, a kept checkpoint and a proof.

    Raises:
        ServerError: "server.invalid_request" for fewer than 1,000 entries, or a folder that is not empty.
        LogError: "log.io".
    """
    if entries < FEWEST_ENTRIES:
        raise ServerError("server.invalid_request", f"The demo log has at least {FEWEST_ENTRIES} entries.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ServerError("server.invalid_request", "The folder for the demo log has to be empty or absent.")
    begin = (now - timedelta(days=DAYS, hours=1)).replace(minute=0, second=0, microsecond=0)
    keys = {name: DeviceKey(hashlib.sha256(f"demo log {seed} {name}".encode()).digest()) for name in (ORIGIN, *WITNESSES)}
    result = DemoLog(folder / "log", folder / "policy.toml", folder / "checkpoint-kept", folder / "erasure.tlog-proof", entries, 0)
    erased = 0
    erasure: tuple[int, bytes] | None = None
    with LogWriter(result.log, durable=False) as writer:
        for day, lines in _days(entries, begin, seed):
            for line in lines:
                if b'"event":"template.erased"' in line:
                    erased, erasure = erased + 1, (writer.size, line)
                writer.append([line])
            if day == DAYS // 2:
                note = _sign(writer.checkpoint(ORIGIN).to_text(), keys, begin + timedelta(days=day + 1))
                writer.publish(note)
                result.kept.write_text(note, encoding="utf-8")
        note = _sign(writer.checkpoint(ORIGIN).to_text(), keys, begin + timedelta(days=DAYS))
        writer.publish(note)
    if erasure is None:
        raise AssertionError("every demo log erases somebody")
    index, _ = erasure
    path = make_inclusion(TileHashes(entries, LogDirectory(result.log).read_tile), index, entries)
    result.proof.write_text(LogProof(index, path, note).to_text(), encoding="utf-8")
    result.policy.write_text(_policy(keys), encoding="utf-8")
    return DemoLog(result.log, result.policy, result.kept, result.proof, entries, erased)


def _days(entries: int, begin: datetime, seed: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield each day and its lines; over all days exactly `entries` of them."""
    fleet = [DemoDevice(seed, number, begin, RETENTION.sha256) for number in range(DEVICES)]
    lines = [DeviceEntry(device_id(device.key.public_bytes), device.key.public_bytes).to_bytes() for device in fleet]
    made, turns = len(lines), DEVICES * DAYS
    for day in range(DAYS):
        for number, device in enumerate(fleet):
            turn = day * DEVICES + number + 1
            share = DEVICES + (entries - DEVICES) * turn // turns - made
            submitted = device.live(day, share)
            lines += submitted
            made += len(submitted)
        yield day, lines
        lines = []


def _sign(text: str, keys: dict[str, DeviceKey], at: datetime) -> str:
    note = SignedNote.parse(sign_note(text, ORIGIN, keys[ORIGIN]))
    seconds = int(at.timestamp())
    return note.with_signatures(*(cosign(note.text, name, keys[name], seconds) for name in WITNESSES)).to_text()


def _policy(keys: dict[str, DeviceKey]) -> str:
    log = NoteKey(ORIGIN, NoteKind.ED25519, keys[ORIGIN].public_bytes).to_vkey()
    witnesses = [f"witness {name} {NoteKey(name, NoteKind.COSIGNATURE, keys[name].public_bytes).to_vkey()}" for name in WITNESSES]
    trust = "\n".join([f"log {log}", *witnesses, f"group both all {' '.join(WITNESSES)}", "quorum both"])
    return f"""\
# What `facekeep audit verify` demands of this log. Format: docs/compliance/audit.md
facekeep_audit_policy = 1
trust = '''
{trust}
'''

[retention]
inactivity = "{RETENTION.templates_inactivity}"
maximum = "{RETENTION.templates_maximum}"
erase_within = "P1D"
run_every = "P2D"
"""
