"""What a job left behind when it failed, and how its machine is: what causes are recognised by. Judges nothing."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from ringrift_ops.errors import NoDataError
from ringrift_ops.home import Home
from ringrift_ops.hosts.facts import gpus
from ringrift_ops.hosts.folder import SIGNAL_BASE, TIMEOUT_CODE, DamagedJobFolderError, JobFolder, read_json
from ringrift_ops.hosts.jobs import JobState
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.processes import job_processes
from ringrift_ops.operations.surroundings import Machine
from ringrift_ops.settings import DIAGNOSIS

ATTEMPT = "== attempt "
"""Begins the line with which each attempt of a job begins in its log."""
_KERNEL = re.compile(r"oom-kill|Out of memory|Killed process|segfault|Xid|I/O error|No space left", re.IGNORECASE)


class NoTracesError(NoDataError):
    """A job of that name was never submitted here."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one job. All but the first two may be unknown.

    ``exit_code`` as a shell shows it; ``signal`` such as SIGKILL; ``reason``: how its attempt ended; ``error``: class
    of the error it ended with; ``message``: the error's words; ``memory``: {"free", "total"} bytes; ``gpu``: as
    ``hosts.facts.gpus``; ``beat_seconds``: longest time between two heartbeats of its present phase; ``stack``: of its
    processes, while they run; ``held``: why the platform does not start or go
    on with the stage, a ``Why``'s value, and ``held_by`` in words; ``profile``: its generation's, where that is not the
    one of the settings.
    """

    job_id: str
    stage: str
    config: str | None = None
    host: str | None = None
    state: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    reason: str = ""
    error: str | None = None
    message: str = ""
    log_tail: list[str] = field(default_factory=list)
    heartbeat: dict[str, Any] | None = None
    heartbeat_age: float | None = None
    beat_seconds: float | None = None
    memory: dict[str, int | None] | None = None
    disk_free_bytes: int | None = None
    gpu: list[dict[str, Any]] = field(default_factory=list)
    dmesg: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    spec: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    held: str | None = None
    held_by: str = ""
    profile: str | None = None

    @property
    def words(self) -> list[str]:
        """Everything the process itself said: its error, how it ended, the end of its log."""
        return [line for line in (self.message, self.reason, *self.log_tail) if line]


def local_evidence(home: Home, job_id: str, *, stacks: bool = False) -> Evidence:
    """Return what there is of a job of this machine; ``stacks``: those of its running processes, too.

    Raises :class:`NoTracesError`.
    """
    jobs = LocalJobs(home.jobs)
    status, folder = jobs.poll(job_id), JobFolder(jobs.folder(job_id))
    if status.state is JobState.ABSENT:
        raise NoTracesError(f"no job {job_id} in {home.jobs}; `ringrift jobs` lists them")
    spec, result = located(home, _read(folder.spec)), _read(folder.result)
    said = result.pop("error", None) or {}
    runner = folder.runner()
    pids = [one.pid for one in job_processes(folder.path, None if runner is None else runner.process)]
    machine = Machine.here(home)
    return Evidence(
        job_id=job_id,
        stage=stage_of(job_id, spec),
        config=spec.get("config"),
        state=status.state.value,
        exit_code=status.raw_code,
        signal=signal_of(status.raw_code),
        reason=status.reason,
        error=said.get("type"),
        message=str(said.get("message", "")),
        log_tail=_last_attempt(folder.log),
        heartbeat=status.heartbeat,
        heartbeat_age=status.heartbeat_age,
        beat_seconds=beat_seconds(folder.heartbeat),
        memory={"free": machine.memory_free, "total": machine.memory},
        disk_free_bytes=machine.disk_free,
        gpu=gpus(),
        dmesg=kernel_lines(status.started, status.ended),
        processes=[words for pid in pids if (words := _command(pid))],
        stack=[line for pid in pids for line in stack_of(pid)] if stacks else [],
        spec=spec,
        result=result,
    )


def located(home: Home, spec: dict[str, Any]) -> dict[str, Any]:
    """Return a job's spec with its dataset's path absolute, as a command that is run anywhere takes it."""
    path = spec.get("dataset_path")
    return spec | {"dataset_path": str(home.resolve(path))} if path else spec


def stage_of(job_id: str, spec: dict[str, Any]) -> str:
    """Return the stage of a job by its name, else by what only that stage is asked."""
    found = re.search(r"-g\d+-([a-z]+)", job_id)
    if found:
        return found[1]
    marks = {"train": "epochs", "export": "databases", "gauntlet": "games_per_look", "parity": "fail_threshold",
             "selfplay": "shard", "promote": "auto_promote", "distribute": "destinations"}  # fmt: skip
    return next((stage for stage, mark in marks.items() if mark in spec), "unknown")


def signal_of(code: int | None) -> str | None:
    """Return the name of the signal that ended a command with this code; None for any other code."""
    if code is None or code <= SIGNAL_BASE or code == TIMEOUT_CODE:
        return None
    with suppress(ValueError):
        return signal.Signals(code - SIGNAL_BASE).name
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path) or {}
    except DamagedJobFolderError as error:
        return {"error": {"type": type(error).__name__, "message": str(error)}}


def _last_attempt(path: Path) -> list[str]:
    """The end of a log, of the last attempt only."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - DIAGNOSIS.log_bytes))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []
    begins = [number for number, line in enumerate(lines) if line.startswith(ATTEMPT)]
    return [line for line in lines[begins[-1] if begins else 0 :] if line.strip()][-DIAGNOSIS.log_lines :]


def kernel_lines(started: str | None, ended: str | None) -> list[str]:
    """Return what this machine's kernel said while a job ran, of memory, disk, GPU and crashes."""
    command = ["dmesg", "--time-format=iso"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=DIAGNOSIS.command_seconds, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    slack = timedelta(seconds=DIAGNOSIS.clock_seconds)  # the kernel's clock drifts from the wall's
    first = datetime.min.replace(tzinfo=UTC) if started is None else datetime.fromisoformat(started) - slack
    last = datetime.max.replace(tzinfo=UTC) if ended is None else datetime.fromisoformat(ended) + slack
    found = []
    for line in told.stdout.splitlines():
        stamp, _, words = line.partition(" ")
        with suppress(ValueError):
            at = datetime.fromisoformat(stamp.replace(",", "."))
            if _KERNEL.search(words) and first <= at <= last:
                found.append(line)
    return found[-DIAGNOSIS.log_lines :]


def beat_seconds(path: Path) -> float | None:
    """Return the longest time between two heartbeats of the phase under way; None before there are two.

    A validation between two epochs is slower than a step: a phase is held to its own pace.
    """
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - DIAGNOSIS.log_bytes))
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return None
    beats: list[tuple[datetime, str]] = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            beat = json.loads(line)
            beats.append((datetime.fromisoformat(beat["t"]), str(beat["phase"])))
    own = [at for at, phase in beats if phase == beats[-1][1]]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(own)]
    return max(gaps, default=None)


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        return f"{pid} {words}" if words else ""
    return ""


def stack_of(pid: int) -> list[str]:
    """Return the Python stack of a running process as py-spy sees it; empty when it may not or cannot look."""
    command = shutil.which("py-spy") or str(Path(sys.executable).with_name("py-spy"))
    try:
        told = subprocess.run(
            [command, "dump", "--pid", str(pid)], capture_output=True, text=True, timeout=DIAGNOSIS.command_seconds,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line for line in told.stdout.splitlines() if line.strip()] if told.returncode == 0 else []
