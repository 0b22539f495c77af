"""What the ledger cannot know: how Airflow and this machine stand. Doors gather the first and hand it in."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import psutil

from ringrift_ops.home import Home


@dataclass(frozen=True)
class Pool:
    """Slots of one of Airflow's pools; -1: without limit."""

    slots: int
    open: int


@dataclass(frozen=True)
class AirflowFacts:
    """What a running Airflow says. ``components``: {name: its health}; ``next_runs``: None without a schedule."""

    url: str
    components: Mapping[str, str]
    paused: Mapping[str, bool] = field(default_factory=dict)
    next_runs: Mapping[str, datetime | None] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    heartbeats: Mapping[str, datetime | None] = field(default_factory=dict)
    """Of the components that have one."""

    @property
    def ill(self) -> list[str]:
        """The components that are not healthy."""
        return [name for name, health in self.components.items() if health != "healthy"]


@dataclass(frozen=True)
class Machine:
    """This machine. Memory and disk in bytes; ``load``: of the last minute; ``gpu``: whether it has one."""

    name: str
    cores: int
    load: float
    memory: int
    memory_free: int
    disk: int
    disk_free: int
    gpu: bool

    @classmethod
    def here(cls, home: Home) -> Machine:
        """Return this machine; its disk is the one that ``home`` lies on."""
        memory = psutil.virtual_memory()
        folder = next(path for path in (home.root, *home.root.parents) if path.exists())
        disk = shutil.disk_usage(folder)
        return cls(
            name=socket.gethostname(),
            cores=os.cpu_count() or 1,
            load=os.getloadavg()[0],
            memory=memory.total,
            memory_free=memory.available,
            disk=disk.total,
            disk_free=disk.free,
            gpu=Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi") is not None,
        )
