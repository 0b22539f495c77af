"""The first tables."""

import sqlalchemy as sa
from alembic import op

from ringrift_ops.ledger import schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table of the first version."""
    op.create_table(
        "generations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=500), nullable=False),
        sa.Column("logical_date", schema.UtcDateTime(timezone=True), nullable=True),
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("run_after", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("profile", sa.String(length=200), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("parent", sa.String(length=64), nullable=True),
        sa.Column("created_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("seen_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("granted_at", schema.UtcDateTime(timezone=True), nullable=True),
        sa.Column("finished_at", schema.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_generations")),
        sa.UniqueConstraint("key", name=op.f("uq_generations_key")),
    )
    op.create_index("ix_generations_config_state", "generations", ["config", "state"], unique=False)
    op.create_table(
        "waivers",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("config", sa.String(length=200), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("created_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waivers")),
    )
    op.create_table(
        "artifacts",
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("meta", sa.JSON(), nullable=False),
        sa.Column("created_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["generation"], ["generations.id"], name=op.f("fk_artifacts_generation")),
        sa.PrimaryKeyConstraint("sha", name=op.f("pk_artifacts")),
    )
    op.create_index("ix_artifacts_config_kind_created_at", "artifacts", ["config", "kind", "created_at"], unique=False)
    op.create_index(op.f("ix_artifacts_generation"), "artifacts", ["generation"], unique=False)
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("config", sa.String(length=200), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["generation"], ["generations.id"], name=op.f("fk_events_generation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("digest", name=op.f("uq_events_digest")),
    )
    op.create_index(op.f("ix_events_at"), "events", ["at"], unique=False)
    op.create_index(op.f("ix_events_config"), "events", ["config"], unique=False)
    op.create_index(op.f("ix_events_generation"), "events", ["generation"], unique=False)
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=250), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("acquired_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["generation"], ["generations.id"], name=op.f("fk_leases_generation")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_index(op.f("ix_leases_generation"), "leases", ["generation"], unique=False)
    op.create_table(
        "stage_runs",
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("job_id", sa.String(length=200), nullable=True),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.Column("finished_at", schema.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["generation"], ["generations.id"], name=op.f("fk_stage_runs_generation")),
        sa.PrimaryKeyConstraint("generation", "stage", "shard", name=op.f("pk_stage_runs")),
    )
    op.create_table(
        "artifact_parents",
        sa.Column("child", sa.String(length=64), nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["child"], ["artifacts.sha"], name=op.f("fk_artifact_parents_child")),
        sa.ForeignKeyConstraint(["parent"], ["artifacts.sha"], name=op.f("fk_artifact_parents_parent")),
        sa.PrimaryKeyConstraint("child", "parent", "role", name=op.f("pk_artifact_parents")),
    )
    op.create_index(op.f("ix_artifact_parents_parent"), "artifact_parents", ["parent"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=500), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("recorded_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["generation"], ["generations.id"], name=op.f("fk_deliveries_generation")),
        sa.ForeignKeyConstraint(["sha"], ["artifacts.sha"], name=op.f("fk_deliveries_sha")),
        sa.PrimaryKeyConstraint("sha", "destination", name=op.f("pk_deliveries")),
    )
    op.create_index(op.f("ix_deliveries_generation"), "deliveries", ["generation"], unique=False)
    op.create_table(
        "evaluations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("report", sa.String(length=64), nullable=False),
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("candidate", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=True),
        sa.Column("gate_version", sa.String(length=200), nullable=False),
        sa.Column("verdict", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opponents", sa.JSON(), nullable=False),
        sa.Column("created_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["candidate"], ["artifacts.sha"], name=op.f("fk_evaluations_candidate")),
        sa.ForeignKeyConstraint(["generation"], ["generations.id"], name=op.f("fk_evaluations_generation")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        sa.UniqueConstraint("report", name=op.f("uq_evaluations_report")),
    )
    op.create_index(op.f("ix_evaluations_candidate"), "evaluations", ["candidate"], unique=False)
    op.create_index(op.f("ix_evaluations_generation"), "evaluations", ["generation"], unique=False)
    op.create_table(
        "parity_verdicts",
        sa.Column("batch", sa.String(length=64), nullable=False),
        sa.Column("report", sa.String(length=64), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("checked", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("recorded_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["artifacts.sha"], name=op.f("fk_parity_verdicts_batch")),
        sa.PrimaryKeyConstraint("batch", name=op.f("pk_parity_verdicts")),
    )
    op.create_table(
        "game_pairs",
        sa.Column("evaluation", sa.Integer(), nullable=False),
        sa.Column("opponent", sa.String(length=40), nullable=False),
        sa.Column("opening", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("digests", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation"], ["evaluations.id"], name=op.f("fk_game_pairs_evaluation")),
        sa.PrimaryKeyConstraint("evaluation", "opponent", "opening", name=op.f("pk_game_pairs")),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=True),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("evaluation", sa.Integer(), nullable=True),
        sa.Column("gate_version", sa.String(length=200), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("created_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["evaluation"], ["evaluations.id"], name=op.f("fk_promotions_evaluation")),
        sa.ForeignKeyConstraint(["generation"], ["generations.id"], name=op.f("fk_promotions_generation")),
        sa.ForeignKeyConstraint(["sha"], ["artifacts.sha"], name=op.f("fk_promotions_sha")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotions")),
    )
    op.create_index(op.f("ix_promotions_config"), "promotions", ["config"], unique=False)
    op.create_index(op.f("ix_promotions_generation"), "promotions", ["generation"], unique=False)
    op.create_table(
        "canonical",
        sa.Column("config", sa.String(length=200), nullable=False),
        sa.Column("sha", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=True),
        sa.Column("promotion", sa.Integer(), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("moved_at", schema.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["promotion"], ["promotions.id"], name=op.f("fk_canonical_promotion")),
        sa.ForeignKeyConstraint(["sha"], ["artifacts.sha"], name=op.f("fk_canonical_sha")),
        sa.PrimaryKeyConstraint("config", name=op.f("pk_canonical")),
    )
