"""What importing the DAG file costs beyond ``airflow.sdk``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Final

from ringrift_ops.home import project_folder
from tests.bench.figures import Row, Sheet
from tests.bench.machine import one_core, temporary_home
from tests.bench.scale import Scale

SECONDS: Final = 0.3

_SCRIPT: Final = """
import json, runpy, sys, time
import airflow.sdk, airflow.plugins_manager
for name in ("DAG", "Asset", "Param"):
    getattr(airflow.sdk, name)
began = time.process_time()
found = runpy.run_path(sys.argv[1])
spent = time.process_time() - began
dags = [name for name, value in found.items() if type(value).__name__ == "DAG"]
heavy = [name for name in ("torch", "numba") if name in sys.modules]
print(json.dumps({"seconds": spent, "dags": len(dags), "heavy": heavy}))
"""


def dags(scale: Scale) -> list[Row]:
    """Seconds of processor time to import the DAG file, in fresh processes."""
    sheet = Sheet("dags")
    file = project_folder() / "dags" / "ringrift.py"
    with temporary_home() as home, one_core():
        environment = os.environ | {
            "AIRFLOW_HOME": str(home.airflow),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(project_folder() / "plugins"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home.airflow / 'airflow.db'}",
            "PYTHONPATH": str(project_folder()),
        }
        runs = []
        for _ in range(scale.runs + 1):
            done = subprocess.run(
                [sys.executable, "-c", _SCRIPT, str(file)], env=environment, check=True, capture_output=True, text=True
            )
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = [one["seconds"] for one in runs[1:]]  # the first one wrote the byte code
    heavy = runs[-1]["heavy"]
    note = f"{runs[-1]['dags']} DAGs; {'imports ' + ' and '.join(heavy) if heavy else 'neither torch nor numba'}"
    sheet.add("import of dags/ringrift.py beyond airflow.sdk", seconds, "s", target=SECONDS, better="lower", note=note)
    return sheet.rows
