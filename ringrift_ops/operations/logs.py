"""The logs that the runbooks grep: a view of the ledger's events, brought up to date by every change (R7, R79).

Nothing is lost by a kill and nothing is written twice: each line ends with the number of its event, and the next
writer goes on after the last whole line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ringrift_ops.home import Home
from ringrift_ops.hosts.folder import locked
from ringrift_ops.ledger import Event, EventType, Ledger
from ringrift_ops.settings import OPERATIONS
from ringrift_ops.store import WriteError

E = EventType

ALSO: Mapping[EventType, str] = {
    E.PARITY_VALIDATION_COMPLETED: "PARITY_COMPLETED",
    E.PARITY_VALIDATION_FAILED: "PARITY_FAILED",
    E.TRAINING_STARTED: "TRAIN_STARTED",
    E.TRAINING_COMPLETED: "TRAIN_COMPLETED",
    E.TRAINING_FAILED: "TRAIN_FAILED",
    E.EVALUATION_STARTED: "EVALUATE_STARTED run_gauntlet",
    E.EVALUATION_COMPLETED: "EVALUATE_COMPLETED gauntlet",
    E.EVALUATION_FAILED: "EVALUATE_FAILED gauntlet error",
    E.MODEL_PROMOTED: "PROMOTE_COMPLETED PROMOTION_COMPLETED",
    E.MODEL_PROMOTION_FAILED: "PROMOTE_FAILED",
    E.PROMOTION_FAILED: "PROMOTE_FAILED",
    E.MODEL_DISTRIBUTED: "DISTRIBUTE_COMPLETED distribution",
    E.DISTRIBUTION_FAILED: "DISTRIBUTE_FAILED distribution failed",
}
"""The runbooks' other names for an event, on the same line."""

UNDELIVERED = "DISTRIBUTE_FAILED distribution failed"

_TRAINING = (E.TRAINING_STARTED, E.TRAINING_COMPLETED, E.TRAINING_FAILED)
_PHASES = (
    E.GENERATION_STARTED, E.GENERATION_FORCED, E.GENERATION_FINISHED, E.SELFPLAY_COMPLETED, E.SELFPLAY_FAILED,
    E.PARITY_VALIDATION_COMPLETED, E.PARITY_VALIDATION_FAILED, E.EXPORT_COMPLETED, E.EXPORT_FAILED,
)  # fmt: skip

FILES: Mapping[str, tuple[EventType, ...]] = {
    "coordination.log": (),
    "training.log": _TRAINING,
    "pipeline_orchestrator.log": _PHASES,
}
"""Each log and the events in it; empty: all."""

_NUMBER = re.compile(rb"#(\d+)$")
_TAIL_BYTES = 1 << 16
_LONGEST = 2_000
"""Characters of one value: a line always fits into the tail that is read."""


def write_logs(home: Home, ledger: Ledger) -> None:
    """Append what has happened since to the logs of ``home``; raises :class:`~ringrift_ops.store.WriteError`."""
    try:
        home.logs.mkdir(parents=True, exist_ok=True)
        with locked(home.logs / ".events.lock", wait=True):
            for name, types in FILES.items():
                _bring_up_to_date(home.logs / name, types, ledger)
    except OSError as error:
        raise WriteError(home.logs, error) from error


def _bring_up_to_date(path: Path, types: Iterable[EventType], ledger: Ledger) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(0, size - _TAIL_BYTES))
        tail = log.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) < len(tail):  # a writer was killed in the middle of a line
            log.truncate(size - (len(tail) - len(whole)))
        last = next((int(found[1]) for line in reversed(whole.splitlines()) if (found := _NUMBER.search(line))), None)
        first = OPERATIONS.log_first_events if last is None else None
        lines = [line_of(event) for event in ledger.events(types=tuple(types), after=last, limit=first)]
        if lines:
            log.write(("\n".join(lines) + "\n").encode())


def line_of(event: Event) -> str:
    """Return an event as one line: time, level, its name and the runbooks' names for it, where, what, its number."""
    kind = EventType(event.type)
    undelivered = kind is E.MODEL_DISTRIBUTED and not event.payload["verified"]
    also = UNDELIVERED if undelivered else ALSO.get(kind, "")
    failed = undelivered or kind.endswith("_FAILED")
    where = " ".join(filter(None, (event.config, f"g{event.generation}" if event.generation is not None else None)))
    what = " ".join(f"{name}={_one_line(value)}" for name, value in event.payload.items() if value is not None)
    words = (
        event.at.isoformat(timespec="seconds"), "ERROR" if failed else "INFO", kind.value, also,
        where and f"[{where}]", what, f"#{event.id}",
    )  # fmt: skip
    return " ".join(filter(None, words))


def _shown(character: str) -> str:
    """Return a character as a log may hold it: what would move a terminal's cursor is written out."""
    return character if character.isprintable() else ascii(character)[1:-1]


def _one_line(value: object) -> str:
    text = " | ".join("".join(map(_shown, line)) for line in str(value).splitlines())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
