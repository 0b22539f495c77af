"""The keeper: starts the components, restarts what dies, ends everything.

It tells what happens in lines of text on its standard output, which the front reads, and keeps
``airflow/platform.json`` for everybody else. It holds ``airflow/platform.lock`` as long as it lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from types import FrameType
from typing import IO

from ringrift_ops.errors import InfrastructureError, UsageError
from ringrift_ops.home import Home
from ringrift_ops.platform import processes
from ringrift_ops.platform.component import Component, components, edge_door
from ringrift_ops.platform.environment import LOOPBACK, Installation, Ports, component_environment
from ringrift_ops.platform.processes import Identity
from ringrift_ops.store import atomic_write

BACKOFF_SECONDS = (1.0, 2.0, 5.0, 10.0, 20.0)
"""Wait before each restart of a component; one more death than this within ``QUIET_SECONDS`` ends the platform."""
QUIET_SECONDS = 300.0
GRACE_SECONDS = 8.0
"""What the components get between SIGTERM and SIGKILL: a quiet API server needs about five seconds."""
JOB_GRACE_SECONDS = 5.0
"""What jobs get after that."""
TICK_SECONDS = 0.2


class AlreadyRunningError(UsageError):
    """Another platform runs on this home."""


class PreparationError(InfrastructureError):
    """The metadata database could not be made or migrated."""


class ComponentError(InfrastructureError):
    """A component dies again and again."""


class _StoppedError(Exception):
    """A signal asked for the end."""


@dataclass
class _Running:
    component: Component
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)
    restart_at: float | None = 0.0


class Lock:
    """The exclusive lock of a home's platform; freed by the kernel however its holder ends."""

    def __init__(self, installation: Installation) -> None:
        """Take the lock; raises :class:`AlreadyRunningError` with the holder and what to do."""
        installation.lock.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = installation.lock.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            state = read_state(installation)
            where = f"pid {state['keeper']['pid']}, {state['url']}" if state else "just starting or stopping"
            raise AlreadyRunningError(
                f"a platform already runs in {installation.home.root} ({where}): "
                "use it, end it with `make stop`, or set RINGRIFT_HOME to another folder"
            ) from None

    def release(self) -> None:
        self._file.close()


