"""What Airflow is told: one generated ``airflow.cfg``, secrets made once, and nothing of another installation."""

from __future__ import annotations

import base64
import configparser
import fcntl
import io
import json
import os
import secrets
import shlex
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringrift_ops.errors import InfrastructureError, UsageError
from ringrift_ops.home import Home, project_folder
from ringrift_ops.store import atomic_write

USER = "admin"
WEB_PORT, EXECUTION_PORT, EDGE_PORT = 8080, 8081, 8082
PORTS_TRIED = 100
PORT_VARIABLE = "RINGRIFT_PORT"
EDGE_PORT_VARIABLE = "RINGRIFT_EDGE_PORT"
LOOPBACK = "127.0.0.1"
KEPT = ("AIRFLOW_CONN_", "AIRFLOW_VAR_")
"""Airflow variables of the caller that carry connections and values, not another installation's settings."""


EDGE_EXECUTOR = "airflow.providers.edge3.executors.EdgeExecutor"
EDGE_API = "/edge_worker/v1/rpcapi"
EDGE_OPTIONS: dict[str, object] = {"heartbeat_interval": 5, "job_poll_interval": 1}
"""Seconds, on leader and worker alike; a worker not heard of for five intervals may be started again elsewhere."""


class BusyPortError(InfrastructureError):
    """The port that was asked for by name is taken."""


class BadPortError(UsageError):
    """``RINGRIFT_PORT`` is not a port."""


class DamagedSecretsError(UsageError):
    """The file with this installation's secrets cannot be read."""


@dataclass(frozen=True)
class Installation:
    """Where the platform of one home keeps its own files."""

    home: Home

    @property
    def config(self) -> Path:
        return self.home.airflow / "airflow.cfg"

    @property
    def own_config(self) -> Path:
        """Options a person adds; they go over the generated ones."""
        return self.home.config / "airflow.cfg"

    @property
    def local_settings(self) -> Path:
        """The module that Airflow imports at every start (its ``config`` folder is on its path)."""
        return self.home.airflow / "config" / "airflow_local_settings.py"

    @property
    def database(self) -> Path:
        return self.home.airflow / "airflow.db"

    @property
    def secrets(self) -> Path:
        return self.home.airflow / "secrets.json"

    @property
    def edge_token(self) -> Path:
        """The secret that makes an Edge worker one: made once, copied to the hosts by a person, renewed by removing."""
        return self.home.airflow / "edge_token"

    @property
    def passwords(self) -> Path:
        return self.home.airflow / "passwords.json"

    @property
    def lock(self) -> Path:
        return self.home.airflow / "platform.lock"

    @property
    def state(self) -> Path:
        return self.home.airflow / "platform.json"

    def url(self) -> str:
        """Return the address of the running platform's web interface."""
        return str(json.loads(self.state.read_text())["url"])

    @property
    def logs(self) -> Path:
        """Logs of the components."""
        return self.home.logs / "platform"

    def log(self, component: str) -> Path:
        return self.logs / f"{component}.log"


