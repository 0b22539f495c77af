"""The hosts that work may run on: ``config/distributed_hosts.yaml``, in the runbook's own form (R67).

Without the file there are no hosts, and everything runs on this machine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ringrift_ops.errors import UsageError
from ringrift_ops.home import Home
from ringrift_ops.settings.names import nearest
from ringrift_ops.settings.strict_yaml import YamlError, YamlFile
from ringrift_ops.settings.tables import HOSTS

Capability = Literal["gpu", "large_memory"]
Kind = Literal["selfplay", "training"]
Role = Literal["selfplay", "training", "mixed", "edge"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_ADDRESS = re.compile(r"[A-Za-z0-9:_.%-]+")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
_OF_SSH = ("ssh_host", "ssh_port", "ssh_user", "key_file", "host_key", "work_dir", "python")
_HOST_KEY = re.compile(r"(ssh|ecdsa|sk-ssh)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}")


class InventoryError(YamlError):
    """``config/distributed_hosts.yaml`` says something that is not a host."""


class UnknownHostError(UsageError):
    """A host that the inventory does not name."""


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text) or text.startswith("-"):
        raise ValueError("a host name, an address or an alias of ~/.ssh/config is needed")
    return text


def _user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise ValueError("a user name is needed")
    return text


def _host_key(text: str) -> str:
    if not _HOST_KEY.fullmatch(text):
        raise ValueError("a public key such as 'ssh-ed25519 AAAAC3...' is needed, without a comment")
    return text


def _remote_path(text: str) -> str:
    if text.startswith(("~", "-")) or "\0" in text or "\n" in text or not text or ".." in Path(text).parts:
        raise ValueError("a path on the host is needed: absolute, or relative to the user's home; without '~' and '..'")
    return text


class Gpu(BaseModel):
    """A host's GPU (of several, one)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="GPU", max_length=80)
    memory_gb: float = Field(gt=0.0, le=1_024.0)


