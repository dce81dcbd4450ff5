"""Puts the server together from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from facekeep.clock import Clock, SystemClock
from facekeep.note import Checkpoint
from facekeep.randomness import Randomness, SystemRandomness
from facekeep.tlog import SignedNote
from facekeep_server.access.enrolment import Codes, Devices
from facekeep_server.access.rates import RateLimit
from facekeep_server.access.requests import Requests
from facekeep_server.access.tokens import Tokens
from facekeep_server.configuration import Configuration
from facekeep_server.log.keys import LogKeys
from facekeep_server.log.published import PublishedHeads
from facekeep_server.log.reading import LogReader
from facekeep_server.log.sequencer import Sequencer
from facekeep_server.log.transaction import begin_log
from facekeep_server.log.witnessing import Cosigning
from facekeep_server.metrics import Metrics
from facekeep_server.revocations import RevocationLists
from facekeep_server.store import Store, migrate, require_current_schema


@dataclass(frozen=True, slots=True)
class Server:
    """The parts of a server that share one store."""

    configuration: Configuration
    clock: Clock
    store: Store
    keys: LogKeys
    reader: LogReader
    sequencer: Sequencer
    tokens: Tokens
    codes: Codes
    devices: Devices
    requests: Requests
    device_rate: RateLimit
    token_rate: RateLimit
    peer_rate: RateLimit
    metrics: Metrics
    heads: PublishedHeads
    cosigning: Cosigning | None
    revocations: RevocationLists

    def published(self) -> tuple[Checkpoint, str]:
        """Return the checkpoint to publish: the newest that the quorum has seen, or the newest where no witness is configured.

        A log whose first quorum is still to come publishes its head as it is: whoever asks for witnesses refuses it.
        """
        found = self.heads.find() if self.cosigning is not None else None
        if found is None:
            return self.reader.checkpoint()
        return Checkpoint.parse(SignedNote.parse(found.note).text), found.note

    def check(self) -> None:
        """Return if the store is one this version can serve from.

        Raises:
            ServerError: "server.schema", "server.corrupt", "server.no_key", "server.unavailable", "server.invalid_configuration".
        """
        require_current_schema(self.store)
        self.reader.verify_stored_head()
        self.reader.checkpoint()

    def start(self) -> None:
        """Check the store and begin to append.

        Raises:
            ServerError: as `check`.
        """
        self.check()
        self.sequencer.start()
        if self.cosigning is not None:
            self.cosigning.start()

    def stop(self) -> None:
        """Commit what waits and close."""
        if self.cosigning is not None:
            self.cosigning.stop()
        self.sequencer.stop()
        self.store.close()


def assemble(configuration: Configuration, *, clock: Clock | None = None, randomness: Randomness | None = None) -> Server:
    """Return a server that has not started."""
    clock, randomness = clock or SystemClock(), randomness or SystemRandomness()
    access, limits, log = configuration.access, configuration.limits, configuration.log
    store = Store(configuration.store.database)
    keys = LogKeys(store, configuration.store.keys.expanduser(), log.origin, clock, randomness)
    devices = Devices(store, clock)
    reader, heads, metrics = LogReader(store, keys, log.origin), PublishedHeads(store), Metrics()
    return Server(
        configuration=configuration,
        clock=clock,
        store=store,
        keys=keys,
        reader=reader,
        sequencer=Sequencer(
            store,
            clock,
            interval_seconds=log.commit_interval_ms / 1000,
            group_lines=log.commit_entries,
            pending_lines=log.pending_entries,
        ),
        tokens=Tokens(store, clock, randomness),
        codes=Codes(store, clock, randomness),
        devices=devices,
        requests=Requests(store, devices, clock, timedelta(seconds=access.clock_window_seconds)),
        device_rate=RateLimit(limits.device_requests_per_second, limits.burst_seconds),
        token_rate=RateLimit(limits.token_requests_per_second, limits.burst_seconds),
        peer_rate=RateLimit(limits.peer_requests_per_second, limits.burst_seconds),
        metrics=metrics,
        heads=heads,
        cosigning=_cosigning(configuration, heads, reader, keys, clock, metrics),
        revocations=RevocationLists(store, configuration.revocations.load_issuers(), clock),
    )


def _cosigning(
    configuration: Configuration, heads: PublishedHeads, reader: LogReader, keys: LogKeys, clock: Clock, metrics: Metrics
) -> Cosigning | None:
    stated = configuration.witnesses
    policy = stated.load_policy()
    if policy is None:
        return None
    return Cosigning(
        heads,
        reader,
        keys,
        clock,
        policy,
        metrics,
        every_seconds=stated.every_seconds,
        refresh=timedelta(hours=stated.refresh_hours),
        timeout_seconds=stated.timeout_seconds,
    )


def prepare(server: Server) -> str:
    """Bring the database to this version's schema, begin the log and make its first key; return the revision."""
    revision = migrate(server.store)
    with server.store.writing() as connection:
        begin_log(connection, server.configuration.log.origin)
    server.keys.require_first()
    return revision
