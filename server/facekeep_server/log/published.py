"""What is published where witnesses are configured, and what each witness said last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update

from facekeep.clock import to_rfc3339
from facekeep_server.log.transaction import record_incident
from facekeep_server.store import Store
from facekeep_server.store.tables import PublishedHead, WitnessState


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that enough witnesses have seen.

    Attributes:
        size: entries.
        note: signed note, with their cosignatures.
        witnessed_at: when it was published with the newest of them.
    """

    size: int
    note: str
    witnessed_at: str


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What a witness said.

    Attributes:
        size: entries of the checkpoint it cosigned last, as far as it said so.
        outcome: "ok" or a code.
        at: when.
    """

    size: int
    outcome: str
    at: datetime


@dataclass(frozen=True, slots=True)
class WitnessRow:
    """Where a witness stood when it was asked last."""

    name: str
    size: int
    cosigned_at: str | None
    asked_at: str
    outcome: str


class PublishedHeads:
    """The published head and the witnesses in the store.

    Args:
        store: where.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self) -> Published | None:
        """Return what is published, or None before the first quorum."""
        columns = (PublishedHead.size, PublishedHead.note, PublishedHead.witnessed_at)
        with self._store.reading() as connection:
            row = connection.execute(select(*columns).where(PublishedHead.id == 1)).one_or_none()
        return None if row is None else Published(*row)

    def publish(self, size: int, note: str, at: datetime) -> bool:
        """Publish a head; return False for one that is shorter than what is published, or the very same."""
        values = {"size": size, "note": note, "witnessed_at": to_rfc3339(at)}
        with self._store.writing() as connection:
            query = select(PublishedHead.size, PublishedHead.note).where(PublishedHead.id == 1).with_for_update()
            held = connection.execute(query).one_or_none()
            if held is None:
                connection.execute(insert(PublishedHead).values(id=1, **values))
                return True
            # Another process was faster, with more: whoever saw that must not be shown less.
            if held.size > size or held.note == note:
                return False
            connection.execute(update(PublishedHead).where(PublishedHead.id == 1).values(**values))
            return True

    def note_witness(self, name: str, said: Witnessed, incident: str | None) -> bool:
        """Write down what a witness said; return whether it said something else before.

        Args:
            name: of the witness in the policy.
            said: what.
            incident: code to record if it did not say the same before, or None.
        """
        at = to_rfc3339(said.at)
        values = {"size": said.size, "asked_at": at, "outcome": said.outcome}
        if said.outcome == "ok":
            values["cosigned_at"] = at
        with self._store.writing(durable=False) as connection:
            held = connection.execute(select(WitnessState.outcome).where(WitnessState.name == name)).scalar_one_or_none()
            if held is None:
                connection.execute(insert(WitnessState).values(name=name, **values))
            else:
                connection.execute(update(WitnessState).where(WitnessState.name == name).values(**values))
            if incident is not None and held != said.outcome:
                record_incident(connection, said.at, incident, None, said.size)
        return held != said.outcome

    def witnesses(self) -> dict[str, WitnessRow]:
        """Return what each witness said last, by name."""
        columns = (WitnessState.name, WitnessState.size, WitnessState.cosigned_at, WitnessState.asked_at, WitnessState.outcome)
        with self._store.reading() as connection:
            return {row.name: WitnessRow(*row) for row in connection.execute(select(*columns))}
