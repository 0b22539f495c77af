"""On a real platform: alerts are evaluated by their DAG, priorities come from the curriculum, old rows are counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ringrift_ops.ledger import EventType
from ringrift_ops.platform.database import AirflowTables
from ringrift_ops.settings import CURRICULUM
from tests.airflow.conftest import Platform, until

pytestmark = [pytest.mark.platform(2), pytest.mark.slow]

CONFIG = "hexagonal_3p"


@pytest.fixture(autouse=True)
def here(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's home is this process' home."""
    monkeypatch.setenv("RINGRIFT_HOME", str(platform.home.root))
    monkeypatch.setenv("RINGRIFT_PROFILE", "tiny")


def test_R8_the_dag_of_alerts_opens_an_incident_by_itself_and_tells_it_once(platform: Platform) -> None:
    until("alerts is known", 60, lambda: platform.api.has_dag("alerts"))
    assert platform.api.get("/dags/alerts")["is_paused"] is False
    for attempt in range(4):
        payload = {"job_id": "job", "attempt": attempt, "error": "disk is gone"}
        platform.ledger.record_event(EventType.EXPORT_FAILED, CONFIG, None, payload)
    key = f"stage_failures/{CONFIG}/stages"
    platform.api.trigger("alerts", {})
    until("an incident", 300, lambda: platform.ledger.incidents(key=key))
    before = len(platform.api.runs("alerts", state="success"))
    platform.api.trigger("alerts", {})
    until("another look", 300, lambda: len(platform.api.runs("alerts", state="success")) > before)
    lines = (platform.home.logs / "alerts.log").read_text().splitlines()
    assert len([line for line in lines if f"ALERT stage_failures: {CONFIG}" in line]) == 1
    assert [one.sent_at is not None for one in platform.ledger.notifications()].count(False) == 0


def test_R59_the_tasks_of_a_run_have_the_priority_of_their_configs_weight(platform: Platform) -> None:
    run_id = platform.trigger(CONFIG, stages=["distribute"])
    tasks = until("its tasks", 60, lambda: platform.api.tasks(CONFIG, run_id))
    assert {task["priority_weight"] for task in tasks} == {CURRICULUM.priority}
    platform.over(CONFIG, run_id)


def test_F18_airflows_own_command_counts_and_removes_old_rows(platform: Platform) -> None:
    until("a run", 300, lambda: platform.api.runs("alerts", state="success"))
    tables = AirflowTables.of(platform.home)
    assert tables is not None
    assert tables.old(datetime.now(UTC) + timedelta(minutes=1))["log"] > 0
    assert sum(tables.clean(datetime(2020, 1, 2, tzinfo=UTC)).values()) == 0
