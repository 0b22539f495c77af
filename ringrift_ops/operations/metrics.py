"""The platform's figures in Prometheus' text format (0.0.4), from the same look as the alerts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from ringrift_ops.home import Home
from ringrift_ops.ledger import FAILURES, GenerationState, Ledger
from ringrift_ops.operations.alerts import Rule, firing
from ringrift_ops.operations.incidents import evaluated_at
from ringrift_ops.operations.observed import Observed, observe, progress_of
from ringrift_ops.operations.surroundings import AirflowFacts
from ringrift_ops.settings import LEVELS, Settings
from ringrift_ops.stages.curriculum import weights
from ringrift_ops.stages.specs import Stage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PREFIX = "ringrift_"


@dataclass
class Metric:
    """One gauge and its samples: ({label: value}, number)."""

    name: str
    help: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        self.samples.append((labels, value))

    def lines(self) -> Iterator[str]:
        name = PREFIX + self.name
        yield f"# HELP {name} {self.help}"
        yield f"# TYPE {name} gauge"
        for labels, value in self.samples:
            shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
            yield f"{name}{{{shown}}} {value:.16g}" if shown else f"{name} {value:.16g}"


def exposition(
    home: Home, settings: Settings, ledger: Ledger, airflow: AirflowFacts | None, now: datetime | None = None
) -> str:
    """Return every metric as text that Prometheus reads; ends with a newline. No game database is opened."""
    seen = observe(home, settings, ledger, airflow, now)
    metrics = [*_of_configs(seen), *_of_stages(seen), *_of_alerts(seen, ledger), *_of_machine(seen, airflow)]
    moved = Metric("curriculum_weight", "Share of games of a config, 1 is the profile's")
    for config, weight in weights(ledger.promotion_kinds()).items():
        moved.add(weight, config=config)
    return "".join(f"{line}\n" for metric in (*metrics, moved) if metric.samples for line in metric.lines())


def _of_configs(seen: Observed) -> list[Metric]:
    number = Metric("generation", "Number of the newest generation of a config")
    running = Metric("generation_running", "Whether a generation of a config runs")
    waiting = Metric("generations_waiting", "Generations in the line of a config")
    rows = Metric("rows", "Rows (moves) whose parity passed, by whether a net was trained on them")
    champion = Metric("champion_age_seconds", "Since the net in force was promoted")
    stall = Metric("pipeline_stall_seconds", "Since a config under way last moved (R8)")
    training = Metric("last_training_timestamp_seconds", "When a config's last training ended")
    for one in seen.standings:
        mine, config = one.generation, one.config
        if mine is not None and mine.number is not None:
            number.add(mine.number, config=config)
        running.add(mine is not None and mine.state is GenerationState.RUNNING, config=config)
        waiting.add(len(one.line), config=config)
        rows.add(one.rows.new, config=config, state="new")
        rows.add(one.rows.usable - one.rows.new, config=config, state="trained")
        if one.canonical is not None:
            champion.add((seen.now - one.canonical.moved_at).total_seconds(), config=config)
        if (moved := progress_of(one, seen)) is not None:
            stall.add((seen.now - moved).total_seconds(), config=config)
        if one.last_training is not None:
            training.add(one.last_training.timestamp(), config=config)
    return [number, running, waiting, rows, champion, stall, training]


def _of_stages(seen: Observed) -> list[Metric]:
    failures = Metric("stage_failures", "Failures of a stage within the last hour (R8)")
    opens = Metric("circuit_breaker_opens", "Openings of a breaker within the last day (R8)")
    is_open = Metric("circuit_breaker_open", "Whether the breaker of a stage is open")
    success = Metric("stage_last_success_timestamp_seconds", "When a stage of a config last did its work (F15)")
    jobs = Metric("jobs_running", "Jobs that count as running, by stage")
    for one in seen.standings:
        config = one.config
        broken = {breaker.action for breaker in one.breakers if breaker.state == "open"}
        for stage in Stage:
            labels = {"config": config, "stage": stage.value}
            mine = [event for event in seen.failures if event.config == config and event.type == FAILURES[stage]]
            opened = [event for event in seen.opens if event.config == config and event.payload["action"] == stage]
            failures.add(len(mine), **labels)
            opens.add(len(opened), **labels)
            is_open.add(stage.value in broken, **labels)
            if (done := seen.success(config, stage)) is not None:
                success.add(done.timestamp(), **labels)
    for stage in Stage:
        count = sum(run.stage == stage and run.state == "running" for one in seen.standings for run in one.runs)
        jobs.add(count, stage=stage.value)
    return [failures, opens, is_open, success, jobs]


def _of_alerts(seen: Observed, ledger: Ledger) -> list[Metric]:
    fires = Metric("alerts_firing", "Alerts that fire, by rule")
    found = firing(seen)
    for rule in Rule:
        fires.add(sum(one.rule is rule for one in found), rule=rule.value)
    levels = Metric("incidents", "Incidents that are not closed, by level and whether somebody has taken them on")
    unclosed = ledger.incidents(unclosed=True)
    for level in LEVELS:
        for taken in (True, False):
            mine = [one for one in unclosed if one.level == level and (one.acknowledged_at is not None) is taken]
            levels.add(len(mine), level=f"L{level}", acknowledged=str(taken).lower())
    untold = Metric("notifications_unsent", "Notifications that were not taken yet")
    untold.add(len(ledger.notifications(unsent=True)))
    evaluated = Metric("alerts_evaluated_timestamp_seconds", "When alerts were last evaluated")
    if (at := evaluated_at(ledger)) is not None:
        evaluated.add(at.timestamp())
    return [fires, levels, untold, evaluated]


def _of_machine(seen: Observed, airflow: AirflowFacts | None) -> list[Metric]:
    used = Metric("resource_used_bytes", "What is in use of a machine's memory, disk, GPU memory")
    total = Metric("resource_total_bytes", "What a machine has of it")
    for use in seen.uses:
        used.add(use.used, machine=use.where, resource=use.what)
        total.add(use.total, machine=use.where, resource=use.what)
    up = Metric("platform_up", "Whether an Airflow runs on this home")
    up.add(airflow is not None)
    healthy = Metric("component_healthy", "Whether a component of Airflow is healthy")
    for name, health in ({} if airflow is None else airflow.components).items():
        healthy.add(health == "healthy", component=name)
    return [used, total, up, healthy]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
