"""The machine, one core of it, and a home of its own for what is measured."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict

from ringrift_ops.home import HOME_VARIABLE, Home, project_folder

BUSY_LOAD: Final = 0.25
"""Cores at work per core before a part begins, above which its figures are marked as measured beside other work."""
LOOK_SECONDS: Final = 2.0

CACHE_VARIABLE: Final = "RINGRIFT_NUMBA_CACHE"

_BEGUN: Final = datetime.now(UTC).isoformat(timespec="seconds")

P = ParamSpec("P")
T = TypeVar("T")


class BenchError(Exception):
    """Something cannot be measured here."""


class Machine(BaseModel):
    """Where a figure was measured; ``load`` is how many cores others kept at work just before.

    (Not the load average, which still holds the part of the bench before this one.)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str
    cores: int
    load: float

    @classmethod
    def now(cls) -> Machine:
        """This machine, as loaded as it is."""
        cores = os.cpu_count() or 1
        return cls(cpu=_cpu(), cores=cores, load=round(psutil.cpu_percent(LOOK_SECONDS) / 100 * cores, 2))


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def python_version() -> str:
    return platform.python_version()


def begun() -> str:
    """When this bench began, UTC: the same for all rows of one run, by which they are known to be of one."""
    return _BEGUN


def commit() -> str:
    """The commit, with ``+`` where the product or the bench differ from it; '-' outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=project_folder(), capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    return (git("rev-parse", "--short=10", "HEAD") or "-") + (
        "+" if git("status", "--porcelain", "--", "ringrift_ops", "dags", "plugins", "tests/bench") else ""
    )


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and the processes it starts, on one core where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def processor_time(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> tuple[float, T]:
    """Return processor seconds of ``work`` and its result.

    Counted are this process and the processes that it started and saw the end of meanwhile.
    """

    def spent() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    before = spent()
    result = work(*arguments, **options)
    return spent() - before, result


def scratch() -> Path:
    """Where what is measured lives: on the disk of the project, not in a memory file system."""
    folder = project_folder() / ".ringrift" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def temporary_home() -> Iterator[Home]:
    """A fresh ``RINGRIFT_HOME`` for this process and its children; what is compiled is taken from where it lies."""
    from ringrift_ops.rules.compile import cache_folder

    kept = {name: os.environ.get(name) for name in (HOME_VARIABLE, CACHE_VARIABLE)}
    os.environ[CACHE_VARIABLE] = str(cache_folder().parent)
    root = Path(tempfile.mkdtemp(prefix="home-", dir=scratch()))
    os.environ[HOME_VARIABLE] = str(root)
    try:
        yield Home.find().ensure()
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(root, ignore_errors=True)
