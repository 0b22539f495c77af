"""Airflow's REST interface, as far as the platform needs it. Answers are Airflow's JSON objects."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.platform.environment import LOOPBACK

WATCHED = ("metadatabase", "scheduler", "dag_processor", "triggerer")
PATIENCE_SECONDS = 60.0
"""For how long a request is repeated while a component restarts or SQLite is locked."""


PAGE = 100
"""Entries of a listing that are asked for at once: Airflow's ``maximum_page_limit``. Unasked it gives 50."""

CONFLICT = 409


class ApiError(InfrastructureError):
    """Airflow refused a request, or does not answer. ``code``: the HTTP status, None without an answer."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Rest(ABC):
    """Airflow's REST interface, however it is reached."""

    @abstractmethod
    def call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Return the answer to a request at ``/api/v2<path>``; raises :class:`ApiError`."""

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Return the answer to ``GET /api/v2<path>``."""
        return self.call("GET", f"{path}?{urllib.parse.urlencode(query)}" if query else path, None)

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.call("POST", path, body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.call("PATCH", path, body)

    def has_dag(self, dag_id: str) -> bool:
        """Return whether the DAG processor has read the DAG already."""
        return bool(self.get("/dags", dag_id_pattern=dag_id, limit=1)["total_entries"])

    def unpause(self, dag_id: str) -> None:
        self.patch(f"/dags/{dag_id}?update_mask=is_paused", {"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any], run_id: str | None = None) -> str:
        """Start a manual run without a logical date and return its run id; one of that id is not started again.

        Raises ``ApiError`` where a run of that id has other wishes.
        """
        body = {"logical_date": None, "conf": conf} | ({} if run_id is None else {"dag_run_id": run_id})
        try:
            return str(self.post(f"/dags/{dag_id}/dagRuns", body)["dag_run_id"])
        except ApiError as error:
            if error.code != CONFLICT or run_id is None or self.run(dag_id, run_id).get("conf") != conf:
                raise
            return run_id

    def end_run(self, dag_id: str, run_id: str) -> None:
        """Mark a run failed, which ends its tasks."""
        self.patch(f"/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}?update_mask=state", {"state": "failed"})

    def clear(self, dag_id: str, run_id: str, task_ids: list[str]) -> None:
        """Let tasks of a run, and all after them, be done again."""
        body = {"dag_run_id": run_id, "task_ids": task_ids, "include_downstream": True, "only_failed": False,
                "reset_dag_runs": True, "dry_run": False}  # fmt: skip
        self.post(f"/dags/{dag_id}/clearTaskInstances", body)

    def runs(self, dag_id: str, **query: object) -> list[dict[str, Any]]:
        """Return the DAG's runs, newest first: all of them, unless a ``limit`` is asked for.

        One that begins between two pages may be there twice. None is missed by it: the oldest begin, on the last page.
        """
        path = f"/dags/{dag_id}/dagRuns"
        found: list[dict[str, Any]] = []
        while True:
            page = self.get(path, **{"order_by": "-run_after", "limit": PAGE, "offset": len(found)} | query)
            found += page["dag_runs"]
            if "limit" in query or not page["dag_runs"] or len(found) >= page["total_entries"]:
                return found

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        return self.get(f"/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}")

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        path = f"/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances"
        return list(self.get(path, limit=100)["task_instances"])

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int, map_index: int = -1) -> list[str]:
        """Return the lines of one attempt's log."""
        path = f"/dags/{dag_id}/dagRuns/{urllib.parse.quote(run_id)}/taskInstances/{task_id}/logs/{attempt}"
        content = self.get(path, map_index=map_index, full_content="true").get("content", [])
        return [str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content]


class Api(Rest):
    """The REST door of a platform; logs in by itself, again when the token has expired."""

    def __init__(self, place: int | str, user: str, password: str, check: Callable[[], None] = lambda: None) -> None:
        """``place``: a port of this machine, or an address as ``https://leader.example``.

        ``check`` is called before a failure counts; it raises when there is no platform any more to ask.
        """
        self._check = check
        self._base = f"http://{LOOPBACK}:{place}" if isinstance(place, int) else place.rstrip("/")
        self._login = {"username": user, "password": password}
        self._token: str | None = None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def url(self) -> str:
        return self._base

    def health(self) -> dict[str, str]:
        """Return {component: its status}; '-' where the API server does not answer (yet)."""
        return {name: str(one.get("status")) for name, one in self.monitor().items()}

    def monitor(self) -> dict[str, dict[str, Any]]:
        """Return {component: what Airflow says of it}; the status is '-' where the API server does not answer (yet)."""
        try:
            answer = self._send("GET", "/api/v2/monitor/health", None, timeout=5.0)
        except (OSError, http.client.HTTPException, ValueError):
            return {name: {"status": "-"} for name in WATCHED}
        return {name: answer.get(name) or {} for name in WATCHED}

    def token(self) -> str:
        """Return a fresh token of this user; raises :class:`ApiError`."""
        try:
            return str(self._send("POST", "/auth/token", self._login, timeout=30.0)["access_token"])
        except urllib.error.HTTPError as error:
            raise ApiError(f"Airflow answers {error.code} to the login: {_reason(error)}", error.code) from error
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"Airflow does not answer at {self._base}: {error}; see its log") from error

    def healthy(self) -> bool:
        return set(self.health().values()) == {"healthy"}

    def call(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if self._token is None:
                    self._token = str(self._send("POST", "/auth/token", self._login, timeout=30.0)["access_token"])
                return self._send(method, f"/api/v2{path}", body, timeout=30.0)
            except urllib.error.HTTPError as error:
                self._check()
                if error.code == 401 and self._token is not None:
                    self._token = None
                elif error.code < 500 or time.monotonic() > deadline:
                    raise ApiError(
                        f"Airflow answers {error.code} to {method} {path}: {_reason(error)}", error.code
                    ) from error
            except (OSError, http.client.HTTPException) as error:
                self._check()
                if time.monotonic() > deadline:
                    raise ApiError(f"Airflow does not answer at {self._base}: {error}; see its log") from error
            time.sleep(0.5)

    def _send(self, method: str, path: str, body: dict[str, Any] | None, timeout: float) -> dict[str, Any]:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, method=method, data=data, headers=headers)
        with self._opener.open(request, timeout=timeout) as response:
            answer: dict[str, Any] = json.loads(response.read() or b"{}")
        return answer


def _reason(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text).get("detail", text))[:300]
    except ValueError:
        return text[:300]
