"""Who comes when: one generation of a config at a time, schedules that forget what they missed, backfills."""

from __future__ import annotations

import json
import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ringrift_ops.ledger import Generation, generation_lease
from tests.airflow.conftest import Platform, until

pytestmark = [pytest.mark.platform(1), pytest.mark.slow]


def sourced(platform: Platform, command: str) -> str:
    """Run a command line the README's way, in a shell that has sourced the home's ``env``; return what it printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "AIRFLOW__CORE__EXECUTOR": "Foreign",
    }
    done = subprocess.run(
        ["bash", "-c", f". {platform.home.env} && {command}"],
        env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def schedule(platform: Platform, config: str, cron: str) -> None:
    """Give ``config`` a cron that ticks in the profile tiny, and wait until Airflow has read it."""
    row = {"cron": cron, "profiles": {"tiny": {"schedule_ticks": True}}}
    platform.home.settings_file.write_text(json.dumps({"profile": "tiny", "configs": {config: row}}))
    until(
        f"{config} ticks at {cron}", 90,
        lambda: platform.api.get(f"/dags/{config}")["timetable_description"] is not None
        and platform.api.get(f"/dags/{config}")["timetable_summary"] == cron,
    )  # fmt: skip


def cron_at(moment: datetime) -> str:
    return f"{moment.minute} {moment.hour} * * *"


def runs(platform: Platform, config: str) -> list[dict[str, Any]]:
    return platform.api.runs(config)


def backfilled(platform: Platform, config: str) -> list[dict[str, Any]]:
    """The config's runs that a backfill made."""
    return [run for run in runs(platform, config) if run["run_type"] == "backfill"]


def backfills(platform: Platform, config: str) -> list[dict[str, Any]]:
    return list(platform.api.get("/backfills", dag_id=config)["backfills"])


def generations(platform: Platform, config: str) -> list[Generation]:
    """Return the config's generations in the order in which they had their turn."""
    found = [one for one in platform.ledger.generations(config) if one.number is not None]
    return sorted(found, key=lambda one: one.number or 0)


def test_scheduled_manual_and_backfill_runs_make_one_generation_after_the_other_and_repeating_changes_nothing(
    platform: Platform,
) -> None:
    config, ledger = "hex8_2p", platform.ledger
    scheduler = platform.component("scheduler")
    held = ledger.acquire_lease(generation_lease(config), "a test")
    tick = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=2)
    schedule(platform, config, cron_at(tick))
    platform.api.unpause(config)
    backfill = f"airflow backfill create --dag-id {config} --from-date 2026-01-05 --to-date 2026-01-06"
    sourced(platform, backfill)
    manual = platform.trigger(config)
    until("all four wait for the lease", 240, lambda: len(ledger.waiting_generations(config)) == 4)
    assert {run["run_type"] for run in runs(platform, config)} == {"scheduled", "manual", "backfill"}

    ledger.release_lease(held.name, held.token)
    for run in runs(platform, config):
        assert platform.over(config, run["dag_run_id"]) == "success"
    made = generations(platform, config)
    assert [one.number for one in made] == [1, 2, 3, 4]
    assert [one.logical_date.date().isoformat() if one.logical_date else one.run_id for one in made] == [
        "2026-01-05", "2026-01-06", manual, tick.date().isoformat(),
    ]  # fmt: skip
    nets = [ledger.stage_result(one.id, "train")["weights"] for one in made]
    assert [one.parent for one in made] == [None, *nets[:-1]]
    assert len(ledger.generations(config)) == 4

    before = [ledger.stage_runs(one.id) for one in made]
    # Airflow looks every 30 s whether a backfill is over, and refuses a second one of the DAG until then.
    until(
        "Airflow has closed the backfill", 90, lambda: all(one["completed_at"] for one in backfills(platform, config))
    )
    sourced(platform, f"{backfill} --reprocess-behavior completed")
    until(
        "they run again", 60, lambda: any(run["state"] in ("queued", "running") for run in backfilled(platform, config))
    )
    assert len(backfilled(platform, config)) == 2
    for run in backfilled(platform, config):
        assert platform.over(config, run["dag_run_id"]) == "success"
    assert [one.id for one in generations(platform, config)] == [one.id for one in made]
    assert [ledger.stage_runs(one.id) for one in made] == before
    assert len(ledger.generations(config)) == 4
    assert platform.component("scheduler") == scheduler


def test_a_dag_that_missed_its_ticks_starts_nothing_when_it_is_unpaused(platform: Platform) -> None:
    missed = datetime.now(UTC) - timedelta(minutes=20)
    until("the DAG is known", 60, lambda: platform.api.has_dag("square19_2p"))
    before = runs(platform, "square19_2p")
    schedule(platform, "square19_2p", f"{missed.minute} * * * *")
    platform.api.unpause("square19_2p")
    upcoming = until(
        "the next tick is known", 60, lambda: platform.api.get("/dags/square19_2p")["next_dagrun_run_after"]
    )
    assert datetime.fromisoformat(upcoming.replace("Z", "+00:00")) > datetime.now(UTC)
    time.sleep(10)  # what must not happen gives no sign
    assert [run["dag_run_id"] for run in runs(platform, "square19_2p")] == [run["dag_run_id"] for run in before]
