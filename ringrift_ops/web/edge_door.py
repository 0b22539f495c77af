"""The Edge door: one API server that hosts of role edge talk to, and that answers nothing but what they need.

What it serves: the Edge provider's own API, the exchange of files and jobs, and the API that tasks talk to, whose
requests it passes on to the platform's own process with the tokens they carry. Its secret is the cluster's.
"""

from typing import Any

import httpx
from airflow.configuration import conf
from starlette.types import ASGIApp, Receive, Scope, Send

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.exchange import LEAST_SECRET
from ringrift_ops.web.calling import attend
from ringrift_ops.web.exchange import MOUNT, build
from ringrift_ops.web.runs import add_runs

SERVED = ("/edge_worker/v1/", f"{MOUNT}/v1/")
PASSED_ON = "/execution/"
BIGGEST = 1 << 26
"""Bytes of a task's request or answer: an XCom, a rendered template."""

_OWN = {"host", "content-length", "connection", "transfer-encoding", "keep-alive", "content-encoding"}


class WeakSecretError(UsageError):
    """The door's secret is missing, or short enough to be guessed."""


def exchange() -> dict[str, Any]:
    """Return the exchange as Airflow mounts it. Raises :class:`WeakSecretError`."""
    if len(_secret()) < LEAST_SECRET:
        raise WeakSecretError(
            f"the cluster's secret has {len(_secret())} characters, at least {LEAST_SECRET} are needed: "
            "RINGRIFT_HOME/airflow/edge_token, or RINGRIFT_EDGE_TOKEN of the compose file"
        )
    app = build(_secret, attend=attend)
    add_runs(app, _secret, Home.find)
    return {
        "app": app,
        "url_prefix": MOUNT,
        "name": "RingRift Edge exchange",
    }


def _secret() -> str:
    return str(conf.get("api_auth", "jwt_secret", fallback=""))


def only_edge() -> dict[str, Any]:
    """Return the middleware as Airflow takes it."""
    return {"middleware": OnlyEdge, "args": [], "kwargs": {}, "name": "RingRift Edge door"}


class OnlyEdge:
    """Lets the Edge API and the exchange through, passes tasks' requests on, refuses everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.target = str(conf.get("core", "execution_api_server_url")).rstrip("/")
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or str(scope["path"]).startswith(SERVED):
            await self.app(scope, receive, send)
        elif str(scope["path"]).startswith(PASSED_ON):
            await self._pass_on(scope, receive, send)
        else:
            await _answer(send, 404, [], b'{"detail": "this door is for Edge workers only"}')

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if len(body) > BIGGEST:
                return await _answer(send, 413, [], b'{"detail": "too long"}')
            if not message.get("more_body"):
                break
        query = scope.get("query_string", b"").decode()
        url = f"{self.target}/{str(scope['path']).removeprefix(PASSED_ON)}" + (f"?{query}" if query else "")
        headers = [(name, value) for name, value in scope["headers"] if name.decode().lower() not in _OWN]
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=60.0, trust_env=False)
        try:
            answer = await self._client.request(scope["method"], url, content=body, headers=headers)
        except httpx.HTTPError:  # it restarts: the task asks again
            return await _answer(send, 503, [], b'{"detail": "the execution API does not answer"}')
        return await _answer(send, answer.status_code, answer.headers.raw, answer.content)


async def _answer(send: Send, code: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    kept = [(name, value) for name, value in headers if name.decode().lower() not in _OWN]
    if not any(name.lower() == b"content-type" for name, _ in kept):
        kept.append((b"content-type", b"application/json"))
    kept.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": code, "headers": kept})
    await send({"type": "http.response.body", "body": body})