class Host(BaseModel):
    """One host. ``name`` is its key in the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(exclude=True)
    ssh_host: Annotated[str, AfterValidator(_address)] = Field(
        default="", description="name, address or alias of ~/.ssh/config; needed unless the role is edge"
    )
    role: Role = Field(description="edge: reached by nobody; it fetches its work itself, over HTTP (docs/edge.md)")
    work: Literal["selfplay", "training", "mixed"] | None = Field(
        default=None, description="of a host of role edge; None = mixed"
    )
    capabilities: tuple[Capability, ...] = ()
    max_parallel_jobs: int = Field(ge=1, le=HOSTS.most_parallel_jobs)
    ssh_port: int | None = Field(default=None, ge=1, le=65_535)
    ssh_user: Annotated[str, AfterValidator(_user)] | None = None
    key_file: str | None = Field(default=None, description="private key of this machine; else agent and defaults")
    host_key: Annotated[str, AfterValidator(_host_key)] | None = Field(
        default=None, description="else the one that `ringrift cluster trust` stored"
    )
    work_dir: Annotated[str, AfterValidator(_remote_path)] = Field(
        default="ringrift", description="RINGRIFT_HOME on the host"
    )
    python: Annotated[str, AfterValidator(_remote_path)] | None = Field(
        default=None, description="interpreter with the package; None = <work_dir>/venv/bin/python"
    )
    memory_gb: float | None = Field(default=None, gt=0.0, le=65_536.0)
    gpu: Gpu | None = None

    @property
    def is_edge(self) -> bool:
        """Whether it fetches its work itself: no connection is ever made to it."""
        return self.role == "edge"

    @property
    def interpreter(self) -> str:
        """The Python that runs this package there."""
        return self.python or f"{self.work_dir}/venv/bin/python"

    @property
    def abilities(self) -> frozenset[str]:
        """What the host can do: its capabilities, and ``gpu`` when it names one."""
        return frozenset(self.capabilities) | ({"gpu"} if self.gpu is not None else set())

    def plays(self, role: Kind) -> bool:
        """Whether the host takes work of that kind."""
        return ((self.work or "mixed") if self.is_edge else self.role) in (role, "mixed")


class Inventory(BaseModel):
    """The hosts by name, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hosts: dict[str, Host] = {}

    @classmethod
    def load(cls, home: Home) -> Inventory:
        """Return the inventory of a home, empty when it has none.

        Raises :class:`InventoryError`: every mistake with file, line and what is allowed.
        """
        path = home.inventory
        if not path.exists():
            return cls()
        opened = YamlFile(path, InventoryError)
        data = {} if opened.data is None else opened.data
        if not isinstance(data, dict) or any(key != "hosts" for key in data):
            stray = next((key for key in data if key != "hosts"), None) if isinstance(data, dict) else None
            raise opened.fail(() if stray is None else (str(stray),), "only the key 'hosts' may stand at the top")
        rows = data.get("hosts") or {}
        if not isinstance(rows, dict):
            raise opened.fail(("hosts",), "hosts must map a name to its keys")
        hosts = {name: _host(opened, name, row) for name, row in rows.items()}
        _refuse_twins(opened, hosts)
        return cls(hosts=hosts)

    def __bool__(self) -> bool:
        return bool(self.hosts)

    def host(self, name: str) -> Host:
        """Return the host of that name; raises :class:`UnknownHostError`."""
        if name not in self.hosts:
            raise UnknownHostError(
                f"unknown host {name!r}; {nearest(name, self.hosts)}"
                if self.hosts
                else f"unknown host {name!r}: there is no inventory; write config/distributed_hosts.yaml first"
            )
        return self.hosts[name]

    def reached_by(self, *, ssh: bool) -> list[str]:
        """Return the names of the hosts that SSH reaches, or of those of role edge."""
        return [name for name, host in self.hosts.items() if host.is_edge != ssh]

    def slots(self, role: Kind) -> int:
        """Return how many jobs of a role may run at the same time on all hosts."""
        return sum(host.max_parallel_jobs for host in self.hosts.values() if host.plays(role))


def _host(opened: YamlFile, name: object, row: object) -> Host:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise opened.fail(
            ("hosts", str(name)), f"{name!r} is not a host's name: letters, digits and . _ - only, 63 at most"
        )
    if not isinstance(row, dict):
        raise opened.fail(("hosts", name), f"{name} must be a mapping with at least ssh_host, role, max_parallel_jobs")
    valid = [key for key in Host.model_fields if key != "name"]
    if "name" in row:
        raise opened.fail(("hosts", name, "name"), f"unknown key 'name'; {nearest('name', valid)}")
    _refuse_misfits(opened, name, row)
    return opened.validate(Host, row | {"name": name}, ("hosts", name), valid)


def _refuse_misfits(opened: YamlFile, name: str, row: dict[object, object]) -> None:
    """Keys that the host's role has no use for, or cannot do without."""
    edge = row.get("role") == "edge"
    for key in _OF_SSH if edge else ("work",):
        if row.get(key) is not None:
            why = "role edge is never connected to: leave it out" if edge else "goes with role edge only; set `role`"
            raise opened.fail(("hosts", name, key), f"{key} under hosts.{name}: {why}")
    if not edge and "ssh_host" not in row:
        raise opened.fail(("hosts", name), f"ssh_host under hosts.{name}: Field required, unless the role is edge")


def _refuse_twins(opened: YamlFile, hosts: dict[str, Host]) -> None:
    seen: dict[tuple[object, ...], str] = {}
    for name, host in hosts.items():
        if host.is_edge:
            continue
        place = (host.ssh_host, host.ssh_port, host.ssh_user, host.work_dir)
        if place in seen:
            raise opened.fail(
                ("hosts", name),
                f"{name} is {seen[place]} again: same ssh_host, ssh_port, ssh_user and work_dir; "
                "name a host once and raise its max_parallel_jobs",
            )
        seen[place] = name
