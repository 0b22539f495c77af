"""Jobs on a host that nobody can connect to: what is wanted of it lies here, and it comes and fetches it.

``RINGRIFT_HOME/edge/<host>/`` on the controller is all that is known of such a host. The host's own Edge worker fetches
a request over HTTP, runs the job by its ``LocalJobs`` and reports; the words are those of ``jobs.Transport``.

node.json                  what the host said of itself last, and when
files/<sha256>             what it made, verified
jobs/<job>/request.json    what is wanted: the job, the number of the request, ``run`` or ``kill``
jobs/<job>/report.json     how the job stands there         jobs/<job>/end.json   how it ended, result and effects
jobs/<job>/log.txt         what it printed
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ringrift_ops.errors import ExitCode, RingRiftError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.errors import HostAnswerError, HostHangsError, HostRefusedError, VersionMismatchError
from ringrift_ops.hosts.folder import KILLED, SIGNAL_BASE, locked, read_json, write_json
from ringrift_ops.hosts.jobs import (
    Job,
    JobNotFinishedError,
    JobState,
    JobStatus,
    LogPart,
    NoSuchJobError,
    Submitted,
    checked_job_id,
    conflict,
    same_work,
)
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.hosts.remote import KNOWN, for_host
from ringrift_ops.hosts.versions import difference, versions
from ringrift_ops.settings.edge import EDGE
from ringrift_ops.settings.tables import HOSTS

RUN, KILL = "run", "kill"
SIGTERM = 15
_SHA = re.compile(r"[0-9a-f]{64}")
_POLL_SECONDS = 0.2


class ExchangeNameError(UsageError):
    """A name that could not be what it is said to be: a digest, a plain file name."""


def checked_sha(sha: str) -> str:
    """Return ``sha``; raises :class:`ExchangeNameError` unless it is a sha256 in hex."""
    if not _SHA.fullmatch(sha):
        raise ExchangeNameError(f"{sha[:80]!r} is not a sha256: 64 lower-case hex digits")
    return sha


@dataclass(frozen=True)
class Mirror:
    """What is known here of one host of role edge; ``host`` is a checked name of the inventory."""

    home: Home
    host: str

    @property
    def root(self) -> Path:
        return self.home.edge / self.host

    @property
    def jobs(self) -> Path:
        return self.root / "jobs"

    def job(self, job_id: str) -> Path:
        return self.jobs / checked_job_id(job_id)

    def file(self, sha: str) -> Path:
        """Return where a file that the host made lies once it is whole."""
        return self.root / "files" / checked_sha(sha)

    def job_ids(self) -> list[str]:
        """Return the ids of all jobs that were ever wanted of the host, sorted."""
        return sorted(path.parent.name for path in self.jobs.glob("*/request.json"))

    def over(self, job_id: str) -> bool:
        """Return whether the request in force has come to its end."""
        end = read_json(self.job(job_id) / "end.json")
        return end is not None and end["number"] == (self.request(job_id) or {}).get("number")

    def sent(self, job_id: str) -> set[str]:
        """Return the sha256 of the files that a job has sent with its end."""
        end = read_json(self.job(job_id) / "end.json")
        return set() if end is None else {str(sha) for sha in end["files"].values()}

    def node(self) -> dict[str, Any] | None:
        """Return {"at" (seconds since 1970), "facts", "boot_id"} as the host said last, None before it ever did."""
        return read_json(self.root / "node.json")

    def heard(self, facts: dict[str, Any]) -> None:
        """Note what the host says of itself, now."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.root / "node.json", {"at": time.time(), "facts": facts, "boot_id": facts["boot_id"]})

    def silence(self) -> float | None:
        """Return for how many seconds the host has not been heard of, None when it never was."""
        known = self.node()
        return None if known is None else max(0.0, time.time() - float(known["at"]))

    def silent(self) -> bool:
        """Return whether the host was never heard of, or not for ``EDGE.silent_seconds``."""
        silence = self.silence()
        return silence is None or silence > EDGE.silent_seconds

    @contextmanager
    def at(self, job_id: str) -> Iterator[Path]:
        """Hold the job's folder: what is wanted and what is reported change one after the other."""
        folder = self.job(job_id)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock", wait=True):
            yield folder

    def request(self, job_id: str) -> dict[str, Any] | None:
        """Return {"number", "wanted", "job", "at"} of a job, None when nothing is wanted of that name."""
        return read_json(self.job(job_id) / "request.json")

    def taken(self, job_id: str) -> bool:
        """Return whether the host has begun with the request in force."""
        report = read_json(self.job(job_id) / "report.json")
        return report is not None and report["number"] == (self.request(job_id) or {}).get("number")

    def reported(self, job_id: str, number: int, status: dict[str, Any]) -> str:
        """Note how a job stands on its host; return what is wanted: ``run``, ``kill``, '' under another number."""
        with self.at(job_id) as folder:
            request = read_json(folder / "request.json")
            if request is None or request["number"] != number or (folder / "end.json").exists():
                return ""
            write_json(folder / "report.json", {"number": number, "at": time.time(), "status": status})
            return str(request["wanted"])

    def ended(self, job_id: str, number: int, end: dict[str, Any]) -> bool:
        """Note how a job ended; False when it is no longer waited for under that number."""
        with self.at(job_id) as folder:
            request = read_json(folder / "request.json")
            if request is None or request["number"] != number:
                return False
            if not (folder / "end.json").exists():
                write_json(folder / "end.json", end | {"number": number})
            return True

    def append_log(self, job_id: str, offset: int, text: bytes) -> int:
        """Add to a job's log what stands at ``offset`` of it on its host; return where to go on."""
        with self.at(job_id) as folder, (folder / "log.txt").open("ab") as log:
            have = log.tell()
            if offset <= have < offset + len(text):
                log.write(text[have - offset :])
                have = offset + len(text)
            return have


