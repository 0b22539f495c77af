"""Events: one validated schema per type, written for people and audit (F14)."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy.engine import Connection

from ringrift_ops.errors import UsageError
from ringrift_ops.ledger import schema
from ringrift_ops.ledger.engine import Connected, utc_now
from ringrift_ops.ledger.records import Event
from ringrift_ops.stages.specs import Sha256, Stage, Verdict, Verified


class EventType(StrEnum):
    """Every event there is."""

    SELFPLAY_COMPLETED = "SELFPLAY_COMPLETED"
    SELFPLAY_FAILED = "SELFPLAY_FAILED"
    PARITY_VALIDATION_COMPLETED = "PARITY_VALIDATION_COMPLETED"
    PARITY_VALIDATION_FAILED = "PARITY_VALIDATION_FAILED"
    EXPORT_COMPLETED = "EXPORT_COMPLETED"
    EXPORT_FAILED = "EXPORT_FAILED"
    TRAINING_STARTED = "TRAINING_STARTED"
    TRAINING_COMPLETED = "TRAINING_COMPLETED"
    TRAINING_FAILED = "TRAINING_FAILED"
    EVALUATION_STARTED = "EVALUATION_STARTED"
    EVALUATION_COMPLETED = "EVALUATION_COMPLETED"
    EVALUATION_FAILED = "EVALUATION_FAILED"
    MODEL_PROMOTED = "MODEL_PROMOTED"
    MODEL_PROMOTION_FAILED = "MODEL_PROMOTION_FAILED"
    PROMOTION_FAILED = "PROMOTION_FAILED"
    """The promotion itself broke; MODEL_PROMOTION_FAILED is the gate's no."""
    MODEL_DISTRIBUTED = "MODEL_DISTRIBUTED"
    DISTRIBUTION_FAILED = "DISTRIBUTION_FAILED"
    LEASE_GRANTED = "LEASE_GRANTED"
    LEASE_RELEASED = "LEASE_RELEASED"
    LEASE_FORCED = "LEASE_FORCED"
    BREAKER_OPENED = "BREAKER_OPENED"
    BREAKER_CLOSED = "BREAKER_CLOSED"
    GENERATION_STARTED = "GENERATION_STARTED"
    GENERATION_FORCED = "GENERATION_FORCED"
    """What it had of the stages is dropped, all of it: the run does them anew."""
    GENERATION_FINISHED = "GENERATION_FINISHED"
    INCIDENT_OPENED = "INCIDENT_OPENED"
    INCIDENT_ESCALATED = "INCIDENT_ESCALATED"
    INCIDENT_ACKNOWLEDGED = "INCIDENT_ACKNOWLEDGED"
    INCIDENT_NOTED = "INCIDENT_NOTED"
    INCIDENT_ENDED = "INCIDENT_ENDED"
    """Its alert fires no more; INCIDENT_CLOSED is a person's word."""
    INCIDENT_CLOSED = "INCIDENT_CLOSED"
    REMEDY_APPLIED = "REMEDY_APPLIED"
    REMEDY_VERIFIED = "REMEDY_VERIFIED"
    """Its verification list was run; ``ok`` says whether it holds."""
    REMEDY_GAVE_UP = "REMEDY_GAVE_UP"
    """Its bound is reached: a person is needed."""


class InvalidEventError(UsageError):
    """An unknown event type, or a payload that is not what its type says."""


