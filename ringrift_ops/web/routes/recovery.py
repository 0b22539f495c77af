"""What takes things out of use: back to an earlier net (R56), bad games and what came of them, files that are old."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from ringrift_ops.operations.backout import BackOut, back_out
from ringrift_ops.operations.permissions import Permission
from ringrift_ops.operations.promotions import Desk, RolledBack, roll_back
from ringrift_ops.operations.removal import Removal
from ringrift_ops.operations.retention import RetentionPlan, apply, retention_plan
from ringrift_ops.web.door import Body, Caller, Config, Here, Routes, Sha, by
from ringrift_ops.web.place import Place

routes = Routes("recovery")


class Rollback(Body):
    """The config whose net in force is to be taken back; it needs a reason.

    ``to``: a net that was in force for it; else the one before.
    """

    config: Config
    to: Sha | None = None


class Backout(Body):
    """What was found bad; it needs a reason, unless only its plan is asked for."""

    kind: Literal["games", "dataset"]
    sha: Sha
    dry_run: bool = False


class Retention(Body):
    """Files that are old are to be removed, by the plan of this moment; it needs a reason."""


class Removed(BaseModel):
    """What a plan names. ``kept``: {kind: {why: how many}}. Rows of Airflow's database are left to the command."""

    removals: list[Removal]
    kept: dict[str, dict[str, int]]
    bytes: int
    done: bool = Field(description="whether it was removed, or only may be")


def desk(here: Place) -> Desk:
    """Return the home whose nets are meant."""
    return Desk(here.home, here.settings, here.ledger)


@routes.changes("/admin/rollback", Permission.ADMIN)
def rollback(body: Rollback, here: Here, user: Caller) -> RolledBack:
    """Take the net in force of a config back: pointer and links at once, then every destination."""
    return roll_back(desk(here), by(user, body.reason), body.config, body.to)


@routes.changes("/admin/backout", Permission.ADMIN)
def backout(body: Backout, here: Here, user: Caller) -> BackOut:
    """Take games or a dataset out of use, with all that was made from them; the net in force too, if it was."""
    return back_out(desk(here), by(user, body.reason), body.kind, body.sha, dry_run=body.dry_run)


@routes.reads("/admin/retention", Permission.ADMIN)
def plan(here: Here) -> Removed:
    """Return what may be removed and why, and what stays though it is old."""
    return _shown(retention_plan(here.home, here.ledger), done=False)


@routes.changes("/admin/retention", Permission.ADMIN)
def remove(body: Retention, here: Here, user: Caller) -> Removed:
    """Remove what the plan of this moment names."""
    return _shown(apply(here.home, here.ledger, by(user, body.reason)), done=True)


def _shown(found: RetentionPlan, *, done: bool) -> Removed:
    return Removed(removals=found.removals, kept=found.kept, bytes=found.bytes, done=done)
