"""Why a stage does not run: the one reason, and what would change it (F25)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from ringrift_ops.hosts.jobs import JobStatus, command_about
from ringrift_ops.ledger import ConfigStanding, Generation, GenerationState, Lease, StageRun
from ringrift_ops.operations.breakers import half_opens_at
from ringrift_ops.operations.disk import pressure
from ringrift_ops.operations.stalls import is_stalled
from ringrift_ops.operations.surroundings import AirflowFacts, Machine
from ringrift_ops.settings import LEASES, POOLS, Inventory, ProfileRow, Settings
from ringrift_ops.stages.specs import Stage


class Why(StrEnum):
    """The kinds of reasons, in the order in which they are looked for."""

    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOT_RUNNING = "platform not running"
    PAUSED = "paused"
    NO_SCHEDULE = "no schedule"
    SCHEDULED = "scheduled"
    LEASE = "lease"
    STALLED = "stalled"
    BREAKER = "breaker open"
    DISK = "disk"
    HOST = "host missing"
    COOLDOWN = "cooldown"
    GAMES = "games"
    APPROVAL = "approval pending"
    POOL = "pool full"
    EARLIER = "earlier stage"
    NEXT = "next"


@dataclass(frozen=True)
class Idle:
    """One reason. ``until``: when it ends by itself, None when it does not; ``change``: what would change it."""

    why: Why
    reason: str
    change: str
    until: datetime | None = None


@dataclass(frozen=True)
class Facts:
    """What the reasons are found in."""

    settings: Settings
    airflow: AirflowFacts | None
    machine: Machine
    inventory: Inventory
    now: datetime

    def profile(self, generation: Generation) -> ProfileRow:
        return self.settings.profile(generation.config, generation.profile)


def why_no_run(standing: ConfigStanding, facts: Facts) -> Idle | None:
    """Return why no generation of the config is under way; None when one is."""
    found = standing.generation
    if found is not None and found.state in (GenerationState.RUNNING, GenerationState.WAITING):
        return None
    key = standing.config
    if facts.airflow is None:
        return _not_running()
    if facts.airflow.paused.get(key, False):
        return Idle(Why.PAUSED, f"DAG {key} is paused", f"`ringrift start {key}`, or its switch in the UI")
    at = facts.airflow.next_runs.get(key)
    if at is None or not facts.settings.profile(key).schedule_ticks:
        profile = facts.settings.default_profile
        return Idle(Why.NO_SCHEDULE, f"the profile {profile} starts no runs by the clock", f"`ringrift start {key}`")
    return Idle(Why.SCHEDULED, f"the next run starts at {stamp(at)}", f"`ringrift start {key}` starts one now", at)


def why_waiting(standing: ConfigStanding, facts: Facts) -> Idle | None:
    """Return why the generation that waits for the lease does not have it; None when it does not wait."""
    mine, lease = standing.generation, standing.lease
    if mine is None or mine.state is not GenerationState.WAITING:
        return None
    if facts.airflow is None:
        return _not_running()
    if lease is not None and lease.holder is not None and lease.expires_at > facts.now:
        return Idle(
            Why.LEASE,
            f"lease held by {lease.holder} until {stamp(lease.expires_at)}",
            f"its release, or `ringrift lock {mine.config} --release --reason WHY`",
            lease.expires_at,
        )
    if _silent(mine, facts):
        return Idle(
            Why.STALLED,
            f"run {mine.run_id} last asked for the lease at {stamp(mine.seen_at)}",
            f"clear its task `lease` in the UI, or `ringrift recover {mine.config}`",
        )
    return Idle(Why.NEXT, "the lease is free and its run asks for it", "seconds")


def why_stopped(standing: ConfigStanding, facts: Facts) -> Idle | None:
    """Return why a generation that counts as running does not go on at all; None when it may."""
    mine, lease = standing.generation, standing.lease
    if mine is None or mine.state is not GenerationState.RUNNING:
        return None
    if lease is None or lease.generation != mine.id or lease.holder is None or lease.expires_at <= facts.now:
        ended = f"at {stamp(lease.expires_at)}" if lease is not None and lease.generation == mine.id else "earlier"
        return Idle(
            Why.STALLED, f"its lease ran out {ended} and nobody renewed it", f"`ringrift recover {mine.config}`"
        )
    return _not_running() if facts.airflow is None else None


def why_breaker(stage: Stage, standing: ConfigStanding, facts: Facts) -> Idle | None:
    """Return that the stage's breaker is open; None when an attempt would be let through."""
    found = next((one for one in standing.breakers if one.action == stage.value), None)
    until = None if found is None else half_opens_at(found)
    if found is None or found.opened_at is None or until is None or until <= facts.now:
        return None
    return Idle(
        Why.BREAKER,
        f"breaker open since {stamp(found.opened_at)}: {found.reason}; half-opens at {stamp(until)}",
        f"`ringrift breakers reset {standing.config} {stage.value} --reason WHY`",
        until,
    )


