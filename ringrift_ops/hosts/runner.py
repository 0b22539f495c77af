"""Minds one attempt of a job: ``python -m ringrift_ops.hosts.runner FOLDER``.

Goes into the background in a session of its own, writes who it is, starts the command, waits for it
(at most the job's time limit), ends whatever the command left running, and writes how it ended.
The command sits in another process group, so even ``kill 0`` in it leaves the runner to tell.

Exit code of the foreground part: 0 when the runner minds the job, 3 when another one already does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from ringrift_ops.errors import RingRiftError
from ringrift_ops.hosts.folder import (
    KILLED,
    SIGNAL_BASE,
    TIMEOUT_CODE,
    DamagedJobFolderError,
    Ending,
    JobFolder,
    Runner,
    locked,
    read_json,
)
from ringrift_ops.hosts.processes import JOB_VARIABLE, end_processes, identify, job_processes

ALREADY_MINDED = 3
COULD_NOT_START = 127
_LOOK_SECONDS = 1.0
"""How often a runner looks at its job's phase, and for a request to end it."""
_HEARTBEAT_TAIL = 1 << 14
_READY = b"1"
_MINDED = b"2"


class _AskedToEndError(Exception):
    """SIGTERM: somebody wants this job gone."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def start(folder: JobFolder) -> int:
    """Start the runner of ``folder`` in the background; returns once it has written who it is.

    Returns 0, or ``ALREADY_MINDED``; 4 when the runner could not begin.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.close(reader)
        os.setsid()
        _background(folder, writer)
    os.close(writer)
    answer = os.read(reader, 1)
    return {_READY: 0, _MINDED: ALREADY_MINDED}.get(answer, 4)


def _background(folder: JobFolder, writer: int) -> NoReturn:
    code = 4
    try:
        with locked(folder.run_lock, wait=False) as mine:
            if mine:
                _redirect(folder)
                code = mind(folder, writer)
            else:
                os.write(writer, _MINDED)
                code = ALREADY_MINDED
    except (RingRiftError, OSError) as error:
        print(f"runner: {error}", file=sys.stderr, flush=True)
    except BaseException:
        traceback.print_exc()  # os._exit below would swallow it
        raise
    finally:
        os._exit(code)


def _redirect(folder: JobFolder) -> None:
    """Point this process's three streams away from whoever submitted the job."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(folder.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def mind(folder: JobFolder, writer: int) -> int:
    """Run the job of ``folder`` to its end and write that end; returns 0."""
    job = read_json(folder.job)
    if job is None:
        raise DamagedJobFolderError(f"{folder.path} holds no job.json")
    me = identify(os.getpid())
    if me is None:
        raise DamagedJobFolderError("this machine does not tell when a process started")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _asked_to_end)
    attempt = int(job["attempt"])
    try:
        folder.write_runner(Runner(me, attempt, _now()))
        os.write(writer, _READY)
        os.close(writer)
        code, reason = _run(folder, job)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except _AskedToEndError:
        code, reason = SIGNAL_BASE + signal.SIGTERM, KILLED
    end_processes(partial(job_processes, folder.path, me), float(job["grace_seconds"]))
    folder.write_ending(Ending(code, reason, attempt, _now()))
    return 0


def _asked_to_end(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _AskedToEndError


def _run(folder: JobFolder, job: dict[str, Any]) -> tuple[int, str]:
    """Return the command's code and why it ended."""
    environment = os.environ | job["env"] | {JOB_VARIABLE: str(folder.path)}
    print(f"== attempt {job['attempt']} of {folder.path.name}, {_now()}", flush=True)
    try:
        command = subprocess.Popen(
            job["argv"], cwd=folder.path, env=environment, stdin=subprocess.DEVNULL, process_group=0
        )
    except OSError as error:
        print(f"runner: cannot start {job['argv'][0]}: {error.strerror}", flush=True)
        return COULD_NOT_START, f"could not start: {error.strerror}"
    late = _wait(command, folder, float(job["timeout_seconds"]), job.get("phase_seconds"))
    if late is not None:
        print(f"runner: {late}", flush=True)
        return TIMEOUT_CODE, late
    code = command.returncode
    if code < 0:
        return SIGNAL_BASE - code, f"ended by {signal.Signals(-code).name}"
    return code, "exited"


def _wait(command: subprocess.Popen[bytes], folder: JobFolder, limit: float, phase_limit: float | None) -> str | None:
    """Wait for the command; return which limit it ran past, None when it ended by itself.

    Raises :class:`_AskedToEndError` when another container asks for its end. By this machine's monotonic clock: a wall
    clock that jumps changes nothing.
    """
    began = since = time.monotonic()
    phase: str | None = None
    while True:
        left = limit - (time.monotonic() - began)
        step = min(left, _LOOK_SECONDS, left if phase_limit is None else phase_limit)
        try:
            command.wait(timeout=max(0.0, step))
        except subprocess.TimeoutExpired:
            if folder.end_request.exists():
                raise _AskedToEndError from None
            now = time.monotonic()
            if now - began >= limit:
                return f"ran past its limit of {limit:g} s"
            if phase_limit is not None:
                found = _phase(folder)
                if found != phase:
                    phase, since = found, now
                elif phase is not None and now - since > phase_limit:
                    return f"ran past its limit of {phase_limit:g} s in {phase}"
        else:
            return None


def _phase(folder: JobFolder) -> str | None:
    """Return the phase of the last whole heartbeat, None when there is none."""
    try:
        with folder.heartbeat.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _HEARTBEAT_TAIL))
            lines = stream.read().splitlines(keepends=True)
        told = json.loads(next(line for line in reversed(lines) if line.endswith(b"\n")))
        return str(told["phase"])
    except (OSError, ValueError, KeyError, TypeError, StopIteration):  # no phase is told yet
        return None


def main() -> int:
    """Entry point of ``python -m ringrift_ops.hosts.runner FOLDER``."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        print("usage: python -m ringrift_ops.hosts.runner FOLDER", file=sys.stderr)
        return 2
    return start(JobFolder(Path(sys.argv[1])))


if __name__ == "__main__":
    sys.exit(main())
