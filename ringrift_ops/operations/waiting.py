"""Who waits for what (R28): every condition that a run can wait for, and the runs that wait for it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from ringrift_ops.errors import UsageError
from ringrift_ops.ledger import Condition, EventType, Ledger
from ringrift_ops.ledger import Wait as Waiter
from ringrift_ops.settings import CONFIGS, LEASES

WORDS: Mapping[Condition, str] = {
    Condition.LEASE: "the generation lease of {config} is free and it is this run's turn",
    Condition.GAMES: "{config} has games enough to train on, whoever made them",
    Condition.TRAINING: "the training of {config} is over",
}

_MET_BY: Mapping[EventType, Condition] = {
    EventType.TRAINING_COMPLETED: Condition.TRAINING,
    EventType.TRAINING_FAILED: Condition.TRAINING,
    EventType.SELFPLAY_COMPLETED: Condition.GAMES,
    EventType.PARITY_VALIDATION_COMPLETED: Condition.GAMES,
    EventType.LEASE_RELEASED: Condition.LEASE,
    EventType.GENERATION_FINISHED: Condition.LEASE,
}


class UnknownEventError(UsageError):
    """An event that does not exist."""


@dataclass(frozen=True)
class Waiting:
    """A condition of a config and who waits for it. ``lost``: it should be waited for, and nobody does."""

    config: str
    condition: Condition
    words: str
    waiters: list[Waiter]
    silent: list[int]
    """Generations among the waiters that have stopped asking: nobody looks for them any more."""
    lost: str | None


def waiting(ledger: Ledger, config: str | None, now: datetime) -> list[Waiting]:
    """Return every condition of every config (or of one), also those that nobody waits for."""
    waiters = ledger.waits(config)
    trainings = ledger.running_trainings()
    found = []
    for key in [config] if config is not None else CONFIGS:
        for condition in Condition:
            mine = [one for one in waiters if (one.config, one.condition) == (key, condition)]
            lost = None
            if condition is Condition.TRAINING and not mine and key in trainings:
                lost = f"{trainings[key]} runs and nobody waits for its end: `ringrift recover {key}`"
            silent = [one.generation for one in mine if one.seen_at < now - timedelta(seconds=LEASES.waiting_seconds)]
            found.append(Waiting(key, condition, WORDS[condition].format(config=key), mine, silent, lost))
    return found


def waiters_for(ledger: Ledger, event: str, config: str | None = None) -> list[Waiter]:
    """Return the runs that what ``event`` tells of would let go on: the runbooks' "subscribers" of an event.

    Nothing subscribes: a run asks whether its condition is true. Raises :class:`UnknownEventError`.
    """
    if event not in set(EventType):
        raise UnknownEventError(f"unknown event {event!r}; valid: {', '.join(EventType)}")
    condition = _MET_BY.get(EventType(event))
    return [one for one in ledger.waits(config) if one.condition is condition]
