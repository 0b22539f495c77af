"""The DAG file: twelve DAGs and one for nets from outside, light to import, the same shape for every config."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, Slot
from ringrift_ops.settings import CONFIGS, Settings, UnknownHostError
from ringrift_ops.stages.specs import Stage

if TYPE_CHECKING:
    from airflow.sdk import DAG

PROJECT = Path(__file__).resolve().parents[2]
DAG_FILE = PROJECT / "dags" / "ringrift.py"
HEAVY = ("torch", "numba", "numpy", "alembic", "safetensors")

IMPORT = f"""
import json, sys, time
sys.path.insert(0, {str(PROJECT)!r})
import airflow.sdk
from airflow.sdk import DAG, Asset, AssetAlias, AssetAny, AssetWatcher, BaseOperator, BaseSensorOperator
from airflow.sdk import ExceptionRetryPolicy, Param, RetryAction, RetryRule, get_parsing_context
before, begun = set(sys.modules), time.process_time()
import runpy
found = runpy.run_path({str(DAG_FILE)!r})
seconds = time.process_time() - begun
dags = sorted(name for name, value in found.items() if isinstance(value, DAG))
print(json.dumps({{"dags": dags, "modules": sorted(set(sys.modules) - before), "seconds": seconds}}))
"""


def imported(tmp_path: Path, **variables: str) -> dict[str, list[str]]:
    """Import the DAG file in a fresh interpreter; return its DAGs and the modules it brought in."""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "RINGRIFT_HOME": str(tmp_path)} | variables
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_dag_file_makes_a_dag_per_config_and_imports_nothing_heavy(tmp_path: Path) -> None:
    answer = imported(tmp_path)
    assert answer["dags"] == sorted([*CONFIGS, "alerts", "candidates", "data_validation", "remedies"])
    roots = {name.partition(".")[0] for name in answer["modules"]}
    assert roots.isdisjoint(HEAVY)
    assert not any(name.startswith(("airflow.models", "airflow.jobs")) for name in answer["modules"])
    assert len(DAG_FILE.read_text().splitlines()) < 60


def test_R72_hosts_are_looked_after_where_there_are_any(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "distributed_hosts.yaml").write_text(
        "hosts:\n  one: {ssh_host: 127.0.0.1, role: selfplay, max_parallel_jobs: 1}\n"
    )
    assert "hosts" in imported(tmp_path)["dags"]
    assert imported(tmp_path, _AIRFLOW_PARSING_CONTEXT_DAG_ID="hosts")["dags"] == ["hosts"]


def test_a_task_process_builds_its_own_dag_only(tmp_path: Path) -> None:
    assert imported(tmp_path, _AIRFLOW_PARSING_CONTEXT_DAG_ID="hex8_2p")["dags"] == ["hex8_2p"]


@pytest.fixture(scope="module")
def dags(airflow_here: None) -> dict[str, DAG]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(PROJECT / "dags"))
    assert bag.import_errors == {}
    return bag.dags  # type: ignore[return-value]


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_has_the_same_tasks_each_with_a_limit_and_a_policy(dags: dict[str, DAG], config: str) -> None:
    dag = dags[config]
    assert {"lease", "games", "finish", *(stage.value for stage in Stage)} == set(dag.task_ids)
    assert dag.catchup is False
    assert {CONFIGS[config].board, f"{CONFIGS[config].players}p"} <= dag.tags
    assert dag.doc_md is not None
    assert set(dag.params) == {"profile", "stages", "force", "priority", "candidate", "games"}
    for task in dag.tasks:
        assert task.execution_timeout is not None, task.task_id
        assert task.retries >= 1, task.task_id
    assert dag.get_task("lease").is_setup
    assert dag.get_task("finish").is_teardown
    assert [dag.get_task(name).pool for name in ("selfplay", "train", "gauntlet")] == [
        "selfplay",
        "training",
        "evaluation",
    ]


def test_trainings_have_a_queue_of_their_own_where_one_is_named(
    airflow_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ringrift_ops.airflow.factory import build

    monkeypatch.setenv("RINGRIFT_TRAINING_QUEUE", "gpu")
    settings = Settings.load()
    dag = build(settings, settings.config("hex8_2p"))
    assert [task.task_id for task in dag.tasks if task.queue == "gpu"] == ["train"]


def test_a_gates_no_wrong_usage_and_missing_data_are_final_and_infrastructure_is_not(dags: dict[str, DAG]) -> None:
    from airflow.sdk import RetryAction

    from ringrift_ops.airflow.verifying import NoEvidenceError
    from ringrift_ops.airflow.work import StalledError
    from ringrift_ops.hosts.jobs import JobFailedError, JobMisusedError, JobRefusedError

    policy = dags["hex8_2p"].get_task("gauntlet").retry_policy
    for error, action in (
        (JobRefusedError("no"), RetryAction.FAIL),
        (JobMisusedError("no"), RetryAction.FAIL),
        (NoEvidenceError("no"), RetryAction.FAIL),
        (JobFailedError("no"), RetryAction.DEFAULT),
        (StalledError("no"), RetryAction.DEFAULT),
        (MemoryError(), RetryAction.DEFAULT),
    ):
        assert policy.evaluate(error, 1, 3).action is action


def test_R59_the_priority_of_every_task_survives_being_stored_and_is_the_curriculums(dags: dict[str, DAG]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    from ringrift_ops.airflow.priority import CurriculumPriority

    stored = DagSerialization.from_dict(DagSerialization.to_dict(dags["hex8_2p"]))
    assert {type(task.weight_rule) for task in stored.tasks} == {CurriculumPriority}


def test_the_assets_of_a_config_are_renewed_by_its_stages(dags: dict[str, DAG]) -> None:
    dag = dags["square8_4p"]
    outlets = {task.task_id: [one.name for one in task.outlets] for task in dag.tasks if task.outlets}
    assert outlets == {
        "parity": ["games/square8_4p"],
        "export": ["dataset/square8_4p"],
        "train": ["candidate/square8_4p"],
        "promote": ["promotion/square8_4p"],
    }
    assert [one.name for one in dag.get_task("distribute").inlets] == ["canonical/square8_4p"]


def test_an_unknown_config_or_a_broken_settings_file_is_said_in_the_import_error(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.yaml").write_text("profile: quick\nnonsense: 1\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        imported(tmp_path)
    assert "settings.yaml line 2: unknown key 'nonsense'" in failed.value.stderr


def test_a_forced_run_drops_what_there_is_once_and_wholly_however_often_its_first_task_is_tried(
    airflow_here: None, home: Path
) -> None:
    from ringrift_ops.airflow.operators import GenerationLease

    place, ledger = Home(home).ensure(), Ledger.open()
    now, stages = datetime.now(UTC), [Stage.SELFPLAY.value, Stage.TRAIN.value]
    made = ledger.ensure_generation("hex8_2p", None, "again", now, "tiny")
    lease = ledger.try_grant_generation(made.id)
    assert lease is not None
    for stage, slots in zip(stages, ([], [Slot("box", 1)]), strict=True):
        ledger.start_stage(made.id, stage, 0, {}, lease.token, slots=slots)
        ledger.record_stage_result(made.id, stage, 0, {}, {"old": True}, lease.token)

    def tried(number: int) -> list[str]:
        run = SimpleNamespace(run_id="again", logical_date=None, run_after=now)
        params = {"profile": "tiny", "stages": stages, "force": True}
        context: Any = {"dag_run": run, "params": params, "ti": SimpleNamespace(try_number=number)}
        GenerationLease(task_id="lease", config="hex8_2p").execute(context)
        return [one.stage for one in ledger.stage_runs(made.id)]

    with pytest.raises(UnknownHostError):
        tried(1)
    assert [one.stage for one in ledger.stage_runs(made.id)] == ["train"], "half of it is dropped"
    place.inventory.write_text("hosts:\n  box: {role: edge, max_parallel_jobs: 1}\n")
    assert tried(2) == []
    ledger.record_stage_result(made.id, "selfplay", 0, {}, {"old": False}, lease.token)
    assert tried(3) == ["selfplay"], "what it has made itself"
