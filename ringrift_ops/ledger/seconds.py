"""Work begun a second time because it crawls where it is: who has it besides, and with which of the two it stays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import hosts, leases, schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import PlayShard, Slot, StageRun

Part = TypeVar("Part", StageRun, PlayShard)


class Seconds(Connected):
    """Writing and reading that."""

    def begin_second(self, part: Part, slots: Sequence[Slot], token: int = 0, now: datetime | None = None) -> Part:
        """Give a part that runs a second host, unless it has one, and return its row; ``slots``: who may have it.

        Without a free one the row stays as it is. ``token`` is the generation's. Raises ``StaleTokenError``.
        """
        moment = now or utc_now()
        with self._writing() as connection:
            found = _current(connection, part)
            _check(connection, found, token)
            if found.state != "running" or found.second is not None or found.host != part.host:
                return found
            try:
                host = hosts.free_host(connection, slots, part.host, 1, moment)
            except hosts.NoFreeHostError:
                return found
            return _write(connection, found, {"second": host, "second_at": moment})

    def settle(self, part: Part, host: str, token: int = 0) -> Part:
        """Let a part that was begun twice stay with ``host``, one of its two, and return its row.

        Raises ``StaleTokenError``.
        """
        with self._writing() as connection:
            found = _current(connection, part)
            _check(connection, found, token)
            if found.second is None or host not in found.hosts:
                return found
            begun = found.second_at if host == found.second else found.started_at
            return _write(connection, found, {"host": host, "started_at": begun, "second": None, "second_at": None})


def _where(part: StageRun | PlayShard) -> tuple[sa.Table, list[Any]]:
    table = schema.stage_runs if isinstance(part, StageRun) else schema.play_shards
    return table, [column == getattr(part, column.name) for column in table.primary_key]


def _current(connection: Connection, part: Part) -> Part:
    table, key = _where(part)
    return type(part)(**connection.execute(sa.select(table).where(*key)).one()._asdict())


def _write(connection: Connection, part: Part, values: dict[str, Any]) -> Part:
    table, key = _where(part)
    connection.execute(sa.update(table).where(*key).values(values))
    return _current(connection, part)


def _check(connection: Connection, part: StageRun | PlayShard, token: int) -> None:
    if isinstance(part, StageRun):
        generations = schema.generations
        config = connection.execute(
            sa.select(generations.c.config).where(generations.c.id == part.generation)
        ).scalar_one()
        leases.check_effect(connection, config, part.generation, token)
