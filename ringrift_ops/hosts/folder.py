"""What lies in a job's folder, and how it is read. Standard library only: the runner starts with it.

job.json         the command, its environment, time limit and the number of the attempt
spec.json        what the stage is asked              result.json      what it answers
heartbeat.jsonl  its progress                         log.txt          all it prints, of every attempt
effects.jsonl    what the ledger is to be told, when the job runs where the ledger is not
pid              the runner: pid, start mark, boot    exit_code        how the last attempt ended
submit.lock      held while a submission decides      run.lock         held by the living runner
end_request      asks the runner to end the job, where no signal reaches it (from another container)
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.hosts.processes import ProcessIdentity
from ringrift_ops.store import atomic_write

TIMEOUT_CODE = 124
"""What the exit-code file says of a command that ran past its time limit (as ``timeout(1)`` does)."""

SIGNAL_BASE = 128
"""A command ended by signal N has the code 128 + N, as in a shell."""

KILLED = "killed on request"
"""The reason in the exit-code file of a job that was asked to end."""


class DamagedJobFolderError(InfrastructureError):
    """A file of a job's folder cannot be read."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. ``ended`` is an ISO time in UTC."""

    code: int
    reason: str
    attempt: int
    ended: str


@dataclass(frozen=True)
class Runner:
    """The process that minds an attempt, and when that began (ISO time in UTC)."""

    process: ProcessIdentity
    attempt: int
    since: str


@dataclass(frozen=True)
class JobFolder:
    """The paths of one job, and its two small records."""

    path: Path

    @property
    def job(self) -> Path:
        return self.path / "job.json"

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def heartbeat(self) -> Path:
        return self.path / "heartbeat.jsonl"

    @property
    def effects(self) -> Path:
        return self.path / "effects.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def pid(self) -> Path:
        return self.path / "pid"

    @property
    def exit_code(self) -> Path:
        return self.path / "exit_code"

    @property
    def submit_lock(self) -> Path:
        return self.path / "submit.lock"

    @property
    def run_lock(self) -> Path:
        return self.path / "run.lock"

    @property
    def end_request(self) -> Path:
        return self.path / "end_request"

    def minded(self) -> bool:
        """Return whether a living runner holds the job, seen from any container that shares this folder."""
        with locked(self.run_lock, wait=False, shared=True) as free:
            return not free

    def runner(self) -> Runner | None:
        """Return who minds the present attempt, None before one has written its name."""
        record = read_json(self.pid)
        if record is None:
            return None
        try:
            return Runner(ProcessIdentity(**record["process"]), int(record["attempt"]), str(record["since"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedJobFolderError(f"{self.pid} is not a job's pid file ({error}); remove {self.path}") from error

    def write_runner(self, runner: Runner) -> None:
        write_json(self.pid, asdict(runner))

    def ending(self) -> Ending | None:
        """Return how the last attempt ended, None while it has not."""
        record = read_json(self.exit_code)
        if record is None:
            return None
        try:
            return Ending(**record)
        except TypeError as error:
            raise DamagedJobFolderError(
                f"{self.exit_code} is not a job's exit code ({error}); remove {self.path}"
            ) from error

    def write_ending(self, ending: Ending) -> None:
        write_json(self.exit_code, asdict(ending))


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in ``path``, None when there is no such file. Raises :class:`DamagedJobFolderError`."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DamagedJobFolderError(f"cannot read {path}: {error}; remove {path.parent} to start anew") from error
    if not isinstance(content, dict):
        raise DamagedJobFolderError(f"cannot read {path}: not a JSON object; remove {path.parent} to start anew")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object, whole or not at all; only this user may read it."""
    atomic_write(path, json.dumps(content, indent=1, sort_keys=True).encode() + b"\n", mode=0o600)


@contextmanager
def locked(path: Path, *, wait: bool, shared: bool = False) -> Iterator[bool]:
    """Hold a lock on ``path`` for the block; yields False when it is held elsewhere and ``wait`` is false.

    Exclusive unless ``shared``: then it is held beside other shared ones.

    The kernel gives the lock back when its holder dies, whatever it died of.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
