"""What becomes of an alert: an incident that is opened once, told once, escalated by the clock, and ends.

Time comes from the caller. One look (:func:`look`) is one evaluation; the DAG `alerts` makes one every two minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Incident, IncidentNote, Ledger, Notification
from ringrift_ops.operations.alerts import Alert, Rule, firing
from ringrift_ops.operations.by import By
from ringrift_ops.operations.idle import stamp
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.operations.notify import send_due, targets
from ringrift_ops.operations.observed import observe
from ringrift_ops.operations.sections import page_of
from ringrift_ops.operations.surroundings import AirflowFacts
from ringrift_ops.settings import ALERTS, INCIDENTS, LEVELS, Settings

LEASE = "alerts"
"""Held during a look; when it was last taken is when alerts were last evaluated."""

_CORRUPTION = ("corrupt", "damaged", "truncated", "was altered", "failed parity", "engines disagree")


class EmptyNoteError(UsageError):
    """A note says nothing."""


@dataclass(frozen=True)
class Look:
    """What one evaluation found and did."""

    at: datetime
    firing: list[Alert]
    opened: list[Incident]
    escalated: list[Incident]
    ended: list[Incident]
    notifications: list[Notification]


@dataclass(frozen=True)
class Watch:
    """Whose alerts are looked at."""

    home: Home
    settings: Settings
    ledger: Ledger


def look(watch: Watch, airflow: AirflowFacts | None, actor: str, now: datetime | None = None) -> Look:
    """Evaluate the rules and do what follows; raises ``LeaseHeldError`` while another look is under way."""
    moment, ledger = now or datetime.now(UTC), watch.ledger
    lease = ledger.acquire_lease(LEASE, actor, seconds=ALERTS.lease_seconds, now=moment)
    try:
        seen = observe(watch.home, watch.settings, ledger, airflow, moment)
        return follow(watch, firing(seen), moment)
    finally:
        ledger.release_lease(LEASE, lease.token, moment)


def firing_now(watch: Watch, airflow: AirflowFacts | None, now: datetime | None = None) -> list[Alert]:
    """Return what fires, and change nothing."""
    return firing(observe(watch.home, watch.settings, watch.ledger, airflow, now))


def evaluated_at(ledger: Ledger) -> datetime | None:
    """Return when alerts were last evaluated."""
    lease = ledger.lease(LEASE)
    return None if lease is None else lease.acquired_at


def follow(watch: Watch, alerts: Sequence[Alert], now: datetime) -> Look:
    """Open, renew, escalate and end incidents by what fires at ``now``, and tell whoever has to be told."""
    ledger = watch.ledger
    opened = [one for alert in alerts if (one := _opened(watch, alert, alerts, now)) is not None]
    ended, escalated = [], []
    for incident in ledger.incidents(firing=True):
        if (now - incident.seen_at).total_seconds() >= ALERTS.settle_seconds:
            ended.append(ledger.end_incident(incident.id, _targets(watch, incident, _ended_text(incident)), now))
        elif (raised := _escalated(watch, incident, now)) is not None:
            escalated.append(raised)
    told = send_due(watch.home, watch.settings, ledger, now)
    write_logs(watch.home, ledger)
    return Look(now, list(alerts), opened, escalated, ended, told)


def _opened(watch: Watch, alert: Alert, alerts: Sequence[Alert], now: datetime) -> Incident | None:
    """Return the new incident of an alert; None when it has one already."""
    ledger = watch.ledger
    before = ledger.incidents(key=alert.key, limit=1)
    if before and before[0].ended_at is None:
        last = before[0]
        muted = last.closed_at is None or (now - last.closed_at).total_seconds() < INCIDENTS.closed_seconds
        if muted:
            ledger.see_incident(last.id, alert.summary, alert.evidence, now)
            return None
        ledger.end_incident(last.id, {}, now)  # the one that is opened now tells of its end
    why = criteria(alert, alerts, before[0] if before else None, now)
    level = 2 if why else 1
    text = _opened_text(alert, level, why)
    return ledger.open_incident(
        alert.key,
        rule=alert.rule.value,
        config=alert.config,
        subject=alert.subject,
        summary=alert.summary,
        evidence=alert.evidence,
        criteria=why,
        level=level,
        targets=dict.fromkeys(targets(watch.home, watch.settings, level), text),
        now=now,
    )


def criteria(alert: Alert, alerts: Sequence[Alert], before: Incident | None, now: datetime) -> list[str]:
    """Return why an alert begins on level 2, the runbook's "when to escalate" (R80); empty: on level 1."""
    found = []
    configs = {one.config for one in alerts if one.rule is alert.rule and one.config is not None}
    if alert.config is not None and len(configs) >= INCIDENTS.several_configs:
        found.append(f"{len(configs)} configs at once: {', '.join(sorted(configs))}")
    if any(word in f"{alert.summary} {alert.evidence}".lower() for word in _CORRUPTION):
        found.append("data may be corrupt")
    if alert.rule is Rule.RESOURCE_USE:
        found.append("the whole machine is short of it")
    closed = None if before is None else before.closed_at
    if before is not None and closed is not None and (now - closed).total_seconds() <= INCIDENTS.again_seconds:
        found.append(f"it persists: incident {before.id} was closed at {stamp(closed)}")
    return found


