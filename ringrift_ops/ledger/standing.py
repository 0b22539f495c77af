"""Where everything stands, read in one transaction with a fixed number of queries, however much is on record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import schema
from ringrift_ops.ledger.engine import Connected
from ringrift_ops.ledger.evaluations import evaluation_from
from ringrift_ops.ledger.events import EventType
from ringrift_ops.ledger.generations import generation_from
from ringrift_ops.ledger.leases import config_of
from ringrift_ops.ledger.records import (
    Breaker,
    Canonical,
    Evaluation,
    Generation,
    GenerationState,
    Lease,
    Promotion,
    StageRun,
)
from ringrift_ops.settings.names import config_named
from ringrift_ops.settings.tables import CONFIGS


@dataclass(frozen=True)
class Rows:
    """Rows (moves) of a config whose parity passed, and how many of them no net was trained on."""

    usable: int
    new: int


@dataclass(frozen=True)
class ConfigStanding:
    """One config. ``generation``: the one that runs, else the next in line, else the newest that
    was not withdrawn; None before the first.
    """

    config: str
    generation: Generation | None
    line: list[Generation]
    """Those that wait for the lease, in the order in which they will be served."""
    runs: list[StageRun]
    lease: Lease | None
    canonical: Canonical | None
    promotion: Promotion | None
    waivers: list[dict[str, Any]]
    """The waivers stamped on the canonical: exceptions under which it or what it was made from came to be."""
    evaluation: Evaluation | None
    """What the promotion of the canonical rests on."""
    rows: Rows
    last_training: datetime | None
    breakers: list[Breaker]


class Standings(Connected):
    """Reading where every config stands."""

    def standings(self, config: str | None = None) -> list[ConfigStanding]:
        """Return one entry per config in the table's order, or that of one config; no artifact is opened.

        Raises ``UnknownConfigError``.
        """
        keys = list(CONFIGS) if config is None else [config_named(config).key]
        with self._reading() as connection:
            return _read(connection, keys)


def _read(connection: Connection, keys: list[str]) -> list[ConfigStanding]:
    lines, current = _generations(connection, keys)
    runs: dict[int, list[StageRun]] = {}
    for row in _where_in(connection, schema.stage_runs, "generation", [one.id for one in current.values()]):
        runs.setdefault(row.generation, []).append(StageRun(**row._asdict()))
    leases = {config_of(row.name): Lease(**row._asdict()) for row in connection.execute(sa.select(schema.leases))}
    canonicals = {row.config: Canonical(**row._asdict()) for row in connection.execute(sa.select(schema.canonical))}
    moves = {
        row.id: Promotion(**row._asdict())
        for row in _where_in(connection, schema.promotions, "id", [one.promotion for one in canonicals.values()])
    }
    wanted = [one.evaluation for one in moves.values() if one.evaluation is not None]
    judged = {row.id: evaluation_from(row) for row in _where_in(connection, schema.evaluations, "id", wanted)}
    breakers = [Breaker(**row._asdict()) for row in connection.execute(sa.select(schema.breakers))]
    nets = {
        row.sha: row.meta
        for row in _where_in(connection, schema.artifacts, "sha", [one.sha for one in canonicals.values()])
    }
    rows, trained = _rows(connection), _last_training(connection)
    found = []
    for key in keys:
        generation, canonical = current.get(key), canonicals.get(key)
        promotion = None if canonical is None else moves.get(canonical.promotion)
        found.append(
            ConfigStanding(
                config=key,
                generation=generation,
                line=lines.get(key, []),
                runs=[] if generation is None else runs.get(generation.id, []),
                lease=leases.get(key),
                canonical=canonical,
                promotion=promotion,
                waivers=[] if canonical is None else nets[canonical.sha].get("waivers", []),
                evaluation=None if promotion is None else judged.get(promotion.evaluation or 0),
                rows=rows.get(key, Rows(0, 0)),
                last_training=trained.get(key),
                breakers=[one for one in breakers if one.config == key],
            )
        )
    return found


def _where_in(connection: Connection, table: sa.Table, column: str, values: Sequence[object]) -> Iterable[sa.Row[Any]]:
    return connection.execute(sa.select(table).where(table.c[column].in_(values))) if values else ()


def _generations(connection: Connection, keys: list[str]) -> tuple[dict[str, list[Generation]], dict[str, Generation]]:
    table = schema.generations
    taken = (table.c.config.in_(keys), table.c.state != GenerationState.WITHDRAWN.value)
    newest = sa.select(sa.func.max(table.c.id)).where(*taken).group_by(table.c.config)
    active = (GenerationState.RUNNING.value, GenerationState.WAITING.value)
    query = (
        sa.select(table)
        .where(sa.or_(table.c.id.in_(newest), table.c.state.in_(active)))
        .order_by(sa.func.coalesce(table.c.logical_date, table.c.run_after), table.c.run_after, table.c.id)
    )
    lines: dict[str, list[Generation]] = {}
    current: dict[str, Generation] = {}
    rank = {GenerationState.RUNNING: 2, GenerationState.WAITING: 1}
    for row in connection.execute(query):
        one = generation_from(row)
        if one.state is GenerationState.WAITING:
            lines.setdefault(one.config, []).append(one)
        known = current.get(one.config)
        if known is None or rank.get(one.state, 0) > rank.get(known.state, 0):
            current[one.config] = one
    return lines, current


def _rows(connection: Connection) -> dict[str, Rows]:
    table = schema.parity_verdicts
    new = sa.func.sum(sa.case((table.c.trained, 0), else_=table.c.rows))
    query = (
        sa.select(table.c.config, sa.func.sum(table.c.rows), new)
        .where(table.c.passed, table.c.poisoned.is_(False))
        .group_by(table.c.config)
    )
    return {config: Rows(int(usable), int(fresh)) for config, usable, fresh in connection.execute(query)}


def _last_training(connection: Connection) -> dict[str, datetime]:
    table = schema.events
    query = (
        sa.select(table.c.config, sa.func.max(table.c.at))
        .where(table.c.type == EventType.TRAINING_COMPLETED.value)
        .group_by(table.c.config)
    )
    return {config: at for config, at in connection.execute(query) if config is not None}
