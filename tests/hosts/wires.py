"""Bad lines to a host: a namespace of its own whose cable is pulled, and a relay that drops after so many bytes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

_SUBNETS = iter(range(1, 250))


def needs_namespaces() -> None:
    """Skip where no network namespace can be made."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs root and iproute2")


@dataclass
class Cable:
    """A network namespace joined to this one by a veth pair. ``address``: of the far end."""

    name: str
    address: str
    near: str

    @property
    def wrap(self) -> list[str]:
        """What runs a command at the far end."""
        return ["ip", "netns", "exec", self.name]

    def pull(self) -> None:
        """From now on packets vanish: nobody is told, as when a cable is pulled."""
        _ip("link", "set", self.near, "down")

    def plug(self) -> None:
        _ip("link", "set", self.near, "up")


@contextmanager
def cable() -> Iterator[Cable]:
    needs_namespaces()
    number = next(_SUBNETS)
    name = f"rr{os.getpid() % 100_000}x{number}"
    near, far, net = f"{name}a"[-15:], f"{name}b"[-15:], f"10.213.{number}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        _ip("addr", "add", f"{net}.1/30", "dev", near)
        _ip("link", "set", near, "up")
        for words in (
            ("addr", "add", f"{net}.2/30", "dev", far),
            ("link", "set", far, "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", name, *words)
        yield Cable(name, f"{net}.2", near)
    finally:
        _ip("netns", "del", name)
        subprocess.run(["ip", "link", "del", near], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@dataclass
class Relay:
    """Passes connections on to a port of this machine, and drops the first ``drops`` of them after ``limit`` bytes."""

    target: int
    limit: int
    drops: int
    dropped: int = 0
    listening: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    def _serve(self) -> None:
        with suppress(OSError):  # closed: the test is over
            while True:
                near, _ = self.listening.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                budget = [self.limit if self.dropped < self.drops else -1]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, sink, near, far, budget), daemon=True).start()

    def _pass(
        self, source: socket.socket, sink: socket.socket, near: socket.socket, far: socket.socket, budget: list[int]
    ) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                with self._lock:
                    if budget[0] >= 0:
                        data, budget[0] = data[: budget[0]], budget[0] - len(data[: budget[0]])
                    over = budget[0] == 0
                    if over:
                        budget[0] = -2
                        self.dropped += 1
                sink.sendall(data)
                if over:
                    break
        for one in (near, far):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
                one.close()
