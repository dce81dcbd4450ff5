"""The store: SQLite for one machine, PostgreSQL for a fleet, the same tables and the same code on both."""

from facekeep_server.store.engine import Store, typed_database_errors
from facekeep_server.store.schema import migrate, require_current_schema

__all__ = ["Store", "migrate", "require_current_schema", "typed_database_errors"]