class Payload(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SelfplayCompleted(Payload):
    batch: Sha256
    path: str
    shard: int
    games: int
    moves: int


class ParityValidationCompleted(Payload):
    report: Sha256
    checked: int
    failed: int
    passed: bool


class ExportCompleted(Payload):
    dataset: Sha256
    path: str
    games: int
    samples: int


class TrainingStarted(Payload):
    job_id: str
    attempt: int
    dataset: Sha256
    parent: Sha256 | None


class TrainingCompleted(Payload):
    job_id: str
    weights: Sha256
    path: str
    dataset: Sha256
    parent: Sha256 | None
    samples: int
    train_loss: float
    validation_loss: float


class StageFailed(Payload):
    job_id: str
    attempt: int
    error: str


class SelfplayFailed(StageFailed):
    pass


class ParityValidationFailed(StageFailed):
    pass


class ExportFailed(StageFailed):
    pass


class TrainingFailed(StageFailed):
    pass


class EvaluationStarted(Payload):
    job_id: str
    attempt: int
    candidate: Sha256
    previous: Sha256 | None


class EvaluationFailed(StageFailed):
    pass


class PromotionFailed(StageFailed):
    pass


class DistributionFailed(StageFailed):
    pass


class EvaluationCompleted(Payload):
    candidate: Sha256
    report: Sha256
    verdict: Verdict
    reason: str
    gate_version: str


class ModelPromoted(Payload):
    promotion: int
    kind: Literal["promote", "rollback", "back_out", "forced"]
    sha: Sha256
    previous: Sha256 | None
    reason: str
    actor: str


class ModelPromotionFailed(Payload):
    candidate: Sha256
    report: Sha256
    verdict: Verdict
    reason: str


class ModelDistributed(Payload):
    weights: Sha256
    destination: str
    path: str
    verified: bool
    error: str | None


class LeaseGranted(Payload):
    lease: str
    holder: str
    token: int


class LeaseReleased(Payload):
    lease: str
    holder: str
    token: int


class LeaseForced(Payload):
    lease: str
    holder: str
    token: int
    reason: str
    actor: str


class BreakerOpened(Payload):
    action: str
    failures: int
    reason: str


class BreakerClosed(Payload):
    action: str
    failures: int
    reason: str


class GenerationStarted(Payload):
    key: str
    number: int
    profile: str
    parent: Sha256 | None


class GenerationForced(Payload):
    run_id: str
    stages: list[Stage]


class GenerationFinished(Payload):
    outcome: Literal["PASS", "FAIL", "NO_EVIDENCE", "PARTIAL", "ERROR"]
    reason: str


class IncidentOpened(Payload):
    incident: int
    rule: str
    subject: str
    level: int
    summary: str
    evidence: str


class IncidentEscalated(Payload):
    """``level`` 5: nobody has answered on the highest one in time."""

    incident: int
    level: int
    reason: str


class IncidentAcknowledged(Payload):
    incident: int
    actor: str


class IncidentNoted(Payload):
    incident: int
    actor: str
    text: str


class IncidentEnded(Payload):
    incident: int
    rule: str
    subject: str
    seconds: float


class IncidentClosed(Payload):
    incident: int
    actor: str
    cause: str | None
    resolution: str


class RemedyApplied(Payload):
    """``target``: the job, lease, net or host that was mended; ``tries`` of ``bound``."""

    kind: str
    target: str
    step: int | None
    reason: str
    action: str
    tries: int
    bound: int


class RemedyVerified(Payload):
    kind: str
    target: str
    step: int | None
    ok: bool
    verified: list[Verified]


class RemedyGaveUp(Payload):
    kind: str
    target: str
    reason: str
    tries: int
    bound: int


SCHEMAS: dict[EventType, type[Payload]] = {
    EventType.SELFPLAY_COMPLETED: SelfplayCompleted,
    EventType.SELFPLAY_FAILED: SelfplayFailed,
    EventType.PARITY_VALIDATION_COMPLETED: ParityValidationCompleted,
    EventType.PARITY_VALIDATION_FAILED: ParityValidationFailed,
    EventType.EXPORT_COMPLETED: ExportCompleted,
    EventType.EXPORT_FAILED: ExportFailed,
    EventType.TRAINING_STARTED: TrainingStarted,
    EventType.TRAINING_COMPLETED: TrainingCompleted,
    EventType.TRAINING_FAILED: TrainingFailed,
    EventType.EVALUATION_STARTED: EvaluationStarted,
    EventType.EVALUATION_COMPLETED: EvaluationCompleted,
    EventType.EVALUATION_FAILED: EvaluationFailed,
    EventType.MODEL_PROMOTED: ModelPromoted,
    EventType.MODEL_PROMOTION_FAILED: ModelPromotionFailed,
    EventType.PROMOTION_FAILED: PromotionFailed,
    EventType.MODEL_DISTRIBUTED: ModelDistributed,
    EventType.DISTRIBUTION_FAILED: DistributionFailed,
    EventType.LEASE_GRANTED: LeaseGranted,
    EventType.LEASE_RELEASED: LeaseReleased,
    EventType.LEASE_FORCED: LeaseForced,
    EventType.BREAKER_OPENED: BreakerOpened,
    EventType.BREAKER_CLOSED: BreakerClosed,
    EventType.GENERATION_STARTED: GenerationStarted,
    EventType.GENERATION_FORCED: GenerationForced,
    EventType.GENERATION_FINISHED: GenerationFinished,
    EventType.INCIDENT_OPENED: IncidentOpened,
    EventType.INCIDENT_ESCALATED: IncidentEscalated,
    EventType.INCIDENT_ACKNOWLEDGED: IncidentAcknowledged,
    EventType.INCIDENT_NOTED: IncidentNoted,
    EventType.INCIDENT_ENDED: IncidentEnded,
    EventType.INCIDENT_CLOSED: IncidentClosed,
    EventType.REMEDY_APPLIED: RemedyApplied,
    EventType.REMEDY_VERIFIED: RemedyVerified,
    EventType.REMEDY_GAVE_UP: RemedyGaveUp,
}

BEGINNINGS: dict[Stage, tuple[EventType, tuple[str, ...]]] = {
    Stage.TRAIN: (EventType.TRAINING_STARTED, ("dataset", "parent")),
    Stage.GAUNTLET: (EventType.EVALUATION_STARTED, ("candidate", "previous")),
}
"""What is recorded when an attempt at a stage begins, and what of its spec it tells."""

FAILURES: dict[Stage, EventType] = {
    Stage.SELFPLAY: EventType.SELFPLAY_FAILED,
    Stage.PARITY: EventType.PARITY_VALIDATION_FAILED,
    Stage.EXPORT: EventType.EXPORT_FAILED,
    Stage.TRAIN: EventType.TRAINING_FAILED,
    Stage.GAUNTLET: EventType.EVALUATION_FAILED,
    Stage.PROMOTE: EventType.PROMOTION_FAILED,
    Stage.DISTRIBUTE: EventType.DISTRIBUTION_FAILED,
}
"""What is recorded when an attempt at a stage fails."""


def validated(event: EventType | str, payload: Payload | Mapping[str, object]) -> tuple[EventType, dict[str, Any]]:
    """Return the type and the payload as plain JSON; raises :class:`InvalidEventError`."""
    try:
        kind = EventType(event)
    except ValueError as error:
        raise InvalidEventError(f"unknown event {event!r}; valid: {', '.join(EventType)}") from error
    given = payload.model_dump() if isinstance(payload, Payload) else dict(payload)
    try:
        return kind, SCHEMAS[kind].model_validate(given).model_dump(mode="json")
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise InvalidEventError(f"payload of {kind}: {mistakes}") from error


def record(
    connection: Connection,
    event: EventType | str,
    config: str | None,
    generation: int | None,
    payload: Payload | Mapping[str, object],
    now: datetime,
) -> Event:
    """Write an event in the caller's transaction; the same one of the same generation only once."""
    kind, plain = validated(event, payload)
    unique = secrets.token_hex(16) if generation is None else ""
    text = json.dumps([kind, config, generation, plain, unique], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    table = schema.events
    found = connection.execute(_select().where(table.c.digest == digest)).first()
    if found is None:
        values = {"type": kind.value, "config": config, "generation": generation, "payload": plain}
        number = connection.execute(
            sa.insert(table).values(values | {"digest": digest, "at": now}).returning(table.c.id)
        ).scalar_one()
        return Event(id=number, at=now, **values)  # type: ignore[arg-type]  # one dict of mixed columns
    return Event(**found._asdict())


def _select() -> sa.Select[Any]:
    table = schema.events
    return sa.select(table.c.id, table.c.type, table.c.config, table.c.generation, table.c.payload, table.c.at)


class Events(Connected):
    """Writing and reading events."""

    def record_event(
        self,
        event: EventType | str,
        config: str | None,
        generation: int | None,
        payload: Payload | Mapping[str, object],
        now: datetime | None = None,
    ) -> Event:
        """Record an event and return it; the same payload of the same generation is recorded once.

        Raises :class:`InvalidEventError` for an unknown type and for unknown, missing or wrong keys.
        """
        with self._writing() as connection:
            return record(connection, event, config, generation, payload, now or utc_now())

    def latest_events(
        self, types: Sequence[EventType | str], since: datetime | None = None
    ) -> dict[tuple[str, str], tuple[datetime, int]]:
        """Return {(type, config): (newest moment, how many)} of these types since then; one pass over an index."""
        table = schema.events
        query = (
            sa.select(table.c.type, table.c.config, sa.func.max(table.c.at), sa.func.count())
            .where(table.c.type.in_([str(kind) for kind in types]), table.c.config.is_not(None))
            .group_by(table.c.type, table.c.config)
        )
        if since is not None:
            query = query.where(table.c.at >= since)
        with self._reading() as connection:
            return {(kind, config): (at, count) for kind, config, at, count in connection.execute(query)}

    def events(
        self,
        *,
        types: Sequence[EventType | str] = (),
        config: str | None = None,
        generation: int | None = None,
        since: datetime | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return the events that match, oldest first; with ``limit`` the newest so many of them.

        ``after``: only those with a larger id; ``before``: with a smaller one.
        """
        table = schema.events
        query = _select().order_by(table.c.id.desc())
        if types:
            query = query.where(table.c.type.in_([str(kind) for kind in types]))
        if config is not None:
            query = query.where(table.c.config == config)
        if generation is not None:
            query = query.where(table.c.generation == generation)
        if since is not None:
            query = query.where(table.c.at >= since)
        if after is not None:
            query = query.where(table.c.id > after)
        if before is not None:
            query = query.where(table.c.id < before)
        if limit is not None:
            query = query.limit(limit)
        with self._reading() as connection:
            return [Event(**row._asdict()) for row in connection.execute(query)][::-1]
