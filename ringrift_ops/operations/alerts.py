"""The rules of alerts: facts and a moment in, what fires out. Nothing is read or told here.

A rule says what is so now; an alert that fires again is the same alert (its ``key``). What becomes of it is
``operations.incidents``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from ringrift_ops.hosts.jobs import JobState, JobStatus, command_about
from ringrift_ops.ledger import ConfigStanding, EventType, GenerationState, StageRun
from ringrift_ops.ledger.records import Condition
from ringrift_ops.operations.idle import stamp
from ringrift_ops.operations.observed import DAY, Observed, progress_of
from ringrift_ops.settings import ALERTS, FRESHNESS, AlertRules
from ringrift_ops.stages.specs import Stage

LAID_ASIDE = 7 * DAY
"""A config with a schedule that has done nothing for so long was laid aside; it is no longer waited for."""


class Rule(StrEnum):
    """Every alert there is, under the runbooks' names where they have one."""

    STAGE_FAILURES = "stage_failures"
    CIRCUIT_BREAKER_OPENS = "circuit_breaker_opens"
    PIPELINE_STALL = "pipeline_stall_time"
    JOB_QUEUED = "job_queued"
    UNEXPECTED_STATUS = "unexpected_status"
    RESOURCE_USE = "resource_use"
    LOSS_NOT_DECREASING = "loss_not_decreasing"
    EPOCH_TIMEOUT = "epoch_timeout"
    STAGE_STALE = "stage_stale"


@dataclass(frozen=True)
class Alert:
    """Something that is wrong now. ``subject``: which stage, job or machine; ``fix``: the command to begin with."""

    rule: Rule
    config: str | None
    subject: str
    summary: str
    evidence: str
    fix: str

    @property
    def key(self) -> str:
        """Return what makes two alerts the same."""
        return f"{self.rule.value}/{self.config or '-'}/{self.subject}"


def firing(seen: Observed, rules: AlertRules = ALERTS, freshness: Mapping[Stage, float] = FRESHNESS) -> list[Alert]:
    """Return what fires at ``seen.now``, in the order of the rules."""
    found: list[Alert] = []
    for rule in _RULES:
        found += rule(seen, rules)
    return [*found, *_stale(seen, freshness)]


def _stage_failures(seen: Observed, rules: AlertRules) -> Iterator[Alert]:
    for config in _configs(seen):
        mine = [one for one in seen.failures if one.config == config]
        if len(mine) > rules.stage_failures:
            kinds = ", ".join(sorted({one.type for one in mine}))
            yield Alert(
                Rule.STAGE_FAILURES, config, "stages",
                f"{config}: {len(mine)} failures of stages within an hour",
                f"more than {rules.stage_failures}; {kinds}; the last one: {mine[-1].payload.get('error')}",
                f"`ringrift status {config}`",
            )  # fmt: skip


def _breaker_opens(seen: Observed, rules: AlertRules) -> Iterator[Alert]:
    for config in _configs(seen):
        for action in Stage:
            mine = [one for one in seen.opens if one.config == config and one.payload["action"] == action.value]
            if len(mine) > rules.circuit_breaker_opens:
                yield Alert(
                    Rule.CIRCUIT_BREAKER_OPENS, config, action.value,
                    f"{config}: the breaker of {action.value} opened {len(mine)} times within a day",
                    f"more than {rules.circuit_breaker_opens}; the last reason: {mine[-1].payload['reason']}",
                    "`ringrift breakers`",
                )  # fmt: skip


def _stalls(seen: Observed, rules: AlertRules) -> Iterator[Alert]:
    for one in seen.standings:
        moved = progress_of(one, seen)
        if moved is not None and (seen.now - moved).total_seconds() > rules.pipeline_stall_seconds:
            mine = one.generation
            assert mine is not None
            yield Alert(
                Rule.PIPELINE_STALL, one.config, "pipeline",
                f"{one.config}: nothing has moved since {stamp(moved)}",
                f"generation {mine.id} is {mine.state.value}, run {mine.run_id}; "
                f"{(seen.now - moved).total_seconds() / 3600:.1f} h, more than {rules.pipeline_stall_seconds / 3600:g}",
                f"`ringrift status {one.config}`, `ringrift recover {one.config}`",
            )  # fmt: skip


