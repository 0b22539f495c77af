"""Health checks of the services in docker-compose.yaml: ``python -m ringrift_ops.platform.alive WHAT``.

Standard library only: a check that imports Airflow takes 3 s of processor time. Exit code 0 when WHAT is well, else 4.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from collections.abc import Callable

from ringrift_ops.errors import ExitCode, InfrastructureError, UsageError

AIRFLOW_VARIABLE = "RINGRIFT_AIRFLOW_URL"
HEALTH = "/api/v2/monitor/health"
PATIENCE_SECONDS = 50.0


class NotWellError(InfrastructureError):
    """A service does not answer, or says that it is not healthy."""


def _answers(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PATIENCE_SECONDS) as response:
            content: bytes = response.read()
            return content
    except OSError as error:
        raise NotWellError(f"{url}: {error}") from error


def _by_api_server(component: str) -> None:
    """What the API server knows of a component by its heartbeats."""
    url = os.environ.get(AIRFLOW_VARIABLE, "http://localhost:8080") + HEALTH
    status = (json.loads(_answers(url)).get(component) or {}).get("status")
    if status != "healthy":
        raise NotWellError(f"{component}: {status}")


def _api() -> None:
    """This container's API server, for people and for tasks."""
    for path in (HEALTH, "/execution/health"):
        _answers("http://localhost:8080" + path)


def _edge() -> None:
    """The door for Edge hosts answers nothing to strangers: it listens, or it does not."""
    try:
        socket.create_connection(("localhost", 8082), 5.0).close()
    except OSError as error:
        raise NotWellError(f"port 8082: {error}") from error


CHECKS: dict[str, Callable[[], object]] = {
    "api": _api,
    "edge": _edge,
    "scheduler": lambda: _answers("http://localhost:8974/health"),
    "dag_processor": lambda: _by_api_server("dag_processor"),
    "triggerer": lambda: _by_api_server("triggerer"),
    "tensorboard": lambda: _answers("http://localhost:6006/"),
}


def main(arguments: list[str]) -> int:
    """Run one check and return its exit code."""
    try:
        if len(arguments) != 1 or arguments[0] not in CHECKS:
            raise UsageError(f"usage: python -m ringrift_ops.platform.alive {' | '.join(CHECKS)}")
        CHECKS[arguments[0]]()
    except (InfrastructureError, UsageError) as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    return int(ExitCode.DONE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