def _escalated(watch: Watch, incident: Incident, now: datetime) -> Incident | None:
    """Return an incident that nobody took on in time, raised; None when its clock has not run out, or stands."""
    stands = incident.acknowledged_at is not None or incident.closed_at is not None or incident.overdue_at is not None
    who, seconds = LEVELS[incident.level]
    if stands or now < incident.level_since + timedelta(seconds=seconds):
        return None
    above = incident.level + 1 if incident.level + 1 in LEVELS else None
    reason = f"{who} has not answered within {_span(seconds)}"
    name = "nobody above" if above is None else f"level {above}, {LEVELS[above][0]}"
    see = f"`ringrift incident show {incident.id}`"
    text = f"ESCALATED to {name}: {incident.summary}\nincident {incident.id}: {reason}; {see}"
    return watch.ledger.escalate_incident(incident.id, above, reason, _targets(watch, incident, text, above), now)


def answer_by(incident: Incident) -> datetime | None:
    """Return until when somebody has to take an incident on; None when its clock stands."""
    if incident.state != "open" or incident.overdue_at is not None:
        return None
    return incident.level_since + timedelta(seconds=LEVELS[incident.level][1])


def _targets(watch: Watch, incident: Incident, text: str, level: int | None = None) -> dict[str, str]:
    return dict.fromkeys(targets(watch.home, watch.settings, level or incident.level), text)


def _opened_text(alert: Alert, level: int, why: list[str]) -> str:
    who, seconds = LEVELS[level]
    because = f"; level {level} because: {'; '.join(why)}" if why else f"; level {level}"
    return (
        f"ALERT {alert.rule.value}: {alert.summary}\n{alert.evidence}{because}: {who} answers within {_span(seconds)}; "
        f"{alert.fix}; {page_of(alert)}"
    )


def _ended_text(incident: Incident) -> str:
    return (
        f"OVER {incident.rule}: {incident.summary}\n"
        f"incident {incident.id} fires no more since {stamp(incident.seen_at)}; "
        f"say what it was: `ringrift incident close {incident.id} --cause CAUSE --reason WHAT-WAS-DONE`"
    )


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"


# --- what people do -------------------------------------------------------------------------------


def acknowledge(watch: Watch, by: By, incident: int, now: datetime | None = None) -> Incident:
    """Take an incident on, which stops its clock; again it is the same. Raises ``ClosedIncidentError``."""
    return _changed(
        watch, by, "acknowledge", incident, lambda: watch.ledger.acknowledge_incident(incident, by.actor, now)
    )


def note(watch: Watch, by: By, incident: int, text: str, now: datetime | None = None) -> IncidentNote:
    """Write down what was found or done. Raises :class:`EmptyNoteError`, ``UnknownIncidentError``."""
    if not text.strip():
        raise EmptyNoteError("an empty note: say what was found or done")
    by.audited(watch.ledger, "note incident", watch.ledger.incident(incident).config, incident=incident)
    written = watch.ledger.note_incident(incident, by.actor, text.strip(), now)
    write_logs(watch.home, watch.ledger)
    return written


def close(watch: Watch, by: By, incident: int, cause: str | None, now: datetime | None = None) -> Incident:
    """Close an incident; ``by.reason`` says what was done. ``cause`` None: it is not known, see :func:`wants_a_row`.

    An alert that goes on firing opens another after ``INCIDENTS.closed_seconds``. Raises ``ClosedIncidentError``,
    ``MissingReasonError``.
    """
    by.needs_reason(f"closing incident {incident}")
    known = (cause or "").strip() or None
    return _changed(
        watch, by, "close", incident, lambda: watch.ledger.close_incident(incident, by.actor, known, by.reason, now)
    )


def _changed(watch: Watch, by: By, verb: str, incident: int, change: Callable[[], Incident]) -> Incident:
    """Do a change with its audit row, which is written only for a change that is not refused."""
    found = watch.ledger.incident(incident)
    if found.closed_at is None and not (verb == "acknowledge" and found.acknowledged_at is not None):
        by.audited(watch.ledger, f"{verb} incident", found.config, incident=incident)
    done = change()
    write_logs(watch.home, watch.ledger)
    return done


def wants_a_row(incident: Incident) -> str | None:
    """Return what is asked for when the cause of an incident is not known; None when it is."""
    if incident.cause is not None:
        return None
    return (
        f"the cause of incident {incident.id} ({incident.rule}) is not known: when it is found, add a row to the table "
        "of `ringrift diagnose` and to docs/runbooks, so that the next one is recognised"
    )
