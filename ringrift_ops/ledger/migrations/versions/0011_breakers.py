"""Circuit breakers per config and action."""

import sqlalchemy as sa
from alembic import op

from ringrift_ops.ledger import schema

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "breakers",
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("successes", sa.Integer(), nullable=False),
        sa.Column("opened_at", schema.UtcDateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("changed_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("config", "action", name=op.f("pk_breakers")),
    )
