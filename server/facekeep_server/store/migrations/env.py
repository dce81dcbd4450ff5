"""What Alembic runs: on the connection it is given, in the transaction that is open there."""

from alembic import context

from facekeep_server.store.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
