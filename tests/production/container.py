"""A container as far as these services can tell: the kernel's namespaces and an overlay of this machine's files.

Each has its own processes, host name, network address and root folder; its image is this machine's Debian with the
environment of `make production-check` first in PATH. Only root can make one. All of it lives in the namespaces of the
check itself (see ``__main__``), so nothing outlasts it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.production.compose import (
    PROJECT,
    Compose,
    Service,
    image_copies,
    image_entrypoint,
    image_folder,
    image_user,
)

NETWORK = "172.31.0"
BRIDGE = "ringrift0"
START_SECONDS = 60.0
BUSY = 3.0
"""So many times the file's own limit has a health check here: all services start at once on two cores."""
NUMBA = PROJECT / ".venv-production" / "numba"
"""The compiled rules of the image; kept between checks, named by their source."""

_POSTGRES_ENTRY = r"""
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" -E UTF8 \
    --auth-local=trust --auth-host=scram-sha-256 >/dev/null
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  pg_ctl -w -s -o "-c listen_addresses='' -c unix_socket_directories=/tmp" start
  psql -q -h /tmp -U "$POSTGRES_USER" -d postgres -c "CREATE DATABASE $POSTGRES_DB"
  cat /docker-entrypoint-initdb.d/*.sql | psql -q -h /tmp -U "$POSTGRES_USER" -d "$POSTGRES_DB"
  pg_ctl -w -s -m fast stop
fi
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/tmp
"""
"""What the entrypoint of the image postgres does with the options that are used here."""

_COMMANDS = {"caddy": ("caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile")}
"""What an image runs where the file names no command."""

_VARIABLES = {
    "caddy": {"XDG_DATA_HOME": "/data", "XDG_CONFIG_HOME": "/config"},
    "postgres": {"PGDATA": "/var/lib/postgresql/data"},
}
"""What an image sets."""


@dataclass(frozen=True)
class Engine:
    """Where the containers of one check have their files, and the addresses they were given."""

    folder: Path
    compose: Compose
    secrets: Path
    addresses: Mapping[str, str]
    """{host name: address}; service names lead to the first of a service's containers."""

    def network(self) -> None:
        """Make the bridge that the containers hang on; this process is its first address."""
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "add", BRIDGE, "type", "bridge"),
            ("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE),
            ("link", "set", BRIDGE, "up"),
        ):
            subprocess.run(["ip", *words], check=True)

    def volume(self, name: str) -> Path:
        return self.folder / "volumes" / name


def addresses(services: Mapping[str, Service]) -> dict[str, str]:
    """Return an address for each container of ``services``, and for each service that of its first one."""
    found: dict[str, str] = {}
    for service in services.values():
        for number in range(1, service.replicas + 1):
            found[host_name(service, number)] = f"{NETWORK}.{len(set(found.values())) + 2}"
        found[service.name] = found[host_name(service, 1)]
    return found


def host_name(service: Service, number: int) -> str:
    return f"ringrift-{service.name}-{number}"


