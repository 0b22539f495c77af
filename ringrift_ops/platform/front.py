"""The front: what a person starts. It starts the keeper, waits until all is up, and ends it again."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType

from ringrift_ops.errors import ExitCode, InfrastructureError
from ringrift_ops.home import Home
from ringrift_ops.platform import processes
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import (
    USER,
    Installation,
    Ports,
    Secrets,
    component_environment,
    foreign_variables,
    write_config,
    write_env,
)
from ringrift_ops.platform.keeper import GRACE_SECONDS, JOB_GRACE_SECONDS, Lock, read_state, tail
from ringrift_ops.platform.screen import Screen
from ringrift_ops.settings import Inventory, Settings

READY_SECONDS = 240.0
STOP_SECONDS = GRACE_SECONDS + JOB_GRACE_SECONDS + 10.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NotReadyError(InfrastructureError):
    """The platform did not come up."""


class EndedError(InfrastructureError):
    """A signal, or ``make stop``, ended the platform before its work was done."""

    def __init__(self, how: str, signum: signal.Signals | None = None) -> None:
        super().__init__(f"ended by {how}")
        self.signum = signum

    @property
    def code(self) -> int:
        """What the process returns: as a shell would for the signal, 4 for ``make stop``."""
        return int(self.exit_code) if self.signum is None else 128 + self.signum


@dataclass
class Signals:
    """The signal that asked for the end, if any; a second one cuts the waiting short."""

    received: signal.Signals | None = None
    again: bool = False

    def listen(self) -> None:
        for signum in SIGNALS:
            signal.signal(signum, self._receive)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self.again = self.received is not None
        self.received = signal.Signals(signum)


class Front:
    """A platform on ``home`` that lives as long as the ``with`` block of :meth:`up`."""

    def __init__(self, settings: Settings, profile: str, screen: Screen) -> None:
        self.home = Home(settings.home)
        self.installation = Installation(self.home)
        self.settings = settings
        self.profile = profile
        self.screen = screen
        self.signals = Signals()
        self._keeper: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self.last_words = ""

    @contextmanager
    def up(self) -> Iterator[Api]:
        """Start everything, yield its REST door when all components are healthy, end everything at the end.

        Raises ``AlreadyRunningError``, :class:`NotReadyError`, ``BusyPortError``.
        """
        self.home.ensure()
        Lock(self.installation).release()
        self._say_foreign()
        ports = Ports.find(os.environ, edge=bool(Inventory.load(self.home).reached_by(ssh=False)))
        write_config(self.installation, ports, workers=worker_count())
        write_env(self.home)
        processes.adopt_orphans()
        self.signals.listen()
        try:
            self._start(ports)
            yield self._wait_until_ready(ports)
        finally:
            self._end()

    @property
    def owns(self) -> bool:
        """Whether the platform is this front's own (and not one it watches)."""
        return self._keeper is not None

    def check(self) -> None:
        """Raise when it is to end: :class:`EndedError` by a signal or ``make stop``, else :class:`NotReadyError`."""
        for line in self._lines():
            self.last_words = line
            self.screen.say(line)
        if self.signals.received is not None:
            raise EndedError(self.signals.received.name, self.signals.received)
        if self._keeper is None:
            if read_state(self.installation) is None:
                raise NotReadyError("whoever started the platform has ended it; the next `make run` takes this run up")
        elif self._keeper.poll() is not None:
            if self._keeper.returncode == 0:
                raise EndedError("`make stop`")
            raise NotReadyError(f"the platform ended ({self._keeper.returncode}): {self.last_words}")

    def slots(self) -> dict[str, int]:
        """Return the pools: self-play gets what the machine has, training and gauntlet one each.

        With an inventory a pool is the sum of ``max_parallel_jobs`` over the hosts that do such work (R67).
        """
        hosts = Inventory.load(self.home)
        playing, training = hosts.slots("selfplay"), hosts.slots("training")
        return {
            "selfplay": playing or max(2, os.cpu_count() or 1),
            "training": training or 1,
            "evaluation": playing or 1,
            "default_pool": 128,
        }

    def _say_foreign(self) -> None:
        names = foreign_variables(os.environ, self.home)
        if names:
            listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            self.screen.say(
                f"leaving aside {listed}: they configure another Airflow installation "
                f"(options for this one go into {self.installation.own_config})"
            )

    def _start(self, ports: Ports) -> None:
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "ringrift_ops.platform", "keep", *self._arguments(ports)],
            env=component_environment(os.environ, self.home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=partial(processes.die_with_parent, os.getpid()),
        )
        assert self._keeper.stdout is not None
        os.set_blocking(self._keeper.stdout.fileno(), False)

    def _arguments(self, ports: Ports) -> list[str]:
        return [self.profile, str(ports.web), str(ports.execution), str(ports.edge or 0), json.dumps(self.slots())]

    def _wait_until_ready(self, ports: Ports) -> Api:
        api = Api(ports.web, USER, Secrets.of(self.installation).password, self.check)
        begun = time.monotonic()
        with self.screen.waiting("starting Airflow") as wait:
            while not api.healthy():
                self.check()
                wait.tick()
                if time.monotonic() - begun > READY_SECONDS:
                    raise NotReadyError(
                        f"Airflow is not up after {READY_SECONDS:g} s: {api.health()}; see {self.installation.logs}"
                    )
        self.screen.say(f"Airflow is up after {time.monotonic() - begun:.0f} s")
        return api

    def _lines(self) -> list[str]:
        """Return what the keeper has said since the last call."""
        if self._keeper is None or self._keeper.stdout is None:
            return []
        while select.select([self._keeper.stdout], [], [], 0)[0]:
            chunk = os.read(self._keeper.stdout.fileno(), 65536)
            if not chunk:
                break
            self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        return [line.decode(errors="replace") for line in lines if line.strip()]

    def _end(self) -> None:
        """End the keeper and, should it have died, everything it left."""
        if self._keeper is None:
            return
        if self._keeper.poll() is None:
            self.screen.say("stopping")
            self._keeper.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            while self._keeper.poll() is None and time.monotonic() < deadline and not self.signals.again:
                time.sleep(0.1)
        processes.end_descendants(0.0)
        for line in self._lines():
            self.screen.say(line)


def attach(front: Front) -> Api | None:
    """Return the REST door of the platform that runs on the front's home already, None when none does.

    From here on ``front.check`` watches that platform and signals end the watching, not the platform.
    """
    state = read_state(front.installation)
    if state is None:
        return None
    front.signals.listen()
    port = int(str(state["url"]).rsplit(":", 1)[1])
    return Api(port, USER, Secrets.of(front.installation).password, front.check)


def stop(home: Home, screen: Screen) -> ExitCode:
    """End the platform that runs on ``home``, jobs included; nothing running is fine too."""
    installation = Installation(home)
    state = read_state(installation)
    if state is None:
        screen.say(f"nothing runs in {home.root}")
        return ExitCode.DONE
    keeper = int(str(state["keeper"]["pid"]))
    os.kill(keeper, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while processes.Identity.of(keeper) is not None:
        if time.monotonic() > deadline:
            processes.send(signal.SIGKILL, [*processes.descendants(keeper), keeper])
        time.sleep(0.1)
    screen.say(f"stopped the platform in {home.root}")
    return ExitCode.DONE


def worker_count() -> int:
    """Return how many tasks may run at once: enough for two shards and what waits beside them, few in memory."""
    return max(4, min(8, (os.cpu_count() or 2) + 2))


def last_words(installation: Installation, component: str) -> str:
    """Return the end of a component's log, for error messages."""
    return tail(installation.log(component))
