"""Run by alembic with the connection that ``Connected.migrate`` holds; never on its own."""

from alembic import context

from ringrift_ops.ledger.schema import METADATA, VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
# No transaction of its own: the caller's holds all of a migration or nothing.
context.run_migrations()