@dataclass
class Container:
    """One container of a service."""

    engine: Engine
    service: Service
    number: int = 1
    process: subprocess.Popen[bytes] | None = None
    init: int = 0
    """The pid of its first process, as the check sees it."""
    starts: int = 0
    extra: dict[str, Path] = field(default_factory=dict)
    """{place in the container: file or folder of this machine}, beyond what the compose file mounts."""

    @property
    def name(self) -> str:
        return host_name(self.service, self.number)

    @property
    def address(self) -> str:
        return self.engine.addresses[self.name]

    @property
    def log(self) -> Path:
        return self.engine.folder / "logs" / f"{self.name}.log"

    @property
    def environment(self) -> dict[str, str]:
        """What its processes see."""
        postgres = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))
        ours = [PROJECT / ".venv-production" / "bin", PROJECT / ".venv" / "bin"] if self.service.is_ours else []
        path = [*map(str, ours), str(postgres), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/bin"]
        ground = {"PATH": ":".join(path), "HOSTNAME": self.name, "HOME": "/tmp", "LANG": "C.UTF-8"}
        return ground | _VARIABLES.get(self.service.image, {}) | self.engine.compose.environment(self.service)

    @property
    def user(self) -> str:
        """Who its processes run as: the service's own word, the image's user, or what the image's entrypoint takes."""
        if self.service.user is not None:
            return self.service.user
        return image_user()[0] if self.service.is_ours else {"postgres": "postgres"}.get(self.service.image, "root")

    def start(self, command: Sequence[str] | None = None) -> None:
        """Start it with the service's command, or another one; returns once it has its network."""
        asked = tuple(command or self.service.command or _COMMANDS[self.service.image])
        entry: list[str] = []
        if self.service.is_ours:
            entry = image_entrypoint()
        elif self.service.image == "postgres" and asked[0] == "postgres":
            entry = ["sh", "-c", _POSTGRES_ENTRY, "entrypoint"]
        gate = self.engine.folder / "gates" / f"{self.name}-{self.starts}"
        gate.parent.mkdir(exist_ok=True)
        self.log.parent.mkdir(exist_ok=True)
        script = "\n".join([*self._mounts(), f"while [ ! -e {gate} ]; do sleep 0.05; done",
                            f"exec chroot {self._root} {shlex.join([*self._inside(), *entry, *asked])}"])  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child",
                 "/bin/sh", "-euc", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.init = self._first_process()
        self._connect()
        self.starts += 1
        gate.touch()

    def run(self, command: Sequence[str] | None = None, timeout: float = 600.0) -> int:
        """Start it and wait for its end; return its exit code."""
        self.start(command)
        assert self.process is not None
        return self.process.wait(timeout)

    def execute(self, command: Sequence[str], timeout: float, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it, as ``docker compose exec`` does (and as health checks run)."""
        return subprocess.run(
            ["nsenter", "--target", str(self.init), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wdns=/",
             *self._inside(), "timeout", "--signal=KILL", str(timeout), *command],
            input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def healthy(self) -> str:
        """Run the compose file's health check; return '' when it is well, else what it said."""
        check = self.service.health
        if not self.alive:
            return "not running"
        if check is None:
            return ""
        answer = self.execute(check.command, check.timeout * BUSY)
        return "" if answer.returncode == 0 else (answer.stderr or answer.stdout).strip()[-300:] or "no"

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it with all in it at once: ``kill -9`` of its first process."""
        if self.alive:
            os.kill(self.init, signal.SIGKILL)
            assert self.process is not None
            self.process.wait()

    def stop(self, grace: float = 20.0) -> None:
        """End it as ``docker compose stop`` does."""
        if self.alive:
            assert self.process is not None
            os.kill(self.init, signal.SIGTERM)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                self.kill()

    # --- how it is made ----------------------------------------------------------------------------

    @property
    def _place(self) -> Path:
        return self.engine.folder / "containers" / self.name

    @property
    def _root(self) -> Path:
        return self._place / "root"

    def _mounts(self) -> list[str]:
        upper, work, root = self._place / "upper", self._place / "work", self._root
        shutil.rmtree(self._place, ignore_errors=True)
        for folder in (upper, work, root):
            folder.mkdir(parents=True)
        lines = [
            f"hostname {self.name}",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={upper},workdir={work} {root}",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"mount -t tmpfs tmpfs {root}/tmp",
            # The interpreter of these environments may lie in somebody's home.
            *(f"chmod a+x {root}{parent}" for parent in Path(os.path.realpath(sys.executable)).parents
              if not parent.stat().st_mode & 0o001),
        ]  # fmt: skip
        for target, source in self._bound().items():
            made = "mkdir -p" if source.is_dir() else "touch"
            lines += [f"mkdir -p {root}{Path(target).parent}", f"{made} {root}{target}",
                      f"mount --rbind {source} {root}{target}"]  # fmt: skip
        return lines

    def _bound(self) -> dict[str, Path]:
        """{place in the container: what of this machine is there}."""
        bound = {f"/etc/{name}": self.engine.folder / name for name in ("hosts", "passwd", "group")}
        if self.service.is_ours:
            bound |= {f"{image_folder()}/{name}": PROJECT / name for name in image_copies()}
            bound[self.engine.compose.environment(self.service).get("RINGRIFT_NUMBA_CACHE", "/opt/numba")] = NUMBA
        for target, name in self.service.configs.items():
            path = self.engine.folder / "configs" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(self.engine.compose.config(name))
            bound[target] = path
        bound |= {f"/run/secrets/{name}": self.engine.secrets / name for name in self.service.secrets}
        for name, target in self.service.volumes.items():
            folder = self.engine.volume(name)
            if not folder.exists():
                folder.mkdir(parents=True)
                if self.user != "root":
                    shutil.chown(folder, *self._ids())
                folder.chmod(0o755 if self.user != "postgres" else 0o700)
            bound[target] = folder
        return bound | self.extra

    def _ids(self) -> tuple[int, int]:
        lines = (self.engine.folder / "passwd").read_text().splitlines()
        fields = next(line.split(":") for line in lines if line.startswith(f"{self.user}:"))
        return int(fields[2]), int(fields[3])

    def _inside(self) -> list[str]:
        """How a command gets the container's user, rights and variables."""
        uid, gid = self._ids()
        rights = ["--bounding-set=-all", "--no-new-privs"] if self.service.is_confined else []
        given = [f"{name}={value}" for name, value in self.environment.items()]
        folder = image_folder() if self.service.is_ours else "/"
        return ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *rights,
                "env", "-i", f"--chdir={folder}", *given]  # fmt: skip

    def _first_process(self) -> int:
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = children.read_text().split()
            if found:
                return int(found[0])
            time.sleep(0.01)
        raise TimeoutError(f"{self.name} did not begin: {self.log.read_text()[-500:]}")

    def _connect(self) -> None:
        link = f"v{self.init}"
        inside = ["nsenter", "--target", str(self.init), "--net"]
        for words in (
            ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(self.init)],
            ["ip", "link", "set", link, "master", BRIDGE, "up"],
            [*inside, "ip", "link", "set", "lo", "up"],
            [*inside, "ip", "addr", "add", f"{self.address}/24", "dev", "eth0"],
            [*inside, "ip", "link", "set", "eth0", "up"],
        ):
            subprocess.run(words, check=True)
