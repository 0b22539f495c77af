"""The verbs ``run``, ``up`` and ``stop`` as a person knows them."""

from __future__ import annotations

import time

from ringrift_ops.errors import ExitCode
from ringrift_ops.home import Home
from ringrift_ops.platform.environment import USER, Installation, Secrets
from ringrift_ops.platform.front import Front, InterruptedError_, stop as _stop
from ringrift_ops.platform.screen import Screen
from ringrift_ops.settings import Settings


def up() -> ExitCode:
    """Hold the platform up until a signal or ``make stop``."""
    screen = Screen()
    settings = Settings.load()
    front = Front(settings, settings.default_profile, screen)
    with front.up():
        _addresses(front)
        try:
            while True:
                front.check()
                time.sleep(0.5)
        except InterruptedError_:
            return ExitCode.DONE


def stop() -> ExitCode:
    """End the platform of this home."""
    return _stop(Home.find(), Screen())


def run() -> ExitCode:
    return up()


def _addresses(front: Front) -> None:
    state = Installation(front.home)
    import json

    url = json.loads(state.state.read_text())["url"]
    front.screen.say(f"  {url}   user {USER}   password {Secrets.of(state).password}")
    front.screen.say(f"  plain `airflow` and `ringrift` in any shell:  . {front.home.env}")
