"""Trainings, datasets, users and hosts by their names (R33, R64, R72, R73, R74)."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query
from pydantic import BaseModel

from ringrift_ops.operations.cluster import Cluster, cluster_status
from ringrift_ops.operations.jobs import JobDetail, JobLog, Jobs, job, job_log, trainings
from ringrift_ops.operations.permissions import (
    Grants,
    Permission,
    UnknownUserError,
    grant,
    grants_of,
)
from ringrift_ops.operations.registry import DatasetDetail, Datasets, DatasetStatus, dataset, datasets
from ringrift_ops.settings import WEB
from ringrift_ops.stages import fleet
from ringrift_ops.stages.fleet import HostReport
from ringrift_ops.stages.specs import Stage
from ringrift_ops.web import inside
from ringrift_ops.web.door import (
    Body,
    Caller,
    Config,
    Here,
    HostName,
    JobId,
    Limit,
    Offset,
    Routes,
    Sha,
    UserName,
)
from ringrift_ops.web.guard import ANY_USER

routes = Routes("registry")

Tail = Annotated[int, Query(ge=1, le=WEB.tail_most, description="the last so many lines")]


class DatasetPermissions(BaseModel):
    """What a user may do with a dataset; ``readable``: whether its file is here to be read."""

    dataset: str
    user: str
    allowed: list[Permission]
    missing: list[Permission]
    readable: bool


class GrantBody(Body):
    """Permissions that a user is to hold."""

    permissions: Annotated[list[Permission], Query(min_length=1, max_length=5)]


@routes.reads("/v1/training/jobs", Permission.TRAINING_READ)
def training_jobs(
    here: Here,
    config: Config | None = None,
    status: Literal["running", "done", "failed"] | None = None,
    limit: Limit = WEB.page,
    offset: Offset = 0,
) -> Jobs:
    """Return the training jobs on record, newest first."""
    return trainings(here.hosting, config=config, status=status, limit=limit, offset=offset)


@routes.reads("/v1/training/jobs/{id}", Permission.TRAINING_READ)
def training_job(here: Here, id: Annotated[JobId, Path()]) -> JobDetail:  # noqa: A002 - the runbooks' word
    """Return one: how it stands, what it was asked, what came of it (R33)."""
    return job(here.hosting, id, Stage.TRAIN)


@routes.reads("/v1/training/jobs/{id}/logs", Permission.TRAINING_READ)
def training_log(here: Here, id: Annotated[JobId, Path()], tail: Tail = WEB.tail) -> JobLog:  # noqa: A002
    """Return the last lines of its log."""
    return job_log(here.hosting, id, tail, Stage.TRAIN)


@routes.reads("/v1/datasets", Permission.DATASET_READ)
def dataset_list(
    here: Here,
    status: DatasetStatus | None = None,
    config: Config | None = None,
    limit: Limit = WEB.page,
    offset: Offset = 0,
) -> Datasets:
    """Return the datasets on record, newest first (R73)."""
    return datasets(here.home, here.ledger, status=status, config=config, limit=limit, offset=offset)


@routes.reads("/v1/datasets/{id}", Permission.DATASET_READ)
def dataset_detail(here: Here, id: Annotated[Sha, Path()]) -> DatasetDetail:  # noqa: A002
    """Return one, with what it was made from and what was trained on it."""
    return dataset(here.home, here.ledger, id)


@routes.reads("/v1/datasets/{id}/permissions", Permission.DATASET_READ)
def dataset_permissions(here: Here, user: Caller, id: Annotated[Sha, Path()]) -> DatasetPermissions:  # noqa: A002
    """Return what the caller may do with a dataset (R73)."""
    found = dataset(here.home, here.ledger, id).dataset
    allowed = [one for one in Permission if inside.may(user, one)]
    missing = [one for one in Permission if one not in allowed]
    readable = found.status != "missing" and here.home.resolve(found.path).is_file()
    return DatasetPermissions(
        dataset=found.id, user=str(user.get_name()), allowed=allowed, missing=missing, readable=readable
    )


@routes.reads("/v1/agents/{id}/permissions", ANY_USER)
def agent_permissions(user: Caller, id: Annotated[UserName, Path()]) -> Grants:  # noqa: A002
    """Return what a user may do: one's own answer to everybody, another's to an administrator (R74)."""
    if id == user.get_name():
        mine = {one: inside.may(user, one) for one in Permission}
        return Grants(id, str(getattr(user, "role", None) or "").lower(), mine)
    inside.require(user, Permission.ADMIN)
    return grants_of(_users(), id)


@routes.changes("/v1/agents/{id}/permissions", Permission.ADMIN)
def grant_permissions(here: Here, user: Caller, body: GrantBody, id: Annotated[UserName, Path()]) -> Grants:  # noqa: A002
    """Return what a user may do when it holds all of these; otherwise say which role does and where it is set."""
    return grant(_users(), id, body.permissions, inside.where_roles_are_set())


def _users() -> dict[str, str]:
    found = inside.users()
    if found is None:
        raise UnknownUserError("the auth manager keeps its users itself; ask it who holds which role")
    return found


@routes.reads("/cluster/status", Permission.TRAINING_READ)
def cluster(here: Here) -> Cluster:
    """Return the hosts of the inventory as they were when they were last asked (R64)."""
    return cluster_status(here.home, here.ledger)


@routes.reads("/cluster/health/{host}", Permission.TRAINING_READ)
def cluster_health(here: Here, host: Annotated[HostName, Path()]) -> HostReport:
    """Ask one host now how it is (R72); ``error`` says why it did not answer."""
    return fleet.health(here.hosting, [here.hosting.host(host).name])[0]
