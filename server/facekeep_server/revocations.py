"""Revocation lists on their way to devices: the newest of each issuer, as it was signed.

The server adds nothing and can change nothing: a device verifies the issuer's signature itself and refuses an older list. What the
server can do is withhold a list; then the consents that depend on it go stale (docs/formats/revocation-list.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from facekeep.clock import Clock, to_rfc3339
from facekeep.consent import ListHead, RevocationList, VerifierKey, open_revocation_list, require_newer
from facekeep.errors import ConsentError, TrustError
from facekeep_server.errors import ServerError
from facekeep_server.log.transaction import record_incident
from facekeep_server.store import Store
from facekeep_server.store.tables import Incident, StoredRevocationList


@dataclass(frozen=True, slots=True)
class RevocationRow:
    """The newest list of an issuer, without its entries."""

    issuer: str
    epoch: int
    head: bytes
    received_at: str

    def to_head(self) -> ListHead:
        """Return what the list says of itself."""
        return ListHead.parse(self.head)


class RevocationLists:
    """The lists in the store.

    Args:
        store: where.
        issuers: whose lists are taken.
        clock: now.
    """

    def __init__(self, store: Store, issuers: Sequence[VerifierKey], clock: Clock) -> None:
        self._store, self._issuers, self._clock = store, tuple(issuers), clock

    def publish(self, data: bytes) -> tuple[ListHead, bool]:
        """Keep a signed list if it is newer than the one held; return its head and whether it was.

        Raises:
            ServerError: "revocation.invalid", "revocation.older"; "revocation.fork", an incident with the list as evidence.
        """
        found = self._open(data)
        with self._store.writing() as connection:
            query = select(StoredRevocationList.head).where(StoredRevocationList.issuer == found.issuer).with_for_update()
            held = connection.execute(query).scalar_one_or_none()
            try:
                is_newer = require_newer(None if held is None else ListHead.parse(bytes(held)), found.head)
                refusal = None
            except ConsentError as error:
                is_newer, refusal = False, error
                if error.code == "consent.revocation_fork":
                    # One is proof enough, and lists are large.
                    known = select(Incident.id).where(Incident.code == "revocation.fork", Incident.evidence.isnot(None)).limit(1)
                    evidence = None if connection.execute(known).first() else data
                    record_incident(connection, self._clock.now(), "revocation.fork", None, found.epoch, evidence)
            if is_newer:
                values = {
                    "epoch": found.epoch,
                    "head": found.head.to_bytes(),
                    "note": data,
                    "received_at": to_rfc3339(self._clock.now()),
                }
                if held is None:
                    connection.execute(insert(StoredRevocationList).values(issuer=found.issuer, **values))
                else:
                    connection.execute(
                        update(StoredRevocationList).where(StoredRevocationList.issuer == found.issuer).values(**values)
                    )
        if refusal is not None:
            code = "revocation.fork" if refusal.code == "consent.revocation_fork" else "revocation.older"
            raise ServerError(code, str(refusal.args[0]))
        return found.head, is_newer

    def newest(self, issuer: str, after: int) -> bytes | None:
        """Return the newest list of an issuer, or None if its epoch is not above `after`.

        Raises:
            ServerError: "revocation.none" where no list of this issuer is held.
        """
        columns = (StoredRevocationList.epoch, StoredRevocationList.note)
        with self._store.reading() as connection:
            row = connection.execute(select(*columns).where(StoredRevocationList.issuer == issuer)).one_or_none()
        if row is None:
            raise ServerError("revocation.none", "No revocation list of this issuer was published here.")
        return bytes(row.note) if row.epoch > after else None

    def list(self) -> list[RevocationRow]:
        """Return the newest list of every issuer."""
        columns = (
            StoredRevocationList.issuer,
            StoredRevocationList.epoch,
            StoredRevocationList.head,
            StoredRevocationList.received_at,
        )
        with self._store.reading() as connection:
            rows = connection.execute(select(*columns).order_by(StoredRevocationList.issuer))
            return [RevocationRow(row.issuer, row.epoch, bytes(row.head), row.received_at) for row in rows]

    def _open(self, data: bytes) -> RevocationList:
        # Several issuers are few; whose list it is stands in the signature, which is what is checked.
        for issuer in self._issuers:
            try:
                return open_revocation_list(data, issuer)
            except TrustError:
                continue
        raise ServerError("revocation.invalid", "It is not a revocation list signed by an issuer that revocations.issuers names.")