def _queued(seen: Observed, rules: AlertRules) -> Iterator[Alert]:
    for one in seen.standings:
        since, what = _due(one, seen)
        if since is not None and (seen.now - since).total_seconds() > rules.queued_seconds:
            yield Alert(
                Rule.JOB_QUEUED, one.config, what,
                f"{one.config}: {what} could begin since {stamp(since)} and has not",
                f"for {(seen.now - since).total_seconds() / 60:.0f} min, more than {rules.queued_seconds / 60:g}",
                f"`ringrift status {one.config}` says what holds it",
            )  # fmt: skip


def _due(one: ConfigStanding, seen: Observed) -> tuple[datetime | None, str]:
    """Return since when something of a config could begin, and what; None when nothing is due."""
    mine, lease = one.generation, one.lease
    if mine is None:
        return None, ""
    if mine.state is GenerationState.WAITING:
        held = lease is not None and lease.holder is not None and lease.expires_at > seen.now
        freed = None if lease is None else min(lease.expires_at, seen.now)
        return (None, "") if held else (max(filter(None, (mine.created_at, freed))), f"run {mine.run_id}")
    waits_for_games = any(w.generation == mine.id and w.condition is Condition.GAMES for w in seen.waits)
    if mine.state is not GenerationState.RUNNING or waits_for_games:
        return None, ""
    if any(run.state != "done" for run in one.runs):
        return None, ""
    done = [run.finished_at for run in one.runs if run.finished_at is not None]
    order = [stage.value for stage in Stage]
    last = max((order.index(run.stage) for run in one.runs), default=-1)
    after = f"what follows {order[last]}" if last >= 0 else "the first stage"
    return max([*done, *([mine.granted_at] if mine.granted_at is not None else [])], default=None), after


def _unexpected(seen: Observed, rules: AlertRules) -> Iterator[Alert]:
    for one in seen.standings:
        if one.generation is None or one.generation.state is not GenerationState.RUNNING:
            continue
        for run in one.runs:
            status = None if run.job_id is None else seen.jobs.get(run.job_id)
            if run.state != "running" or status is None or status.state is JobState.RUNNING:
                continue
            seconds = (seen.now - _last_sign(run, status)).total_seconds()
            patience = rules.queued_seconds if status.state is JobState.ABSENT else rules.unexpected_seconds
            if seconds > patience:
                yield Alert(
                    Rule.UNEXPECTED_STATUS, one.config, status.job_id,
                    f"{one.config}: job {status.job_id} is {status.state.value} and its task counts it as running",
                    f"for {seconds:.0f} s; {status.reason or 'it has left no reason'}",
                    f"`{_log_of(status.job_id, seen)}`, `ringrift recover {one.config}`",
                )  # fmt: skip
    for event in seen.failures:
        if event.type != EventType.TRAINING_FAILED or event.config is None:
            continue
        done = seen.success(event.config, Stage.TRAIN)
        if done is None or done < event.at:
            yield Alert(
                Rule.UNEXPECTED_STATUS, event.config, str(event.payload["job_id"]),
                f"{event.config}: the training {event.payload['job_id']} failed at {stamp(event.at)}",
                str(event.payload["error"]),
                f"`{_log_of(str(event.payload['job_id']), seen)}`",
            )  # fmt: skip


def _log_of(job_id: str, seen: Observed) -> str:
    return command_about(job_id, seen.hosts.get(job_id), "--logs")


def _last_sign(run: StageRun, status: JobStatus) -> datetime:
    told = [status.ended, status.started, (status.heartbeat or {}).get("t")]
    return max([run.started_at, *(datetime.fromisoformat(str(one)) for one in told if one is not None)])


