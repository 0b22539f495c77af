"""Airflow's own database, as far as retention goes: what ``airflow db clean`` would remove, and removing it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from ringrift_ops.errors import InfrastructureError
from ringrift_ops.home import Home
from ringrift_ops.platform.environment import Installation, component_environment

CONNECTION = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
"""Set where Airflow is not the one that `make run` starts, as in docker-compose.yaml."""

CLEAN_SECONDS = 1_800.0

_TABLE = re.compile(r"(?:Performing dry run for table|Checking table) (\S+)")
_FOUND = re.compile(r"Found (\d+) rows meeting deletion criteria")


class NotCleanedError(InfrastructureError):
    """``airflow db clean`` failed, or says something that is not understood."""


@dataclass(frozen=True)
class AirflowTables:
    """The database of one Airflow, reached by its own command."""

    environment: Mapping[str, str]

    @classmethod
    def of(cls, home: Home) -> AirflowTables | None:
        """Return that of ``home``, else the one this process is configured for; None where there is neither."""
        if Installation(home).config.exists():
            return cls(component_environment(os.environ, home))
        return cls(dict(os.environ)) if CONNECTION in os.environ else None

    def old(self, before: datetime) -> dict[str, int]:
        """Return {table: rows} from before that moment; raises :class:`NotCleanedError`."""
        return self._clean(before, "--dry-run")

    def clean(self, before: datetime) -> dict[str, int]:
        """Remove rows from before that moment for good, and return {table: rows}; raises :class:`NotCleanedError`."""
        return self._clean(before, "--skip-archive", "--yes", "--error-on-cleanup-failure")

    def _clean(self, before: datetime, *options: str) -> dict[str, int]:
        command = [sys.executable, "-m", "airflow", "db", "clean", "--clean-before-timestamp", before.isoformat()]
        try:
            done = subprocess.run(
                [*command, *options], env=dict(self.environment), capture_output=True, text=True, timeout=CLEAN_SECONDS,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotCleanedError(f"`airflow db clean` could not be run: {error}") from error
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise NotCleanedError(f"`airflow db clean` ended with {done.returncode}: {''.join(last)}")
        found = rows_in(done.stdout)
        if not found:
            raise NotCleanedError("`airflow db clean` names no table: is this another version of Airflow?")
        return found


def rows_in(said: str) -> dict[str, int]:
    """Return {table: rows} of what ``airflow db clean`` printed."""
    found: dict[str, int] = {}
    table = None
    for line in said.splitlines():
        if named := _TABLE.search(line):
            table = named[1]
        elif (counted := _FOUND.search(line)) and table is not None:
            found[table] = int(counted[1])
    return found
