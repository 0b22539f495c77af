"""How long a request may be, and how many a user may make."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ringrift_ops.settings import WEB


class BodyLimit:
    """Reads a request's body before anything else does; a longer one than ``WEB.body_bytes`` is 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._body(scope, receive)
        if body is None:
            answer = JSONResponse(
                {"detail": f"the body is longer than {WEB.body_bytes} bytes", "type": "BodyTooLong"}, 413
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, _once(body, receive), send)

    @staticmethod
    async def _body(scope: Scope, receive: Receive) -> bytes | None:
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if said.isdigit() and int(said) > WEB.body_bytes:
            return None
        body = b""
        while True:
            message = await receive()
            body += bytes(message.get("body", b""))
            if len(body) > WEB.body_bytes:
                return None
            if message["type"] != "http.request" or not message.get("more_body", False):
                return body


def _once(body: bytes, receive: Receive) -> Receive:
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


class Rates:
    """A bucket per user: full it holds a minute's requests, and it fills as fast as they are allowed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def wait(self, user: str, per_minute: int) -> float:
        """Count a request and return 0; when the bucket is empty, the seconds until it holds one again."""
        with self._lock:
            now = self._clock()
            left, since = self._left.get(user, (float(per_minute), now))
            left = min(float(per_minute), left + (now - since) * per_minute / 60)
            self._left[user] = (left - 1 if left >= 1 else left, now)
            return 0.0 if left >= 1 else (1 - left) * 60 / per_minute
