"""Jobs on this machine: detached process groups, found again by anyone who knows the folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ringrift_ops.errors import ExitCode, InfrastructureError
from ringrift_ops.hosts.folder import (
    KILLED,
    SIGNAL_BASE,
    DamagedJobFolderError,
    Ending,
    JobFolder,
    Runner,
    locked,
    read_json,
    write_json,
)
from ringrift_ops.hosts.jobs import (
    Job,
    JobDiedError,
    JobNotFinishedError,
    JobNotStartedError,
    JobState,
    JobStatus,
    LogPart,
    NoSuchJobError,
    Submitted,
    checked_job_id,
    conflict,
    error_of,
    same_work,
)
from ringrift_ops.hosts.processes import boot_id, end_processes, job_processes, send
from ringrift_ops.hosts.runner import ALREADY_MINDED
from ringrift_ops.store import WriteError

REFUSED = "_refused"
"""Folder beside the jobs with what came too late to count; nobody's job has that name (F24)."""

_PROJECT = Path(__file__).resolve().parents[2]
_START_SECONDS = 60.0
_POLL_SECONDS = 0.05
_HEARTBEAT_TAIL = 1 << 14
"""Bytes read from the end of the heartbeat file: more than its longest line."""


_ASKED_SECONDS = 15.0
"""What a runner in another container gets beyond its command's grace: it looks once a second."""


class JobNotEndedError(InfrastructureError):
    """A job in another container of this machine was asked to end, and goes on."""


def _alive(folder: JobFolder, runner: Runner, minded: bool | None) -> bool:
    """Return whether a runner lives; one in another container is known by its lock alone."""
    if runner.process.visible:
        return runner.process.alive()
    return folder.minded() if minded is None else minded


