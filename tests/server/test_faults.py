"""The server is killed, the database restarted, while devices submit: nothing acknowledged is lost, doubled or contradicted."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.server.load import ServerProcess, make_fleet, require_everything, run_with_faults
from tests.server.postgres import Postgres


@pytest.mark.slow
def test_kill_9_under_load(database: str, tmp_path: Path) -> None:
    server = ServerProcess(database, tmp_path / "server")
    fleet = make_fleet(server, 3, entries=4)

    def kill() -> None:
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        server.start()

    try:
        run_with_faults(server, fleet, 1, kill, seed=1)
        # Told to stop, it commits what waits and ends; what it wrote of itself names nobody.
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    finally:
        if server.process is not None and server.process.poll() is None:
            server.end(signal.SIGKILL)
    journal = (tmp_path / "server" / "journal").read_text()
    assert '"event":"request.answered"' in journal
    for submitter in fleet:
        assert submitter.device.id not in journal
    assert "127.0.0.1" not in journal
    assert "Traceback" not in journal


@pytest.mark.slow
def test_postgres_restarted_under_load(postgres: Postgres, tmp_path: Path) -> None:
    if postgres.directory is None:
        pytest.skip("the PostgreSQL of FACEKEEP_TEST_POSTGRES is not ours to restart")
    with postgres.database() as database:
        server = ServerProcess(database, tmp_path / "server")
        fleet = make_fleet(server, 3, entries=4)
        try:
            run_with_faults(server, fleet, 2, lambda: postgres.crash_and_restart(0.1), seed=2)
            require_everything(server, fleet)
        finally:
            server.end(signal.SIGKILL)
