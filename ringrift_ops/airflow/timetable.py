"""When a config's DAG starts by itself: a cron that forgets the ticks it missed, and can always be backfilled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow._shared.timezones.timezone import coerce_datetime, utcnow
from airflow.timetables.base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from airflow.timetables.trigger import CronTriggerTimetable

from ringrift_ops.settings import CHECKS


class GenerationTimetable(CronTriggerTimetable):
    """A cron, in UTC, whose ticks start runs only when they are recent (and ``ticks`` is set).

    Airflow's own starts the last missed tick as soon as a DAG is unpaused. This one never returns a tick older than
    ``CHECKS.missed_tick_seconds``, and none at all without ``ticks``. A backfill asks with ``catchup`` and gets one
    tick per date, the first; its last date counts whole: a bare date means midnight, and the ticks come after that.
    """

    def __init__(self, cron: str, *, ticks: bool) -> None:
        super().__init__(cron, timezone="UTC")
        self._ticks = ticks

    def serialize(self) -> dict[str, Any]:
        return {"expression": self._expression, "timezone": "UTC", "ticks": self._ticks}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(data["expression"], ticks=data["ticks"])

    def __eq__(self, other: object) -> bool:
        # The cron's own comparison imports half of Airflow's models into every process that reads the DAG file.
        return isinstance(other, GenerationTimetable) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self._expression, self._ticks))

    @property
    def summary(self) -> str:
        return self._expression if self._ticks else f"{self._expression} (backfills only)"

    def next_dagrun_info(
        self, *, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        if restriction.catchup:
            return self._of_date(last_automated_data_interval, restriction)
        if not self._ticks:
            return None
        found = super().next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )
        now = coerce_datetime(utcnow())
        if found is None or found.run_after >= now - timedelta(seconds=CHECKS.missed_tick_seconds):
            return found
        upcoming = self._align_to_next(now)
        if restriction.latest is not None and restriction.latest < upcoming:
            return None
        return DagRunInfo.interval(upcoming, upcoming)

    def _of_date(self, last: DataInterval | None, restriction: TimeRestriction) -> DagRunInfo | None:
        """Return the first tick of the next date that has one."""
        after = restriction.earliest if last is None else last.end.in_timezone("UTC").end_of("day")
        if after is None:
            return None
        tick = self._align_to_next(coerce_datetime(after))
        latest = restriction.latest
        if latest is not None and latest.in_timezone("UTC").end_of("day") < tick:
            return None
        return DagRunInfo.interval(tick, tick)
