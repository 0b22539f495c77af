"""Jobs on a host, by the words of ``jobs.Transport``: each is asked of the host's own ``LocalJobs`` over the link."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ringrift_ops.errors import ExitCode, RingRiftError
from ringrift_ops.hosts import folder, jobs
from ringrift_ops.hosts.errors import HostAnswerError, HostFullError, VersionMismatchError
from ringrift_ops.hosts.jobs import Job, JobStatus, LogPart, Submitted, checked_job_id
from ringrift_ops.hosts.link import Link
from ringrift_ops.hosts.versions import difference, versions
from ringrift_ops.settings.tables import HOSTS

KNOWN: dict[str, type[RingRiftError]] = {
    kind.__name__: kind
    for kind in (
        jobs.JobNameError, jobs.NoSuchJobError, jobs.JobConflictError, jobs.JobNotFinishedError,
        jobs.JobNotStartedError, jobs.JobDiedError, jobs.JobRefusedError, jobs.JobMisusedError,
        jobs.JobWithoutDataError, jobs.JobFailedError, folder.DamagedJobFolderError,
    )
}  # fmt: skip
"""Errors of the job protocol: raised here as there, with the host's name before the message."""


_OWN_JOBS = re.compile(r"`ringrift jobs\b(?![^`]*--host)[^`]*")


def for_host(host: str, message: str) -> str:
    """Return a host's message as it holds here, where ``ringrift jobs`` without its name means this machine's."""
    return _OWN_JOBS.sub(lambda command: f"{command[0]} --host {host}", message)


@dataclass(frozen=True)
class RemoteJobs:
    """The jobs of one host. Every method may raise an ``UnreachableHostError`` that says why there is no answer."""

    link: Link

    @property
    def name(self) -> str:
        """The host's name in the inventory."""
        return self.link.host.name

    def answer(
        self, verb: str, *, seconds: float = HOSTS.answer_seconds, within: float | None = None, **arguments: Any
    ) -> Any:
        """Return what the host answers; its refusals are raised as what they are."""
        said = self.link.ask(verb, seconds=seconds, within=within, **arguments)
        if "error" in said:
            raise self._error(said["error"])
        return said["ok"]

    def _error(self, told: dict[str, Any]) -> RingRiftError:
        message = for_host(self.name, str(told["message"]))
        if told.get("full"):
            return HostFullError(self.name, message)
        kind = KNOWN.get(str(told["type"]))
        if kind is not None:
            return kind(f"host {self.name}: {message}")
        return HostAnswerError(self.name, f"{message} ({told['type']}, exit code {ExitCode(told['code']).value})")

    def check_version(self) -> None:
        """Make sure that the host has this very code; raises :class:`VersionMismatchError`."""
        found = difference(versions(), self.link.greeting()["versions"])
        if found is not None:
            raise VersionMismatchError(
                self.name, f"it has {found}; nothing is started there: ringrift cluster update {self.name}"
            )

    def submit_or_adopt(self, job: Job) -> Submitted:
        """Make sure that the work of ``job`` is under way or done on the host; see ``LocalJobs.submit_or_adopt``.

        Raises :class:`VersionMismatchError` before anything is started, :class:`HostFullError`.
        """
        self.check_version()
        answer = self.answer("submit", seconds=HOSTS.submit_seconds, job=job.model_dump(mode="json"))
        return Submitted.model_validate(answer)

    def poll(self, job_id: str) -> JobStatus:
        """Look at a job."""
        return JobStatus.model_validate(self.answer("poll", job_id=checked_job_id(job_id)))

    def log(self, job_id: str, offset: int = 0, limit: int = 1 << 16) -> LogPart:
        """Return the next part of a job's log."""
        answer = self.answer("log", job_id=checked_job_id(job_id), offset=offset, limit=limit)
        return LogPart.model_validate(answer)

    def kill(self, job_id: str) -> JobStatus:
        """End a job with all it started."""
        answer = self.answer("kill", seconds=HOSTS.submit_seconds, job_id=checked_job_id(job_id))
        return JobStatus.model_validate(answer)

    def collect(self, job_id: str) -> dict[str, Any]:
        """Return the result of a job that is over, a gate's no included, or raise what it ended with."""
        return dict(self.answer("collect", job_id=checked_job_id(job_id)))

    def spec(self, job_id: str) -> dict[str, Any] | None:
        """Return what the job was asked, None when it is absent."""
        answer = self.answer("spec", job_id=checked_job_id(job_id))
        return None if answer is None else dict(answer)

    def effects(self, job_id: str) -> list[dict[str, Any]]:
        """Return what the job's last attempt has for the ledger."""
        return list(self.answer("effects", job_id=checked_job_id(job_id)))

    def forget(self, job_id: str) -> None:
        """End the job if it runs, and remove its folder."""
        self.answer("forget", seconds=HOSTS.submit_seconds, job_id=checked_job_id(job_id))

    def set_aside(self, job_id: str, reason: str) -> None:
        """End the job if it runs, and keep its folder aside with the reason."""
        self.answer("set_aside", seconds=HOSTS.submit_seconds, job_id=checked_job_id(job_id), reason=reason)

    def all(self) -> list[str]:
        """Return the ids of all jobs of this home on the host, sorted."""
        return list(self.answer("all"))

    def reap(self) -> list[str]:
        """End processes of jobs that nobody minds any more; returns the ids of those jobs."""
        return list(self.answer("reap", seconds=HOSTS.submit_seconds))

    def drop_set_aside(self, older: float) -> list[str]:
        """Remove what was set aside more than ``older`` seconds ago, by the host's clock; returns their names."""
        return list(self.answer("drop_set_aside", older=older))

    def place(self, job_id: str) -> str:
        """Return the job's folder on the host, for messages."""
        return f"{self.name}:{self.link.host.work_dir}/jobs/{checked_job_id(job_id)}"
