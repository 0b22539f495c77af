"""What the runs of generations wait for: written while they wait, gone when they go on (R28)."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import Condition, GenerationState, Wait
from ringrift_ops.stages.specs import Stage


def note(connection: Connection, generation: int, config: str, condition: Condition, now: datetime) -> None:
    """Write that a generation waits, or still waits, in the caller's transaction."""
    table = schema.waits
    where = (table.c.generation == generation, table.c.condition == condition.value)
    if connection.execute(sa.update(table).where(*where).values(seen_at=now)).rowcount == 0:
        row = {"generation": generation, "condition": condition.value, "config": config, "since": now, "seen_at": now}
        connection.execute(sa.insert(table).values(row))


def end(connection: Connection, generation: int, condition: Condition | None = None) -> None:
    """Forget a wait of a generation, or all of its waits, in the caller's transaction."""
    table = schema.waits
    query = sa.delete(table).where(table.c.generation == generation)
    connection.execute(query if condition is None else query.where(table.c.condition == condition.value))


class Waits(Connected):
    """Writing and reading who waits for what."""

    def note_wait(self, generation: int, config: str, condition: Condition, now: datetime | None = None) -> None:
        """Write that a generation waits for ``condition``; asked again it renews when it was last seen waiting."""
        with self._writing() as connection:
            note(connection, generation, config, condition, now or utc_now())

    def end_wait(self, generation: int, condition: Condition) -> None:
        """Write that a generation no longer waits; repeating it is harmless."""
        with self._writing() as connection:
            end(connection, generation, condition)

    def running_trainings(self) -> dict[str, str]:
        """Return {config: job} of the trainings that running generations count as under way."""
        runs, of = schema.stage_runs, schema.generations
        query = (
            sa.select(of.c.config, runs.c.job_id)
            .join(of, of.c.id == runs.c.generation)
            .where(of.c.state == GenerationState.RUNNING.value, runs.c.stage == Stage.TRAIN.value)
            .where(runs.c.state == "running", runs.c.job_id.is_not(None))
        )
        with self._reading() as connection:
            return {row.config: row.job_id for row in connection.execute(query)}

    def waits(self, config: str | None = None) -> list[Wait]:
        """Return who waits for what, longest first."""
        table, run = schema.waits, schema.generations
        query = (
            sa.select(table, run.c.run_id).join(run, run.c.id == table.c.generation).order_by(table.c.since, run.c.id)
        )
        if config is not None:
            query = query.where(table.c.config == config)
        with self._reading() as connection:
            rows = [row._asdict() for row in connection.execute(query)]
        return [Wait(**(row | {"condition": Condition(row["condition"])})) for row in rows]
