"""Where the tables come from: one store, its log, the configuration and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from facekeep_server.assembly import Server
from facekeep_server.evidence.reading import LogFollower
from facekeep_server.store.tables import Device


@dataclass(frozen=True, slots=True)
class Evidence:
    """What every table is made from.

    Attributes:
        server: store, log, keys and configuration; it need not be serving.
        follower: what the entries amount to.
    """

    server: Server
    follower: LogFollower

    @classmethod
    def of(cls, server: Server) -> Evidence:
        """Return the evidence of a server."""
        return cls(server, LogFollower(server.store))

    def now(self) -> datetime:
        """Return the present instant."""
        return self.server.clock.now()

    def labels(self) -> dict[str, str]:
        """Return device -> label."""
        return {row.id: row.label for row in self.devices()}

    def devices(self) -> list[DeviceFacts]:
        """Return the whole fleet by label."""
        columns = (Device.id, Device.label, Device.enrolled_at, Device.revoked_at, Device.trail_size, Device.trail_time)
        with self.server.store.reading() as connection:
            return [DeviceFacts(*row) for row in connection.execute(select(*columns).order_by(Device.label, Device.id))]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """A device as the store has it.

    Attributes:
        id: name in the log.
        label: what the operator calls it.
        enrolled_at: when.
        revoked_at: when, or None.
        trail_size: entries of its trail in the log.
        trail_time: time of the last of them, or None.
    """

    id: str
    label: str
    enrolled_at: str
    revoked_at: str | None
    trail_size: int
    trail_time: str | None
