"""Where everything stands: 12 configs by 7 stages, what holds each, the nets in force, this machine (R1, R2).

One look at the ledger, the heartbeats of the jobs that run, and what the caller knows of Airflow. No game database and
no net is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ringrift_ops.home import Home
from ringrift_ops.hosts.jobs import JobStatus, command_about
from ringrift_ops.ledger import ConfigStanding, Event, GenerationState, Incident, Ledger, StageRun
from ringrift_ops.ledger.promotion import evidence
from ringrift_ops.operations import idle
from ringrift_ops.operations.control import first_stage
from ringrift_ops.operations.disk import pressure
from ringrift_ops.operations.idle import Facts, Idle, Why, stamp
from ringrift_ops.operations.surroundings import AirflowFacts, Machine
from ringrift_ops.operations.waiting import Waiting, waiting
from ringrift_ops.settings import OPERATIONS, Settings, config_named, stage_named
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Stage

RUNBOOK_NAMES: Mapping[Stage, str] = {stage: stage.value for stage in Stage} | {Stage.GAUNTLET: "evaluate"}
"""What the runbooks' own dictionaries call the stages."""


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` ``unit`` at ``rate`` per second; ``total`` and ``rate`` None where they are not known."""

    phase: str
    done: float
    total: float | None
    unit: str
    rate: float | None


@dataclass(frozen=True)
class Cell:
    """One stage of one config. ``status``: running, completed, failed, skipped, waiting, or idle."""

    stage: Stage
    status: str
    error: str | None
    started_at: datetime | None
    ended_at: datetime | None
    run_id: str | None
    jobs: list[str]
    progress: Progress | None
    idle: Idle | None
    """Why it does not run; None when it does."""

    @property
    def completed(self) -> bool:
        return self.status == "completed"


@dataclass(frozen=True)
class Champion:
    """The net in force, what it was promoted on, and since when."""

    sha: str
    since: datetime
    age_seconds: float
    kind: str
    reason: str
    evidence: str
    gate_version: str | None
    waivers: list[dict[str, Any]]


@dataclass(frozen=True)
class GenerationRow:
    """Where a config's generation stands. ``generation``: its number, None before it was granted the lease;
    ``waiting``: runs in the line.
    """

    config: str
    generation: int | None
    generation_id: int | None
    run_id: str | None
    state: str
    outcome: str | None
    reason: str | None
    lease: str
    waiting: int
    rows: int
    new_rows: int
    last_training: datetime | None


@dataclass(frozen=True)
class ConfigStatus(GenerationRow):
    """One config: its generation, the net in force, and its stages."""

    champion: Champion | None
    stages: list[Cell]

    def cell(self, stage: Stage) -> Cell:
        """Return the cell of a stage."""
        return next(one for one in self.stages if one.stage is stage)


@dataclass(frozen=True)
class Status:
    """The whole, at one moment. ``airflow`` None: the platform does not run."""

    at: datetime
    configs: list[ConfigStatus]
    waiting: list[Waiting]
    machine: Machine
    jobs: list[str]
    disk_pressure: str | None
    """Why nothing that fills the disk is started; None when it may be."""
    warnings: list[str]
    """Settings that are allowed but likely a mistake."""
    airflow: AirflowFacts | None
    recent_events: list[Event]
    incidents: list[Incident]
    """Those that are not closed, newest first."""


def status(
    home: Home,
    settings: Settings,
    ledger: Ledger,
    airflow: AirflowFacts | None,
    config: str | None = None,
    now: datetime | None = None,
) -> Status:
    """Return where everything stands, or one config; raises ``UnknownConfigError``."""
    with ledger.one_moment():
        hosting = Hosting(home, ledger)
        facts = Facts(settings, airflow, Machine.here(home), hosting.inventory, now or datetime.now(UTC))
        key = None if config is None else config_named(config).key
        configs = [config_status(standing, facts, hosting) for standing in ledger.standings(key)]
        return Status(
            at=facts.now,
            configs=configs,
            waiting=waiting(ledger, key, facts.now),
            machine=facts.machine,
            jobs=[job for one in configs for cell in one.stages if cell.status == "running" for job in cell.jobs],
            disk_pressure=pressure(facts.machine, Stage.TRAIN, settings.profile(configs[0].config)),
            warnings=settings.warnings,
            airflow=airflow,
            recent_events=ledger.events(config=key, limit=OPERATIONS.recent_events),
            incidents=[one for one in ledger.incidents(unclosed=True) if key in (None, one.config)],
        )


def stage_status(found: Status) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {config: {stage: {completed, status, error, started_at, ended_at, run_id, ...}}}, the shape of R1."""
    return {one.config: {RUNBOOK_NAMES[cell.stage]: cell_shape(cell) for cell in one.stages} for one in found.configs}


def cell_of(found: Status, config: str, stage: str) -> Cell:
    """Return one cell; raises ``UnknownConfigError``, ``UnknownStageError`` with the valid names (R2)."""
    key, wanted = config_named(config).key, stage_named(stage)
    return next(one for one in found.configs if one.config == key).cell(wanted)


def cell_shape(cell: Cell) -> dict[str, Any]:
    """Return a cell with the keys that the runbooks read, moments as ISO text."""
    return {
        "completed": cell.completed,
        "status": cell.status,
        "error": cell.error,
        "started_at": None if cell.started_at is None else cell.started_at.isoformat(),
        "ended_at": None if cell.ended_at is None else cell.ended_at.isoformat(),
        "run_id": cell.run_id,
        "progress": None if cell.progress is None else vars(cell.progress),
        "reason": None if cell.idle is None else cell.idle.reason,
        "why": None if cell.idle is None else cell.idle.why.value,
        "change": None if cell.idle is None else cell.idle.change,
        "until": None if cell.idle is None or cell.idle.until is None else cell.idle.until.isoformat(),
    }


def config_status(standing: ConfigStanding, facts: Facts, hosting: Hosting) -> ConfigStatus:
    """Return where one config stands; ``hosting`` knows where its jobs run."""
    found, champion = standing.generation, None
    if standing.canonical is not None and standing.promotion is not None:
        moved = standing.promotion
        champion = Champion(
            sha=standing.canonical.sha,
            since=standing.canonical.moved_at,
            age_seconds=(facts.now - standing.canonical.moved_at).total_seconds(),
            kind=moved.kind,
            reason=moved.reason,
            evidence=evidence(moved.counts) or "none",
            gate_version=moved.gate_version,
            waivers=standing.waivers,
        )
    return ConfigStatus(
        config=standing.config,
        generation=None if found is None else found.number,
        generation_id=None if found is None else found.id,
        run_id=None if found is None else found.run_id,
        state="idle" if found is None else found.state.value,
        outcome=None if found is None or found.outcome is None else found.outcome.value,
        reason=None if found is None else found.reason,
        lease=idle.lease_line(standing.lease, facts.now),
        waiting=len(standing.line),
        rows=standing.rows.usable,
        new_rows=standing.rows.new,
        last_training=standing.last_training,
        champion=champion,
        stages=_cells(standing, facts, hosting),
    )


def _cells(standing: ConfigStanding, facts: Facts, hosting: Hosting) -> list[Cell]:
    found = standing.generation
    run_id = None if found is None else found.run_id
    by_stage: dict[str, list[StageRun]] = {}
    for run in standing.runs:
        by_stage.setdefault(run.stage, []).append(run)
    everywhere = (
        idle.why_no_run(standing, facts) or idle.why_waiting(standing, facts) or idle.why_stopped(standing, facts)
    )
    cells: list[Cell] = []
    earlier: Stage | None = None
    order = list(Stage)
    first = (None if run_id is None else first_stage(run_id)) or order[0]
    for stage in order:
        runs = by_stage.get(stage.value, [])
        cell = _with_runs(stage, runs, standing, facts, hosting, run_id, everywhere) if runs else None
        if cell is None:
            later = any(by_stage.get(one.value) for one in order[order.index(stage) + 1 :])
            passed_over = later or order.index(stage) < order.index(first)
            cell = _without_runs(stage, standing, facts, run_id, everywhere, earlier, passed_over=passed_over)
        if cell.status in ("running", "failed", "waiting") and earlier is None:
            earlier = stage
        cells.append(cell)
    return cells


def _with_runs(
    stage: Stage, runs: list[StageRun], standing: ConfigStanding, facts: Facts, hosting: Hosting, run_id: str | None,
    everywhere: Idle | None,
) -> Cell:  # fmt: skip
    assert standing.generation is not None
    states = {run.state for run in runs}
    state = "running" if "running" in states else "failed" if "failed" in states else "completed"
    errors = [run.error for run in runs if run.error is not None]
    ended = [run.finished_at for run in runs if run.finished_at is not None]
    looked = [(hosting.look(run.host, run.job_id), run.host) for run in runs if run.job_id and run.state == "running"]
    profile = facts.profile(standing.generation)
    why: Idle | None
    if state == "completed":
        why = idle.why_approval(standing, runs[0], facts) or everywhere or Idle(
            Why.DONE, f"done at {stamp(max(ended))}", "the next generation"
        )  # fmt: skip
    elif state == "failed":
        change = f"`ringrift recover {standing.config}`"
        bad = next(run for run in runs if run.state == "failed")
        if bad.job_id is not None:
            change = f"`{command_about(bad.job_id, bad.host, '--logs')}`, then {change}"
        failed = Idle(Why.FAILED, errors[0] if errors else "no reason given", change)
        why = idle.why_breaker(stage, standing, facts) or failed
    else:
        silent = (idle.why_silent(one, host, profile, facts.now) for one, host in looked)
        why = everywhere or next((one for one in silent if one is not None), None)
    return Cell(
        stage=stage,
        status=state,
        error=errors[0] if errors else None,
        started_at=min(run.started_at for run in runs),
        ended_at=max(ended) if len(ended) == len(runs) else None,
        run_id=run_id,
        jobs=[run.job_id for run in runs if run.job_id is not None],
        progress=_progress([one for one, _ in looked], facts.now),
        idle=why,
    )


def _without_runs(
    stage: Stage, standing: ConfigStanding, facts: Facts, run_id: str | None, everywhere: Idle | None,
    earlier: Stage | None, *, passed_over: bool,
) -> Cell:  # fmt: skip
    found = standing.generation
    running = found is not None and found.state is GenerationState.RUNNING
    state = "waiting"
    if passed_over:
        state, why = "skipped", Idle(Why.SKIPPED, "its run was not asked for this stage", "another run")
    elif (held := idle.why_breaker(stage, standing, facts)) is not None:
        state, why = ("waiting" if found is not None and found.finished_at is None else "idle"), held
    elif everywhere is not None:
        state, why = ("waiting" if running else "idle"), everywhere
        if found is not None and found.state is GenerationState.WAITING:
            state = "waiting"
    elif earlier is not None:
        why = Idle(Why.EARLIER, f"waits for {earlier.value}", f"{earlier.value} ends")
    else:
        why = idle.why_not_yet(stage, standing, facts)
    return Cell(
        stage=stage, status=state, error=None, started_at=None, ended_at=None,
        run_id=run_id if state != "idle" else None, jobs=[], progress=None, idle=why,
    )  # fmt: skip


def _progress(polled: list[JobStatus], now: datetime) -> Progress | None:
    """Return how far the jobs of a stage are together; None before their first heartbeat."""
    beats = [one.heartbeat for one in polled if one.heartbeat is not None]
    if not beats:
        return None
    done = sum(float(beat.get("done") or 0) for beat in beats)
    totals = [beat.get("total") for beat in beats]
    begun = [datetime.fromisoformat(one.started) for one in polled if one.started is not None]
    seconds = (now - min(begun)).total_seconds() if begun else 0.0
    return Progress(
        phase=str(beats[0].get("phase") or ""),
        done=done,
        total=None if None in totals else sum(float(total) for total in totals if total is not None),
        unit=str(beats[0].get("unit") or ""),
        rate=done / seconds if done and seconds > 0 else None,
    )