def read_state(installation: Installation) -> dict[str, dict[str, object]] | None:
    """Return what the running keeper wrote about itself; None when none runs."""
    try:
        state: dict[str, dict[str, object]] = json.loads(installation.state.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return state if _identity(state["keeper"]).alive else None


def _identity(fields: dict[str, object]) -> Identity:
    return Identity(int(str(fields["pid"])), int(str(fields["started"])), str(fields["boot"]))


class Keeper:
    """See the module. ``slots``: by pool name."""

    def __init__(self, home: Home, ports: Ports, slots: dict[str, int], profile: str) -> None:
        self.installation = Installation(home)
        self.ports = ports
        self.slots = slots
        self.profile = profile
        door = None if ports.edge is None else edge_door(ports.edge, self.installation.edge_token)
        self.running = [_Running(one) for one in components(ports.web, ports.execution, door)]
        self._environment = component_environment(os.environ, home)
        self._stop = False

    def keep(self) -> None:
        """Hold the platform up until SIGTERM, SIGINT or SIGHUP, then end everything below this process."""
        processes.adopt_orphans()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._asked_to_stop)
        lock = Lock(self.installation)
        try:
            self._sweep()
            self._write_state()
            self._prepare()
            while not self._stop:
                self._tick()
                time.sleep(TICK_SECONDS)
        except _StoppedError:
            return
        finally:
            killed = self._end()
            self.installation.state.unlink(missing_ok=True)
            lock.release()
            say(f"stopped; had to be killed: {', '.join(killed)}" if killed else "stopped")

    def _end(self) -> list[str]:
        """End everything below this process; return which of it had to be killed.

        Task processes go first and without a word: what they were doing is taken up at the next start, whereas a
        task that sees its job die would count a failed attempt. Jobs go last, when nobody watches them any more.
        """
        mains = {one.component.name: one.process.pid for one in self.running if one.process is not None}
        if "scheduler" in mains:
            processes.send(signal.SIGKILL, processes.descendants(mains["scheduler"]))
        processes.send(signal.SIGTERM, mains.values())
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and any(Identity.of(pid) for pid in mains.values()):
            processes.reap()
            time.sleep(0.05)
        living = set(processes.in_sessions(mains.values()))
        killed = [name for name, pid in mains.items() if pid in living]
        processes.send(signal.SIGKILL, living)
        jobs = processes.end_descendants(JOB_GRACE_SECONDS)
        return [*killed, f"{jobs} processes of jobs"] if jobs else killed

    def _asked_to_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stop = True

    def _sweep(self) -> None:
        """End what an earlier keeper left when it and its front were killed together."""
        try:
            state = json.loads(self.installation.state.read_text())
        except (FileNotFoundError, ValueError):
            return
        if state["keeper"]["boot"] != processes.boot_id():
            return
        root = self.installation.home.root
        left = [pid for pid in processes.in_sessions(state["sessions"]) if processes.stands_in(pid, root)]
        if left:
            say(f"ending {len(left)} processes that an earlier platform left behind")
            processes.send(signal.SIGKILL, left)

    def _prepare(self) -> None:
        log = self.installation.log("prepare")
        process = self._spawn("prepare", ["prepare", json.dumps(self.slots)])
        while not self._stop and process.poll() is None:
            time.sleep(TICK_SECONDS)
        if self._stop:
            raise _StoppedError
        if process.returncode != 0:
            raise PreparationError(
                f"preparing Airflow's database failed ({process.returncode}): {tail(log)}\nsee {log}"
            )

    def _tick(self) -> None:
        now = time.monotonic()
        for pid, code in processes.reap().items():
            for one in self.running:
                if one.process is not None and one.process.pid == pid:
                    one.process.returncode = code
                    self._died(one, code, now)
        started = False
        for one in self.running:
            if one.process is None and one.restart_at is not None and now >= one.restart_at:
                self._start(one)
                started = True
        if started:
            self._write_state()

    def _start(self, one: _Running) -> None:
        name = one.component.name
        one.process = self._spawn(name, ["component", name, *one.component.arguments], one.component.environment)
        one.restart_at = None
        if name == "execution-api":
            threading.Thread(target=self._warm, daemon=True).start()

    def _died(self, one: _Running, code: int, now: float) -> None:
        assert one.process is not None
        name, log = one.component.name, self.installation.log(one.component.name)
        processes.send(signal.SIGKILL, processes.in_sessions([one.process.pid]))
        one.process = None
        one.deaths = [when for when in one.deaths if now - when < QUIET_SECONDS] + [now]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        if len(one.deaths) > len(BACKOFF_SECONDS):
            raise ComponentError(f"{name} {how} for the {len(one.deaths)}th time, giving up: {tail(log)}\nsee {log}")
        wait = BACKOFF_SECONDS[len(one.deaths) - 1]
        one.restart_at = now + wait
        say(f"{name} {how}; starting it again in {wait:g} s (log: {log})")

    def _spawn(self, name: str, arguments: list[str], more: Sequence[tuple[str, str]] = ()) -> subprocess.Popen[bytes]:
        log = self.installation.log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size:
            log.replace(log.with_suffix(".previous.log"))
        with log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "ringrift_ops.platform", *arguments],
                env=self._environment | dict(more),
                cwd=self.installation.home.airflow,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=partial(processes.die_with_parent, os.getpid()),
            )

    def _warm(self) -> None:
        """Ask the execution API until it answers: its routes are built by the first request (5 to 20 s)."""
        for _ in range(120):
            if answers(f"http://{LOOPBACK}:{self.ports.execution}/execution/health", timeout=60.0):
                return
            time.sleep(0.5)

    def _write_state(self) -> None:
        me = Identity.of(os.getpid())
        assert me is not None
        pids = {one.component.name: one.process.pid for one in self.running if one.process is not None}
        state = {
            "keeper": me.__dict__,
            "front": os.getppid(),
            "url": self.ports.url,
            "execution_url": self.ports.execution_url,
            "edge_url": self.ports.edge_url,
            "profile": self.profile,
            "components": pids,
            "sessions": sorted(pids.values()),
        }
        atomic_write(self.installation.state, json.dumps(state, indent=1).encode())


def answers(url: str, timeout: float) -> bool:
    """Return whether ``url`` answers 200 within ``timeout`` seconds; proxies are left aside."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def tail(log: os.PathLike[str], lines: int = 3) -> str:
    """Return the last ``lines`` non-empty lines of a log, '' when there is none."""
    try:
        with open(log, errors="replace") as text:  # noqa: PTH123 - PathLike
            return " | ".join([line.strip() for line in text if line.strip()][-lines:])
    except FileNotFoundError:
        return ""


def say(text: str) -> None:
    """Tell the front; when it is gone there is nobody to tell."""
    try:
        sys.stdout.write(text.replace("\n", " ") + "\n")
        sys.stdout.flush()
    except OSError:
        return
