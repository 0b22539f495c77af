"""The whole platform with hosts: Airflow's real components, real stages, two real sshds, killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ringrift_ops.home import Home
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger, Outcome
from tests.airflow.conftest import state_of, until
from tests.hosts.sshd import Sshds, write_inventory
from tests.hosts.test_stages_on_hosts import CONFIG, SMALL

pytestmark = [pytest.mark.hosts_campaign, pytest.mark.platform(1)]

LONG = SMALL.replace("epochs: 2", "epochs: 400").replace("checkpoint_every_steps: 1", "checkpoint_every_steps: 50")


def test_a_generation_runs_through_airflow_on_hosts_while_triggerer_and_sshd_are_killed(
    sshds: Sshds, tmp_path: Path
) -> None:
    place = Home(tmp_path / "platform").ensure()
    place.settings_file.write_text(LONG)
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
    try:
        until("a training has a checkpoint", 400, lambda: checkpoints(trainer.work) or process.poll() is not None)
        os.kill(state_of(place.root)["components"]["triggerer"], signal.SIGKILL)
        trainer.cut()
        assert process.wait(500) == 0, (tmp_path / "out").read_text()[-3000:]
    finally:
        process.poll() is None and process.send_signal(signal.SIGINT)
        process.wait(60)
        for sshd in (player, trainer):
            LocalJobs(sshd.work / "jobs").kill_all()
    ledger = Ledger.open(place.ledger_url)
    (generation,) = ledger.generations(CONFIG)
    assert generation.outcome is Outcome.FAIL
    placed = {(run.stage, run.shard): run.host for run in ledger.stage_runs(generation.id)}
    assert {placed["selfplay", 0], placed["selfplay", 1]} == {"player", "trainer"}
    assert placed["train", 0] == "trainer"
    assert placed["gauntlet", 0] == "player"
    assert (placed["parity", 0], placed["export", 0]) == (None, None)
    log = LocalJobs(trainer.work / "jobs").log(f"{CONFIG}-g{generation.id}-train").text
    assert log.count("== attempt") == 1


def checkpoints(work: Path) -> list[Path]:
    return list((work / "data" / "training" / "checkpoints").glob("*/checkpoint.safetensors"))
