"""The tables. ``migrations/`` builds the same ones step by step; a test holds the two together.

All times are UTC. JSON columns hold what only people and reports read; whatever a query decides on
has a column of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

REVISION = "0080"
"""The alembic revision that this code reads and writes."""

VERSION_TABLE = "ringrift_ledger_version"


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware datetimes in, UTC datetimes out, on SQLite (no zones) and Postgres alike."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; the ledger takes aware datetimes only")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class FreeText(TypeDecorator[str]):
    """What people and programs said; a NUL in it is kept as ␀.

    A line that a power cut tore may hold one, and Postgres takes none.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.replace("\0", "\N{SYMBOL FOR NULL}")


METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SHA = sa.String(64)
NAME = sa.String(200)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.Integer, primary_key=True, autoincrement=True)


def _generation() -> sa.Column[Any]:
    return sa.Column("generation", sa.ForeignKey("generations.id"), nullable=True, index=True)


generations = sa.Table(
    "generations",
    METADATA,
    _id(),
    sa.Column("config", NAME, nullable=False),
    sa.Column("key", sa.String(500), nullable=False, unique=True),
    sa.Column("logical_date", UtcDateTime),
    sa.Column("run_id", sa.String(250), nullable=False),
    sa.Column("run_after", UtcDateTime, nullable=False),
    sa.Column("profile", NAME, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("outcome", sa.String(20)),
    sa.Column("reason", FreeText),
    sa.Column("number", sa.Integer),
    sa.Column("parent", SHA),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("granted_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Index("ix_generations_config_state", "config", "state"),
    sa.Index("ix_generations_state", "state"),
)

leases = sa.Table(
    "leases",
    METADATA,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.String(250)),
    _generation(),
    sa.Column("acquired_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
)

artifacts = sa.Table(
    "artifacts",
    METADATA,
    sa.Column("sha", SHA, primary_key=True),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("path", FreeText, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("config", NAME, nullable=False),
    _generation(),
    sa.Column("meta", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Index("ix_artifacts_config_kind_created_at", "config", "kind", "created_at"),
)

artifact_parents = sa.Table(
    "artifact_parents",
    METADATA,
    sa.Column("child", sa.ForeignKey("artifacts.sha"), primary_key=True),
    sa.Column("parent", sa.ForeignKey("artifacts.sha"), primary_key=True, index=True),
    sa.Column("role", sa.String(40), primary_key=True),
)

parity_verdicts = sa.Table(
    "parity_verdicts",
    METADATA,
    sa.Column("batch", sa.ForeignKey("artifacts.sha"), primary_key=True),
    sa.Column("report", SHA, nullable=False),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("checked", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    sa.Column("config", NAME, nullable=False),
    sa.Column("games", sa.Integer, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("trained", sa.Boolean, nullable=False),
    sa.Column("poisoned", sa.Boolean, nullable=False),
    sa.Index("ix_parity_verdicts_window", "config", "passed", "poisoned", "trained", "rows"),
)
"""``games`` that passed and ``rows`` (moves) of a batch; ``trained``: some net's dataset contains it."""

stage_runs = sa.Table(
    "stage_runs",
    METADATA,
    sa.Column("generation", sa.ForeignKey("generations.id"), primary_key=True),
    sa.Column("stage", sa.String(20), primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("job_id", NAME),
    sa.Column("host", NAME),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("result", sa.JSON),
    sa.Column("error", FreeText),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("second", NAME),
    sa.Column("second_at", UtcDateTime),
)

hosts = sa.Table(
    "hosts",
    METADATA,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("seen_at", UtcDateTime),
    sa.Column("away_since", UtcDateTime),
    sa.Column("reason", FreeText),
    sa.Column("boot_id", sa.String(64)),
    sa.Column("tended_at", UtcDateTime),
    sa.Column("tended", sa.JSON),
)

host_rates = sa.Table(
    "host_rates",
    METADATA,
    sa.Column("host", NAME, primary_key=True),
    sa.Column("config", NAME, primary_key=True),
    sa.Column("work", NAME, primary_key=True),
    sa.Column("per_second", sa.Float, nullable=False),
    sa.Column("measured_at", UtcDateTime, nullable=False),
)
"""Games per second of one job of self-play, as last measured; ``work``: the player and its search."""

plays = sa.Table(
    "plays",
    METADATA,
    sa.Column("id", SHA, primary_key=True),
    sa.Column("asked", SHA, nullable=False, index=True),
    sa.Column("config", NAME, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("shards", sa.Integer, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("result", sa.JSON),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
)
"""Self-play of a command, shared out over hosts; ``state``: playing, done."""

play_shards = sa.Table(
    "play_shards",
    METADATA,
    sa.Column("play", sa.ForeignKey("plays.id"), primary_key=True),
    sa.Column("shard", sa.Integer, primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("host", NAME, nullable=False),
    sa.Column("job_id", NAME, nullable=False),
    sa.Column("done", sa.Integer, nullable=False),
    sa.Column("rate", sa.Float),
    sa.Column("result", sa.JSON),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("second", NAME),
    sa.Column("second_at", UtcDateTime),
)

evaluations = sa.Table(
    "evaluations",
    METADATA,
    _id(),
    sa.Column("report", SHA, nullable=False, unique=True),
    sa.Column("config", NAME, nullable=False),
    _generation(),
    sa.Column("candidate", sa.ForeignKey("artifacts.sha"), nullable=False, index=True),
    sa.Column("previous", SHA),
    sa.Column("gate_version", sa.String(200), nullable=False),
    sa.Column("verdict", sa.String(20), nullable=False),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("opponents", sa.JSON, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

game_pairs = sa.Table(
    "game_pairs",
    METADATA,
    sa.Column("evaluation", sa.ForeignKey("evaluations.id"), primary_key=True),
    sa.Column("opponent", sa.String(40), primary_key=True),
    sa.Column("opening", sa.Integer, primary_key=True),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("digests", sa.JSON, nullable=False),
)

promotions = sa.Table(
    "promotions",
    METADATA,
    _id(),
    sa.Column("config", NAME, nullable=False, index=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("sha", sa.ForeignKey("artifacts.sha"), nullable=False),
    sa.Column("previous", SHA),
    _generation(),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("evaluation", sa.ForeignKey("evaluations.id")),
    sa.Column("gate_version", sa.String(200)),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("actor", NAME, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

canonical = sa.Table(
    "canonical",
    METADATA,
    sa.Column("config", NAME, primary_key=True),
    sa.Column("sha", sa.ForeignKey("artifacts.sha"), nullable=False),
    sa.Column("previous", SHA),
    sa.Column("promotion", sa.ForeignKey("promotions.id"), nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("moved_at", UtcDateTime, nullable=False),
)

deliveries = sa.Table(
    "deliveries",
    METADATA,
    sa.Column("sha", sa.ForeignKey("artifacts.sha"), primary_key=True),
    sa.Column("destination", sa.String(500), primary_key=True),
    sa.Column("path", FreeText, nullable=False),
    sa.Column("verified", sa.Boolean, nullable=False),
    sa.Column("error", FreeText),
    sa.Column("state", sa.String(20), nullable=False),
    _generation(),
    sa.Column("recorded_at", UtcDateTime, nullable=False),
)

events = sa.Table(
    "events",
    METADATA,
    _id(),
    sa.Column("type", sa.String(40), nullable=False),
    sa.Column("config", NAME, index=True),
    _generation(),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("digest", SHA, nullable=False, unique=True),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
    sa.Index("ix_events_type_config_at", "type", "config", "at"),
)

waits = sa.Table(
    "waits",
    METADATA,
    sa.Column("generation", sa.ForeignKey("generations.id"), primary_key=True),
    sa.Column("condition", sa.String(20), primary_key=True),
    sa.Column("config", NAME, nullable=False),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
)
"""What a generation's run waits for now; a row goes when the waiting ends."""

breakers = sa.Table(
    "breakers",
    METADATA,
    sa.Column("config", NAME, primary_key=True),
    sa.Column("action", sa.String(40), primary_key=True),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("successes", sa.Integer, nullable=False),
    sa.Column("opened_at", UtcDateTime),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("changed_at", UtcDateTime, nullable=False),
)

audit = sa.Table(
    "audit",
    METADATA,
    _id(),
    sa.Column("at", UtcDateTime, nullable=False, index=True),
    sa.Column("actor", NAME, nullable=False),
    sa.Column("door", sa.String(20), nullable=False),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("config", NAME, index=True),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
)

poisoned = sa.Table(
    "poisoned",
    METADATA,
    sa.Column("sha", sa.ForeignKey("artifacts.sha"), primary_key=True),
    sa.Column("root", SHA, nullable=False),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("actor", NAME, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
)
"""Artifacts that were backed out: ``root`` is what was found bad, the others were made from it."""

waivers = sa.Table(
    "waivers",
    METADATA,
    _id(),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("config", NAME),
    sa.Column("reason", FreeText, nullable=False),
    sa.Column("actor", NAME, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
)

incidents = sa.Table(
    "incidents",
    METADATA,
    _id(),
    sa.Column("key", sa.String(300), nullable=False, index=True),
    sa.Column("rule", sa.String(40), nullable=False),
    sa.Column("config", NAME),
    sa.Column("subject", NAME, nullable=False),
    sa.Column("summary", FreeText, nullable=False),
    sa.Column("evidence", FreeText, nullable=False),
    sa.Column("criteria", sa.JSON, nullable=False),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("opened_at", UtcDateTime, nullable=False),
    sa.Column("level_since", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    sa.Column("overdue_at", UtcDateTime),
    sa.Column("acknowledged_at", UtcDateTime),
    sa.Column("acknowledged_by", NAME),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("closed_at", UtcDateTime),
    sa.Column("closed_by", NAME),
    sa.Column("cause", FreeText),
    sa.Column("resolution", FreeText),
)
"""``key``: rule, config and subject; ``seen_at``: when its alert last fired; ``ended_at``: since when it has not."""

incident_notes = sa.Table(
    "incident_notes",
    METADATA,
    _id(),
    sa.Column("incident", sa.ForeignKey("incidents.id"), nullable=False, index=True),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("actor", NAME, nullable=False),
    sa.Column("text", FreeText, nullable=False),
)

notifications = sa.Table(
    "notifications",
    METADATA,
    _id(),
    sa.Column("incident", sa.ForeignKey("incidents.id"), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("target", NAME, nullable=False),
    sa.Column("text", FreeText, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.Column("tried_at", UtcDateTime),
    sa.Column("sent_at", UtcDateTime, index=True),
    sa.Column("error", FreeText),
    sa.UniqueConstraint("incident", "kind", "level", "target"),
)
"""What is to be told, to whom (never the address itself, which may hold a password), and whether it was."""
