"""A device and its transparency log: the trail goes there, proofs come back, and nothing is believed that is not proved.

Steps:
    0 read where log and device stood: entries submitted, checkpoint kept
    1 make a batch of the next entries, under a head signed by the device
    2 submit it; sent again, nothing is doubled
    3 follow the log: its checkpoint is signed and continues the one kept; if not, both signed notes are evidence
    4 have the checkpoint witnessed as the policy demands, or follow to one that is
    5 require a proof for every line of the batch
    6 keep checkpoint and number of entries in one durable transaction; only now may older entries be deleted
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from facekeep.audit import AuditEvent, TrailHead, sign_head
from facekeep.audit.entry import LARGEST_BATCH, DeviceEntry, TrailBatch, device_id, make_batch
from facekeep.audit.following import FollowedLog, ForkError, follow_log, require_logged
from facekeep.canonical import parse_canonical, to_canonical
from facekeep.errors import FacekeepError, LogError, VaultError
from facekeep.flows.context import FlowContext
from facekeep.flows.holdings import SUBMITTED_SETTING
from facekeep.keys.files import create_private, make_private_directory, typed_os_errors
from facekeep.randomness import SystemRandomness
from facekeep.submission import LineProof, LogServer, Patience
from facekeep.submission.witnessing import have_witnessed, require_continued
from facekeep.tlog import TrustPolicy
from facekeep.vault import VaultTransaction

if TYPE_CHECKING:
    from facekeep.flows.sync import SyncReport

SERVER_SETTING: Final = "log.server"
CHECKPOINT_SETTING: Final = "log.checkpoint"
EVIDENCE_DIRECTORY: Final = "log-evidence"
_VERSION: Final = 1
_MOST_EVIDENCE: Final = 16
_DISTRUST: Final = frozenset({"log.malformed", "log.bad_signature", "log.bad_proof", "log.stale", "log.fork"})
_PLAIN = re.compile(r"[A-Za-z0-9._:/+,-]{1,128}")


@dataclass(frozen=True, slots=True)
class LogStatus:
    """Where a device stands with its log.

    Attributes:
        url: address of the server, or None before enrolment.
        submitted: entries of the trail that are proved to be in the log.
        waiting: entries that are not.
        checkpoint: the signed note kept, or None.
    """

    url: str | None
    submitted: int
    waiting: int
    checkpoint: str | None


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    trust: str

    def to_bytes(self) -> bytes:
        return to_canonical({"v": _VERSION, "url": self.url, "trust": self.trust})

    @classmethod
    def parse(cls, data: bytes) -> _Server:
        try:
            fields = parse_canonical(data)
            found = cls(fields["url"], fields["trust"])
            if found.to_bytes() != data:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise VaultError("vault.corrupt", "What the vault says of the log server is not of its form.") from None
        return found


@dataclass(frozen=True, slots=True)
class _Standing:
    server: _Server
    kept: str | None
    submitted: int


class DeviceLog:
    """The transparency log of a device: `device.log`. Talks to a network only in `enrol`, `submit` and `sync`."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    def enrol(self, url: str, code: str | None, *, trust: str, patience: Patience | None = None) -> LogStatus:
        """Enrol this device at a log server and follow its log from now on.

        Args:
            url: public address of the server, https (http on this machine only).
            code: one-time code; None if the device is enrolled there and only address or policy change.
            trust: whom to believe: a tlog-policy (https://c2sp.org/tlog-policy), from the operator, not from the server.
            patience: how long to try.

        Raises:
            LogError: "log.malformed" (the policy), "log.unreachable", "log.refused", and whatever `submit` finds wrong.
        """
        policy, wanted = TrustPolicy.parse(trust), _Server(url.rstrip("/"), trust)
        server = self._connect(wanted, patience)
        # 0 stood
        with self._context.vault.transaction(durable=False) as transaction:
            kept = _read_note(transaction)
        key = self._context.vault.device_key.public_bytes
        number = -1
        try:
            if code is None:
                followed = self._return_to(server, policy, kept, patience)
            else:
                device, line, note = server.enrol(code)
                shown = self._follow(server, policy, kept, note)
                # 4 witness
                followed = have_witnessed(server, policy, shown, patience or Patience())
                # 5 proof
                if device != device_id(key):
                    raise LogError("log.malformed", "The log server enrolled another device than this one.")
                require_logged(shown, DeviceEntry(device, key).to_bytes(), line.number, line.path)
                number = line.number
        except LogError as error:
            self._report(error, kept)
            raise
        # 6 keep
        with self._context.vault.transaction() as transaction:
            transaction.write_setting(SERVER_SETTING, wanted.to_bytes())
            transaction.write_setting(CHECKPOINT_SETTING, followed.note.encode())
            if transaction.read_setting(SUBMITTED_SETTING) is None:
                transaction.write_setting(SUBMITTED_SETTING, b"0")
            origin = followed.checkpoint.origin
            name = origin if _PLAIN.fullmatch(origin) else hashlib.sha256(origin.encode()).hexdigest()
            transaction.append_event(AuditEvent("log.enrolled", details={"log": name, "number": number}))
        return self.status()

    def submit(self, *, patience: Patience | None = None) -> LogStatus:
        """Submit every entry of the trail that the log does not have yet. Stopped at any point, the next call goes on.

        Raises:
            LogError: "log.not_enrolled", "log.unreachable", "log.refused" (a `LogRefusal`), "log.no_quorum"; and, recorded in the
                trail, "log.malformed", "log.bad_signature", "log.bad_proof", "log.stale" and "log.fork" (a `ForkError`, the
                evidence also in the home of the device). Whatever was proved before stands.
        """
        while True:
            # 0 stood, 1 batch
            with self._context.vault.transaction(durable=False) as transaction:
                standing, batch = _read_standing(transaction), self._next_batch(transaction)
            if batch is None:
                return self.status()
            try:
                followed = self._submit(standing, batch, patience)
            except LogError as error:
                self._report(error, standing.kept)
                raise
            self._keep(standing, followed, standing.submitted + len(batch.bodies))

    def sync(self, *, patience: Patience | None = None) -> SyncReport:
        """Fetch the newest revocation list and apply it, then submit: see `facekeep.flows.sync`.

        Raises:
            LogError: as `submit`. ConsentError, TrustError: a list that cannot be used; the trail was submitted all the same.
        """
        from facekeep.flows.sync import sync

        return sync(self._context, patience)

    def fetch_revocations(self, issuer: str, after: int, patience: Patience | None = None) -> bytes | None:
        """Return the server's newest revocation list of an issuer, unverified; None if its epoch is not above `after`.

        Raises:
            LogError: "log.not_enrolled", "log.unreachable", "log.refused", "log.malformed".
        """
        with self._context.vault.transaction(durable=False) as transaction:
            standing = _read_standing(transaction)
        return self._connect(standing.server, patience).revocations(issuer, after)

    def status(self) -> LogStatus:
        """Return where this device stands with its log. Asks nobody."""
        with self._context.vault.transaction(durable=False) as transaction:
            stored = transaction.read_setting(SERVER_SETTING)
            submitted = int(transaction.read_setting(SUBMITTED_SETTING) or b"0")
            waiting = transaction.trail_size - submitted
            note = _read_note(transaction)
        return LogStatus(None if stored is None else _Server.parse(stored).url, submitted, waiting, note)

    def _next_batch(self, transaction: VaultTransaction) -> TrailBatch | None:
        begin = _read_standing(transaction).submitted
        end = min(transaction.trail_size, begin + LARGEST_BATCH)
        if end <= begin:
            return None
        key = self._context.vault.device_key
        # Ed25519 signs the same head the same way each time: a batch sent again is the same bytes.
        note = sign_head(TrailHead(transaction.trail_edge(end)), key)
        return make_batch(key.public_bytes, transaction.trail_between(begin, end), note)

    def _submit(self, standing: _Standing, batch: TrailBatch, patience: Patience | None) -> FollowedLog:
        server, lines = self._connect(standing.server, patience), batch.to_lines()
        # 2 submit
        answer = server.submit(batch)
        if answer.first != standing.submitted or len(answer.proofs) != len(lines):
            raise LogError("log.bad_proof", "The log server's answer is not about the entries submitted.")
        # 3 follow
        policy = TrustPolicy.parse(standing.server.trust)
        shown = self._follow(server, policy, standing.kept, answer.checkpoint)
        # 4 witness
        followed = have_witnessed(server, policy, shown, patience or Patience())
        # 5 proofs: under the checkpoint of the answer, which the one to keep is or continues
        for line, proof in zip(lines, answer.proofs, strict=True):
            _require_line(shown, line, proof)
        return followed

    def _follow(self, server: LogServer, policy: TrustPolicy, kept: str | None, note: str) -> FollowedLog:
        followed = None if kept is None else FollowedLog.parse(kept)
        # 3 follow: a fork is one whether it was witnessed or not, so continuity comes first
        alone = replace(policy, quorum="none")
        shown = alone.verify(note).checkpoint
        proof: tuple[bytes, ...] = ()
        if followed is not None and 0 < followed.checkpoint.size < shown.size:
            proof = server.consistency(followed.checkpoint.size, shown.size)
        return follow_log(followed, note, proof, alone)

    def _return_to(self, server: LogServer, policy: TrustPolicy, kept: str | None, patience: Patience | None) -> FollowedLog:
        note = server.checkpoint().decode("utf-8", "replace")
        followed = None if kept is None else FollowedLog.parse(kept)
        if followed is not None:
            alone = replace(policy, quorum="none")
            published = alone.verify(note).checkpoint
            if published.origin == followed.checkpoint.origin and 0 < published.size < followed.checkpoint.size:
                require_continued(server, followed, note, alone)
                policy.verify(note)
                return followed
        return have_witnessed(server, policy, self._follow(server, policy, kept, note), patience or Patience())

    def _keep(self, standing: _Standing, followed: FollowedLog, submitted: int) -> None:
        # 6 keep
        with self._context.vault.transaction() as transaction:
            now = _read_standing(transaction)
            # Another process was faster: what it kept was followed from the same checkpoint, and ours need not continue it.
            if now.kept == standing.kept and now.submitted == standing.submitted:
                transaction.write_setting(CHECKPOINT_SETTING, followed.note.encode())
                transaction.write_setting(SUBMITTED_SETTING, str(submitted).encode("ascii"))

    def _connect(self, server: _Server, patience: Patience | None) -> LogServer:
        context = self._context
        return LogServer(server.url, context.vault.device_key, context.clock, SystemRandomness(), patience)

    def _report(self, error: LogError, kept: str | None) -> None:
        """Record that the log was caught at something; keep the evidence of a fork where the operator finds it."""
        if error.code not in _DISTRUST:
            return
        details: dict[str, str | int | bool] = {}
        if kept is not None:
            details["kept"] = FollowedLog.parse(kept).checkpoint.size
        try:
            if isinstance(error, ForkError):
                evidence = error.evidence.to_bytes()
                details["evidence"] = hashlib.sha256(evidence).hexdigest()
                details["shown"] = FollowedLog.parse(error.evidence.shown).checkpoint.size
                self._write_evidence(evidence, str(details["evidence"]))
        except FacekeepError as second:
            error.add_note(f"The evidence could not be written to the home of the device: {second.code}.")
        self._context.record_refusal(AuditEvent("log.distrusted", error.code, details=details), error)

    def _write_evidence(self, evidence: bytes, digest: str) -> None:
        folder = self._context.vault.inspection().home / EVIDENCE_DIRECTORY
        make_private_directory(folder)
        with typed_os_errors("write the evidence"), contextlib.suppress(FileExistsError):
            # The first pieces convict as well as the last; a log that goes on lying must not fill the disk.
            if sum(1 for _ in folder.iterdir()) >= _MOST_EVIDENCE:
                return
            create_private(folder / f"{digest[:16]}.json", evidence)


def _require_line(followed: FollowedLog, line: bytes, proof: LineProof) -> None:
    require_logged(followed, line, proof.number, proof.path)


def _read_note(transaction: VaultTransaction) -> str | None:
    stored = transaction.read_setting(CHECKPOINT_SETTING)
    return None if stored is None else stored.decode("utf-8", "replace")


def _read_standing(transaction: VaultTransaction) -> _Standing:
    stored = transaction.read_setting(SERVER_SETTING)
    if stored is None:
        raise LogError("log.not_enrolled", "This device is not enrolled with a log server. Run: facekeep log enrol URL")
    return _Standing(_Server.parse(stored), _read_note(transaction), int(transaction.read_setting(SUBMITTED_SETTING) or b"0"))
