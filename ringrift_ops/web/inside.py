"""Airflow as seen from inside its API server: who asks, what they may do, its REST interface, its state.

The only module here that knows Airflow; what it imports from ``core_api.security`` is not a documented interface.
"""

from __future__ import annotations

import time
from typing import Any

import anyio
import anyio.from_thread
import httpx
from airflow.api.common.airflow_health import get_airflow_health
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.core_api.security import bearer_scheme, get_user
from airflow.configuration import conf
from airflow.models.dag import DagModel, DagTag
from airflow.models.pool import Pool as AirflowPool
from airflow.utils.session import create_session
from fastapi import HTTPException, Request
from sqlalchemy import select

from ringrift_ops.errors import GateError
from ringrift_ops.operations.permissions import HOLDERS, Permission, holds
from ringrift_ops.operations.surroundings import AirflowFacts, Pool
from ringrift_ops.platform.api import ApiError, Rest
from ringrift_ops.platform.facts import TAG, seen
from ringrift_ops.settings import WEB

TOKEN_SECONDS = 60
"""How long a token lives that carries a request on to Airflow."""


class PermissionMissingError(GateError):
    """A user lacks a permission."""

    def __init__(self, message: str, permission: Permission) -> None:
        super().__init__(message)
        self.permission = permission


async def user_of(request: Request) -> BaseUser | None:
    """Return whose login (bearer token or cookie) a request carries; None without a valid one."""
    try:
        return await get_user(request, None, await bearer_scheme(request))
    except HTTPException as error:
        if error.status_code in (401, 403):  # Airflow says 403 to a token that is none
            return None
        raise


def may(user: BaseUser, permission: Permission) -> bool:
    """Return whether a user holds a permission.

    With SimpleAuthManager by its roles; any other auth manager is asked for what is nearest in Airflow: reading and
    starting runs of DAGs, reading assets, changing variables, and editing users for ``admin``.
    """
    manager = get_auth_manager()
    if isinstance(manager, SimpleAuthManager):
        return holds(str(getattr(user, "role", "")), permission)
    match permission:
        case Permission.TRAINING_READ:
            return manager.is_authorized_dag(method="GET", user=user)
        case Permission.TRAINING_START:
            return manager.is_authorized_dag(method="POST", access_entity=DagAccessEntity.RUN, user=user)
        case Permission.DATASET_READ:
            return manager.is_authorized_asset(method="GET", user=user)
        case Permission.MODEL_WRITE:
            return manager.is_authorized_variable(method="PUT", user=user)
        case Permission.ADMIN:
            return bool(manager.is_authorized_custom_view(method="PUT", resource_name="Users", user=user))


def refusal(user: BaseUser, permission: Permission) -> str:
    """Return why a user may not, which role may, and where that is set."""
    manager = get_auth_manager()
    if isinstance(manager, SimpleAuthManager):
        return (
            f"{user.get_name()} ({str(getattr(user, 'role', '')).lower()}) lacks the permission {permission}; the role "
            f"{HOLDERS[permission]} holds it: {where_roles_are_set()}"
        )
    return (
        f"{user.get_name()} lacks the permission {permission}, which goes with the roles of {type(manager).__name__}: "
        f"the role {HOLDERS[permission].capitalize()} holds it; an administrator gives it"
    )


def require(user: BaseUser, permission: Permission) -> None:
    """Raise :class:`PermissionMissingError` unless a user holds a permission."""
    if not may(user, permission):
        raise PermissionMissingError(refusal(user, permission), permission)


def where_roles_are_set() -> str:
    """Return where users get their roles, in words."""
    return "set it in `simple_auth_manager_users` under [core] of Airflow's configuration"


def users() -> dict[str, str] | None:
    """Return {user: role}; None where the auth manager keeps its users elsewhere."""
    if not isinstance(get_auth_manager(), SimpleAuthManager):
        return None
    return {one.username: str(one.role).lower() for one in SimpleAuthManager.get_users()}


class Inside(Rest):
    """Airflow's REST interface, asked without a network and as the user who asks us, so that it judges again.

    To be called from a thread of the event loop's that is not one of Airflow's 40: those answer.
    """

    def __init__(self, airflow: Any, user: BaseUser) -> None:
        token = get_auth_manager().generate_jwt(user, expiration_time_in_seconds=TOKEN_SECONDS)
        self._headers = {"authorization": f"Bearer {token}"}
        self._transport = httpx.ASGITransport(app=airflow, raise_app_exceptions=False)

    def call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Return the answer; a busy Airflow is asked again for ``WEB.patience_seconds``."""
        deadline = time.monotonic() + WEB.patience_seconds
        while True:
            answer = anyio.from_thread.run(self._send, method, f"/api/v2{path}", body)
            if answer.is_success:
                found: dict[str, Any] = answer.json() if answer.content else {}
                return found
            if answer.status_code < 500 or time.monotonic() > deadline:
                raise ApiError(
                    f"Airflow answers {answer.status_code} to {method} {path}: {_reason(answer)}", answer.status_code
                )
            time.sleep(0.5)

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://localhost", headers=self._headers
        ) as client:
            return await client.request(method, path, json=body)


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("detail", answer.text))[:300]
    except ValueError:
        return answer.text[:300]


def airflow_facts() -> AirflowFacts:
    """Return how Airflow stands, read from its own database."""
    monitor = {name: one for name, one in get_airflow_health().items() if one.get("status") is not None}
    components, heartbeats = seen(monitor)
    with create_session() as session:
        dags = session.execute(
            select(DagModel.dag_id, DagModel.is_paused, DagModel.next_dagrun_create_after)
            .join(DagTag, DagTag.dag_id == DagModel.dag_id)
            .where(DagTag.name == TAG, DagModel.is_stale.is_(False))
        ).all()
        pools = AirflowPool.slots_stats(session=session)
    return AirflowFacts(
        url=conf.get("api", "base_url", fallback=""),
        components=components,
        paused={row.dag_id: bool(row.is_paused) for row in dags},
        next_runs={row.dag_id: row.next_dagrun_create_after for row in dags},
        pools={name: Pool(_slots(one["total"]), _slots(one["open"])) for name, one in pools.items()},
        heartbeats=heartbeats,
    )


def _slots(count: float) -> int:
    return -1 if count == float("inf") else int(count)


def own_addresses() -> set[str]:
    """Return host and port of Airflow's address as it is configured, besides what a request names."""
    return {httpx.URL(conf.get("api", "base_url", fallback="") or "http://localhost").netloc.decode()}
