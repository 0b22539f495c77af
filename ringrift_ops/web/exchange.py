"""The leader's end of the exchange with hosts of role edge: requests out, reports and files in. No route takes a path.

Every request but ``/hello`` carries a token for exactly itself, signed with the secret of the process that serves it
(``[api_auth] jwt_secret``; in the Edge door that is the cluster's). Names are those of the inventory, jobs are those
that were wanted of that very host, files are named by sha256.
"""

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from ringrift_ops.errors import RingRiftError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.edge import RUN, Mirror, checked_sha
from ringrift_ops.hosts.exchange import ALGORITHM, AUDIENCE, LEEWAY_SECONDS, PREFIX
from ringrift_ops.hosts.folder import locked
from ringrift_ops.hosts.jobs import Job, JobStatus, checked_job_id
from ringrift_ops.hosts.versions import versions
from ringrift_ops.settings import EDGE, Inventory
from ringrift_ops.stages.edge import CHECKPOINT_NAME, CURVES, kept_folders, spec_of
from ringrift_ops.stages.hosting import shared_settings
from ringrift_ops.stages.placement import checkpoints_of, inputs_of
from ringrift_ops.store import fsync_dir, sha256_file

MOUNT, VERSION = PREFIX.rsplit("/", 1)
BIGGEST_ANSWER = 1 << 26
"""Bytes of a JSON body: a gauntlet's report with its effects has some hundred thousand."""


class Body(BaseModel):
    """What a node sends: nothing but what is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Beat(Body):
    """A node's sign of life."""

    facts: dict[str, Any]


class Standing(Body):
    """How a job stands on its node."""

    number: int
    status: JobStatus


class Ending(Body):
    """How a job ended: its result and effects, or its error; the files it made by {path below the home: sha256}."""

    status: JobStatus
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    effects: list[dict[str, Any]]
    files: dict[str, str]


class End(Body):
    """The end of a request."""

    number: int
    end: Ending


class Kept(Body):
    """Files that a training writes, by {name: sha256}; their bytes are here already."""

    number: int
    files: Annotated[dict[str, str], Field(max_length=64)]


