"""The schedule of a config: recent ticks only, none in quick and tiny, one per date for a backfill."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("airflow_here")


@pytest.fixture
def noon(airflow_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is noon of 23 November 2026, UTC."""
    import pendulum

    for module in ("ringrift_ops.airflow.timetable", "airflow.timetables.trigger"):
        monkeypatch.setattr(f"{module}.utcnow", lambda: pendulum.datetime(2026, 11, 23, 12, tz="UTC"))


def next_tick(cron: str, *, ticks: bool = True, last: str | None = None, **restriction: Any) -> str | None:
    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction

    from ringrift_ops.airflow.timetable import GenerationTimetable

    moments = {
        name: pendulum.parse(restriction[name]) if restriction.get(name) else None for name in ("earliest", "latest")
    }
    interval = DataInterval(pendulum.parse(last), pendulum.parse(last)) if last else None  # type: ignore[arg-type]
    found = GenerationTimetable(cron, ticks=ticks).next_dagrun_info(
        last_automated_data_interval=interval,
        restriction=TimeRestriction(**moments, catchup=restriction.get("catchup", False)),  # type: ignore[arg-type]
    )
    return None if found is None else found.run_after.isoformat()[:16]


@pytest.mark.usefixtures("noon")
@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("58 11 * * *", "2026-11-23T11:58"),  # two minutes ago: it runs
        ("55 11 * * *", "2026-11-23T11:55"),  # exactly five minutes ago still does
        ("54 11 * * *", "2026-11-24T11:54"),  # six minutes ago: missed
        ("0 6 * * *", "2026-11-24T06:00"),
        ("30 12 * * *", "2026-11-23T12:30"),
    ],
)
def test_a_tick_older_than_five_minutes_is_missed_for_good(cron: str, expected: str) -> None:
    assert next_tick(cron, earliest="2020-01-01T00:00:00+00:00") == expected


@pytest.mark.usefixtures("noon")
def test_a_dag_that_ran_three_ticks_ago_does_not_catch_up() -> None:
    assert next_tick("0 */2 * * *", last="2026-11-23T06:00:00+00:00", earliest="2020-01-01T00:00:00+00:00") == (
        "2026-11-23T12:00"
    )
    assert next_tick("30 */2 * * *", last="2026-11-23T06:30:00+00:00") == "2026-11-23T12:30"


@pytest.mark.usefixtures("noon")
def test_without_ticks_nothing_ever_starts_by_itself() -> None:
    assert next_tick("* * * * *", ticks=False, earliest="2020-01-01T00:00:00+00:00") is None


@pytest.mark.parametrize("ticks", [True, False])
@pytest.mark.parametrize("cron", ["30 1-23/6 * * *", "0 0 * * *", "59 23 * * *"])
def test_a_backfill_gets_one_tick_per_date_both_ends_included(cron: str, ticks: bool) -> None:
    found, last = [], None
    window = {"earliest": "2026-02-01T00:00:00+00:00", "latest": "2026-02-03T00:00:00+00:00", "catchup": True}
    while tick := next_tick(cron, ticks=ticks, last=last, **window):
        found.append(tick[:10])
        last = f"{tick}:00+00:00"
    assert found == ["2026-02-01", "2026-02-02", "2026-02-03"]


def test_what_is_stored_comes_back() -> None:
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable

    from ringrift_ops.airflow.timetable import GenerationTimetable

    kept = decode_timetable(encode_timetable(GenerationTimetable("5 4 * * *", ticks=True)))
    assert isinstance(kept, GenerationTimetable)
    assert kept.serialize() == {"expression": "5 4 * * *", "timezone": "UTC", "ticks": True}
    assert kept.periodic
