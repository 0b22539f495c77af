"""Listings that are read by the page, and single rows of many configs read at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ringrift_ops.ledger import schema
from ringrift_ops.ledger.engine import Connected
from ringrift_ops.ledger.evaluations import evaluation_from
from ringrift_ops.ledger.records import Artifact, DeliveryRow, Evaluation, GenerationState, HostState, Kind, StageRun
from ringrift_ops.stages.specs import Sha256

ConfigRun = tuple[str, StageRun]
"""A config and one stage of one of its generations."""


class Pages(Connected):
    """Reading a page of a listing."""

    def active_runs(self) -> list[ConfigRun]:
        """Return the stages that have a job, of every generation that runs or waits, in order of their start."""
        active = (GenerationState.RUNNING.value, GenerationState.WAITING.value)
        query = self._runs().where(schema.generations.c.state.in_(active)).order_by(schema.stage_runs.c.started_at)
        return self._read_runs(query)

    def stage_page(
        self, stage: str, *, config: str | None = None, state: str | None = None, limit: int, offset: int = 0
    ) -> tuple[int, list[ConfigRun]]:
        """Return how many runs of a stage match, and a page of them, those of the newest generation first."""
        runs, generations = schema.stage_runs, schema.generations
        query = self._runs().where(runs.c.stage == stage)
        if config is not None:
            query = query.where(generations.c.config == config)
        if state is not None:
            query = query.where(runs.c.state == state)
        with self._reading() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()
        page = query.order_by(runs.c.generation.desc(), runs.c.shard).limit(limit).offset(offset)
        return int(total), self._read_runs(page)

    def _runs(self) -> sa.Select[Any]:
        runs, generations = schema.stage_runs, schema.generations
        joined = runs.join(generations, generations.c.id == runs.c.generation)
        return sa.select(generations.c.config, runs).select_from(joined).where(runs.c.job_id.is_not(None))

    def _read_runs(self, query: sa.Select[Any]) -> list[ConfigRun]:
        with self._reading() as connection:
            rows = [row._asdict() for row in connection.execute(query)]
        return [(row.pop("config"), StageRun(**row)) for row in rows]

    def artifact_page(
        self, kind: Kind, *, config: str | None = None, backed_out: bool | None = None, limit: int, offset: int = 0
    ) -> tuple[int, list[Artifact]]:
        """Return how many artifacts match, and a page of them, newest first. ``backed_out`` None: both."""
        table = schema.artifacts
        query = sa.select(table).where(table.c.kind == kind)
        if config is not None:
            query = query.where(table.c.config == config)
        if backed_out is not None:
            marked = table.c.sha.in_(sa.select(schema.poisoned.c.sha))
            query = query.where(marked if backed_out else sa.not_(marked))
        page = query.order_by(table.c.created_at.desc(), table.c.sha).limit(limit).offset(offset)
        with self._reading() as connection:
            total = connection.execute(sa.select(sa.func.count()).select_from(query.subquery())).scalar_one()
            return int(total), [Artifact(**row._asdict()) for row in connection.execute(page)]

    def newest_evaluations(self) -> dict[str, Evaluation]:
        """Return {config: its newest evaluation}; a config without one is left out."""
        table = schema.evaluations
        newest = sa.select(sa.func.max(table.c.id)).group_by(table.c.config)
        with self._reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.id.in_(newest)))
            return {row.config: evaluation_from(row) for row in rows}

    def deliveries_of(self, shas: Sequence[Sha256]) -> list[DeliveryRow]:
        """Return where nets were delivered to."""
        table = schema.deliveries
        with self._reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.sha.in_(shas)).order_by(table.c.destination))
            return [DeliveryRow(**row._asdict()) for row in rows]

    def host_states(self) -> dict[str, HostState]:
        """Return how every host was when it was last asked; one that nobody ever asked is left out."""
        with self._reading() as connection:
            return {row.name: HostState(**row._asdict()) for row in connection.execute(sa.select(schema.hosts))}
