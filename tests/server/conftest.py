"""A server on SQLite and on PostgreSQL: every test that takes `database` runs on both."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
import uvicorn

from facekeep.clock import ManualClock
from facekeep_server.access.roles import Role
from facekeep_server.api import create_app
from facekeep_server.assembly import Server, assemble, prepare
from facekeep_server.configuration import Configuration
from facekeep_server.store import Store, migrate
from facekeep_server.store.tables import Base
from tests.server.devices import Follower, TestDevice
from tests.server.postgres import Postgres, reason_to_skip, running_postgres

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ORIGIN = "log.example.org/fleet"
MakeServer = Callable[..., Server]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    reason = reason_to_skip()
    if reason:
        pytest.skip(reason)
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "log.sqlite3"
    store = Store(f"sqlite:///{path}")
    migrate(store)
    store.close()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as url:
        store = Store(url)
        migrate(store)
        store.close()
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of the newest schema: migrated once, then copied or emptied, which is what takes no time."""
    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "log.sqlite3")
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("migrated_postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
        connection.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def blank_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/blank.sqlite3"
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield url


def configuration(database: str, folder: Path, **sections: dict[str, object]) -> Configuration:
    values: dict[str, dict[str, object]] = {
        "store": {"database": database, "keys": str(folder / "keys")},
        "http": {"public_url": "http://testserver"},
        "log": {"origin": ORIGIN, "commit_interval_ms": 1},
        "limits": {"device_requests_per_second": 1e6, "token_requests_per_second": 1e6, "peer_requests_per_second": 1e6},
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return Configuration.model_validate(values)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def make_server(database: str, tmp_path: Path, clock: ManualClock) -> Iterator[MakeServer]:
    made = []

    def make(**sections: dict[str, object]) -> Server:
        server = assemble(configuration(database, tmp_path, **sections), clock=clock)
        made.append(server)
        prepare(server)
        return server

    yield make
    for server in made:
        server.stop()


@contextlib.contextmanager
def served(server: Server) -> Iterator[httpx.Client]:
    """A client of a server that really listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = uvicorn.Config(create_app(server), log_config=None, access_log=False, server_header=False, ws="none")
        http = uvicorn.Server(settings)
        thread = threading.Thread(target=http.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
                while not http.started:
                    assert thread.is_alive(), "the server did not start"
                    time.sleep(0.005)
                yield client
        finally:
            http.should_exit = True
            thread.join(30)


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    return make_server()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with served(server) as client:
        yield client


@pytest.fixture
def follower(server: Server) -> Follower:
    return Follower([row.key.to_vkey() for row in server.keys.list()])


@pytest.fixture
def new_device(server: Server, client: httpx.Client, clock: ManualClock) -> Callable[[int], TestDevice]:
    def make(number: int) -> TestDevice:
        device = TestDevice(bytes([number]) * 32, clock=clock)
        code, _ = server.codes.create(f"device {number}", timedelta(hours=1))
        answer = device.enrol(client, code)
        assert answer.status_code == 201, answer.text
        return device

    return make


@pytest.fixture
def device(new_device: Callable[[int], TestDevice]) -> TestDevice:
    return new_device(7)


@pytest.fixture
def auditor(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.tokens.create(Role.AUDITOR, 'auditor', timedelta(days=1))[0]}"}


@pytest.fixture
def administrator(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.tokens.create(Role.ADMINISTRATOR, 'admin', timedelta(days=1))[0]}"}
