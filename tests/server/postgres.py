"""A PostgreSQL of our own for the tests: in a temporary directory, on a Unix socket, not as root, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

WANTED = "FACEKEEP_TEST_POSTGRES"


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Attributes:
        base: connection string without a database; what is said of the host stands behind the question mark.
        restart: ends it as a power cut would and starts it again, or None for a server that is not ours.
    """

    base: str
    directory: Path | None = None
    binaries: Path | None = None

    def url(self, database: str) -> str:
        head, _, tail = self.base.partition("?")
        return f"{head.rstrip('/')}/{database}" + (f"?{tail}" if tail else "")

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """A fresh database."""
        name = f"facekeep_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def control(self, *words: str) -> None:
        assert self.directory is not None
        assert self.binaries is not None
        _run_as_other(self.binaries / "pg_ctl", "-D", self.directory / "data", "-w", "-l", self.directory / "log", *words)

    def crash_and_restart(self, pause_seconds: float = 0.0) -> None:
        """Kill every session without a word and come back."""
        self.control("stop", "-m", "immediate")
        time.sleep(pause_seconds)
        self.control("start")


def reason_to_skip() -> str | None:
    """Why there is no PostgreSQL here, or None."""
    if os.environ.get(WANTED):
        return None
    if _binaries() is None:
        return f"no PostgreSQL: {WANTED} is not set and no `postgres` is installed (apt-get install postgresql)"
    if os.geteuid() == 0 and _other_user() is None:
        return "no PostgreSQL: it does not run as root, and there is no other user to run it as"
    return None


@contextlib.contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """The server that FACEKEEP_TEST_POSTGRES names, or one of our own."""
    named = os.environ.get(WANTED)
    if named:
        yield Postgres(named)
        return
    binaries = _binaries()
    assert binaries is not None
    directory = Path(tempfile.mkdtemp(prefix="facekeep-pg-"))
    server = Postgres(f"postgresql://facekeep@/?host={directory}", directory, binaries)
    try:
        if os.geteuid() == 0:
            user = _other_user()
            assert user is not None
            os.chown(directory, user, user)
        words = ["-U", "facekeep", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        _run_as_other(binaries / "initdb", "-D", directory / "data", *words)
        settings = {"listen_addresses": "''", "unix_socket_directories": f"'{directory}'", "max_connections": "60"}
        settings |= {} if durable else {"fsync": "off"}
        with (directory / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        server.control("start")
        try:
            yield server
        finally:
            server.control("stop", "-m", "immediate")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    path = shutil.which("postgres")
    return Path(path).resolve().parent if path else None


def _other_user() -> int | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return None


def _run_as_other(*words: object) -> None:
    user = _other_user() if os.geteuid() == 0 else None
    done = subprocess.run(
        [str(word) for word in words],
        user=user,
        extra_groups=[] if user is not None else None,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]} failed: {done.stdout[-2000:]}")
