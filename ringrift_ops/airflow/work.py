"""One stage of one generation as a task does it: take up, submit or adopt, follow, verify, record.

Knows nothing of Airflow. Every step may be repeated at any moment: what exists is returned, what runs is adopted, and
what carries an old fencing token is ended and begun anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from ringrift_ops.airflow.outcome import outcome_of, outcome_without_lease
from ringrift_ops.airflow.verifying import collected, verify
from ringrift_ops.errors import GateError, InfrastructureError, NoDataError, RingRiftError
from ringrift_ops.home import Home
from ringrift_ops.hosts.errors import HostError, UnreachableHostError, UntrustedHostError
from ringrift_ops.hosts.jobs import JobState, JobStatus, Submitted, Transport, job_id_of, stage_job
from ringrift_ops.ledger import (
    BEGINNINGS,
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
from ringrift_ops.operations import breakers, disk, readiness
from ringrift_ops.operations.jobs import last_lines
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.operations.stalls import is_stalled
from ringrift_ops.settings import HOSTS, OPERATIONS, PROFILE_VARIABLE, ProfileRow, Settings
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.moving import Twice
from ringrift_ops.stages.placement import NoFittingHostError
from ringrift_ops.stages.plan import Plan
from ringrift_ops.stages.specs import (
    SPECS,
    SelfplaySpec,
    Sha256,
    Stage,
    StageSpec,
    TrainSpec,
)

if TYPE_CHECKING:
    from ringrift_ops.operations.control import Controls

SHOWN_LINES = 10_000
"""Of a job's log in the log of the task that was not there while it grew."""
RENEW_SECONDS = 60.0
"""How often a task that follows a job renews the generation's lease."""


SAYS_NO = frozenset({Stage.GAUNTLET, Stage.PROMOTE})
"""Stages whose verb ends with 1 or 3 and a whole result: the measurement is done, its answer is no."""


