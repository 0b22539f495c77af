"""The whole thing, nothing stood in for: `make run` plays, proves, trains and judges, and is killed on its way."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from ringrift_ops.errors import ExitCode
from ringrift_ops.games.reader import GameDatabase
from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import GenerationState, Ledger, Outcome
from ringrift_ops.network.checkpoints import NAME as CHECKPOINT
from ringrift_ops.stages.specs import ParityResult, SelfplayResult, TrainResult
from tests.airflow.conftest import output_of, processes_in, start, state_of, until

pytestmark = [pytest.mark.platform(2), pytest.mark.slow]

CONFIG = "hex8_2p"
GAMES = 2_000
LONGER = {"first_games": GAMES, "first_simulations": 8, "epochs": 30, "checkpoint_every_steps": 20, "batch_size": 256}
"""Long enough that a kill comes in the middle."""


def stage_process(jobs: LocalJobs, job_id: str) -> psutil.Process | None:
    """The process that does the job's work, once it has done some of it and has not finished."""
    status = jobs.poll(job_id)
    beat = status.heartbeat
    if status.state is not JobState.RUNNING or beat is None or not 0 < beat["done"] < beat["total"]:
        return None
    folder = str(jobs.folder(job_id))
    running = psutil.process_iter(["cmdline", "cwd"])
    return next((one for one in running if one.info["cwd"] == folder and "--spec" in (one.info["cmdline"] or ())), None)


def following(home: Path) -> list[psutil.Process]:
    """The scheduler's workers: the processes of tasks are their children."""
    scheduler = psutil.Process(state_of(home)["components"]["scheduler"])
    return scheduler.children(recursive=True)


def test_make_run_survives_kills_of_worker_scheduler_selfplay_and_training_and_ends_with_a_verdict(
    tmp_path: Path,
) -> None:
    root = tmp_path / "home"
    home = Home(root).ensure()
    home.settings_file.write_text(json.dumps({"profiles": {"tiny": LONGER}}))
    front = start(root, "run", PYTHONPATH="", STAY="0", CONFIG=CONFIG)
    jobs = LocalJobs(home.jobs)
    try:
        playing = until("self-play is under way", 240, lambda: stage_process(jobs, f"{CONFIG}-g1-selfplay-s0"))
        playing.kill()  # the stage: its games are on record, the next attempt plays the missing ones
        until("the other shard is under way", 60, lambda: stage_process(jobs, f"{CONFIG}-g1-selfplay-s1"))
        for worker in following(root):  # the tasks that follow the jobs, and whatever would start new ones
            worker.kill()
        scheduler = state_of(root)["components"]["scheduler"]
        os.kill(scheduler, signal.SIGKILL)
        until(
            "the scheduler is back", 120, lambda: state_of(root)["components"].get("scheduler") not in (None, scheduler)
        )
        training = until("the training is under way", 240, lambda: stage_process(jobs, f"{CONFIG}-g1-train"))
        until("it has a checkpoint", 60, lambda: list(home.training.rglob(CHECKPOINT)))
        training.kill()
        assert front.wait(400) == ExitCode.DONE, output_of(root).read_text()
    finally:
        front.terminate()
        front.wait(60)
    assert processes_in(root) == {}
    ledger = Ledger.open(home.ledger_url)
    (generation,) = ledger.generations(CONFIG)
    assert (generation.state, generation.outcome) == (GenerationState.FINISHED, Outcome.FAIL)
    assert "inconclusive" in (generation.reason or "")

    batches = [SelfplayResult.model_validate(run.result) for run in ledger.stage_runs(generation.id, "selfplay")]
    assert len(batches) == 2
    ids = []
    for batch in batches:
        with GameDatabase(home.resolve(batch.path), CONFIG) as database:
            ids += [record.game_id for record in database.games()]
    assert len(ids) == len(set(ids)) == GAMES
    assert jobs.poll(f"{CONFIG}-g1-selfplay-s0").attempt == 2

    parity = ParityResult.model_validate(ledger.stage_result(generation.id, "parity"))
    assert (parity.checked, parity.failed) == (GAMES, 0)
    trained = TrainResult.model_validate(ledger.stage_result(generation.id, "train"))
    assert jobs.poll(f"{CONFIG}-g1-train").attempt == 2
    assert 0 < trained.resumed_from_step < trained.steps
    assert [net.sha for net in ledger.artifacts(config=CONFIG, kind="weights")] == [trained.weights]
    assert ledger.canonical(CONFIG) is None
    shown = output_of(root).read_text()
    assert f"{CONFIG}, generation 1" in shown
    assert "inconclusive" in shown
