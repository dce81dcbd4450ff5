"""A device of the demo log: a month of its days, told to its trail event by event. Nobody is behind the numbers."""

from __future__ import annotations

import hashlib
import hmac
import random
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from facekeep.audit import AuditEvent, TrailHead, append_event, sign_head
from facekeep.audit.entry import LARGEST_BATCH, make_batch
from facekeep.clock import to_rfc3339
from facekeep.merkle import leaf_hash
from facekeep.retention import Gone, Kind, Reason, RetentionCertificate
from facekeep.signing import DeviceKey

_PURPOSES: Final = "enrolment,identification,verification"
_LINES: Final = LARGEST_BATCH // 2  # of one batch, the head included


class DemoDevice:
    """Lives day by day; whoever enrols on one day leaves, by withdrawal or by time, on a later one.

    Args:
        seed: of the whole demo.
        number: of the device.
        begin: its first day.
        retention_policy: hash of the policy its retention runs follow.
    """

    def __init__(self, seed: int, number: int, begin: datetime, retention_policy: str) -> None:
        self.key = DeviceKey(hashlib.sha256(f"demo device {seed} {number}".encode()).digest())
        self._random = random.Random(f"{seed} {number}")  # noqa: S311 - a scenario, not a secret
        self._number = number
        self._begin = begin
        self._now = begin
        self._retention_policy = retention_policy
        self._head = TrailHead()
        self._people: dict[str, datetime] = {}  # commitment -> end of consent, in order of enrolment
        self._joined = 0
        self._epoch = 1
        self._accounted = 0
        self._gone: list[Gone] = []

    def live(self, day: int, share: int) -> list[bytes]:
        """Return exactly `share` lines of the log: the entries of a day in batches, each with its signed head."""
        heads = -(-share // _LINES)
        wanted = share - heads
        self._now = self._begin + timedelta(days=day, minutes=10 * self._number)
        step = timedelta(hours=20) / (wanted + 1)
        plan = self._plan(day)
        # As many batches as there are heads, each with as many entries as the others or one more.
        ends = {wanted * (number + 1) // heads for number in range(heads)}
        lines: list[bytes] = []
        waiting: list[bytes] = []
        for place in range(wanted):
            self._now += step
            due = [subject for subject, end in self._people.items() if end <= self._now]
            if due:
                waiting.append(self._expire(due[0]))
            elif plan:
                waiting.append(plan.pop(0)())
            else:
                waiting.append(self._run_retention() if place == wanted - 1 else self._use())
            if place + 1 in ends:
                lines += self._submit(waiting)
                waiting = []
        return lines

    def _submit(self, bodies: list[bytes]) -> list[bytes]:
        return list(make_batch(self.key.public_bytes, bodies, sign_head(self._head, self.key)).to_lines())

    def _log(self, code: str, subject: str | None = None, outcome: str = "ok", **details: str | int | bool) -> bytes:
        body, self._head = append_event(self._head, AuditEvent(code, outcome, subject, details), self._now)
        return body

    def _plan(self, day: int) -> list[Callable[[], bytes]]:
        plan: list[Callable[[], bytes]] = []
        if day == 0:
            plan.append(lambda: self._log("vault.created", provider="key-file"))
        if day % 3 == 0:
            plan += [self._consent, self._enrol]
        elif day % 7 in (3, 4) and len(self._people) > 1:
            leaver = next(iter(self._people))
            plan += [lambda: self._withdraw(leaver), lambda: self._erase(leaver)]
        elif day % 5 == 4:
            plan.append(lambda: self._log("consent.refused", self._pseudonym(-day), record=self._record(), purposes=_PURPOSES))
        return plan

    def _consent(self) -> bytes:
        self._joined += 1
        subject = self._pseudonym(self._joined)
        # One in four comes for a week only.
        end = self._now + timedelta(days=7 if self._joined % 4 == 0 else 365)
        self._people[subject] = end
        return self._log("consent.given", subject, record=self._record(), purposes=_PURPOSES, until=to_rfc3339(end))

    def _enrol(self) -> bytes:
        subject = self._pseudonym(self._joined)
        quality = self._random.randint(60, 95)
        return self._log("template.created", subject, reference=self._record(), contract="demo", frames=3, quality=quality)

    def _use(self) -> bytes:
        if not self._people or self._random.random() < 0.05:
            return self._log("verification", None, self._random.choice(("acquisition.low_quality", "consent.none")))
        subject = self._random.choice(list(self._people))
        if self._random.random() < 0.7:
            return self._log("verification", subject, match=self._random.random() < 0.97, fmr="0.001", references=1)
        return self._log(
            "identification",
            subject,
            result="identified",
            fmr="1e-05",
            fpir="0.01",
            gallery=len(self._people),
            started=to_rfc3339(self._now - timedelta(milliseconds=180)),
            ended=to_rfc3339(self._now),
            database="vault:demo:1",
            input="not retained",
        )

    def _withdraw(self, subject: str) -> bytes:
        return self._log("consent.withdrawn", subject, record=self._record(), purposes=_PURPOSES)

    def _erase(self, subject: str) -> bytes:
        del self._people[subject]
        self._epoch += 1
        return self._log("template.erased", subject, references=1, epoch=self._epoch)

    def _expire(self, subject: str) -> bytes:
        due = self._people.pop(subject)
        self._epoch += 1
        details: dict[str, str | int | bool] = {
            "references": 1,
            "epoch": self._epoch,
            "reason": Reason.PURPOSE_END.value,
            "due": to_rfc3339(due),
            "subject_erased": True,
        }
        seq = self._head.size
        body = self._log("template.expired", subject, "ok", **details)
        self._gone.append(
            Gone(
                kind=Kind.TEMPLATE,
                pseudonym=subject,
                count=1,
                reason=Reason.PURPOSE_END,
                due=due,
                seq=seq,
                entry_hash=leaf_hash(body).hex(),
            )
        )
        return body

    def _run_retention(self) -> bytes:
        certificate = RetentionCertificate(
            public_key=self.key.public_bytes.hex(),
            policy_sha256=self._retention_policy,
            trigger="daily",
            first=self._accounted,
            seq=self._head.size,
            previous=self._head.last_hash.hex() if self._head.last_hash else None,
            as_of=self._now,
            gone=tuple(self._gone),
        )
        self._accounted = self._head.size + 1
        self._gone = []
        counts = certificate.counts
        return self._log(
            "retention.run",
            policy=certificate.policy_sha256,
            trigger=certificate.trigger,
            as_of=to_rfc3339(certificate.as_of),
            first=certificate.first,
            templates=counts[Kind.TEMPLATE],
            samples=counts[Kind.TRAINING_SAMPLE],
            receipts=counts[Kind.RECEIPT],
            entries=counts[Kind.LOG_ENTRIES],
            certificate=certificate.sha256,
        )

    def _pseudonym(self, person: int) -> str:
        # As in a vault: HMAC under a salt of the subject's own; here the salt comes from the seed.
        salt = hashlib.sha256(self.key.public_bytes + person.to_bytes(8, "big", signed=True)).digest()
        return hmac.new(salt, b"facekeep demo subject", hashlib.sha256).hexdigest()

    def _record(self) -> str:
        return f"urn:uuid:{uuid.UUID(int=self._random.getrandbits(128), version=4)}"