def build(
    secret: Callable[[], str],
    home: Callable[[], Home] = Home.find,
    attend: Callable[[Mirror], object] = lambda _: None,
) -> FastAPI:
    """Return the app. ``secret``: what tokens are signed with, asked once per request; ``attend`` is told of every sign
    of life of a host and of every end of a job there.
    """
    app = FastAPI(title="RingRift Edge exchange", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def mark(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if int(request.headers.get("content-length") or 0) > BIGGEST_ANSWER:
            answer: Response = JSONResponse({"detail": "too long"}, 413)
        else:
            answer = await call_next(request)
        answer.headers["x-ringrift-edge"] = "1"
        return answer

    @app.exception_handler(RingRiftError)
    async def told(request: Request, error: RingRiftError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422 if isinstance(error, UsageError) else 409)

    def mirror(node: str, request: Request) -> Mirror:
        """Let a request in that carries its own token, by a node of the inventory."""
        check_token(request, node, secret())
        place = home()
        host = Inventory.load(place).hosts.get(node)
        if host is None or not host.is_edge:
            raise HTTPException(409, f"the leader's inventory has no host {node} of role edge: add it there")
        return Mirror(place, node)

    def wanted(job_id: str, known: Annotated[Mirror, Depends(mirror)]) -> Wanted:
        request = known.request(checked_job_id(job_id))
        if request is None:
            raise HTTPException(404, f"no job {job_id} is wanted of {known.host}")
        return Wanted(known, job_id, request)

    Node = Annotated[Mirror, Depends(mirror)]
    Asked = Annotated[Wanted, Depends(wanted)]
    at = f"/{VERSION}/nodes/{{node}}"

    @app.get(f"/{VERSION}/hello")
    def hello() -> dict[str, Any]:
        return {"ringrift_edge": 1, "time": time.time()}

    @app.get(f"{at}/leader")
    def leader(known: Node) -> dict[str, Any]:
        hosts = Inventory.load(known.home)
        more = {
            "max_parallel_jobs": hosts.host(known.host).max_parallel_jobs,
            "edge_hosts": hosts.reached_by(ssh=False),
        }
        return leader_facts() | more

    @app.post(f"{at}/beat")
    def beat(known: Node, body: Beat) -> dict[str, Any]:
        known.heard(body.facts)
        attend(known)
        return {}

    @app.get(f"{at}/jobs/{{job_id}}")
    def asked(job: Asked) -> dict[str, Any]:
        return job.asked()

    @app.get(f"{at}/jobs/{{job_id}}/inputs/{{sha}}")
    def an_input(job: Asked, sha: str) -> FileResponse:
        return FileResponse(job.input(checked_sha(sha)), media_type="application/octet-stream")

    @app.post(f"{at}/jobs/{{job_id}}/report")
    def report(job: Asked, body: Standing) -> dict[str, Any]:
        return {"wanted": job.mirror.reported(job.job_id, body.number, body.status.model_dump(mode="json"))}

    @app.put(f"{at}/jobs/{{job_id}}/log")
    async def log(job: Asked, request: Request, offset: int) -> dict[str, Any]:
        text = await _content(request)
        return {"have": await run_in_threadpool(job.mirror.append_log, job.job_id, offset, text)}

    @app.get(f"{at}/jobs/{{job_id}}/outputs/{{sha}}")
    def begun(job: Asked, sha: str) -> dict[str, Any]:
        return arrived(job.mirror.file(sha))

    @app.put(f"{at}/jobs/{{job_id}}/outputs/{{sha}}")
    async def output(job: Asked, sha: str, request: Request, offset: int, size: int) -> dict[str, Any]:
        block = await _content(request)
        return await run_in_threadpool(partial(take_block, job.mirror.file(sha), sha, block, offset, size))

    @app.post(f"{at}/jobs/{{job_id}}/checkpoints")
    def checkpoints(job: Asked, body: Kept) -> dict[str, Any]:
        return {"kept": job.keep("checkpoints", body)}

    @app.post(f"{at}/jobs/{{job_id}}/{CURVES}")
    def curves(job: Asked, body: Kept) -> dict[str, Any]:
        return {"kept": job.keep(CURVES, body)}

    @app.post(f"{at}/jobs/{{job_id}}/end")
    def end(job: Asked, body: End) -> dict[str, Any]:
        for sha in body.end.files.values():
            if not job.mirror.file(sha).is_file():
                raise HTTPException(409, f"the file {sha} of {job.job_id} has not arrived")
        taken = job.mirror.ended(job.job_id, body.number, body.end.model_dump(mode="json"))
        attend(job.mirror)
        return {"taken": taken}

    return app


class Wanted:
    """A job that is wanted of a node, with the request in force."""

    def __init__(self, mirror: Mirror, job_id: str, request: dict[str, Any]) -> None:
        self.mirror, self.job_id, self.request = mirror, job_id, request
        self.job = Job.model_validate(request["job"])
        self.spec = spec_of(self.job)

    def asked(self) -> dict[str, Any]:
        """Return all that the node needs to begin."""
        checkpoints = self._checkpoints()
        over = (self.mirror.job(self.job_id) / "end.json").exists() or self.request["wanted"] != RUN
        return {
            "number": self.request["number"],
            "over": over and not self._reported(),
            "job": self.request["job"],
            "settings": shared_settings(self.mirror.home),
            "inputs": [] if over else [{"path": one.path, "sha": one.sha} for one in self._inputs()],
            "checkpoints": [] if over else [{"name": path.name, "sha": sha} for sha, path in checkpoints.items()],
        }

    def _reported(self) -> bool:
        """Whether it has begun there and is not over: then even a kill is the node's to do."""
        folder = self.mirror.job(self.job_id)
        return (folder / "report.json").exists() and not (folder / "end.json").exists()

    def _inputs(self) -> list[Any]:
        return inputs_of(self.mirror.home, self.spec)

    def _checkpoints(self) -> dict[str, Path]:
        folder = checkpoints_of(self.mirror.home, self.spec)
        here = None if folder is None else self.mirror.home.resolve(folder)
        if here is None or not here.is_dir():
            return {}
        return {sha256_file(one): one for one in sorted(here.iterdir()) if CHECKPOINT_NAME.fullmatch(one.name)}

    def input(self, sha: str) -> Path:
        """Return the file of that content that the job reads."""
        found = next((self.mirror.home.resolve(one.path) for one in self._inputs() if one.sha == sha), None)
        found = found or self._checkpoints().get(sha)
        if found is None or not found.is_file():
            raise HTTPException(404, f"{self.job_id} reads no file {sha}")
        return found

    def keep(self, kind: str, body: Kept) -> int:
        """Put a training's checkpoints where it would go on from, here, or its curves; return how many files."""
        folder = kept_folders(self.mirror.home, self.spec).get(kind)
        if folder is None or body.number != self.request["number"]:
            return 0
        bad = next((name for name in body.files if not CHECKPOINT_NAME.fullmatch(name)), None)
        if bad is not None:
            raise HTTPException(422, f"{bad[:80]!r} is not the name of a file of {kind}")
        here = self.mirror.home.resolve(folder)
        here.mkdir(parents=True, exist_ok=True)
        for name, sha in body.files.items():
            with suppress(FileNotFoundError):  # another task of the job was faster
                self.mirror.file(sha).replace(here / name)
        fsync_dir(here)
        return len(body.files)


def check_token(request: Request, node: str, secret: str) -> None:
    """Make sure that a request carries a token for itself by ``node``; raises 401, 403."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind != "Bearer" or not text:
        raise HTTPException(401, "a token is needed")
    try:
        claims = jwt.decode(text, secret, algorithms=[ALGORITHM], audience=AUDIENCE, leeway=LEEWAY_SECONDS,
                            options={"require": ["exp", "iat", "sub", "for"]})  # fmt: skip
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as error:
        raise HTTPException(401, f"its token is of another time ({error}): set the clocks") from error
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "its token was not signed with this leader's secret") from error
    asked = f"{request.method} {request.scope.get('root_path', '')}{_local(request)}"
    if claims["sub"] != node or claims["for"] != asked:
        raise HTTPException(403, "the token is for another request")


def _local(request: Request) -> str:
    path, root = str(request.scope["path"]), str(request.scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root) else path


async def _content(request: Request) -> bytes:
    """Return the body, at most two blocks long."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > 2 * EDGE.block:
            raise HTTPException(413, f"at most {2 * EDGE.block} bytes at once")
        parts.append(part)
    return b"".join(parts)


def _part(final: Path) -> Path:
    return final.with_name(f".{final.name}.part")


def arrived(final: Path) -> dict[str, Any]:
    """Return {"have" (bytes), "whole"} of a file on its way."""
    if final.is_file():
        return {"have": final.stat().st_size, "whole": True}
    part = _part(final)
    return {"have": part.stat().st_size if part.exists() else 0, "whole": False}


def take_block(final: Path, sha: str, block: bytes, offset: int, size: int) -> dict[str, Any]:
    """Add a block to a file on its way, and give it its name once it is whole and right; return as :func:`arrived`.

    A block that does not go on where the file stands is left aside: the answer says where to go on. A file that is
    whole and wrong is begun anew.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    part = _part(final)
    with locked(final.with_name(f".{final.name}.lock"), wait=True):
        if final.is_file():
            return arrived(final)
        with part.open("ab") as opened:
            have = opened.tell()
            if offset == have and have + len(block) <= size:
                opened.write(block)
                have += len(block)
            opened.flush()
            if have < size:
                return {"have": have, "whole": False}
            os.fsync(opened.fileno())
        if have > size or sha256_file(part) != sha:
            part.unlink()
            return {"have": 0, "whole": False}
        part.replace(final)
        final.with_name(f".{final.name}.lock").unlink(missing_ok=True)
    fsync_dir(final.parent)
    return arrived(final)


def leader_facts() -> dict[str, Any]:
    """Return what a worker compares itself with: {"airflow", "edge3", "versions"}."""
    from importlib.metadata import version

    return {
        "airflow": version("apache-airflow-core"),
        "edge3": version("apache-airflow-providers-edge3"),
        "versions": versions(),
    }
