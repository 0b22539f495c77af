"""The audit: one row before every change that a person asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ringrift_ops.ledger import schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import AuditRow


class Audit(Connected):
    """Writing and reading the audit."""

    def record_audit(
        self,
        action: str,
        *,
        actor: str,
        door: str,
        config: str | None,
        reason: str,
        detail: Mapping[str, Any],
        now: datetime | None = None,
    ) -> AuditRow:
        """Write who is about to do what, and return the row."""
        values: dict[str, Any] = {
            "at": now or utc_now(), "actor": actor, "door": door, "action": action, "config": config,
            "reason": reason, "detail": dict(detail),
        }  # fmt: skip
        table = schema.audit
        with self._writing() as connection:
            number = connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one()
        return AuditRow(id=number, **values)

    def audit(
        self,
        *,
        config: str | None = None,
        since: datetime | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[AuditRow]:
        """Return the rows that match, oldest first; with ``limit`` the newest so many of them.

        ``before``: only those with a smaller id.
        """
        table = schema.audit
        query = sa.select(table).order_by(table.c.id.desc())
        if config is not None:
            query = query.where(table.c.config == config)
        if since is not None:
            query = query.where(table.c.at >= since)
        if before is not None:
            query = query.where(table.c.id < before)
        if limit is not None:
            query = query.limit(limit)
        with self._reading() as connection:
            return [AuditRow(**row._asdict()) for row in connection.execute(query)][::-1]
