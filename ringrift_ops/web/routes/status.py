"""Where everything stands, what happened, and what holds it back."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import AwareDatetime, BaseModel

from ringrift_ops.ledger import AuditRow, Event, EventType, Waiver
from ringrift_ops.operations.breakers import breaker_status
from ringrift_ops.operations.health import health as health_of
from ringrift_ops.operations.locks import Lock
from ringrift_ops.operations.locks import locks as locks_of
from ringrift_ops.operations.metrics import CONTENT_TYPE, exposition
from ringrift_ops.operations.overview import Overview, overview
from ringrift_ops.operations.permissions import Permission
from ringrift_ops.operations.waiting import Waiting
from ringrift_ops.settings import CONFIGS, WEB
from ringrift_ops.web import inside, page
from ringrift_ops.web.door import PROBLEMS_OF_PAGES, AnyCaller, Before, Config, Control, Here, Limit, Routes
from ringrift_ops.web.guard import OPEN
from ringrift_ops.web.place import Place

routes = Routes("status")

Since = Annotated[AwareDatetime | None, Query(ge=datetime(2000, 1, 1, tzinfo=UTC), le=datetime(2999, 1, 1, tzinfo=UTC))]


class Healthy(BaseModel):
    """Yes or no; everything else only to who may read."""

    healthy: bool
    reasons: list[str] | None = None
    details: dict[str, Any] | None = None


class Events(BaseModel):
    """A page of events, oldest first; ask for what was before with ``before=next_before``."""

    events: list[Event]
    next_before: int | None


class Audit(BaseModel):
    """A page of the audit, oldest first."""

    audit: list[AuditRow]
    next_before: int | None


class BreakerCell(BaseModel):
    """A breaker of one config."""

    open: bool
    state: str
    failures: int
    since: datetime | None
    reason: str
    half_opens_at: datetime | None


class BreakerRow(BaseModel):
    """A breaker: ``open`` when it is for any config; ``failures``: the most of any."""

    open: bool
    failures: int
    configs: dict[str, BreakerCell]


@dataclass
class _Known:
    """The last answer to who is not logged in."""

    at: float = -float("inf")
    healthy: bool = False


_KNOWN, _ONE = _Known(), threading.Lock()


def _healthy_lately(here: Place) -> bool:
    with _ONE:
        if time.monotonic() - _KNOWN.at > WEB.health_seconds:
            _KNOWN.healthy, _KNOWN.at = health_of(here.look()).is_healthy, time.monotonic()
        return _KNOWN.healthy


@routes.reads("/health", OPEN, response_model_exclude_none=True)
def health(here: Here, user: AnyCaller) -> Healthy:
    """Say whether all that should go on does; to who may read also why not, as `ringrift health` (R6)."""
    if user is None or not inside.may(user, Permission.TRAINING_READ):
        return Healthy(healthy=_healthy_lately(here))
    found = health_of(here.look())
    return Healthy(healthy=found.is_healthy, reasons=found.reasons, details=found.details)


@routes.reads("/status", Permission.TRAINING_READ)
def status(here: Here, config: Config | None = None) -> Overview:
    """Return where everything stands, under the runbooks' keys (R1, R25, R72)."""
    return overview(here.home, here.ledger, here.look(config))


@routes.reads("/page", Permission.TRAINING_READ, response_class=HTMLResponse, responses=PROBLEMS_OF_PAGES)
def status_page(here: Here, config: Annotated[str | None, Query(max_length=250)] = None) -> HTMLResponse:
    """Show the same for people, inside Airflow's pages; of one config, when it is one."""
    found = here.look(config if config in CONFIGS else None)
    return HTMLResponse(page.html(overview(here.home, here.ledger, found), health_of(found)))


@routes.reads(
    "/metrics",
    Permission.TRAINING_READ,
    opened_by="http_open_metrics",
    response_class=PlainTextResponse,
    responses=PROBLEMS_OF_PAGES,
)
def metrics(here: Here) -> PlainTextResponse:
    """Return every figure as Prometheus reads it; the setting ``http_open_metrics`` opens it to everybody."""
    text = exposition(here.home, here.settings, here.ledger, inside.airflow_facts())
    return PlainTextResponse(text, media_type=CONTENT_TYPE)


@routes.reads("/waiting", Permission.TRAINING_READ)
def waiting(here: Here, config: Config | None = None) -> list[Waiting]:
    """Return every condition that a run can wait for, and who waits for it (R28)."""
    return here.look(config).waiting


@routes.reads("/events", Permission.TRAINING_READ)
def events(
    here: Here,
    type: Annotated[list[EventType] | None, Query()] = None,  # noqa: A002 - the runbooks' word
    config: Config | None = None,
    since: Since = None,
    before: Before = None,
    limit: Limit = WEB.page,
) -> Events:
    """Return the newest events (R7), a page at a time."""
    found = here.ledger.events(types=type or (), config=config, since=since, before=before, limit=limit)
    return Events(events=found, next_before=found[0].id if len(found) == limit else None)


@routes.reads("/audit", Permission.ADMIN)
def audit(
    here: Here, config: Config | None = None, since: Since = None, before: Before = None, limit: Limit = WEB.page
) -> Audit:
    """Return who changed what, when and why, a page at a time."""
    found = here.ledger.audit(config=config, since=since, before=before, limit=limit)
    return Audit(audit=found, next_before=found[0].id if len(found) == limit else None)


@routes.reads("/breakers", Permission.TRAINING_READ)
def breakers(here: Here, config: Config | None = None) -> dict[str, BreakerRow]:
    """Return {action: breaker} (R9)."""
    return {name: BreakerRow.model_validate(one) for name, one in breaker_status(here.ledger, config).items()}


@routes.reads("/locks", Permission.TRAINING_READ)
def locks(control: Control, config: Config | None = None) -> list[Lock]:
    """Return the training locks that are held, by whom, and what uses them (R23)."""
    return locks_of(control.home, control.ledger, config, airflow=control.airflow)


@routes.reads("/waivers", Permission.TRAINING_READ)
def waivers(here: Here, config: Config | None = None) -> list[Waiver]:
    """Return the exceptions in force."""
    return here.ledger.waivers(config=config)
