"""What an Edge task does on its node: fetch what is wanted, run it by the node's own jobs, report, bring what was made.

Every step may be repeated at any moment and by two at once: a job is adopted by its name, files go by content, logs by
offset. The task that does this may die at any point; the next one goes on where things stand.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringrift_ops.errors import InfrastructureError, RingRiftError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.exchange import DamagedArrivalError, Exchange, segment, told
from ringrift_ops.hosts.jobs import EFFECTS_VARIABLE, Job, JobState, JobStatus, checked_job_id, same_work
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.settings import EDGE, HOSTS, RETENTION
from ringrift_ops.stages.curves import curves_folder
from ringrift_ops.stages.placement import batch_path, checkpoints_of, outputs_of
from ringrift_ops.stages.specs import RESULTS, SPECS, DistributeSpec, SelfplaySpec, Stage, StageSpec, TrainSpec
from ringrift_ops.store import MissingObjectError, atomic_write, sha256_file

CHECKPOINT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""Of a file in a training's folder of checkpoints or curves."""
CURVES = "curves"

BROUGHT = "brought"
"""In a job's folder: the leader has what came of it, since this file was last written."""

_LOOK_SECONDS = 0.5


class GivenUpError(InfrastructureError):
    """The leader no longer waits for this job under this task's number; another task, or another host, has it."""


class StrangeInputError(UsageError):
    """The leader names a place outside the home for a file."""


def stage_of(job: Job) -> Stage:
    """Return the stage that a job runs: the verb in its command."""
    return Stage(job.argv[3])


def kept_folders(home: Home, spec: StageSpec) -> dict[str, str]:
    """Return {kind: folder below the home} of what a running training writes and its leader keeps a copy of."""
    folder = checkpoints_of(home, spec)
    if folder is None or not isinstance(spec, TrainSpec):
        return {}
    return {"checkpoints": folder, CURVES: home.relative(curves_folder(home, spec))}


def spec_of(job: Job) -> StageSpec:
    """Return what a job's stage is asked."""
    return SPECS[stage_of(job)].model_validate(job.spec)


