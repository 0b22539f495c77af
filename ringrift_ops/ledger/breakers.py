"""The state of the circuit breakers: one row per config and action, which outlives every process."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import events, schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.events import EventType
from ringrift_ops.ledger.records import Breaker
from ringrift_ops.settings.names import config_named

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"


class Breakers(Connected):
    """Reading and changing breakers; what a change means is decided by ``operations.breakers``."""

    def breaker(self, config: str, action: str) -> Breaker:
        """Return one breaker; closed and without failures when nothing was ever counted."""
        key = config_named(config).key
        with self._reading() as connection:
            return _find(connection, key, action) or Breaker(key, action, "closed", 0, 0, None, "", utc_now())

    def breakers(self, config: str | None = None, action: str | None = None) -> list[Breaker]:
        """Return the breakers that have counted something, by config and action."""
        table = schema.breakers
        query = sa.select(table).order_by(table.c.config, table.c.action)
        if config is not None:
            query = query.where(table.c.config == config)
        if action is not None:
            query = query.where(table.c.action == action)
        with self._reading() as connection:
            return [Breaker(**row._asdict()) for row in connection.execute(query)]

    def change_breaker(
        self, config: str, action: str, values: dict[str, Any], *, add_failures: int = 0, now: datetime | None = None
    ) -> Breaker:
        """Set columns of a breaker, add to its failures, and return it.

        An opening and a closing are recorded as BREAKER_OPENED and BREAKER_CLOSED in the same transaction.
        """
        moment, table, key = now or utc_now(), schema.breakers, config_named(config).key
        with self._writing() as connection:
            before = _find(connection, key, action) or Breaker(key, action, "closed", 0, 0, None, "", moment)
            after = vars(before) | {"failures": before.failures + add_failures, "changed_at": moment} | values
            where = (table.c.config == key, table.c.action == action)
            if connection.execute(sa.update(table).where(*where).values(after)).rowcount == 0:
                connection.execute(sa.insert(table).values(after))
            if after["state"] != before.state and after["state"] != HALF_OPEN:
                opened = after["state"] == OPEN
                payload = {"action": action, "failures": after["failures"] or before.failures}
                payload |= {"reason": after["reason"] or before.reason}
                kind = EventType.BREAKER_OPENED if opened else EventType.BREAKER_CLOSED
                events.record(connection, kind, key, None, payload, moment)
            return Breaker(**after)


def _find(connection: Connection, config: str, action: str) -> Breaker | None:
    table = schema.breakers
    row = connection.execute(sa.select(table).where(table.c.config == config, table.c.action == action)).first()
    return None if row is None else Breaker(**row._asdict())
