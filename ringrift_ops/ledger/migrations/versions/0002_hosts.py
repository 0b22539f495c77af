"""Which host a stage runs on, and how the hosts are."""

import sqlalchemy as sa
from alembic import op

from ringrift_ops.ledger import schema

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the host of a stage and the table of hosts."""
    op.add_column("stage_runs", sa.Column("host", sa.String(length=200), nullable=True))
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("seen_at", schema.UtcDateTime(timezone=True), nullable=True),
        sa.Column("away_since", schema.UtcDateTime(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("boot_id", sa.String(length=64), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_hosts")),
    )


def downgrade() -> None:
    """Remove them."""
    op.drop_table("hosts")
    op.drop_column("stage_runs", "host")
