"""Migrations, shipped in the package: `facekeep-server migrate` brings a database to this version's schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from facekeep_server.errors import ServerError
from facekeep_server.store.engine import Store


def migrate(store: Store) -> str:
    """Bring the database to the newest schema and return its revision."""
    with store.writing() as connection:
        if not store.is_sqlite:
            # Two servers that start together: one migrates, the other waits and finds it done.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4611686018427387707)")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return _revision_of(connection)


def require_current_schema(store: Store) -> None:
    """Return if the database has the schema this version was written for.

    Raises:
        ServerError: "server.schema" or "server.unavailable".
    """
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    with store.reading() as connection:
        found = _revision_of(connection)
    if found != newest:
        raise ServerError(
            "server.schema", f"The database is at revision {found or 'none'}, not {newest}. Run: facekeep-server migrate"
        )


def _revision_of(connection: object) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""  # type: ignore[arg-type]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
