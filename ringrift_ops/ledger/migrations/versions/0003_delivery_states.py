"""How a delivery stands: pending, copying, verified, failed or stale."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the state; what was tried before is verified or failed."""
    with op.batch_alter_table("deliveries") as table:
        table.add_column(sa.Column("state", sa.String(length=20), nullable=True))
    op.execute("UPDATE deliveries SET state = CASE WHEN verified THEN 'verified' ELSE 'failed' END")
    with op.batch_alter_table("deliveries") as table:
        table.alter_column("state", existing_type=sa.String(length=20), nullable=False)


def downgrade() -> None:
    """Remove it."""
    with op.batch_alter_table("deliveries") as table:
        table.drop_column("state")
