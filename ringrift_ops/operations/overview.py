"""The status as one document: the keys that the runbooks read (R1, R25, R72), the same at every door."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ringrift_ops.home import Home
from ringrift_ops.ledger import Event, Ledger
from ringrift_ops.operations.jobs import JobRow, job_row
from ringrift_ops.operations.status import Champion, GenerationRow, Status, stage_status
from ringrift_ops.operations.surroundings import AirflowFacts, Machine
from ringrift_ops.operations.waiting import Waiting
from ringrift_ops.settings import Inventory
from ringrift_ops.stages.specs import HOST_DESTINATION


@dataclass(frozen=True)
class Daemon:
    """A component of Airflow or a service of ours. ``status``: healthy, or what it is instead."""

    status: str
    last_heartbeat: datetime | None
    detail: str | None = None


@dataclass(frozen=True)
class NodeDelivery:
    """A net at one destination, as last tried."""

    state: str
    verified: bool
    error: str | None
    at: datetime


@dataclass(frozen=True)
class Distribution:
    """Where the net in force of a config is."""

    sha: str
    nodes: dict[str, NodeDelivery]


@dataclass(frozen=True)
class PromotionStatus:
    """The newest evaluation of a config, and the net in force."""

    candidate: str | None
    verdict: str | None
    reason: str | None
    evaluated_at: datetime | None
    canonical: str | None
    promoted_at: datetime | None


@dataclass(frozen=True)
class IncidentRow:
    """An incident that nobody has closed; ``state`` as :attr:`~ringrift_ops.ledger.Incident.state`."""

    id: int
    rule: str
    config: str | None
    subject: str
    summary: str
    state: str
    level: int
    opened_at: datetime
    acknowledged_by: str | None


@dataclass(frozen=True)
class Overview:
    """The whole. ``configs``: {config: {stage: cell}} (R1); ``last_training_time``: of any config."""

    at: datetime
    configs: dict[str, dict[str, dict[str, Any]]]
    jobs: list[JobRow]
    daemons: dict[str, Daemon]
    last_training_time: datetime | None
    recent_events: list[Event]
    promotion_status: dict[str, PromotionStatus]
    model_distribution: dict[str, Distribution]
    alive_peers: list[str]
    generations: list[GenerationRow]
    champions: dict[str, Champion]
    waiting: list[Waiting]
    machine: Machine
    disk_pressure: str | None
    warnings: list[str]
    incidents: list[IncidentRow]
    airflow: AirflowFacts | None


def overview(home: Home, ledger: Ledger, found: Status) -> Overview:
    """Return a status under the names that the runbooks read."""
    with ledger.one_moment():
        keys = {one.config for one in found.configs}
        champions = {one.config: one.champion for one in found.configs if one.champion is not None}
        distribution = _distribution(ledger, champions)
        trained = [one.last_training for one in found.configs if one.last_training is not None]
        return Overview(
            at=found.at,
            configs=stage_status(found),
            jobs=[job_row(config, run) for config, run in ledger.active_runs() if config in keys],
            daemons=_daemons(found.airflow, distribution),
            last_training_time=max(trained, default=None),
            recent_events=found.recent_events,
            promotion_status=_promotion_status(ledger, found),
            model_distribution=distribution,
            alive_peers=_alive(home, ledger),
            generations=[
                GenerationRow(**{name: getattr(one, name) for name in GenerationRow.__dataclass_fields__})
                for one in found.configs
            ],
            champions=champions,
            waiting=found.waiting,
            machine=found.machine,
            disk_pressure=found.disk_pressure,
            warnings=found.warnings,
            incidents=[
                IncidentRow(**{name: getattr(one, name) for name in IncidentRow.__dataclass_fields__})
                for one in found.incidents
            ],
            airflow=found.airflow,
        )


def _daemons(airflow: AirflowFacts | None, distribution: Mapping[str, Distribution]) -> dict[str, Daemon]:
    components = {} if airflow is None else airflow.components
    daemons = {
        name: Daemon(health, airflow.heartbeats.get(name) if airflow is not None else None)
        for name, health in components.items()
    }
    tried = [node for one in distribution.values() for node in one.nodes.values()]
    missing = [
        f"{config} at {where}: {node.error or node.state}"
        for config, one in distribution.items()
        for where, node in one.nodes.items()
        if not node.verified
    ]
    status = "undelivered" if missing else "healthy" if tried else "nothing delivered yet"
    newest = max((node.at for node in tried), default=None)
    return daemons | {"MODEL_DISTRIBUTION": Daemon(status, newest, "; ".join(missing) or None)}


def _distribution(ledger: Ledger, champions: Mapping[str, Champion]) -> dict[str, Distribution]:
    rows = ledger.deliveries_of([one.sha for one in champions.values()])
    return {
        config: Distribution(
            champion.sha,
            {
                row.destination.removeprefix(HOST_DESTINATION): NodeDelivery(
                    row.state, row.verified, row.error, row.recorded_at
                )
                for row in rows
                if row.sha == champion.sha
            },
        )
        for config, champion in champions.items()
    }


def _promotion_status(ledger: Ledger, found: Status) -> dict[str, PromotionStatus]:
    newest = ledger.newest_evaluations()
    shown = {}
    for one in found.configs:
        judged, champion = newest.get(one.config), one.champion
        if judged is not None or champion is not None:
            shown[one.config] = PromotionStatus(
                candidate=None if judged is None else judged.candidate,
                verdict=None if judged is None else judged.verdict.value,
                reason=None if judged is None else judged.reason,
                evaluated_at=None if judged is None else judged.created_at,
                canonical=None if champion is None else champion.sha,
                promoted_at=None if champion is None else champion.since,
            )
    return shown


def _alive(home: Home, ledger: Ledger) -> list[str]:
    states = ledger.host_states()
    up = {name for name, one in states.items() if one.seen_at is not None and one.away_since is None}
    return [name for name in Inventory.load(home).hosts if name in up]