@dataclass
class Carrier:
    """Does one request on this node. ``say``: takes lines for the task's log."""

    exchange: Exchange
    home: Home
    job_id: str
    number: int
    say: Callable[[str], object]
    _beaten: float = field(default=-EDGE.beat_seconds)
    _kept: float = field(default_factory=time.monotonic)
    _logged: int = 0
    _killed: bool = False

    @property
    def _at(self) -> str:
        return f"/nodes/{segment(self.exchange.node)}/jobs/{checked_job_id(self.job_id)}"

    @property
    def jobs(self) -> LocalJobs:
        return LocalJobs(self.home.jobs)

    def carry(self) -> dict[str, Any]:
        """Run the job to its end, and bring what it made; return {"state", "files"}.

        Raises :class:`GivenUpError`, the errors of the exchange, and those of a node that cannot start the job; what
        the job itself ended with is the controller's to raise.
        """
        asked = self.exchange.ask("GET", self._at, patience=EDGE.patience_seconds)
        if asked["number"] != self.number or asked["over"]:
            self.say(f"{self.job_id}: request {self.number} is no longer waited for")
            return {"state": "given up", "files": {}}
        job = Job.model_validate(asked["job"])
        spec = spec_of(job)
        self._fetch(asked, spec)
        self._submit(job, spec)
        status = self._follow(spec)
        return self._bring(job, status)

    # --- there -----------------------------------------------------------------------------------

    def _fetch(self, asked: dict[str, Any], spec: StageSpec) -> None:
        running = self.jobs.poll(self.job_id).state is JobState.RUNNING
        if running:
            return
        atomic_write(self.home.settings_file, str(asked["settings"]).encode())
        again = isinstance(spec, DistributeSpec) and spec.force
        for one in asked["inputs"]:
            self._fetch_one(str(one["path"]), str(one["sha"]), mode=0o444, force=again)
        folder = checkpoints_of(self.home, spec)
        here = None if folder is None else self.home.resolve(folder)
        # A chain that this node has itself is at least as long as the leader's copy of it.
        if here is not None and not (here.is_dir() and any(here.iterdir())):
            for one in asked["checkpoints"]:
                if not CHECKPOINT_NAME.fullmatch(str(one["name"])):
                    raise StrangeInputError(f"{one['name']!r} is not the name of a checkpoint's file")
                self._fetch_one(f"{folder}/{one['name']}", str(one["sha"]), mode=0o644)

    def _fetch_one(self, path: str, sha: str, *, mode: int, force: bool = False) -> None:
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise StrangeInputError(f"the leader names {path!r} as an input: not a path below a home")
        target = self.home.resolve(path)
        if self.exchange.fetch(f"{self._at}/inputs/{sha}", target, sha, self._wait, mode=mode, force=force):
            self.say(f"fetched {path}")

    def _submit(self, job: Job, spec: StageSpec) -> None:
        there = self.jobs.spec(self.job_id)
        if there is not None and isinstance(spec, DistributeSpec):
            # One name for all nets of a config: what is over says nothing of how the link stands now.
            running = self.jobs.poll(self.job_id).state is JobState.RUNNING
            if not (running and same_work(there, job.spec)):
                self.jobs.forget(self.job_id)
        fenced = there is not None and there.get("token") != spec.token
        if fenced and self.jobs.poll(self.job_id).state is JobState.RUNNING:  # all that it makes would be refused
            self.jobs.kill(self.job_id)
        own = {"RINGRIFT_HOME": str(self.home.root), EFFECTS_VARIABLE: "effects.jsonl"}
        here = job.model_copy(update={"argv": (sys.executable, *job.argv[1:]), "env": job.env | own})
        submitted = self.jobs.submit_or_adopt(here)
        self.say(f"{self.job_id}: {'adopted' if submitted.adopted else 'started'}, attempt {submitted.attempt}")

    # --- while it runs ---------------------------------------------------------------------------

    def _wait(self) -> None:
        """Say that work goes on before there is a job to report: files are under way."""
        status = self.jobs.poll(self.job_id)
        if status.state is not JobState.RUNNING:
            status = status.model_copy(update={"state": JobState.RUNNING, "started": None, "reason": ""})
        self._report(status)

    def _follow(self, spec: StageSpec) -> JobStatus:
        while True:
            status = self.jobs.poll(self.job_id)
            if self._log():
                continue
            if status.over:
                return status
            self._report(status)
            self._keep(spec)
            time.sleep(_LOOK_SECONDS)

    def _report(self, status: JobStatus) -> None:
        if time.monotonic() - self._beaten < EDGE.beat_seconds:
            return
        body = {"number": self.number, "status": status.model_dump(mode="json")}
        wanted = self.exchange.ask("POST", f"{self._at}/report", body, patience=EDGE.patience_seconds)["wanted"]
        self._beaten = time.monotonic()
        if wanted == "kill" and not self._killed:
            self._killed = True
            self.say(f"{self.job_id}: the leader wants it ended")
            if self.jobs.poll(self.job_id).state is JobState.RUNNING:
                self.jobs.kill(self.job_id)
        elif not wanted:
            raise GivenUpError(
                f"{self.job_id}: the leader no longer waits for request {self.number}; whoever has the job now minds it"
            )

    def _log(self) -> bool:
        part = self.jobs.log(self.job_id, self._logged)
        if not part.text:
            return False
        for line in part.text.splitlines():
            self.say(line)
        answer = self.exchange.put(f"{self._at}/log", part.text.encode(), offset=part.offset)
        # What another task of this job has brought is not brought again; what the leader lacks is.
        self._logged = part.next_offset if int(answer["have"]) >= part.next_offset else int(answer["have"])
        return True

    def _keep(self, spec: StageSpec) -> None:
        if time.monotonic() - self._kept >= HOSTS.checkpoint_seconds:
            self._kept = time.monotonic()
            for kind in kept_folders(self.home, spec):
                self._send(spec, kind)

    def _send(self, spec: StageSpec, kind: str) -> None:
        """Bring the leader a copy of one of :func:`kept_folders`."""
        folder = kept_folders(self.home, spec)[kind]
        # The training went on, or ended; the copy of before will do until the next.
        with suppress(FileNotFoundError, MissingObjectError, DamagedArrivalError):
            here = self.home.resolve(folder)
            names = {
                one.name: sha256_file(one) for one in sorted(here.iterdir()) if CHECKPOINT_NAME.fullmatch(one.name)
            }
            for name, sha in names.items():
                self.exchange.bring(f"{self._at}/outputs/{sha}", here / name, sha, self._wait)
            if names:
                body = {"number": self.number, "files": names}
                self.exchange.ask("POST", f"{self._at}/{kind}", body, patience=EDGE.patience_seconds)

    # --- back ------------------------------------------------------------------------------------

    def _bring(self, job: Job, status: JobStatus) -> dict[str, Any]:
        end: dict[str, Any] = {"effects": [], "files": {}}
        try:
            found = self.jobs.collect(self.job_id)
        except RingRiftError as error:
            end["error"] = told(error)
        else:
            end["result"], end["effects"] = found, self.jobs.effects(self.job_id)
            for path, _ in outputs_of(RESULTS[stage_of(job)].model_validate(found)):
                source = self.home.resolve(path)
                sha = sha256_file(source)
                self.exchange.bring(f"{self._at}/outputs/{sha}", source, sha, lambda: self._report(_running(status)))
                end["files"][path] = sha
        spec = spec_of(job)
        if CURVES in kept_folders(self.home, spec):
            self._send(spec, CURVES)
        body = {"number": self.number, "end": end | {"status": status.model_dump(mode="json")}}
        self.exchange.ask("POST", f"{self._at}/end", body, patience=EDGE.patience_seconds)
        self.say(f"{self.job_id}: {status.state.value}, {len(end['files'])} files brought")
        (self.jobs.folder(self.job_id) / BROUGHT).touch()
        self._clear_away()
        return {"state": status.state.value, "files": end["files"]}

    def _clear_away(self) -> None:
        """Remove this node's job folders that the leader took in long ago, and the games that they made.

        Nothing goes where a leader's own home is this node's.
        """
        if self.home.edge.is_dir():
            return
        for job_id in self.jobs.all():
            brought = self.jobs.folder(job_id) / BROUGHT
            with suppress(FileNotFoundError):
                if time.time() - brought.stat().st_mtime < RETENTION.job_days * 86_400:
                    continue
                spec, status = self.jobs.spec(job_id) or {}, self.jobs.poll(job_id)
                if status.over:
                    if "shard" in spec:
                        batch_path(self.home, SelfplaySpec.model_validate(spec)).unlink(missing_ok=True)
                    self.jobs.forget(job_id)
                    self.say(f"{job_id}: brought more than {RETENTION.job_days:g} days ago, removed here")


def _running(status: JobStatus) -> JobStatus:
    return status.model_copy(update={"state": JobState.RUNNING, "raw_code": None, "ended": None})
