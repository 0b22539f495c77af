"""What was backed out."""

import sqlalchemy as sa
from alembic import op

from ringrift_ops.ledger import schema

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_INDEX, _TABLE = "ix_parity_verdicts_window", "parity_verdicts"


def upgrade() -> None:
    """Add the table, and the column that keeps such games out of the windows."""
    op.create_table(
        "poisoned",
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("root", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["sha"], ["artifacts.sha"], name=op.f("fk_poisoned_sha")),
        sa.PrimaryKeyConstraint("sha", name=op.f("pk_poisoned")),
    )
    op.add_column(_TABLE, sa.Column("poisoned", sa.Boolean(), nullable=False, server_default=sa.text("false")))
    op.drop_index(_INDEX, table_name=_TABLE)
    op.create_index(_INDEX, _TABLE, ["config", "passed", "poisoned", "trained", "rows"], unique=False)
