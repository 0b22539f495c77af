"""Pages about an incident as Markdown: the escalation template, filled, and the post-incident review (R46, R80)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringrift_ops.ledger import Incident, IncidentNote, Ledger, Notification
from ringrift_ops.operations.idle import stamp
from ringrift_ops.operations.incidents import answer_by, wants_a_row
from ringrift_ops.operations.logs import line_of
from ringrift_ops.settings import INCIDENTS, LEVELS

HIGH = 3
"""From this level on an escalation is critical."""


@dataclass(frozen=True)
class Story:
    """All that is on record about an incident. ``timeline``: (moment, what happened), oldest first."""

    incident: Incident
    notes: list[IncidentNote]
    notifications: list[Notification]
    timeline: list[tuple[datetime, str]]
    answer_by: datetime | None


def story(ledger: Ledger, incident: int) -> Story:
    """Return an incident with the events of its config around it. Raises ``UnknownIncidentError``."""
    found = ledger.incident(incident)
    begin = found.opened_at - timedelta(seconds=INCIDENTS.timeline_before_seconds)
    end = found.closed_at or found.ended_at
    told = ledger.events(config=found.config, since=begin) if found.config else ledger.events(since=begin)
    within = [one for one in told if end is None or one.at <= end]
    others = [one for one in within if one.payload.get("incident") in (None, incident)]
    timeline = [(one.at, line_of(one).partition(" ")[2]) for one in others[-INCIDENTS.timeline_events :]]
    acts = [row for row in ledger.audit(since=begin) if row.config == found.config and (end is None or row.at <= end)]
    timeline += [(row.at, f"{row.actor} ({row.door}): {row.action}: {row.reason}") for row in acts]
    return Story(
        incident=found,
        notes=ledger.incident_notes(incident),
        notifications=ledger.notifications(incident),
        timeline=sorted(timeline, key=lambda one: one[0]),
        answer_by=answer_by(found),
    )


def escalation(told: Story) -> str:
    """Return the runbook's escalation template, filled."""
    one = told.incident
    steps = [f"{row.text} ({row.actor}, {stamp(row.at)})" for row in told.notes]
    last = [words for _, words in told.timeline[-10:]]
    who = f"level {one.level}, {LEVELS[one.level][0]}"
    return "\n".join((
        f"Subject: Training Failure Escalation - {one.subject}",
        "",
        f"Severity: {'Critical' if one.level >= HIGH else 'High'} ({who})",
        f"Affected Agent: {one.config or 'the whole machine'}",
        f"Training Job: {one.subject}",
        f"Time of Failure: {stamp(one.opened_at)}",
        "",
        "Symptoms:",
        f"- {one.summary}",
        f"- {one.evidence}",
        *(f"- {why}" for why in one.criteria),
        "",
        "Steps Taken:",
        *(f"{number}. {text}" for number, text in enumerate(steps or ["none is on record"], 1)),
        "",
        "Current Status:",
        _standing(told),
        "",
        "Impact:",
        f"{one.config or 'All configs'}: {one.rule} since {stamp(one.opened_at)}",
        "",
        "Logs:",
        *(f"    {words}" for words in last or ["no event is on record"]),
        "",
    ))  # fmt: skip


def review(told: Story) -> str:
    """Return the post-incident review page; what only people know is asked for in it."""
    one = told.incident
    answered = "nobody" if one.acknowledged_at is None else f"{one.acknowledged_by} at {stamp(one.acknowledged_at)}"
    lines = (
        f"# Incident {one.id}: {one.summary}",
        "",
        "| | |",
        "|---|---|",
        f"| rule | `{one.rule}` |",
        f"| config | {one.config or '-'} |",
        f"| began | {stamp(one.opened_at)} |",
        f"| over | {stamp(one.ended_at) if one.ended_at else 'not yet'} |",
        f"| lasted | {_lasted(one)} |",
        f"| highest level | {one.level}, {LEVELS[one.level][0]}{', overdue' if one.overdue_at else ''} |",
        f"| taken on by | {answered} |",
        f"| closed | {f'{one.closed_by} at {stamp(one.closed_at)}' if one.closed_at else 'not yet'} |",
        "",
        "## What happened",
        "",
        one.evidence,
        "",
        *((*(f"- {why}" for why in one.criteria), "") if one.criteria else ()),
        "## Timeline",
        "",
        *_table(told.timeline),
        "",
        "## What was done",
        "",
        *([f"- {stamp(row.at)} {row.actor}: {row.text}" for row in told.notes] or ["- no note is on record"]),
        f"- closed with: {one.resolution or '-'}",
        "",
        "## Cause",
        "",
        one.cause or f"Not known. {wants_a_row(one)}.",
        "",
        "## So that it does not happen again",
        "",
        "- [ ] what would have shown it earlier",
        "- [ ] what would have mended it without anybody",
        *([] if one.cause else ["- [ ] a new row of `ringrift diagnose`"]),
        "",
    )
    return "\n".join(lines)


def _table(timeline: Iterable[tuple[datetime, str]]) -> list[str]:
    rows = [f"| {stamp(at)} | {words.replace('|', chr(92) + '|')} |" for at, words in timeline]
    return ["| when | what |", "|---|---|", *(rows or ["| - | nothing is on record |"])]


def _standing(told: Story) -> str:
    one = told.incident
    if one.closed_at is not None:
        return f"closed by {one.closed_by}: {one.resolution}"
    if one.ended_at is not None:
        return f"its alert fires no more since {stamp(one.seen_at)}; not closed"
    by = f"; taken on by {one.acknowledged_by}" if one.acknowledged_by else ""
    due = f"; an answer is due at {stamp(told.answer_by)}" if told.answer_by else ""
    return f"{one.state}, last seen {stamp(one.seen_at)}{by}{due}"


def _lasted(one: Incident) -> str:
    end = one.ended_at or one.closed_at
    return "not over" if end is None else f"{(end - one.opened_at).total_seconds() / 60:.0f} min"
