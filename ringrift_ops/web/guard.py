"""Every route is a :class:`Guarded`: login, permission, rate, and what a change must look like, before all else.

A route that names no permission cannot be made.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from ringrift_ops.operations.permissions import Permission
from ringrift_ops.settings import WEB
from ringrift_ops.web import inside
from ringrift_ops.web.limits import Rates
from ringrift_ops.web.place import place

PERMISSION = "x-permission"
OPEN = "none"
"""Instead of a permission: the route answers everybody, and says more to who may read."""
OPENED_BY = "x-opened-by"
"""Names the setting that opens a route to everybody."""
ANY_USER = "login"
"""Instead of a permission: any user."""

RATES = Rates()


class RefusedError(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, detail: str, kind: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind, self.retry_after = status, detail, kind, retry_after


class NoPermissionNamedError(TypeError):
    """A route that does not say who may use it."""


class Guarded(APIRoute):
    """A route with its permission, whose function runs on one of our own threads."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra = options.get("openapi_extra") or {}
        self.permission, self.opened_by = str(extra.get(PERMISSION, "")), str(extra.get(OPENED_BY, ""))
        if self.permission not in (OPEN, ANY_USER, *Permission):
            raise NoPermissionNamedError(f"{path}: name the permission that it needs")
        threaded = endpoint if inspect.iscoroutinefunction(endpoint) else _on_our_threads(endpoint)
        super().__init__(path, threaded, **options)

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # a coroutine
        """Return the handler behind the guard."""
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            await self._admit(request)
            return await handler(request)

        return guarded

    async def _admit(self, request: Request) -> None:
        user = await inside.user_of(request)
        request.state.user = user
        if self.permission == OPEN or (self.opened_by and getattr(place().settings, self.opened_by)):
            return
        if user is None:
            raise RefusedError(
                401,
                "log in: `Authorization: Bearer` with the token of `ringrift token`, or the login of Airflow's pages",
                "NotLoggedIn",
            )
        _in_time(user)
        if self.permission != ANY_USER:
            needed = Permission(self.permission)
            await run_in_threadpool(inside.require, user, needed)
        if request.method not in ("GET", "HEAD"):
            _is_our_own(request)


def _on_our_threads(endpoint: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Airflow's threads answer what our functions ask it: on those, 40 of ours at once would wait for ever."""

    @functools.wraps(endpoint)
    async def threaded(**given: Any) -> Any:
        return await anyio.to_thread.run_sync(functools.partial(endpoint, **given), limiter=_threads())

    return threaded


@functools.cache
def _threads() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(WEB.threads)


def _in_time(user: BaseUser) -> None:
    rate = place().settings.http_rate
    wait = RATES.wait(str(user.get_id()), rate)
    if wait:
        seconds = math.ceil(wait)
        detail = f"{rate} requests per minute are allowed to one user; again in {seconds} s (`http_rate`)"
        raise RefusedError(429, detail, "TooManyRequests", retry_after=seconds)


def _is_our_own(request: Request) -> None:
    """A change comes as JSON and from no foreign page: a login cookie is sent along by any page."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    ours = inside.own_addresses() | {request.headers.get("host", "")}
    if site not in (None, "same-origin", "none") or (origin is not None and urlsplit(origin).netloc not in ours):
        raise RefusedError(403, "a change is not taken from another site's page", "ForeignPage")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "send `Content-Type: application/json`", "NotJson")
