"""Opened templates for 1:N, in memory for as long as they are needed and no longer."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from facekeep.biometric.arrays import wipe
from facekeep.clock import Clock
from facekeep.comparison import Gallery
from facekeep.consent import ConsentGrant, ConsentRecord, Purpose, fold_chain, require_clock
from facekeep.errors import ComparisonError, ConsentError
from facekeep.flows.standing import Standing
from facekeep.vault import SQLiteVault, SubjectHandle, VaultTransaction


@dataclass(frozen=True, slots=True)
class Consenting:
    """Everyone whose consent to identification holds, and for how long that answer does.

    Attributes:
        handles: slot -> subject.
        grant: the grant of one of them: what a camera asks for.
        valid_from: first instant this holds.
        good_until: first instant at which some consent in it ends or a further one begins.
        revision: revision of the vault it was read at.
    """

    handles: dict[int, SubjectHandle] = field(repr=False)
    grant: ConsentGrant
    valid_from: datetime
    good_until: datetime
    revision: int


@dataclass(frozen=True, slots=True)
class OpenedGallery:
    """The opened templates of those who consent, under one contract.

    Attributes:
        gallery: the vectors.
        consenting: whose they are.
        contract_id: their contract.
        size: number of subjects.
        templates: number of templates, what a probe is compared with.
        waiting: number of subjects who consent and have templates of other contracts only: they are not searched.
    """

    gallery: Gallery = field(repr=False)
    consenting: Consenting
    contract_id: str
    size: int
    templates: int
    waiting: int


class GalleryCache:
    """Opens the gallery on demand; wipes it when idle, when a consent begins or ends, and when the vault changes.

    Args:
        idle: wiped after this long without use.
        precision: "float32" or "int8".
    """

    def __init__(self, idle: timedelta, precision: Literal["float32", "int8"]) -> None:
        self._idle_seconds = idle.total_seconds()
        self._precision = precision
        self._consenting: Consenting | None = None
        self._opened: OpenedGallery | None = None
        self._timer: threading.Timer | None = None
        self.lock = threading.RLock()

    def __repr__(self) -> str:
        return f"GalleryCache(open={self._opened is not None})"

    @property
    def is_open(self) -> bool:
        """Whether opened templates are in memory now."""
        return self._opened is not None

    def wipe(self) -> None:
        """Overwrite the opened templates and forget them."""
        with self.lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._consenting = None
            if self._opened is not None:
                self._opened.gallery.wipe()
                self._opened = None

    def require_consenting(self, vault: SQLiteVault, clock: Clock) -> Consenting:
        """Return who consents to identification now, opening no template.

        Raises:
            ConsentError: "consent.none" when nobody does; "consent.clock_set_back".
        """
        with self.lock:
            with vault.transaction(durable=False) as transaction:
                # A clock set back would bring an ended consent to life again, in a gallery opened while it held.
                standing = Standing(transaction)
                now = require_clock(clock.now(), standing.last_event)
                known = self._consenting
                if known is None or known.revision != transaction.revision or not known.valid_from <= now < known.good_until:
                    self.wipe()
                    self._consenting = known = _read_consenting(transaction, standing, vault.device_key.public_bytes, now)
            return known

    def opened(self, vault: SQLiteVault, clock: Clock, contract_id: str) -> OpenedGallery:
        """Return the gallery of everyone who consents now. Hold `lock` while using it: another thread may wipe it.

        Raises:
            ConsentError: as `require_consenting`. ComparisonError: "comparison.empty_gallery".
        """
        with self.lock:
            consenting = self.require_consenting(vault, clock)
            if self._opened is None or self._opened.contract_id != contract_id:
                with vault.transaction(durable=False) as transaction:
                    rows = transaction.open_gallery(contract_id, consenting.handles.keys())
                    waiting = transaction.waiting(contract_id, consenting.handles.keys())
                if rows.revision != consenting.revision:
                    # Another process wrote between the two readings. Slots are reused: a person enrolled into a freed one
                    # could be searched without consent. So who consents is asked again.
                    wipe(rows.vectors)
                    return self.opened(vault, clock, contract_id)
                if not len(rows.slots):
                    raise ComparisonError(
                        "comparison.empty_gallery",
                        f"Nobody who consents to identification has a template under these models; {waiting} wait for a "
                        "verification to follow the model in use. Enrol first.",
                    )
                try:
                    gallery = Gallery(rows.vectors, rows.slots, precision=self._precision)
                finally:
                    wipe(rows.vectors)
                size = len(set(rows.slots.tolist()))
                self._opened = OpenedGallery(gallery, consenting, contract_id, size, len(rows.slots), waiting)
            self._restart_timer()
            return self._opened

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(self._idle_seconds, self.wipe)
        self._timer.daemon = True
        self._timer.start()


def _read_consenting(transaction: VaultTransaction, standing: Standing, device_key: bytes, now: datetime) -> Consenting:
    """Fold the chain of every subject.

    The device's signatures are not checked again here: the head of the vault authenticates every record, and ten thousand
    Ed25519 verifications take a second. The gate of the 1:1 flows checks them.
    """
    handles: dict[int, SubjectHandle] = {}
    grant: ConsentGrant | None = None
    held_back: ConsentError | None = None
    good_until = datetime.max.replace(tzinfo=now.tzinfo)
    for handle in transaction.subjects():
        chain = transaction.consents(handle)
        records = [ConsentRecord.parse(signed.body) for signed in chain]
        state = fold_chain(records)
        record = state.in_force
        if record is None or Purpose.IDENTIFICATION not in state.purposes or now >= record.valid_until:
            continue
        if now < record.valid_from:
            good_until = min(good_until, record.valid_from)
            continue
        try:
            end = standing.require(record, chain[records.index(record)], device_key=device_key, now=now)
        except ConsentError as error:
            if error.code == "consent.corrupt":
                raise
            # Not to be relied on under the policy of this device: left out, until a list or a signature comes in.
            held_back = error
            continue
        good_until = min(good_until, record.valid_until, end or record.valid_until)
        handles[handle.slot] = handle
        grant = grant or ConsentGrant(handle.name, record, state.purposes)
    if grant is None:
        raise held_back or ConsentError(
            "consent.none", "Nobody enrolled here consents to identification now. Record a grant first."
        )
    return Consenting(handles, grant, now, good_until, transaction.revision)
