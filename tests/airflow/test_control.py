"""Control of a real platform under the runbooks' names: start, trigger, recover, full recovery, and its status."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.ledger import Outcome
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import NothingToRecoverError, recover
from ringrift_ops.platform.facts import controls, look
from ringrift_ops.runbook import get_evaluation_daemon, get_pipeline_orchestrator
from ringrift_ops.settings import CONFIGS
from tests.airflow.conftest import Platform, until

pytestmark = [pytest.mark.platform(2), pytest.mark.slow]


@pytest.fixture(autouse=True)
def here(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's home is this process' home."""
    monkeypatch.setenv("RINGRIFT_HOME", str(platform.home.root))
    monkeypatch.setenv("RINGRIFT_PROFILE", "tiny")


def started(config: str) -> str:
    return asyncio.run(get_pipeline_orchestrator().start_pipeline_for_config(config))


def promoted(platform: Platform, config: str) -> None:
    """Make sure that a config has a net in force."""
    if platform.ledger.canonical(config) is None:
        assert platform.over(config, started(config)) == "success"


def actions(platform: Platform, config: str) -> list[str]:
    return [row.action for row in platform.ledger.audit(config=config)]


def test_R5_a_started_pipeline_runs_to_its_end_and_a_second_call_meanwhile_starts_no_other(platform: Platform) -> None:
    platform.script("square19_2p", seconds={"selfplay": 5})
    until("square19_2p is known", 60, lambda: platform.api.has_dag("square19_2p"))
    run_id = started("square19_2p")
    assert started("square19_2p") == run_id
    assert actions(platform, "square19_2p") == ["start"]
    assert platform.over("square19_2p", run_id) == "success"
    assert platform.generation("square19_2p", run_id).outcome is Outcome.PASS
    net = platform.ledger.canonical("square19_2p")
    assert net is not None
    assert get_evaluation_daemon().get_evaluation_status("square19_2p")["last"]["candidate"] == net.sha


def test_R3_a_stage_is_triggered_alone_and_with_what_follows(platform: Platform) -> None:
    orchestrator = get_pipeline_orchestrator()
    promoted(platform, "square19_2p")
    alone = asyncio.run(orchestrator.trigger_stage("square19_2p", "npz_export", force=True))
    assert platform.over("square19_2p", alone) == "success"
    done = {task for task, state in platform.states("square19_2p", alone).items() if state == "success"}
    assert done == {"lease", "games", "export", "finish"}
    platform.script("square19_2p", verdict="FAIL")
    rest = asyncio.run(orchestrator.trigger_stage("square19_2p", "train", following=True))
    assert platform.over("square19_2p", rest) == "success"
    done = {task for task, state in platform.states("square19_2p", rest).items() if state == "success"}
    assert done == {"lease", "train", "gauntlet", "promote", "finish"}


def test_R29_recover_does_the_stuck_tasks_again_and_takes_up_what_is_done(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.script("square19_3p", fail={"parity": [1, 1]})
    until("square19_3p is known", 60, lambda: platform.api.has_dag("square19_3p"))
    run_id = started("square19_3p")
    assert platform.over("square19_3p", run_id) == "failed"
    assert main(["recover", "square19_3p", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"]["parity"] == "failed"
    assert actions(platform, "square19_3p") == ["start"]
    assert main(["recover", "square19_3p", "--reason", "engine was mended"]) == 0
    assert platform.over("square19_3p", run_id) == "success"
    generation = platform.generation("square19_3p", run_id)
    assert generation.outcome is Outcome.PASS
    assert len(platform.attempts(generation.id, "parity")) == 2
    shards = len(platform.ledger.stage_runs(generation.id, "selfplay"))
    assert len(platform.attempts(generation.id, "selfplay")) == shards
    with pytest.raises(NothingToRecoverError, match="has no stuck task"):
        recover(controls(), By.here("", "cli"), "square19_3p")


def test_R30_full_recovery_of_a_stuck_training_restarts_it_and_the_loop_goes_on(
    platform: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.script("square19_4p", seconds={"train": 600})
    until("square19_4p is known", 60, lambda: platform.api.has_dag("square19_4p"))
    run_id = started("square19_4p")
    generation = until("a generation", 60, lambda: platform.ledger.generations("square19_4p"))[0]
    job_id = f"square19_4p-g{generation.id}-train"
    until("the training runs", 120, lambda: platform.jobs.poll(job_id).state is JobState.RUNNING)
    until(
        "its run waits", 60, lambda: [w for w in look("square19_4p").waiting if w.condition == "training" and w.waiters]
    )
    assert look("square19_4p").configs[0].stages[3].status == "running"
    platform.script("square19_4p")
    assert main(["recover", "square19_4p", "--full", "--reason", "GPU at 0 %", "--json"]) == 0
    steps: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert [(step["name"], step["done"]) for step in steps] == [
        ("stop training", True), ("clear training state", True), ("verify data", True), ("restart", True),
        ("monitor", True),
    ]  # fmt: skip
    assert steps[0]["found"] == job_id
    assert platform.over("square19_4p", run_id) == "success"
    assert platform.generation("square19_4p", run_id).outcome is Outcome.PASS
    assert "full recovery" in actions(platform, "square19_4p")


def test_R52_an_evaluation_with_high_priority_has_its_turn_before_runs_that_waited_longer(platform: Platform) -> None:
    config = "square19_2p"
    promoted(platform, config)
    daemon = get_evaluation_daemon()
    platform.script(config, verdict="FAIL", seconds={"selfplay": 20})
    holds = started(config)
    until("the lease is taken", 60, lambda: platform.ledger.lease(f"generation/{config}").holder == holds)
    waits = asyncio.run(get_pipeline_orchestrator().trigger_stage(config, "export", following=True))
    until("a run waits", 60, lambda: platform.ledger.waiting_generations(config))
    model = str(platform.home.canonical_link(config))
    first = asyncio.run(daemon.queue_evaluation(model_path=model, config_key=config, priority="high"))
    assert asyncio.run(daemon.queue_evaluation(model_path=model, config_key=config, priority="high")) == first
    assert [run["run_id"] for run in daemon.get_evaluation_status(config)["queued"]] == [first]
    for run_id in (holds, first, waits):
        assert platform.over(config, run_id) == "success"
    numbers = [platform.generation(config, run_id).number for run_id in (holds, first, waits)]
    assert numbers == sorted(numbers, key=lambda number: number or 0)
    done = {task for task, state in platform.states(config, first).items() if state == "success"}
    assert done == {"lease", "gauntlet", "promote", "finish"}
    assert daemon.get_evaluation_status(config)["last"]["verdict"] == "FAIL"
    assert daemon.get_evaluation_status(config)["queued"] == []


def test_R6_a_running_platform_is_healthy_and_its_status_knows_airflow(platform: Platform) -> None:
    found = look()
    assert found.airflow is not None
    assert found.airflow.ill == []
    assert set(CONFIGS) <= set(found.airflow.paused)
    assert found.airflow.pools["training"].slots == 1
    paused = next(one for one in found.configs if one.config == "hexagonal_4p")
    assert {cell.idle.why for cell in paused.stages if cell.idle} <= {"paused", "no schedule"}
    assert get_pipeline_orchestrator().health_check().details["components"]["scheduler"] == "healthy"
