"""What the plugin mounts: the app, made when it is first asked for. Light, because every component imports plugins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cached_property
from typing import Any

from ringrift_ops.web import AIRFLOW

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Door:
    """The ASGI app at the plugin's prefix."""

    @cached_property
    def _app(self) -> Any:
        from ringrift_ops.web.app import make_app

        return make_app()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; there are no web sockets here."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            await self._app({**scope, AIRFLOW: scope.get("app")}, receive, send)
