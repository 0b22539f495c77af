"""A real platform for the tests that need one: all components of Airflow, stages by the stand-in, one per session."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ringrift_ops.home import Home
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.ledger import Generation, Ledger
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets

STANDIN = Path(__file__).parent / "standin"
START_SECONDS = 240.0
USERS = {"vera": "viewer", "uma": "user", "otto": "op"}
"""Users of a platform besides its admin; the password is `<name>-password`."""
RUN_SECONDS = 420.0


def processes_in(folder: Path) -> dict[int, str]:
    """Return {pid: command line} of everything that stands in ``folder`` or below it."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(folder):
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def until(what: str, seconds: float, ask: Callable[[], Any]) -> Any:
    """Return the first true answer of ``ask``; fails with ``what`` when none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ask()
        if answer:
            return answer
        time.sleep(0.25)
    raise AssertionError(f"after {seconds:g} s still not: {what}")


def start(home: Path, verb: str = "up", **variables: str) -> subprocess.Popen[str]:
    """Start ``python -m ringrift_ops.platform <verb>`` on ``home``; what it prints goes to ``<home>.out``."""
    environment = os.environ | {"RINGRIFT_HOME": str(home), "PYTHONPATH": str(STANDIN), "PROFILE": "tiny"} | variables
    with output_of(home).open("w") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "ringrift_ops.platform", verb],
            env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip


def output_of(home: Path) -> Path:
    return home.with_suffix(".out")


def state_of(home: Path) -> dict[str, Any]:
    """Return what the platform wrote about itself, {} before."""
    try:
        state: dict[str, Any] = json.loads(Installation(Home(home)).state.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return state


@dataclass
class Platform:
    """A running platform and the ways of a test to work with it."""

    home: Home
    process: subprocess.Popen[str]
    api: Api

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.home.ledger_url)

    @property
    def jobs(self) -> LocalJobs:
        return LocalJobs(self.home.jobs)

    def script(self, config: str, **steps: Any) -> None:
        """Steer the stand-in for ``config``: seconds, verdict, fail (see ``standin/sitecustomize.py``)."""
        path = self.home.root / "standin.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(known | {config: steps}))
        temporary.replace(path)

    def trigger(self, config: str, **conf: Any) -> str:
        """Start a manual run of ``config`` and return its id."""
        until(f"{config} is known", 60, lambda: self.api.has_dag(config))
        self.api.unpause(config)
        return self.api.trigger(config, {"profile": "tiny"} | conf)

    def over(self, config: str, run_id: str, seconds: float = RUN_SECONDS) -> str:
        """Wait for the end of a run and return its state."""

        def ended() -> str | None:
            state = str(self.api.run(config, run_id)["state"])
            return state if state in ("success", "failed") else None

        return str(until(f"{config} {run_id} is over: {self.states(config, run_id)}", seconds, ended))

    def states(self, config: str, run_id: str) -> dict[str, str]:
        """Return {task: state}; of mapped tasks the last one's."""
        return {task["task_id"]: str(task["state"]) for task in self.api.tasks(config, run_id)}

    def tries(self, config: str, run_id: str) -> dict[str, int]:
        return {task["task_id"]: task["try_number"] for task in self.api.tasks(config, run_id)}

    def generation(self, config: str, run_id: str) -> Generation:
        return next(one for one in self.ledger.generations(config) if one.run_id == run_id)

    def attempts(self, generation: int, stage: str) -> list[dict[str, Any]]:
        """Return every process that the stand-in ran for a stage of a generation."""
        lines = (self.home.root / "standin.log").read_text().splitlines()
        ran = [json.loads(line) for line in lines]
        return [one for one in ran if one["generation"] == generation and one["stage"] == stage]

    def component(self, name: str) -> int:
        """Return the pid of a component, once it runs."""
        return int(until(f"{name} runs", 60, lambda: state_of(self.home.root).get("components", {}).get(name)))


def with_users(home: Home) -> None:
    """Add :data:`USERS` to the platform that will be started on ``home``, as a person would."""
    installation = Installation(home)
    for path in (installation.own_config, installation.passwords):
        path.parent.mkdir(parents=True, exist_ok=True)
    names = ",".join(f"{name}:{role}" for name, role in {USER: "admin", **USERS}.items())
    installation.own_config.write_text(f"[core]\nsimple_auth_manager_users = {names}\n")
    installation.passwords.write_text(json.dumps({name: f"{name}-password" for name in USERS}))


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The platform of this test session; at its end nothing of it may be left."""
    root = tmp_path_factory.mktemp("platform") / "home"
    with_users(Home(root))
    process = start(root)
    try:
        until(
            "the platform is up", START_SECONDS, lambda: "is up after" in output_of(root).read_text() or process.poll()
        )
        assert process.poll() is None, output_of(root).read_text()
        installation = Installation(Home(root))
        port = int(installation.url().rsplit(":", 1)[1])
        yield Platform(Home(root), process, Api(port, USER, Secrets.of(installation).password))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert processes_in(root) == {}


@pytest.fixture(scope="session")
def airflow_here() -> Iterator[None]:
    """Let Airflow be imported in this process, with an empty home of its own and our plugin."""
    project = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        ours = {
            "AIRFLOW_HOME": folder,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        }
        os.environ.update(ours)
        try:
            import airflow.settings  # noqa: F401

            yield
        finally:
            for name in ours:
                os.environ.pop(name, None)
