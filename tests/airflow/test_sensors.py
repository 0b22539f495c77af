"""What is waited for may come late or at once, under load: no wait is lost, none fails (Airflow's deferral race)."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from ringrift_ops.ledger import generation_lease
from tests.airflow.conftest import Platform, until

pytestmark = [pytest.mark.platform(1), pytest.mark.slow]


@pytest.fixture
def load() -> Iterator[None]:
    """Keep every core busy."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def waiting(platform: Platform, config: str, run_id: str, task: str) -> bool:
    return platform.states(config, run_id).get(task) == "deferred"


def test_the_lease_and_the_training_that_come_20_seconds_after_deferring_are_noticed(platform: Platform) -> None:
    config, ledger = "square19_4p", platform.ledger
    platform.script(config, seconds={"train": 20})
    held = ledger.acquire_lease(generation_lease(config), "a test")
    run_id = platform.trigger(config)
    until("the run waits", 120, lambda: waiting(platform, config, run_id, "lease"))
    time.sleep(20)
    ledger.release_lease(held.name, held.token)
    assert platform.over(config, run_id) == "success"
    assert set(platform.tries(config, run_id).values()) == {1}


@pytest.mark.usefixtures("load")
def test_what_comes_at_once_under_load_is_noticed(platform: Platform) -> None:
    config, ledger = "hexagonal_2p", platform.ledger
    platform.script(config, seconds={"train": 0.1})
    held = ledger.acquire_lease(generation_lease(config), "a test")
    run_id = platform.trigger(config)
    until("the run asks for the lease", 180, lambda: ledger.waiting_generations(config))
    ledger.release_lease(held.name, held.token)
    assert platform.over(config, run_id) == "success"


def test_a_run_without_new_games_waits_for_them_whoever_makes_them(platform: Platform) -> None:
    config = "hexagonal_3p"
    platform.home.settings_file.write_text(
        f"profile: tiny\nconfigs:\n  {config}:\n    profiles:\n      tiny:\n        window_minimum_rows: 20000\n"
    )
    run_id = platform.trigger(config)
    until("the run waits for games", 180, lambda: waiting(platform, config, run_id, "games"))
    generation = platform.generation(config, run_id)
    made = platform.ledger.record_artifact(
        "a" * 64, "games", "elsewhere.db", 1, config, None, parents=[], meta={"games": 200, "moves": 20_000}, token=0
    )
    platform.ledger.record_parity(
        made.sha, "b" * 64, passed=True, checked=200, failed=0, generation=None, token=0
    )  # fmt: skip
    assert platform.over(config, run_id) == "success"
    platform.home.settings_file.unlink()
    assert platform.ledger.lineage(platform.ledger.stage_result(generation.id, "export")["dataset"]).ancestors


def test_a_net_trained_outside_a_run_is_judged_and_promoted_because_of_its_asset(platform: Platform) -> None:
    config, ledger = "square8_2p", platform.ledger
    platform.script(config, verdict="PASS")
    before = ledger.canonical(config)
    net = ledger.record_artifact(
        "c" * 64, "weights", "outside.safetensors", 1, config, None, parents=[], meta={}, token=0
    )  # fmt: skip
    (platform.home.root / "outside.safetensors").write_text("a net")
    until("the DAG is known", 60, lambda: platform.api.has_dag("candidates"))
    platform.api.unpause(config)
    assert platform.api.get("/dags/candidates")["is_paused"] is False  # it works without a person
    run_id = f"candidate__{net.sha[:16]}"
    until("its run is there", 180, lambda: any(run["dag_run_id"] == run_id for run in platform.api.runs(config)))
    assert platform.over(config, run_id) == "success"
    after = ledger.canonical(config)
    assert after is not None
    assert (after.sha, after.previous) == (net.sha, before.sha if before else None)
    done = {task for task, state in platform.states(config, run_id).items() if state == "success"}
    assert done == {"lease", "gauntlet", "promote", "distribute", "finish"}
