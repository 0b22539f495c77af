"""The host on which a part that crawls was begun a second time."""

import sqlalchemy as sa
from alembic import op

from ringrift_ops.ledger import schema

revision = "0080"
down_revision = "0070"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it to both kinds of parts: those of generations and those of commands."""
    for table in ("stage_runs", "play_shards"):
        op.add_column(table, sa.Column("second", sa.String(length=200), nullable=True))
        op.add_column(table, sa.Column("second_at", schema.UtcDateTime(timezone=True), nullable=True))
