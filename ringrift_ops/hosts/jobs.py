"""The one job protocol: what a job is, how it stands, and what every transport can do with it.

A job is one piece of work with a name of its own, ``<config>-g<generation>-<stage>[-s<shard>]``. Asking for it
twice starts it once: the second submission adopts what runs, takes what is finished, or starts the
next attempt of what failed or died, in the same folder. Nobody who asks has to stay alive.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ringrift_ops.errors import (
    ExitCode,
    GateError,
    InfrastructureError,
    NoDataError,
    RingRiftError,
    UsageError,
)

EFFECTS_VARIABLE = "RINGRIFT_EFFECTS"
"""Names the file that a stage writes its effects on the ledger into, where it runs on a host without the ledger."""

_NOT_WORK = frozenset({"token", "epoch_seconds", "total_seconds"})

_JOB_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")


class JobNameError(UsageError):
    """A job id that could not be the name of one folder."""


class NoSuchJobError(NoDataError):
    """Nobody has submitted a job of that name here."""


class JobConflictError(UsageError):
    """A job of that name runs, but with another spec."""


class JobNotFinishedError(InfrastructureError):
    """The result of a job that still runs was asked for."""


class JobNotStartedError(InfrastructureError):
    """The process that minds a job could not be started."""


class JobDiedError(InfrastructureError):
    """The process that minds a job is gone and has not said how the job ended."""


class JobRefusedError(GateError):
    """The job ended with exit code 1: a gate said no."""


class JobMisusedError(UsageError):
    """The job ended with exit code 2: what it was asked is wrong."""


class JobWithoutDataError(NoDataError):
    """The job ended with exit code 3: there was nothing to work on."""

    @property
    def said(self) -> str:
        """The stage's own words."""
        return str(self).partition("exited with code 3: ")[2] or str(self)


class JobFailedError(InfrastructureError):
    """The job ended with exit code 4, by a signal, by its time limit, or without the result it owes."""


_ERRORS: dict[ExitCode, type[RingRiftError]] = {
    ExitCode.GATE_SAID_NO: JobRefusedError,
    ExitCode.WRONG_USAGE: JobMisusedError,
    ExitCode.NO_DATA: JobWithoutDataError,
    ExitCode.INFRASTRUCTURE: JobFailedError,
}


def job_id_of(config: str, generation: int, stage: str, shard: int | None = None) -> str:
    """Return the one name of a stage's job, e.g. ``hex8_2p-g12-selfplay-s3``."""
    return checked_job_id(f"{config}-g{generation}-{stage}" + ("" if shard is None else f"-s{shard}"))


def command_about(job_id: str, host: str | None, *options: str) -> str:
    """Return the command ``ringrift jobs`` about a job, as it is typed here; ``host``: its own, None: here."""
    return shlex.join(["ringrift", "jobs", job_id, *(["--host", host] if host else []), *options])


def conflict(job_id: str, host: str | None) -> JobConflictError:
    """Return the error of a job that runs with another spec."""
    return JobConflictError(
        f"{f'host {host}: ' if host else ''}job {job_id} runs with another spec; wait for it, or end it with "
        f"`{command_about(job_id, host, '--kill')}` and submit again"
    )


def checked_job_id(job_id: str) -> str:
    """Return ``job_id``; raises :class:`JobNameError` unless it is a plain file name in lower case."""
    if not _JOB_ID.fullmatch(job_id) or ".." in job_id:
        raise JobNameError(
            f"{job_id!r} is not a job id: expected <config>-g<generation>-<stage>[-s<shard>], "
            "lower-case letters, digits and . _ - only"
        )
    return job_id


class Job(BaseModel):
    """One piece of work. ``argv`` runs in the job's folder, so it names ``spec.json`` and its like plainly.

    ``env`` is added to the submitter's environment and lies in the folder as text: no secrets in it, and none in
    ``argv``, which everyone on the machine can read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    argv: tuple[str, ...] = Field(min_length=1)
    spec: dict[str, Any] = Field(description="written as spec.json")
    env: dict[str, str] = Field(default_factory=dict)
    timeout_seconds: float = Field(gt=0.0, description="wall clock of one attempt")
    phase_seconds: float | None = Field(default=None, gt=0.0, description="of one phase that its heartbeat tells of")
    grace_seconds: float = Field(default=10.0, ge=0.0, description="between SIGTERM and SIGKILL")

    @field_validator("job_id")
    @classmethod
    def _name(cls, value: str) -> str:
        return checked_job_id(value)


def stage_job(
    stage: str,
    spec: BaseModel,
    *,
    job_id: str,
    timeout_seconds: float,
    phase_seconds: float | None = None,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Job:
    """Return the job that runs ``ringrift <stage> --spec spec.json --result result.json --heartbeat heartbeat.jsonl``.

    ``spec`` is the stage's spec model; ``python`` the interpreter of the host that runs it.
    """
    return Job(
        job_id=job_id,
        argv=(
            *(python, "-m", "ringrift_ops.cli", stage),
            *("--spec", "spec.json", "--result", "result.json", "--heartbeat", "heartbeat.jsonl"),
        ),
        spec=spec.model_dump(mode="json"),
        env=dict(env or {}),
        timeout_seconds=timeout_seconds,
        phase_seconds=phase_seconds,
    )


def same_work(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two specs ask for the same work: the token is who asks, and the limits how long it may take."""
    return {k: v for k, v in one.items() if k not in _NOT_WORK} == {
        k: v for k, v in other.items() if k not in _NOT_WORK
    }


