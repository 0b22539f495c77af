"""When somebody is told: the thresholds of every alert, the clock of incidents, and the curriculum's table."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from ringrift_ops.settings.checks import Row
from ringrift_ops.stages.specs import Stage


class AlertRules(Row):
    """What fires. Counts are exceeded, not reached: ``stage_failures`` 3 fires on the fourth."""

    cron: str = Field(default="*/2 * * * *", description="when the DAG `alerts` looks, UTC")
    stage_failures: int = Field(default=3, description="per config and hour (R8)")
    circuit_breaker_opens: int = Field(default=1, description="of one breaker per day (R8)")
    pipeline_stall_seconds: float = Field(default=7_200.0, description="without progress of a config under way (R8)")
    queued_seconds: float = Field(default=600.0, description="that a stage whose turn it is may take to begin (R34)")
    unexpected_seconds: float = Field(
        default=120.0, description="that a job may be over before its task has noticed; longer is unexpected (R34)"
    )
    resource_share: float = Field(default=0.9, gt=0.0, lt=1.0, description="of memory, disk or GPU memory (R34, R44)")
    stale_epochs: int = Field(
        default=3, description="in a row whose validation loss did not fall by 1 % (R21, R44; `CHECKS.improvement`)"
    )
    epoch_seconds: float = Field(default=1_800.0, description="that one epoch may take (R44)")
    settle_seconds: float = Field(default=300.0, description="without firing after which an alert is over")
    notify_again_seconds: float = Field(default=60.0, description="until a notification that failed is tried again")
    notify_tries: int = Field(default=120, description="of one notification, before it is given up")
    notify_timeout_seconds: float = Field(default=20.0, description="for one address")
    lease_seconds: float = Field(default=300.0, description="after which a look that died holds up no other")


ALERTS = AlertRules()

FRESHNESS: Mapping[Stage, float] = {
    Stage.SELFPLAY: 24 * 3600.0,
    Stage.PARITY: 24 * 3600.0,
    Stage.EXPORT: 24 * 3600.0,
    Stage.TRAIN: 24 * 3600.0,
    Stage.GAUNTLET: 24 * 3600.0,
    Stage.PROMOTE: 24 * 3600.0,
    Stage.DISTRIBUTE: 2 * 3600.0,
}
"""Seconds since a stage of a config last succeeded after which it counts as stale (F15), four ticks of a schedule.

Only while the config is worked on: it has a schedule, or the stage was tried since. Distribution counts from the
promotion that it follows.
"""

LEVELS: Mapping[int, tuple[str, float]] = {
    1: ("ML Ops Team", 900.0),
    2: ("Senior ML Engineer", 3_600.0),
    3: ("Platform Engineering", 7_200.0),
    4: ("VP Engineering", 14_400.0),
}
"""(who answers, within how many seconds) of each level of escalation (R46)."""


class IncidentRules(Row):
    """When an incident begins higher up (R80)."""

    several_configs: int = Field(default=2, description="configs with the same alert at once: level 2")
    again_seconds: float = Field(
        default=86_400.0, description="the same alert so soon after its incident was closed: it persists, level 2"
    )
    closed_seconds: float = Field(
        default=7_200.0, description="an alert that still fires so long after its incident was closed opens a new one"
    )
    timeline_before_seconds: float = Field(default=3_600.0, description="of events that a review shows before it")
    timeline_events: int = Field(default=200, description="of a review, at most")


INCIDENTS = IncidentRules()


class CurriculumRules(Row):
    """How the games of the twelve configs move when nets are promoted (R59)."""

    promotions: int = Field(default=24, description="newest promotions, of all configs, that count")
    step: float = Field(default=0.9, gt=0.0, lt=1.0, description="factor of a config's weight per promotion of its own")
    least: float = Field(default=0.5, gt=0.0, description="smallest weight")
    most: float = Field(default=2.0, description="largest weight")
    priority: int = Field(default=10, description="of the tasks of a config with weight 1")


CURRICULUM = CurriculumRules()


class TrialRules(Row):
    """Trainings that only try something out (R43)."""

    smoke_share: float = Field(default=0.01, gt=0.0, le=1.0, description="of the games of both splits, one epoch")
    overfit_steps: int = Field(default=200, description="on one batch, again and again")
    overfit_rate: float = Field(default=3e-3, description="learning rate of it")
    overfit_fall: float = Field(default=0.2, description="share of its first loss that must be gone in the end")


TRIALS = TrialRules()
