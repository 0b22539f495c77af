"""What is started, cleared and recovered. Every change is a row of the audit with the user as its actor."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, model_validator

from ringrift_ops.operations import breakers, locks
from ringrift_ops.operations.control import Recovery, Reset, Started
from ringrift_ops.operations.control import recover as recover_run
from ringrift_ops.operations.control import reset as reset_config
from ringrift_ops.operations.control import start as start_run
from ringrift_ops.operations.control import trigger as trigger_run
from ringrift_ops.operations.locks import Lock
from ringrift_ops.operations.permissions import Permission
from ringrift_ops.operations.training_state import Cleared, clear_training_state, clear_training_states
from ringrift_ops.settings import CONFIGS, stage_named
from ringrift_ops.stages.specs import Stage as StageName
from ringrift_ops.web.door import Body, Caller, Config, Control, Here, Profile, Routes, Stage, by
from ringrift_ops.web.inside import require

routes = Routes("control")


class Dispatch(Body):
    """A training that is to begin. ``force``: without waiting for the cooldown; it needs a reason."""

    config: Config
    force: bool = False
    profile: Profile | None = None


class OfConfig(Body):
    """The config that is meant."""

    config: Config


class OfAnyConfig(Body):
    """The config that is meant; all of them without one."""

    config: Config | None = None


class PipelineStart(Body):
    """A generation, or with ``phase`` one stage of it (and, with ``following``, the stages after it)."""

    config: Config
    phase: Stage | None = None
    following: bool = False
    force: bool = False
    profile: Profile | None = None

    @model_validator(mode="after")
    def _whole_generations_have_no_options(self) -> Self:
        if self.phase is None and (self.following or self.force):
            raise ValueError("following and force are about a phase: name it, or leave them out")
        return self


class SelfplayWorker(Body):
    """Games that are to be played; hosts are chosen by the inventory."""

    config: Config
    profile: Profile | None = None


class Recover(OfConfig):
    """A run that is stuck."""

    dry_run: bool = False


class BreakerReset(OfAnyConfig):
    """The breakers that are to be closed; of every action without one."""

    action: Stage | None = None


class ClearedAll(BaseModel):
    """What was cleared; ``refused`` where a lock is in use and no reason was given."""

    cleared: list[Cleared]


class BreakersClosed(BaseModel):
    """Those that were not at rest, as config/action."""

    closed: list[str]


class LockReleased(BaseModel):
    """The lock as it was; null when nobody held it."""

    released: Lock | None


@routes.changes("/dispatch_training", Permission.TRAINING_START)
def dispatch_training(body: Dispatch, control: Control, user: Caller) -> Started:
    """Start a training; in its cooldown it is refused with the time of its end (R24)."""
    return trigger_run(
        control, by(user, body.reason), body.config, StageName.TRAIN.value, force=body.force, profile=body.profile
    )


@routes.changes("/clear_training_state", Permission.TRAINING_START)
def clear(control: Control, user: Caller, body: OfAnyConfig | None = None) -> ClearedAll:
    """Release the training lock of a config, or of all, and forget failed trainings; a lock in use needs a reason."""
    asked = body or OfAnyConfig()
    asker = by(user, asked.reason)
    if asked.config is not None:
        cleared = clear_training_state(control, asker, asked.config)
        return ClearedAll(cleared=[Cleared(asked.config, cleared)])
    return ClearedAll(cleared=clear_training_states(control, asker, list(CONFIGS)))


@routes.changes("/pipeline/start", Permission.TRAINING_START)
def start(body: PipelineStart, control: Control, user: Caller) -> Started:
    """Start a generation, or a stage of it (R3, R5, R64); one that is under way already is returned.

    Promotion and distribution as stages of their own need model:write.
    """
    asker = by(user, body.reason)
    if body.phase is None:
        return start_run(control, asker, body.config, body.profile)
    if stage_named(body.phase) in (StageName.PROMOTE, StageName.DISTRIBUTE):
        require(user, Permission.MODEL_WRITE)
    return trigger_run(
        control, asker, body.config, body.phase, force=body.force, following=body.following, profile=body.profile
    )


@routes.changes("/pipeline/selfplay_worker", Permission.TRAINING_START)
def selfplay_worker(body: SelfplayWorker, control: Control, user: Caller) -> Started:
    """Start self-play of a config where the inventory allows it (R64)."""
    return trigger_run(
        control, by(user, body.reason), body.config, StageName.SELFPLAY.value, profile=body.profile
    )  # fmt: skip


@routes.changes("/pipeline/recover", Permission.TRAINING_START)
def recover(body: Recover, control: Control, user: Caller) -> Recovery:
    """Let the stuck tasks of a config's run be done again (R29)."""
    return recover_run(control, by(user, body.reason), body.config, dry_run=body.dry_run)


@routes.changes("/pipeline/reset", Permission.TRAINING_START)
def reset(body: OfConfig, control: Control, user: Caller) -> Reset:
    """End what is under way of a config and clear its failed state; every artifact stays (R4). Needs a reason."""
    asker = by(user, body.reason)
    asker.needs_reason(f"resetting {body.config}")
    return reset_config(control, asker, body.config)


@routes.changes("/breakers/reset", Permission.TRAINING_START)
def reset_breakers(body: BreakerReset, here: Here, user: Caller) -> BreakersClosed:
    """Close breakers and forget their failures (R10). Needs a reason."""
    found = breakers.reset(here.ledger, by(user, body.reason), body.action, body.config)
    return BreakersClosed(closed=[f"{one.config}/{one.action}" for one in found])


@routes.changes("/locks/release", Permission.TRAINING_START)
def release_lock(body: OfConfig, control: Control, user: Caller) -> LockReleased:
    """Release the training lock of a config; one in use needs a reason (R23)."""
    asker, airflow = by(user, body.reason), control.airflow
    return LockReleased(released=locks.release(control.home, control.ledger, asker, body.config, airflow=airflow))


@routes.reads("/pipeline/status", Permission.TRAINING_READ)
def pipeline_status(here: Here, config: Config | None = None) -> dict[str, object]:
    """Return the pipeline's state with the runbooks' keys (R64, R65)."""
    return here.ledger.pipeline_state(config)