@dataclass(frozen=True)
class Secrets:
    """Made once per home, kept with mode 0600."""

    fernet_key: str
    jwt_secret: str
    secret_key: str
    password: str

    @classmethod
    def of(cls, installation: Installation) -> Secrets:
        """Return the installation's secrets, made now when there are none."""
        path = installation.secrets
        if not path.exists():
            made = cls(
                fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
                jwt_secret=secrets.token_urlsafe(64),
                secret_key=secrets.token_urlsafe(32),
                password=secrets.token_urlsafe(12),
            )
            atomic_write(path, json.dumps(made.__dict__, indent=1).encode(), mode=0o600)
        try:
            kept = cls(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise DamagedSecretsError(
                f"{path} is damaged ({error}): restore it, or delete it and {installation.database} to begin anew"
            ) from error
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        known = passwords_of(installation)
        if known.get(USER) != kept.password:
            atomic_write(installation.passwords, json.dumps(known | {USER: kept.password}).encode(), mode=0o600)
        return kept


def passwords_of(installation: Installation) -> dict[str, str]:
    """Return {user: password}; users whom a person added get theirs from Airflow at its start."""
    try:
        kept: dict[str, str] = json.loads(installation.passwords.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return kept


def make_edge_token(installation: Installation) -> None:
    """Make the cluster's secret unless there is one."""
    if not installation.edge_token.exists():
        atomic_write(installation.edge_token, secrets.token_urlsafe(64).encode() + b"\n", mode=0o600)


@dataclass(frozen=True)
class Ports:
    """Loopback ports of the web interface (UI and REST), of the API that tasks talk to, of the door for Edge hosts."""

    web: int
    execution: int
    edge: int | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.web}"

    @property
    def execution_url(self) -> str:
        return f"http://localhost:{self.execution}/execution/"

    @property
    def edge_url(self) -> str | None:
        return None if self.edge is None else f"http://localhost:{self.edge}"

    @classmethod
    def find(cls, environ: Mapping[str, str], *, edge: bool = False) -> Ports:
        """Return free ports, a third one with ``edge``: the usual ones, else the next free above them.

        A web port named by ``RINGRIFT_PORT``, an Edge port named by ``RINGRIFT_EDGE_PORT``, is taken or refused,
        never moved. Raises :class:`BusyPortError`, :class:`BadPortError`.
        """
        web = _named(environ, PORT_VARIABLE) or _next_free(WEB_PORT)
        execution = _next_free(EXECUTION_PORT, leave_out=(web,))
        if not edge:
            return cls(web, execution)
        return cls(web, execution, _named(environ, EDGE_PORT_VARIABLE) or _next_free(EDGE_PORT, (web, execution)))


def _named(environ: Mapping[str, str], variable: str) -> int | None:
    named = environ.get(variable, "").strip()
    if not named:
        return None
    if not named.isdigit() or not 0 < int(named) < 65536:
        raise BadPortError(f"{variable}={named!r} is not a port: give a number from 1 to 65535")
    if not is_free(int(named)):
        raise BusyPortError(
            f"port {named} ({variable}) is taken by another process: choose another one, "
            f"or leave {variable} away to take the next free port"
        )
    return int(named)


_CLAIMED: dict[int, int] = {}
"""Ports this process has claimed, with the open file that holds each lock until the process ends."""


def claim(port: int) -> bool:
    """Take a port for this process among all platforms of this machine; False when another has it.

    A port is free until its server listens, seconds after it was chosen: without the claim two platforms that start
    together choose the same one, and one talks to the other's API.
    """
    if port in _CLAIMED:
        return True
    descriptor = os.open(
        Path(tempfile.gettempdir()) / f"ringrift-port-{port}-{os.getuid()}.lock", os.O_RDWR | os.O_CREAT
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    _CLAIMED[port] = descriptor
    return True


def is_free(port: int) -> bool:
    """Return whether nothing listens on ``port`` of this machine."""
    for host in (LOOPBACK, "0.0.0.0"):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True


def _next_free(first: int, leave_out: Sequence[int] = ()) -> int:
    for port in range(first, first + PORTS_TRIED):
        if port not in leave_out and is_free(port) and claim(port):
            return port
    raise BusyPortError(f"none of the ports {first} to {first + PORTS_TRIED - 1} is free: stop what listens there")


_LOCAL_SETTINGS = """\
# Generated at every start; every process of Airflow imports it by its name.
from sqlalchemy.engine import Engine

from ringrift_ops.airflow.sqlite import lock_before_savepoints

lock_before_savepoints(Engine)
__all__ = []
"""


def write_config(installation: Installation, ports: Ports, workers: int) -> None:
    """Write ``airflow.cfg`` (mode 0600): ours, then the options of the home's ``config/airflow.cfg``.

    ``workers``: tasks that run at the same time.
    """
    parser = configparser.ConfigParser(interpolation=None)
    chosen = _options(installation, Secrets.of(installation), ports, workers)
    if ports.edge is not None:
        make_edge_token(installation)
        chosen["core"]["executor"] = f"LocalExecutor,{EDGE_EXECUTOR}"
        chosen["database"]["external_db_managers"] = "airflow.providers.edge3.models.db.EdgeDBManager"
        chosen["edge"] = EDGE_OPTIONS | {"api_enabled": True, "api_url": f"{ports.edge_url}{EDGE_API}"}
    for section, options in chosen.items():
        # Airflow interpolates: a percent sign in a path has to be doubled.
        parser[section] = {name: str(value).replace("%", "%%") for name, value in options.items()}
    if installation.own_config.exists():
        try:
            parser.read(installation.own_config, encoding="utf-8")
        except configparser.Error as error:
            raise UsageError(f"{installation.own_config}: {str(error).splitlines()[0]}") from error
    text = io.StringIO()
    text.write(f"# Generated at every start. Put options of your own into {installation.own_config}.\n\n")
    parser.write(text)
    atomic_write(installation.config, text.getvalue().encode(), mode=0o600)
    atomic_write(installation.local_settings, _LOCAL_SETTINGS.encode())


def _options(installation: Installation, kept: Secrets, ports: Ports, workers: int) -> dict[str, dict[str, object]]:
    project = project_folder()
    logs = installation.home.logs / "airflow"
    return {
        "core": {
            "executor": "LocalExecutor",
            "parallelism": workers,
            "max_active_tasks_per_dag": 64,
            "load_examples": False,
            "dags_folder": project / "dags",
            "plugins_folder": project / "plugins",
            "fernet_key": kept.fernet_key,
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": installation.passwords,
            "execution_api_server_url": ports.execution_url,
            "hostname_callable": "socket.gethostname",  # the default asks a name server
            "min_serialized_dag_update_interval": 5,
        },
        "database": {
            # 30 s: with SQLite's own 5 s a busy machine kills the scheduler with "database is locked".
            "sql_alchemy_conn": f"sqlite:///{installation.database}?timeout=30",
        },
        "scheduler": {
            "scheduler_idle_sleep_time": 0.2,
            "task_instance_heartbeat_timeout": 60,
            "orphaned_tasks_check_interval": 15,
            "trigger_timeout_check_interval": 5,
            "task_queued_timeout": 3600,
        },
        "dag_processor": {
            "refresh_interval": 30,
            "min_file_process_interval": 30,
            "parsing_processes": 1,
        },
        "triggerer": {"capacity": 1_000},
        "api": {
            "host": LOOPBACK,
            "port": ports.web,
            "base_url": ports.url,
            "secret_key": kept.secret_key,
            "workers": 1,
            "instance_name": "RingRift Ops",
        },
        "api_auth": {"jwt_secret": kept.jwt_secret},
        "workers": {"execution_api_timeout": 30},
        "logging": {
            "base_log_folder": logs,
            "dag_processor_child_process_log_directory": logs / "dag_processor",
            "logging_level": "INFO",
            # Every log lies on this disk, so no log servers run (100 MB less, two ports fewer). Port 9
            # answers nobody: the API server then reads the files instead of asking a stranger's 8793.
            "worker_log_server_port": 9,
            "trigger_log_server_port": 9,
        },
    }


def foreign_variables(environ: Mapping[str, str], home: Home) -> list[str]:
    """Return the names of the caller's variables that configure another Airflow, in order."""
    return sorted(
        name
        for name, value in environ.items()
        if name.startswith("AIRFLOW_")
        and not name.startswith(KEPT)
        and not (name == "AIRFLOW_HOME" and Path(value).absolute() == home.airflow)
    )


def component_environment(environ: Mapping[str, str], home: Home) -> dict[str, str]:
    """Return the environment of every component: the caller's, ours on top, foreign Airflow settings left out."""
    foreign = set(foreign_variables(environ, home))
    kept = {name: value for name, value in environ.items() if name not in foreign}
    binaries = str(Path(sys.executable).parent)
    loopback = "127.0.0.1,localhost"
    no_proxy = ",".join(filter(None, (environ.get("no_proxy", environ.get("NO_PROXY", "")), loopback)))
    return kept | {
        "AIRFLOW_HOME": str(home.airflow),
        "RINGRIFT_HOME": str(home.root),
        "PATH": os.pathsep.join((binaries, environ.get("PATH", os.defpath))),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(project_folder()), environ.get("PYTHONPATH", "")))),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
    }


def write_env(home: Home) -> None:
    """Write the file that a shell sources so that plain ``airflow`` and ``ringrift`` mean this installation."""
    binaries = shlex.quote(str(Path(sys.executable).parent))
    atomic_write(
        home.env,
        f"""\
# Generated. Source it:  . {home.env}
for ringrift_name in $(env | sed -n 's/^\\(AIRFLOW_[A-Z0-9_]*\\)=.*/\\1/p'); do
  case "$ringrift_name" in AIRFLOW_CONN_* | AIRFLOW_VAR_*) ;; *) unset "$ringrift_name" ;; esac
done
unset ringrift_name
export RINGRIFT_HOME={shlex.quote(str(home.root))}
export AIRFLOW_HOME={shlex.quote(str(home.airflow))}
export PYTHONPATH={shlex.quote(str(project_folder()))}"${{PYTHONPATH:+:$PYTHONPATH}}"
case ":$PATH:" in *:{binaries}:*) ;; *) export PATH={binaries}:"$PATH" ;; esac
""".encode(),
        mode=0o644,
    )