class StalledError(InfrastructureError):
    """A job has shown no sign of life for longer than its profile allows."""


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
        """Return {"rows", "new_rows"} when the config has games enough to train on (see ``readiness``), else None."""
        return readiness.enough_games(self.ledger, self.generation.config, self.profile, fresh=fresh)

    # --- one stage -----------------------------------------------------------------------------------

    def taken_up(self, stage: Stage, shard: int = 0) -> dict[str, Any] | None:
        """Return the result that exists already, None when the stage is still to be done."""
        return self.ledger.stage_result(self.generation.id, stage.value, shard)

    def forget(self, stages: Iterable[Stage], token: int, run_id: str) -> None:
        """Drop what this generation has of ``stages``, jobs too, so that they are done anew: once per forced run.

        It is on record when all of it is done: cut short, it is done again from its beginning.
        """
        forced = self.ledger.events(types=[EventType.GENERATION_FORCED], generation=self.generation.id)
        if any(event.payload["run_id"] == run_id for event in forced):
            return
        asked = list(stages)
        for stage in asked:
            for run in self.ledger.stage_runs(self.generation.id, stage.value):
                for host in run.hosts:
                    self.hosting.jobs(host).forget(self.job_id(stage, run.shard))
            self.ledger.forget_stage(self.generation.id, stage.value, token)
        self._event(EventType.GENERATION_FORCED, {"run_id": run_id, "stages": [stage.value for stage in asked]})
        self._show()

    def submit(self, stage: Stage, token: int, shard: int = 0) -> str:
        """Make sure that the stage's job is under way (or done) under ``token``, on its host; return its id.

        A shard of self-play waits for a busy host that will be done sooner than a free one, by their measured rates. A
        host that cannot take it gives it to the next, unless the job may be running there already: then it is waited
        for until it answers or is lost. Raises what the last host refused with, or that none fits; that is the stage's
        error, unless its job may be running.
        """
        before = self._run(stage, shard)
        try:
            return self._submit(stage, token, shard, before)
        except (HostError, NoFittingHostError, UntrustedHostError) as error:
            if before is None or before.state != "running":
                self._failed(stage, token, shard, error)
                self._show()
            raise

    def _submit(self, stage: Stage, token: int, shard: int, before: StageRun | None) -> str:
        job_id = self.job_id(stage, shard)
        try:
            spec = self._spec(stage, token, shard)
        except NoDataError as error:
            self._refused(stage, token, shard, error)
            raise
        state = self.look(stage, shard).state
        if before is not None and before.second is not None and state not in (JobState.RUNNING, JobState.DONE):
            before = self.ledger.settle(before, before.second, token)  # it may be under way there
            state = self.look(stage, shard).state
        if state not in (JobState.RUNNING, JobState.DONE):
            self._admit(stage, token, shard)
        slots, leave, begins = self.hosting.slots(stage, spec), None, before is None or not before.spec
        if before is not None and before.host is not None:
            from ringrift_ops.operations.remedies import next_hosts

            slots, leave = next_hosts(self._controls, before, slots)
        while True:
            try:
                run = self._start(stage, shard, spec, slots, leave, begins=begins)
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
                if not slots or (known and not (self.hosting.lost(error) and self._may_leave(before, slots))):
                    raise
                leave = error.host
            else:
                break
        if stage in BEGINNINGS and not submitted.adopted:
            event, facts = BEGINNINGS[stage]
            told = {"job_id": job_id, "attempt": submitted.attempt} | {name: run.spec[name] for name in facts}
            self._event(event, told)
        self._show()
        return job_id

    def _may_leave(self, before: StageRun | None, others: list[Slot]) -> bool:
        from ringrift_ops.operations.remedies import may_leave

        return before is not None and may_leave(self._controls, before, others)

    @property
    def _controls(self) -> Controls:
        from ringrift_ops.operations.control import Controls

        return Controls(self.home, self.settings, self.ledger, None)

    def _start(
        self, stage: Stage, shard: int, spec: StageSpec, slots: Sequence[Slot], leave: str | None, *, begins: bool
    ) -> StageRun:
        """Note the start, its host with it; a training that begins takes the batch size that the host allows."""

        def asked(host: str | None) -> dict[str, Any]:
            return (self.hosting.fitted(spec, host) if begins else spec).model_dump(mode="json")

        return self.ledger.start_stage(
            self.generation.id, stage.value, shard, asked, spec.token,
            job_id=self.job_id(stage, shard), slots=slots, leave=leave, waiting=self._waiting(stage),
        )  # fmt: skip

    def _waiting(self, stage: Stage) -> int:
        """Return how many shards of a stage wait for a host, the one that asks among them."""
        return max(1, self._unbegun(stage)) if stage is Stage.SELFPLAY else 1

    def _unbegun(self, stage: Stage) -> int:
        begun = [run for run in self.ledger.stage_runs(self.generation.id, stage.value) if run.state != "failed"]
        return len(self.plan.shards) - len(begun)

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
        """Return what the stage is asked; a stage under way keeps what it was asked first.

        A training that failed keeps its batch size, unless the settings now say a smaller one: it is the same training.
        """
        run = self._run(stage, shard)
        if run is not None and run.state == "running":
            return SPECS[stage].model_validate(run.spec | {"token": token})
        spec = self.plan.spec(stage, token, shard)
        if isinstance(spec, TrainSpec) and run is not None and run.spec:
            spec = spec.model_copy(update={"batch_size": min(spec.batch_size, run.spec["batch_size"])})
        return spec

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

    def said(self, stage: Stage, shard: int = 0) -> list[str]:
        """Return the last lines of the log of a stage's job, over all its attempts."""
        return last_lines(self.jobs(stage, shard), self.job_id(stage, shard), SHOWN_LINES)

    def twice(
        self,
        stage: Stage,
        shard: int,
        token: int,
        say: Callable[[str], object] = lambda _: None,
        call: Callable[[str], object] = lambda _: None,
        failed: Iterable[str] = (),
    ) -> Twice[StageRun] | None:
        """Return who begins a shard a second time where it would be over sooner; None when that cannot be.

        ``call`` (host) calls one of role edge; ``failed``: hosts on which that came to nothing.
        """
        run = self._run(stage, shard)
        if stage is not Stage.SELFPLAY or run is None or run.host is None:
            return None
        spec = SelfplaySpec.model_validate(run.spec)

        def submit(host: str) -> None:
            self._submit_to(host, stage, spec, self.job_id(stage, shard))
            call(host)

        def slots() -> Sequence[Slot]:
            return [] if self._unbegun(stage) else self.hosting.slots(stage, spec)

        return Twice(self.hosting, run, spec, slots, submit, say, token, set(failed))

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
        run = self._run(stage, shard)
        for host in [None] if run is None else run.hosts:
            self.hosting.end(host, self.job_id(stage, shard))

    def keep_checkpoint(self, stage: Stage, shard: int = 0) -> None:
        """Copy a running training's checkpoints from its host, so that it can go on elsewhere."""
        run = self._run(stage, shard)
        if stage is Stage.TRAIN and run is not None and run.host is not None:
            self.hosting.keep_checkpoint(run.host, SPECS[stage].model_validate(run.spec))

    def complete(self, stage: Stage, token: int, shard: int = 0) -> dict[str, Any]:
        """Return the result of the stage's job, brought here, verified and recorded; raises what the job ended with."""
        job_id, host, run = self.job_id(stage, shard), self.host(stage, shard), self._run(stage, shard)
        noted = None if run is None else run.spec
        try:
            spec, result = self.hosting.patiently(
                partial(collected, self.hosting, stage, host, job_id, token, noted), partial(self.renew, token)
            )
            verify(self.home, spec, result, self._done(Stage.SELFPLAY))
        except RingRiftError as error:
            self._failed(stage, token, shard, error, self.look(stage, shard).attempt)
            breakers.note(self.ledger, self.generation.config, stage, error)
            self._show()
            raise
        plain = result.model_dump(mode="json")
        self.ledger.record_stage_result(self.generation.id, stage.value, shard, spec, plain, token, job_id=job_id)
        breakers.note(self.ledger, self.generation.config, stage, None)
        self._show()
        return plain

    def _failed(self, stage: Stage, token: int, shard: int, error: RingRiftError, attempt: int = 0) -> None:
        """Note why a stage failed; ``attempt`` 0: no job of it began."""
        self.ledger.record_stage_error(self.generation.id, stage.value, shard, str(error), token)
        payload = {"job_id": self.job_id(stage, shard), "attempt": attempt, "error": str(error)}
        self._event(FAILURES[stage], payload)

    # --- the end -------------------------------------------------------------------------------------

    def finish(self, stages: Iterable[Stage]) -> Generation:
        """Close the generation with what its ``stages`` came to, free the lease, and return it.

        A generation that never had its turn is taken out of the line; one that lost its lease is closed as it stands.
        """
        found = self.ledger.generation(self.generation.id)
        if found.state is GenerationState.FINISHED:
            return found
        lease = self.grant() if found.state is GenerationState.RUNNING else None
        if lease is None and found.granted_at is None:
            return self.ledger.withdraw_generation(found.id, "its run ended before its turn came")
        self._end_jobs()
        if lease is None:
            outcome, reason = outcome_without_lease(self.ledger, found, self.ledger.stage_runs(found.id), list(stages))
            finished = self.ledger.withdraw_generation(found.id, reason, outcome=outcome)
        else:
            outcome, reason = self.outcome(stages)
            finished = self.ledger.finish_generation(found.id, outcome, reason, lease.token)
        self._show()
        return finished

    def _end_jobs(self) -> None:
        """End what still runs for this generation: its tasks are over, nobody would collect it."""
        for run in self.ledger.stage_runs(self.generation.id):
            if run.job_id is None or (run.state == "done" and run.host is not None):
                continue
            for host in run.hosts:
                with suppress(UnreachableHostError):  # what runs there is ended by the reaper once the host is back
                    self.hosting.end(host, run.job_id)

    def outcome(self, stages: Iterable[Stage]) -> tuple[Outcome, str]:
        """Return how the generation stands when nothing more is done: outcome and reason."""
        return outcome_of(self.ledger.stage_runs(self.generation.id), list(stages))

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
