"""The hop from task to task with Celery: the services of docker-compose.yaml as `make production-check` runs them."""

from __future__ import annotations

import json
import subprocess

import numpy as np

from ringrift_ops.home import project_folder
from tests.bench.figures import Row, Sheet
from tests.bench.hops import TASKS
from tests.bench.machine import BenchError
from tests.bench.scale import Scale


def celery(scale: Scale) -> list[Row]:
    """Seconds between the tasks of a chain that does nothing, one CPU worker, one scheduler."""
    sheet = Sheet("celery")
    python = project_folder() / ".venv-production" / "bin" / "python"
    if not python.exists():
        raise BenchError("`make production-check` makes the environment for it: run that first, as root")
    answer = subprocess.run(
        [str(python), "-m", "tests.production", "--hops", str(scale.chains)],
        cwd=project_folder(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if answer.returncode != 0:
        raise BenchError(f"tests.production --hops ended with {answer.returncode}: {answer.stderr[-500:]}")
    found = json.loads(answer.stdout.splitlines()[-1])
    note = f"{len(found['waits'])} hops in {scale.chains} chains of {TASKS} tasks, CeleryExecutor, Postgres"
    for percent in (50, 95):
        figure = float(np.percentile(found["waits"], percent))
        sheet.add(f"Celery hop p{percent}", figure, "s", better="lower", note=note, peer=f"hop p{percent}")
    sheet.add("Celery, from the trigger to the first task", found["firsts"], "s", better="lower")
    return sheet.rows
