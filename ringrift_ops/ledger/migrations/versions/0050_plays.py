"""Measured rates of hosts, and self-play that a command shares out over them."""

import sqlalchemy as sa
from alembic import op

from ringrift_ops.ledger import schema

revision = "0050"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "host_rates",
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("work", sa.String(length=200), nullable=False),
        sa.Column("per_second", sa.Float(), nullable=False),
        sa.Column("measured_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("host", "config", "work", name=op.f("pk_host_rates")),
    )
    op.create_table(
        "plays",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("asked", sa.String(length=64), nullable=False),
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("shards", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("started_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("seen_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("finished_at", schema.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plays")),
    )
    op.create_index(op.f("ix_plays_asked"), "plays", ["asked"], unique=False)
    op.create_table(
        "play_shards",
        sa.Column("play", sa.String(length=64), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("job_id", sa.String(length=200), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("started_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("finished_at", schema.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["play"], ["plays.id"], name=op.f("fk_play_shards_play")),
        sa.PrimaryKeyConstraint("play", "shard", name=op.f("pk_play_shards")),
    )
