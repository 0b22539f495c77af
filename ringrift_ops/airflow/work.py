"""One stage of one generation as a task does it: take up, submit or adopt, follow, verify, record.

Knows nothing of Airflow. Every step may be repeated at any moment: what exists is returned, what runs is adopted, and
what carries an old fencing token is ended and begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import ValidationError

from ringrift_ops.airflow.verifying import NoEvidenceError, WrongResultError, verify
from ringrift_ops.errors import GateError, InfrastructureError, NoDataError, RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts.errors import UnreachableHostError
from ringrift_ops.hosts.jobs import JobState, JobStatus, JobWithoutDataError, Submitted, Transport, job_id_of, stage_job
from ringrift_ops.ledger import (
    FAILURES,
    BetterHostError,
    Condition,
    EventType,
    Generation,
    GenerationState,
    Lease,
    Ledger,
    Outcome,
    Slot,
    StageRun,
    generation_lease,
)
from ringrift_ops.operations import breakers, disk
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.operations.stalls import is_stalled
from ringrift_ops.settings import HOSTS, OPERATIONS, PROFILE_VARIABLE, ProfileRow, Settings
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.plan import Plan
from ringrift_ops.stages.specs import (
    RESULTS,
    SPECS,
    Frozen,
    Sha256,
    Stage,
    StageSpec,
    TrainSpec,
    Verdict,
)

RENEW_SECONDS = 60.0
"""How often a task that follows a job renews the generation's lease."""


SAYS_NO = frozenset({Stage.GAUNTLET, Stage.PROMOTE})
"""Stages whose verb ends with 1 or 3 and a whole result: the measurement is done, its answer is no."""


class StalledError(InfrastructureError):
    """A job has shown no sign of life for longer than its profile allows."""


class LostJobError(InfrastructureError):
    """A job is gone and has left no result; submitted again, it resumes."""