@dataclass(frozen=True)
class EdgeJobs:
    """The jobs of one host of role edge, by the words of ``jobs.Transport``; nothing here waits for the network."""

    mirror: Mirror

    @property
    def name(self) -> str:
        """The host's name in the inventory."""
        return self.mirror.host

    def known(self) -> dict[str, Any]:
        """Return what the host said of itself last; raises ``HostRefusedError`` before it ever did."""
        node = self.mirror.node()
        if node is None:
            raise HostRefusedError(
                self.name, "no Edge worker of that name was ever heard of: start one there, see docs/edge.md"
            )
        return node

    def check_there(self) -> None:
        """Make sure that the host was heard of lately and has this very code.

        Raises ``HostRefusedError``, ``HostHangsError``, ``VersionMismatchError``.
        """
        known, silence = self.known(), self.mirror.silence() or 0.0
        if silence > EDGE.silent_seconds:
            raise HostHangsError(
                self.name, f"its Edge worker was heard of {silence:.0f} s ago; is it running, can it reach this leader?"
            )
        found = difference(versions(), known["facts"]["versions"])
        if found is not None:
            raise VersionMismatchError(self.name, f"it has {found}; nothing is started there: install this code on it")

    def nets(self) -> dict[str, str]:
        """Return {config: sha256} of the canonical nets that the host has by its own last word."""
        told = (self.mirror.node() or {"facts": {}})["facts"].get("nets")
        nets = told.items() if isinstance(told, dict) else ()  # what a host says is not to be trusted
        return {config: sha for config, sha in nets if isinstance(sha, str)}

    def submit_or_adopt(self, job: Job, *, anew: bool = False) -> Submitted:
        """Make sure that the work of ``job`` is wanted, under way or done; with ``anew`` done is not enough."""
        self.check_there()
        with self.mirror.at(job.job_id) as folder:
            status, request = self._status(job.job_id), read_json(folder / "request.json")
            same = request is not None and same_work(request["job"]["spec"], job.spec)
            if status.state is JobState.RUNNING and not same:
                raise conflict(job.job_id, self.name)
            if status.state is JobState.RUNNING or (status.state is JobState.DONE and same and not anew):
                return Submitted(job_id=job.job_id, adopted=True, attempt=status.attempt, state=status.state)
            number = 1 if request is None else int(request["number"]) + 1
            for name in ("report.json", "end.json"):
                (folder / name).unlink(missing_ok=True)
            write_json(
                folder / "request.json",
                {"number": number, "wanted": RUN, "job": job.model_dump(mode="json"), "at": time.time()},
            )
        return Submitted(job_id=job.job_id, adopted=False, attempt=number, state=JobState.RUNNING)

    def number(self, job_id: str) -> int:
        """Return which request for the job is in force, 0 without one."""
        request = self.mirror.request(job_id)
        return 0 if request is None else int(request["number"])

    def run_id(self, job_id: str) -> str:
        """Return the name of the request in force, unlike that of every other."""
        request = self.mirror.request(job_id)
        if request is None:
            raise NoSuchJobError(f"host {self.name}: no job {job_id}")
        return f"{job_id}__{request['number']}__{int(request['at'])}"

    def poll(self, job_id: str) -> JobStatus:
        """Look at a job. Raises ``HostHangsError`` while it is wanted and its host is not heard of."""
        status = self._status(job_id)
        if status.state is JobState.RUNNING and self.mirror.silent():
            raise HostHangsError(self.name, f"its Edge worker was heard of {self.mirror.silence() or 0.0:.0f} s ago")
        return status

    def _status(self, job_id: str) -> JobStatus:
        folder = self.mirror.job(job_id)
        request = read_json(folder / "request.json")
        if request is None:
            return _status(job_id, JobState.ABSENT, 0)
        number, end, report = int(request["number"]), read_json(folder / "end.json"), read_json(folder / "report.json")
        if end is not None and end["number"] == number:
            return JobStatus.model_validate(end["status"])
        if report is None or report["number"] != number:
            return _status(job_id, JobState.RUNNING, number)
        silence = time.time() - float(report["at"])
        if silence > EDGE.orphan_seconds and not self.mirror.silent():
            why = f"its Edge task was heard of {silence:.0f} s ago, its worker since; asked again, it is adopted there"
            return _status(job_id, JobState.DEAD, number, why)
        found = JobStatus.model_validate(report["status"])
        age = None if found.heartbeat_age is None else found.heartbeat_age + silence
        return found.model_copy(update={"state": JobState.RUNNING, "heartbeat_age": age})

    def log(self, job_id: str, offset: int = 0, limit: int = 1 << 16) -> LogPart:
        """Return the next part of what the job's host has sent of its log."""
        return LocalJobs(self.mirror.jobs).log(job_id, offset, limit)

    def kill(self, job_id: str) -> JobStatus:
        """End a job with all it started. Raises ``NoSuchJobError``, ``HostHangsError`` when its host does not do it."""
        with self.mirror.at(job_id) as folder:
            request = read_json(folder / "request.json")
            if request is None:
                raise NoSuchJobError(f"host {self.name}: no job {job_id}; see `ringrift jobs --host {self.name}`")
            write_json(folder / "request.json", request | {"wanted": KILL})
            status = self._status(job_id)
            if not status.over and not (folder / "report.json").exists():  # no worker has taken it: it never will
                write_json(folder / "end.json", {"number": request["number"], **_killed(job_id, request["number"])})
        deadline = time.monotonic() + HOSTS.submit_seconds
        while not (status := self._status(job_id)).over:
            if time.monotonic() > deadline or self.mirror.silent():
                raise HostHangsError(self.name, f"it has not ended {job_id} yet; it will once its worker is back")
            time.sleep(_POLL_SECONDS)
        return status

    def collect(self, job_id: str) -> dict[str, Any]:
        """Return the result of a job that is over, a gate's no included, or raise what it ended with."""
        status, end = self._status(job_id), self._end(job_id)
        if status.state is JobState.ABSENT:
            raise NoSuchJobError(f"host {self.name}: no job {job_id}")
        if end is None:
            raise JobNotFinishedError(f"host {self.name}: job {job_id} still runs, or nobody knows: {status.reason}")
        if (error := end.get("error")) is not None:
            raise self._error(error)
        return dict(end["result"])

    def _error(self, told: dict[str, Any]) -> RingRiftError:
        kind, message = KNOWN.get(str(told["type"])), for_host(self.name, str(told["message"]))
        if kind is not None:
            return kind(f"host {self.name}: {message}")
        code = ExitCode(int(told["code"])).value
        return HostAnswerError(self.name, f"{message} ({told['type']}, exit code {code})")

    def _end(self, job_id: str) -> dict[str, Any] | None:
        end = read_json(self.mirror.job(job_id) / "end.json")
        return end if end is not None and end["number"] == self.number(job_id) else None

    def spec(self, job_id: str) -> dict[str, Any] | None:
        """Return what the job was asked, None when it is absent."""
        request = self.mirror.request(job_id)
        return None if request is None else dict(request["job"]["spec"])

    def effects(self, job_id: str) -> list[dict[str, Any]]:
        """Return what the job's last attempt has for the ledger."""
        end = self._end(job_id)
        return [] if end is None else list(end["effects"])

    def files(self, job_id: str) -> dict[str, str]:
        """Return {path below the home: sha256} of what the job has made; the bytes are in the mirror."""
        end = self._end(job_id)
        return {} if end is None else dict(end["files"])

    def forget(self, job_id: str) -> None:
        """End the job if it runs, and forget it here."""
        status = self._status(job_id)
        if not status.over and status.state is not JobState.ABSENT:
            self.kill(job_id)
        # The number goes on: a task of an earlier request that is still under way must not be taken for a new one.
        with self.mirror.at(job_id) as folder:
            for name in ("report.json", "end.json", "log.txt"):
                (folder / name).unlink(missing_ok=True)
            number = self.number(job_id)
            if number:
                write_json(folder / "end.json", {"number": number, **_killed(job_id, number)})

    def set_aside(self, job_id: str, reason: str) -> None:
        """End the job if it runs, and keep its folder where no submission finds it, with the reason."""
        if self._status(job_id).state is JobState.ABSENT:
            return
        self.kill(job_id)
        kept = self.mirror.root / "_refused" / f"{job_id}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        kept.parent.mkdir(exist_ok=True)
        shutil.copytree(self.mirror.job(job_id), kept)
        write_json(kept / "reason.json", {"reason": reason, "at": datetime.now(UTC).isoformat(timespec="milliseconds")})
        self.forget(job_id)

    def all(self) -> list[str]:
        """Return the ids of all jobs that were ever wanted of the host, sorted."""
        return self.mirror.job_ids()

    def place(self, job_id: str) -> str:
        """Return where the job is known, for messages."""
        return f"{self.name} (as known in {self.mirror.job(job_id)})"


def _status(job_id: str, state: JobState, attempt: int, reason: str = "", code: int | None = None) -> JobStatus:
    return JobStatus(
        job_id=job_id, state=state, attempt=attempt, pid=None, raw_code=code, reason=reason, started=None, ended=None,
        heartbeat=None, heartbeat_age=None,
    )  # fmt: skip


def _killed(job_id: str, number: int) -> dict[str, Any]:
    status = _status(job_id, JobState.FAILED, number, KILLED, SIGNAL_BASE + SIGTERM)
    told = {"type": "JobFailedError", "message": f"job {job_id} {KILLED}", "code": int(ExitCode.INFRASTRUCTURE)}
    return {"status": status.model_dump(mode="json"), "error": told, "effects": [], "files": {}}