@dataclass(frozen=True)
class LocalJobs:
    """The jobs below one folder, ``RINGRIFT_HOME/jobs``. Holds no state of its own."""

    root: Path

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job, there or not."""
        return self.root.absolute() / checked_job_id(job_id)

    def submit_or_adopt(self, job: Job) -> Submitted:
        """Make sure that the work of ``job`` is under way or done; returns at once.

        Adopts a running job and one that is done with the same spec. Starts the next attempt of a job that
        failed, died, or is done with another spec. Raises :class:`JobConflictError` when it runs with another
        spec, :class:`JobNotStartedError`, and :class:`~ringrift_ops.store.WriteError`.
        """
        folder = JobFolder(self.folder(job.job_id))
        try:
            folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(folder.path, error) from error
        with locked(folder.submit_lock, wait=True):
            deadline = time.monotonic() + _START_SECONDS
            while True:
                with locked(folder.run_lock, wait=False) as unminded:  # held: no runner begins while we look
                    status = self._status(folder, job.job_id, submitting=False, minded=False if unminded else None)
                    taken = self._adopted(folder, job, status)
                    if taken is not None:
                        return taken
                    if unminded:
                        self._end_leftovers(folder, job.grace_seconds)
                        break
                if time.monotonic() > deadline:
                    raise JobNotStartedError(f"somebody holds {folder.run_lock} but minds no job {job.job_id}")
                time.sleep(_POLL_SECONDS)  # the runner of a killed submitter is about to say who it is, or to end
            return self._start(folder, job, status.attempt + 1)

    def _adopted(self, folder: JobFolder, job: Job, status: JobStatus) -> Submitted | None:
        """Return the answer to a submission of work that is under way or done, None when it has to be started."""
        earlier = read_json(folder.spec)
        same = earlier is not None and same_work(earlier, job.spec)
        if status.state is JobState.RUNNING and not same:
            raise conflict(job.job_id, None)
        if status.state is JobState.RUNNING or (status.state is JobState.DONE and same):
            return Submitted(job_id=job.job_id, adopted=True, attempt=status.attempt, state=status.state)
        return None

    def _start(self, folder: JobFolder, job: Job, attempt: int) -> Submitted:
        """Start an attempt; the caller holds the submission lock."""
        folder.exit_code.unlink(missing_ok=True)
        folder.result.unlink(missing_ok=True)
        folder.effects.unlink(missing_ok=True)
        write_json(folder.spec, job.spec)
        record = job.model_dump(mode="json", exclude={"spec"}) | {"attempt": attempt}
        write_json(folder.job, record)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                answer = subprocess.run(
                    [sys.executable, "-m", "ringrift_ops.hosts.runner", str(folder.path)],
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=_START_SECONDS,
                    start_new_session=True,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise JobNotStartedError(f"job {job.job_id} could not be started: {error}") from error
            status = self._status(folder, job.job_id, submitting=True)
            if status.attempt == attempt and (answer.returncode == 0 or status.state is not JobState.DEAD):
                return Submitted(job_id=job.job_id, adopted=False, attempt=attempt, state=status.state)
            if answer.returncode == ALREADY_MINDED and status.state is JobState.RUNNING and folder.runner():
                return Submitted(job_id=job.job_id, adopted=True, attempt=status.attempt, state=status.state)
            if answer.returncode != ALREADY_MINDED or time.monotonic() > deadline:
                raise JobNotStartedError(
                    f"job {job.job_id} could not be started: {answer.stderr.strip() or 'no reason given'}; "
                    f"see {folder.log}"
                )
            time.sleep(_POLL_SECONDS)

    def poll(self, job_id: str) -> JobStatus:
        """Look at a job. Raises only :class:`DamagedJobFolderError`."""
        return self._status(JobFolder(self.folder(job_id)), job_id, submitting=False, look_at_lock=True)

    def _status(
        self, folder: JobFolder, job_id: str, *, submitting: bool, look_at_lock: bool = False,
        minded: bool | None = None,
    ) -> JobStatus:  # fmt: skip
        """``minded``: what the caller knows already, because it holds the runner's lock itself."""
        job = read_json(folder.job)
        if job is None:
            return _seen(folder, job_id, JobState.ABSENT, attempt=0)
        attempt = int(job["attempt"])
        runner = folder.runner()
        alive = runner is not None and _alive(folder, runner, minded)
        ending = folder.ending()  # after the look at the process: it may have ended in between
        if ending is not None:
            state = JobState.DONE if ending.code == 0 else JobState.FAILED
            return _seen(
                folder, job_id, state, attempt=ending.attempt, raw_code=ending.code, reason=ending.reason,
                started=runner.since if runner else None, ended=ending.ended,
            )  # fmt: skip
        if runner is not None and alive:
            return _seen(
                folder, job_id, JobState.RUNNING, attempt=runner.attempt, pid=runner.process.pid, started=runner.since,
                age=runner.process.age(),
            )  # fmt: skip
        if look_at_lock and not submitting and (runner is None or runner.attempt != attempt):
            with locked(folder.submit_lock, wait=False) as free:
                if not free:
                    return _seen(folder, job_id, JobState.RUNNING, attempt=attempt)
            return self._status(folder, job_id, submitting=True)
        if runner is None or runner.attempt != attempt:
            why = "its submitter ended before the job began"
        elif runner.process.boot_id != boot_id():
            why = "its machine was rebooted while it ran"
        else:
            why = f"process {runner.process.pid} is gone and wrote no exit code"
        return _seen(
            folder, job_id, JobState.DEAD, attempt=attempt, reason=why, started=runner.since if runner else None
        )

    def _end_leftovers(self, folder: JobFolder, grace_seconds: float) -> None:
        """End what a dead attempt left running: its runner was killed, its command lives."""
        runner = folder.runner()
        leader = runner.process if runner else None
        folder.end_request.unlink(missing_ok=True)
        if not end_processes(partial(job_processes, folder.path, leader), grace_seconds):
            raise JobNotStartedError(f"a process of an earlier attempt of {folder.path.name} cannot be ended")

    def kill(self, job_id: str) -> JobStatus:
        """End a job with everything it started; a job that is over stays as it is.

        Raises :class:`NoSuchJobError`, and :class:`JobNotEndedError` for one in another container that does not end.
        """
        folder = JobFolder(self.folder(job_id))
        if not folder.job.exists():
            raise NoSuchJobError(f"no job {job_id} in {self.root}; `ringrift jobs` lists them")
        with locked(folder.submit_lock, wait=True):
            record = read_json(folder.job) or {}
            grace = float(record.get("grace_seconds", 10.0))
            runner = folder.runner()
            leader = runner.process if runner else None
            if runner is not None and not runner.process.visible:
                self._ask_to_end(folder, runner, grace)
            elif leader is not None and leader.alive():
                send(leader, signal.SIGTERM)
                deadline = time.monotonic() + grace + 6.0  # the runner itself needs the grace for its command
                while leader.alive() and time.monotonic() < deadline:
                    time.sleep(_POLL_SECONDS)
                if leader.alive():
                    send(leader, signal.SIGKILL)
            end_processes(partial(job_processes, folder.path, leader), grace)
            if folder.ending() is None:
                attempt = int(record.get("attempt", 1))
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                folder.write_ending(Ending(SIGNAL_BASE + signal.SIGTERM, KILLED, attempt, now))
        return self.poll(job_id)

    def _ask_to_end(self, folder: JobFolder, runner: Runner, grace: float) -> None:
        """End a job whose runner lives in another container: no signal goes there, so the runner is asked."""
        folder.end_request.touch(mode=0o600)
        deadline = time.monotonic() + grace + _ASKED_SECONDS
        while folder.minded():
            if time.monotonic() > deadline:
                raise JobNotEndedError(
                    f"job {folder.path.name} runs as process {runner.process.pid} of another container and has not "
                    f"ended {grace + _ASKED_SECONDS:g} s after it was asked to: restart that worker's container"
                )
            time.sleep(_POLL_SECONDS)

    def collect(self, job_id: str) -> dict[str, Any]:
        """Return the result of a job that is over and has one, a gate's no (code 1 or 3) included.

        Raises the error of its exit code (:class:`~ringrift_ops.hosts.jobs.JobRefusedError` and its like) with the
        stage's own message, :class:`JobNotFinishedError`, :class:`JobDiedError`, :class:`NoSuchJobError`.
        """
        status = self.poll(job_id)
        folder = JobFolder(self.folder(job_id))
        if status.state is JobState.ABSENT:
            raise NoSuchJobError(f"no job {job_id} in {self.root}; `ringrift jobs` lists them")
        if status.state is JobState.RUNNING:
            raise JobNotFinishedError(f"job {job_id} still runs (attempt {status.attempt}, pid {status.pid})")
        if status.state is JobState.DEAD:
            raise JobDiedError(f"job {job_id} died: {status.reason}; submit it again, it resumes. Log: {folder.log}")
        result = read_json(folder.result)
        answered = result is not None and "error" not in result
        if result is not None and answered and status.raw_code in set(ExitCode):
            return result
        if status.state is JobState.FAILED:
            said = result.get("error") if result else None
            message = said["message"] if isinstance(said, dict) and "message" in said else self._last_words(folder)
            raise error_of(status, f"job {job_id} {status.reason} with code {status.raw_code}: {message}")
        unanswered = status.model_copy(update={"raw_code": int(ExitCode.INFRASTRUCTURE)})
        raise error_of(unanswered, f"job {job_id} ended well but left no result.json")

    def _last_words(self, folder: JobFolder) -> str:
        with suppress(OSError):
            lines = _tail(folder.log, _HEARTBEAT_TAIL).decode("utf-8", "replace").strip().splitlines()
            if lines:
                return f"{lines[-1]} (log: {folder.log})"
        return f"it printed nothing (log: {folder.log})"

    def log(self, job_id: str, offset: int = 0, limit: int = 1 << 16) -> LogPart:
        """Return at most ``limit`` bytes of the log from byte ``offset``, never half a character.

        The log only grows, over all attempts, so going on at ``next_offset`` repeats nothing and skips nothing.
        """
        try:
            with JobFolder(self.folder(job_id)).log.open("rb") as stream:
                stream.seek(offset)
                part = stream.read(limit)
        except FileNotFoundError:
            part = b""
        whole = _whole_characters(part)
        return LogPart(text=whole.decode("utf-8", "replace"), offset=offset, next_offset=offset + len(whole))

    def spec(self, job_id: str) -> dict[str, Any] | None:
        """Return what the job was asked, None when it is absent. Raises :class:`DamagedJobFolderError`."""
        return read_json(JobFolder(self.folder(job_id)).spec)

    def effects(self, job_id: str) -> list[dict[str, Any]]:
        """Return what the last attempt has for the ledger. Raises :class:`DamagedJobFolderError`."""
        path = JobFolder(self.folder(job_id)).effects
        try:
            return [json.loads(line) for line in path.read_bytes().splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise DamagedJobFolderError(f"cannot read {path}: {error}; submit the job again") from error

    def forget(self, job_id: str) -> None:
        """End the job if it runs, and remove its folder."""
        if self.poll(job_id).state is not JobState.ABSENT:
            self.kill(job_id)
        shutil.rmtree(self.folder(job_id), ignore_errors=True)

    def set_aside(self, job_id: str, reason: str) -> None:
        """End the job if it runs, and keep its folder in ``_refused`` with ``reason``; an absent job is none."""
        if self.poll(job_id).state is JobState.ABSENT:
            return
        self.kill(job_id)
        now = datetime.now(UTC)
        kept = self.root.absolute() / REFUSED / f"{job_id}-{now:%Y%m%dT%H%M%S%f}"
        kept.parent.mkdir(exist_ok=True)
        try:
            self.folder(job_id).rename(kept)
        except FileNotFoundError:  # somebody else was faster
            return
        write_json(kept / "reason.json", {"reason": reason, "at": now.isoformat(timespec="milliseconds")})

    def drop_set_aside(self, older: float) -> list[str]:
        """Remove what was set aside more than ``older`` seconds ago, by this machine's clock; returns their names."""
        kept = self.root / REFUSED
        dropped = []
        for path in sorted(kept.iterdir()) if kept.is_dir() else []:
            if time.time() - path.stat().st_mtime > older:
                shutil.rmtree(path, ignore_errors=True)
                dropped.append(path.name)
        return dropped

    def place(self, job_id: str) -> str:
        """Return the job's folder, for messages."""
        return str(self.folder(job_id))

    def wait(self, job_id: str, timeout_seconds: float) -> JobStatus:
        """Return how the job stands once it is over or the time is up."""
        deadline = time.monotonic() + timeout_seconds
        while not (status := self.poll(job_id)).over and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return status

    def all(self) -> list[str]:
        """Return the ids of all jobs submitted here, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(path.parent.name for path in self.root.glob("*/job.json"))

    def running(self) -> list[str]:
        """Return the ids of the jobs that run now."""
        return [job_id for job_id in self.all() if self.poll(job_id).state is JobState.RUNNING]

    def kill_all(self) -> list[str]:
        """End every running job, and what dead ones left running; returns the ids of those that ran.

        They stay resubmittable: the next submission goes on in the same folder.
        """
        ran = self.running()
        for job_id in ran:
            self.kill(job_id)
        self.reap()
        return ran

    def reap(self) -> list[str]:
        """End processes that belong to jobs which nobody minds any more; returns the ids of those jobs."""
        reaped = []
        for job_id in self.all():
            folder = JobFolder(self.folder(job_id))
            runner = folder.runner()
            leader = runner.process if runner else None
            left = partial(job_processes, folder.path, leader)
            if self.poll(job_id).over and left():
                end_processes(left, 1.0)
                reaped.append(job_id)
        return reaped


def _seen(
    folder: JobFolder,
    job_id: str,
    state: JobState,
    *,
    attempt: int,
    pid: int | None = None,
    raw_code: int | None = None,
    reason: str = "",
    started: str | None = None,
    ended: str | None = None,
    age: float | None = None,
) -> JobStatus:
    heartbeat, heartbeat_age = _heartbeat(folder.heartbeat)
    try:
        begun = None if started is None else datetime.fromisoformat(started)
        return JobStatus(
            job_id=job_id, state=state, attempt=attempt, pid=pid, raw_code=raw_code, reason=reason,
            started=started, ended=ended, heartbeat=heartbeat, heartbeat_age=heartbeat_age,
            age=None if begun is None else age or max(0.0, (datetime.now(UTC) - begun).total_seconds()),
        )  # fmt: skip
    except ValueError as error:
        raise DamagedJobFolderError(f"{folder.path} does not describe a job: {error}") from error


def _heartbeat(path: Path) -> tuple[dict[str, Any] | None, float | None]:
    """Return the last whole line of a heartbeat file and the seconds since the file grew."""
    try:
        age = max(0.0, time.time() - path.stat().st_mtime)
        lines = _tail(path, _HEARTBEAT_TAIL).splitlines(keepends=True)
    except FileNotFoundError:
        return None, None
    for line in reversed(lines):
        if line.endswith(b"\n"):
            with suppress(ValueError):
                content = json.loads(line)
                if isinstance(content, dict):
                    return content, age
    return None, age


def _tail(path: Path, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - size))
        return stream.read()


def _whole_characters(part: bytes) -> bytes:
    """Return ``part`` without a UTF-8 character cut off at its end."""
    for back in range(1, min(4, len(part)) + 1):
        byte = part[-back]
        if byte & 0xC0 == 0xC0:
            needed = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4
            return part[:-back] if needed > back else part
        if byte & 0x80 == 0:
            return part
    return part


def _environment() -> dict[str, str]:
    """Return the submitter's environment without Airflow's (its secrets are not the job's), with this package found."""
    kept = {name: value for name, value in os.environ.items() if not name.lstrip("_").startswith("AIRFLOW")}
    paths = [str(_PROJECT), *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    return kept | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}
