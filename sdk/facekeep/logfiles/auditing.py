"""The whole log, read once and judged: the adapter around `facekeep.auditor.verification`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from facekeep.auditor.policy import AuditPolicy
from facekeep.auditor.verdict import Finding, Verdict
from facekeep.auditor.verification import LogAudit
from facekeep.errors import LogError
from facekeep.logfiles.source import LogSource
from facekeep.tlog.proof import LogProof
from facekeep.tlog.tiles import ENTRIES, WIDTH, Tile, bundles_of, parse_tile_path, unpack_bundle


def audit_log(
    source: LogSource,
    policy: AuditPolicy,
    now: datetime,
    *,
    kept: Sequence[bytes] = (),
    proofs: Sequence[bytes] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Return the verdict on a whole log. Whatever is wrong is a finding; nothing is raised for it.

    Args:
        source: where the files come from.
        policy: what is demanded.
        now: the auditor's clock.
        kept: signed checkpoints seen earlier or by others: the log has to continue each.
        proofs: texts of proofs (tlog-proof) kept by others: the log has to keep what they prove.
        progress: called with the entries read and the entries to read.
    """
    try:
        verified = policy.trust.verify(source.read_checkpoint())
    except LogError as error:
        return _refused(error, "The checkpoint: ")
    try:
        earlier = [policy.trust.verify(data) for data in kept]
        wanted = sorted(((LogProof.parse(data)) for data in proofs), key=lambda proof: proof.index)
    except LogError as error:
        return _refused(error, "A checkpoint or proof kept beside the log: ")
    audit = LogAudit(policy, verified, now, earlier)
    _read_all(source, audit, verified.checkpoint.size, wanted, progress)
    return audit.finish()


def _read_all(
    source: LogSource,
    audit: LogAudit,
    size: int,
    proofs: list[LogProof],
    progress: Callable[[int, int], None] | None,
) -> None:
    waiting = list(reversed(proofs))
    for bundle in bundles_of(size):
        try:
            entries = unpack_bundle(source.read_tile(bundle), bundle.width)
        except LogError as error:
            audit.findings.add(error.code, f"{bundle.path}: {error.args[0]} Nothing after it was read.", bundle.index * WIDTH)
            return
        _compare(source, audit, audit.add_entries(entries))
        while waiting and waiting[-1].index < audit.size:
            proof = waiting.pop()
            audit.add_proof(proof, entries[proof.index - bundle.index * WIDTH])
        if progress is not None:
            progress(audit.size, size)
    for proof in waiting:
        audit.findings.add("log.bad_proof", "A proof is about an entry that the log does not have.", proof.index)
    _compare(source, audit, audit.partial_tiles())
    try:
        for path in source.other_files(size):
            if not _is_earlier_part(source, path, size):
                audit.findings.add("log.incomplete", f"{_plain(path)} is not a file of a log of {size} entries.")
    except LogError as error:
        audit.findings.add(error.code, str(error.args[0]))


def _is_earlier_part(source: LogSource, path: str, size: int) -> bool:
    """Whether a file is a partial tile of an earlier checkpoint, which a log may keep: the beginning of what is there now."""
    try:
        part = parse_tile_path(path)
        width = min(WIDTH, (size >> 8 * max(part.level, 0)) - WIDTH * part.index)
        if part.width >= width:
            return False
        data, now = source.read_tile(part), source.read_tile(Tile(part.level, part.index, width))
        if part.level == ENTRIES:
            return unpack_bundle(data, part.width) == unpack_bundle(now, width)[: part.width]
        return data == now[: 32 * part.width]
    except LogError:
        return False


def _compare(source: LogSource, audit: LogAudit, tiles: list[tuple[Tile, bytes]]) -> None:
    for tile, expected in tiles:
        try:
            found = source.read_tile(tile)
        except LogError as error:
            audit.findings.add(error.code, f"{tile.path}: {error.args[0]}")
            continue
        if found != expected:
            wrong = [place for place in range(tile.width) if found[32 * place : 32 * place + 32] != expected[32 * place :][:32]]
            place = f" from hash {wrong[0]} on" if wrong else ""
            index = tile.index * WIDTH + wrong[0] if wrong and tile.level == 0 else None
            audit.findings.add("log.bad_proof", f"{tile.path} is not the tile of the entries{place}.", index)


def _refused(error: LogError, what: str) -> Verdict:
    return Verdict(findings=(Finding(error.code, what + str(error.args[0])),), counts={error.code: 1})


def _plain(path: str) -> str:
    # A name chosen by whoever made the copy goes to a terminal.
    return "".join(c if c.isprintable() else "?" for c in path[:120])
