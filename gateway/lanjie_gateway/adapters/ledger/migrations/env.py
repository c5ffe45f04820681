"""Alembic's entry: runs over the connection that the ledger hands over."""

from alembic import context

from lanjie_gateway.adapters.ledger.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
