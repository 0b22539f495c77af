"""What ``ringrift evidence`` brings from where a job ran: processes, GPU, memory, disk, kernel, last words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.cli import main
from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.hosts import evidence
from ringrift_ops.hosts.jobs import Job
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Ledger, Slot
from ringrift_ops.stages.hosting import Hosting
from tests.hosts.sshd import Sshd, until, write_inventory

CONFIG = "hex8_2p"
SPEAKS = ("sh", "-c", "echo some words; echo CUDA out of memory; exec sleep 600")
GPU = """#!/bin/sh
case "$1" in
  --query-gpu=*) echo "Tesla T4, 15360, 15000, 98" ;;
  *) echo "| Tesla T4 | 15000MiB / 15360MiB |" ;;
esac
"""
DENIED = "#!/bin/sh\necho 'dmesg: read kernel buffer failed: Operation not permitted' >&2\nexit 1\n"


def job(job_id: str) -> Job:
    return Job(job_id=job_id, argv=SPEAKS, spec={"token": 1}, timeout_seconds=600)


def started(home: Path, slots: list[Slot]) -> tuple[Ledger, int, int]:
    ledger = Ledger.open()
    generation = ledger.ensure_generation(CONFIG, None, "run1", datetime.now(UTC), "tiny")
    lease = ledger.try_grant_generation(generation.id)
    assert lease is not None
    ledger.start_stage(generation.id, "train", 0, {}, lease.token, job_id="hex8_2p-g1-train", slots=slots)
    return ledger, generation.id, lease.token


def diagnosed(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert main(["evidence", CONFIG, *more, "--json"]) == ExitCode.DONE
    (one,) = json.loads(capsys.readouterr().out)["evidence"]
    return dict(one)


def test_R26_evidence_of_a_job_comes_over_its_hosts_own_link(
    home: Path, sshd: Sshd, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Home(home).ensure()
    write_inventory(place, {"one": sshd.host("one")})
    ledger, generation, token = started(home, [Slot("one", 1)])
    jobs = Hosting(place, ledger).remote("one")
    jobs.submit_or_adopt(job("hex8_2p-g1-train"))
    until(lambda: "CUDA" in jobs.log("hex8_2p-g1-train").text, "the job speaks")
    found = diagnosed(capsys, "--stage", "train")
    machine = found["machine"]
    assert (found["host"], found["state"], machine["status"]["state"]) == ("one", "running", "running")
    assert any(one["command"] == "sleep 600" for one in machine["processes"])
    assert machine["log"]["lines"][-2:] == ["some words", "CUDA out of memory"]
    assert machine["disk_free"] > 0
    assert bool(machine["kernel"]["lines"]) != bool(machine["kernel"]["error"])

    jobs.kill("hex8_2p-g1-train")
    ledger.record_stage_error(generation, "train", 0, "job hex8_2p-g1-train ran out of memory", token)
    sshd.stop()
    found = diagnosed(capsys)
    assert (found["state"], found["error"]) == ("failed", "job hex8_2p-g1-train ran out of memory")
    assert found["machine"] is None
    assert "host one" in found["unreachable"]
    assert main(["evidence", CONFIG]) == ExitCode.DONE
    assert "nothing to be had from one: host one" in capsys.readouterr().out
    assert main(["evidence", CONFIG, "--stage", "gauntlet"]) == ExitCode.NO_DATA
    assert "no job of gauntlet of hex8_2p failed or runs" in capsys.readouterr().err
    sshd.start()


def test_R26_gpu_and_kernel_say_what_they_have_or_why_not(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("nvidia-smi", GPU), ("dmesg", DENIED)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    place = Home(home).ensure()
    jobs = LocalJobs(place.jobs)
    started(home, [])
    jobs.submit_or_adopt(job("hex8_2p-g1-train"))
    until(lambda: "CUDA" in jobs.log("hex8_2p-g1-train").text, "the job speaks")
    machine = diagnosed(capsys)["machine"]
    assert machine["gpus"] == [
        {"name": "Tesla T4", "memory_total": 15360.0, "memory_used": 15000.0, "utilization": 98.0}
    ]
    assert machine["nvidia_smi"]["lines"] == ["| Tesla T4 | 15000MiB / 15360MiB |"]
    assert machine["kernel"]["error"] == "dmesg: dmesg: read kernel buffer failed: Operation not permitted"
    assert main(["evidence", CONFIG]) == ExitCode.DONE
    shown = capsys.readouterr().out
    for words in ("Tesla T4 15000 of 15360 MiB, 98.0 %", "sleep 600", "  CUDA out of memory", "not permitted"):
        assert words in shown
    jobs.kill_all()
    monkeypatch.setattr(evidence, "COMMAND_SECONDS", 0.2)
    assert evidence.said(["sleep", "5"], 3).error == "sleep did not answer within 0.2 s"
    assert evidence.collect(place, "hex8_2p-g9-train").log.error is not None
