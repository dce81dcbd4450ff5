"""One door to the database: who writes holds it alone on SQLite, and waits for the disk on both."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from facekeep_server.errors import ServerError

_LOG = logging.getLogger("facekeep_server.store")
_BUSY_SECONDS = 20
_DIALECTS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}


@contextlib.contextmanager
def typed_database_errors() -> Iterator[None]:
    """Turn what a database driver raises into a typed error; its own message may hold values and stays here."""
    try:
        yield
    except IntegrityError:
        raise  # a row that must be unique: what it means is the caller's to say
    except (OperationalError, InterfaceError, PoolTimeoutError):
        raise ServerError("server.unavailable", "The database did not answer or refused. Try again.", retry_after=1) from None
    except DBAPIError as error:
        _LOG.error("database.failed", extra={"code": "server.internal", "error": type(error).__name__})
        # A server that PostgreSQL cut off reports it in several ways.
        code = "server.unavailable" if error.connection_invalidated else "server.internal"
        raise ServerError(code, "The database refused. Nothing was acknowledged.") from None


class Store:
    """An engine with the settings that what we promise depends on.

    Args:
        url: "sqlite:///PATH" or "postgresql://...".

    Raises:
        ServerError: "server.invalid_configuration".
    """

    def __init__(self, url: str) -> None:
        self.url = _require_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = self._connect_lazily()
        self._writer = threading.Lock()

    def __repr__(self) -> str:
        return f"Store({self.url.get_backend_name()})"

    @contextlib.contextmanager
    def reading(self, *, snapshot: bool = False) -> Iterator[Connection]:
        """Give a connection to read by.

        Args:
            snapshot: True where several statements have to see one state of the database.
        """
        with typed_database_errors(), self.engine.connect() as connection:
            if self.is_sqlite or snapshot:
                level = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
                with connection.execution_options(**level).begin():
                    yield connection
            else:
                # One statement needs no BEGIN and COMMIT around it, each of which is a message to the database and back.
                yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """Give a transaction that may write; it is on the disk when this returns.

        Args:
            durable: False for what may be lost in a power cut, never in a crash of the process: nonces.
        """
        with self._turn(), typed_database_errors(), self.engine.connect() as plain:
            connection = plain.execution_options(facekeep_writes=True)
            if self.is_sqlite:
                # Outside of the transaction: SQLite ignores the pragma inside one. Set each time, since connections are pooled.
                raw = connection.connection.dbapi_connection
                raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")  # type: ignore[union-attr]
            with connection.begin():
                if not self.is_sqlite and not durable:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
                yield connection

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        # SQLite's own waiting sleeps up to 100 ms between looks; threads of one process hand over at once.
        if not self.is_sqlite:
            yield
            return
        if not self._writer.acquire(timeout=_BUSY_SECONDS):
            raise ServerError("server.unavailable", "The database is busy. Try again.", retry_after=1)
        try:
            yield
        finally:
            self._writer.release()

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _connect_lazily(self) -> Engine:
        if not self.is_sqlite:
            return create_engine(
                self.url,
                # Not pre-pinged: a connection that was cut off shows itself at its first statement, and with it all others go.
                pool_size=8,
                max_overflow=8,
                pool_timeout=_BUSY_SECONDS,
                isolation_level="READ COMMITTED",
                connect_args={"connect_timeout": _BUSY_SECONDS},
            )
        engine = create_engine(self.url, connect_args={"timeout": _BUSY_SECONDS}, pool_timeout=_BUSY_SECONDS)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine


def _require_url(text: str) -> URL:
    try:
        url = make_url(text)
        name = url.get_backend_name()
        # Asked for now, not at the first request: a driver that is missing is a fault of the configuration.
        fixed = url.set(drivername=_DIALECTS[name])
        fixed.get_dialect()
    except (ArgumentError, NoSuchModuleError, KeyError, ValueError):
        # The URL may hold a password: it is not repeated.
        raise ServerError(
            "server.invalid_configuration", 'store.database is not "sqlite:///PATH" or "postgresql://USER@HOST/NAME".'
        ) from None
    if name == "sqlite" and url.database in (None, "", ":memory:"):
        raise ServerError("server.invalid_configuration", "A log is kept in a file: store.database names none.")
    return fixed


def _prepare_sqlite(raw: Any, _record: object) -> None:
    # The driver's own transactions would begin too late, and without a lock; we begin them ourselves.
    raw.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF", "secure_delete=ON"):
        raw.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # IMMEDIATE: a writer that read first and locked later could not go on.
    writes = connection.get_execution_options().get("facekeep_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
