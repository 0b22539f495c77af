"""The verbs ``run``, ``up`` and ``stop`` as a person knows them (``make run``, ``make up``, ``make stop``)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ringrift_ops.errors import ExitCode, UsageError
from ringrift_ops.home import Home
from ringrift_ops.ledger import Ledger, Outcome
from ringrift_ops.platform.api import Api
from ringrift_ops.platform.environment import USER, Installation, Secrets
from ringrift_ops.platform.front import EndedError, Front, NotReadyError, attach
from ringrift_ops.platform.front import stop as _stop
from ringrift_ops.platform.progress import Progress, look
from ringrift_ops.platform.screen import Picture, Screen
from ringrift_ops.platform.tables import line, picture, summary
from ringrift_ops.settings import PROFILE_VARIABLE, Settings, config_named, profile_named
from ringrift_ops.stages.hosting import Hosting
from ringrift_ops.stages.specs import Stage

DEFAULT_CONFIG = "hex8_2p"
LOOK_SECONDS = 1.0
PLAIN_SECONDS = 15.0
"""How often a run tells of its progress where there is no terminal."""
DAGS_SECONDS = 120.0


class BadStayError(UsageError):
    """``STAY`` is neither 0 nor 1."""


def up() -> int:
    """Hold the platform up until a signal or ``make stop``; return the exit code."""
    return _unless_ended(_up)


def _up() -> ExitCode:
    screen = Screen()
    settings, profile = _asked()
    front = Front(settings, profile, screen)
    with front.up():
        _addresses(front.installation, screen)
        return _hold(front)


def stop() -> ExitCode:
    """End the platform of this home."""
    return _stop(Home.find(), Screen())


def run() -> int:
    """Make one generation of ``CONFIG`` with ``PROFILE`` and show it; stay up where somebody can look (``STAY``).

    Returns the exit code of gates.md, and 128 + the signal when one ended it before the run was over.
    """
    return _unless_ended(_run)


def _unless_ended(verb: Callable[[], int]) -> int:
    try:
        return verb()
    except EndedError as ended:
        Screen().say(str(ended))
        return ended.code


def _run() -> ExitCode:
    config = config_named(os.environ.get("CONFIG", "").strip() or DEFAULT_CONFIG).key
    screen = Screen()
    stay = _stay(screen)
    settings, profile = _asked()
    Ledger.open(settings.ledger_url)
    with _platform(settings, profile, screen) as (front, api):
        _addresses(front.installation, screen)
        code = _watch(front, api, settings, config, profile)
        _addresses(front.installation, screen, config)
        if not stay or not front.owns:
            return code
        screen.say("staying up; Ctrl-C ends it (STAY=0 would have ended it now)")
        _hold(front)
        return code


def _asked() -> tuple[Settings, str]:
    """Return the settings and the profile that was asked for: ``PROFILE``, else the one in force."""
    named = os.environ.get("PROFILE", "").strip()
    if named:
        os.environ[PROFILE_VARIABLE] = profile_named(named)
    settings = Settings.load()
    return settings, settings.default_profile


def _stay(screen: Screen) -> bool:
    asked = os.environ.get("STAY", "").strip()
    if asked not in ("", "0", "1"):
        raise BadStayError(f"STAY={asked!r}: give 1 to stay up after the run, 0 to end, or leave it away")
    return screen.terminal if asked == "" else asked == "1"


@contextmanager
def _platform(settings: Settings, profile: str, screen: Screen) -> Iterator[tuple[Front, Api]]:
    """Yield the platform of the home: the one that runs already, else one of our own."""
    front = Front(settings, profile, screen)
    running = attach(front)
    if running is not None:
        screen.say(f"using the platform that already runs in {settings.home}")
        yield front, running
        return
    with front.up() as api:
        yield front, api


def _hold(front: Front) -> ExitCode:
    try:
        while True:
            front.check()
            time.sleep(0.5)
    except EndedError:
        return ExitCode.DONE


def _watch(front: Front, api: Api, settings: Settings, config: str, profile: str) -> ExitCode:
    """Start (or take up) a run, show it until it is over, and return what it came to."""
    _wait_for_dag(front, api, config)
    api.unpause(config)
    run_id = _take_up(front, api, config, profile)
    ledger = Ledger.open(settings.ledger_url)
    screen = front.screen
    begun = time.monotonic()
    if screen.terminal:
        with screen.picture() as shown:
            progress = _follow(front, api, ledger, settings, config, run_id, shown, begun)
    else:
        progress = _follow(front, api, ledger, settings, config, run_id, None, begun)
    screen.say(summary(progress, config, settings.warnings))
    return _code(api, ledger, settings, progress, config, run_id, screen)


def _wait_for_dag(front: Front, api: Api, config: str) -> None:
    deadline = time.monotonic() + DAGS_SECONDS
    while not api.has_dag(config):
        front.check()
        if time.monotonic() > deadline:
            errors = api.get("/importErrors")["import_errors"]
            why = errors[0]["stack_trace"].strip().splitlines()[-1] if errors else "no import error is recorded"
            raise NotReadyError(f"Airflow does not know the DAG {config} after {DAGS_SECONDS:g} s: {why}")
        time.sleep(0.5)


def _take_up(front: Front, api: Api, config: str, profile: str) -> str:
    """Return the id of the run to watch: one that was interrupted, else a new one."""
    for state in ("running", "queued"):
        for found in reversed(api.runs(config, state=state, run_type="manual")):
            if _is_whole(found.get("conf") or {}, profile):
                front.screen.say(f"going on with the interrupted run {found['dag_run_id']}")
                return str(found["dag_run_id"])
    run_id = f"run__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    front.screen.say(f"starting run {run_id} of {config}, profile {profile}")
    return api.trigger(config, {"profile": profile}, run_id)


def _is_whole(conf: dict[str, Any], profile: str) -> bool:
    """Whether a run makes a generation with a profile, whoever started it; one limited to a stage or a net does not."""
    plain = {"force": False, "priority": "normal", "games": None, "candidate": None}
    whole = {"profile": profile, "stages": [stage.value for stage in Stage]} | plain
    return "profile" in conf and whole | conf == whole


def _follow(
    front: Front, api: Api, ledger: Ledger, settings: Settings, config: str, run_id: str, shown: Picture | None,
    begun: float,
) -> Progress:  # fmt: skip
    said: dict[str, str] = {}
    told = time.monotonic()
    while True:
        front.check()
        progress = look(ledger, settings, config, api.run(config, run_id), api.tasks(config, run_id))
        if shown is not None:
            shown.show(picture(progress, f"{config}  {run_id}  {time.monotonic() - begun:.0f} s"))
        else:
            again = time.monotonic() - told > PLAIN_SECONDS
            for row in progress.rows:
                busy = again and row.state in ("running", "deferred")
                if row.state != "waiting" and (busy or said.get(row.name) != row.state):
                    said[row.name] = row.state
                    front.screen.say(line(row))
            told = time.monotonic() if again else told
        if progress.over:
            return progress
        time.sleep(LOOK_SECONDS)


def _code(
    api: Api, ledger: Ledger, settings: Settings, progress: Progress, config: str, run_id: str, screen: Screen
) -> ExitCode:
    """Return the exit code of gates.md; a failed run is explained by the task that failed."""
    if progress.run_state == "success":
        return ExitCode.DONE
    generation, failed = progress.generation, progress.failed_task
    if generation is not None and generation.reason is not None:
        screen.say(f"failed in {failed or 'no task'}: {generation.reason}")
    elif failed is not None:
        screen.say(f"failed in {failed}: {_last_lines(api, config, run_id, failed)}")
    if generation is not None and generation.outcome is Outcome.NO_EVIDENCE:
        return ExitCode.NO_DATA
    hosting = Hosting(Home(settings.home), ledger)
    if generation is not None and failed in [stage.value for stage in Stage]:
        for run in ledger.stage_runs(generation.id, failed):
            code = None if run.job_id is None else hosting.look(run.host, run.job_id).exit_code
            if code not in (None, ExitCode.DONE):
                return ExitCode(code)
    return ExitCode.INFRASTRUCTURE


def _last_lines(api: Api, config: str, run_id: str, task: str) -> str:
    instances: list[dict[str, Any]] = [one for one in api.tasks(config, run_id) if one["task_id"] == task]
    lines = api.log(config, run_id, task, instances[0]["try_number"], instances[0]["map_index"]) if instances else []
    return " | ".join(lines[-3:])


def _addresses(installation: Installation, screen: Screen, config: str | None = None) -> None:
    url = installation.url()
    if config is not None:
        screen.say(f"  {url}/dags/{config}")
        return
    screen.say(f"  {url}   user {USER}   password {Secrets.of(installation).password}")
    screen.say(f"  plain `airflow` and `ringrift` in any shell:  . {installation.home.env}")
