"""Which process is meant, across pid reuse, clock jumps and reboots, and how to end all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

JOB_VARIABLE = "RINGRIFT_JOB_FOLDER"
"""Set in the environment of everything a job starts, so that its processes are found without their parents."""

_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that cannot be mistaken for another one that later got the same pid.

    ``started`` is the kernel's own mark (on Linux clock ticks since boot), so a jump of the wall
    clock changes nothing; ``boot_id`` tells a reboot, ``namespace`` the container ('' where it is not known).
    """

    pid: int
    started: str
    boot_id: str
    namespace: str = ""

    @property
    def visible(self) -> bool:
        """Whether its number means the same here: another container of this machine numbers its own processes."""
        return self.boot_id != boot_id() or self.namespace in ("", pid_namespace())

    def alive(self) -> bool:
        """Return whether this very process runs; a zombie does not."""
        return self.boot_id == boot_id() and started_mark(self.pid) == self.started

    def age(self) -> float | None:
        """Return for how many seconds it has run, by the kernel's clock; None where that is not told."""
        try:
            uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
            return max(0.0, uptime - int(self.started) / os.sysconf("SC_CLK_TCK"))
        except (OSError, ValueError):
            return None


def identify(pid: int) -> ProcessIdentity | None:
    """Return the identity of a running process, None when there is none with that pid."""
    started = started_mark(pid)
    return None if started is None else ProcessIdentity(pid, started, boot_id(), pid_namespace())


def pid_namespace() -> str:
    """Return the kernel's name of the pid namespace of this process, '' where there are none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def boot_id() -> str:
    """Return a name of the present boot of this machine."""
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text(encoding="ascii").strip()
    answer = subprocess.run(["sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def started_mark(pid: int) -> str | None:
    """Return when the process ``pid`` started, as its kernel says it; None when it is gone or a zombie."""
    if not sys.platform.startswith("linux"):
        answer = subprocess.run(
            ["ps", "-o", "lstart=,stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        words = answer.stdout.split()
        return None if not words or words[-1].startswith("Z") else " ".join(words[:-1])
    fields = _stat_fields(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/PID/stat`` from the third on: state, ppid, pgrp, session, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # gone between two looks, which is an answer
        return None
    return text[text.rindex(")") + 2 :].split()


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # gone
        return None


def job_processes(folder: Path, leader: ProcessIdentity | None) -> list[ProcessIdentity]:
    """Return what still runs of the job in ``folder``, its runner ``leader`` excepted.

    Members of the runner's session, and every process that carries the job's folder in its
    environment, whoever its parent is now. A session whose number was reused by a stranger
    after the runner's death is left alone. Looks at this machine, and in a container at that container, only.
    """
    if leader is not None and not leader.visible:
        leader = None
    mark = f"{JOB_VARIABLE}={folder}".encode()
    session = None
    if leader is not None and leader.boot_id == boot_id():
        current = started_mark(leader.pid)
        session = leader.pid if current in (None, leader.started) else None
    found = []
    for pid in _pids():
        if pid == os.getpid() or (leader is not None and pid == leader.pid):
            continue
        if (session is not None and _session_of(pid) == session) or mark in _environment(pid):
            identity = identify(pid)
            if identity is not None:
                found.append(identity)
    return found


def _pids() -> Iterable[int]:
    if Path("/proc/self").exists():
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    import psutil

    return psutil.pids()


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return []


def end_processes(victims: Callable[[], list[ProcessIdentity]], grace_seconds: float) -> bool:
    """End every process ``victims`` names: SIGTERM, after ``grace_seconds`` SIGKILL, until none is left.

    ``victims`` is asked again each time, so a child born meanwhile is met too. Returns whether
    none is left; only a process in uninterruptible sleep can survive.
    """
    deadline = time.monotonic() + grace_seconds
    asked: set[ProcessIdentity] = set()
    while left := victims():
        if time.monotonic() >= deadline:
            break
        for process in left:
            if process not in asked:
                send(process, signal.SIGTERM)
                asked.add(process)
        time.sleep(_POLL_SECONDS)
    deadline = time.monotonic() + 5.0
    while left := victims():
        if time.monotonic() >= deadline:
            return False
        for process in left:
            send(process, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    return True


def send(process: ProcessIdentity, number: signal.Signals) -> None:
    """Send a signal to that very process; one that is already gone is not an error."""
    if process.alive():
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:  # ended between the look and the signal
            return


class Process(BaseModel):
    """A process as ``ps`` would show it. Seconds and bytes; ``state``: the kernel's letter (D waits for a disk)."""

    model_config = ConfigDict(frozen=True)

    pid: int
    parent: int
    state: str
    cpu_seconds: float
    age_seconds: float
    memory: int
    command: str


def describe(pid: int) -> Process | None:
    """Return what ``/proc`` shows of a process, None when it is gone or there is no ``/proc``."""
    fields, uptime = _stat_fields(pid), Path("/proc/uptime")
    if fields is None or not uptime.exists():
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:  # gone between two looks
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        state=fields[0],
        cpu_seconds=(int(fields[11]) + int(fields[12])) / ticks,
        age_seconds=round(float(uptime.read_text(encoding="ascii").split()[0]) - int(fields[19]) / ticks, 1),
        memory=int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        command=words,
    )
