"""The app: routes, headers, and the one place where errors become answers."""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import ringrift_ops
from ringrift_ops.errors import ExitCode, RingRiftError
from ringrift_ops.platform.api import ApiError
from ringrift_ops.settings import UnknownHostError
from ringrift_ops.web.door import Routes
from ringrift_ops.web.guard import ANY_USER, RefusedError
from ringrift_ops.web.inside import PermissionMissingError
from ringrift_ops.web.limits import BodyLimit
from ringrift_ops.web.routes import control, models, recovery, registry, status

PREFIX = "/ringrift"

CODES = {
    ExitCode.GATE_SAID_NO: 409,
    ExitCode.WRONG_USAGE: 400,
    ExitCode.NO_DATA: 404,
    ExitCode.INFRASTRUCTURE: 503,
}

HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; "
    b"form-action 'none'; base-uri 'none'",
    b"referrer-policy": b"same-origin",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
}


class Json(JSONResponse):
    """JSON without what JSON does not have: a loss that became NaN is null."""

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        try:
            return super().render(content)
        except ValueError:
            return super().render(_finite(content))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Headers:
    """Every answer says what browsers may do with it: nothing but show it inside our own pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        await self._app(scope, receive, with_headers)


def make_app() -> FastAPI:
    """Return the app that is mounted at ``PREFIX``; its description is a route like any other."""
    app = FastAPI(
        title="RingRift Ops",
        version=ringrift_ops.__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        default_response_class=Json,
        redirect_slashes=False,
    )
    for part in (status.routes, control.routes, models.routes, recovery.routes, registry.routes, _description(app)):
        app.include_router(part)
    app.add_middleware(BodyLimit)
    app.add_middleware(Headers)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(RingRiftError, _error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    return app


def _description(app: FastAPI) -> Routes:
    routes = Routes("description")

    @routes.reads("/openapi.json", ANY_USER)
    def openapi() -> dict[str, Any]:
        """Return the description of this interface."""
        found = dict(app.openapi())
        schemes = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "the token of `ringrift token`"},
            "cookie": {"type": "apiKey", "in": "cookie", "name": "_token", "description": "the login of Airflow"},
        }
        found["components"] = found.get("components", {}) | {"securitySchemes": schemes}
        found["servers"] = [{"url": PREFIX}]
        return found

    return routes


def _problem(code: int, detail: str, kind: str, **more: Any) -> Json:
    return Json({"detail": detail, "type": kind, "permission": None} | more, code)


def _refused(_request: Request, error: Exception) -> Json:
    assert isinstance(error, RefusedError)
    answer = _problem(error.status, error.detail, error.kind)
    if error.status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    if error.retry_after is not None:
        answer.headers["retry-after"] = str(error.retry_after)
    return answer


def _error(_request: Request, error: Exception) -> Json:
    assert isinstance(error, RingRiftError)
    if isinstance(error, PermissionMissingError):
        return _problem(403, str(error), "PermissionMissing", permission=error.permission.value)
    code = CODES[error.exit_code]
    if isinstance(error, UnknownHostError):
        code = 404
    if isinstance(error, ApiError) and error.code in (403, 404, 409):
        code = error.code
    return _problem(code, str(error), type(error).__name__)


def _invalid(_request: Request, error: Exception) -> Json:
    """Every wrong field in one answer; what was given is not repeated."""
    assert isinstance(error, RequestValidationError)
    words = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return _problem(422, "; ".join(words), "WrongFields")


def _http(_request: Request, error: Exception) -> Json:
    assert isinstance(error, HTTPException)
    answer = _problem(error.status_code, str(error.detail), type(error).__name__)
    answer.headers.update(error.headers or {})
    return answer
