"""Jobs of stages by their names in the ledger: how they stand, and the end of their logs (R33)."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ringrift_ops.errors import UsageError
from ringrift_ops.hosts.jobs import JobState, JobStatus, NoSuchJobError, Transport, checked_job_id
from ringrift_ops.ledger import HERE, StageRun
from ringrift_ops.operations.by import By
from ringrift_ops.settings import CONFIGS, config_named
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Stage

_NAME = re.compile(rf"({'|'.join(CONFIGS)})-g(\d{{1,9}})-({'|'.join(Stage)})(?:-s(\d{{1,4}}))?")

TYPES = {Stage.TRAIN.value: "training"}
"""The runbooks' words for the types of jobs; the others are called as their stage."""


class NotATrainingError(UsageError):
    """A job of another stage was asked for as a training."""


@dataclass(frozen=True)
class JobRow:
    """A job as the ledger knows it. ``status``: running, done or failed; ``node_id``: where, None on this machine."""

    id: str
    type: str
    status: str
    node_id: str | None
    config: str
    generation: int
    stage: str
    shard: int
    error: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True)
class Jobs:
    """A page of them."""

    jobs: list[JobRow]
    total: int
    next_offset: int | None


@dataclass(frozen=True)
class JobDetail:
    """A job, how its process stands now, what it was asked, and what came of it."""

    job: JobRow
    process: JobStatus
    spec: dict[str, Any]
    result: dict[str, Any] | None


@dataclass(frozen=True)
class JobLog:
    """The last lines of a job's log, over all its attempts."""

    id: str
    lines: list[str]


def job_row(config: str, run: StageRun) -> JobRow:
    """Return a stage run that has a job as that job."""
    return JobRow(
        id=str(run.job_id),
        type=TYPES.get(run.stage, run.stage),
        status=run.state,
        node_id=run.host,
        config=config,
        generation=run.generation,
        stage=run.stage,
        shard=run.shard,
        error=run.error,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )


def trainings(
    hosting: Hosting, *, config: str | None = None, status: str | None = None, limit: int, offset: int = 0
) -> Jobs:
    """Return a page of the training jobs, newest generation first; raises ``UnknownConfigError``."""
    key = None if config is None else config_named(config).key
    total, found = hosting.ledger.stage_page(Stage.TRAIN.value, config=key, state=status, limit=limit, offset=offset)
    more = offset + len(found) < total
    return Jobs([job_row(*one) for one in found], total, offset + limit if more else None)


def job(hosting: Hosting, job_id: str, stage: Stage | None = None) -> JobDetail:
    """Return one job that the ledger knows; with ``stage`` only one of that stage.

    Raises ``JobNameError``, ``NoSuchJobError``, :class:`NotATrainingError`.
    """
    config, run = _known(hosting, job_id, stage)
    status = hosting.look(run.host, job_id)
    if status.state is JobState.ABSENT:
        status = status.model_copy(update={"reason": "its folder is gone"})
    return JobDetail(job_row(config, run), status, run.spec, run.result)


def job_log(hosting: Hosting, job_id: str, tail: int, stage: Stage | None = None) -> JobLog:
    """Return the last ``tail`` lines of a job's log; raises as :func:`job`, and ``UnreachableHostError``."""
    _, run = _known(hosting, job_id, stage)
    return JobLog(job_id, last_lines(hosting.jobs(run.host), job_id, tail))


def end(hosting: Hosting, by: By, job_id: str, host: str | None = None) -> JobStatus:
    """End a job with all it started, where it is, and return how it ended; it can be resumed. One that is over stays.

    Raises ``NoSuchJobError``, ``UnknownHostError``, ``UnreachableHostError``.
    """
    transport = hosting.jobs(host)
    state = hosting.look(host, checked_job_id(job_id)).state
    if state in (JobState.RUNNING, JobState.DEAD):  # of a dead one processes may be left
        named = _NAME.fullmatch(job_id)
        by.audited(hosting.ledger, "end job", named and named[1], job_id=job_id, host=host or HERE)
    return transport.kill(job_id)


def last_lines(transport: Transport, job_id: str, tail: int) -> list[str]:
    """Return the last lines of a log, reading it part by part; memory grows with ``tail`` alone."""
    lines: deque[str] = deque(maxlen=tail)
    offset, rest = 0, ""
    while (part := transport.log(job_id, offset)).text:
        offset = part.next_offset
        *whole, rest = (rest + part.text).split("\n")
        lines.extend(whole)
    if rest:
        lines.append(rest)
    return list(lines)


def _known(hosting: Hosting, job_id: str, stage: Stage | None) -> tuple[str, StageRun]:
    named = _NAME.fullmatch(checked_job_id(job_id))
    runs = [] if named is None else hosting.ledger.stage_runs(int(named[2]), named[3])
    found = [one for one in runs if one.job_id == job_id]
    if named is None or not found:
        raise NoSuchJobError(f"the ledger knows no job {job_id}; `ringrift jobs` lists those of this machine")
    if stage is not None and found[0].stage != stage.value:
        raise NotATrainingError(f"{job_id} is a job of {found[0].stage}, not of {stage.value}")
    return named[1], found[0]
