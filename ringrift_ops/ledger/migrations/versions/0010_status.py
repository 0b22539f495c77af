"""Who waits for what, and sums of games without opening their JSON: status answers at once."""

import json

import sqlalchemy as sa
from alembic import op

from ringrift_ops.ledger import schema

revision = "0010"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table of waits and the columns that windows and status sum over."""
    op.create_index("ix_generations_state", "generations", ["state"], unique=False)
    op.create_table(
        "waits",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("condition", sa.String(length=20), nullable=False),
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("since", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("seen_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["generation"], ["generations.id"], name=op.f("fk_waits_generation")),
        sa.PrimaryKeyConstraint("generation", "condition", name=op.f("pk_waits")),
    )
    op.add_column("parity_verdicts", sa.Column("config", sa.String(length=200), nullable=False, server_default=""))
    op.add_column("parity_verdicts", sa.Column("games", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("parity_verdicts", sa.Column("rows", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(
        "parity_verdicts", sa.Column("trained", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.create_index(
        "ix_parity_verdicts_window", "parity_verdicts", ["config", "passed", "trained", "rows"], unique=False
    )
    op.create_index("ix_events_type_config_at", "events", ["type", "config", "at"], unique=False)
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    verdicts, made, links = (sa.table(name) for name in ("parity_verdicts", "artifacts", "artifact_parents"))
    for table, names in (
        (verdicts, ("batch", "failed", "config", "games", "rows", "trained")),
        (made, ("sha", "kind", "config", "meta")),
        (links, ("child", "parent")),
    ):
        for name in names:
            table.append_column(sa.column(name))
    of_dataset = links.alias()
    trained = set(
        connection.scalars(
            sa.select(links.c.parent)
            .join(of_dataset, of_dataset.c.parent == links.c.child)
            .join(made, made.c.sha == of_dataset.c.child)
            .where(made.c.kind == "weights")
        )
    )
    rows = connection.execute(
        sa.select(verdicts.c.batch, verdicts.c.failed, made.c.config, made.c.meta).join(
            made, made.c.sha == verdicts.c.batch
        )
    ).all()
    for row in rows:
        meta = json.loads(row.meta) if isinstance(row.meta, str) else row.meta
        connection.execute(
            sa.update(verdicts)
            .where(verdicts.c.batch == row.batch)
            .values(
                config=row.config, games=meta["games"] - row.failed, rows=meta["moves"], trained=row.batch in trained
            )
        )
