"""How routes are declared: the permission first, the answers that every route may give with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from fastapi import APIRouter, Depends, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from ringrift_ops.errors import RingRiftError
from ringrift_ops.operations.by import By
from ringrift_ops.operations.control import Controls
from ringrift_ops.settings import CONFIGS, WEB, config_named, profile_named, stage_named
from ringrift_ops.web import AIRFLOW
from ringrift_ops.web.guard import OPEN, OPENED_BY, PERMISSION, Guarded
from ringrift_ops.web.inside import Inside
from ringrift_ops.web.place import Place, place

F = TypeVar("F", bound=Callable[..., Any])


class Problem(BaseModel):
    """Why a request was refused: ``detail`` says what, which object, what to try."""

    detail: str
    type: str
    permission: str | None = Field(default=None, description="the missing one, with 403")


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    words = {
        400: "the request cannot be meant", 401: "not logged in",
        403: "the permission is missing, or the request comes from another site's page", 404: "no such thing",
        409: "a gate said no", 413: "the body is too long", 415: "not application/json", 422: "a field is wrong",
        429: "too many requests; see Retry-After", 503: "the platform or a host does not answer",
    }  # fmt: skip
    return {code: {"model": Problem, "description": words[code]} for code in codes}


READS = _problems(400, 401, 403, 404, 409, 413, 422, 429, 503)
CHANGES = _problems(400, 401, 403, 404, 409, 413, 415, 422, 429, 503)


PROBLEMS_OF_PAGES: dict[int | str, dict[str, Any]] = {
    code: {
        "description": one["description"],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for code, one in READS.items()
}
"""The same of a route whose good answer is no JSON."""


class Routes(APIRouter):
    """A router of guarded routes."""

    def __init__(self, tag: str) -> None:
        super().__init__(route_class=Guarded, tags=[tag])

    def reads(self, path: str, permission: str, *, opened_by: str = "", **options: Any) -> Callable[[F], F]:
        """Declare a route that changes nothing; ``opened_by``: the setting that lets everybody in."""
        options.setdefault("responses", {} if permission == OPEN else READS)
        opened = {OPENED_BY: opened_by} if opened_by else {}
        return self.get(path, openapi_extra=_extra(permission) | opened, **options)

    def changes(self, path: str, permission: str) -> Callable[[F], F]:
        """Declare a route that changes something."""
        return self.post(path, openapi_extra=_extra(permission), responses=CHANGES)


def _extra(permission: str) -> dict[str, Any]:
    security: list[dict[str, list[str]]] = (
        [{}, {"bearer": []}, {"cookie": []}] if permission == OPEN else [{"bearer": []}, {"cookie": []}]
    )
    return {PERMISSION: str(permission), "security": security}


def caller(request: Request) -> BaseUser | None:
    """Return the user whom the guard let in."""
    found: BaseUser | None = request.state.user
    return found


Caller = Annotated[BaseUser, Depends(caller)]
AnyCaller = Annotated[BaseUser | None, Depends(caller)]
Here = Annotated[Place, Depends(place)]


def controls(request: Request, user: Caller, here: Here) -> Controls:
    """Return what operators control, Airflow as this user may use it."""
    return Controls(here.home, here.settings, here.ledger, Inside(request.scope[AIRFLOW], user))


Control = Annotated[Controls, Depends(controls)]


def by(user: BaseUser, reason: str) -> By:
    """Return who asks."""
    return By(str(user.get_name()), reason.strip(), "http")


# --- words that requests are made of ---------------------------------------------------------------


def _name(check: Callable[[str], object]) -> Callable[[str], str]:
    def valid(name: str) -> str:
        try:
            check(name)
        except RingRiftError as error:
            raise ValueError(str(error)) from error
        return name

    return valid


Config = Annotated[
    str, AfterValidator(_name(config_named)), Field(description="config key", json_schema_extra={"enum": [*CONFIGS]})
]
Stage = Annotated[str, AfterValidator(_name(stage_named)), Field(description="a stage, or a runbook's name for it")]
Profile = Annotated[str, AfterValidator(_name(profile_named)), Field(description="tiny, quick or standard")]
JobId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,12}_[2-4]p-g[0-9]{1,9}-[a-z]{1,12}(-s[0-9]{1,4})?$")]
Sha = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{6,64}$"), Field(description="a sha256 or its beginning")]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@+-]{0,127}$")]
Reason = Annotated[
    str,
    StringConstraints(max_length=WEB.reason, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"),
    Field(description="why; it is kept in the audit"),
]
Limit = Annotated[int, Query(ge=1, le=WEB.page_most)]
Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Before = Annotated[int | None, Query(ge=1, le=2**53, description="the `next_before` of the page before")]


class Body(BaseModel):
    """What every change may say."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Reason = ""