@dataclass(frozen=True)
class Work:
    """The generation of one run, and the means to do its stages."""

    home: Home
    settings: Settings
    ledger: Ledger
    generation: Generation
    candidate: Sha256 | None = None
    games: int | None = None
    hosting: Hosting = field(kw_only=True)

    @classmethod
    def of_run(
        cls,
        config: str,
        logical_date: datetime | None,
        run_id: str,
        run_after: datetime,
        profile: str,
        candidate: Sha256 | None = None,
        games: int | None = None,
    ) -> Work:
        """Return the work of a run; its generation is made when there is none yet."""
        home = Home.find()
        settings = Settings.load(home)
        ledger = Ledger.open(settings.ledger_url)
        generation = ledger.ensure_generation(config, logical_date, run_id, run_after, profile)
        return cls(home, settings, ledger, generation, candidate, games, hosting=Hosting(home, ledger))

    @property
    def plan(self) -> Plan:
        """What the stages are asked; the generation is read anew, because its parent comes with the first grant."""
        generation = self.ledger.generation(self.generation.id)
        return Plan(self.ledger, self.settings, generation, self.candidate, self.games)

    @property
    def profile(self) -> ProfileRow:
        return self.settings.profile(self.generation.config, self.generation.profile)

    def host(self, stage: Stage, shard: int = 0) -> str | None:
        """Return the host that a stage was placed on, None for this machine."""
        run = self._run(stage, shard)
        return None if run is None else run.host

    def jobs(self, stage: Stage, shard: int = 0) -> Transport:
        """Return the jobs of the machine that a stage was placed on."""
        return self.hosting.jobs(self.host(stage, shard))

    def look(self, stage: Stage, shard: int = 0) -> JobStatus:
        """Return how a stage's job stands; while its host is away it counts as running."""
        return self.hosting.look(self.host(stage, shard), self.job_id(stage, shard))

    def job_id(self, stage: Stage, shard: int = 0) -> str:
        shown = shard if stage is Stage.SELFPLAY else None
        return job_id_of(self.generation.config, self.generation.id, stage.value, shown)

    # --- the lease -----------------------------------------------------------------------------------

    def grant(self) -> Lease | None:
        """Return the generation's lease when it is its turn (renewed when it has it already), else None."""
        return self.ledger.try_grant_generation(self.generation.id)

    def renew(self, token: int) -> None:
        """Keep the lease; raises ``StaleTokenError`` when somebody else has it."""
        self.ledger.renew_lease(generation_lease(self.generation.config), token)

    def waits_for(self, condition: str) -> None:
        """Say that the generation's run waits, or still waits, for ``condition`` (a ``Condition``'s value)."""
        self.ledger.note_wait(self.generation.id, self.generation.config, Condition(condition))

    def goes_on(self, condition: str) -> None:
        """Say that the generation's run no longer waits for ``condition``."""
        self.ledger.end_wait(self.generation.id, Condition(condition))

    # --- the games -----------------------------------------------------------------------------------

    def enough_games(self, *, fresh: bool) -> dict[str, int] | None:
        """Return {"rows", "new_rows"} when the config has games enough to train on, else None.

        Enough is the window's minimum; with ``fresh`` there must also be rows that no training has seen, and the
        config's last training must be as long ago as the profile's cooldown says.
        """
        config, row = self.generation.config, self.profile
        rows, new = self.ledger.usable_rows(config), self.ledger.new_rows(config)
        if rows < row.window_minimum_rows:
            return None
        if fresh and (new == 0 or self._cooling(row.cooldown_seconds)):
            return None
        return {"rows": rows, "new_rows": new}

    def _cooling(self, seconds: float) -> bool:
        last = self.ledger.events(types=[EventType.TRAINING_COMPLETED], config=self.generation.config, limit=1)
        return bool(last) and datetime.now(UTC) - last[-1].at < timedelta(seconds=seconds)

    # --- one stage -----------------------------------------------------------------------------------

    def taken_up(self, stage: Stage, shard: int = 0) -> dict[str, Any] | None:
        """Return the result that exists already, None when the stage is still to be done."""
        return self.ledger.stage_result(self.generation.id, stage.value, shard)

    def forget(self, stages: Iterable[Stage], token: int) -> None:
        """Drop what this generation has of ``stages``, jobs too, so that they are done anew (``force``)."""
        for stage in stages:
            for run in self.ledger.stage_runs(self.generation.id, stage.value):
                self.hosting.jobs(run.host).forget(self.job_id(stage, run.shard))
            self.ledger.forget_stage(self.generation.id, stage.value, token)
        self._show()

    def submit(self, stage: Stage, token: int, shard: int = 0) -> str:
        """Make sure that the stage's job is under way (or done) under ``token``, on its host; return its id.

        A shard of self-play waits for a busy host that will be done sooner than a free one, by their measured rates. A
        host that cannot take it gives it to the next, unless the job may be running there already: then it is waited
        for until it answers or is lost. Raises what the last host refused with.
        """
        job_id, before = self.job_id(stage, shard), self._run(stage, shard)
        try:
            spec = self._spec(stage, token, shard)
        except NoDataError as error:
            self._refused(stage, token, shard, error)
            raise
        if self.look(stage, shard).state not in (JobState.RUNNING, JobState.DONE):
            self._admit(stage, token, shard)
        slots = self.hosting.slots(stage, spec)
        leave = before.host if before is not None and before.host and self.hosting.is_lost(before.host) else None
        if before is not None and (better := self._roomier(before, slots)):
            slots, leave = better, before.host
        while True:
            try:
                run = self._start(stage, shard, spec, slots, leave)
            except BetterHostError:
                self.renew(token)
                time.sleep(HOSTS.poll_seconds)
                continue
            known = before is not None and before.host == run.host
            asked = SPECS[stage].model_validate(run.spec)
            step = partial(self._submit_to, run.host, stage, asked, job_id)
            try:
                submitted = self.hosting.patiently(step, partial(self.renew, token)) if known else step()
            except UnreachableHostError as error:
                slots = [slot for slot in slots if slot.host != error.host]
                if not slots or (known and not self.hosting.lost(error)):
                    raise
                leave = error.host
            else:
                break
        if stage is Stage.TRAIN and not submitted.adopted:
            payload = {"job_id": job_id, "attempt": submitted.attempt}
            payload |= {key: run.spec[key] for key in ("dataset", "parent")}
            self._event(EventType.TRAINING_STARTED, payload)
        if stage is Stage.GAUNTLET and not submitted.adopted:
            payload = {"job_id": job_id, "attempt": submitted.attempt}
            payload |= {key: run.spec[key] for key in ("candidate", "previous")}
            self._event(EventType.EVALUATION_STARTED, payload)
        self._show()
        return job_id

    def _roomier(self, before: StageRun, slots: Sequence[Slot]) -> list[Slot]:
        """The hosts that a training which ran out of memory moves to (R39)."""
        if before.state != "failed" or before.stage != Stage.TRAIN.value or before.host is None:
            return []
        from ringrift_ops.operations.control import Controls
        from ringrift_ops.operations.remedies import more_memory

        return more_memory(Controls(self.home, self.settings, self.ledger, None), before, list(slots))

    def _start(self, stage: Stage, shard: int, spec: StageSpec, slots: Sequence[Slot], leave: str | None) -> StageRun:
        """Note the start, its host with it; a training that begins takes the batch size that the host allows."""
        begun = self._run(stage, shard)

        def note(asked: StageSpec) -> StageRun:
            return self.ledger.start_stage(
                self.generation.id, stage.value, shard, asked.model_dump(mode="json"), asked.token,
                job_id=self.job_id(stage, shard), slots=slots, leave=leave, waiting=self._waiting(stage),
            )  # fmt: skip

        run = note(spec)
        fitted = self.hosting.fitted(spec, run.host)
        return run if begun is not None or fitted == spec else note(fitted)

    def _waiting(self, stage: Stage) -> int:
        """Return how many shards of a stage have not begun."""
        begun = [run for run in self.ledger.stage_runs(self.generation.id, stage.value) if run.state != "failed"]
        return max(1, len(self.plan.shards) - len(begun)) if stage is Stage.SELFPLAY else 1

    def _submit_to(self, host: str | None, stage: Stage, spec: StageSpec, job_id: str) -> Submitted:
        jobs = self.hosting.jobs(host)
        self._end_fenced(jobs, job_id, spec.token)
        if host is not None and jobs.poll(job_id).state is not JobState.RUNNING:
            self.hosting.bring(host, spec)
        job = stage_job(
            stage.value,
            spec,
            job_id=job_id,
            timeout_seconds=spec.total_seconds if isinstance(spec, TrainSpec) else self.profile.task_timeout_seconds,
            phase_seconds=spec.epoch_seconds if isinstance(spec, TrainSpec) else None,
            env=self.hosting.environment(host) | {PROFILE_VARIABLE: self.profile.name},
            python=self.hosting.python(host),
        )
        return jobs.submit_or_adopt(job)

    def _admit(self, stage: Stage, token: int, shard: int) -> None:
        """Let a job begin; what holds it back is the stage's error, so that the generation ends with that reason."""
        try:
            breakers.admit(self.ledger, self.generation.config, stage)
            disk.admit(self.home, self.generation.config, stage, self.profile)
        except GateError as error:
            self._refused(stage, token, shard, error)
            raise

    def _refused(self, stage: Stage, token: int, shard: int, error: RingRiftError) -> None:
        """Note why a stage is not started, for whoever looks."""
        self.ledger.record_stage_error(self.generation.id, stage.value, shard, str(error), token)
        self._show()

    def _spec(self, stage: Stage, token: int, shard: int) -> StageSpec:
        """Return what the stage is asked; a stage under way keeps what it was asked first."""
        run = self._run(stage, shard)
        if run is not None and run.state == "running":
            return SPECS[stage].model_validate(run.spec | {"token": token})
        return self.plan.spec(stage, token, shard)

    def _end_fenced(self, jobs: Transport, job_id: str, token: int) -> None:
        """End a running job of an earlier token: everything it makes would be refused."""
        if jobs.poll(job_id).state is JobState.RUNNING and (jobs.spec(job_id) or {}).get("token") != token:
            jobs.kill(job_id)

    def stalled(self, stage: Stage, status: JobStatus, shard: int = 0) -> bool:
        """Return whether a running job has been silent for too long; before it has done anything it may take longer.

        Its heartbeat looks old as well when a clock jumps: it is silent only when none comes while somebody looks.
        """
        deadline = time.monotonic() + OPERATIONS.confirm_seconds
        while is_stalled(status, self.profile):
            if time.monotonic() > deadline:
                return True
            time.sleep(1.0)
            status = self.look(stage, shard)
        return False

    def follow(self, stage: Stage, token: int, say: Callable[[str], object], shard: int = 0) -> None:
        """Wait until the stage's job is over; its log goes to ``say`` line by line, the lease is kept.

        Raises :class:`StalledError` (the job is ended first) and ``StaleTokenError`` (so is it then).
        """
        host, job_id = self.host(stage, shard), self.job_id(stage, shard)
        jobs = self.hosting.jobs(host)
        offset, rest, renewed, pause = 0, "", time.monotonic(), 0.1
        while True:
            status, text = self.hosting.look(host, job_id), ""
            with suppress(UnreachableHostError):  # the next look says what that means
                part = jobs.log(job_id, offset)
                offset, text = part.next_offset, part.text
            *lines, rest = (rest + text).split("\n")
            for line in lines:
                say(line)
            if status.over and not text:
                if rest:
                    say(rest)
                return
            if self.stalled(stage, status, shard):
                self.end_stalled(stage, shard)
            if time.monotonic() - renewed > RENEW_SECONDS:
                self._renew_or_end(stage, token, shard)
                renewed = time.monotonic()
            if not text:
                time.sleep(pause)
                pause = min(pause * 1.5, 1.0)

    def _renew_or_end(self, stage: Stage, token: int, shard: int) -> None:
        try:
            self.renew(token)
        except GateError:
            self.end(stage, shard)
            raise

    def end_stalled(self, stage: Stage, shard: int = 0) -> None:
        """End a silent job and raise :class:`StalledError`."""
        jobs, job_id = self.jobs(stage, shard), self.job_id(stage, shard)
        jobs.kill(job_id)
        raise StalledError(
            f"job {job_id} showed no sign of life for {self.profile.stall_seconds} s and was ended; "
            f"submitted again, it resumes. Log: {jobs.place(job_id)}/log.txt"
        )

    def end(self, stage: Stage, shard: int = 0) -> None:
        """End the stage's job if it runs: its task was marked, cleared or ran over its time."""
        self.hosting.end(self.host(stage, shard), self.job_id(stage, shard))

    def keep_checkpoint(self, stage: Stage, shard: int = 0) -> None:
        """Copy a running training's checkpoints from its host, so that it can go on elsewhere."""
        run = self._run(stage, shard)
        if stage is Stage.TRAIN and run is not None and run.host is not None:
            self.hosting.keep_checkpoint(run.host, SPECS[stage].model_validate(run.spec))

    def complete(self, stage: Stage, token: int, shard: int = 0) -> dict[str, Any]:
        """Return the result of the stage's job, brought here, verified and recorded; raises what the job ended with."""
        job_id, host = self.job_id(stage, shard), self.host(stage, shard)
        try:
            spec, result = self.hosting.patiently(
                partial(self._collect, stage, host, job_id, token), partial(self.renew, token)
            )
            verify(self.home, spec, result, self._done(Stage.SELFPLAY))
        except RingRiftError as error:
            self.ledger.record_stage_error(self.generation.id, stage.value, shard, str(error), token)
            attempt = self.look(stage, shard).attempt
            self._event(FAILURES[stage], {"job_id": job_id, "attempt": attempt, "error": str(error)})
            breakers.note(self.ledger, self.generation.config, stage, error)
            self._show()
            raise
        plain = result.model_dump(mode="json")
        self.ledger.record_stage_result(self.generation.id, stage.value, shard, spec, plain, token, job_id=job_id)
        breakers.note(self.ledger, self.generation.config, stage, None)
        self._show()
        return plain

    def _collect(self, stage: Stage, host: str | None, job_id: str, token: int) -> tuple[dict[str, Any], Frozen]:
        """Return (spec, result) of the stage's job, whose files are here and of which the ledger knows."""
        status = self.hosting.look(host, job_id)
        if status.state is JobState.DEAD:
            raise LostJobError(f"job {job_id} is gone: {status.reason}; submitted again, it resumes")
        self.hosting.keep_log(host, stage, status)
        jobs = self.hosting.jobs(host)
        try:
            found = jobs.collect(job_id)
        except JobWithoutDataError as error:
            if stage is Stage.GAUNTLET:
                raise NoEvidenceError(f"{Verdict.NO_EVIDENCE.value}: {error.said}") from error
            raise
        try:
            result, spec = RESULTS[stage].model_validate(found), jobs.spec(job_id) or {}
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise WrongResultError(f"job {job_id} left no result of a {stage.value}: {wrong}") from error
        asked = SPECS[stage].model_validate(spec)
        self.hosting.keep_rate(host, asked, status)
        self.hosting.take(host, job_id, result, asked, token)
        return spec, result

    # --- the end -------------------------------------------------------------------------------------

    def finish(self, stages: Iterable[Stage]) -> Generation:
        """Close the generation with what its ``stages`` came to, free the lease, and return it.

        A generation that never had its turn is taken out of the line.
        """
        found = self.ledger.generation(self.generation.id)
        if found.state is GenerationState.FINISHED:
            return found
        lease = self.grant() if found.state is GenerationState.RUNNING else None
        if lease is None:
            return self.ledger.withdraw_generation(found.id, "its run ended before its turn came")
        self._end_jobs()
        outcome, reason = self.outcome(stages)
        finished = self.ledger.finish_generation(found.id, outcome, reason, lease.token)
        self._show()
        return finished

    def _end_jobs(self) -> None:
        """End what still runs for this generation: its tasks are over, nobody would collect it."""
        for run in self.ledger.stage_runs(self.generation.id):
            if run.job_id is None or (run.state == "done" and run.host is not None):
                continue
            with suppress(UnreachableHostError):  # what runs there is ended by the reaper once the host is back
                self.hosting.end(run.host, run.job_id)

    def outcome(self, stages: Iterable[Stage]) -> tuple[Outcome, str]:
        """Return how the generation stands when nothing more is done: outcome and reason."""
        asked = list(stages)
        runs = self.ledger.stage_runs(self.generation.id)
        failed = [run for run in runs if run.state == "failed"]
        for run in failed:
            error = run.error or "no reason given"
            if run.stage == Stage.GAUNTLET and error.startswith(Verdict.NO_EVIDENCE):
                return Outcome.NO_EVIDENCE, error.partition(": ")[2]
            return Outcome.ERROR, f"{run.stage}: {error}"
        done = {run.stage: run for run in runs if run.state == "done"}
        judged = done.get(Stage.GAUNTLET)
        if judged is not None and judged.result is not None and judged.result["verdict"] == Verdict.FAIL:
            return Outcome.FAIL, str(judged.result["reason"])
        promoted = done.get(Stage.PROMOTE)
        kept_back = promoted is not None and promoted.result is not None and not promoted.result["promoted"]
        missing = [stage.value for stage in asked if stage.value not in done]
        if missing and not (kept_back and missing == [Stage.DISTRIBUTE.value]):
            return Outcome.ERROR, f"its run ended before {missing[0]} was done"
        if judged is not None and judged.result is not None:
            return Outcome.PASS, str(judged.result["reason"])
        return Outcome.PARTIAL, f"asked for {', '.join(asked)} only"

    # --- small things --------------------------------------------------------------------------------

    def _run(self, stage: Stage, shard: int) -> StageRun | None:
        runs = self.ledger.stage_runs(self.generation.id, stage.value)
        return next((run for run in runs if run.shard == shard), None)

    def _done(self, stage: Stage) -> list[StageRun]:
        return [run for run in self.ledger.stage_runs(self.generation.id, stage.value) if run.state == "done"]

    def _event(self, event: EventType, payload: dict[str, Any]) -> None:
        self.ledger.record_event(event, self.generation.config, self.generation.id, payload)

    def _show(self) -> None:
        self.ledger.write_pipeline_state(self.home.pipeline_state)
        write_logs(self.home, self.ledger)
