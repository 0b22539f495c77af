"""What a machine can tell about a job that failed or hangs: processes, GPU, memory, disk, kernel, last words.

Collected on the machine itself and judged nowhere here. Whatever cannot be had says why in its place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ringrift_ops.home import Home
from ringrift_ops.hosts.facts import gpus, memory
from ringrift_ops.hosts.jobs import JobState, JobStatus, checked_job_id
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import Process, describe, job_processes

COMMAND_SECONDS = 8.0
"""For one command; all together stay within the time that a host is given."""
LOG_LINES = 40
KERNEL_LINES = 40

_LOG_BYTES = 1 << 16


class _Found(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Words(_Found):
    """Lines of text, or why there are none."""

    lines: list[str] = []
    error: str | None = None


class MachineEvidence(_Found):
    """One look. Memory and disk in bytes; ``gpus``: see ``facts.gpus``."""

    at: float = Field(description="seconds since 1970, by the machine's own clock")
    status: JobStatus
    processes: list[Process]
    load: float
    cores: int | None
    memory_free: int | None
    memory_total: int | None
    swap_free: int | None
    disk_free: int
    disk_total: int
    gpus: list[dict[str, Any]]
    nvidia_smi: Words
    kernel: Words = Field(description="the end of dmesg")
    log: Words = Field(description="the end of the job's log")


def collect(home: Home, job_id: str) -> MachineEvidence:
    """Return what this machine can tell about one of its jobs; one that is absent has its status only."""
    jobs = LocalJobs(home.jobs)
    status = jobs.poll(checked_job_id(job_id))
    home.root.mkdir(parents=True, exist_ok=True)
    disk = shutil.disk_usage(home.root)
    return MachineEvidence(
        at=time.time(),
        status=status,
        processes=_processes(home, status),
        load=os.getloadavg()[0],
        cores=os.cpu_count(),
        memory_free=memory("MemAvailable"),
        memory_total=memory("MemTotal"),
        swap_free=memory("SwapFree"),
        disk_free=disk.free,
        disk_total=disk.total,
        gpus=gpus(),
        nvidia_smi=said(["nvidia-smi"], 60),
        kernel=said(["dmesg"], KERNEL_LINES),
        log=last_words(jobs, status),
    )


def _processes(home: Home, status: JobStatus) -> list[Process]:
    pids = [one.pid for one in job_processes(home.job(status.job_id), None)]
    if status.state is JobState.RUNNING and status.pid is not None and status.pid not in pids:
        pids.insert(0, status.pid)
    return [found for pid in pids if (found := describe(pid)) is not None]


def said(command: list[str], lines: int) -> Words:
    """Return the last lines that a command prints, or why it prints none."""
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS, check=False
        )
    except FileNotFoundError:
        return Words(error=f"no {command[0]} on this machine")
    except subprocess.TimeoutExpired:
        return Words(error=f"{command[0]} did not answer within {COMMAND_SECONDS:g} s")
    except OSError as error:
        return Words(error=f"{command[0]}: {error.strerror}")
    if answer.returncode != 0:
        why = (answer.stderr or answer.stdout).strip() or f"exit code {answer.returncode}"
        return Words(error=f"{command[0]}: {why[:200]}")
    return Words(lines=answer.stdout.splitlines()[-lines:])


def last_words(jobs: LocalJobs, status: JobStatus) -> Words:
    """Return the end of a job's log, or why there is none."""
    if status.state is JobState.ABSENT:
        return Words(error="the job was never submitted here, or its folder was removed")
    path = jobs.folder(status.job_id) / "log.txt"
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - _LOG_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError as error:
        return Words(error=f"{path}: {error.strerror}")
    return Words(lines=text.splitlines()[-LOG_LINES:])
