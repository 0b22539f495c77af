"""Processes as the kernel sees them: who they are, whom they started, how all of them are ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same number.

    ``started`` is the start time in clock ticks since boot, ``boot`` the kernel's boot id.
    """

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return who ``pid`` is now, None when there is no such (living) process."""
        fields = _stat(pid)
        return None if fields is None or fields[0] == "Z" else cls(pid, int(fields[19]), boot_id())

    @property
    def alive(self) -> bool:
        return Identity.of(self.pid) == self


def boot_id() -> str:
    """Return the kernel's boot id, '' where the kernel has none."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def adopt_orphans() -> None:
    """Make this process the parent of every descendant that loses its own (Linux; elsewhere nothing)."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int, signum: signal.Signals = signal.SIGTERM) -> None:
    """Ask the kernel to send ``signum`` to this process when ``parent``, which started it, ends."""
    _prctl(PR_SET_PDEATHSIG, int(signum))
    if os.getppid() != parent:
        os.kill(os.getpid(), signum)


def descendants(root: int) -> list[int]:
    """Return every process below ``root``, children before grandchildren, zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None and fields[0] != "Z":
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(0), [])
        found += below
        waiting += below
    return found


def in_sessions(sessions: Iterable[int]) -> list[int]:
    """Return every living process whose session leader is (or was) one of ``sessions``."""
    wanted = set(sessions)
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and (fields := _stat(int(entry.name))) is not None
        and fields[0] != "Z"
        and int(fields[3]) in wanted
    ]


def stands_in(pid: int, folder: Path) -> bool:
    """Return whether the current folder of ``pid`` is ``folder`` or below it (a number used anew is elsewhere)."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder)
    except OSError:
        return False


def send(signum: signal.Signals, pids: Iterable[int]) -> None:
    """Send ``signum`` to each of ``pids`` that still lives."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except ProcessLookupError:
            continue


def reap() -> dict[int, int]:
    """Collect every ended child, adopted ones too; return {pid: exit code, negative for a signal}."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = os.waitstatus_to_exitcode(status)


def end_descendants(grace: float) -> int:
    """End everything below this process: SIGTERM, after ``grace`` seconds SIGKILL. Return how many were killed.

    Because this process adopts orphans, "below" is complete: repeated until nothing is left.
    """
    send(signal.SIGTERM, descendants(os.getpid()))
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        reap()
        if not descendants(os.getpid()):
            return 0
        time.sleep(0.05)
    killed: set[int] = set()
    while left := descendants(os.getpid()):
        killed |= set(left)
        send(signal.SIGKILL, left)
        time.sleep(0.02)
        reap()
    return len(killed)


def memory_of(pids: Iterable[int]) -> int:
    """Return the proportional memory (PSS) of ``pids`` together, in bytes."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024


def _stat(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/pid/stat`` after the name: [0] state, [1] parent, [2] group, [3] session."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
