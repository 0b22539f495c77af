"""The whole platform with hosts: Airflow's real components, real stages, two real sshds, everything killed once.

One platform and one generation: each kill waits until the one before is mended, so that it stands for itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ringrift_ops.home import Home
from ringrift_ops.hosts.folder import read_json
from ringrift_ops.hosts.jobs import JobState, JobStatus
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import job_processes
from ringrift_ops.ledger import Ledger, Outcome
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets
from ringrift_ops.stages.specs import TrainResult
from tests.airflow.conftest import state_of, until
from tests.hosts.sshd import Sshds, write_inventory
from tests.hosts.test_stages_on_hosts import CONFIG, SMALL

pytestmark = [pytest.mark.hosts_campaign, pytest.mark.platform(1), pytest.mark.timeout(2_400)]

JOB = f"{CONFIG}-g1-train"
PATIENCE = 300.0


def settings() -> str:
    """A training long enough that six faults come while it trains; a busy machine trains slower than it mends."""
    began, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.5:
        pass
    slowness = (time.monotonic() - began) / 0.5
    return (
        SMALL.replace("epochs: 2", f"epochs: {int(270 / slowness**0.6)}")
        .replace("checkpoint_every_steps: 1", "checkpoint_every_steps: 200")
        .replace("first_games: 20", "first_games: 400")
    )


def test_kill_9_of_task_triggerer_scheduler_sshd_runner_and_training_one_at_a_time_and_a_cleared_task(
    sshds: Sshds, tmp_path: Path
) -> None:
    place = Home(tmp_path / "platform").ensure()
    place.settings_file.write_text(settings())
    player, trainer = sshds.make(), sshds.make()
    write_inventory(place, {
        "player": player.host("player", role="selfplay", max_parallel_jobs=1),
        "trainer": trainer.host("trainer", capabilities=["gpu"], max_parallel_jobs=2),
    })  # fmt: skip
    environment = os.environ | {"RINGRIFT_HOME": str(place.root), "CONFIG": CONFIG, "PROFILE": "tiny", "STAY": "0"}
    with (tmp_path / "out").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ringrift_ops.platform", "run"],
            env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    jobs = LocalJobs(trainer.work / "jobs")
    try:
        shard = LocalJobs(player.work / "jobs")
        played = until("a shard is played", PATIENCE, lambda: playing(shard) or process.poll())
        for task in tasks(place.root):
            task.kill()
        until("the training has a checkpoint", PATIENCE, lambda: checkpoints(trainer.work) or process.poll())
        assert shard.poll(str(played)).attempt == 1

        for component in ("triggerer", "scheduler"):
            pid = state_of(place.root)["components"][component]
            os.kill(pid, signal.SIGKILL)
            until(f"the {component} is back", PATIENCE, lambda c=component, p=pid: back(place.root, c, p))  # type: ignore[misc]
            goes_on(jobs, attempt=1)
        trainer.cut()
        goes_on(jobs, attempt=1)

        runner = jobs.poll(JOB).pid
        assert runner is not None
        os.kill(runner, signal.SIGKILL)
        goes_on(jobs, attempt=2)
        for one in job_processes(jobs.folder(JOB), None):
            if "--spec" in psutil.Process(one.pid).cmdline():
                os.kill(one.pid, signal.SIGKILL)
        goes_on(jobs, attempt=3)
        api = api_of(place)
        (run,) = api.runs(CONFIG)
        until("it is waited for", PATIENCE, lambda: waits(api, run["dag_run_id"]))
        api.clear(CONFIG, run["dag_run_id"], ["train"])
        goes_on(jobs, attempt=4)
        assert len([one for one in job_processes(jobs.folder(JOB), None) if trains(one.pid)]) == 1

        assert process.wait(1_000) == 0, (tmp_path / "out").read_text()[-3000:]
    finally:
        process.poll() is None and process.send_signal(signal.SIGINT)
        process.wait(60)
        for sshd in (player, trainer):
            LocalJobs(sshd.work / "jobs").kill_all()
    told(place, jobs)


def tasks(home: Path) -> list[psutil.Process]:
    """The processes of tasks: children of the scheduler's workers, one each."""
    workers = psutil.Process(state_of(home)["components"]["scheduler"]).children()
    return [one for worker in workers for one in worker.children()]


def playing(jobs: LocalJobs) -> str | None:
    """The shard that the host plays: whichever of the two asked first."""
    return next((job_id for job_id in jobs.all() if beats(jobs.poll(job_id))), None)


def beats(status: JobStatus) -> bool:
    return status.state is JobState.RUNNING and status.heartbeat is not None and bool(status.heartbeat.get("done"))


def back(home: Path, component: str, pid: int) -> bool:
    return state_of(home)["components"].get(component) not in (None, pid)


def goes_on(jobs: LocalJobs, attempt: int) -> None:
    """Wait until the training is in ``attempt`` and has made progress in it, and in no later one."""

    def step() -> int | None:
        status = jobs.poll(JOB)
        known = status.heartbeat if status.attempt == attempt and beats(status) else None
        fresh = known is not None and status.heartbeat_age is not None and status.age is not None
        return int(known["done"]) if known and fresh and status.heartbeat_age < status.age else None

    first = until(f"attempt {attempt} trains", PATIENCE, step)
    until(f"attempt {attempt} goes on", PATIENCE, lambda: (step() or 0) > first)
    assert jobs.poll(JOB).attempt == attempt


def trains(pid: int) -> bool:
    try:
        return "--spec" in psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return False


def api_of(place: Home) -> Api:
    installation = Installation(place)
    return Api(int(installation.url().rsplit(":", 1)[1]), USER, Secrets.of(installation).password)


def waits(api: Api, run_id: str) -> bool:
    return any(one["task_id"] == "train" and one["state"] == "deferred" for one in api.tasks(CONFIG, run_id))


def told(place: Home, jobs: LocalJobs) -> None:
    """One training, one result, each stage where it belongs, every attempt gone on with."""
    ledger = Ledger.open(place.ledger_url)
    (generation,) = ledger.generations(CONFIG)
    assert generation.outcome in (Outcome.FAIL, Outcome.PASS)
    placed = {(run.stage, run.shard): run.host for run in ledger.stage_runs(generation.id)}
    assert {placed["selfplay", 0], placed["selfplay", 1]} == {"player", "trainer"}
    assert (placed["train", 0], placed["gauntlet", 0]) == ("trainer", "player")
    assert (placed["parity", 0], placed["export", 0]) == (None, None)
    (net,) = ledger.artifacts(config=CONFIG, kind="weights")
    trained = TrainResult.model_validate(ledger.stage_result(generation.id, "train"))
    assert (trained.weights, trained.resumed_from_step > 0) == (net.sha, True)
    tended = ledger.host_state("trainer")
    assert tended is not None
    assert tended.tended_at is not None, "the DAG `hosts` has looked after it"
    job = read_json(jobs.folder(JOB) / "job.json") or {}
    assert (job["timeout_seconds"], job["phase_seconds"]) == (1_200, 1_800)
    assert jobs.log(JOB, limit=1 << 24).text.count("== attempt") == 4
    games = sum(int((run.result or {})["games"]) for run in ledger.stage_runs(generation.id, "selfplay"))
    assert games == 400


def checkpoints(work: Path) -> list[Path]:
    return list((work / "data" / "training" / "checkpoints").glob("*/checkpoint.safetensors"))
