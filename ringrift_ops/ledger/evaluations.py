"""Evaluations: the verdict of a gauntlet with every game pair it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import artifacts, leases, schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import Evaluation, GamePair
from ringrift_ops.stages.specs import Sha256, Verdict


def evaluation_from(row: sa.Row[Any]) -> Evaluation:
    """Return a row of the table as an evaluation."""
    return Evaluation(**(row._asdict() | {"verdict": Verdict(row.verdict)}))


def find(connection: Connection, evaluation: int) -> Evaluation | None:
    """Return an evaluation by id, None when there is none."""
    row = connection.execute(sa.select(schema.evaluations).where(schema.evaluations.c.id == evaluation)).first()
    return None if row is None else evaluation_from(row)


class Evaluations(Connected):
    """Recording and reading evaluations."""

    def record_evaluation(
        self,
        report: Sha256,
        *,
        config: str,
        generation: int | None,
        candidate: Sha256,
        previous: Sha256 | None,
        gate_version: str,
        verdict: Verdict,
        reason: str,
        opponents: Sequence[Mapping[str, Any]],
        pairs: Iterable[GamePair],
        token: int,
        now: datetime | None = None,
    ) -> Evaluation:
        """Record a gauntlet and all its game pairs in one transaction, and return it.

        ``opponents``: raw counts, one ``OpponentResult`` as a dict per opponent. The same report
        again is harmless. Raises :class:`UnknownArtifactError`, :class:`StaleTokenError`.
        """
        table = schema.evaluations
        with self._writing() as connection:
            row = connection.execute(sa.select(table).where(table.c.report == report)).first()
            if row is not None:
                return evaluation_from(row)
            leases.check_effect(connection, config, generation, token)
            artifacts.required(connection, candidate)
            values: dict[str, Any] = {
                "report": report,
                "config": config,
                "generation": generation,
                "candidate": candidate,
                "previous": previous,
                "gate_version": gate_version,
                "verdict": verdict.value,
                "reason": reason,
                "opponents": [dict(one) for one in opponents],
                "created_at": now or utc_now(),
            }
            number = connection.execute(sa.insert(table).values(**values).returning(table.c.id)).scalar_one()
            rows = [vars(pair) | {"evaluation": number} for pair in pairs]
            if rows:
                connection.execute(sa.insert(schema.game_pairs), rows)
            return Evaluation(id=number, **(values | {"verdict": verdict}))

    def evaluations(
        self, config: str | None = None, *, candidate: Sha256 | None = None, limit: int | None = None
    ) -> list[Evaluation]:
        """Return evaluations, newest first."""
        table = schema.evaluations
        query = sa.select(table).order_by(table.c.id.desc())
        if config is not None:
            query = query.where(table.c.config == config)
        if candidate is not None:
            query = query.where(table.c.candidate == candidate)
        if limit is not None:
            query = query.limit(limit)
        with self._reading() as connection:
            return [evaluation_from(row) for row in connection.execute(query)]

    def evaluation_of(self, report: Sha256) -> Evaluation | None:
        """Return the evaluation whose report that is."""
        table = schema.evaluations
        with self._reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.report == report)).first()
            return None if row is None else evaluation_from(row)

    def game_pairs(self, evaluation: int, opponent: str | None = None) -> list[GamePair]:
        """Return the game pairs of an evaluation, by opponent and opening."""
        table = schema.game_pairs
        columns = (table.c.opponent, table.c.opening, table.c.seed, table.c.scores, table.c.digests)
        query = sa.select(*columns).where(table.c.evaluation == evaluation)
        if opponent is not None:
            query = query.where(table.c.opponent == opponent)
        with self._reading() as connection:
            rows = connection.execute(query.order_by(table.c.opponent, table.c.opening))
            return [GamePair(**row._asdict()) for row in rows]
