"""``kill -9`` of what does the work, and what is found afterwards: each thing done once, nothing lost, nothing left."""

from __future__ import annotations

import os
import signal

import pytest

from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.ledger import Outcome
from tests.airflow.conftest import Platform, state_of, until

pytestmark = [pytest.mark.platform(2), pytest.mark.slow]


def running(platform: Platform, job_id: str) -> bool:
    return platform.jobs.poll(job_id).state is JobState.RUNNING


def test_the_training_process_is_killed_and_the_retry_goes_on_with_the_same_job(platform: Platform) -> None:
    config = "hexagonal_4p"
    platform.script(config, seconds={"train": 6})
    run_id = platform.trigger(config)
    generation = until("the generation begins", 120, lambda: platform.ledger.generations(config))[0]
    job_id = f"{config}-g{generation.id}-train"
    until("the training runs", 240, lambda: platform.jobs.poll(job_id).heartbeat and running(platform, job_id))
    os.kill(platform.attempts(generation.id, "train")[0]["pid"], signal.SIGKILL)
    assert platform.over(config, run_id) == "success"
    assert len(platform.attempts(generation.id, "train")) == 2
    assert platform.jobs.poll(job_id).attempt == 2
    assert len(platform.ledger.artifacts(config=config, kind="weights")) == 1


def test_the_worker_is_killed_during_selfplay_and_the_games_are_made_once(platform: Platform) -> None:
    config = "hexagonal_4p"
    platform.script(config, seconds={"selfplay": 15})
    run_id = platform.trigger(config)
    until("its generation exists", 120, lambda: any(g.run_id == run_id for g in platform.ledger.generations(config)))
    generation = platform.generation(config, run_id)
    until("both shards run", 120, lambda: len(platform.attempts(generation.id, "selfplay")) == 2)
    scheduler = platform.component("scheduler")
    os.kill(scheduler, signal.SIGKILL)
    until("the scheduler is back", 60, lambda: platform.component("scheduler") != scheduler)
    assert platform.over(config, run_id) == "success"
    assert len(platform.attempts(generation.id, "selfplay")) == 2
    assert platform.generation(config, run_id).outcome is Outcome.PASS
    shards = platform.ledger.stage_runs(generation.id, "selfplay")
    assert [run.state for run in shards] == ["done", "done"]


def test_every_component_that_is_killed_comes_back(platform: Platform) -> None:
    before = {name: platform.component(name) for name in state_of(platform.home.root)["components"]}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    until(
        "all are back", 120,
        lambda: all(platform.component(name) != pid for name, pid in before.items()) and platform.api.healthy(),
    )  # fmt: skip


def test_marking_a_running_training_failed_ends_its_job(platform: Platform) -> None:
    config = "hexagonal_4p"
    platform.script(config, seconds={"train": 120})
    run_id = platform.trigger(config)
    until("its generation exists", 120, lambda: any(g.run_id == run_id for g in platform.ledger.generations(config)))
    job_id = f"{config}-g{platform.generation(config, run_id).id}-train"
    until("the training is waited for", 240, lambda: platform.states(config, run_id).get("train") == "deferred")
    platform.api.patch(f"/dags/{config}/dagRuns/{run_id}/taskInstances/train", {"new_state": "failed"})
    assert platform.over(config, run_id) == "failed"
    until("the job has ended", 30, lambda: not running(platform, job_id))
    lease = platform.ledger.lease(f"generation/{config}")
    assert lease is not None
    assert lease.holder is None