class JobState(StrEnum):
    """How a job stands."""

    ABSENT = "absent"
    """Never submitted here."""
    RUNNING = "running"
    """A living process minds it (or is being started by a living submitter)."""
    DONE = "done"
    """Ended with exit code 0."""
    FAILED = "failed"
    """Ended otherwise, and said how."""
    DEAD = "dead"
    """Nobody minds it and nobody said how it ended: killed, or the machine went down."""


class JobStatus(BaseModel):
    """One look at a job. Ages are seconds."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    state: JobState
    attempt: int = Field(description="1 for the first; 0 when absent")
    pid: int | None = Field(description="of the process that minds it")
    raw_code: int | None = Field(description="as a shell would show it; None unless ended")
    reason: str = Field(description="how it ended, or why it counts as dead; empty while it runs")
    started: str | None = Field(description="of the present attempt, ISO in UTC")
    age: float | None = Field(default=None, description="of the present attempt, by the clock of its own machine")
    ended: str | None
    heartbeat: dict[str, Any] | None = Field(description="last whole line of the heartbeat file")
    heartbeat_age: float | None = Field(description="since the heartbeat file grew; None without one")

    @property
    def exit_code(self) -> ExitCode | None:
        """The verb's exit code; any code outside 0-4 is an infrastructure error. None unless ended."""
        if self.raw_code is None:
            return None
        return ExitCode(self.raw_code) if self.raw_code in set(ExitCode) else ExitCode.INFRASTRUCTURE

    @property
    def over(self) -> bool:
        """Whether waiting longer changes nothing."""
        return self.state in (JobState.DONE, JobState.FAILED, JobState.DEAD)


class Submitted(BaseModel):
    """The answer to a submission: ``adopted`` when the work was already under way or done."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    adopted: bool
    attempt: int
    state: JobState


class LogPart(BaseModel):
    """Whole characters of a log from ``offset`` (bytes); ask again at ``next_offset``."""

    model_config = ConfigDict(frozen=True)

    text: str
    offset: int
    next_offset: int


def error_of(status: JobStatus, message: str) -> RingRiftError:
    """Return the error that carries a failed job's exit code."""
    return _ERRORS[status.exit_code or ExitCode.INFRASTRUCTURE](message)


class Transport(Protocol):
    """What every way of running jobs offers: this machine (``local``), and SSH hosts by the same words (``remote``)."""

    def submit_or_adopt(self, job: Job) -> Submitted:
        """Make sure that the work is under way or done."""
        ...

    def poll(self, job_id: str) -> JobStatus:
        """Look at a job; never raises for a job that is absent, failed or dead."""
        ...

    def log(self, job_id: str, offset: int = 0, limit: int = 1 << 16) -> LogPart:
        """Return the next part of a job's log."""
        ...

    def kill(self, job_id: str) -> JobStatus:
        """End a job with all it started."""
        ...

    def collect(self, job_id: str) -> dict[str, Any]:
        """Return the result of a job that is over, a gate's no included, or raise what it ended with."""
        ...

    def spec(self, job_id: str) -> dict[str, Any] | None:
        """Return what the job was asked, None when it is absent."""
        ...

    def effects(self, job_id: str) -> list[dict[str, Any]]:
        """Return what the job's last attempt has for the ledger; empty where it has told the ledger itself."""
        ...

    def forget(self, job_id: str) -> None:
        """End the job if it runs, and remove its folder."""
        ...

    def set_aside(self, job_id: str, reason: str) -> None:
        """End the job if it runs, and keep its folder where no submission finds it, with the reason."""
        ...

    def all(self) -> list[str]:
        """Return the ids of all jobs, sorted."""
        ...

    def place(self, job_id: str) -> str:
        """Return where the job's files are, for messages."""
        ...
