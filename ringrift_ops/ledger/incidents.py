"""Incidents, the notes on them, and what has to be told of them: every change with its event in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ringrift_ops.ledger import events, schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.errors import ClosedIncidentError, UnknownIncidentError
from ringrift_ops.ledger.events import EventType
from ringrift_ops.ledger.records import Incident, IncidentNote, Notification

OPENED, ESCALATED, ENDED = "opened", "escalated", "ended"
"""Kinds of notifications."""


class Incidents(Connected):
    """Writing and reading incidents; when one opens, escalates or ends is decided by ``operations.incidents``."""

    def open_incident(
        self,
        key: str,
        *,
        rule: str,
        config: str | None,
        subject: str,
        summary: str,
        evidence: str,
        criteria: Sequence[str],
        level: int,
        targets: Mapping[str, str],
        now: datetime | None = None,
    ) -> Incident:
        """Open an incident and return it, with a notification for each target; one of ``key`` that is neither ended
        nor closed is returned instead, so that two who look at once open one.

        ``targets``: {name: text}.
        """
        moment, table = now or utc_now(), schema.incidents
        with self._writing() as connection:
            live = connection.execute(
                sa.select(table).where(table.c.key == key, table.c.ended_at.is_(None), table.c.closed_at.is_(None))
            ).first()
            if live is not None:
                return Incident(**live._asdict())
            values = {
                "key": key, "rule": rule, "config": config, "subject": subject, "summary": summary,
                "evidence": evidence, "criteria": list(criteria), "level": level, "opened_at": moment,
                "level_since": moment, "seen_at": moment,
            }  # fmt: skip
            number = connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one()
            payload = {"incident": number, "rule": rule, "subject": subject, "level": level, "summary": summary}
            events.record(connection, EventType.INCIDENT_OPENED, config, None, payload | {"evidence": evidence}, moment)
            _tell(connection, number, OPENED, level, targets, moment)
            return _find(connection, number)

    def see_incident(self, incident: int, summary: str, evidence: str, now: datetime | None = None) -> None:
        """Note that the alert of an incident fires at this moment, and what it says now."""
        moment, table = now or utc_now(), schema.incidents
        with self._writing() as connection:
            values = {"seen_at": moment, "summary": summary, "evidence": evidence}
            connection.execute(sa.update(table).where(table.c.id == incident).values(values))

    def escalate_incident(
        self, incident: int, level: int | None, reason: str, targets: Mapping[str, str], now: datetime | None = None
    ) -> Incident:
        """Raise an incident to ``level`` (None: there is none above; it is overdue) and return it."""
        moment = now or utc_now()
        with self._writing() as connection:
            found = _find(connection, incident)
            above = found.level + 1 if level is None else level
            values = {"overdue_at": moment} if level is None else {"level": level, "level_since": moment}
            _update(connection, incident, values)
            payload = {"incident": incident, "level": above, "reason": reason}
            events.record(connection, EventType.INCIDENT_ESCALATED, found.config, None, payload, moment)
            _tell(connection, incident, ESCALATED, above, targets, moment)
            return _find(connection, incident)

    def end_incident(self, incident: int, targets: Mapping[str, str], now: datetime | None = None) -> Incident:
        """Note that the alert of an incident fires no more, since ``seen_at``; repeating it is harmless."""
        moment = now or utc_now()
        with self._writing() as connection:
            found = _find(connection, incident)
            if found.ended_at is not None:
                return found
            _update(connection, incident, {"ended_at": moment})
            seconds = (moment - found.opened_at).total_seconds()
            payload = {"incident": incident, "rule": found.rule, "subject": found.subject, "seconds": seconds}
            events.record(connection, EventType.INCIDENT_ENDED, found.config, None, payload, moment)
            _tell(connection, incident, ENDED, 0, targets, moment)
            return _find(connection, incident)

    def acknowledge_incident(self, incident: int, actor: str, now: datetime | None = None) -> Incident:
        """Note who has taken an incident on, and return it; the first stays. Raises :class:`ClosedIncidentError`."""
        moment = now or utc_now()
        with self._writing() as connection:
            found = _not_closed(connection, incident)
            if found.acknowledged_at is None:
                _update(connection, incident, {"acknowledged_at": moment, "acknowledged_by": actor})
                payload = {"incident": incident, "actor": actor}
                events.record(connection, EventType.INCIDENT_ACKNOWLEDGED, found.config, None, payload, moment)
            return _find(connection, incident)

    def note_incident(self, incident: int, actor: str, text: str, now: datetime | None = None) -> IncidentNote:
        """Add a note, also to one that is closed: a review may come later. Raises :class:`UnknownIncidentError`."""
        moment, table = now or utc_now(), schema.incident_notes
        with self._writing() as connection:
            found = _find(connection, incident)
            values: dict[str, Any] = {"incident": incident, "at": moment, "actor": actor, "text": text}
            number = connection.execute(sa.insert(table).values(values).returning(table.c.id)).scalar_one()
            payload = {"incident": incident, "actor": actor, "text": text}
            events.record(connection, EventType.INCIDENT_NOTED, found.config, None, payload, moment)
            return IncidentNote(id=number, **values)

    def close_incident(
        self, incident: int, actor: str, cause: str | None, resolution: str, now: datetime | None = None
    ) -> Incident:
        """Close an incident with its cause (None: not known) and what was done. Raises :class:`ClosedIncidentError`."""
        moment = now or utc_now()
        with self._writing() as connection:
            found = _not_closed(connection, incident)
            values = {"closed_at": moment, "closed_by": actor, "cause": cause, "resolution": resolution}
            _update(connection, incident, values)
            payload = {"incident": incident, "actor": actor, "cause": cause, "resolution": resolution}
            events.record(connection, EventType.INCIDENT_CLOSED, found.config, None, payload, moment)
            return _find(connection, incident)

    # --- reading -----------------------------------------------------------------------------------

    def incident(self, incident: int) -> Incident:
        """Return an incident; raises :class:`UnknownIncidentError`."""
        with self._reading() as connection:
            return _find(connection, incident)

    def incidents(
        self, *, key: str | None = None, unclosed: bool = False, firing: bool = False, limit: int | None = None
    ) -> list[Incident]:
        """Return incidents, newest first. ``firing``: those whose alert has not ended."""
        table = schema.incidents
        query = sa.select(table).order_by(table.c.id.desc())
        if key is not None:
            query = query.where(table.c.key == key)
        if unclosed:
            query = query.where(table.c.closed_at.is_(None))
        if firing:
            query = query.where(table.c.ended_at.is_(None))
        if limit is not None:
            query = query.limit(limit)
        with self._reading() as connection:
            return [Incident(**row._asdict()) for row in connection.execute(query)]

    def incident_notes(self, incident: int) -> list[IncidentNote]:
        """Return the notes on an incident, oldest first."""
        table = schema.incident_notes
        query = sa.select(table).where(table.c.incident == incident).order_by(table.c.id)
        with self._reading() as connection:
            return [IncidentNote(**row._asdict()) for row in connection.execute(query)]

    # --- notifications -----------------------------------------------------------------------------

    def claim_notifications(self, again_seconds: float, tries: int, now: datetime | None = None) -> list[Notification]:
        """Return what has to be told now, oldest first, and count the try: two who ask at once do not both tell it."""
        moment, table = now or utc_now(), schema.notifications
        due = sa.or_(table.c.tried_at.is_(None), table.c.tried_at <= moment - timedelta(seconds=again_seconds))
        where = (table.c.sent_at.is_(None), table.c.tries < tries, due)
        with self._writing() as connection:
            rows = list(connection.execute(sa.select(table).where(*where).order_by(table.c.id)))
            numbers = [row.id for row in rows]
            change = {"tried_at": moment, "tries": table.c.tries + 1}
            connection.execute(sa.update(table).where(table.c.id.in_(numbers)).values(change))
        return [Notification(**(row._asdict() | {"tries": row.tries + 1, "tried_at": moment})) for row in rows]

    def told(self, notification: int, error: str | None, now: datetime | None = None) -> None:
        """Note that a notification was sent, or why it was not."""
        table = schema.notifications
        values = {"error": error} if error is not None else {"error": None, "sent_at": now or utc_now()}
        with self._writing() as connection:
            connection.execute(sa.update(table).where(table.c.id == notification).values(values))

    def notifications(self, incident: int | None = None, *, unsent: bool = False) -> list[Notification]:
        """Return notifications, oldest first."""
        table = schema.notifications
        query = sa.select(table).order_by(table.c.id)
        if incident is not None:
            query = query.where(table.c.incident == incident)
        if unsent:
            query = query.where(table.c.sent_at.is_(None))
        with self._reading() as connection:
            return [Notification(**row._asdict()) for row in connection.execute(query)]


def _find(connection: Connection, incident: int) -> Incident:
    row = connection.execute(sa.select(schema.incidents).where(schema.incidents.c.id == incident)).first()
    if row is None:
        raise UnknownIncidentError(f"there is no incident {incident}; `ringrift incident list --all` shows them")
    return Incident(**row._asdict())


def _not_closed(connection: Connection, incident: int) -> Incident:
    found = _find(connection, incident)
    if found.closed_at is not None:
        raise ClosedIncidentError(
            f"incident {incident} was closed by {found.closed_by} at {found.closed_at.isoformat(timespec='seconds')}; "
            f"add what you know with `ringrift incident note {incident} TEXT`"
        )
    return found


def _update(connection: Connection, incident: int, values: Mapping[str, object]) -> None:
    connection.execute(sa.update(schema.incidents).where(schema.incidents.c.id == incident).values(values))


def _tell(
    connection: Connection, incident: int, kind: str, level: int, targets: Mapping[str, str], now: datetime
) -> None:
    rows = [
        {"incident": incident, "kind": kind, "level": level, "target": target, "text": text, "created_at": now,
         "tries": 0}
        for target, text in targets.items()
    ]  # fmt: skip
    if rows:
        connection.execute(sa.insert(schema.notifications), rows)
