"""What alembic runs: the connection comes from the caller, in `config.attributes`."""

from __future__ import annotations

from alembic import context

from remoterun.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
