"""Circuit breakers per (config, action): they keep a broken machine from failing every generation, and mend themselves.

Only infrastructure errors count; a gate's no is an answer and closes the breaker like a success. After
``OPERATIONS.breaker_seconds`` an open breaker lets the next attempt through, and that decides.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pybreaker

from ringrift_ops.errors import GateError, InfrastructureError, RingRiftError
from ringrift_ops.ledger import Breaker, Ledger
from ringrift_ops.operations.by import By
from ringrift_ops.settings import OPERATIONS, config_named, stage_named
from ringrift_ops.stages.specs import Stage


class BreakerOpenError(GateError):
    """An action whose breaker is open was asked for."""


class _Storage(pybreaker.CircuitBreakerStorage):
    """Keeps a breaker in the ledger."""

    def __init__(self, ledger: Ledger, config: str, action: str) -> None:
        super().__init__("ledger")
        self._ledger, self._key = ledger, (config, action)

    def _row(self) -> Breaker:
        return self._ledger.breaker(*self._key)

    def _set(self, **values: Any) -> None:
        self._ledger.change_breaker(*self._key, values)

    @property
    def state(self) -> str:
        return self._row().state

    @state.setter
    def state(self, state: str) -> None:
        self._set(state=state)

    @property
    def counter(self) -> int:
        return self._row().failures

    def increment_counter(self) -> None:
        self._ledger.change_breaker(*self._key, {}, add_failures=1)

    def reset_counter(self) -> None:
        if self.counter:
            self._set(failures=0)

    @property
    def success_counter(self) -> int:
        return self._row().successes

    def increment_success_counter(self) -> None:
        self._set(successes=self.success_counter + 1)

    def reset_success_counter(self) -> None:
        if self.success_counter:
            self._set(successes=0)

    @property
    def opened_at(self) -> datetime | None:
        return self._row().opened_at

    @opened_at.setter
    def opened_at(self, moment: datetime) -> None:
        self._set(opened_at=moment)


class _Reasons(pybreaker.CircuitBreakerListener):
    """Writes down why an attempt failed, before the breaker opens on it."""

    def __init__(self, ledger: Ledger, config: str, action: str) -> None:
        self._ledger, self._key = ledger, (config, action)

    def failure(self, cb: pybreaker.CircuitBreaker, exc: BaseException) -> None:
        self._ledger.change_breaker(*self._key, {"reason": str(exc)})


def _is_no_infrastructure_error(error: BaseException) -> bool:
    return not isinstance(error, InfrastructureError)


def _breaker(ledger: Ledger, config: str, action: str) -> pybreaker.CircuitBreaker:
    return pybreaker.CircuitBreaker(
        fail_max=OPERATIONS.breaker_failures,
        reset_timeout=OPERATIONS.breaker_seconds,
        exclude=[_is_no_infrastructure_error],
        listeners=[_Reasons(ledger, config, action)],
        state_storage=_Storage(ledger, config, action),
        name=f"{config}/{action}",
        throw_new_error_on_trip=False,
    )


def half_opens_at(breaker: Breaker) -> datetime | None:
    """Return when an open breaker lets an attempt through; None for one that is not open."""
    if breaker.state != "open" or breaker.opened_at is None:
        return None
    return breaker.opened_at + timedelta(seconds=OPERATIONS.breaker_seconds)


def admit(ledger: Ledger, config: str, stage: Stage, now: datetime | None = None) -> None:
    """Let an attempt begin; raises :class:`BreakerOpenError` while the breaker is open."""
    found = ledger.breaker(config, stage.value)
    until = half_opens_at(found)
    if until is None or until <= (now or datetime.now(UTC)):
        return
    raise BreakerOpenError(
        f"{config}: {stage.value} failed {found.failures} times in a row, the last time with: {found.reason}; "
        f"its breaker lets the next attempt through at {until.isoformat(timespec='seconds')}, or now after "
        f"`ringrift breakers reset {config} {stage.value} --reason WHY`"
    )


def note(ledger: Ledger, config: str, stage: Stage, error: RingRiftError | None) -> None:
    """Count how an attempt ended. One that began before the breaker opened is not counted against it."""

    def ended() -> None:
        if error is not None:
            raise error

    try:
        _breaker(ledger, config, stage.value).call(ended)
    except pybreaker.CircuitBreakerError:
        return
    except RingRiftError as raised:
        if raised is not error:
            raise


def breaker_status(ledger: Ledger, config: str | None = None) -> dict[str, dict[str, Any]]:
    """Return {action: {open, failures, configs}} for all seven actions, the shape of R9.

    ``open`` when it is for any config; ``failures``: the most of any; ``configs``: those that have counted something,
    with open, state, failures, since, reason and half_opens_at. Raises ``UnknownConfigError``.
    """
    rows = ledger.breakers(None if config is None else config_named(config).key)
    found: dict[str, dict[str, Any]] = {}
    for stage in Stage:
        mine = [one for one in rows if one.action == stage.value]
        found[stage.value] = {
            "open": any(one.state == "open" for one in mine),
            "failures": max((one.failures for one in mine), default=0),
            "configs": {
                one.config: {
                    "open": one.state == "open",
                    "state": one.state,
                    "failures": one.failures,
                    "since": one.opened_at if one.state != "closed" else None,
                    "reason": one.reason,
                    "half_opens_at": half_opens_at(one),
                }
                for one in mine
            },
        }
    return found


def reset(ledger: Ledger, by: By, action: str | None, config: str | None = None) -> list[Breaker]:
    """Close breakers and forget their failures; return those that were not at rest, as they were (R10).

    ``action`` None: every action; accepts the runbooks' names. Nothing to reset changes nothing. Raises
    ``MissingReasonError``, ``UnknownStageError``, ``UnknownConfigError``.
    """
    by.needs_reason("resetting breakers")
    return close(ledger, by, action, config)


def close(ledger: Ledger, by: By, action: str | None, config: str | None = None) -> list[Breaker]:
    """Do it as a part of another change, which says itself whether it needs a reason."""
    wanted = None if action is None else stage_named(action).value
    key = None if config is None else config_named(config).key
    changed = [one for one in ledger.breakers(key, wanted) if one.state != "closed" or one.failures]
    if changed:
        by.audited(ledger, "reset breakers", key, breakers=[f"{one.config}/{one.action}" for one in changed])
    for one in changed:
        at_rest = {"state": "closed", "failures": 0, "successes": 0, "reason": ""}
        ledger.change_breaker(one.config, one.action, at_rest)
    return changed
