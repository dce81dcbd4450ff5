"""Enrolment of devices: a one-time code lets a key in, once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import insert, select, update

from facekeep.audit import TrailHead
from facekeep.audit.entry import DeviceEntry, device_id
from facekeep.clock import Clock, to_rfc3339
from facekeep.randomness import Randomness
from facekeep_server.access.labels import require_label
from facekeep_server.access.secrets import Presented, is_secret, issue, parse_secret
from facekeep_server.errors import ServerError
from facekeep_server.log.transaction import DEVICE_LINE, LogTransaction, read_device, record_incident
from facekeep_server.store import Store
from facekeep_server.store.tables import Device, EnrolmentCode

PREFIX = "fkc"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device that is in.

    Attributes:
        device: its name in the log.
        number: number in the log of the line that says so.
    """

    device: str
    number: int


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device as it can be listed."""

    id: str
    label: str
    enrolled_at: str
    revoked_at: str | None
    trail_size: int
    trail_time: str | None


class Codes:
    """The one-time codes in the store.

    Args:
        store: where.
        clock: now.
        randomness: for new ones.
    """

    def __init__(self, store: Store, clock: Clock, randomness: Randomness) -> None:
        self._store, self._clock, self._randomness = store, clock, randomness

    def create(self, label: str, valid_for: timedelta) -> tuple[str, datetime]:
        """Return a new code, to be shown once, and when it ends."""
        label = require_label(label)
        now = self._clock.now()
        issued = issue(PREFIX, self._randomness)
        with self._store.writing() as connection:
            connection.execute(
                insert(EnrolmentCode).values(
                    id=issued.id,
                    salt=issued.salt,
                    hash=issued.hash,
                    label=label,
                    created_at=to_rfc3339(now),
                    expires_at=to_rfc3339(now + valid_for),
                    failures=0,
                )
            )
        return issued.text, now + valid_for

    def check(self, text: str, attempts: int) -> Presented:
        """Return the parts of a code whose secret is right; whether it may still be used is decided with the log held.

        Raises:
            ServerError: "device.invalid_code"; the same for unknown, wrong and worn-out ones.
        """
        presented = parse_secret(PREFIX, text)
        if presented is not None:
            with self._store.reading() as connection:
                row = connection.execute(
                    select(EnrolmentCode.salt, EnrolmentCode.hash, EnrolmentCode.failures).where(EnrolmentCode.id == presented.id)
                ).one_or_none()
            good = is_secret(presented, row.salt if row else None, row.hash if row else None)
            if row is not None and row.failures < attempts:
                if good:
                    return presented
                with self._store.writing() as connection:
                    where = EnrolmentCode.id == presented.id
                    connection.execute(update(EnrolmentCode).where(where).values(failures=EnrolmentCode.failures + 1))
                    record_incident(connection, self._clock.now(), "device.invalid_code", None)
        raise _invalid_code()


class Enrolment:
    """The job of one enrolment: code used, device written and its first line appended, or nothing.

    Args:
        code: what `Codes.check` returned.
        public_key: 32 bytes, Ed25519; the request was signed with it.
    """

    lines = 1

    def __init__(self, code: Presented, public_key: bytes) -> None:
        self._code, self._entry = code, DeviceEntry(device_id(public_key), public_key)

    def apply(self, log: LogTransaction) -> Enrolled:
        """Enrol.

        Raises:
            ServerError: "device.invalid_code", "device.key_in_use", "device.revoked".
        """
        device = self._entry.device
        row = log.connection.execute(
            select(EnrolmentCode.label, EnrolmentCode.expires_at, EnrolmentCode.used_at, EnrolmentCode.device).where(
                EnrolmentCode.id == self._code.id
            )
        ).one_or_none()
        if row is None:
            raise _invalid_code()
        if row.used_at is not None and row.device == device:
            # The answer was lost and the device asks again: it is in already.
            ((number, _),) = log.logged(device, DEVICE_LINE, 0, 1)
            return Enrolled(device, number)
        if row.used_at is not None or row.expires_at <= to_rfc3339(log.now):
            log.record("device.invalid_code", None)
            raise _invalid_code()
        if log.device(device) is not None:
            # Two devices with one key could each deny what the other did. The code stays good, for a device with a key of its own.
            log.record("device.key_in_use", device)
            raise ServerError("device.key_in_use", "This key is enrolled already. Give each device a key of its own.")
        values = {"used_at": to_rfc3339(log.now), "device": device}
        log.connection.execute(update(EnrolmentCode).where(EnrolmentCode.id == self._code.id).values(values))
        return Enrolled(device, log.add_device(self._entry.public_key, self._entry, row.label))


class Devices:
    """The devices in the store.

    Args:
        store: where.
        clock: now.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store, self._clock = store, clock

    def find(self, device: str) -> tuple[bytes, bool] | None:
        """Return the key of a device and whether it was revoked, or None."""
        with self._store.reading() as connection:
            row = connection.execute(select(Device.public_key, Device.revoked_at).where(Device.id == device)).one_or_none()
        return None if row is None else (bytes(row.public_key), row.revoked_at is not None)

    def trail(self, device: str) -> TrailHead:
        """Return where the log stands with the trail of an enrolled device.

        Raises:
            ServerError: "device.unknown".
        """
        with self._store.reading() as connection:
            state = read_device(connection, device)
        if state is None:
            raise ServerError("device.unknown", "No device has this name.")
        return state.trail

    def list(self, after: str = "", count: int = 100) -> list[DeviceRow]:
        """Return up to `count` devices whose name comes after `after`."""
        columns = (Device.id, Device.label, Device.enrolled_at, Device.revoked_at, Device.trail_size, Device.trail_time)
        with self._store.reading() as connection:
            query = select(*columns).where(Device.id > after).order_by(Device.id).limit(count)
            return [DeviceRow(*row) for row in connection.execute(query)]

    def revoke(self, device: str) -> None:
        """Refuse everything a device says from now on. Its key can never be enrolled again.

        Raises:
            ServerError: "device.unknown".
        """
        now = self._clock.now()
        with self._store.writing() as connection:
            where = (Device.id == device, Device.revoked_at.is_(None))
            done = connection.execute(update(Device).where(*where).values(revoked_at=to_rfc3339(now)))
            if done.rowcount != 1:
                raise ServerError("device.unknown", "No device in force has this name.")
            record_incident(connection, now, "device.revoked", device)


def _invalid_code() -> ServerError:
    return ServerError("device.invalid_code", "The enrolment code is not one that can be used. Ask the operator for a new one.")
