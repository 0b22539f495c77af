"""The runbooks' own names in Python. Each is a few lines that call the real function; see docs/runbooks.

>>> from ringrift_ops.runbook import get_pipeline_orchestrator
>>> get_pipeline_orchestrator().get_stage_status("hex8_2p", "export")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from ringrift_ops.ledger import Breaker, Ledger
from ringrift_ops.ledger import Wait as Waiter
from ringrift_ops.operations.breakers import breaker_status, reset
from ringrift_ops.operations.by import By
from ringrift_ops.operations.health import Health, health
from ringrift_ops.operations.status import cell_of, cell_shape, stage_status
from ringrift_ops.operations.waiting import waiters_for
from ringrift_ops.platform.facts import look


class PipelineOrchestrator:
    """Status and control of the pipeline under the runbooks' method names. Holds no state."""

    def get_all_stage_status(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return {config: {stage: {completed, status, error, started_at, ended_at, run_id, ...}}} (R1)."""
        return stage_status(look())

    def get_stage_status(self, config: str, stage: str) -> dict[str, Any]:
        """Return one cell of it; raises ``UnknownConfigError``, ``UnknownStageError`` with the valid names (R2)."""
        return cell_shape(cell_of(look(config), config, stage))

    def health_check(self) -> Health:
        """Return .is_healthy, .reasons and .details with active_count and stalled_count (R6)."""
        return health(look())


def get_pipeline_orchestrator() -> PipelineOrchestrator:
    """Return the pipeline of this home."""
    return PipelineOrchestrator()


class Router:
    """Who waits for what an event tells of. Nothing subscribes here: runs ask whether their condition is true (R28)."""

    def get_subscribers(self, event: str) -> list[Waiter]:
        """Return the runs that wait for it now; raises ``UnknownEventError``."""
        return waiters_for(Ledger.open(), event)


def get_router() -> Router:
    """Return the router of this home."""
    return Router()


def get_circuit_breaker_status(config: str | None = None) -> dict[str, dict[str, Any]]:
    """Return {action: {"open", "failures", "configs"}} for every action (R9)."""
    return breaker_status(Ledger.open(), config)


def reset_circuit_breaker(
    action: str | None, config: str | None = None, *, reason: str = "reset_circuit_breaker"
) -> list[Breaker]:
    """Close the breakers of an action (None: of all) and return those that were not at rest (R10)."""
    return reset(Ledger.open(), By.here(reason, "python"), action, config)
