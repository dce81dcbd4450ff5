"""The state of the log: checkpoint, heads, keys, witnesses, and what an audit of it finds."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from dataclasses import replace

from facekeep.auditor import AuditPolicy, Verdict
from facekeep.clock import to_rfc3339
from facekeep.errors import LogError
from facekeep.logfiles import audit_log
from facekeep.tlog import Tile, TrustPolicy
from facekeep.tlog.tiles import ENTRIES
from facekeep_server.errors import ServerError
from facekeep_server.evidence.sources import Evidence
from facekeep_server.evidence.table import Column, Fact, Kind, Table


def checkpoint_facts(evidence: Evidence) -> tuple[list[Fact], str]:
    """Return what the newest checkpoint says, and the signed note that is published: with witnesses the newest they have seen."""
    checkpoint = evidence.server.reader.head()
    published, note = evidence.server.published()
    heads = evidence.server.reader.heads(None, 1)
    facts = [
        Fact("origin", "Log", checkpoint.origin),
        Fact("size", "Entries", checkpoint.size, Kind.NUMBER),
        Fact("root", "Root", base64.b64encode(checkpoint.root).decode(), Kind.HASH),
        Fact("committed", "Last commit", heads[0][2] if heads else None, Kind.TIME),
        Fact("published", "Entries published", published.size, Kind.NUMBER),
    ]
    return [*facts, _quorum(evidence, note)], note


def heads_table(evidence: Evidence, before: int | None = None, count: int = 20) -> Table:
    """Return the heads that were committed, the newest first."""
    found = evidence.server.reader.heads(before, count + 1)
    rows = []
    for place, (size, root, at) in enumerate(found[:count]):
        grown = size - found[place + 1][0] if place + 1 < len(found) else size
        rows.append((size, at, grown, base64.b64encode(root).decode()))
    return Table(
        "heads",
        "Heads that were committed, the newest first",
        (
            Column("size", "Entries", Kind.NUMBER),
            Column("at", "Committed", Kind.TIME),
            Column("grown", "New entries", Kind.BAR),
            Column("root", "Root", Kind.HASH),
        ),
        rows,
        "Nothing was committed yet.",
        "Compare a root with one that a device, a witness or an earlier audit kept: the same size has one root for ever.",
        {"before": rows[-1][0]} if len(found) > count else None,
    )


def keys_table(evidence: Evidence) -> Table:
    """Return the log's own keys, the newest first."""
    now = evidence.now()
    rows = []
    for row in evidence.server.keys.list():
        retired = row.retires_at is not None and row.retires_at <= now
        retires = to_rfc3339(row.retires_at) if row.retires_at else None
        rows.append((row.key.to_vkey(), "retired" if retired else "signs", to_rfc3339(row.created_at), retires))
    return Table(
        "keys",
        "Keys of the log",
        (
            Column("vkey", "Verifier key", Kind.KEY),
            Column("state", "State", Kind.STATE),
            Column("created", "Made", Kind.TIME),
            Column("retires", "Retires", Kind.TIME),
        ),
        rows,
        "The log has no key.",
        "Trust a key only if you have it from elsewhere too.",
    )


def witnesses_table(evidence: Evidence) -> Table:
    """Return the witnesses that the policies name, which of them cosigned what is published, and what each said last."""
    stated = evidence.server.configuration.compliance.load_audit_policy()
    policies = [stated.trust] if stated is not None else []
    asked = evidence.server.configuration.witnesses.load_policy()
    policies += [asked] if asked is not None else []
    said, note = evidence.server.heads.witnesses(), evidence.server.published()[1]
    rows: dict[str, tuple[str | int | None, ...]] = {}
    for policy in policies:
        # The log's own keys are those of the store: who cosigned is asked here, not who signed.
        own = replace(policy, logs=tuple(row.key for row in evidence.server.keys.list()))
        seen = _cosignatures(own, note)
        for name, key in policy.witnesses.items():
            at, last = seen.get(name), said.get(name)
            state = "cosigned" if at else "not cosigned"
            answer = (last.outcome, last.asked_at, last.size) if last else (None, None, None)
            url = policy.urls.get(name) or (rows[name][-1] if name in rows else None)
            rows[name] = (name, state, at, *answer, key.to_vkey(), url)
    return Table(
        "witnesses",
        "Witnesses that the policies name",
        (
            Column("name", "Name"),
            Column("state", "Published checkpoint", Kind.STATE),
            Column("at", "Cosigned", Kind.TIME),
            Column("answer", "Last answer", Kind.CODE),
            Column("asked", "Asked", Kind.TIME),
            Column("size", "Entries it has seen", Kind.NUMBER),
            Column("vkey", "Verifier key", Kind.KEY),
            Column("url", "Address"),
        ),
        list(rows.values()),
        "No witness is named: set witnesses.policy, or compliance.audit_policy to a file whose trust lists them.",
        "A witness signs only what continues what it saw before; without any, the operator could show different logs "
        "to different people.",
    )


