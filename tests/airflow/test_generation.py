"""Whole generations through a real scheduler, triggerer and API server; the stages are the stand-in's.

All runs are started together, each on a config of its own, because a scheduler at work costs CPU and not patience.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ringrift_ops.ledger import EventType, GenerationState, Outcome
from ringrift_ops.stages.specs import Stage
from tests.airflow.conftest import Platform

pytestmark = [pytest.mark.platform(1), pytest.mark.slow]

EVERY_TASK = {"lease", "games", "finish", *(stage.value for stage in Stage)}


@dataclass(frozen=True)
class Started:
    platform: Platform
    runs: dict[str, str]

    def over(self, config: str) -> str:
        return self.platform.over(config, self.runs[config])

    def states(self, config: str) -> dict[str, str]:
        return self.platform.states(config, self.runs[config])


@pytest.fixture(scope="module")
def started(platform: Platform) -> Started:
    platform.script("square8_3p", verdict="FAIL")
    platform.script("square8_4p", verdict="NO_EVIDENCE")
    platform.script("hex8_3p", fail={"export": [4, 1], "train": [4, 1]})
    platform.script("hex8_4p", fail={"parity": [1, 9]})
    configs = ("square8_2p", "square8_3p", "square8_4p", "hex8_3p", "hex8_4p")
    return Started(platform, {config: platform.trigger(config) for config in configs})


def test_a_generation_goes_through_all_stages_and_the_next_starts_from_its_net(started: Started) -> None:
    platform = started.platform
    assert started.over("square8_2p") == "success"
    assert started.states("square8_2p") == dict.fromkeys(EVERY_TASK, "success")
    first = platform.generation("square8_2p", started.runs["square8_2p"])
    canonical = platform.ledger.canonical("square8_2p")
    assert canonical is not None
    assert (first.number, first.parent, first.outcome) == (1, None, Outcome.PASS)
    assert platform.home.canonical_link("square8_2p").exists()

    again = platform.trigger("square8_2p")
    assert platform.over("square8_2p", again) == "success"
    second = platform.generation("square8_2p", again)
    assert (second.number, second.parent) == (2, canonical.sha)
    ancestors = {
        one.artifact.sha for one in platform.ledger.lineage(platform.ledger.canonical("square8_2p").sha).ancestors
    }
    assert canonical.sha in ancestors


def test_a_fail_is_green_promotes_nothing_and_is_on_record(started: Started) -> None:
    assert started.over("square8_3p") == "success"
    assert started.states("square8_3p")["distribute"] == "skipped"
    ledger = started.platform.ledger
    assert ledger.canonical("square8_3p") is None
    assert len(ledger.events(types=[EventType.MODEL_PROMOTION_FAILED], config="square8_3p")) == 1
    generation = started.platform.generation("square8_3p", started.runs["square8_3p"])
    assert (generation.state, generation.outcome) == (GenerationState.FINISHED, Outcome.FAIL)


def test_F10_no_evidence_fails_the_run_without_a_retry_and_touches_nothing(started: Started) -> None:
    assert started.over("square8_4p") == "failed"
    states = started.states("square8_4p")
    assert (states["gauntlet"], states["promote"], states["finish"]) == ("failed", "upstream_failed", "success")
    assert started.platform.tries("square8_4p", started.runs["square8_4p"])["gauntlet"] == 1
    assert started.platform.ledger.canonical("square8_4p") is None
    generation = started.platform.generation("square8_4p", started.runs["square8_4p"])
    assert generation.outcome is Outcome.NO_EVIDENCE
    lease = started.platform.ledger.lease("generation/square8_4p")
    assert lease is not None
    assert lease.holder is None


def test_infrastructure_is_tried_again_and_a_second_try_resumes_the_same_training(started: Started) -> None:
    assert started.over("hex8_3p") == "success"
    run_id = started.runs["hex8_3p"]
    tries = started.platform.tries("hex8_3p", run_id)
    assert (tries["export"], tries["train"]) == (2, 2)
    generation = started.platform.generation("hex8_3p", run_id)
    assert len(started.platform.attempts(generation.id, "train")) == 2
    assert started.platform.jobs.poll(f"hex8_3p-g{generation.id}-train").attempt == 2
    kinds = [event.type for event in started.platform.ledger.events(config="hex8_3p") if "TRAINING" in event.type]
    assert kinds == ["TRAINING_STARTED", "TRAINING_FAILED", "TRAINING_STARTED"]


def test_F17_a_parity_no_is_final_and_nothing_is_exported(started: Started) -> None:
    assert started.over("hex8_4p") == "failed"
    states = started.states("hex8_4p")
    assert (states["parity"], states["export"]) == ("failed", "upstream_failed")
    assert started.platform.tries("hex8_4p", started.runs["hex8_4p"])["parity"] == 1
    generation = started.platform.generation("hex8_4p", started.runs["hex8_4p"])
    assert generation.outcome is Outcome.ERROR
    assert generation.reason is not None
    assert generation.reason.startswith("parity: ")


def test_the_param_stages_limits_a_run_and_what_it_needs_is_taken_from_before(started: Started) -> None:
    started.over("square8_3p")
    platform = started.platform
    run_id = platform.trigger("square8_3p", stages=["export", "train"])
    assert platform.over("square8_3p", run_id) == "success"
    done = {task for task, state in platform.states("square8_3p", run_id).items() if state == "success"}
    assert done == {"lease", "games", "export", "train", "finish"}
    assert platform.generation("square8_3p", run_id).outcome is Outcome.PARTIAL


def test_clearing_a_task_of_a_finished_run_changes_nothing(started: Started) -> None:
    started.over("square8_3p")
    platform, run_id = started.platform, started.runs["square8_3p"]
    generation = platform.generation("square8_3p", run_id)
    before = platform.ledger.stage_runs(generation.id)
    platform.api.post(
        "/dags/square8_3p/clearTaskInstances",
        {"dag_run_id": run_id, "task_ids": ["gauntlet"], "include_downstream": True, "dry_run": False,
         "only_failed": False, "reset_dag_runs": True},
    )  # fmt: skip
    assert platform.over("square8_3p", run_id) == "success"
    assert platform.tries("square8_3p", run_id)["gauntlet"] == 2
    assert platform.ledger.stage_runs(generation.id) == before
    assert len(platform.attempts(generation.id, "gauntlet")) == 1
    again = platform.generation("square8_3p", run_id)
    assert (again.state, again.outcome) == (GenerationState.FINISHED, Outcome.FAIL)
