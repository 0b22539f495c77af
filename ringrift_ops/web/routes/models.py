"""Nets: their judgement and their distribution, by their names in the ledger (R51)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ringrift_ops.operations.control import Started
from ringrift_ops.operations.control import trigger as trigger_run
from ringrift_ops.operations.evaluations import NotANetOfConfigError, queue_known
from ringrift_ops.operations.permissions import Permission
from ringrift_ops.settings import config_named
from ringrift_ops.stages.specs import Stage
from ringrift_ops.web.door import Body, Caller, Config, Control, Routes, Sha, by

routes = Routes("models")

Model = Annotated[
    str,
    StringConstraints(pattern=r"^([0-9a-f]{6,64}|canonical_[a-z0-9]{1,12}_[2-4]p)$"),
    Field(description="a net in the ledger: its sha256 or the beginning, or canonical_<config>; never a file"),
]


class Promote(Body):
    """A net that is to be judged by the gauntlet and promoted on a PASS."""

    config: Config
    model: Sha
    priority: Literal["normal", "high"] = "normal"


class Distribute(Body):
    """The net in force whose distribution is to be done again. ``force``: although it is there already."""

    model: Model
    config: Config | None = Field(default=None, description="whose net; canonical_<config> says it already")
    force: bool = False


@routes.changes("/admin/promote", Permission.MODEL_WRITE)
def promote(body: Promote, control: Control, user: Caller) -> Started:
    """Start a run that plays the net's gauntlet and promotes it if it passes."""
    return queue_known(control, by(user, body.reason), body.config, body.model, body.priority)


@routes.changes("/admin/distribute-model", Permission.MODEL_WRITE)
def distribute(body: Distribute, control: Control, user: Caller) -> Started:
    """Start a run that brings the net in force to every destination; of another net it is refused."""
    name = body.model.removeprefix("canonical_")
    named = body.model != name
    key = config_named(name).key if named else control.ledger.artifact_named(name).config
    canonical = control.ledger.canonical(key)
    if body.config not in (None, key) or (
        not named and (canonical is None or not canonical.sha.startswith(name))
    ):  # fmt: skip
        in_force = "no net" if canonical is None else canonical.sha[:12]
        raise NotANetOfConfigError(f"{body.model} is not the net in force of {body.config or key}, {in_force} is")
    return trigger_run(control, by(user, body.reason), key, Stage.DISTRIBUTE.value, force=body.force)
