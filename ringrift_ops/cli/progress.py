"""Reports for people: a live line with rate and time left on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ringrift_ops.stages.heartbeat import Heartbeat, Report

_PLAIN_SECONDS = 10.0
"""Between two plain lines of one phase."""


@contextmanager
def shown(*, live: bool | None = None) -> Iterator[Report]:
    """Yield a report that shows progress on stderr; ``live`` defaults to whether stderr is a terminal."""
    if sys.stderr.isatty() if live is None else live:
        with _live() as report:
            yield report
    else:
        yield PlainLines()


class PlainLines:
    """Prints the first beat of a phase, then at most one line in ten seconds, and the last."""

    def __init__(self) -> None:
        self._phase: str | None = None
        self._phase_began = 0.0
        self._printed = 0.0

    def __call__(self, beat: Heartbeat) -> None:
        now = time.monotonic()
        fresh = beat.phase != self._phase
        if fresh:
            self._phase, self._phase_began = beat.phase, now
        if fresh or now - self._printed >= _PLAIN_SECONDS or (beat.total is not None and beat.done == beat.total):
            self._printed = now
            print(line_of(beat, now - self._phase_began), file=sys.stderr, flush=True)


def line_of(beat: Heartbeat, seconds: float) -> str:
    """Return a beat as one line; ``seconds`` since its phase began give the rate and the time left."""
    parts = [f"{beat.stage} {beat.phase}: {beat.done}{'' if beat.total is None else f'/{beat.total}'} {beat.unit}"]
    if beat.done and seconds > 0.0:
        rate = beat.done / seconds
        parts.append(f"{rate:,.1f} {beat.unit}/s")
        if beat.total is not None and beat.done < beat.total:
            parts.append(f"{duration(round((beat.total - beat.done) / rate))} left")
    parts += figures_of(beat)
    return ", ".join([*parts, *([beat.message] if beat.message else [])])


def figures_of(beat: Heartbeat) -> list[str]:
    """Return the figures of a beat as people read them; a win rate with its interval and games."""
    return [_figure(name, value) for name, value in beat.metrics.items() if value is not None]


def _figure(name: str, value: object) -> str:
    match value:
        case {"win_rate": float(rate), "lower": float(lower), "upper": float(upper), "games": games}:
            return f"{name} {100 * rate:.1f} % [{100 * lower:.1f}, {100 * upper:.1f}] in {games} games"
        case dict():
            return f"{name} ({', '.join(_figure(key, one) for key, one in value.items())})"
        case float():
            return f"{name} {value:.4g}"
    return f"{name} {value}"


def duration(seconds: int) -> str:
    """Return ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def _live() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.1f} {task.fields['unit']}/s")

    class Count(ProgressColumn):
        def render(self, task: Task) -> Text:
            total = "" if task.total is None else f"/{int(task.total)}"
            return Text(f"{int(task.completed)}{total} {task.fields['unit']}")

    name, more = TextColumn("{task.description}"), TextColumn("{task.fields[more]}")
    columns = (name, BarColumn(), Count(), Rate(), TimeRemainingColumn(), more)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def report(beat: Heartbeat) -> None:
            if beat.phase not in bars:
                bars[beat.phase] = progress.add_task(f"{beat.stage} {beat.phase}", total=beat.total, unit="", more="")
            progress.update(
                bars[beat.phase],
                completed=beat.done,
                total=beat.total,
                unit=beat.unit,
                more=", ".join([*figures_of(beat), *([beat.message] if beat.message else [])]),
            )

        yield report
