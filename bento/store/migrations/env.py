"""What alembic runs: the migrations in the connection that ``Store.migrate`` hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from bento.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=True
)
context.run_migrations()
