"""An Edge worker of this machine: Airflow's own, with its settings written, its leader told, and started again."""

from __future__ import annotations

import configparser
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from ringrift_ops.errors import InfrastructureError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.hosts.exchange import (
    LEADER_VARIABLE,
    NODE_VARIABLE,
    TOKEN_FILE_VARIABLE,
    Exchange,
    LeaderAwayError,
    segment,
)
from ringrift_ops.hosts.facts import canonical_nets, facts
from ringrift_ops.hosts.local import LocalJobs
from ringrift_ops.platform import processes
from ringrift_ops.platform.environment import (
    EDGE_API,
    EDGE_EXECUTOR,
    EDGE_OPTIONS,
    Installation,
    component_environment,
)
from ringrift_ops.platform.keeper import tail
from ringrift_ops.settings import EDGE
from ringrift_ops.store import atomic_write

BACKOFF_SECONDS = (2.0, 5.0, 10.0, 20.0, 30.0)
QUIET_SECONDS = 600.0
TICK_SECONDS = 0.5

_DAGS = '''\
"""Generated at every start. The leader's DAG of this host, by its name."""

from airflow.sdk import get_parsing_context

from ringrift_ops.airflow.edge import PREFIX, build_edge

only = get_parsing_context().dag_id
if only is not None and only.startswith(PREFIX):
    globals()[only] = build_edge(only.removeprefix(PREFIX))
'''


class PlatformHomeError(UsageError):
    """The home of an Edge worker is that of a platform."""


class WorkerDiedError(InfrastructureError):
    """Airflow's Edge worker ends again and again."""


@dataclass
class Worker:
    """Airflow's Edge worker ``exchange.node`` in ``home``. ``say`` takes lines for whoever watches."""

    home: Home
    exchange: Exchange
    queues: Sequence[str]
    concurrency: int
    say: Callable[[str], object]
    _process: subprocess.Popen[bytes] | None = None
    _deaths: list[float] = field(default_factory=list)
    _stop: bool = False

    def prepare(self) -> None:
        """Write what Airflow is told; raises :class:`PlatformHomeError`."""
        if Installation(self.home).database.exists():
            raise PlatformHomeError(
                f"{self.home.root} is the home of a platform: give the worker a folder of its own in RINGRIFT_HOME"
            )
        self.home.ensure()
        self.home.worker.mkdir(exist_ok=True)
        dags = self.home.worker / "dags"
        dags.mkdir(exist_ok=True)
        atomic_write(dags / "ringrift.py", _DAGS.encode())
        atomic_write(self.token_file, self.exchange.secret.encode(), mode=0o600)
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_dict(self._options(dags))
        parser.read(Installation(self.home).own_config, encoding="utf-8")
        text = io.StringIO()
        parser.write(text)
        atomic_write(self.home.worker / "airflow.cfg", text.getvalue().encode(), mode=0o600)

    @property
    def token_file(self) -> Path:
        return self.home.worker / "token"

    @property
    def log(self) -> Path:
        return self.home.logs / "edge-worker.log"

    def _options(self, dags: Path) -> dict[str, dict[str, str]]:
        wanted: dict[str, dict[str, object]] = {
            "core": {
                "executor": EDGE_EXECUTOR,
                "dags_folder": dags,
                "plugins_folder": self.home.worker / "plugins",
                "load_examples": False,
                "execution_api_server_url": f"{self.exchange.url}/execution/",
                "hostname_callable": "socket.gethostname",
            },
            "edge": EDGE_OPTIONS | {"api_url": f"{self.exchange.url}{EDGE_API}"},
            # Signs what the worker asks of the Edge API; tasks carry tokens that the leader's scheduler has signed.
            "api_auth": {"jwt_secret": self.exchange.secret},
            "workers": {"execution_api_timeout": 30},
            "logging": {"base_log_folder": self.home.logs / "airflow", "worker_log_server_port": 9},
        }
        return {
            section: {name: str(value).replace("%", "%%") for name, value in options.items()}
            for section, options in wanted.items()
        }

    # --- while it runs ---------------------------------------------------------------------------

    def keep(self) -> None:
        """Hold the worker up until SIGTERM or SIGINT; then it and its jobs end, which resume at the next start.

        A leader that is away is waited for. Raises ``TokenRefusedError`` when the secret is no longer the leader's:
        jobs that run go on, and are adopted by the next start. Raises :class:`WorkerDiedError`.
        """
        processes.adopt_orphans()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._asked_to_stop)
        self.prepare()
        restart, beaten, away = 0.0, -EDGE.beat_seconds, False
        try:
            while not self._stop:
                now = time.monotonic()
                if now - beaten >= EDGE.beat_seconds:
                    beaten, away = now, self._beat(away)
                if self._process is not None and self._process.poll() is not None:
                    restart = now + self._died()
                if self._process is None and not away and now >= restart:
                    self._start()
                time.sleep(TICK_SECONDS)
            self._end()
            ended = LocalJobs(self.home.jobs).kill_all()
            self.say(f"stopped{f'; ended {len(ended)} jobs, which resume at the next start' if ended else ''}")
        finally:
            self._end()

    def _asked_to_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stop = True

    def _beat(self, away: bool) -> bool:
        """Tell the leader how this machine is; return whether the leader is away."""
        try:
            self.exchange.ask(
                "POST",
                f"/nodes/{segment(self.exchange.node)}/beat",
                {"facts": facts(self.home) | {"nets": canonical_nets(self.home)}},
            )
        except LeaderAwayError as error:
            if not away:
                self.say(f"{error}. It is waited for; what runs here goes on")
            return True
        if away:
            self.say("the leader is back")
        return False

    def _start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = ["edge", "worker", "--edge-hostname", self.exchange.node, "--queues", ",".join(self.queues)]
        own = {
            "AIRFLOW_HOME": str(self.home.worker),
            LEADER_VARIABLE: self.exchange.url,
            NODE_VARIABLE: self.exchange.node,
            TOKEN_FILE_VARIABLE: str(self.token_file),
        }
        inherited = component_environment(os.environ, self.home)
        inherited.pop("RINGRIFT_CLUSTER_AUTH_TOKEN", None)
        pid_file = self.home.worker / "worker.pid"
        pid_file.unlink(missing_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-m", "airflow", *command,
                    "--concurrency", str(self.concurrency), "--pid", str(pid_file),
                ],
                env=inherited | own, cwd=self.home.worker, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=partial(processes.die_with_parent, os.getpid(), signal.SIGKILL),
            )  # fmt: skip

    def _died(self) -> float:
        """Return after how many seconds to start again; raises what the leader says, :class:`WorkerDiedError`."""
        assert self._process is not None
        code, now = self._process.returncode, time.monotonic()
        self._end()
        self._beat(away=True)
        self._deaths = [when for when in self._deaths if now - when < QUIET_SECONDS] + [now]
        if len(self._deaths) > len(BACKOFF_SECONDS):
            raise WorkerDiedError(
                f"Airflow's Edge worker ended for the {len(self._deaths)}th time: {tail(self.log)}; see {self.log}"
            )
        wait = BACKOFF_SECONDS[len(self._deaths) - 1]
        self.say(f"Airflow's Edge worker ended with {code}; starting it again in {wait:g} s (log: {self.log})")
        return wait

    def _end(self) -> None:
        """End the worker and its tasks without a word: what they carried goes on with the next start."""
        if self._process is None:
            return
        processes.send(signal.SIGKILL, processes.in_sessions([self._process.pid]))
        self._process.wait()
        self._process = None
        processes.reap()
