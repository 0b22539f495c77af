"""Real sshd processes on loopback: each with its own port, host key, config and work folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ringrift_ops.home import Home
from ringrift_ops.hosts.keys import HostKey
from ringrift_ops.hosts.link import Link
from ringrift_ops.hosts.processes import ProcessIdentity, identify
from ringrift_ops.hosts.remote import RemoteJobs
from ringrift_ops.settings import Host, Inventory

PATIENCE = 30.0


def until(condition: Callable[[], object], what: str, *, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for: {what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def new_key(path: Path, kind: str = "ed25519") -> str:
    """Make a key pair and return its public half as ``<type> <base64>``."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    words = path.with_suffix(".pub").read_text().split()
    return f"{words[0]} {words[1]}"


@dataclass
class Sshd:
    """One sshd and the host it stands for. ``options``: more lines of its config; ``wrap``: what runs it."""

    program: str
    folder: Path
    client_key: Path
    options: Sequence[str] = ()
    wrap: Sequence[str] = ()
    address: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.host_key = new_key(self.folder / "host_key")
        (self.folder / "authorized_keys").write_text(self.client_key.with_suffix(".pub").read_text())
        self.work.mkdir()

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> Sshd:
        """Start it and wait until it listens."""
        Path("/run/sshd").mkdir(exist_ok=True)
        cache = os.environ["RINGRIFT_NUMBA_CACHE"]
        lines = [
            f"Port {self.port}", f"ListenAddress {self.address}", f"HostKey {self.folder}/host_key",
            f"PidFile {self.folder}/pid", f"AuthorizedKeysFile {self.folder}/authorized_keys", "StrictModes no",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no", "UsePAM no",
            "PermitRootLogin prohibit-password", "Subsystem sftp internal-sftp",
            *self.options, f"SetEnv RINGRIFT_NUMBA_CACHE={cache}",  # the first SetEnv counts
        ]  # fmt: skip
        (self.folder / "config").write_text("\n".join(lines) + "\n")
        command = [*self.wrap, self.program, "-D", "-f", str(self.folder / "config"), "-E", str(self.folder / "log")]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        until(self.listens, f"sshd on port {self.port}: {self.log}")
        return self

    def listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"sshd ended: {self.log}"
        return f"Server listening on {self.address} port {self.port}" in self.log

    def sessions(self) -> list[ProcessIdentity]:
        """The processes of sshd that hold a connection."""
        assert self.process is not None
        return [found for pid in children(self.process.pid) if (found := identify(pid)) is not None]

    def cut(self) -> None:
        """Kill every connection; sshd itself goes on."""
        for session in self.sessions():
            for pid in [*children(session.pid), session.pid]:
                kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End sshd and its connections, as when a host is switched off; jobs go on."""
        if self.process is not None:
            self.cut()
            self.process.kill()
            self.process.wait()
            self.cut()
            self.process = None
            (self.folder / "log").unlink(missing_ok=True)

    def host(self, name: str = "one", **changes: object) -> Host:
        """The host as an inventory would name it, sharing this environment's Python."""
        row: dict[str, object] = {
            "name": name, "ssh_host": self.address, "ssh_port": self.port, "role": "mixed", "max_parallel_jobs": 4,
            "key_file": str(self.client_key), "host_key": self.host_key, "work_dir": str(self.work),
            "python": sys.executable,
        }  # fmt: skip
        return Host.model_validate(row | changes)

    def jobs(self, **changes: object) -> RemoteJobs:
        """The jobs of this host over a link of their own."""
        host = self.host(**changes)  # type: ignore[arg-type]  # fields by name
        return RemoteJobs(Link(host, HostKey(host.host_key or self.host_key)))


def children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def kill(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


class Sshds:
    """Makes sshds and ends them all."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.root = Path(tempfile.mkdtemp(prefix="ringrift-sshd-"))
        self.client_key = self.root / "client_key"
        new_key(self.client_key)
        self.made: list[Sshd] = []

    def make(self, *, options: Sequence[str] = (), wrap: Sequence[str] = (), address: str = "127.0.0.1") -> Sshd:
        sshd = Sshd(self.program, self.root / f"host{len(self.made)}", self.client_key, options, wrap, address)
        self.made.append(sshd)
        return sshd.start()

    def end(self) -> None:
        for sshd in self.made:
            sshd.stop()
        shutil.rmtree(self.root, ignore_errors=True)


def write_inventory(home: Home, hosts: dict[str, Host]) -> Inventory:
    """Write ``distributed_hosts.yaml`` with these hosts and return it as it is read."""
    import yaml

    rows = {name: host.model_dump(mode="json", exclude_none=True) for name, host in hosts.items()}
    home.inventory.parent.mkdir(parents=True, exist_ok=True)
    home.inventory.write_text(yaml.safe_dump({"hosts": rows}))
    return Inventory.load(home)


def running(program: str) -> Iterator[Sshds]:
    sshds = Sshds(program)
    try:
        yield sshds
    finally:
        sshds.end()