def _resources(seen: Observed, rules: AlertRules) -> Iterator[Alert]:
    for use in seen.uses:
        if use.share > rules.resource_share:
            yield Alert(
                Rule.RESOURCE_USE, None, f"{use.what} of {use.where}",
                f"{use.where}: {use.share:.0%} of its {use.what} is in use",
                f"{use.used / 1e9:.1f} of {use.total / 1e9:.1f} GB, more than {rules.resource_share:.0%}",
                "`ringrift retention plan`" if use.what == "disk" else "`ringrift cluster health`, `ringrift jobs`",
            )  # fmt: skip


def _losses(seen: Observed, rules: AlertRules) -> Iterator[Alert]:
    for config, run, status in _trainings(seen):
        metrics = (status.heartbeat or {}).get("metrics") or {}
        epochs = metrics.get("epochs_without_improvement")
        if isinstance(epochs, int | float) and epochs >= rules.stale_epochs:
            loss = metrics.get("epoch_validation_loss")
            yield Alert(
                Rule.LOSS_NOT_DECREASING, config, str(run.job_id),
                f"{config}: the validation loss has not improved for {epochs:.0f} epochs",
                f"{rules.stale_epochs} or more; it is {loss}, {(status.heartbeat or {}).get('phase')}",
                f"`{_log_of(str(run.job_id), seen)}`; another learning rate, or newer games",
            )  # fmt: skip


def _epochs(seen: Observed, rules: AlertRules) -> Iterator[Alert]:
    for config, run, status in _trainings(seen):
        beat = status.heartbeat or {}
        epochs = _epochs_of(str(beat.get("phase", "")))
        done, total = beat.get("done"), beat.get("total")
        if status.state is not JobState.RUNNING or not (epochs and done and total and status.started):
            continue
        gone = (seen.now - datetime.fromisoformat(status.started)).total_seconds()
        seconds = gone / (float(done) / float(total) * epochs)
        if seconds > rules.epoch_seconds:
            yield Alert(
                Rule.EPOCH_TIMEOUT, config, str(run.job_id),
                f"{config}: an epoch of {run.job_id} takes {seconds / 60:.0f} min",
                f"more than {rules.epoch_seconds / 60:g}; {done} of {total} steps after {gone / 60:.0f} min",
                "a larger batch, a smaller window, or a host with a GPU",
            )  # fmt: skip


def _epochs_of(phase: str) -> int:
    """Return how many epochs a training has: ``epoch 2 of 4``."""
    last = phase.rpartition(" of ")[2]
    return int(last) if phase.startswith("epoch ") and last.isdecimal() else 0


def _trainings(seen: Observed) -> Iterator[tuple[str, StageRun, JobStatus]]:
    """Yield the newest training of each config whose job can be looked at."""
    for one in seen.standings:
        for run in one.runs:
            if run.stage == Stage.TRAIN and run.job_id is not None and run.job_id in seen.jobs:
                yield one.config, run, seen.jobs[run.job_id]


def _stale(seen: Observed, freshness: Mapping[Stage, float]) -> Iterator[Alert]:
    for config in _configs(seen):
        for stage, seconds in freshness.items():
            done, failing = seen.success(config, stage), seen.failing_since.get((config, stage))
            since, why = failing, "it was tried since, and failed"
            if config in seen.scheduled and done is not None and failing is None and stage is not Stage.DISTRIBUTE:
                since, why = done, "the config has a schedule and is not paused"
                if seen.now - done > LAID_ASIDE:
                    continue
            if since is not None and (seen.now - since).total_seconds() > seconds:
                ever = f"not succeeded since {stamp(done)}" if done else "never succeeded"
                yield Alert(
                    Rule.STAGE_STALE, config, stage.value,
                    f"{config}: {stage.value} has {ever}",
                    f"{(seen.now - since).total_seconds() / 3600:.1f} h, more than {seconds / 3600:g}; {why}",
                    f"`ringrift status {config}`",
                )  # fmt: skip


def _configs(seen: Observed) -> list[str]:
    return [one.config for one in seen.standings]


_RULES: tuple[Callable[[Observed, AlertRules], Iterator[Alert]], ...] = (
    _stage_failures, _breaker_opens, _stalls, _queued, _unexpected, _resources, _losses, _epochs,
)  # fmt: skip
