"""What operators start, stop, reset and recover. Every change has an actor, a reason, and an audit row before it.

Nothing here passes over parity, a gate, or the fencing: ``force`` does work anew and does not wait for the cooldown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol

from ringrift_ops.errors import GateError, InfrastructureError, NoDataError
from ringrift_ops.home import Home
from ringrift_ops.ledger import GenerationState, Ledger, generation_lease
from ringrift_ops.operations import breakers
from ringrift_ops.operations.by import By
from ringrift_ops.operations.idle import stamp
from ringrift_ops.operations.logs import write_logs
from ringrift_ops.operations.readiness import cools_until
from ringrift_ops.settings import Settings, config_named, profile_named, stage_named
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Stage

UNDER_WAY = ("queued", "running")
"""In this order: a run that goes from one to the other between two looks is seen twice, not missed."""

STUCK = ("failed", "upstream_failed", "up_for_retry", "restarting", "removed")


class PlatformNotRunningError(InfrastructureError):
    """A run is to be started or changed, and no Airflow runs that could."""


class CooldownError(GateError):
    """A training is asked for too soon after the last one."""

    def __init__(self, config: str, until: datetime) -> None:
        super().__init__(
            f"{config}: the last training has just ended; the next may begin at {stamp(until)}; wait, or train all the "
            f"same with `ringrift trigger {config} train --force --reason WHY`"
        )
        self.until = until


class NothingToRecoverError(NoDataError):
    """A config has no run that could be recovered."""


class Airflow(Protocol):
    """What is needed of Airflow; ``platform.api.Api`` is it."""

    def unpause(self, dag_id: str) -> None: ...
    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str: ...
    def runs(self, dag_id: str, **query: object) -> list[dict[str, Any]]: ...
    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]: ...
    def end_run(self, dag_id: str, run_id: str) -> None: ...
    def clear(self, dag_id: str, run_id: str, task_ids: list[str]) -> None: ...


def under_way(airflow: Airflow, config: str, **query: object) -> list[dict[str, Any]]:
    """Return the runs of a config that are under way, each once: those that run first, the newest of them first."""
    found = {str(run["dag_run_id"]): run for state in UNDER_WAY for run in airflow.runs(config, state=state, **query)}
    return sorted(found.values(), key=lambda run: run["state"] != "running")


def meant_run(airflow: Airflow, ledger: Ledger, config: str) -> str | None:
    """Return the run that is to be mended, None before the first.

    Of those under way the one that holds the lease, else the newest that runs; else the newest of all.
    """
    lease, found = ledger.lease(generation_lease(config)), under_way(airflow, config)
    holds = [run for run in found if lease is not None and run["dag_run_id"] == lease.holder]
    meant = next(iter(holds or found or airflow.runs(config, limit=1)), None)
    return None if meant is None else str(meant["dag_run_id"])


@dataclass(frozen=True)
class Controls:
    """The home that is controlled, and its Airflow: None when the platform does not run."""

    home: Home
    settings: Settings
    ledger: Ledger
    airflow: Airflow | None

    @property
    def hosting(self) -> Hosting:
        return Hosting(self.home, self.ledger)

    def running_airflow(self) -> Airflow:
        """Return Airflow; raises :class:`PlatformNotRunningError`."""
        if self.airflow is None:
            raise PlatformNotRunningError(f"the platform of {self.home.root} does not run; start it with `ringrift up`")
        return self.airflow

    def show(self) -> None:
        """Bring the files that people read up to date."""
        self.ledger.write_pipeline_state(self.home.pipeline_state)
        write_logs(self.home, self.ledger)


@dataclass(frozen=True)
class Started:
    """A run that was started, or that was under way with the same wishes already."""

    run_id: str
    new: bool


def start(controls: Controls, by: By, config: str, profile: str | None = None) -> Started:
    """Start a whole generation of a config; one that somebody started and that is under way is returned (R5).

    Raises ``UnknownConfigError``, ``UnknownProfileError``, :class:`PlatformNotRunningError`.
    """
    return _start(controls, by, "start", config, list(Stage), force=False, profile=profile)


def trigger(
    controls: Controls,
    by: By,
    config: str,
    stage: str,
    *,
    force: bool = False,
    following: bool = False,
    profile: str | None = None,
) -> Started:
    """Start a run limited to a stage (and, with ``following``, to what follows) (R3).

    ``force`` does it anew although it is there and does not wait for the cooldown; it needs a reason and passes over
    neither parity nor a gate nor a breaker. Raises :class:`CooldownError`, ``BreakerOpenError``,
    ``MissingReasonError``, ``UnknownConfigError``, ``UnknownStageError``, :class:`PlatformNotRunningError`.
    """
    key, first = config_named(config).key, stage_named(stage)
    order = list(Stage)
    stages = order[order.index(first) :] if following else [first]
    if force:
        by.needs_reason(f"forcing {first.value} of {key}")
    for one in stages:
        breakers.admit(controls.ledger, key, one)
    if Stage.TRAIN in stages and not force:
        _refuse_in_cooldown(controls, key, profile)
    return _start(controls, by, "trigger", key, stages, force=force, profile=profile)


def _refuse_in_cooldown(controls: Controls, config: str, profile: str | None) -> None:
    until = cools_until(controls.ledger, config, controls.settings.profile(config, profile))
    if until is not None:
        raise CooldownError(config, until)


def _start(
    controls: Controls, by: By, verb: str, config: str, stages: Sequence[Stage], *, force: bool, profile: str | None
) -> Started:
    key = config_named(config).key
    row = profile_named(profile or controls.settings.default_profile)
    return start_run(
        controls, by, verb, key, {"profile": row, "stages": [stage.value for stage in stages], "force": force}
    )


def start_run(controls: Controls, by: By, verb: str, key: str, conf: dict[str, Any]) -> Started:
    """Start a run of a config with these params, unless one with the same is under way."""
    airflow = controls.running_airflow()
    others = {str(run["dag_run_id"]): run.get("conf") for run in under_way(airflow, key, run_type="manual")}
    for run_id, wishes in others.items():
        if wishes == conf:
            return Started(run_id, new=False)
    stamped = run_id_of(verb, conf["stages"][0], datetime.now(UTC))
    # Another request of the same second has other wishes, and a run of its own.
    run_id = next(one for n in count(1) if (one := stamped if n == 1 else f"{stamped}-{n}") not in others)
    by.audited(controls.ledger, verb, key, run_id=run_id, **conf)
    airflow.unpause(key)
    return Started(airflow.trigger(key, conf, run_id), new=True)


def run_id_of(verb: str, stage: str, now: datetime) -> str:
    """Return the id of a run that ``verb`` starts at ``stage``."""
    return f"{verb}__{stage}__{now:%Y-%m-%dT%H:%M:%S}"


def first_stage(run_id: str) -> Stage | None:
    """Return the stage that a run of this id was started at; None where its id does not say (a schedule, the UI)."""
    parts = run_id.split("__")
    return Stage(parts[1]) if len(parts) == 3 and parts[1] in list(Stage) else None


@dataclass(frozen=True)
class Reset:
    """What a reset cleared: runs that were ended, jobs, the holder of the lease, generations, stages, breakers."""

    config: str
    runs: list[str]
    jobs: list[str]
    lease: str | None
    generations: list[int]
    stages: int
    breakers: list[str]


def reset(controls: Controls, by: By, config: str) -> Reset:
    """End what is under way of a config and clear its failed state, lease and breakers; every artifact stays (R4).

    Nothing to clear changes nothing. Raises ``UnknownConfigError``.
    """
    key, ledger = config_named(config).key, controls.ledger
    reason = by.reason or "reset"
    by.audited(ledger, "reset", key)
    runs = [] if controls.airflow is None else _end_runs(controls.airflow, key)
    jobs = end_jobs(controls, key)
    lease = ledger.force_release_lease(generation_lease(key), reason=reason, actor=by.actor)
    withdrawn = [
        ledger.withdraw_generation(one.id, f"reset by {by.actor}: {reason}").id
        for state in (GenerationState.RUNNING, GenerationState.WAITING)
        for one in ledger.generations(key, state=state)
    ]
    found = Reset(
        config=key,
        runs=runs,
        jobs=jobs,
        lease=None if lease is None else lease.holder,
        generations=withdrawn,
        stages=ledger.clear_unfinished_stages(key),
        breakers=[one.action for one in breakers.close(ledger, by, None, key)],
    )
    controls.show()
    return found


def _end_runs(airflow: Airflow, config: str) -> list[str]:
    """End all runs under way, those that would begin next first, until there is no other; return their ids."""
    ended: list[str] = []
    while fresh := [one for run in under_way(airflow, config) if (one := str(run["dag_run_id"])) not in ended]:
        for run_id in reversed(fresh):
            airflow.end_run(config, run_id)
            ended.append(run_id)
    return ended


def end_jobs(controls: Controls, config: str, stage: Stage | None = None) -> list[str]:
    """End the running jobs of a config's generations (of one stage) and return their ids; they can be resumed.

    Raises ``UnreachableHostError`` where one may be running on a host that does not answer.
    """
    ended, hosting = [], controls.hosting
    for generation in controls.ledger.generations(config, state=GenerationState.RUNNING) + controls.ledger.generations(
        config, state=GenerationState.WAITING
    ):
        for run in controls.ledger.stage_runs(generation.id, None if stage is None else stage.value):
            if run.state != "done" and run.job_id is not None:
                ended += [run.job_id for host in run.hosts if hosting.end(host, run.job_id)]
    return ended


@dataclass(frozen=True)
class Recovery:
    """The run that is taken up again, and the tasks that were stuck in it with their states."""

    config: str
    run_id: str
    tasks: dict[str, str]
    done: bool


def recover(controls: Controls, by: By, config: str, *, dry_run: bool = False) -> Recovery:
    """Let the stuck tasks of a config's run, and all after them, be done again (R29).

    The run is that of :func:`meant_run`. What exists is taken up, jobs that run are adopted. Stuck are tasks that
    failed, and those that wait while nobody's lease is in force. Raises :class:`NothingToRecoverError`,
    :class:`PlatformNotRunningError`, ``UnknownConfigError``.
    """
    key, airflow = config_named(config).key, controls.running_airflow()
    run_id = meant_run(airflow, controls.ledger, key)
    if run_id is None:
        raise NothingToRecoverError(f"{key}: there is no run yet; `ringrift start {key}`")
    lease = controls.ledger.lease(generation_lease(key))
    held = lease is not None and lease.holder is not None and lease.expires_at > datetime.now(UTC)
    stuck_states = STUCK if held else (*STUCK, "deferred")
    stuck = {
        str(task["task_id"]): str(task["state"])
        for task in airflow.tasks(key, run_id)
        if task["state"] in stuck_states and task["task_id"] != "finish"
    }
    if not stuck:
        raise NothingToRecoverError(
            f"{key}: run {run_id} has no stuck task; `ringrift status {key}` shows what it does"
        )
    if not dry_run:
        by.audited(controls.ledger, "recover", key, run_id=run_id, tasks=stuck)
        first = [name for name, state in stuck.items() if state != "upstream_failed"]
        airflow.clear(key, run_id, first or list(stuck))
        controls.show()
    return Recovery(key, run_id, stuck, done=not dry_run)
