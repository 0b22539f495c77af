"""What the last look after a host did."""

import sqlalchemy as sa
from alembic import op

from ringrift_ops.ledger import schema

revision = "0040"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add when a host was last looked after, and what came of it."""
    op.add_column("hosts", sa.Column("tended_at", schema.UtcDateTime(timezone=True), nullable=True))
    op.add_column("hosts", sa.Column("tended", sa.JSON(), nullable=True))