def why_not_yet(stage: Stage, standing: ConfigStanding, facts: Facts) -> Idle:
    """Return why a stage whose turn it is has not begun, in a generation that runs."""
    mine = standing.generation
    assert mine is not None
    row, key = facts.profile(mine), mine.config
    assert facts.airflow is not None
    if (full := pressure(facts.machine, stage, row)) is not None:
        return Idle(Why.DISK, full, "free some space: `ringrift retention plan`")
    if stage is Stage.TRAIN and row.device == "cuda" and (without := _without_gpu(facts)):
        return Idle(
            Why.HOST,
            f"no host with a GPU: profile {row.name} trains on cuda and {without} has none",
            "add a host with a GPU, or use another profile",
        )
    if stage is Stage.EXPORT and (held := _waits_for_games(standing, facts, row)) is not None:
        return held
    name = POOLS.get(stage, "default_pool")
    pool = facts.airflow.pools.get(name)
    if pool is not None and pool.open == 0:
        return Idle(Why.POOL, f"all {pool.slots} slots of pool {name} are taken", "a task of that pool ends")
    return Idle(Why.NEXT, f"{stage.value} is next", f"seconds; else look at {facts.airflow.url}/dags/{key}")


def _without_gpu(facts: Facts) -> str:
    """Return who would train and has no GPU; empty when somebody has one. Hosts train where there are any for it."""
    trainers = [host for host in facts.inventory.hosts.values() if host.plays("training")]
    if not trainers:
        return "" if facts.machine.gpu else facts.machine.name
    return "" if any("gpu" in host.abilities for host in trainers) else ", ".join(host.name for host in trainers)


def _waits_for_games(standing: ConfigStanding, facts: Facts, row: ProfileRow) -> Idle | None:
    missing = row.window_minimum_rows - standing.rows.usable
    if missing > 0:
        return Idle(
            Why.GAMES,
            f"waits for games: {standing.rows.usable:,} rows passed parity, {missing:,} more are needed",
            f"`ringrift selfplay --config {standing.config}` and `ringrift parity --config {standing.config}`, or the "
            "next generation",
        )
    until = cooldown_until(standing.last_training, row)
    if until is not None and until > facts.now:
        return Idle(
            Why.COOLDOWN, f"the last training ended less than {row.cooldown_seconds} s ago: until {stamp(until)}",
            f"`ringrift trigger {standing.config} train --force --reason WHY`", until,
        )  # fmt: skip
    if standing.rows.new == 0:
        return Idle(
            Why.GAMES, "waits for games: all rows that passed parity were trained on already",
            f"`ringrift selfplay --config {standing.config}` and `ringrift parity --config {standing.config}`",
        )  # fmt: skip
    return None


def why_approval(standing: ConfigStanding, run: StageRun, facts: Facts) -> Idle | None:
    """Return that a net which passed waits for a person, None when that is not so."""
    if run.stage != Stage.PROMOTE or facts.settings.auto_promote or run.result is None or run.result["promoted"]:
        return None
    judged = next((one for one in standing.runs if one.stage == Stage.GAUNTLET and one.result), None)
    if judged is None or judged.result is None or judged.result["verdict"] != "PASS":
        return None
    net = judged.result["candidate"]
    return Idle(
        Why.APPROVAL,
        f"{net[:12]} passed its gate and RINGRIFT_AUTO_PROMOTE is off",
        f"`ringrift promote --config {standing.config} --model {net[:12]}`",
    )


def why_silent(status: JobStatus, host: str | None, row: ProfileRow, now: datetime) -> Idle | None:
    """Return why a stage that is said to run does not: its job is gone or silent; None when it works."""
    change = f"its task's retry takes it up; log: `{command_about(status.job_id, host, '--logs')}`"
    if status.state.value == "dead":
        return Idle(Why.STALLED, f"job {status.job_id} is gone: {status.reason}", change)
    if is_stalled(status, row, now):
        return Idle(
            Why.STALLED, f"job {status.job_id} has shown no sign of life for {status.heartbeat_age or 0:.0f} s", change
        )
    return None


def cooldown_until(last_training: datetime | None, row: ProfileRow) -> datetime | None:
    """Return when the config may train again by itself; None without a training or a cooldown."""
    if last_training is None or row.cooldown_seconds == 0:
        return None
    return last_training + timedelta(seconds=row.cooldown_seconds)


def is_silent(generation: Generation, now: datetime) -> bool:
    """Return whether a waiting run has stopped asking: it died, or nothing runs that could ask."""
    return generation.seen_at < now - timedelta(seconds=LEASES.waiting_seconds)


def _silent(generation: Generation, facts: Facts) -> bool:
    return is_silent(generation, facts.now)


def lease_line(lease: Lease | None, now: datetime) -> str:
    """Return who holds a lease until when, in words."""
    if lease is None or lease.holder is None or lease.expires_at <= now:
        return "free"
    return f"held by {lease.holder} until {stamp(lease.expires_at)}"


def _not_running() -> Idle:
    return Idle(Why.NOT_RUNNING, "the platform does not run", "`ringrift up`")


def stamp(moment: datetime) -> str:
    """Return a moment as every message shows it."""
    return moment.isoformat(timespec="seconds")
