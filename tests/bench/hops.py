"""How long Airflow takes from the end of a task to the start of the next: the real platform, its own settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from ringrift_ops.home import Home, project_folder
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import EDGE_EXECUTOR, USER, Installation, Secrets
from tests.bench.figures import Row, Sheet
from tests.bench.machine import BenchError, temporary_home
from tests.bench.scale import Scale

GOAL_P50: Final = 0.5
"""Seconds; Airflow's defaults give 1.0."""

CHAIN: Final = "bench_chain"
EDGE_CHAIN: Final = "bench_edge_chain"
NODE: Final = "bench"
TASKS: Final = 20
UP_SECONDS, CHAIN_SECONDS = 300.0, 300.0

_DAG: Final = '''"""Tasks that do nothing, one after the other."""

from datetime import UTC, datetime

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import DAG, chain

from ringrift_ops.airflow import factory  # noqa: F401  (what every task of the project pays for)


def nothing() -> None:
    """Do nothing."""


with DAG("DAG_ID", schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC), catchup=False):
    chain(*(PythonOperator(task_id=f"task{i:02}", python_callable=nothing, **WHERE) for i in range(TASKS)))
'''


def dag_text(dag_id: str, where: dict[str, str]) -> str:
    return _DAG.replace("DAG_ID", dag_id).replace("**WHERE", f"**{where!r}").replace("range(TASKS)", f"range({TASKS})")


class PlatformError(BenchError):
    """The platform did not do in time what the bench waits for."""


def hops(scale: Scale) -> list[Row]:
    """Seconds between the tasks of a chain that does nothing, the project's own DAGs beside it; here, then by Edge."""
    sheet = Sheet("hops")
    with temporary_home() as home:
        _dags_of(home)
        _edge_node(home)
        with platform_up(home) as api:
            _measured(sheet, api, CHAIN, scale.chains, "LocalExecutor")
            with _worker(home):
                _measured(sheet, api, EDGE_CHAIN, scale.chains, "EdgeExecutor")
    return sheet.rows


def _measured(sheet: Sheet, api: Api, chain: str, chains: int, executor: str) -> None:
    waits: list[float] = []
    firsts: list[float] = []
    _until(f"{chain} is known", UP_SECONDS, lambda: api.has_dag(chain))
    api.unpause(chain)
    for run in range(chains + 1):
        tasks = run_chain(api, chain)
        if run == 0:
            continue  # the first chain meets processes that have not worked yet
        firsts.append((tasks[0]["start"] - tasks[0]["run"]).total_seconds())
        waits += [(b["start"] - a["end"]).total_seconds() for a, b in pairwise(tasks)]
    note = f"{len(waits)} hops in {chains} chains of {TASKS} tasks, {executor}, SQLite"
    local = chain == CHAIN
    name = "hop" if local else "hop through an Edge worker"
    p50 = float(np.percentile(waits, 50))
    if local:
        sheet.add(f"{name} p50", p50, "s", target=GOAL_P50, better="lower", note=note)
    else:
        sheet.add(f"{name} p50", p50, "s", better="lower", note=note)
    sheet.add(f"{name} p95", float(np.percentile(waits, 95)), "s", better="lower", note=note)
    first = "from the trigger to the first task" if local else "from the trigger to the first task on an Edge worker"
    sheet.add(first, firsts, "s", better="lower")


def _edge_node(home: Home) -> None:
    home.ensure()
    home.inventory.write_text(f"hosts: {{{NODE}: {{role: edge, max_parallel_jobs: 1}}}}\n")


@contextmanager
def _worker(home: Home) -> Iterator[None]:
    """An Edge worker of the same machine in a home of its own, which has the DAGs of the chains."""
    node = Home(home.root / "node").ensure()
    (node.config / "airflow.cfg").write_text(f"[core]\ndags_folder = {home.root / 'dags'}\n")
    installation = Installation(home)
    url = str(json.loads(installation.state.read_text())["edge_url"])
    with (home.root / "worker.log").open("w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ringrift_ops.cli", "worker", "--leader", url, "--name", NODE),
                *("--token-file", str(installation.edge_token)),
            ],
            env=os.environ | {"RINGRIFT_HOME": str(node.root)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _dags_of(home: Home) -> None:
    """A DAG folder with the project's DAGs and the chain, named by the home's own options."""
    folder = home.root / "dags"
    folder.mkdir()
    (folder / "ringrift.py").symlink_to(project_folder() / "dags" / "ringrift.py")
    (folder / "bench_chain.py").write_text(dag_text(CHAIN, {}))
    (folder / "bench_edge_chain.py").write_text(dag_text(EDGE_CHAIN, {"executor": EDGE_EXECUTOR, "queue": NODE}))
    Installation(home).own_config.write_text(f"[core]\ndags_folder = {folder}\n")


@contextmanager
def platform_up(home: Home) -> Iterator[Api]:
    """The platform as ``make up`` starts it; nobody is told to ask less often."""
    log = home.root / "up.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ringrift_ops.platform", "up"],
            env=os.environ | {"PROFILE": "tiny", "RINGRIFT_HTTP_RATE": "60000"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _until("the platform is up", UP_SECONDS, lambda: _is_up(process, log))
        installation = Installation(home)
        port = int(installation.url().rsplit(":", 1)[1])
        yield Api(port, USER, Secrets.of(installation).password)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _is_up(process: subprocess.Popen[bytes], log: Path) -> bool:
    said = log.read_text()
    if process.poll() is not None:
        raise PlatformError(f"the platform ended with {process.returncode}: {said[-500:]}")
    return "is up after" in said


def run_chain(api: Api, chain: str) -> list[dict[str, datetime]]:
    """Run the chain once; return per task when it started and ended, and when the run was asked for."""
    run_id = api.trigger(chain, {})
    _until(f"{run_id} is over", CHAIN_SECONDS, lambda: api.run(chain, run_id)["state"] in ("success", "failed"))
    run = api.run(chain, run_id)
    if run["state"] != "success":
        raise PlatformError(f"{run_id}: {run['state']}")
    tasks = sorted(api.tasks(chain, run_id), key=lambda one: str(one["task_id"]))
    return [
        {"run": _moment(run["queued_at"]), "start": _moment(one["start_date"]), "end": _moment(one["end_date"])}
        for one in tasks
    ]


def _moment(text: Any) -> datetime:
    return datetime.fromisoformat(str(text))


def _until(what: str, seconds: float, ask: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not ask():
        if time.monotonic() > deadline:
            raise PlatformError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.5)
