"""What alerts and metrics are judged by: one look at the ledger, the jobs that run, and this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ringrift_ops.home import Home
from ringrift_ops.hosts.facts import gpus
from ringrift_ops.hosts.jobs import JobStatus
from ringrift_ops.ledger import FAILURES, ConfigStanding, Event, EventType, GenerationState, Ledger, Wait
from ringrift_ops.operations.surroundings import AirflowFacts, Machine
from ringrift_ops.settings import Settings
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Stage

SUCCESSES: Mapping[Stage, tuple[EventType, ...]] = {
    Stage.SELFPLAY: (EventType.SELFPLAY_COMPLETED,),
    Stage.PARITY: (EventType.PARITY_VALIDATION_COMPLETED,),
    Stage.EXPORT: (EventType.EXPORT_COMPLETED,),
    Stage.TRAIN: (EventType.TRAINING_COMPLETED,),
    Stage.GAUNTLET: (EventType.EVALUATION_COMPLETED,),
    Stage.PROMOTE: (EventType.MODEL_PROMOTED, EventType.MODEL_PROMOTION_FAILED),
    Stage.DISTRIBUTE: (EventType.MODEL_DISTRIBUTED,),
}
"""The events that say that a stage has done its work; a gate's no is work done."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

Latest = Mapping[tuple[str, str], datetime]


@dataclass(frozen=True)
class Use:
    """How much of something there is in use. ``where``: the machine; ``what``: memory, disk, gpu0 memory; bytes."""

    where: str
    what: str
    used: float
    total: float

    @property
    def share(self) -> float:
        return self.used / self.total if self.total else 0.0


@dataclass(frozen=True)
class Observed:
    """The facts of one moment; ``latest``: when (event type, config) last happened; ``scheduled``: configs that
    should run by themselves.
    """

    now: datetime
    standings: list[ConfigStanding] = field(default_factory=list)
    jobs: Mapping[str, JobStatus] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    """{job: its host}, for those of the newest generations, and trainings that failed, that are not here"""
    failures: list[Event] = field(default_factory=list)
    """of stages, the last hour's"""
    opens: list[Event] = field(default_factory=list)
    """BREAKER_OPENED, the last day's"""
    latest: Latest = field(default_factory=dict)
    failing_since: Mapping[tuple[str, Stage], datetime] = field(default_factory=dict)
    """the first failure of a (config, stage) after its last success"""
    waits: list[Wait] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    scheduled: frozenset[str] = frozenset()

    def success(self, config: str, stage: Stage) -> datetime | None:
        """Return when a stage of a config last did its work."""
        found = [self.latest[kind, config] for kind in SUCCESSES[stage] if (kind, config) in self.latest]
        return max(found, default=None)


def observe(
    home: Home, settings: Settings, ledger: Ledger, airflow: AirflowFacts | None, now: datetime | None = None
) -> Observed:
    """Look; of Airflow only what is paused is used, and nothing counts as paused when it is not known."""
    moment = now or datetime.now(UTC)
    hosting = Hosting(home, ledger)
    standings = ledger.standings()
    failures = ledger.events(types=list(FAILURES.values()), since=moment - HOUR)
    jobs = {}
    for one in standings:
        for run in one.runs:
            watched = run.state == "running" or (run.stage == Stage.TRAIN and run.host is None)
            if run.job_id is not None and watched:
                jobs[run.job_id] = hosting.look(run.host, run.job_id)
    counted = ledger.latest_events(list(EventType))
    latest = {key: at for key, (at, _) in counted.items()}
    paused = set() if airflow is None else {dag for dag, is_paused in airflow.paused.items() if is_paused}
    return Observed(
        now=moment,
        standings=standings,
        jobs=jobs,
        hosts=_hosts(ledger, standings, failures),
        failures=failures,
        opens=ledger.events(types=[EventType.BREAKER_OPENED], since=moment - DAY),
        latest=latest,
        failing_since=_failing_since(ledger, latest),
        waits=ledger.waits(),
        uses=[*_of_machine(Machine.here(home))],
        scheduled=frozenset(
            key for key in settings.configs if settings.profile(key).schedule_ticks and key not in paused
        ),
    )


def _hosts(ledger: Ledger, standings: list[ConfigStanding], failures: list[Event]) -> dict[str, str]:
    runs = [run for one in standings for run in one.runs]
    newest = {one.generation.id for one in standings if one.generation is not None}
    failed = {one.generation for one in failures if one.type == EventType.TRAINING_FAILED and one.generation}
    for generation in failed - newest:
        runs += ledger.stage_runs(generation, Stage.TRAIN.value)
    return {run.job_id: run.host for run in runs if run.job_id is not None and run.host is not None}


def _failing_since(ledger: Ledger, latest: Latest) -> dict[tuple[str, Stage], datetime]:
    found = {}
    for stage, kind in FAILURES.items():
        for failed, config in latest:
            if failed != kind:
                continue
            done = [latest[good, config] for good in SUCCESSES[stage] if (good, config) in latest]
            last = max(done, default=None)
            if last is None or latest[kind, config] > last:
                after = ledger.events(types=[kind], config=config, since=last)
                found[config, stage] = min(one.at for one in after)
    return found


def _of_machine(machine: Machine) -> list[Use]:
    cards = [card for card in gpus() if card.get("memory_total")]
    return [
        Use(machine.name, "memory", machine.memory - machine.memory_free, machine.memory),
        Use(machine.name, "disk", machine.disk - machine.disk_free, machine.disk),
        *(
            Use(machine.name, f"gpu{number} memory", card["memory_used"] * 2.0**20, card["memory_total"] * 2.0**20)
            for number, card in enumerate(cards)
            if card["memory_used"] is not None
        ),
    ]


def progress_of(standing: ConfigStanding, seen: Observed) -> datetime | None:
    """Return when a config under way last moved: an event, a stage's start or end, a heartbeat; None without one."""
    mine = standing.generation
    if mine is None or mine.state not in (GenerationState.RUNNING, GenerationState.WAITING):
        return None
    moments = [mine.created_at, *([mine.granted_at] if mine.granted_at is not None else [])]
    moments += [at for (_, config), at in seen.latest.items() if config == standing.config]
    for run in standing.runs:
        moments += [run.started_at, *([run.finished_at] if run.finished_at is not None else [])]
        beat = None if run.job_id is None or run.job_id not in seen.jobs else seen.jobs[run.job_id].heartbeat
        if beat is not None:
            moments.append(datetime.fromisoformat(str(beat["t"])))
    return max(moments)