def verify_everything(evidence: Evidence) -> Verdict:
    """Return the verdict of the auditor on every entry and tile in the store.

    Signatures are judged by the log's own keys here, since this is the operator's machine; the quorum is judged apart.
    """
    stated = evidence.server.configuration.compliance.load_audit_policy()
    vkeys = [row.key.to_vkey() for row in evidence.server.keys.list()]
    own = TrustPolicy.parse("".join(f"log {vkey}\n" for vkey in vkeys) + "quorum none\n")
    policy = AuditPolicy(trust=own) if stated is None else replace(stated, trust=own, max_age=None)
    return audit_log(_StoredLog(evidence), replace(policy, refuse_unknown=False), evidence.now())


class Verification:
    """Keeps the verdict on a log of one root: verifying takes time in proportion to the log."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: tuple[int, bytes, str, Verdict] | None = None

    def of(self, evidence: Evidence, *, largest: int) -> tuple[str, Verdict] | None:
        """Return when the log as it stands was verified, and the verdict; None if it has more than `largest` entries."""
        head = evidence.server.reader.head()
        with self._lock:
            if self._known is None or self._known[:2] != (head.size, head.root):
                if head.size > largest:
                    return None
                verdict = verify_everything(evidence)
                self._known = (head.size, head.root, to_rfc3339(evidence.now()), verdict)
            return self._known[2:]


def verdict_table(verdict: Verdict) -> Table:
    """Return what an audit found."""
    rows = [(item.code, item.index, item.device, item.message) for item in verdict.findings]
    return Table(
        "findings",
        "Findings",
        (
            Column("code", "Code", Kind.CODE),
            Column("entry", "Entry", Kind.ENTRY),
            Column("device", "Device", Kind.DEVICE),
            Column("message", "Finding"),
        ),
        rows,
        "Nothing was found wrong.",
        f"The first {len(rows)} of {sum(verdict.counts.values())}." if sum(verdict.counts.values()) > len(rows) else "",
    )


class _StoredLog:
    # A LogSource over the database.
    def __init__(self, evidence: Evidence) -> None:
        self._reader = evidence.server.reader

    def read_checkpoint(self) -> bytes:
        return self._reader.checkpoint()[1].encode("utf-8")

    def read_tile(self, tile: Tile) -> bytes:
        try:
            return self._reader.bundle(tile) if tile.level == ENTRIES else self._reader.tile(tile)
        except ServerError:
            raise LogError("log.incomplete", f"The database does not hold {tile.path}.") from None

    def other_files(self, size: int) -> Iterator[str]:
        return iter(())


def _cosignatures(trust: TrustPolicy, note: str) -> dict[str, str]:
    try:
        verified = replace(trust, quorum="none").verify(note)
    except LogError:
        return {}
    return {name: to_rfc3339(item.time) for name, item in verified.cosignatures.items()}


def _quorum(evidence: Evidence, note: str) -> Fact:
    policy = evidence.server.configuration.compliance.load_audit_policy()
    if policy is None:
        return Fact("quorum", "Judged by the audit policy", "not stated: set compliance.audit_policy", state="bad")
    try:
        policy.trust.verify(note)
    except LogError as error:
        return Fact("quorum", "Judged by the audit policy", f"{error.code}: {error.args[0]}", state="bad")
    if policy.trust.quorum == "none":
        return Fact("quorum", "Judged by the audit policy", "signed by the log; the policy asks for no witness", state="")
    return Fact("quorum", "Judged by the audit policy", "signed by the log and cosigned by the quorum", state="good")
