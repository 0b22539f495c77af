"""How a stage says where it stands: JSON lines next to its job, read by trigger, terminal and stall detector alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import Field, ValidationError

from ringrift_ops.stages.specs import Frozen, Stage
from ringrift_ops.store import WriteError

_TAIL_BYTES = 1 << 16


class Heartbeat(Frozen):
    """One line: ``done`` of ``total`` ``unit`` in ``phase``. ``metrics`` are its figures, e.g. ``{"loss": 0.31}``."""

    t: datetime = Field(default_factory=lambda: datetime.now(UTC))
    stage: Stage
    phase: str = Field(description="what the stage is doing, e.g. 'playing' or 'epoch 2'")
    done: int = Field(ge=0)
    total: int | None = Field(default=None, ge=0, description="None when it cannot be known")
    unit: str = Field(description="plural, e.g. 'games'")
    message: str = ""
    metrics: dict[str, float | int | str | dict[str, float | int] | None] = Field(
        default_factory=dict, description="figures by name; a win rate is {win_rate, lower, upper, games}"
    )


Report = Callable[[Heartbeat], None]
"""What every stage is given besides its spec: it calls this as often as there is something to say."""


def silent(_beat: Heartbeat) -> None:
    """A report that nobody reads."""


class HeartbeatFile:
    """A report that appends to a file, one whole line per call, readable at once by others.

    Lines of an earlier attempt stay. Raises :class:`~ringrift_ops.store.WriteError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            if _ends_in_half_a_line(path):
                os.write(self._descriptor, b"\n")
        except OSError as error:
            raise WriteError(path, error) from error

    def __call__(self, beat: Heartbeat) -> None:
        line = json.dumps(beat.model_dump(mode="json"), separators=(",", ":")) + "\n"
        try:
            os.write(self._descriptor, line.encode())
        except OSError as error:
            raise WriteError(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _ends_in_half_a_line(path: Path) -> bool:
    """Whether a writer was killed in the middle of its last line."""
    with path.open("rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return False
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def last_heartbeat(path: Path) -> Heartbeat | None:
    """Return the newest whole heartbeat in ``path``; None when there is none yet."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _TAIL_BYTES))
            tail = stream.read()
    except FileNotFoundError:
        return None
    for line in reversed(tail[: tail.rfind(b"\n") + 1].splitlines()):
        try:
            return Heartbeat.model_validate_json(line)
        except ValidationError:  # half a line of a killed attempt
            continue
    return None
